"""Stateful reconnect, the client's side: what it asks for, says and expects when its stream breaks, byte by byte."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import pytest

from etorox_proto.signalr import (
    CallCancelled,
    CallLost,
    Completed,
    Connected,
    ConnectionClosed,
    ConnectionLost,
    Dial,
    HubConfig,
    HubConnection,
    InvocationReceived,
    ItemReceived,
    LimitExceeded,
    Limits,
    LocalProtocolError,
    NegotiationFailed,
    RemoteProtocolError,
    ServerClosed,
    State,
)
from machines import (
    HANDSHAKE,
    RawPeer,
    accept,
    bytewise,
    frame,
    http,
    hub,
    hub_frame,
    negotiated,
    packed_frame,
    whole,
)

Encoding = Literal["json", "messagepack"]
both_encodings = pytest.mark.parametrize("encoding", ["json", "messagepack"])


class Peer(RawPeer):
    """A connected client that may resume; its events so far are forgotten."""

    client: HubConnection

    def __init__(self, *, grant: bool | None = True, chunking: Any = whole, **config: Any) -> None:
        client = hub(stateful_reconnect=True, **config)
        super().__init__(client, chunking)
        self.say: Callable[..., bytes] = packed_frame if config.get("encoding") == "messagepack" else hub_frame
        self.negotiate(negotiated(useStatefulReconnect=grant))
        self.upgrade()
        self.handshake = self.said()
        self.feed(HANDSHAKE)
        assert client.state is State.CONNECTED
        assert self.said() == [{"type": 6}]
        self.events.clear()

    def said(self) -> list[Any]:
        """What the client has said in frames since the last step; a request before them is left out."""
        if self.sent.startswith(b"GET "):
            self.sent = self.sent.partition(b"\r\n\r\n")[2]
        return super().said()

    def hear(self, *messages: Any) -> None:
        """The server says this, in one WebSocket message."""
        self.feed(self.say(*messages))

    def reopen(self, *messages: Any) -> list[Any]:
        """Another stream, on which the server says this first; what the client says on it."""
        self.upgrade(self.say(*messages) if messages else b"")
        return self.said()

    def wait(self, seconds: float) -> None:
        """Time passes, deadline by deadline."""
        until = self.now + seconds
        while self.client.deadline <= until:
            self.wait_until_deadline()
        self.now = until


def sequence(number: int) -> dict[str, int]:
    return {"type": 9, "sequenceId": number}


def ack(number: int) -> dict[str, int]:
    return {"type": 8, "sequenceId": number}


def item(number: int, of: str = "1") -> dict[str, Any]:
    return {"type": 2, "invocationId": of, "item": number}


def items(peer: RawPeer) -> list[Any]:
    return [event.item for event in peer.events if isinstance(event, ItemReceived)]


# ------------------------------------------------------------------------------------------------------- agreement


def test_what_is_granted_is_version_2() -> None:
    peer = RawPeer(hub(stateful_reconnect=True))
    assert b"POST /chat/negotiate?negotiateVersion=1&useStatefulReconnect=true HTTP/1.1" in peer.open()
    peer = Peer()
    assert peer.handshake == [{"protocol": "json", "version": 2}]
    assert peer.client.is_stateful


@pytest.mark.parametrize("grant", [False, None])
def test_without_a_grant_the_connection_works_without(grant: bool | None) -> None:
    peer = Peer(grant=grant)
    assert peer.handshake == [{"protocol": "json", "version": 1}]
    assert not peer.client.is_stateful
    peer.client.send("news", now=0.0)
    assert peer.client.unacknowledged_bytes == 0
    peer.hear(ack(1), sequence(7))
    assert peer.client.ignored == {"unsupported": 2}
    peer.end()
    assert isinstance(peer.error, ConnectionLost)


def test_a_grant_that_nobody_asked_for_fails() -> None:
    peer = RawPeer(hub())
    assert b"useStatefulReconnect" not in peer.open()
    peer.feed(negotiated(useStatefulReconnect=True))
    assert isinstance(peer.error, NegotiationFailed)
    assert "useStatefulReconnect, which was not asked for" in str(peer.error)


def test_the_query_of_the_url_may_ask_for_it() -> None:
    peer = RawPeer(hub("https://hub.test/chat?useStatefulReconnect=true"))
    peer.negotiate(negotiated(useStatefulReconnect=True))
    peer.upgrade(HANDSHAKE)
    assert peer.client.state is State.CONNECTED
    assert isinstance(peer.client, HubConnection)
    assert peer.client.is_stateful


def test_it_is_asked_for_again_after_a_redirect() -> None:
    peer = RawPeer(hub(stateful_reconnect=True))
    peer.negotiate(http(200, b'{"url":"https://other.test/hub?useStatefulReconnect=false"}'))
    assert b"POST /hub/negotiate?useStatefulReconnect=false&negotiateVersion=1 HTTP" in peer.open()
    peer.feed(http(200, b'{"url":"https://third.test/hub"}'))
    assert b"POST /hub/negotiate?negotiateVersion=1&useStatefulReconnect=true HTTP" in peer.open()


def test_it_needs_negotiation() -> None:
    with pytest.raises(LocalProtocolError, match="expected stateful_reconnect or skip_negotiation, got both"):
        HubConfig(url="https://hub.test/", stateful_reconnect=True, skip_negotiation=True)


# ---------------------------------------------------------------------------------------------------- another stream


@both_encodings
@pytest.mark.parametrize("chunking", [whole, bytewise])
def test_a_lost_stream_is_replaced_and_nothing_is_lost(encoding: Encoding, chunking: Any) -> None:
    """The worked example of the specification, in both encodings."""
    peer = Peer(encoding=encoding, chunking=chunking)
    for target in ("one", "two"):
        peer.client.send(target, now=0.0)
    peer.client.stream("three", now=0.0)
    peer.settle()
    assert [message["target"] for message in peer.said()] == ["one", "two", "three"]
    peer.hear(ack(2))
    peer.hear(*map(item, range(5)))
    peer.end()
    assert peer.client.state is State.RESUMING
    assert peer.events.pop() == Dial("hub.test", 443, tls=True, server_name="hub.test")
    assert peer.sent == b""
    request = peer.open()
    assert request.startswith(b"GET /chat?id=secret-connection-token HTTP/1.1")
    peer.client.send("four", now=0.0)
    peer.feed(accept(request))
    again, third, fourth = peer.said()
    assert again == sequence(3)
    assert (third["target"], third["invocationId"], fourth["target"]) == ("three", "1", "four")
    states = [peer.client.state]
    peer.hear(sequence(5), item(4), item(5))
    assert [*states, peer.client.state] == [State.RESUMING, State.CONNECTED]
    peer.hear({"type": 3, "invocationId": "1"})
    assert items(peer) == [0, 1, 2, 3, 4, 5]
    assert [type(event) for event in peer.events][-1] is Completed
    assert not any(isinstance(event, Connected) for event in peer.events)
    peer.wait(1)
    assert peer.said() == [ack(7)]


def test_half_a_message_of_the_lost_stream_is_forgotten() -> None:
    for cut in range(1, 40):
        peer = Peer()
        peer.client.stream("numbers", now=0.0)
        peer.settle()
        peer.feed((hub_frame(item(1)) + frame(b'{"type":2,"inv'))[:cut])
        peer.end()
        peer.said()
        assert peer.reopen(sequence(1), item(1), item(2))[0] == sequence(1)
        assert items(peer) == [1, 2]
        assert peer.client.state is State.CONNECTED


def test_a_sequence_is_said_even_if_nothing_follows() -> None:
    peer = Peer()
    peer.client.send("news", now=0.0)
    peer.settle()
    peer.hear(ack(1))
    assert peer.client.unacknowledged_bytes == 0
    peer.end()
    peer.said()
    assert peer.reopen() == [sequence(2)]


def test_it_may_break_again_and_again() -> None:
    peer = Peer()
    call = peer.client.invoke("echo", now=0.0)
    peer.settle()
    for _ in range(5):
        peer.end()
        peer.said()
        first, second = peer.reopen(sequence(1))
        assert (first, second["target"]) == (sequence(1), "echo")
    peer.hear({"type": 3, "invocationId": "1", "result": 5})
    assert peer.events[-1] == Completed(call, 5, None)


def test_what_counts_and_comes_before_the_sequence_is_dropped() -> None:
    peer = Peer()
    peer.client.stream("numbers", now=0.0)
    peer.end()
    peer.reopen({"type": 6}, item(99), {"type": 77})
    assert items(peer) == []
    assert peer.client.state is State.RESUMING
    assert peer.client.ignored == {"unknown_type": 1}
    peer.hear(sequence(1), item(1))
    assert items(peer) == [1]


def test_a_gap_is_fatal() -> None:
    peer = Peer()
    peer.end()
    peer.reopen(sequence(2))
    assert isinstance(peer.error, RemoteProtocolError)
    assert str(peer.error) == (
        "expected a Sequence from 1 to 1, the first not received, got 2 (while resuming on another stream)"
    )


def test_an_ack_of_what_was_never_sent_is_fatal() -> None:
    peer = Peer()
    peer.hear(ack(1))
    assert isinstance(peer.error, RemoteProtocolError)


# ---------------------------------------------------------------------------------------------------------- failure


def lost(peer: Peer) -> list[tuple[str, str]]:
    """The calls that were lost, with what became of them."""
    return [
        (event.call.target, event.error.delivery)
        for event in peer.events
        if isinstance(event, Completed) and isinstance(event.error, CallLost)
    ]


def broken(**config: Any) -> Peer:
    """A connection that has lost its stream: one call left this object, one did not, one was made since."""
    peer = Peer(**config)
    peer.client.invoke("sent", now=0.0)
    peer.settle()
    peer.client.invoke("queued", now=0.0)
    peer.end()
    peer.client.invoke("kept", now=0.0)
    peer.said()
    return peer


def refused(peer: Peer) -> None:
    peer.open()
    peer.feed(http(404, b"no such id"))


def opened_and_lost(peer: Peer) -> None:
    peer.open()
    peer.end()


FAILURES: dict[str, Callable[[Peer], None]] = {
    "could not be opened": RawPeer.end,
    "status 404: no such id": refused,
    "ended the byte stream": opened_and_lost,
    "nobody took it up within 30 s": lambda peer: peer.wait(30),
}


@pytest.mark.parametrize("reason", FAILURES)
def test_one_attempt_and_no_more(reason: str) -> None:
    peer = broken()
    FAILURES[reason](peer)
    assert isinstance(peer.error, ConnectionLost)
    assert peer.error.may_retry
    assert str(peer.error).startswith("the byte stream was lost, and the connection could not be resumed: ")
    assert reason in str(peer.error)
    assert "secret-connection-token" not in str(peer.error)
    assert lost(peer) == [("sent", "maybe_sent"), ("queued", "not_sent"), ("kept", "not_sent")]
    assert peer.client.deadline == math.inf


def test_what_was_said_again_may_have_been_sent() -> None:
    peer = broken()
    assert len(peer.reopen()) == 4
    peer.end()
    assert isinstance(peer.error, ConnectionLost)
    assert {delivery for _, delivery in lost(peer)} == {"maybe_sent"}


def test_a_server_that_never_says_where_it_goes_on_is_given_up() -> None:
    peer = broken()
    peer.reopen({"type": 6})
    for _ in range(5):
        peer.wait(5)
        peer.hear({"type": 6})
    peer.wait(5)
    assert isinstance(peer.error, ConnectionLost)
    assert peer.now == 30


def test_a_goodbye_ends_the_possibility() -> None:
    peer = Peer()
    peer.hear({"type": 7, "allowReconnect": True})
    assert isinstance(peer.error, ServerClosed)
    peer = Peer()
    peer.feed(frame(b"\x03\xe8", 8))
    assert isinstance(peer.error, ConnectionLost)
    assert peer.error.code == 1000
    peer = broken()
    peer.reopen({"type": 7, "error": "enough"})
    assert isinstance(peer.error, ServerClosed)


def test_our_own_close_ends_it_too() -> None:
    peer = Peer()
    peer.client.close(now=0.0)
    peer.settle()
    peer.end()
    assert peer.error is None


def test_close_while_there_is_no_stream() -> None:
    peer = broken()
    peer.client.close(now=0.0)
    peer.settle()
    assert peer.error is None
    assert peer.sent == b""
    assert lost(peer)[1:] == [("queued", "not_sent"), ("kept", "not_sent")]
    with pytest.raises(ConnectionClosed):
        peer.client.send("late", now=0.0)


def test_close_before_the_other_side_has_gone_on() -> None:
    peer = broken()
    peer.reopen()
    peer.client.close(now=0.0)
    peer.settle()
    assert peer.error is None
    assert peer.said() == [{"type": 7}, ("close", 1000, "")]


def test_silence_counts_again_once_it_is_resumed() -> None:
    peer = Peer()
    peer.wait(20)
    peer.end()
    peer.reopen(sequence(1))
    peer.wait(29)
    assert peer.client.state is State.CONNECTED
    assert {"type": 6} in peer.said()
    peer.wait(1)
    assert "nothing came from the server within 30 s" in str(peer.error)


# ------------------------------------------------------------------------------------------------- acknowledgements


def test_one_ack_a_second_and_none_without_need() -> None:
    peer = Peer()
    peer.client.stream("numbers", now=0.0)
    peer.settle()
    peer.said()
    peer.hear({"type": 6})
    peer.wait(5)
    assert peer.said() == []
    for number in range(25):
        peer.hear(item(number))
        peer.wait(0.125)
    assert [message for message in peer.said() if message["type"] == 8] == [ack(8), ack(16), ack(24)]
    peer.wait(5)
    assert peer.said() == [ack(25)]


def test_an_ack_that_was_lost_is_said_again() -> None:
    """The server says its message again, so it has not had our Ack; otherwise it would keep it for ever."""
    peer = Peer()
    peer.hear({"type": 1, "target": "news", "arguments": []})
    peer.wait(1)
    assert peer.said() == [ack(1)]
    peer.end()
    peer.reopen(sequence(1), {"type": 1, "target": "news", "arguments": []})
    assert sum(isinstance(event, InvocationReceived) for event in peer.events) == 1
    peer.wait(1)
    assert peer.said() == [ack(1)]


def test_an_ack_is_not_owed_to_a_stream_that_is_lost() -> None:
    peer = Peer()
    peer.hear({"type": 1, "target": "news", "arguments": []})
    peer.end()
    peer.wait(1.5)
    assert peer.client.state is State.RESUMING
    peer.reopen(sequence(2))
    peer.wait(2)
    assert peer.said() == []


# ------------------------------------------------------------------------------------------------------ back-pressure


def test_what_crosses_the_line_is_sent_and_what_comes_then_is_refused() -> None:
    peer = Peer(limits=Limits(unacknowledged_bytes=100))
    client = peer.client
    client.send("x" * 60, now=0.0)
    client.send("x" * 200, now=0.0)
    before = client.unacknowledged_bytes
    assert before > 200
    peer.settle()
    for command in (
        lambda: client.send("more", now=0.0),
        lambda: client.invoke("more", now=0.0),
        lambda: client.stream("more", uploads=1, now=0.0),
    ):
        with pytest.raises(LocalProtocolError, match=r"fewer than 100 bytes .* \(Limits.unacknowledged_bytes\)"):
            command()
    assert (client.unacknowledged_bytes, client.queued_bytes, client.pending_calls) == (before, 0, 0)
    peer.wait(15)
    assert peer.said()[2:] == [{"type": 6}], "what does not count is never held"
    peer.hear(ack(1))
    assert client.unacknowledged_bytes > 200
    peer.hear(ack(2))
    assert client.unacknowledged_bytes == 0
    client.send("more", now=0.0)


@pytest.mark.parametrize("is_broken", [False, True])
def test_what_cannot_be_sent_is_not_kept(is_broken: bool) -> None:
    peer = Peer()
    if is_broken:
        peer.end()
    with pytest.raises(LocalProtocolError, match="text that UTF-8 can carry"):
        peer.client.send("news", [msgspec.Raw(b'"\xff"')], now=0.0)
    assert peer.client.unacknowledged_bytes == 0
    if is_broken:
        assert peer.reopen() == [sequence(1)]


def test_a_cancel_is_always_heard() -> None:
    peer = Peer(limits=Limits(unacknowledged_bytes=10))
    call = peer.client.stream("numbers", now=0.0)
    peer.settle()
    peer.said()
    peer.client.cancel(call, now=0.0)
    peer.settle()
    assert peer.said() == [{"type": 5, "invocationId": "1"}]
    assert isinstance(peer.events[-1].error, CallCancelled)


def test_a_server_that_makes_us_answer_and_never_acknowledges_is_given_up() -> None:
    peer = Peer(limits=Limits(unacknowledged_bytes=1_000))
    for number in range(100):
        peer.hear({"type": 1, "target": "riddle", "arguments": [], "invocationId": str(number)})
        peer.sent = b""
        if peer.client.state is State.CLOSED:
            break
    assert isinstance(peer.error, LimitExceeded)
    assert (peer.error.limit, peer.error.allowed) == ("unacknowledged_bytes", 1_000)


def test_what_is_said_again_is_not_held_against_the_server() -> None:
    peer = Peer(limits=Limits(queued_bytes=300, unacknowledged_bytes=4_000))
    while peer.client.unacknowledged_bytes < 4_000:
        peer.client.send("x", now=0.0)
        peer.settle()
    peer.end()
    peer.said()
    again = peer.reopen(sequence(1), {"type": 6})
    assert peer.client.state is State.CONNECTED
    assert len(again) > 50


def test_items_read_in_short_count_and_duplicates_among_them_do_not() -> None:
    def of(peer: Peer, numbers: range) -> bytes:
        return b"".join(hub_frame(item(number)) for number in numbers)

    outcomes = []
    for chunking in (whole, bytewise):
        peer = Peer(chunking=chunking)
        peer.client.stream("rates", item_type=int, now=0.0)
        peer.settle()
        peer.feed(of(peer, range(100)))
        peer.said()
        peer.wait(1.0)
        acknowledged = peer.said()
        peer.end()
        peer.upgrade(hub_frame(sequence(61)) + of(peer, range(60, 200)))
        told = items(peer)
        peer.said()
        peer.wait(1.0)
        outcomes.append((acknowledged, told, peer.said()))
    assert outcomes[0] == outcomes[1]
    acknowledged, told, again = outcomes[0]
    assert ack(100) in acknowledged
    assert told == list(range(200))
    assert ack(200) in again
