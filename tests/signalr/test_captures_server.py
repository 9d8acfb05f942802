"""Captured sessions of foreign clients, replayed against the server; see `data/captures/README.md`.

The bytes of the clients go in as they travelled. In the sessions of real clients the application is scripted: it
answers what the captured hub answered, when it did, and what leaves must mean the same. In the hand-written sessions
the server's own behaviour is compared with that of the captured server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from captures import BINARY, CLOSE, TEXT, Capture, Frame, FrameReader, Head, captures, split_head
from etorox_proto.signalr import (
    CancelReceived,
    Closed,
    Connected,
    ConnectionTokens,
    InvocationReceived,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    State,
    UploadEnded,
    UploadItemReceived,
)
from peers import read_json
from polled import bridged, is_polled
from replays import Message, commands, hub_messages, negotiated

HTTP_ONLY = "aspnetcore-3.1.2_raw-http"
SESSIONS = [bridged(c) if is_polled(name) else c for name, c in captures().items() if name != HTTP_ONLY]
RAW = [c for c in SESSIONS if "_raw_" in c.name or "signalrcore" in c.name]
CLIENTS = [c for c in SESSIONS if c not in RAW]

WAYS: dict[str, Callable[[bytes], list[bytes]]] = {
    "whole": lambda data: [data],
    "bytewise": lambda data: [bytes([byte]) for byte in data],
}


def each(chosen: list[Capture]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("capture", chosen, ids=[capture.name for capture in chosen])


def contents(frame: Frame) -> list[Any]:
    """What a frame of a server's holds: hub messages, the code of a close, the payload of a pong."""
    if frame.opcode in {TEXT, BINARY}:
        return list(hub_messages([frame]))
    return [("close", frame.close_code) if frame.opcode == CLOSE else ("pong", frame.payload)]


class Stream:
    """One byte stream of the server, fed by hand.

    Attributes:
        head: of the last HTTP response.
        body: what followed the head, where it was no WebSocket.
        events: reported so far.
        sent: the `contents` of its frames, in order, each with its time.
        compression: whether it agrees to compress, and its client's frames come as they travelled.
    """

    def __init__(
        self,
        tokens: ConnectionTokens,
        cut: Callable[[bytes], list[bytes]] = WAYS["whole"],
        *,
        compression: bool = False,
    ) -> None:
        config = ServerConfig(serves="/streams/v1/KEY/signalr".__eq__, compression=compression)
        self.server = ServerConnection(config, tokens=tokens, now=0)
        self.compression = compression
        self.now = 0.0
        self._cut = cut
        self._frames: FrameReader | None = None
        self.head: Head | None = None
        self.body = b""
        self.events: list[ServerEvent] = []
        self.sent: list[tuple[float, Any]] = []

    @property
    def said(self) -> list[Any]:
        """What was sent, pings aside."""
        return [message for _, message in self.sent if message != {"type": 6}]

    def advance(self, until: float) -> None:
        while self.server.deadline <= until:
            self.now = self.server.deadline
            self.server.handle_timeout(self.now)
            self.drain()
        self.now = until

    def feed(self, data: bytes) -> None:
        for piece in self._cut(data) if data else [b""]:
            self.server.receive_data(piece, self.now)
            self.drain()

    def drain(self) -> None:
        while True:
            data = self.server.data_to_send()
            if data and self._frames is None:
                self.head, self.body = split_head(data)
                if "upgrade" in self.head.headers:
                    self._frames, data = FrameReader(), self.body
            if data and self._frames is not None:
                self.sent += [(self.now, each) for frame in self._frames.feed(data) for each in contents(frame)]
            event = self.server.next_event()
            if event is not None:
                self.events.append(event)
            elif not data:
                return


def tokens_for(capture: Capture) -> ConnectionTokens:
    """A table that gives away the ids that the captured server gave."""
    response = negotiated(capture)
    connection_id: str = response.get("connectionId", "nobody")
    token: str = response.get("connectionToken", connection_id)
    # A 2.x server answered version 0 to a client that asked for 1; this one will answer 1, with the same id to use.
    return ConnectionTokens(iter([connection_id, token]))


def negotiate(capture: Capture, tokens: ConnectionTokens) -> None:
    """Replay the negotiation, if there was one, and compare the answers."""
    stream = capture.negotiate_stream()
    if stream is None:
        return
    server = Stream(tokens)
    data = capture.sent(stream, from_client=True)
    server.feed(data)
    assert server.head is not None
    assert server.head.first == "HTTP/1.1 200 OK"
    answer: Message = read_json(server.body)
    captured: Message = {"negotiateVersion": 0} | negotiated(capture)
    assert answer.pop("availableTransports") == [{"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}]
    assert {"transport": "WebSockets", "transferFormats": ["Text", "Binary"]} in captured.pop("availableTransports")
    if "2.2.2_dotnet" in capture.name:
        assert (answer.pop("negotiateVersion"), captured.pop("negotiateVersion")) == (1, 0)
        assert answer.pop("connectionToken") == captured["connectionId"]
    assert answer == captured
    server.feed(b"")
    assert server.events == [Closed(None)]


def play(capture: Capture, stream: Stream, application: Callable[[Stream, Message], None]) -> None:
    """Feed the client's turns; show the server's captured messages to the application when their time comes."""
    request, _, turns = capture.websocket(as_it_travelled=stream.compression)
    stream.feed(request.raw)
    for turn in turns:
        stream.advance(turn.time)
        if turn.from_client and (turn.data or turn.end):
            stream.feed(turn.data)
        elif not turn.from_client:
            for message in hub_messages(turn.frames):
                application(stream, message)
                stream.drain()


# ------------------------------------------------------------------------------------ sessions of real clients


def scripted(stream: Stream, message: Message) -> None:
    """Do what the captured hub did."""
    server, now = stream.server, stream.now
    received = {event.invocation_id for event in stream.events if isinstance(event, InvocationReceived)}
    # The Go server completes a failed call twice.
    received -= {each["invocationId"] for each in stream.said if isinstance(each, dict) and each.get("type") == 3}
    match message:
        case {"type": 1, "target": target, "arguments": arguments}:
            server.send(target, arguments, now=now)
        case {"type": 2, "invocationId": invocation_id, "item": item}:
            server.send_item(invocation_id, item, now=now)
        case {"type": 3, "invocationId": invocation_id} if invocation_id in received:
            outcome = {name: message[name] for name in ("result", "error") if name in message}
            server.complete(invocation_id, **outcome, now=now)
        case {"type": 7} if server.state is State.CONNECTED:
            server.close(error=message.get("error"), allow_reconnect=message.get("allowReconnect", False), now=now)
        case _:
            pass


# The connections that do not end with the client's close frame with code 1000 or without a code.
LOST = {
    "aspnetcore-3.1.2_microsoft-10.0.11_json_stopserver": None,
    "aspnetcore-3.1.2_microsoft-10.0.11_msgpack_stopserver": None,
    "aspnetcore-3.1.2_pysignalr-1.3.3_json_setup": 1011,
}


def as_message(event: ServerEvent) -> Message:
    """What the client must have said."""
    match event:
        case InvocationReceived():
            return {
                "type": 4 if event.streaming else 1,
                "invocationId": event.invocation_id,
                "target": event.target,
                "arguments": event.arguments,
                "streamIds": list(event.uploads),
                "headers": event.headers,
            }
        case CancelReceived(invocation_id):
            return {"type": 5, "invocationId": invocation_id}
        case UploadItemReceived(stream_id, item):
            return {"type": 2, "invocationId": stream_id, "item": item}
        case UploadEnded(stream_id, error):
            return {"type": 3, "invocationId": stream_id, "error": error}
        case _:
            raise AssertionError(event)


def without_empty(message: Message) -> Message:
    """The message without what may as well be absent."""
    return {
        name: value for name, value in message.items() if value not in (None, {}, []) or name in {"arguments", "item"}
    }


def is_completion_of(message: Message, other: Message) -> bool:
    return (other.get("type"), other.get("invocationId")) == (3, message["invocationId"])


@pytest.mark.parametrize("cut", WAYS.values(), ids=list(WAYS))
@each(CLIENTS)
def test_foreign_clients_are_served(capture: Capture, cut: Callable[[bytes], list[bytes]]) -> None:
    tokens = tokens_for(capture)
    negotiate(capture, tokens)
    stream = Stream(tokens, cut)
    play(capture, stream, scripted)
    request, response, turns = capture.websocket()

    # The acceptance answers the foreign key, as the foreign server's did.
    assert stream.head is not None
    assert stream.head.headers["sec-websocket-accept"] == response.headers["sec-websocket-accept"]
    assert stream.server.query == [tuple(part.split("=", 1)) for part in request.target.partition("?")[2].split("&")]

    first, *events, last = stream.events
    assert first == Connected(negotiated(capture).get("connectionId", "nobody"))
    asked = [m for said in commands(turns).values() for m in said if m["type"] != 7]
    told = [without_empty(as_message(event)) for event in events]
    assert told == [without_empty(m) for m in asked]
    assert isinstance(last, Closed)
    if capture.name in LOST:
        assert getattr(last.error, "code", "no error") == LOST[capture.name]
    else:
        assert last.error is None

    captured: list[Message] = [
        message for turn in turns if not turn.from_client for message in hub_messages(turn.frames)
    ]
    ours: list[Message] = [message for message in stream.said if isinstance(message, dict)]
    goodbye_first = any({"type": 7} in hub_messages(turn.frames) for turn in turns if turn.from_client)
    # A server before .NET 8 answers the goodbye of a newer client with an error; there is no answer here.
    unwanted = {6, 7} if goodbye_first else {6}
    assert (
        ours
        == [
            m
            for index, m in enumerate(captured)
            if m.get("type") not in unwanted
            # The Go server completes a failed call twice.
            and (m.get("type") != 3 or not any(is_completion_of(m, before) for before in captured[:index]))
        ]
    )
    assert len(tokens) == 0


@each([capture for capture in CLIENTS if capture.name.endswith("_idle")])
def test_an_idle_server_keeps_itself_alive(capture: Capture) -> None:
    stream = Stream(tokens := tokens_for(capture))
    negotiate(capture, tokens)
    play(capture, stream, scripted)
    connected = stream.sent[0][0]
    pings = [time - connected for time, message in stream.sent if message == {"type": 6}]
    assert pings == pytest.approx([15, 30])


# ---------------------------------------------------------------------------------------- hand-written sessions

BROKEN = {"type": 7, "error": "Connection closed with an error.", "allowReconnect": True}
# Where this server means to differ from the captured one: what it says instead.
DIFFERENT: dict[str, list[Any]] = {
    # Since .NET 8 a Close message is how a client says goodbye.
    "aspnetcore-3.1.2_raw_clientclose": [{}, ("close", 1000)],
    # The captured server forgets to look at what follows an unknown message until more arrives.
    "aspnetcore-3.1.2_raw_unknowntype": [{}, {"type": 3, "invocationId": "7", "result": 3}, ("close", 1000)],
    # The captured server closes a client that it no longer hears without a word.
    "aspnetcore-3.1.2_raw_pingonce": [{}, BROKEN, ("close", 1000)],
    # The Go server loses what comes in one frame with the handshake.
    "philippseith-0.11.0_raw_batched": [{}, {"type": 3, "invocationId": "1", "result": 3}, ("close", 1000)],
    # The Go server ends at an unknown message. The call and the client's close frame come at once.
    "philippseith-0.11.0_raw_unknowntype": [{}, ("close", 1005)],
}
ENDINGS = {
    "badhandshake": "HandshakeRefused",
    "badmessage": "RemoteProtocolError",
    "badprotocol": "HandshakeRefused",
    "badversion": "HandshakeRefused",
    "bigmessage": "LimitExceeded",
    "mute": "ConnectionLost",
    "pingonce": "TimedOut",
    "setup": "HandshakeRefused",
    "silent": "HandshakeRefused",
}


def calculator(stream: Stream) -> None:
    """The hub of the hand-written sessions; they call nothing else."""
    for event in stream.events:
        if isinstance(event, InvocationReceived) and event.invocation_id is not None:
            assert event.target.lower() == "add"
            stream.server.complete(event.invocation_id, result=sum(event.arguments), now=stream.now)
    stream.drain()


@pytest.mark.parametrize("cut", WAYS.values(), ids=list(WAYS))
@each(RAW)
def test_strange_clients_are_answered_as_by_the_captured_server(
    capture: Capture, cut: Callable[[bytes], list[bytes]]
) -> None:
    tokens = tokens_for(capture)
    negotiate(capture, tokens)
    stream = Stream(tokens, cut)
    request, _, turns = capture.websocket()
    stream.feed(request.raw)
    for turn in turns:
        stream.advance(turn.time)
        if turn.from_client and (turn.data or turn.end):
            stream.feed(turn.data)
            if stream.server.state is State.CONNECTED and len(stream.said) == 1:
                calculator(stream)
    session = capture.name.rpartition("_")[2]
    theirs = [each for turn in turns if not turn.from_client for frame in turn.frames for each in contents(frame)]
    assert stream.said == DIFFERENT.get(capture.name, [each for each in theirs if each != {"type": 6}])
    last = stream.events[-1]
    assert isinstance(last, Closed)
    assert type(last.error).__name__ == ENDINGS.get(session, "NoneType")
    assert len(tokens) == 0


@pytest.mark.parametrize("cut", WAYS.values(), ids=list(WAYS))
@each([capture for capture in SESSIONS if capture.is_compressed])
def test_compressed_sessions_are_served_as_they_travelled(
    capture: Capture, cut: Callable[[bytes], list[bytes]]
) -> None:
    streams = []
    for compression in (False, True):
        tokens = tokens_for(capture)
        negotiate(capture, tokens)
        stream = Stream(tokens, cut, compression=compression)
        play(capture, stream, scripted)
        assert stream.server.is_compressed == compression
        streams.append(stream)
    plain, compressed = streams
    assert compressed.events[:-1] == plain.events[:-1]
    assert repr(compressed.events[-1]) == repr(plain.events[-1])
    assert compressed.sent == plain.sent


def test_no_capture_is_left_out() -> None:
    """Each is served in one of the three tests of this module; how many there are is pinned where clients replay."""
    assert sorted([*(capture.name for capture in CLIENTS + RAW), HTTP_ONLY]) == sorted(captures())


def test_tables_name_real_sessions_only() -> None:
    sessions = {capture.name.rpartition("_")[2] for capture in RAW}
    assert DIFFERENT.keys() <= {capture.name for capture in RAW}
    assert ENDINGS.keys() <= sessions
    assert LOST.keys() <= {capture.name for capture in CLIENTS}


# --------------------------------------------------------------------------------------------------------- HTTP

# Requests to which this server means to answer otherwise than ASP.NET Core 3.1.2, by stream.
OTHERWISE = {
    0: 200,  # a POST without Content-Length has no body
    8: 404,  # the hub's path asked without a WebSocket: the other transports are not here
    11: 404,
    14: 404,
}


def test_strange_requests_are_answered_as_by_the_captured_server() -> None:
    capture = captures()[HTTP_ONLY]
    bodies = {stream: split_head(capture.sent(stream, from_client=False))[1] for stream in capture.streams}
    named = [read_json(body) for body in bodies.values() if b"connectionId" in body]
    names = ["surplus", *(each[key] for each in named for key in ("connectionId", "connectionToken") if key in each)]
    tokens = ConnectionTokens(iter(names))  # the first is for the request without Content-Length
    kept = []
    for stream in capture.streams:
        server = Stream(tokens)
        server.feed(capture.sent(stream, from_client=True))
        captured, _ = split_head(capture.sent(stream, from_client=False))
        expected = OTHERWISE.get(stream, int(captured.first.split(" ")[1]))
        assert server.head is not None
        assert (stream, int(server.head.first.split(" ")[1])) == (stream, expected)
        if b"connectionId" in bodies[stream]:
            ours, theirs = read_json(server.body), read_json(bodies[stream])
            assert ours.pop("availableTransports") != theirs.pop("availableTransports")
            assert ours == theirs
        elif b'"error"' in bodies[stream]:
            # The wording changed after 3.1; the shape did not.
            assert list(read_json(server.body)) == list(read_json(bodies[stream])) == ["error"]
        kept.append(server)
    assert len(tokens) == 1
