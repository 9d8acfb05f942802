"""What the asynchronous adapters need of a library: time, events, tasks, cancel scopes, and byte streams.

A `Backend` is one library's answer; `etorox_transports.trio` and `etorox_transports.anyio` have one each. Everything
else in this package is written against these protocols. `AsyncByteStream` and `AsyncOpener` are public: they are the
seam for proxies, tunnels and tests.
"""

from __future__ import annotations

import math
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from etorox_proto import ConnectionFailed, Dial
from etorox_transports._attempt import dial_failed
from etorox_transports._errors import DialFailed

__all__ = [
    "READ_SIZE",
    "AsyncByteStream",
    "AsyncOpener",
    "Backend",
    "Event",
    "HeardStream",
    "Scope",
    "not_opened",
    "reason",
    "receive_each",
]


# As much as is read at a time, in bytes: hundreds of events. From 128 KiB on the C library has the system map and unmap
# memory for each read, which takes longer than all that is done with a small message.
READ_SIZE = 98_304


class AsyncByteStream(Protocol):
    """An ordered, reliable stream of bytes, as `open=` gives it. Every `trio.abc.Stream` is one.

    `send_all` and `receive_some` are called by two tasks at once, but neither by two. Each may be cancelled; the stream
    is then closed.
    """

    async def send_all(self, data: bytes, /) -> None:
        """Send everything. Whatever it raises is the end of the stream."""
        ...

    async def receive_some(self, max_bytes: int, /) -> bytes | bytearray:
        """Wait for bytes, at most so many; `b""` is the end of the stream, and so is whatever it raises."""
        ...

    async def aclose(self) -> None:
        """Close it at once, whatever its state. It is called in a cancelled scope, so it cannot wait for the peer."""
        ...


@runtime_checkable
class HeardStream(Protocol):
    """An `AsyncByteStream` that can call a function with what comes, before any task runs."""

    async def receive_each(self, hear: Callable[[bytes], bool], /) -> None:
        """Call `hear` with what comes, until it has had enough or others must run; with `b""` at the end, as the last.

        It must not raise, and may be called outside of any task. Raises what `receive_some` would.
        """
        ...


async def receive_each(stream: AsyncByteStream, hear: Callable[[bytes], bool]) -> None:
    """Do as `HeardStream.receive_each`, on any stream."""
    if isinstance(stream, HeardStream):
        await stream.receive_each(hear)
    else:
        while hear(data := bytes(await stream.receive_some(READ_SIZE))) and data:
            pass


AsyncOpener = Callable[[Dial], Awaitable[AsyncByteStream]]
"""Opens the stream that a `Dial` asks for, TLS included. It is cancelled when that takes too long.

An `OSError` means that another attempt may succeed, a `DialFailed` says itself whether it may; whatever else is raised
is final.
"""


class Event(Protocol):
    """Something that happens once; of trio or anyio."""

    def set(self) -> None:
        """It has happened."""
        ...

    def is_set(self) -> bool:
        """Whether it has."""
        ...

    def wait(self) -> Awaitable[object]:
        """Await this for it."""
        ...


class Scope(Protocol):
    """A cancel scope of trio or anyio.

    Attributes:
        deadline: when it cancels itself; it may be moved.
    """

    deadline: float

    @property
    def cancelled_caught(self) -> bool:
        """Whether it swallowed a cancellation of its own."""
        ...

    def cancel(self) -> None:
        """Cancel what goes on within."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None: ...


class Backend(Protocol):
    """One library."""

    @property
    def cancelled(self) -> type[BaseException]:
        """What a cancelled task raises."""
        ...

    def now(self) -> float:
        """Seconds of the event loop's clock."""
        ...

    def new_event(self) -> Event:
        """An event that has not happened."""
        ...

    def new_scope(self, *, deadline: float = math.inf, shield: bool = False) -> Scope:
        """A cancel scope that cancels itself at `deadline`, and with `shield` is not cancelled from outside."""
        ...

    def new_tasks(self) -> AbstractAsyncContextManager[Any]:
        """A context for tasks, which gives what `start` needs; leaving it waits for them."""
        ...

    def start(self, tasks: Any, run: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task which is not the place for a KeyboardInterrupt, where the library can see to that."""
        ...

    async def checkpoint(self) -> None:
        """Let other tasks run, and be cancelled if need be."""
        ...

    async def open_stream(self, dial: Dial) -> AsyncByteStream:
        """The default for `AsyncOpener`."""
        ...


def reason(error: BaseException) -> BaseException:
    """The error of the operating system or of TLS below one of a library, which says more; else the error itself."""
    below: BaseException | None = error
    while below is not None and not isinstance(below, OSError):
        below = below.exceptions[0] if isinstance(below, BaseExceptionGroup) else below.__cause__
    if below is None:
        return error
    if below.errno is None and below.__cause__ is not None:
        # trio and anyio try several addresses, and raise one OSError of their own for what happened to all of them.
        inner = reason(below.__cause__)
        return inner if isinstance(inner, OSError) else below
    return below


def not_opened(dial: Dial, error: Exception) -> ConnectionFailed:
    """Why a stream could not be opened, as the error that ends the attempt."""
    if isinstance(error, ConnectionFailed):
        return error
    below = reason(error)
    if isinstance(below, OSError):
        return dial_failed(dial, _in_the_systems_words(below))
    what = str(error) or type(error).__name__
    failed = DialFailed(f"could not connect to {dial.host} port {dial.port}: {what}", may_retry=False)
    failed.__cause__ = error
    return failed


def _in_the_systems_words(error: OSError) -> OSError:
    """Event loops write the address into the text of a failed `connect`; we have said it already."""
    if not error.errno or isinstance(error, ssl.SSLError | socket.gaierror | socket.herror):
        return error
    plain = OSError(error.errno, os.strerror(error.errno))
    plain.__cause__ = error
    return plain
