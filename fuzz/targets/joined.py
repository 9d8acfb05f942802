"""A client and a server, joined by a network that the bytes lead: how much it carries, when it breaks, what is asked.

Each byte is one step: its lower half says what, its upper half how much or which. Both applications number what they
send, so that each side can tell whether something was lost, came twice, or came out of order.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable

from etorox_proto.signalr import (
    Closed,
    ConnectionTokens,
    Dial,
    HubConfig,
    HubConnection,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
    Resumed,
    ServerConfig,
    ServerConnection,
    State,
)
from targets.ledger import Ledger
from targets.runs import LONGEST

__all__ = ["client_against_server"]

_MOST_STEPS = 400
_ALL = 15


def client_against_server(data: bytes) -> None:
    """Whatever the network does: both ends close, calls settle once, nothing is lost unnoticed, twice or disordered.

    The first byte chooses the encoding (1), compression (2) and stateful reconnect (4). See the module for the others.
    """
    world = _World(data[0] if data else 0)
    for step in data[1:_MOST_STEPS]:
        world.step(step & 15, step >> 4)
    world.finish()


class _Stream:
    """One byte stream, what is under way on it, and the server's object at its end."""

    def __init__(self, server: ServerConnection) -> None:
        self.server: ServerConnection | None = server  # None once it has dropped the stream
        self.up = bytearray()
        self.down = bytearray()
        self.client_has_left = False


class _World:
    """Two applications, their machines, and the streams between them."""

    def __init__(self, flags: int) -> None:
        self.now = 0.0
        self.client = HubConnection(
            HubConfig(
                url="http://localhost/hub",
                encoding="messagepack" if flags & 1 else "json",
                compression=flags & 2 > 0,
                stateful_reconnect=flags & 4 > 0,
                handles=["ask"],
            ),
            now=self.now,
        )
        self.config = ServerConfig(compression=True, stateful_reconnect=True)
        self.tokens = ConnectionTokens(f"name{number}" for number in itertools.count())
        self.servers: list[ServerConnection] = []
        self.streams: list[_Stream] = []
        self.is_dialling = False
        self.ledger = Ledger()
        self.ends: dict[object, Closed] = {}
        self.drain()

    # --------------------------------------------------------------------------------------------- the network

    def step(self, what: int, much: int) -> None:
        """One step of the script."""
        ledger, client = self.ledger, self.client
        server = self.partner
        match what:
            case 0 | 1:
                self.carry(up=what == 0, size=10_000 if much == _ALL else 1 + 3 * much * much)
            case 2:
                self.break_at_client()
            case 3:
                self.break_at_server(self.streams[-1 - much % len(self.streams)] if self.streams else None)
            case 4:
                self.pass_time(self.next_deadline() if much == _ALL else self.now + 0.3 * much * much)
            case 5:
                self.ask(lambda: ledger.call(client, much & 1, streaming=much & 2 > 0, now=self.now))
            case 6 if ledger.uploads:
                self.ask(lambda: ledger.upload(client, much, now=self.now))
            case 7 if ledger.uploads:
                upload = ledger.uploads[much % len(ledger.uploads)]
                self.ask(lambda: None if upload.is_ended else client.end_upload(upload, now=self.now))
            case 8 if ledger.calls:
                self.ask(lambda: client.cancel(ledger.calls[much % len(ledger.calls)], now=self.now))
            case 9:
                self.ask(lambda: ledger.answer_server(client, now=self.now))
            case 10 if server is not None:
                self.ask(lambda: ledger.item(server, much, now=self.now))
            case 11 if server is not None:
                self.ask(lambda: ledger.complete(server, much, now=self.now))
            case 12 if server is not None:
                self.ask(lambda: ledger.ask_client(server, wants_answer=much & 1 > 0, now=self.now))
            case 13:
                paused = client.reading_paused if much & 1 else client.reading_resumed
                paused(self.now)
            case 14 if much == _ALL:
                client.close(wait=False, now=self.now)
            case 14 if much == _ALL - 1 and server is not None:
                server.close(allow_reconnect=True, now=self.now)
            case 14 if much == _ALL - 2:
                client.close(now=self.now)
            case 15:
                self.settle()
            case _:
                pass
        self.drain()

    @property
    def machines(self) -> list[HubConnection | ServerConnection]:
        """All there have been."""
        return [self.client, *self.servers]

    @property
    def partner(self) -> ServerConnection | None:
        """The server's object that is, or was last, connected with the client."""
        return next((each for each in reversed(self.servers) if each in self.ledger.connected), None)

    def ask(self, command: Callable[[], object]) -> None:
        """A command, which may be refused in one way only."""
        with contextlib.suppress(LocalProtocolError):
            command()

    def carry(self, *, up: bool, size: int) -> None:
        """Carry so many bytes one way, on the oldest stream that has any."""
        if self.is_dialling:
            self.open()
        for stream in self.streams:
            way = stream.up if up else stream.down
            if way:
                piece = bytes(way[:size])
                del way[:size]
                if up and stream.server is not None:
                    stream.server.receive_data(piece, self.now)
                elif not up and not stream.client_has_left:
                    self.client.receive_data(piece, self.now)
                self.drain()
                break
            if up and stream.client_has_left and stream.server is not None:
                self.break_at_server(stream)
                break

    def open(self) -> None:
        """Open the stream that the client asks for."""
        self.is_dialling = False
        server = ServerConnection(self.config, tokens=self.tokens, now=self.now)
        self.servers.append(server)
        self.streams.append(_Stream(server))
        self.client.stream_opened(self.now)
        self.drain()

    def break_at_client(self) -> None:
        """The client hears that its stream has ended, or that none can be had."""
        if self.is_dialling:
            self.is_dialling = False
        else:
            self.leave()
        self.client.receive_data(b"", self.now)
        self.drain()

    def leave(self) -> None:
        """The client drops its stream; what it has sent may still arrive."""
        if self.streams:
            self.streams[-1].client_has_left = True
            self.streams[-1].down.clear()

    def break_at_server(self, stream: _Stream | None) -> None:
        """The server hears that a stream has ended."""
        if stream is not None and stream.server is not None:
            stream.server.receive_data(b"", self.now)
            self.drain()
            stream.server = None

    def pass_time(self, until: float) -> None:
        """Meet all deadlines up to then."""
        while (due := self.next_deadline()) <= until < math.inf:
            self.now = max(self.now, due)
            for machine in self.machines:
                machine.handle_timeout(self.now)
                self.drain()
        if until < math.inf:
            self.now = max(self.now, until)

    def next_deadline(self) -> float:
        """When time must be told next."""
        return min(machine.deadline for machine in self.machines)

    def settle(self) -> None:
        """Carry everything until nothing is under way."""
        for _ in range(LONGEST):
            if not (self.is_dialling or any(self.is_busy(stream) for stream in self.streams)):
                return
            self.carry(up=True, size=10_000)
            self.carry(up=False, size=10_000)
            for stream in self.streams:
                if (
                    stream.server is not None
                    and stream.server.closed
                    and not stream.down
                    and not stream.client_has_left
                ):
                    stream.server = None
                    if stream is self.streams[-1] and not self.is_dialling:
                        self.break_at_client()
        raise AssertionError("client and server talk without end")

    def is_busy(self, stream: _Stream) -> bool:
        is_over = stream.server is not None and (stream.server.closed or stream.client_has_left)
        return bool(stream.up or (stream.down and not stream.client_has_left)) or is_over

    # ---------------------------------------------------------------------------------------------- the drivers

    def drain(self) -> None:
        """Flush both sides, and take their events."""
        while self._drain_client() or self._drain_servers():
            pass

    def _drain_client(self) -> bool:
        data = self.client.data_to_send()
        if self.streams and not self.streams[-1].client_has_left and not self.is_dialling:
            self.streams[-1].up += data
        event = self.client.next_event()
        if event is None:
            return False
        assert self.client not in self.ends, "an event behind Closed"
        match event:
            case Dial():
                self.leave()
                self.is_dialling = True
            case Closed():
                self.leave()
                self.is_dialling = False
                self.ends[self.client] = event
            case _:
                self.ledger.told_client(event)
        return True

    def _drain_servers(self) -> bool:
        for server in self.servers:
            stream = next((each for each in self.streams if each.server is server), None)
            data = server.data_to_send()
            if stream is not None:
                stream.down += data
            event = server.next_event()
            if event is None:
                continue
            assert server not in self.ends, "an event behind Closed"
            match event:
                case Closed():
                    self.ends[server] = event
                case Resumed(connection):
                    assert stream is not None, "what comes comes on a stream"
                    self._resume(connection, server, stream)
                case _:
                    self.ledger.told_server(server, event)
            return True
        return False

    def _resume(self, connection: ServerConnection, arrival: ServerConnection, stream: _Stream) -> None:
        old = next((each for each in self.streams if each.server is connection), None)
        closed = arrival.next_event()
        assert closed == Closed(None)
        self.ends[arrival] = closed
        connection.receive_data(b"", self.now)
        if old is not None:
            old.server = None
        stream.server = None  # nobody's, while the connection tells of its loss
        self.drain()
        connection.resume(arrival, now=self.now)
        stream.server = connection

    # ------------------------------------------------------------------------------------------------- the end

    def finish(self) -> None:
        """Let the network recover, see that all has arrived, and close."""
        self.client.reading_resumed(self.now)
        self.settle()
        server = self.partner
        if self.client.state is State.CONNECTED and server is not None and server.state is State.CONNECTED:
            self.ledger.check_complete(self.client)
        self.client.close(now=self.now)
        self.drain()
        self.settle()
        for _ in range(LONGEST):
            if self.next_deadline() == math.inf:
                break
            self.pass_time(self.next_deadline())
            for stream in self.streams:
                if stream.client_has_left:
                    self.break_at_server(stream)
        for machine in self.machines:
            assert machine.state is State.CLOSED, machine
            end = self.ends[machine]
            # Both keep to the protocol, and to each other's limits.
            assert not isinstance(end.error, RemoteProtocolError | LimitExceeded), end
        self.ledger.check_settled(self.client)
