"""`Transport`: what the author of a transport tells the cases about it; and the event loops that they can run on.

The cases speak of a connection that gives what the server invokes, sends invocations, and is closed. How that is done
with a particular transport is a dozen lines, which its author writes.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, final

from etorox_proto.signalr import HubConfig, HubConnection
from etorox_transports.conformance._watch import WatchedHub

__all__ = ["Attempt", "BlockingConnection", "Connection", "Facade", "Loop", "Transport", "loop_of"]


@final
@dataclass(frozen=True)
class Attempt:
    """A connection that a case wants.

    Attributes:
        config: where to, and how.
        ssl_context: how to verify the server; use this one and no other.
        machines: those that were made.
    """

    config: HubConfig
    ssl_context: ssl.SSLContext
    machines: list[WatchedHub]

    def new_machine(self, now: float) -> HubConnection:
        """Make the machine to drive, once, at this time of the clock that drives it, in seconds."""
        machine = WatchedHub(self.config, now=now)
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
    """

    connect: Callable[[Attempt], AbstractAsyncContextManager[Connection] | AbstractContextManager[BlockingConnection]]
    runs_on: Literal["asyncio", "trio", "blocking"] = "asyncio"
    run: Callable[[Callable[[], Coroutine[Any, Any, None]]], object] | None = None
    name: str = "transport"


class Loop(Protocol):
    """What cases need of an event loop, beside the transport."""

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run this until it has ended."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...

    async def cancelled_after(self, steps: int, body: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Run this in a task that is cancelled when it waits for the so manieth time; whether it came to that."""
        ...

    def tasks(self) -> int:
        """How many tasks there are."""
        ...


def loop_of(transport: Transport) -> Loop:
    """The loop that a transport runs on."""
    match transport.runs_on:
        case "asyncio":
            return _Asyncio(transport)
        case "trio":
            return _Trio(transport)
        case "blocking":
            return _NoLoop()


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


@final
class _Steps:
    """An awaitable that runs a coroutine, and calls a function when it waits for the n-th time."""

    def __init__(self, body: Coroutine[Any, Any, None], steps: int, act: Callable[[], object]) -> None:
        self._body = body
        self._steps = steps
        self._act = act
        self.has_acted = False

    def __await__(self) -> Any:
        steps, answer, error = 0, None, None
        while True:
            try:
                waits_for = self._body.throw(error) if error is not None else self._body.send(answer)
            except StopIteration:
                return
            steps, answer, error = steps + 1, None, None
            if steps == self._steps:
                self.has_acted = True
                self._act()
            try:
                answer = yield waits_for
            except BaseException as thrown:  # noqa: BLE001 - it is for the body
                error = thrown


@final
class _Asyncio:
    def __init__(self, transport: Transport) -> None:
        self._run = transport.run or (lambda main: asyncio.run(main()))

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._run(main)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def cancelled_after(self, steps: int, body: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        steps_of: list[_Steps] = []

        async def inner() -> None:
            current = asyncio.current_task()
            assert current is not None, "it runs"
            steps_of.append(_Steps(body(), steps, current.cancel))
            await steps_of[0]

        task = asyncio.ensure_future(inner())
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        return steps_of[0].has_acted

    def tasks(self) -> int:
        return len(asyncio.all_tasks())


@final
class _Trio:
    def __init__(self, transport: Transport) -> None:
        import trio  # noqa: PLC0415 - only who tests a transport of trio's needs it

        self._trio = trio
        self._run = transport.run or trio.run

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._run(main)

    async def sleep(self, seconds: float) -> None:
        await self._trio.sleep(seconds)

    async def cancelled_after(self, steps: int, body: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        with self._trio.CancelScope() as scope:
            stepping = _Steps(body(), steps, scope.cancel)
            await stepping
        return stepping.has_acted

    def tasks(self) -> int:
        return self._trio.lowlevel.current_statistics().tasks_living


@final
class _NoLoop:
    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            main().send(None)
        except StopIteration:
            return
        raise AssertionError("a case for a transport that blocks must not wait for anything else")

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - nothing else runs in this thread

    async def cancelled_after(self, steps: int, body: Callable[[], Awaitable[None]]) -> bool:
        raise NotImplementedError("nothing can be cancelled where there are no tasks")

    def tasks(self) -> int:
        return 0
