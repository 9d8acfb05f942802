"""Ends of streams that speak no protocol: a client machine and a host that write down which bytes came, and when.

With them a test sees what the network does to bytes, and nothing else.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import msgspec

from etorox_proto import Closed, ConnectionLost, Dial
from etorox_proto.testing import Driver, Link, Listener, Stream, VirtualNetwork


class Heard(msgspec.Struct, frozen=True):
    """Bytes that came to a `RawClient`."""

    data: bytes


class RawClient:
    """A client machine without a protocol; `say` is its only command."""

    def __init__(self, host: str = "raw.test", port: int = 443, *, tls: bool = False) -> None:
        self.deadline = math.inf
        self.timeouts = 0
        self.ignores_end = False
        self.told: list[str] = []
        self._events: deque[Heard | Dial | Closed] = deque([Dial(host, port, tls, host)])
        self._output = b""

    def say(self, data: bytes) -> None:
        self._output += data

    def stream_opened(self, now: float) -> None:
        self.told.append(f"opened at {now:g}")

    def receive_data(self, data: bytes, now: float) -> None:
        if data:
            self._events.append(Heard(data))
        elif not self.ignores_end:
            self._events.append(Closed(ConnectionLost(f"the stream ended at {now:g}")))

    def handle_timeout(self, now: float) -> None:
        self.timeouts += 1
        self.told.append(f"timeout at {now:g}")
        self.deadline = math.inf

    def reading_paused(self, now: float) -> None:
        self.told.append(f"paused at {now:g}")

    def reading_resumed(self, now: float) -> None:
        self.told.append(f"resumed at {now:g}")

    def data_to_send(self) -> bytes:
        data, self._output = self._output, b""
        return data

    def next_event(self) -> Heard | Dial | Closed | None:
        return self._events.popleft() if self._events else None


class RawConnection:
    """A host's side of one stream without a protocol."""

    def __init__(self, host: RawHost) -> None:
        self.host = host
        self.deadline = math.inf
        self.closed = False
        self.hears_end = True
        self.heard: list[tuple[float, bytes]] = []
        self.queued = b""

    @property
    def text(self) -> bytes:
        """Everything that came."""
        return b"".join(data for _, data in self.heard)

    def say(self, data: bytes) -> None:
        self.queued += data

    def receive_data(self, data: bytes, now: float) -> None:
        self.heard.append((now, data))
        if not data and self.hears_end:
            self.closed = True
        if self.host.on_data is not None:
            self.host.on_data(self, data)

    def handle_timeout(self, now: float) -> None:
        self.deadline = math.inf
        self.say(f"timeout at {now:g}".encode())

    def data_to_send(self) -> bytes:
        data, self.queued = self.queued, b""
        return data

    def close(self, *, allow_reconnect: bool, now: float) -> None:
        del now
        self.say(b"goodbye" if allow_reconnect else b"farewell")
        self.closed = True


class RawHost:
    """A host without a protocol.

    Args:
        on_data: called with each connection and what it received.
    """

    def __init__(self, on_data: Callable[[RawConnection, bytes], object] | None = None) -> None:
        self.deadline = math.inf
        self.on_data = on_data
        self.connections: list[RawConnection] = []
        self.advanced: list[float] = []

    def accept(self, now: float) -> RawConnection:
        del now
        self.connections.append(RawConnection(self))
        return self.connections[-1]

    def advance(self, now: float) -> None:
        self.deadline = math.inf
        self.advanced.append(now)


class Line:
    """A raw client and a raw host, joined by an open stream.

    Args:
        link: what lies between them.
        seed: the network's.
        deliver: called with each event of the client.
    """

    def __init__(
        self, link: Link | None = None, *, seed: int = 0, deliver: Callable[[Heard | Closed], object] | None = None
    ) -> None:
        self.network = VirtualNetwork(seed=seed, link=link or Link(latency=1.0))
        self.host = RawHost()
        self.listener: Listener = self.network.listen(self.host, "raw.test")
        self.client = RawClient()
        self.arrivals: list[tuple[float, bytes]] = []
        self._deliver = deliver
        self.driver: Driver[Heard] = self.network.drive(self.client, deliver=self._write_down)
        self.network.wait_for(lambda: self.driver.stream)
        self.opened_at = self.network.now

    def _write_down(self, event: Heard | Closed) -> None:
        self.arrivals.append((self.network.now, event.data if isinstance(event, Heard) else b""))
        if self._deliver is not None:
            self._deliver(event)

    @property
    def stream(self) -> Stream:
        assert self.driver.stream is not None
        return self.driver.stream

    @property
    def connection(self) -> RawConnection:
        """The host's side of the stream."""
        return self.host.connections[-1]

    def since_opened(self, heard: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
        """What came, with times counted from when the stream was opened."""
        return [(round(time - self.opened_at, 6), data) for time, data in heard]
