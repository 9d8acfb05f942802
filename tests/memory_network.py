"""Byte streams in memory for the asynchronous adapters, and a small hub to talk to.

`MemoryNetwork` gives adapters their streams: `open` is what they call, and at the other end a `Host` of
`etorox_proto.testing` answers, such as a `FakeExchange` or the host of the `AddingHub` here. A stream notices what an
adapter must never do: send after a send that was cut off, send twice at once, use what it has closed.
"""

from __future__ import annotations

import math

import anyio
import anyio.lowlevel

from etorox_proto import Dial, Limits
from etorox_proto.signalr import CancelReceived, InvocationReceived, ServerConfig, ServerConnection, ServerEvent
from etorox_proto.testing import Host, HostConnection, HubHost


class MemoryStream:
    """The client's end of a byte stream in memory.

    Attributes:
        is_open: whether the client has it open.
        sent: how many bytes the client has sent.
        largest_read: how many bytes one read may give.
    """

    def __init__(self, network: MemoryNetwork, connection: HostConnection) -> None:
        self.is_open = True
        self.sent = 0
        self.largest_read = 65_536
        self.connection = connection
        self._network = network
        self._incoming = bytearray()
        self._has_ended = False
        self._changed = anyio.Event()
        self._is_sending = False
        self._is_cut_off = False

    @property
    def waiting(self) -> int:
        """How many bytes wait for the client."""
        return len(self._incoming)

    async def send_all(self, data: bytes) -> None:
        self._network.require(self.is_open, "nothing is sent on a stream that was closed")
        self._network.require(not self._is_sending, "one task sends")
        self._network.require(not self._is_cut_off, "nothing is sent after a part of something")
        self._is_sending = self._is_cut_off = True
        try:
            while self._network.takes_nothing:
                await self._wait()
            if self._has_ended:
                raise BrokenPipeError("the host has gone")
            self._is_cut_off = False
            self.sent += len(data)
            self.connection.receive_data(data, anyio.current_time())
            self._network.kick()
            # As sockets do: what they have taken is on its way.
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
        finally:
            self._is_sending = False

    async def receive_some(self, max_bytes: int) -> bytes:
        self._network.require(self.is_open, "nothing is read from a stream that was closed")
        await anyio.lowlevel.checkpoint()
        while not self._incoming and not self._has_ended:
            await self._wait()
        size = min(max_bytes, self.largest_read)
        data = bytes(self._incoming[:size])
        del self._incoming[:size]
        self._network.kick()
        return data

    async def aclose(self) -> None:
        if self.is_open:
            self.is_open = False
            self.connection.receive_data(b"", anyio.current_time())
            self._network.kick()
        await anyio.lowlevel.checkpoint()

    def pump(self) -> None:
        """Take what the host has to send, as far as there is room."""
        while not self._has_ended and len(self._incoming) < self._network.buffer:
            data = self.connection.data_to_send()
            self._has_ended = not data and self.connection.closed
            if not data and not self._has_ended:
                break
            self._incoming += data
            self.wake()

    def cut(self) -> None:
        """End it, without a word of the host."""
        self._has_ended = True
        self.connection.receive_data(b"", anyio.current_time())
        self.wake()

    def wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _wait(self) -> None:
        await self._changed.wait()


class MemoryNetwork:
    """Carries bytes between adapters and one host; run `serve` beside them.

    Args:
        host: the server.

    Attributes:
        dials: what was asked for.
        streams: what was opened, oldest first.
        problems: what an adapter did and must not do.
        buffer: how many bytes may wait for a client.
        takes_nothing: whether sending blocks.
        refuses: whether nobody listens.
        hangs: whether opening a stream never ends.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self.dials: list[Dial] = []
        self.streams: list[MemoryStream] = []
        self.problems: list[str] = []
        self.buffer = 1_000_000
        self.takes_nothing = False
        self.refuses = False
        self.hangs = False
        self._kicked = anyio.Event()

    @property
    def open_streams(self) -> list[MemoryStream]:
        """Those that a client has open."""
        return [stream for stream in self.streams if stream.is_open]

    async def open(self, dial: Dial) -> MemoryStream:
        """For `open=`."""
        self.dials.append(dial)
        await anyio.lowlevel.checkpoint()
        if self.hangs:
            await anyio.sleep(math.inf)
        if self.refuses:
            raise ConnectionRefusedError(111, "Connection refused")
        stream = MemoryStream(self, self._host.accept(anyio.current_time()))
        self.streams.append(stream)
        return stream

    def require(self, is_so: object, what: str) -> None:
        """Note a problem. Raising would not do: to an adapter that is the end of a stream, as any."""
        if not is_so:
            self.problems.append(what)

    def kick(self) -> None:
        """The host, or a stream, was told something."""
        self._kicked.set()

    def cut_all(self) -> None:
        """End every stream, without a word of the host."""
        for stream in self.open_streams:
            stream.cut()

    async def cut_all_soon(self) -> None:
        """The same, when others have had their turn."""
        await anyio.lowlevel.checkpoint()
        self.cut_all()

    async def serve(self) -> None:
        """Let the host answer, for ever."""
        while True:
            now = anyio.current_time()
            for stream in self.streams:
                if stream.connection.deadline <= now:
                    stream.connection.handle_timeout(now)
                stream.pump()
            self._kicked = anyio.Event()
            deadline = min((stream.connection.deadline for stream in self.streams), default=math.inf)
            with anyio.CancelScope(deadline=deadline):
                await self._kicked.wait()


class AddingHub:
    """A hub that adds, counts, tells what it was told, hangs up, and is silent otherwise.

    Attributes:
        cancelled: the calls that the client has cancelled.
        host: what serves it.
    """

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        limits = Limits(queued_bytes=100_000_000, unacknowledged_bytes=100_000_000)
        self.host = HubHost(self._answer, ServerConfig(limits=limits, stateful_reconnect=True))

    def _answer(self, connection: ServerConnection, event: ServerEvent, now: float) -> None:
        match event:
            case InvocationReceived(target="add", invocation_id=str(call)):
                connection.complete(call, result=sum(event.arguments), now=now)
            case InvocationReceived(target="count", invocation_id=str(call)):
                for number in range(event.arguments[0]):
                    connection.send_item(call, number, now=now)
                connection.complete(call, now=now)
            case InvocationReceived(target="tell"):
                connection.send("told", event.arguments, now=now)
            case InvocationReceived(target="hang up"):
                connection.close(error="bye", now=now)
            case CancelReceived(call):
                self.cancelled.append(call)
                connection.complete(call, now=now)
            case _:
                pass  # such as a method that never answers
