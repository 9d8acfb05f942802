"""`MemoryStream`: a byte stream in memory for transports that await, and `serving`, which carries a network along."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import final

from etorox_proto.signalr import Dial
from etorox_proto.testing import Host, Link
from etorox_transports.conformance._event_loop import connecting
from etorox_transports.conformance._loops import Loop
from etorox_transports.conformance._memory import MemoryNetwork, MemorySocket

__all__ = ["MemoryStream", "open_stream", "serving"]

# A case that lasts longer has got stuck, in virtual seconds.
_FOR_EVER = 20_000.0


@final
class MemoryStream:
    """The client's end of a byte stream, which notices what a transport must never do.

    Args:
        loop: what it waits on.
        socket: connected.
    """

    def __init__(self, loop: Loop, socket: MemorySocket) -> None:
        self._loop = loop
        self._socket = socket
        self._require = socket.network.require
        self._changed = loop.new_event()
        self._is_sending = False
        self._is_receiving = False
        self._is_cut_off = False
        socket.on_change = self._wake

    async def send_all(self, data: bytes) -> None:
        """See `AsyncByteStream.send_all`."""
        self._require(self._socket.is_open, "nothing is sent on a stream that was closed")
        self._require(not self._is_sending, "two tasks never send at once")
        self._require(self._is_sending or not self._is_cut_off, "nothing is sent after a part of something")
        self._is_sending = self._is_cut_off = True
        try:
            await self._loop.sleep(0)
            self._socket.raise_if_broken()
            self._socket.write(data)
            while self._socket.unsent:
                await self._loop.wait(self._changed)
                self._socket.raise_if_broken()
            self._is_cut_off = False
        finally:
            self._is_sending = False

    async def receive_some(self, max_bytes: int) -> bytes:
        """See `AsyncByteStream.receive_some`."""
        self._require(self._socket.is_open, "nothing is read from a stream that was closed")
        self._require(not self._is_receiving, "two tasks never read at once")
        self._is_receiving = True
        try:
            await self._loop.sleep(0)
            while not self._socket.waiting:
                self._socket.raise_if_broken()
                if self._socket.has_ended:
                    return b""
                await self._loop.wait(self._changed)
            return self._socket.read(max_bytes)
        finally:
            self._is_receiving = False

    async def aclose(self) -> None:
        """See `AsyncByteStream.aclose`."""
        self._socket.close()
        await self._loop.sleep(0)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = self._loop.new_event()


async def _connected(loop: Loop, network: MemoryNetwork, dial: Dial) -> MemorySocket:
    """Open a stream; raises an `OSError` if that cannot be done."""
    socket, changed = network.dial(dial), loop.new_event()
    socket.on_change = changed.set
    try:
        await loop.sleep(0)
        while not socket.is_connected:
            socket.raise_if_broken()
            await loop.wait(changed)
            changed = loop.new_event()
            socket.on_change = changed.set
    except BaseException:
        socket.close()
        raise
    return socket


async def open_stream(loop: Loop, network: MemoryNetwork, dial: Dial) -> MemoryStream:
    """What `Attempt.open` does."""
    return MemoryStream(loop, await _connected(loop, network, dial))


@contextlib.asynccontextmanager
async def serving(loop: Loop, service: Host, link: Link, waits_for: Callable[[], str]) -> AsyncIterator[MemoryNetwork]:
    """A network with this server, which is carried along beside the body.

    Args:
        loop: what it waits on.
        service: the server.
        link: what lies between it and the client.
        waits_for: what the body waits for, in words, if it never comes.
    """
    network = MemoryNetwork(service, link, loop.now)
    end = loop.now() + _FOR_EVER

    async def carry_along() -> None:
        while loop.now() < end:
            kicked = loop.new_event()
            network.on_change = kicked.set
            network.catch_up()
            await loop.wait(kicked, min(network.deadline, end))
        raise AssertionError(f"expected {waits_for()}, it did not come within {_FOR_EVER:g} virtual seconds")

    with connecting(lambda dial: _connected(loop, network, dial)):
        async with loop.beside(carry_along):
            yield network
