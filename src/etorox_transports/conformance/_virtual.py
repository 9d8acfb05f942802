"""What the cases of the group `virtual` share: how one is made, a conversation, and times to the moment.

All times are multiples of 1/64 s, so that sums of them are exact.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from etorox_proto.testing import Link
from etorox_transports.conformance._case import Stage, case
from etorox_transports.conformance._hub import Hub
from etorox_transports.conformance._memory import MemoryNetwork
from etorox_transports.conformance._transport import Connection

__all__ = ["LATENCY", "NEVER", "QUIET", "ROUND_TRIP", "connected", "converse", "exactly", "talk", "virtual"]

LATENCY = 0.25
ROUND_TRIP = 2 * LATENCY
NEVER = 1e6
QUIET = {"ping_interval": NEVER, "client_timeout": NEVER}
_Run = Callable[[Stage], Coroutine[Any, Any, None]]


def virtual(run: _Run) -> _Run:
    """Make a case of a function, in the group `virtual`."""
    return case("virtual", limit=30.0, needs_tasks=True, in_memory=True)(run)


@contextlib.contextmanager
def exactly(stage: Stage, seconds: float, what: str, *, or_less: bool = False) -> Any:
    """See that the body takes so many virtual seconds, whether it raises or not."""
    began, before = stage.loop.now(), stage.waits_for
    stage.waits_for = what
    try:
        yield
    except AssertionError:
        raise
    except Exception:
        _check(stage.loop.now() - began, seconds, what, or_less=or_less)
        raise
    finally:
        stage.waits_for = before
    _check(stage.loop.now() - began, seconds, what, or_less=or_less)


def _check(took: float, seconds: float, what: str, *, or_less: bool) -> None:
    if took > seconds or not (took == seconds or or_less):
        limit = f"within {seconds:g} s" if or_less else f"after {seconds:g} s, to the moment"
        raise AssertionError(f"expected {what} {limit}, it took {took!r} s")


async def talk(stage: Stage, connection: Connection) -> None:
    """Say three things, and hear them."""
    for words in (["one"], ["two", "three"]):
        for word in words:
            await connection.send("say", word)
        await stage.expect(connection, words)


async def converse(stage: Stage, network: MemoryNetwork, **options: Any) -> None:
    """Connect, talk, and say goodbye."""
    async with stage.connect(network, **options) as connection:
        await talk(stage, connection)
        await connection.close()


@contextlib.asynccontextmanager
async def connected(stage: Stage, hub: Hub, link: Link = Link(latency=LATENCY), **options: Any) -> AsyncIterator[Any]:  # noqa: B008 - it is frozen
    """A network, and a connection through it, in which nothing is under way."""
    async with stage.virtual(hub, link) as network, stage.connect(network, **options) as connection:
        hub.note(network, "here")
        await stage.expect(connection, ["here"])
        yield network, connection
