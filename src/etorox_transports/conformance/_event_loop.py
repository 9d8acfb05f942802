"""`VirtualEventLoop`: asyncio in virtual time, and the byte streams in memory that its `create_connection` gives there.

When nobody has anything to do, its clock jumps to the next timer; nothing is ever waited for. Transports that open
streams through the loop need not know that there are no sockets: within `connecting` they get a `MemoryTransport`.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, final

from etorox_proto.signalr import Dial
from etorox_transports.conformance._memory import MemorySocket

__all__ = ["VirtualEventLoop", "connecting"]

_START = 1_024.0
_READ_SIZE = 262_144
_HIGH_WATER = 65_536


@final
class _JumpingSelector(selectors.BaseSelector):
    """Looks at what is ready; the time that it would have waited passes at once."""

    def __init__(self) -> None:
        self.now = _START
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See `BaseSelector.select`."""
        ready = self._real.select(0)
        if not ready:
            assert timeout is not None, "nothing will ever happen any more"
            self.now += max(timeout, 0.0)
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See `BaseSelector.register`."""
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """See `BaseSelector.unregister`."""
        return self._real.unregister(fileobj)

    def get_map(self) -> Any:
        """See `BaseSelector.get_map`."""
        return self._real.get_map()

    def close(self) -> None:
        """See `BaseSelector.close`."""
        self._real.close()


@final
class VirtualEventLoop(asyncio.SelectorEventLoop):
    """asyncio in virtual time, for `asyncio.Runner(loop_factory=VirtualEventLoop)`.

    Threads are not waited for: what another thread is to answer never comes, once nothing else is left to do.
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        self.connect: Callable[[Dial], Awaitable[MemorySocket]] | None = None
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds."""
        return self._jumping.now

    def jump(self, seconds: float) -> None:
        """Let time pass in which nothing is done."""
        self._jumping.now += seconds

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """See `loop.create_connection`."""
        if self.connect is None:
            return await super().create_connection(protocol_factory, host, port, **options)
        name = options.get("server_hostname") or host
        socket = await self.connect(Dial(host, port, options.get("ssl") is not None, name))
        protocol = protocol_factory()
        return MemoryTransport(self, socket, protocol), protocol


@contextlib.contextmanager
def connecting(connect: Callable[[Dial], Awaitable[MemorySocket]]) -> Iterator[None]:
    """Let streams that are opened through the running loop lead here, if it is one of asyncio's in virtual time."""
    loop: object = None
    with contextlib.suppress(RuntimeError):  # where trio runs
        loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualEventLoop):
        loop.connect = connect
    try:
        yield
    finally:
        if isinstance(loop, VirtualEventLoop):
            loop.connect = None


@final
class MemoryTransport(asyncio.Transport):
    """A byte stream in memory for a protocol of asyncio.

    Args:
        loop: what calls the protocol.
        socket: connected.
        protocol: gets what comes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: MemorySocket, protocol: Any) -> None:
        super().__init__({"peername": ("127.0.0.1", 80)})
        self._loop = loop
        self._socket = socket
        self._protocol = protocol
        self._high, self._low = _HIGH_WATER, _HIGH_WATER // 4
        self._is_full = False
        self._is_paused = False
        self._is_closing = False
        self._has_heard_the_end = False
        self._is_looking = False
        self._is_lost = False
        socket.on_change = self._look_soon
        protocol.connection_made(self)
        self._look_soon()

    # --------------------------------------------------------------------------------------------- for the protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See `asyncio.BaseTransport.set_protocol`."""
        self._protocol = protocol

    def get_protocol(self) -> Any:
        """See `asyncio.BaseTransport.get_protocol`."""
        return self._protocol

    def is_reading(self) -> bool:
        """See `asyncio.ReadTransport.is_reading`."""
        return not self._is_paused and not self._is_closing

    def pause_reading(self) -> None:
        """See `asyncio.ReadTransport.pause_reading`."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """See `asyncio.ReadTransport.resume_reading`."""
        self._is_paused = False
        self._look_soon()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See `asyncio.WriteTransport.set_write_buffer_limits`."""
        if high is None:
            high = _HIGH_WATER if low is None else 4 * low
        self._high, self._low = high, high // 4 if low is None else low
        self._look_soon()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """See `asyncio.WriteTransport.get_write_buffer_limits`."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """See `asyncio.WriteTransport.get_write_buffer_size`."""
        return self._socket.unsent

    def write(self, data: Any) -> None:
        """See `asyncio.WriteTransport.write`."""
        self._socket.network.require(not self._is_closing, "nothing is sent on a stream that was closed")
        if not self._is_closing and self._socket.error is None:
            self._socket.write(bytes(data))
            if self._socket.unsent > self._high and not self._is_full:
                self._is_full = True
                self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        """See `asyncio.WriteTransport.can_write_eof`."""
        return False

    def is_closing(self) -> bool:
        """See `asyncio.BaseTransport.is_closing`."""
        return self._is_closing or self._is_lost

    def close(self) -> None:
        """See `asyncio.BaseTransport.close`."""
        self._is_closing = True
        self._look_soon()

    def abort(self) -> None:
        """See `asyncio.WriteTransport.abort`."""
        self._is_closing = True
        self._lose(None)

    # ------------------------------------------------------------------------------------------------- the socket

    def _look_soon(self) -> None:
        if not self._is_looking and not self._is_lost:
            self._is_looking = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Something came, or went, or the protocol wants something else."""
        self._is_looking = False
        if self._is_lost:
            return
        if self._is_full and self._socket.unsent <= self._low:
            self._is_full = False
            self._protocol.resume_writing()
        if self._is_closing:
            if not self._socket.unsent:
                self._lose(None)
        elif self._is_paused:
            pass
        elif self._socket.waiting:
            self._look_soon()
            self._protocol.data_received(self._socket.read(_READ_SIZE))
        elif self._socket.error is not None:
            self._lose(self._socket.error)
        elif self._socket.has_ended and not self._has_heard_the_end:
            self._has_heard_the_end = True
            if not self._protocol.eof_received():
                self.close()

    def _lose(self, error: OSError | None) -> None:
        """It is over; the protocol is told once."""
        if not self._is_lost:
            self._is_lost = True
            self._socket.close()
            self._loop.call_soon(self._protocol.connection_lost, error)
