"""Results that a server asks of its client: who answers, what travels, and that exactly one answer comes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import msgspec
import pytest

from etorox_proto.signalr import (
    Call,
    CallCancelled,
    CallLost,
    Closed,
    Completed,
    ConnectionClosed,
    HubConfig,
    HubConnection,
    HubError,
    InvocationReceived,
    Limits,
    LocalProtocolError,
    ServerConnection,
    State,
    UnexpectedResult,
)
from machines import Pair, connected_peer, hub, hub_frame, joined

Encoding = Literal["json", "messagepack"]
both = pytest.mark.parametrize("encoding", ["json", "messagepack"])


def asking(encoding: Encoding = "json", **config: Any) -> tuple[Pair, HubConnection, ServerConnection]:
    """A client that answers `confirm`, and its server; what was told so far is forgotten."""
    pair = joined(hub(encoding=encoding, handles={"confirm"}, **config))
    client = pair.client
    assert isinstance(client, HubConnection)
    pair.events.clear()
    pair.server_events.clear()
    return pair, client, pair.partner


def outcome(pair: Pair, call: Call) -> Completed:
    """The one `Completed` of a call of the server's."""
    (completed,) = [each for each in pair.server_events if isinstance(each, Completed) and each.call is call]
    return completed


@both
def test_a_result_comes_back(encoding: Encoding) -> None:
    pair, client, server = asking(encoding)
    call = server.invoke("confirm", [1, "x"], now=0.0)
    pair.drive()
    assert pair.events == [InvocationReceived("confirm", [1, "x"], call.invocation_id, streaming=False)]
    assert server.pending_calls == 1
    client.complete(call.invocation_id, result={"yes": True}, now=0.0)
    pair.drive()
    assert outcome(pair, call) == Completed(call, {"yes": True}, None)
    assert server.pending_calls == 0


@both
@pytest.mark.parametrize("answer", [{}, {"result": None}])
def test_no_value_comes_back_as_none(encoding: Encoding, answer: dict[str, Any]) -> None:
    pair, client, server = asking(encoding)
    call = server.invoke("confirm", result_type=int, now=0.0)
    pair.drive()
    client.complete(call.invocation_id, **answer, now=0.0)
    pair.drive()
    assert outcome(pair, call) == Completed(call, None, None)


def test_no_value_travels_as_a_null_result() -> None:
    """A completion without a result is a failure to an official server, which waits for a result."""
    peer = connected_peer(handles={"confirm"})
    peer.feed(hub_frame({"type": 1, "target": "confirm", "arguments": [], "invocationId": "7"}))
    assert isinstance(peer.client, HubConnection)
    peer.client.complete("7", now=0.0)
    peer.settle()
    assert peer.said() == [{"type": 3, "invocationId": "7", "result": None}]


@both
def test_an_error_comes_back(encoding: Encoding) -> None:
    pair, client, server = asking(encoding)
    call = server.invoke("confirm", now=0.0)
    pair.drive()
    client.complete(call.invocation_id, error="not today", now=0.0)
    pair.drive()
    assert isinstance(outcome(pair, call).error, HubError)
    assert str(outcome(pair, call).error) == "not today"


@both
def test_a_result_is_decoded_into_its_type(encoding: Encoding) -> None:
    pair, client, server = asking(encoding)
    fitting = server.invoke("confirm", result_type=Decimal, now=0.0)
    other = server.invoke("confirm", result_type=int, now=0.0)
    pair.drive()
    client.complete(fitting.invocation_id, result=Decimal("0.10"), now=0.0)
    client.complete(other.invocation_id, result="x", now=0.0)
    pair.drive()
    assert str(outcome(pair, fitting).result) == "0.10"
    assert isinstance(outcome(pair, other).error, UnexpectedResult)


@both
def test_what_nobody_handles_is_answered_at_once(encoding: Encoding) -> None:
    """The application is told of it all the same, without an id, for there is nothing left to answer."""
    pair, _, server = asking(encoding)
    call = server.invoke("Confirm", [1], now=0.0)
    pair.drive()
    assert str(outcome(pair, call).error) == "Client didn't provide a result."
    assert pair.events == [InvocationReceived("Confirm", [1], None, streaming=False)]


def test_a_client_handles_nothing_by_default() -> None:
    peer = connected_peer()
    peer.feed(hub_frame({"type": 1, "target": "confirm", "arguments": [], "invocationId": "7"}))
    (message,) = peer.said()
    assert (message["type"], message["invocationId"], bool(message["error"])) == (3, "7", True)


@both
def test_what_wants_no_answer_gets_none(encoding: Encoding) -> None:
    pair, client, server = asking(encoding)
    server.send("confirm", [1], headers={"k": "v"}, now=0.0)
    pair.drive()
    assert pair.events == [InvocationReceived("confirm", [1], None, streaming=False, headers={"k": "v"})]
    assert client.queued_bytes == 0


def test_an_invocation_is_answered_once() -> None:
    pair, client, server = asking()
    call = server.invoke("confirm", now=0.0)
    pair.drive()
    client.complete(call.invocation_id, result=1, now=0.0)
    with pytest.raises(LocalProtocolError, match="awaits its completion"):
        client.complete(call.invocation_id, result=2, now=0.0)
    with pytest.raises(LocalProtocolError, match="awaits its completion"):
        client.complete("unknown", now=0.0)
    pair.drive()
    assert outcome(pair, call).result == 1


def test_an_answer_that_cannot_be_sent_may_be_given_again() -> None:
    pair, client, server = asking(limits=Limits(queued_bytes=1_000))
    call = server.invoke("confirm", now=0.0)
    pair.drive()
    for answer in ({"result": object()}, {"result": "x" * 2_000}, {"error": "\ud800"}, {"result": 1, "error": "x"}):
        with pytest.raises(LocalProtocolError):
            client.complete(call.invocation_id, **answer, now=0.0)
        assert client.queued_bytes == 0
    client.complete(call.invocation_id, result="well", now=0.0)
    pair.drive()
    assert outcome(pair, call).result == "well"


def test_an_answer_puts_the_next_ping_off() -> None:
    pair, client, server = asking()
    call = server.invoke("confirm", now=0.0)
    pair.drive()
    client.complete(call.invocation_id, now=9.0)
    client.receive_data(hub_frame({"type": 6}), 20.0)
    assert client.deadline == 24.0


# ------------------------------------------------------------------------------------------------------ the limits


def test_too_many_at_once_are_refused_on_both_sides() -> None:
    pair, client, server = asking(limits=Limits(pending_calls=2))
    calls = [server.invoke("confirm", now=0.0) for _ in range(3)]
    pair.drive()
    assert len(pair.events) == 2
    assert "too many calls are pending" in str(outcome(pair, calls[2]).error)
    client.complete(calls[0].invocation_id, now=0.0)
    another = server.invoke("confirm", now=0.0)
    pair.drive()
    assert pair.events[-1].invocation_id == another.invocation_id

    pair = joined(hub(handles=["confirm"]), limits=Limits(pending_calls=2))
    for _ in range(2):
        pair.partner.invoke("confirm", now=0.0)
    with pytest.raises(LocalProtocolError, match=r"at most 2 pending calls \(Limits.pending_calls\)"):
        pair.partner.invoke("confirm", now=0.0)


def test_an_id_in_use_is_refused() -> None:
    peer = connected_peer(handles=["confirm"])
    call = {"type": 1, "target": "confirm", "arguments": [], "invocationId": "7"}
    peer.feed(hub_frame(call, call))
    assert [event.invocation_id for event in peer.events] == ["7"]
    assert peer.said() == [{"type": 3, "invocationId": "7", "error": "Invocation ID '7' is already in use."}]


def test_names_of_methods_are_asked_for() -> None:
    with pytest.raises(LocalProtocolError, match="names of methods"):
        HubConfig(url="https://h/hub", handles="confirm")
    config = HubConfig(url="https://h/hub", handles=["a", "b"])
    assert config.handles == {"a", "b"}


@pytest.mark.parametrize("target", ["", 1, None])
def test_a_server_asks_for_a_method_by_its_name(target: Any) -> None:
    _, _, server = asking()
    with pytest.raises(LocalProtocolError, match="the name of a method"):
        server.invoke(target, now=0.0)
    assert (server.pending_calls, server.queued_bytes) == (0, 0)


# ------------------------------------------------------------------------------------------- cancelled, and the end


@both
def test_a_server_may_stop_waiting(encoding: Encoding) -> None:
    """The client is not told, for the protocol has no word for it; its late answer is dropped."""
    pair, client, server = asking(encoding)
    call = server.invoke("confirm", now=0.0)
    server.cancel(call, now=0.0)
    server.cancel(call, now=0.0)
    pair.drive()
    assert isinstance(outcome(pair, call).error, CallCancelled)
    client.complete(call.invocation_id, result=1, now=0.0)
    pair.drive()
    assert len(pair.server_events) == 1
    again = server.invoke("confirm", now=0.0)
    assert again.invocation_id != call.invocation_id
    assert client.state is server.state is State.CONNECTED


def test_the_end_settles_what_a_server_asked() -> None:
    pair, client, server = asking()
    sent = server.invoke("confirm", now=0.0)
    pair.drive()
    unsent = server.invoke("confirm", now=0.0)
    server.receive_data(b"", 0.0)
    pair.drive()
    *completed, closed = pair.server_events
    assert isinstance(closed, Closed)
    assert [each.call for each in completed] == [sent, unsent]
    errors = [each.error for each in completed]
    assert all(isinstance(error, CallLost) and error.__cause__ is closed.error for error in errors)
    assert [error.delivery for error in errors] == ["maybe_sent", "not_sent"]
    assert server.pending_calls == 0
    with pytest.raises(ConnectionClosed):
        server.invoke("confirm", now=0.0)
    server.cancel(sent, now=0.0)
    client.receive_data(b"", 0.0)
    with pytest.raises(ConnectionClosed):
        client.complete(sent.invocation_id, now=0.0)


def test_a_client_that_closes_answers_no_more() -> None:
    pair, client, server = asking()
    call = server.invoke("confirm", now=0.0)
    pair.drive()
    client.close(now=0.0)
    with pytest.raises(ConnectionClosed):
        client.complete(call.invocation_id, now=0.0)
    pair.drive()
    assert isinstance(outcome(pair, call).error, CallLost)


def test_a_client_that_streams_instead_fails_the_call() -> None:
    pair, _, server = asking()
    call = server.invoke("confirm", now=0.0)
    pair.drive()
    item = hub_frame({"type": 2, "invocationId": call.invocation_id, "item": 1})
    masked = item[:1] + bytes([item[1] | 0x80]) + bytes(4) + item[2:]
    server.receive_data(masked, 0.0)
    pair.drive()
    assert isinstance(outcome(pair, call).error, UnexpectedResult)


def test_ids_of_both_sides_do_not_meet() -> None:
    pair, client, server = asking()
    theirs = client.invoke("m", now=0.0)
    ours = server.invoke("confirm", now=0.0)
    pair.drive()
    assert theirs.invocation_id != ours.invocation_id
    server.complete(theirs.invocation_id, result=msgspec.Raw(b"1"), now=0.0)
    client.complete(ours.invocation_id, result=2, now=0.0)
    pair.drive()
    assert pair.events[-1] == Completed(theirs, 1, None)
    assert outcome(pair, ours) == Completed(ours, 2, None)
