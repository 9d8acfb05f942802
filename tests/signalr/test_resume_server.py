"""Stateful reconnect, the server's side: what it grants, how it waits, and how a client finds its connection again."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from etorox_proto.signalr import (
    CallLost,
    Closed,
    Completed,
    Connected,
    ConnectionClosed,
    ConnectionLost,
    ConnectionTokens,
    Detached,
    HandshakeRefused,
    HubConnection,
    InvocationReceived,
    LimitExceeded,
    Limits,
    LocalProtocolError,
    RemoteProtocolError,
    Resumed,
    ServerConfig,
    ServerConnection,
    State,
    TimedOut,
)
from machines import Pair, bytewise, frame, hub, joined, names, obliging, packed, records, server, take, whole

NEGOTIATE = "POST /hub/negotiate?{} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
UPGRADE = (
    "GET /hub?id={} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Site:
    """A server that may resume, driven by bytes made by hand."""

    def __init__(self, *, chunking: Any = whole, encoding: str = "json", **config: Any) -> None:
        self.config = {"stateful_reconnect": True, **config}
        self.chunking = chunking
        self.encoding = encoding
        self.tokens = ConnectionTokens(names())
        self.now = 0.0

    def stream(self) -> ServerConnection:
        return server(now=self.now, tokens=self.tokens, **self.config)

    def negotiate(self, query: str = "negotiateVersion=1&useStatefulReconnect=true") -> dict[str, Any]:
        machine = self.stream()
        machine.receive_data(NEGOTIATE.format(query).encode(), self.now)
        answer: dict[str, Any] = json.loads(machine.data_to_send().partition(b"\r\n\r\n")[2])
        return answer

    def feed(self, machine: ServerConnection, data: bytes) -> None:
        for piece in self.chunking(data):
            machine.receive_data(piece, self.now)

    def say(self, *messages: Any) -> bytes:
        """A client says this, in one WebSocket message."""
        if self.encoding == "messagepack":
            return frame(packed(*messages), 2, masked=True)
        return frame(records(*messages), masked=True)

    def shake(self, connect_id: str, version: int = 2) -> ServerConnection:
        """A stream on which the client opens its WebSocket and shakes hands."""
        machine = self.stream()
        handshake = frame(records({"protocol": self.encoding, "version": version}), masked=True)
        self.feed(machine, UPGRADE.format(connect_id).encode() + handshake)
        return machine

    def connect(self) -> tuple[str, ServerConnection]:
        """A connection that may be resumed, everything flushed; and the id that finds it."""
        connect_id = self.negotiate()["connectionToken"]
        machine = self.shake(connect_id)
        machine.data_to_send()
        assert [type(event) for event in take(machine)] == [Connected]
        assert machine.is_stateful
        return connect_id, machine

    def arrive(self, connect_id: str, *messages: Any) -> ServerConnection:
        """A stream on which a client comes back, with the first that it says behind its request."""
        machine = self.stream()
        self.feed(machine, UPGRADE.format(connect_id).encode() + (self.say(*messages) if messages else b""))
        return machine


def heard(machine: ServerConnection) -> list[Any]:
    """What the server has to say on a stream, the upgrade included."""
    data = machine.data_to_send()
    found: list[Any] = []
    if data.startswith(b"HTTP/1.1 101 "):
        found, data = [101], data.partition(b"\r\n\r\n")[2]
    while data:
        size = data[1]
        start = 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        payload, data = data[start : start + size], data[start + size :]
        found += [json.loads(record) for record in payload.split(b"\x1e")[:-1]] or [payload]
    return found


def sequence(number: int) -> dict[str, int]:
    return {"type": 9, "sequenceId": number}


def ack(number: int) -> dict[str, int]:
    return {"type": 8, "sequenceId": number}


def call(number: int) -> dict[str, Any]:
    return {"type": 1, "target": "t", "arguments": [number], "invocationId": str(number)}


def where(machine: ServerConnection) -> State:
    return machine.state


def called(events: list[Any]) -> list[Any]:
    return [event.arguments[0] for event in events if isinstance(event, InvocationReceived)]


# ------------------------------------------------------------------------------------------------------- agreement


@pytest.mark.parametrize(
    ("query", "granted"),
    [
        ("negotiateVersion=1&useStatefulReconnect=true", True),
        ("NEGOTIATEVERSION=5&usestatefulreconnect=True", True),
        ("negotiateVersion=1&useStatefulReconnect=false", False),
        ("negotiateVersion=1&useStatefulReconnect=", False),
        ("negotiateVersion=1", False),
        ("negotiateVersion=0&useStatefulReconnect=true", False),
        ("useStatefulReconnect=true", False),
    ],
)
def test_it_is_granted_to_who_asks_and_has_a_secret_name(query: str, granted: bool) -> None:
    assert Site().negotiate(query).get("useStatefulReconnect", False) == granted
    assert "useStatefulReconnect" not in Site(stateful_reconnect=False).negotiate(query)


@pytest.mark.parametrize("version", [0, 2, 3, -1])
def test_a_server_without_it_refuses_other_versions_in_the_usual_words(version: int) -> None:
    site = Site(stateful_reconnect=False)
    machine = site.shake(site.negotiate()["connectionToken"], version)
    (closed,) = take(machine)
    assert isinstance(closed.error, HandshakeRefused)
    assert str(closed.error) == f"The server does not support version {version} of the 'json' protocol."


def test_a_server_with_it_accepts_both_versions() -> None:
    site = Site()
    assert site.connect()[1].is_stateful
    machine = site.shake(site.negotiate()["connectionToken"], 1)
    assert where(machine) is State.CONNECTED
    assert not machine.is_stateful
    machine = site.shake(site.negotiate("negotiateVersion=1")["connectionToken"], 2)
    assert where(machine) is State.CONNECTED
    assert not machine.is_stateful
    machine = site.shake(site.negotiate()["connectionToken"], 3)
    assert where(machine) is State.CLOSED


def test_resume_timeout_is_a_time() -> None:
    with pytest.raises(LocalProtocolError, match="resume_timeout"):
        ServerConfig(resume_timeout=0)


# ------------------------------------------------------------------------------------------------ detached, resumed


@pytest.mark.parametrize("chunking", [whole, bytewise])
def test_a_client_comes_back(chunking: Any) -> None:
    site = Site(chunking=chunking)
    connect_id, first = site.connect()
    site.feed(first, site.say(call(1), call(2)))
    assert called(take(first)) == [1, 2]
    first.complete("1", result="one", now=0.0)
    assert heard(first) == [{"type": 3, "invocationId": "1", "result": "one"}]
    first.receive_data(b"", 1.0)
    assert where(first) is State.RESUMING
    assert take(first) == [Detached()]
    assert first.deadline == 16.0
    first.complete("2", result="two", now=2.0)
    assert first.data_to_send() == b""
    site.now = 3.0
    second = site.arrive(connect_id, sequence(2), call(2), call(3))
    assert take(second) == [Resumed(first), Closed(None)]
    assert second.deadline == math.inf
    first.resume(second, now=3.0)
    assert heard(first) == [
        *(101, sequence(1)),
        {"type": 3, "invocationId": "1", "result": "one"},
        {"type": 3, "invocationId": "2", "result": "two"},
    ]
    rest = site.say(sequence(2), call(2), call(3))
    if chunking is bytewise:  # what comes behind the request in pieces of its own is not the other object's
        site.feed(first, rest)
    assert called(take(first)) == [3]
    assert where(first) is State.CONNECTED
    first.handle_timeout(4.0)
    assert heard(first) == [ack(3)]
    site.feed(first, site.say(ack(2)))
    assert first.unacknowledged_bytes == 0


def test_the_101_may_leave_before_or_after_it_is_taken_over() -> None:
    site = Site()
    connect_id, first = site.connect()
    first.receive_data(b"", 0.0)
    take(first)
    second = site.arrive(connect_id, sequence(1))
    assert heard(second) == [101]
    first.resume(second, now=0.0)
    assert heard(first) == [sequence(1)]
    assert where(first) is State.CONNECTED


def test_a_new_stream_takes_the_place_of_one_that_is_there_still() -> None:
    """The client knows earlier than the server that a stream is dead."""
    site = Site()
    connect_id, first = site.connect()
    second = site.arrive(connect_id)
    assert take(second)[0] == Resumed(first)
    assert where(first) is State.CONNECTED, "nothing has happened to it yet"
    with pytest.raises(LocalProtocolError, match="expected a connection that has told of the loss of its stream"):
        first.resume(second, now=0.0)
    first.receive_data(b"", 0.0)
    with pytest.raises(LocalProtocolError, match="expected a connection that has told of the loss of its stream"):
        first.resume(second, now=0.0)
    assert take(first) == [Detached()]
    first.resume(second, now=0.0)
    site.feed(first, site.say(sequence(1), call(7)))
    assert called(take(first)) == [7]


def test_a_stream_is_taken_over_once_and_by_whom_it_belongs_to() -> None:
    site = Site()
    (connect_id, first), (_, other) = site.connect(), site.connect()
    for machine in (first, other):
        machine.receive_data(b"", 0.0)
        take(machine)
    second = site.arrive(connect_id)
    before = (other.state, other.deadline, other.queued_bytes)
    for stranger in (second, other, first, site.stream()):
        with pytest.raises(LocalProtocolError, match="expected the object that has just said Resumed"):
            other.resume(stranger, now=0.0)
    assert (other.state, other.deadline, other.queued_bytes) == before
    first.resume(second, now=0.0)
    first.receive_data(b"", 0.0)
    take(first)
    with pytest.raises(LocalProtocolError, match="expected the object that has just said Resumed"):
        first.resume(second, now=0.0)


def test_who_is_not_taken_over_disturbs_nobody() -> None:
    site = Site()
    connect_id, first = site.connect()
    second = site.arrive(connect_id)
    assert take(second)[-1] == Closed(None)
    second.receive_data(b"x", 0.0)
    second.receive_data(b"", 0.0)
    assert where(first) is State.CONNECTED
    assert len(site.tokens) == 1
    third = site.arrive(connect_id)
    assert take(third)[0] == Resumed(first)


def test_the_client_may_break_off_again_and_again_but_time_runs_on() -> None:
    site = Site()
    connect_id, first = site.connect()
    first.receive_data(b"", 0.0)
    take(first)
    for moment in (1.0, 5.0, 14.0):
        site.now = moment
        first.resume(site.arrive(connect_id), now=moment)
        assert where(first) is State.RESUMING
        first.receive_data(b"", moment)
        assert take(first) == [Detached()]
        assert first.deadline == 15.0
    first.handle_timeout(15.0)
    (closed,) = take(first)
    assert isinstance(closed.error, ConnectionLost)
    assert str(closed.error) == "the byte stream was lost, and not resumed within 15 s"
    assert len(site.tokens) == 0


def test_a_client_that_comes_back_and_does_not_say_where_it_goes_on_is_given_up() -> None:
    site = Site(resume_timeout=2.0)
    connect_id, first = site.connect()
    site.feed(first, site.say(call(1)))
    first.receive_data(b"", 0.0)
    take(first)
    first.resume(site.arrive(connect_id), now=1.0)
    site.feed(first, site.say({"type": 6}, call(2)))
    assert called(take(first)) == []
    first.handle_timeout(2.0)
    assert isinstance(take(first)[-1].error, ConnectionLost)
    assert heard(first)[-1] == b"\x03\xe8"


def test_who_comes_too_late_finds_nothing() -> None:
    site = Site()
    connect_id, first = site.connect()
    first.receive_data(b"", 0.0)
    first.handle_timeout(first.deadline)
    assert site.arrive(connect_id).data_to_send().startswith(b"HTTP/1.1 404 ")
    second = site.stream()
    assert where(second) is State.NEGOTIATING
    with pytest.raises(ConnectionClosed):
        first.resume(second, now=20.0)


@pytest.mark.parametrize("version", [1, 2])
def test_without_the_grant_an_id_in_use_is_refused(version: int) -> None:
    site = Site()
    connect_id = site.negotiate("negotiateVersion=1")["connectionToken"]
    first = site.shake(connect_id, version)
    assert site.arrive(connect_id).data_to_send().startswith(b"HTTP/1.1 409 ")
    first.receive_data(b"", 0.0)
    assert isinstance(take(first)[-1].error, ConnectionLost)


def test_before_the_handshake_there_is_nothing_to_resume() -> None:
    site = Site()
    connect_id = site.negotiate()["connectionToken"]
    first = site.arrive(connect_id)
    assert where(first) is State.HANDSHAKING
    assert site.arrive(connect_id).data_to_send().startswith(b"HTTP/1.1 409 ")
    first.receive_data(b"", 0.0)
    assert isinstance(take(first)[-1].error, ConnectionLost)


@pytest.mark.parametrize("goodbye", ["client", "server", "close frame"])
def test_after_a_goodbye_there_is_nothing_to_resume(goodbye: str) -> None:
    site = Site()
    connect_id, first = site.connect()
    match goodbye:
        case "client":
            site.feed(first, site.say({"type": 7}))
        case "close frame":
            site.feed(first, frame(b"\x03\xe8", 8, masked=True))
        case _:
            first.close(now=0.0)
    assert site.arrive(connect_id).data_to_send().startswith(b"HTTP/1.1 404 ")
    first.receive_data(b"", 0.0)
    assert take(first) == [Closed(None)]


def test_close_while_it_waits_ends_it_at_once() -> None:
    site = Site()
    _, first = site.connect()
    first.receive_data(b"", 0.0)
    first.close(now=0.0)
    assert take(first) == [Detached(), Closed(None)]
    assert first.data_to_send() == b""
    assert len(site.tokens) == 0


def test_close_before_the_client_has_gone_on_says_goodbye() -> None:
    site = Site()
    connect_id, first = site.connect()
    first.receive_data(b"", 0.0)
    take(first)
    first.resume(site.arrive(connect_id), now=0.0)
    first.close(error="enough", now=0.0)
    assert heard(first) == [101, sequence(1), {"type": 7, "error": "enough"}, b"\x03\xe8"]


def test_a_gap_is_fatal_and_said() -> None:
    site = Site()
    connect_id, first = site.connect()
    first.receive_data(b"", 0.0)
    take(first)
    first.resume(site.arrive(connect_id, sequence(2)), now=0.0)
    (closed,) = take(first)
    assert isinstance(closed.error, RemoteProtocolError)
    assert "expected a Sequence from 1 to 1" in str(closed.error)
    said = {"type": 7, "error": "Connection closed with an error.", "allowReconnect": True}
    assert heard(first)[:3] == [101, sequence(1), said]


def test_silence_is_counted_on_a_stream_only() -> None:
    site = Site(client_timeout=10.0)
    connect_id, first = site.connect()
    site.feed(first, site.say({"type": 6}))
    first.receive_data(b"", 9.0)
    take(first)
    first.handle_timeout(20.0)
    assert where(first) is State.RESUMING
    first.resume(site.arrive(connect_id, sequence(1)), now=21.0)
    assert where(first) is State.CONNECTED
    first.handle_timeout(30.9)
    assert where(first) is State.CONNECTED
    first.handle_timeout(31.0)
    assert isinstance(take(first)[-1].error, TimedOut)


def test_what_it_asks_meanwhile_is_kept_or_was_never_sent() -> None:
    site = Site()
    _, first = site.connect()
    sent = first.invoke("sent", now=0.0)
    first.data_to_send()
    first.receive_data(b"", 0.0)
    kept = first.invoke("kept", now=0.0)
    first.handle_timeout(15.0)
    outcomes = {event.call: event.error for event in take(first) if isinstance(event, Completed)}
    assert {call: error.delivery for call, error in outcomes.items() if isinstance(error, CallLost)} == {
        sent: "maybe_sent",
        kept: "not_sent",
    }


def test_a_client_that_makes_it_answer_and_never_acknowledges_is_given_up() -> None:
    site = Site(limits=Limits(unacknowledged_bytes=1_000, pending_calls=1))
    _, first = site.connect()
    for number in range(100):
        site.feed(first, site.say(call(number)))
        first.data_to_send()
    assert isinstance(take(first)[-1].error, LimitExceeded)


def test_items_are_refused_where_too_much_waits_for_the_client() -> None:
    site = Site(limits=Limits(unacknowledged_bytes=100))
    _, first = site.connect()
    site.feed(first, site.say({"type": 4, "target": "t", "arguments": [], "invocationId": "1"}))
    sent = 0
    while first.unacknowledged_bytes < 100:
        first.send_item("1", sent, now=0.0)
        first.data_to_send()
        sent += 1
    with pytest.raises(LocalProtocolError, match=r"there are 1\d\d; wait for the peer"):
        first.send_item("1", sent, now=0.0)
    site.feed(first, site.say(ack(sent)))
    first.send_item("1", sent, now=0.0)


# -------------------------------------------------------------------------------------------------- both together


@pytest.mark.parametrize("encoding", ["json", "messagepack"])
@pytest.mark.parametrize("chunking", [whole, bytewise])
def test_client_and_server_go_on_where_they_were(encoding: Any, chunking: Any) -> None:
    client = hub(stateful_reconnect=True, encoding=encoding)
    pair = joined(client, answer=obliging, chunking=chunking, stateful_reconnect=True)
    assert client.is_stateful
    for number in range(10):
        asked = client.invoke("echo", [number], now=pair.now)
        if number % 2:
            pair.drive()
        if number % 3:
            client.data_to_send()  # and lost on its way
        pair.cut()
        pair.advance(0.3)
        (completed,) = [e for e in pair.events if isinstance(e, Completed) and e.call is asked]
        assert (completed.result, completed.error) == ([number], None)
    heard_by_server = [e.arguments for e in pair.server_events if isinstance(e, InvocationReceived)]
    assert heard_by_server == [[number] for number in range(10)]
    assert sum(isinstance(event, Resumed) for event in pair.server_events) == 10
    pair.advance(2)
    assert (client.unacknowledged_bytes, pair.partner.unacknowledged_bytes) == (0, 0)
    client.close(now=pair.now)
    pair.drive()
    assert pair.events[-1] == Closed(None)
    assert len(pair.tokens) == 0


def test_an_old_server_is_used_without() -> None:
    client = hub(stateful_reconnect=True)
    pair: Pair = joined(client, answer=obliging)
    assert isinstance(pair.client, HubConnection)
    assert (client.state, client.is_stateful) == (State.CONNECTED, False)
    pair.cut()
    pair.drive()
    assert isinstance(pair.events[-1], Closed)
