"""Captured sessions of foreign implementations, replayed against the client; see `data/captures/README.md`.

Every capture is replayed: those over a WebSocket as they are, those over the other transports as `polled.bridged` makes
them, and every single answer of `raw-http` as an answer to a negotiate request and to a WebSocket request.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from urllib.parse import parse_qsl, urlsplit

import pytest

from captures import CLOSE, Capture, captures, split_head
from etorox_proto.signalr import (
    Closed,
    ConnectionLost,
    Dial,
    HubConfig,
    HubConnection,
    HubEvent,
    NegotiationFailed,
    RemoteProtocolError,
    UpgradeFailed,
)
from peers import read_json
from polled import bridged, is_polled, pieces
from replays import Message, Replay, Told, commands, fitting, hub_messages, story

HTTP_ONLY = "aspnetcore-3.1.2_raw-http"
SESSIONS = {
    name: bridged(capture) if is_polled(name) else capture for name, capture in captures().items() if name != HTTP_ONLY
}

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


@each(SESSIONS)
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
    assert ENDINGS.keys() <= SESSIONS.keys()


def test_no_capture_is_left_out() -> None:
    assert SESSIONS.keys() | {HTTP_ONLY} == captures().keys()
    assert len(captures()) == 68
    # A session that is carried over means something only if it carries messages both ways.
    assert sum(map(is_polled, captures())) == 5


@each(SESSIONS)
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


@each(SESSIONS)
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


@each(SESSIONS)
def test_the_websocket_is_closed_properly(capture: Capture) -> None:
    replay = Replay(capture, pieces=whole)
    match replay.told[-1]:
        case ("closed", "ConnectionLost", None):
            assert replay.close_codes == [], "the stream had ended already"
        case ("closed", "ConnectionLost", code):
            assert replay.close_codes == [code], "a close frame is answered with its own code"
        case _:
            assert replay.close_codes == [1000]


@each({name: capture for name, capture in SESSIONS.items() if name.endswith("_idle")})
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


@each(SESSIONS)
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


# --------------------------------------------------------------------------------------------------- compression


@each({name: capture for name, capture in SESSIONS.items() if capture.is_compressed})
def test_compressed_sessions_replay_as_they_travelled(capture: Capture) -> None:
    expected = Replay(capture, pieces=whole)
    for cut in (whole, bytewise):
        replay = Replay(capture, pieces=cut, compressed=True)
        assert replay.connection.is_compressed
        assert replay.told == expected.told
        assert [message for _, message in replay.sent] == [message for _, message in expected.sent]


def test_compression_is_not_left_out() -> None:
    agreed = [capture for capture in SESSIONS.values() if capture.is_compressed]
    used = [
        {turn.from_client for turn in turns for frame in turn.frames if frame.compressed}
        for _, _, turns in (capture.websocket() for capture in agreed)
    ]
    assert (len(agreed), used.count({False}), used.count({True})) == (11, 5, 2)


# ------------------------------------------------------------------------------------- the other transports


@each({name: capture for name, capture in captures().items() if is_polled(name)})
def test_what_other_transports_carried_is_all_carried_over(capture: Capture) -> None:
    exchanged = [piece for piece in pieces(capture) if piece.data and "/negotiate?" not in piece.target]
    _, _, turns = bridged(capture).websocket()
    for from_client, method in ((True, "POST"), (False, "GET")):
        carried = b"".join(piece.data for piece in exchanged if piece.method == method)
        assert carried == b"".join(
            frame.payload
            for turn in turns
            if turn.from_client is from_client
            for frame in turn.frames
            if frame.opcode != CLOSE
        )
    # Nothing else had a body; the first message of each side is its half of the handshake.
    assert {piece.method for piece in exchanged} == {"POST", "GET"}
    said, heard = (
        [message for turn in turns if turn.from_client is side for message in hub_messages(turn.frames)]
        for side in (True, False)
    )
    assert said[0] == {"protocol": capture.encoding, "version": 1}
    assert heard[0] == {}
    # What is common to the sessions called `full`, whoever took part.
    assert Counter(message["type"] for message in heard[1:] if message["type"] in {1, 2}) == {1: 1, 2: 5}
    asked = {message["invocationId"] for message in said[1:] if message["type"] in {1, 4} and "invocationId" in message}
    assert {message["invocationId"] for message in heard[1:] if message["type"] == 3} == asked


# --------------------------------------------------------------------------------------------------------- HTTP

ANSWERS = captures()[HTTP_ONLY]


def drained(connection: HubConnection) -> list[HubEvent]:
    events = []
    while (event := connection.next_event()) is not None:
        events.append(event)
    return events


def answered(answer: bytes, *, skip_negotiation: bool) -> list[HubEvent]:
    """The events of a client whose first request is answered so; at a 101 the key is made to fit."""
    connection = HubConnection(
        HubConfig(url="http://127.0.0.1:5041/streams/v1/KEY/signalr", skip_negotiation=skip_negotiation), now=0
    )
    connection.stream_opened(0)
    events = drained(connection)
    request, _ = split_head(connection.data_to_send())
    if skip_negotiation:
        answer = fitting(answer, request)
    for byte in answer:
        connection.receive_data(bytes([byte]), 0)
        events += drained(connection)
    if len(events) == 1:
        connection.receive_data(b"", 0)
        events += drained(connection)
    return events


@pytest.mark.parametrize("stream", ANSWERS.streams)
def test_every_answer_is_taken_as_one_to_a_negotiate_request(stream: int) -> None:
    answer = ANSWERS.sent(stream, from_client=False)
    head, body = split_head(answer)
    status = int(head.first.split(" ")[1])
    first, second = answered(answer, skip_negotiation=False)
    assert isinstance(first, Dial)
    if b"connectionId" in body:
        # The stream that is opened next is that of the WebSocket.
        assert second == first
        return
    assert isinstance(second, Closed)
    if status == 101:
        assert isinstance(second.error, RemoteProtocolError), "nobody proposed to switch"
    else:
        assert isinstance(second.error, NegotiationFailed)
        assert (read_json(body)["error"] if status == 200 else str(status)) in str(second.error)


@pytest.mark.parametrize("stream", ANSWERS.streams)
def test_every_answer_is_taken_as_one_to_a_websocket_request(stream: int) -> None:
    answer = ANSWERS.sent(stream, from_client=False)
    status = int(split_head(answer)[0].first.split(" ")[1])
    first, second = answered(answer, skip_negotiation=True)
    assert isinstance(first, Dial)
    assert isinstance(second, Closed)
    if status == 101:
        # Accepted, and then the captured client left without a handshake.
        assert isinstance(second.error, ConnectionLost)
    else:
        assert isinstance(second.error, UpgradeFailed)
        assert str(status) in str(second.error)
