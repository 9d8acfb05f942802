"""`AsyncioStream`, a TCP stream of asyncio (or uvloop) as an `AsyncByteStream`, and `AsyncioEvent`, both without anyio.

Anyio's socket stream stops the transport from reading around each read, which costs two calls of the system. Here it
reads on until something comes that nobody waits for. This knows asyncio's transports, and nothing of what they carry.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import math
import socket
import threading
from collections.abc import Callable
from typing import Any, final

import anyio

from etorox_transports._async._backend import READ_SIZE

try:
    # Anyio asks it which library is running, to start a task for example; outside of tasks it has to be told.
    from sniffio import current_async_library_cvar as _library
except ImportError:  # then anyio knows by itself
    _library = None  # type: ignore[assignment]

__all__ = ["AsyncioEvent", "AsyncioStream", "open_tcp"]

# How long an address has before the next one is tried as well, in seconds (RFC 8305, section 5).
_HAPPY_EYEBALLS_DELAY = 0.25


class _PerThread(threading.local):
    """What all streams of a thread read into, one after the other: it is emptied before the loop does anything else.

    The loop itself would make room for 256 KiB for each read, which costs several times as much as a small read.
    """

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(READ_SIZE))


_THREAD = _PerThread()


@final
class AsyncioStream(asyncio.BufferedProtocol):
    """A byte stream; the loop makes it, and calls the methods of `asyncio.BufferedProtocol`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._buffer = _THREAD.buffer
        # asyncio reads once a turn. uvloop reads on before any task runs, as long as the buffer becomes full.
        self._too_much = math.inf if isinstance(self._loop, asyncio.BaseEventLoop) else READ_SIZE
        self._context = contextvars.copy_context()
        if _library is not None:
            self._context.run(_library.set, "asyncio")
        self._waiting = b""
        self._is_paused = False
        self._has_ended = False
        self._error: Exception | None = None
        self._hear: Callable[[bytes], bool] | None = None
        self._something: asyncio.Future[bool] | None = None  # for who reads; whether it has heard enough
        self._room: asyncio.Future[bool] | None = None  # for who sends
        self._is_full = False

    # ------------------------------------------------------------------------------------------------ for the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is connected."""
        self._transport = transport
        self._transport.set_write_buffer_limits(0)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where bytes may be put."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        data = bytes(self._buffer[:nbytes])
        if self._hear is not None:
            if not self._context.run(self._hear, data) or nbytes == self._too_much:
                self._hear = None
                _wake(self._something, has_enough=True)
            return
        self._waiting += data
        if self._something is None or self._something.done():
            self._is_paused = True
            self._transport.pause_reading()
        else:
            _wake(self._something)

    def eof_received(self) -> bool:
        """The peer sends no more, and may still read."""
        self._has_ended = True
        _wake(self._something)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._has_ended = True
        self._error = exc
        _wake(self._something)
        _wake(self._room)

    def pause_writing(self) -> None:
        """The socket does not take all of it."""
        self._is_full = True

    def resume_writing(self) -> None:
        """The socket has taken all of it."""
        self._is_full = False
        _wake(self._room)

    # ---------------------------------------------------------------------------------------------- for the adapter

    async def send_all(self, data: bytes) -> None:
        """See `AsyncByteStream.send_all`."""
        self._raise_if_closed()
        self._transport.write(data)
        while self._is_full and not self._transport.is_closing():
            self._room = self._loop.create_future()
            try:
                await self._room
            finally:
                self._room = None
        self._raise_if_closed()

    async def receive_some(self, max_bytes: int) -> bytes:
        """See `AsyncByteStream.receive_some`."""
        while not self._waiting:
            if self._is_over():
                return b""
            await self._wait()
        return self._take(max_bytes)

    async def receive_each(self, hear: Callable[[bytes], bool]) -> None:
        """See `HeardStream.receive_each`."""
        while True:
            while self._waiting:
                if not hear(self._take(READ_SIZE)):
                    return
            if self._is_over():
                hear(b"")
                return
            self._hear = hear
            try:
                if await self._wait():
                    return
            finally:
                self._hear = None

    def _is_over(self) -> bool:
        """Whether nothing comes any more; raises why, if there is a reason."""
        if self._error is not None:
            raise self._error
        return self._has_ended

    async def _wait(self) -> bool:
        """Wait until there is something, or an end, or `hear` has had enough; whether it has."""
        self._something = self._loop.create_future()
        try:
            return await self._something
        finally:
            self._something = None

    def _take(self, max_bytes: int) -> bytes:
        data, self._waiting = self._waiting[:max_bytes], self._waiting[max_bytes:]
        if self._is_paused and not self._waiting:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def send_eof(self) -> None:
        """End our side of it; reading goes on."""
        self._transport.write_eof()

    async def aclose(self) -> None:
        """See `AsyncByteStream.aclose`."""
        with contextlib.suppress(OSError, RuntimeError):
            self._transport.write_eof()
        self._transport.abort()

    def _raise_if_closed(self) -> None:
        if self._error is not None:
            raise self._error
        if self._transport.is_closing():
            raise ConnectionAbortedError(errno.ECONNABORTED, "the stream is closed")


async def open_tcp(host: str, port: int) -> AsyncioStream:
    """Connect to the first address of a name that answers.

    Raises:
        OSError: there is none; the error of the first.
    """
    loop = asyncio.get_running_loop()
    sock = await _first_to_answer(_by_turns(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _, stream = await loop.create_connection(AsyncioStream, sock=sock)
    except BaseException:
        sock.close()
        raise
    return stream


async def _first_to_answer(addresses: list[Any]) -> socket.socket:
    """A connected socket to one of these addresses, as `getaddrinfo` gives them."""
    won: list[socket.socket] = []
    errors: list[OSError] = []

    async def attempt(address: Any, is_decided: anyio.Event) -> None:
        try:
            sock = await _connected(address)
        except OSError as error:
            errors.append(error)
        else:
            if won:
                sock.close()
            else:
                won.append(sock)
                tasks.cancel_scope.cancel()
        finally:
            is_decided.set()

    try:
        async with anyio.create_task_group() as tasks:
            for address in addresses:
                is_decided = anyio.Event()
                tasks.start_soon(attempt, address, is_decided)
                with anyio.move_on_after(_HAPPY_EYEBALLS_DELAY):
                    await is_decided.wait()
    except BaseException:
        for sock in won:
            sock.close()
        raise
    if won:
        return won[0]
    first = errors[0]
    errors.clear()  # the traceback of each has this frame
    raise first


async def _connected(address: Any) -> socket.socket:
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


def _by_turns(addresses: list[Any]) -> list[Any]:
    """The second is of another family than the first, if there is one (RFC 8305, section 4)."""
    for index, address in enumerate(addresses):
        if address[0] != addresses[0][0]:
            return [addresses[0], address, *addresses[1:index], *addresses[index + 1 :]]
    return addresses


@final
class AsyncioEvent:
    """An `Event` in half the time of `asyncio.Event`."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: list[asyncio.Future[bool]] = []

    def set(self) -> None:
        """See `Event.set`."""
        self._is_set = True
        for waiter in self._waiters:
            _wake(waiter)

    def is_set(self) -> bool:
        """See `Event.is_set`."""
        return self._is_set

    async def wait(self) -> None:
        """See `Event.wait`."""
        if not self._is_set:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)


def _wake(waiter: asyncio.Future[bool] | None, *, has_enough: bool = False) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(has_enough)
