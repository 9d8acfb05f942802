"""What layers add: a `Session` to a bare connection, TLS to an adapter and to a plain socket."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from bench.cases import Case, microseconds, on_task
from bench.task import Task

__all__ = ["PLAIN", "SESSION", "TLS", "cases"]

SESSION = "the documented loop, without an adapter"
PLAIN, TLS = "one write an event, without TLS", "one record an event, with TLS"


def cases(scale: float, folder: Path) -> Iterator[Case]:
    """All of them.

    Args:
        scale: how many events.
        folder: where a certificate may be written.
    """
    task = Task(warmup=int(20_000 * scale), events=int(60_000 * scale))
    yield Case("session", SESSION, ("bare", "session"), on_task(task, microseconds))
    secret = _certified(task, folder)
    for key, each in ((PLAIN, task), (TLS, secret)):
        yield Case("tls", key, ("blocking", "asyncio", "trio", "pysignalr", "raw"), on_task(each, microseconds))


def _certified(task: Task, folder: Path) -> Task:
    """The same within TLS, with a certificate made for it."""
    import trustme  # noqa: PLC0415 - it takes a while, and the receivers' costs are what is measured

    authority = trustme.CA()
    certificate, trusted = folder / "certificate.pem", folder / "authority.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    authority.cert_pem.write_to_path(trusted)
    return dataclasses.replace(task, certificate=str(certificate), authority=str(trusted))
