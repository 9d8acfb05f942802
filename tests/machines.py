"""Scaffolding for tests of whole machines: joined in memory and virtual time, or driven by bytes made by hand.

`Pair` joins a client machine with `ServerConnection`s. `RawPeer` is one client whose server is the test itself, with
`http`, `frame` and `records` to write what a server may write, and what it must not. `picture` makes an event
comparable. Nothing here reads a clock or opens a socket.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Pong, TextMessage

import plain_msgpack
from etorox_proto import Credentials, EventReceived, ExchangeConfig, ExchangeConnection, Ready, SubscriptionEnded
from etorox_proto.signalr import (
    Closed,
    Completed,
    Connected,
    ConnectionTokens,
    Dial,
    HubConfig,
    HubConnection,
    InvocationReceived,
    ItemReceived,
    Limits,
    Resumed,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    State,
)
from etorox_proto.testing import accept_websocket, http_reply, websocket_frame
from etorox_proto.testing.laws import Subject

API_KEY = "0f8fad5b-d9cb-469f-a165-70867728950e"
NONCE = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
CORRELATION_ID = "16fd2706-8baf-433b-82eb-8c7fada847da"
UNIX_TIME = 1_600_000_000.0

Client = HubConnection | ExchangeConnection
Machine = HubConnection | ExchangeConnection | ServerConnection
ClientEvent = (
    Dial
    | Connected
    | ItemReceived
    | Completed
    | InvocationReceived
    | Closed
    | Ready
    | EventReceived
    | SubscriptionEnded
)
Chunking = Callable[[bytes], Iterable[bytes]]


class StubSigner:
    """Signs without a key, so that tests are fast; remembers what it was asked to sign."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def sign(self, payload: bytes, /) -> bytes:
        self.payloads.append(payload)
        return b"signed:" + hashlib.sha256(payload).digest()


# ------------------------------------------------------------------------------------------------- making machines


def hub(url: str = "https://hub.test/chat", *, now: float = 0.0, **config: Any) -> HubConnection:
    """A client of a hub, at its beginning."""
    return HubConnection(HubConfig(url=url, **config), now=now)


def exchange(
    host: str = "ex.test",
    *,
    now: float = 0.0,
    unix_time: float = UNIX_TIME,
    signer: Any = None,
    **config: Any,
) -> ExchangeConnection:
    """A client of the exchange, at its beginning."""
    return ExchangeConnection(
        ExchangeConfig(host, **config),
        Credentials(API_KEY, signer or StubSigner()),
        now=now,
        unix_time=unix_time,
        nonce=NONCE,
        correlation_id=CORRELATION_ID,
    )


def names() -> Iterator[str]:
    """Connection names, predictable and endless."""
    number = 0
    while True:
        number += 1
        yield f"name-{number}"


def server(*, now: float = 0.0, tokens: ConnectionTokens | None = None, **config: Any) -> ServerConnection:
    """A server's end of a fresh stream."""
    return ServerConnection(
        ServerConfig(**config), tokens=ConnectionTokens(names()) if tokens is None else tokens, now=now
    )


# ----------------------------------------------------------------------------------------------------- chunks


def whole(data: bytes) -> Iterable[bytes]:
    """All at once."""
    return [data] if data else []


def bytewise(data: bytes) -> Iterable[bytes]:
    """One byte after the other."""
    return [data[i : i + 1] for i in range(len(data))]


def chunks(seed: int) -> Chunking:
    """Pieces of random lengths, the same for the same seed."""
    source = random.Random(seed)

    def cut(data: bytes) -> Iterable[bytes]:
        start = 0
        while start < len(data):
            end = start + source.choice((1, 1, 2, 3, 7, 20, 100, 1000))
            yield data[start:end]
            start = end

    return cut


# -------------------------------------------------------------------------------------------------- observing


def take(machine: Any) -> list[Any]:
    """All events that wait."""
    events = []
    while (event := machine.next_event()) is not None:
        events.append(event)
    return events


# A comparable form of events and errors: calls by their ids.
picture: Callable[[Any], Any] = Subject.picture


# ----------------------------------------------------------------------------------------- a server written by hand


http, accept, frame = http_reply, accept_websocket, websocket_frame


def negotiated(connection_id: str = "shown", token: str = "secret-connection-token", **members: Any) -> bytes:
    """A usable response to a negotiate request; members that are None are left out."""
    answer: dict[str, Any] = {
        "negotiateVersion": 1,
        "connectionId": connection_id,
        "connectionToken": token,
        "availableTransports": [{"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}],
        **members,
    }
    return http(200, json.dumps({k: v for k, v in answer.items() if v is not None}).encode())


def records(*messages: Any) -> bytes:
    """Hub messages as they stand in a WebSocket message; bytes are taken as they are."""
    parts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in messages]
    return b"".join(part + b"\x1e" for part in parts)


def hub_frame(*messages: Any) -> bytes:
    """Hub messages in one WebSocket text frame."""
    return frame(records(*messages))


def packed(*messages: Any) -> bytes:
    """Hub messages in MessagePack as they stand in a WebSocket message; bytes are taken for the body of a record."""
    bodies = [
        each if isinstance(each, bytes) else plain_msgpack.pack(plain_msgpack.as_array(each)) for each in messages
    ]
    return plain_msgpack.framed(*bodies)


def packed_frame(*messages: Any) -> bytes:
    """Hub messages in MessagePack in one binary WebSocket frame."""
    return frame(packed(*messages), 2)


HANDSHAKE = hub_frame({})


def said(data: bytes) -> list[Any]:
    """What a client said in the frames after its WebSocket request, unmasked: hub messages, pongs, closes."""
    reader = WSConnection(ConnectionType.SERVER)
    headers = [(b"host", b"h"), (b"upgrade", b"websocket"), (b"connection", b"upgrade")]
    key = [(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"sec-websocket-version", b"13")]
    reader.initiate_upgrade_connection([*headers, *key], "/")
    reader.send(AcceptConnection())
    assert len(list(reader.events())) == 1, "the request itself"
    heard: list[Any] = []
    text = ""
    reader.receive_data(data)
    for event in reader.events():
        match event:
            case TextMessage():
                text += event.data
                *complete, text = text.split("\x1e")
                heard += map(json.loads, complete)
            case BytesMessage():
                bodies = plain_msgpack.split(bytes(event.data))
                heard += [plain_msgpack.as_json(plain_msgpack.unpack(body)) for body in bodies]
            case Pong():
                heard.append(("pong", bytes(event.payload)))
            case CloseConnection():
                heard.append(("close", int(event.code), event.reason))
            case _:
                heard.append(event)
    return heard


class RawPeer:
    """A client machine whose server is the test: `feed` it bytes, look at `events` and at what it `sent`.

    Args:
        client: the machine, at its beginning.
        chunking: how bytes for it are cut.
    """

    def __init__(self, client: Client, chunking: Chunking = whole) -> None:
        self.client = client
        self.chunking = chunking
        self.events: list[Any] = []
        self.sent = b""
        self.now = 0.0
        self.settle()

    def settle(self) -> None:
        """Flush and take events until nothing comes."""
        self.sent += self.client.data_to_send()
        self.events += take(self.client)

    def open(self) -> bytes:
        """Open the stream asked for last; the bytes that the client sends on it."""
        self.client.stream_opened(self.now)
        self.sent = b""
        self.settle()
        return self.sent

    def feed(self, data: bytes) -> None:
        """Bytes for the client, cut by the chunking."""
        for piece in self.chunking(data):
            self.client.receive_data(piece, self.now)
            self.settle()

    def end(self) -> None:
        """The stream ends."""
        self.client.receive_data(b"", self.now)
        self.settle()

    def wait_until_deadline(self) -> float:
        """Let time pass up to the next deadline, and tell the client; that time."""
        self.now = self.client.deadline
        self.client.handle_timeout(self.now)
        self.settle()
        return self.now

    def negotiate(self, response: bytes | None = None) -> None:
        """Open a stream and answer the negotiate request on it."""
        self.open()
        self.feed(negotiated() if response is None else response)

    def upgrade(self, after: bytes = b"", *headers: str) -> None:
        """Open a stream and accept the WebSocket request; `after` follows in the same piece."""
        self.feed(accept(self.open(), *headers) + after)

    def connect(self) -> None:
        """All the way to the end of the SignalR handshake."""
        self.negotiate()
        self.upgrade(HANDSHAKE)
        self.sent = b""

    def said(self) -> list[Any]:
        """What the client has said since the last step, unmasked; forgets it."""
        heard, self.sent = said(self.sent), b""
        return heard

    @property
    def error(self) -> Any:
        """The error of `Closed`, which must be the last event and the only one."""
        closings = [event for event in self.events if isinstance(event, Closed)]
        assert len(closings) == 1
        assert self.events[-1] is closings[0]
        return closings[0].error


def connected_peer(chunking: Chunking = whole, **config: Any) -> RawPeer:
    """A connected `HubConnection` whose server is the test; its events so far are forgotten."""
    peer = RawPeer(hub(**config), chunking)
    peer.connect()
    assert peer.client.state is State.CONNECTED
    peer.events.clear()
    return peer


def ready_peer(chunking: Chunking = whole, client: ExchangeConnection | None = None) -> RawPeer:
    """An `ExchangeConnection` after `Ready` whose server is the test; its events so far are forgotten."""
    peer = RawPeer(client or exchange(), chunking)
    peer.connect()
    peer.feed(hub_frame({"type": 3, "invocationId": "1", "result": {"status": "success"}}))
    assert isinstance(peer.events[-1], Ready)
    peer.events.clear()
    peer.sent = b""
    return peer


# ------------------------------------------------------------------------------------------ two machines, joined


class Pair:
    """A client machine and the servers that it dials, in memory and virtual time.

    Args:
        client: the machine, at its beginning.
        answer: called with the server, each of its events and the time; the application of the server.
        chunking: how bytes are cut, in either direction.
        config: members of `ServerConfig`.
    """

    def __init__(
        self,
        client: Client,
        *,
        answer: Callable[[ServerConnection, ServerEvent, float], None] | None = None,
        chunking: Chunking = whole,
        now: float = 0.0,
        **config: Any,
    ) -> None:
        self.client = client
        self.answer = answer
        self.chunking = chunking
        self.now = now
        self.config = ServerConfig(**config)
        self.tokens = ConnectionTokens(names())
        self.server: ServerConnection | None = None
        self.retired: list[ServerConnection] = []
        self.is_cut = False
        self.events: list[Any] = []
        self.server_events: list[Any] = []

    @property
    def partner(self) -> ServerConnection:
        """The server of the stream in use."""
        assert self.server is not None
        return self.server

    def drive(self) -> None:
        """Carry bytes and events until both sides are quiet."""
        while self._step():
            pass

    def _step(self) -> bool:
        moved = self._take_events()
        if self.server is None or self.is_cut:
            self.client.data_to_send()
            return moved
        server = self.server
        for sender, receiver in ((self.client, server), (server, self.client)):
            for piece in self.chunking(sender.data_to_send()):
                moved = True
                receiver.receive_data(piece, self.now)
                self._take_events()
                if self.server is not server:
                    return True
        if not moved and self.server.state is State.CLOSED:
            self.cut()
            return True
        return moved

    def _take_events(self) -> bool:
        moved = False
        while (event := self.client.next_event()) is not None:
            moved = True
            self.events.append(event)
            if isinstance(event, Dial):
                self._dial()
        while self.server is not None and (told := self.server.next_event()) is not None:
            moved = True
            self.server_events.append(told)
            if isinstance(told, Resumed):
                self._resume(told.connection)
            elif self.answer is not None:
                self.answer(self.server, told, self.now)
        return moved

    def _dial(self) -> None:
        self.is_cut = False
        if self.server is not None:
            self.server.receive_data(b"", self.now)
            self.server_events += take(self.server)
            self.retired.append(self.server)
        self.server = ServerConnection(self.config, tokens=self.tokens, now=self.now)
        self.client.stream_opened(self.now)

    def _resume(self, server: ServerConnection) -> None:
        """The client has come back to a server that it had before."""
        arrival, self.server = self.partner, server
        assert take(arrival) == [Closed(None)]
        self.retired.remove(server)
        server.resume(arrival, now=self.now)

    def cut(self) -> None:
        """End the stream for both sides; what is under way is lost."""
        self.is_cut = True
        self.client.receive_data(b"", self.now)
        self.partner.receive_data(b"", self.now)

    def advance(self, seconds: float) -> None:
        """Let virtual time pass, deadline by deadline."""
        end = self.now + seconds
        self.drive()
        while (due := self._deadline()) <= end:
            self.now = max(self.now, due)
            for machine in (self.client, self.server):
                if machine is not None:
                    machine.handle_timeout(self.now)
            self.drive()
        self.now = end

    def _deadline(self) -> float:
        return min(self.client.deadline, math.inf if self.server is None else self.server.deadline)


def joined(client: Client, **arguments: Any) -> Pair:
    """A client joined with its server, driven until both are quiet."""
    pair = Pair(client, **arguments)
    pair.drive()
    return pair


def obliging(server: ServerConnection, event: ServerEvent, now: float) -> None:
    """A server application: `setup` succeeds, `echo` gives its arguments, `fail` fails, streams stay open."""
    match event:
        case InvocationReceived(target="setup", invocation_id=str() as call):
            server.complete(call, result={"status": "success"}, now=now)
        case InvocationReceived(target="echo", invocation_id=str() as call):
            server.complete(call, result=event.arguments, now=now)
        case InvocationReceived(target="fail", invocation_id=str() as call):
            server.complete(call, error="as you like", now=now)
        case _:
            pass


LIMITS = Limits(record=500, websocket_message=1_000, http_head=1_500, http_body=1_500)


def after_negotiating(response: bytes, **config: Any) -> RawPeer:
    """A client with small limits whose negotiate request was answered so."""
    peer = RawPeer(hub(limits=LIMITS, **config))
    peer.negotiate(response)
    return peer


def after_upgrading(*headers: str, after: bytes = b"") -> RawPeer:
    """A client with small limits whose WebSocket was accepted with these headers; without a value one is left out."""
    peer = RawPeer(hub(limits=LIMITS))
    peer.negotiate()
    peer.upgrade(after, *headers)
    return peer
