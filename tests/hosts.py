"""The embedded exchange on a real port, for as long as a test needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from etorox_proto import PublicKey
from etorox_transports.cli._host import SimulatorHost


@contextlib.contextmanager
def served(api_key: str, public_key: PublicKey, **options: Any) -> Iterator[SimulatorHost]:
    """A host with one account, run in a thread that has ended afterwards; the options are those of `SimulatorHost`."""
    with SimulatorHost({api_key: public_key}, **options) as host:
        host.run_in_thread()
        yield host
