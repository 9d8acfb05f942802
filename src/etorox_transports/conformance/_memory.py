"""`MemoryNetwork` and `MemorySocket`: byte streams without sockets, through the network of `etorox_proto.testing`.

A socket here is what an operating system's would be: it takes and gives bytes at once, as far as there is room. To the
network it is a client machine, which the network drives; so links and faults are those of the testing kit. It knows
no event loop: `MemoryStream` and `MemoryTransport` wait for it. Nothing is said to a network from inside of its run.
"""

from __future__ import annotations

import errno
import math
import socket
from collections import deque
from collections.abc import Callable
from typing import final

from etorox_proto.signalr import Closed, Dial
from etorox_proto.testing import Host, Link, Stream, VirtualDialFailed, VirtualNetwork

__all__ = ["MemoryNetwork", "MemorySocket"]

_HOST, _PORT = "127.0.0.1", 80
# How many bytes may wait in a socket to be read, as in a system's. More stay in the link.
_ROOM = 65_536


def _nothing() -> None:
    pass


@final
class MemoryNetwork:
    """One server, and the way to it.

    Args:
        service: the server.
        link: the way.
        clock: the time of the event loop, in seconds.

    Attributes:
        url: where the server's hub is.
        listener: the server's address in it.
        link: the way.
        dials: how many streams were asked for.
        sockets: those that the client has open.
        sent: when bytes went into the link, in seconds.
        problems: what a transport did and must not do.
        on_change: called when the time of the next event may have changed.
    """

    url = f"http://{_HOST}/hub"

    def __init__(self, service: Host, link: Link, clock: Callable[[], float]) -> None:
        self._virtual = VirtualNetwork(now=clock(), link=link)
        self.listener = self._virtual.listen(service, _HOST, _PORT)
        self.link = link
        self.dials = 0
        self.sockets: list[MemorySocket] = []
        self.sent: list[float] = []
        self.problems: list[str] = []
        self.on_change: Callable[[], object] = _nothing
        self._clock = clock

    @property
    def stream(self) -> Stream:
        """The latest stream, for faults."""
        return self._virtual.streams[-1]

    @property
    def now(self) -> float:
        """The time, in seconds."""
        return self._clock()

    @property
    def deadline(self) -> float:
        """When something happens next, if nobody does anything."""
        return self._virtual.deadline

    def dial(self, dial: Dial) -> MemorySocket:
        """Begin to open a stream."""
        self.dials += 1
        opened: list[MemorySocket] = []
        self.act(lambda: opened.append(MemorySocket(self, self._virtual, dial)))
        self.sockets.append(opened[0])
        return opened[0]

    def catch_up(self) -> None:
        """Let happen what is due."""
        self._virtual.run_until(self._clock())

    def act(self, action: Callable[[], object]) -> None:
        """Do something to the network, to its server or to an end of a stream, and let happen what follows from it."""
        now = self._clock()
        if self._virtual.now < now:
            self._virtual.run_until(now)  # else it would be done in the past
        action()
        self._virtual.run_until(now)
        self.on_change()

    def require(self, is_so: object, what: str) -> None:
        """Note a problem. Raising would not do: to a transport that is the end of a stream, as any."""
        if not is_so and what not in self.problems:
            self.problems.append(what)


@final
class MemorySocket:
    """The client's end of a stream.

    Args:
        network: where.
        virtual: what drives it.
        dial: where to.

    Attributes:
        network: where.
        is_connected: whether the stream was opened.
        is_open: whether the client has not closed it.
        has_ended: whether nothing more comes than what waits.
        error: why, if there was a reason.
        on_change: called when any of this has changed, or something came, or there is room again.
    """

    deadline = math.inf

    def __init__(self, network: MemoryNetwork, virtual: VirtualNetwork, dial: Dial) -> None:
        self.network = network
        self.is_connected = False
        self.is_open = True
        self.has_ended = False
        self.error: OSError | None = None
        self.on_change: Callable[[], object] = _nothing
        self._events: deque[Dial | Closed] = deque([dial])
        self._incoming = bytearray()
        self._unsent = b""
        self._is_held_up = False
        self._is_paused = False
        self._driver = virtual.drive(self, deliver=self._closed)

    # ------------------------------------------------------------------------------------------ for the transport

    @property
    def waiting(self) -> int:
        """How many bytes can be read."""
        return len(self._incoming)

    @property
    def unsent(self) -> int:
        """How many of the written bytes neither the link nor the server has taken."""
        stream = self._driver.stream
        under_way = 0 if stream is None else stream.waiting("server")
        return len(self._unsent) + max(0, under_way - self.network.link.window)

    def raise_if_broken(self) -> None:
        """Raise what broke it, or that it was closed."""
        if self.error is not None:
            raise self.error
        if not self.is_open:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the stream is closed")

    def write(self, data: bytes) -> None:
        """Send bytes, after those that wait already."""
        self.network.act(lambda: self._put(data))
        self._is_held_up = self.unsent > 0

    def read(self, max_bytes: int) -> bytes:
        """Take what came."""
        data = bytes(self._incoming[:max_bytes])
        del self._incoming[:max_bytes]
        if self._is_paused and not self._incoming:
            self._is_paused = False
            self.network.act(self._driver.resume_reading)
        return data

    def close(self) -> None:
        """Close it, or do not open it any more."""
        if self.is_open:
            self.is_open = False
            self.network.sockets.remove(self)
            self.network.act(lambda: self._events.append(Closed(None)))
            self.on_change()

    def _put(self, data: bytes) -> None:
        self._unsent += data

    # -------------------------------------------------------------------------- for the network: a `ClientMachine`

    def stream_opened(self, now: float) -> None:
        """See `ClientMachine.stream_opened`."""
        del now
        self.is_connected = True
        self.on_change()

    def receive_data(self, data: bytes, now: float) -> None:
        """See `ClientMachine.receive_data`."""
        del now
        self._incoming += data
        if len(self._incoming) >= _ROOM and not self._is_paused:
            self._is_paused = True
            self._driver.pause_reading()
        if not data:
            self.has_ended = True
            if not self.is_connected:
                self._events.append(Closed(None))
            elif self._driver.stream is not None and self._driver.stream.was_reset:
                self.error = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        self.on_change()

    def handle_timeout(self, now: float) -> None:
        """See `ClientMachine.handle_timeout`."""

    def reading_paused(self, now: float) -> None:
        """See `ClientMachine.reading_paused`."""

    def reading_resumed(self, now: float) -> None:
        """See `ClientMachine.reading_resumed`."""

    def data_to_send(self) -> bytes:
        """See `ClientMachine.data_to_send`; it is called when the link has room."""
        data, self._unsent = self._unsent, b""
        if data:
            self.network.sent.append(self.network.now)
        if self._is_held_up:
            self._is_held_up = bool(data)
            self.on_change()
        return data

    def next_event(self) -> Dial | Closed | None:
        """See `ClientMachine.next_event`."""
        return self._events.popleft() if self._events else None

    def _closed(self, event: Closed) -> None:
        """The network has nothing more to do with it; if it could not be opened it says why."""
        if isinstance(event.error, VirtualDialFailed):
            if event.error.reason == "refused":
                self.error = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
            else:
                self.error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            self.on_change()
