"""`Transport`: what the author of a transport tells the cases about it, and `Attempt`: what they ask of it.

The cases speak of a connection that gives what the server invokes, sends invocations, and is closed. How that is done
with a particular transport is a dozen lines, which its author writes.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, final

from etorox_proto.signalr import HubConfig, HubConnection
from etorox_transports._async._backend import AsyncOpener
from etorox_transports.conformance._watch import WatchedHub

__all__ = ["Attempt", "BlockingConnection", "Connection", "Facade", "Transport"]


@final
@dataclass(frozen=True)
class Attempt:
    """A connection that a case wants.

    Attributes:
        config: where to, and how.
        ssl_context: how to verify the server; use this one and no other.
        machines: those that were made.
        open: opens byte streams in memory; use it instead of sockets if it is not None. It and the streams are as in
            `etorox_transports.anyio.AsyncOpener`: awaited with a `Dial` it gives an object with `send_all`,
            `receive_some` and `aclose`. An `OSError` is a failure.
        clock: what the machine's time is compared with.
    """

    config: HubConfig
    ssl_context: ssl.SSLContext
    machines: list[WatchedHub]
    open: AsyncOpener | None = None
    clock: Callable[[], float] = time.monotonic

    def new_machine(self, now: float) -> HubConnection:
        """Make the machine to drive, once, at this time of the clock that drives it, in seconds."""
        machine = WatchedHub(self.config, now=now, clock=self.clock)
        self.machines.append(machine)
        return machine


class Connection(Protocol):
    """A connection of a transport with an event loop, past the SignalR handshake."""

    async def receive(self) -> tuple[str, list[Any]] | None:
        """Wait for the server's next invocation: its target and arguments.

        Returns None when our own `close` has ended the connection. If anything else has, raises that, as often as it
        is called; a `ConnectionFailed`, or what the transport raises in its place.
        """
        ...

    async def send(self, target: str, *arguments: Any) -> None:
        """Send an invocation without asking for an answer. Raises if the connection is over."""
        ...

    async def close(self) -> None:
        """Say goodbye and wait for the end. Does nothing if that has come."""
        ...


class BlockingConnection(Protocol):
    """The same for a transport that blocks."""

    def receive(self) -> tuple[str, list[Any]] | None:
        """See `Connection.receive`."""
        ...

    def send(self, target: str, *arguments: Any) -> None:
        """See `Connection.send`."""
        ...

    def close(self) -> None:
        """See `Connection.close`."""
        ...


@final
@dataclass(frozen=True)
class Transport:
    """A transport to be tested.

    Attributes:
        connect: gives a context manager for an `Attempt`, which is asynchronous unless `runs_on` is `"blocking"`.
            Entering takes until the SignalR handshake is done, gives the connection, and raises why there is none.
            Leaving drops what is left of it at once.
        runs_on: the library of its event loop, or `"blocking"` for none.
        run: runs a coroutine function in a new event loop and returns when it has ended; by default `asyncio.run` or
            `trio.run`. For other loops of asyncio, such as `lambda main: uvloop.run(main())`.
        name: for the score card.
        in_memory: whether it can do without sockets, for the cases of the group `virtual`. It then opens its streams
            with `Attempt.open`, if that is not None; or it opens them with `create_connection` of asyncio's loop (as
            `asyncio.open_connection` does), which leads to the same place in these cases. They run on a loop of their
            own, in virtual time: the transport knows no clock but the loop's, and `run` is not called.
    """

    connect: Callable[[Attempt], AbstractAsyncContextManager[Connection] | AbstractContextManager[BlockingConnection]]
    runs_on: Literal["asyncio", "trio", "blocking"] = "asyncio"
    run: Callable[[Callable[[], Coroutine[Any, Any, None]]], object] | None = None
    name: str = "transport"
    in_memory: bool = False


@final
class Facade:
    """A blocking connection with the spelling of the others. None of its awaits suspends."""

    def __init__(self, manager: AbstractContextManager[BlockingConnection]) -> None:
        self._manager = manager
        self._connection: BlockingConnection | None = None

    async def __aenter__(self) -> Facade:
        self._connection = self._manager.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._manager.__exit__(kind, error, traceback)

    async def receive(self) -> tuple[str, list[Any]] | None:
        """See `Connection.receive`."""
        assert self._connection is not None, "it was entered"
        return self._connection.receive()

    async def send(self, target: str, *arguments: Any) -> None:
        """See `Connection.send`."""
        assert self._connection is not None, "it was entered"
        self._connection.send(target, *arguments)

    async def close(self) -> None:
        """See `Connection.close`."""
        assert self._connection is not None, "it was entered"
        self._connection.close()
