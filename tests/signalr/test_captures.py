"""Captured sessions of foreign implementations, replayed against the client; see `data/captures/README.md`."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from urllib.parse import parse_qsl, urlsplit

import pytest

from captures import Capture, captures, split_head
from etorox_proto.signalr import JsonCodec, RecordReader, parse_handshake_response, parse_negotiate_response
from peers import read_json
from replays import Message, Replay, Told, commands, hub_messages, story

POLLED = {name for name in captures() if name.endswith(("_lp", "_sse"))}
HTTP_ONLY = {"aspnetcore-3.1.2_raw-http"}
WEBSOCKET = {name: capture for name, capture in captures().items() if name not in POLLED | HTTP_ONLY}
FOREIGN_CLIENT = {name: capture for name, capture in WEBSOCKET.items() if "_raw_" not in name}

# How each session must end that the client's own goodbye does not end. Read off the captures by eye.
BROKEN = "Connection closed with an error."
ENDINGS: dict[str, Told] = {
    "aspnetcore-2.2.2_aspnet-1.1.4_json_abort": ("ConnectionLost", 1000),
    "aspnetcore-2.2.2_aspnet-1.1.4_json_stopserver": ("ConnectionLost", 1000),
    "aspnetcore-3.1.2_dotnet-3.1.2_json_abort": ("ConnectionLost", 1000),
    "aspnetcore-3.1.2_microsoft-10.0.11_json_abort": ("ConnectionLost", 1000),
    "aspnetcore-3.1.2_microsoft-10.0.11_json_stopserver": ("ConnectionLost", None),
    "aspnetcore-3.1.2_microsoft-10.0.11_msgpack_stopserver": ("ConnectionLost", None),
    "aspnetcore-3.1.2_signalrcore-1.0.2_json_setup": (
        "HandshakeRefused",
        "The server does not support version 0 of the 'json' protocol.",
    ),
    "aspnetcore-3.1.2_raw_badhandshake": (
        "HandshakeRefused",
        "An unexpected error occurred during connection handshake.",
    ),
    "aspnetcore-3.1.2_raw_badmessage": ("ServerClosed", BROKEN, True),
    "aspnetcore-3.1.2_raw_badprotocol": ("HandshakeRefused", "The protocol 'nosuch' is not supported."),
    "aspnetcore-3.1.2_raw_badversion": (
        "HandshakeRefused",
        "The server does not support version 99 of the 'json' protocol.",
    ),
    "aspnetcore-3.1.2_raw_bigmessage": ("ServerClosed", BROKEN, True),
    "aspnetcore-3.1.2_raw_mute": ("ConnectionLost", None),
    "aspnetcore-3.1.2_raw_pingonce": ("ConnectionLost", 1000),
    "aspnetcore-3.1.2_raw_silent": ("HandshakeRefused", "Handshake was canceled."),
    "philippseith-0.11.0_microsoft-10.0.11_json_abort": (
        "ServerClosed",
        "breaking loop. hubConnection canceled: context canceled",
        True,
    ),
    "philippseith-0.11.0_microsoft-10.0.11_json_closeme": ("ServerClosed", "go away", True),
    "philippseith-0.11.0_raw_unknowntype": ("ServerClosed", "invalid message type {99}", True),
}


def whole(data: bytes) -> list[bytes]:
    return [data] if data else []


def bytewise(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


def each(chosen: dict[str, Capture]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("capture", list(chosen.values()), ids=list(chosen))


def meaning(message: Message) -> Message:
    """The message without what may as well be absent, and without a property that SignalR does not have."""
    kept = {name: value for name, value in message.items() if name != "extra"}
    return {name: value for name, value in kept.items() if value not in ({}, []) or name == "arguments"}


@each(WEBSOCKET)
def test_events_are_those_of_the_capture(capture: Capture) -> None:
    expected, ignored = story(capture)
    replay = Replay(capture, pieces=whole)
    assert replay.told == expected
    assert Counter(replay.connection.ignored) == ignored
    assert replay.told[-1] == ("closed", *ENDINGS.get(capture.name, (None,)))
    assert replay.connection.pending_calls == 0
    settled = [event[1] for event in replay.told if event[0] == "completed"]
    assert sorted(settled) == sorted(replay.calls)


def test_endings_name_real_captures_only() -> None:
    assert ENDINGS.keys() <= WEBSOCKET.keys()


@each(WEBSOCKET)
def test_requests_ask_for_what_the_foreign_client_asked_for(capture: Capture) -> None:
    replay = Replay(capture, pieces=whole)
    theirs = [split_head(capture.sent(capture.websocket_stream(), from_client=True))[0]]
    stream = capture.negotiate_stream()
    if stream is not None:
        theirs.insert(0, split_head(capture.sent(stream, from_client=True))[0])
    assert len(replay.requests) == len(replay.dials) == len(theirs)
    for ours, foreign in zip(replay.requests, theirs, strict=True):
        assert ours.first.split(" ")[0] == foreign.first.split(" ")[0]
        assert ours.headers.get("authorization") == foreign.headers.get("authorization")
        # signalrcore forgets the port in its second request.
        assert ours.headers["host"] == foreign.headers["host"] or "signalrcore" in capture.name
        assert urlsplit(ours.target).path == urlsplit(foreign.target).path
        query, wanted = ([*parse_qsl(urlsplit(head.target).query)] for head in (ours, foreign))
        # The clients of the 2.1 and 2.2 line do not know the parameter yet.
        added = [("negotiateVersion", "1")] if foreign.first.startswith("POST ") else []
        assert query == [*(pair for pair in wanted if pair not in added), *added]
    for dial in replay.dials:
        assert f"{dial.host}:{dial.port}" == replay.requests[0].headers["host"]


@each(WEBSOCKET)
def test_messages_mean_what_the_foreign_client_sent(capture: Capture) -> None:
    replay = Replay(capture, pieces=whole)
    _, _, turns = capture.websocket()
    handshake, *messages = [message for _, message in replay.sent]
    # signalrcore asks for version 0, and two of the hand-written clients for other things; this one cannot.
    assert handshake == {"protocol": capture.encoding, "version": 1}
    wanted = [message for said in commands(turns).values() for message in said]
    if replay.told[0][0] != "connected" or capture.name == "philippseith-0.11.0_raw_unknowntype":
        wanted = []  # refused at the handshake, or closed by the server before it got to the call
    # Before .NET 8 clients ended with the WebSocket's close frame alone; ours, and the current ones, say goodbye first.
    ours = [meaning(message) for message in messages if message["type"] not in {6, 7}]
    assert ours == [meaning(message) for message in wanted if message["type"] != 7]
    goodbyes = [message for message in messages if message["type"] == 7]
    assert goodbyes == ([{"type": 7}] if replay.told[-1] == ("closed", None) else [])


@each(WEBSOCKET)
def test_the_websocket_is_closed_properly(capture: Capture) -> None:
    replay = Replay(capture, pieces=whole)
    match replay.told[-1]:
        case ("closed", "ConnectionLost", None):
            assert replay.close_codes == [], "the stream had ended already"
        case ("closed", "ConnectionLost", code):
            assert replay.close_codes == [code], "a close frame is answered with its own code"
        case _:
            assert replay.close_codes == [1000]


@each({name: capture for name, capture in WEBSOCKET.items() if name.endswith("_idle")})
def test_an_idle_client_keeps_itself_alive(capture: Capture) -> None:
    replay = Replay(capture, pieces=whole)
    times = [time for time, _ in replay.sent]
    assert times[-1] > 36
    assert max(later - earlier for earlier, later in pairwise(times)) <= 15
    pings = [time for time, message in replay.sent if message == {"type": 6}]
    # The TypeScript client pings after the handshake, then 15 s after the last message, as ours does.
    _, _, turns = capture.websocket()
    theirs = [t.time for t in turns if t.from_client and hub_messages(t.frames) == [{"type": 6}]]
    if "microsoft-10" in capture.name:
        assert pings == pytest.approx(theirs, abs=0.1)


@each(WEBSOCKET)
def test_chunks_do_not_matter(capture: Capture) -> None:
    expected = Replay(capture, pieces=whole)
    for replay in (
        Replay(capture, pieces=bytewise),
        Replay(capture, pieces=whole, bursts=True),
        Replay(capture, pieces=bytewise, bursts=True),
    ):
        assert replay.told == expected.told
        assert replay.dials == expected.dials
        assert replay.connection.ignored == expected.connection.ignored


# ------------------------------------------------------------------------------------- the other transports


@each({name: captures()[name] for name in POLLED})
def test_polled_sessions_decode(capture: Capture) -> None:
    exchanges = [exchange for stream in capture.streams for exchange in capture.exchanges(stream)]
    negotiation = [exchange for exchange in exchanges if "/negotiate?" in exchange.target]
    assert len(negotiation) == 1
    response = parse_negotiate_response(negotiation[0].body)
    assert response.offers("WebSockets", "Text")
    assert response.connect_id is not None
    connected = [exchange for exchange in exchanges if f"id={response.connect_id}" in exchange.target]
    assert len(connected) == len(exchanges) - 1

    # The client's half: one POST after the other, on whichever stream was free, so each for itself.
    said = [record for each in connected if each.method == "POST" for record in records_in(each.request_body)]
    assert b'{"protocol":"json","version":1}' in said
    # The server's half: the bodies of the polls, or the data of the one event stream.
    heard = [record for each in connected if each.method == "GET" for record in records_in(undone(each.body))]
    parse_handshake_response(heard.pop(0))
    kinds = Counter(type(JsonCodec(strict=True).decode(record)).__name__ for record in heard)
    assert (kinds["StreamItem"], kinds["Invocation"]) == (5, 1)
    answered = {read_json(record)["invocationId"] for record in heard if read_json(record)["type"] == 3}
    messages = [read_json(record) for record in said if b"protocol" not in record]
    asked = {message["invocationId"] for message in messages if message["type"] in {1, 4} and "invocationId" in message}
    assert answered == asked
    for record in said:
        if b"protocol" not in record:
            JsonCodec(strict=True).decode(record)


def records_in(body: bytes) -> list[bytes]:
    reader = RecordReader(65_536)
    records = reader.feed(body)
    assert reader.incomplete == b""
    return records


def undone(body: bytes) -> bytes:
    """The payload of an event stream, or of a poll as it is."""
    if not body.startswith((b":", b"data:")):
        return body
    # One server ends its lines with CR LF, the other with LF.
    lines = [line.rstrip(b"\r") for line in body.split(b"\n")]
    return b"".join(line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: "))
