"""What commands send and refuse at their edges: headers, names in errors, ids, room, and when the next ping is due."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from etorox_proto.signalr import (
    ClientRequest,
    ConnectionClosed,
    HubConfig,
    HubConnection,
    HubError,
    InvocationReceived,
    Limits,
    LocalProtocolError,
)
from machines import HANDSHAKE, Pair, RawPeer, connected_peer, http, hub, hub_frame, negotiated, server, take


def client_of(peer: RawPeer) -> HubConnection:
    assert isinstance(peer.client, HubConnection)
    return peer.client


def joined(**config: Any) -> Pair:
    """A client and a server, connected."""
    pair = Pair(hub(), **config)
    pair.drive()
    pair.events.clear()
    pair.server_events.clear()
    return pair


# ------------------------------------------------------------------------------------------------------- refusals

COMMANDS: dict[str, Callable[[Any], object]] = {
    "invoke": lambda client: client.invoke("m", now=0.0),
    "stream": lambda client: client.stream("m", now=0.0),
    "send": lambda client: client.send("m", now=0.0),
    "send_item": lambda client: client.send_item(None, 1, now=0.0),
    "end_upload": lambda client: client.end_upload(None, now=0.0),
    "complete": lambda client: client.complete("1", now=0.0),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_of_a_client_out_of_time_is_named(name: str) -> None:
    early = hub()
    with pytest.raises(LocalProtocolError) as caught:
        COMMANDS[name](early)
    assert str(caught.value) == (f"expected a connected hub for {name}, it is still negotiating; wait for Connected")
    early.close(now=0.0)
    with pytest.raises(ConnectionClosed) as closed:
        COMMANDS[name](early)
    assert str(closed.value) == f"expected a connection for {name}, got one that is closed"


@pytest.mark.parametrize("name", ["invoke", "send", "send_item", "complete"])
def test_a_command_of_a_server_out_of_time_is_named(name: str) -> None:
    early = server()
    of_servers: Callable[[Any], object] = lambda machine: machine.send_item("1", 1, now=0.0)  # noqa: E731
    command = of_servers if name == "send_item" else COMMANDS[name]
    with pytest.raises(LocalProtocolError, match=f"^expected a connected hub for {name}, it is still "):
        command(early)


def test_what_cannot_be_written_is_named() -> None:
    pair = joined()
    client, machine = pair.client, pair.partner
    assert isinstance(client, HubConnection)
    (upload,) = client.send("take", uploads=1, now=0.0)
    client.stream("give", now=0.0)
    pair.drive()
    stream_id = pair.server_events[-1].invocation_id
    for command, what in (
        (lambda: client.send_item(upload, {1}.__iter__, now=0.0), "the item"),
        (lambda: machine.send_item(stream_id, {1}.__iter__, now=0.0), "the item"),
        (lambda: client.invoke("m", [1, {1}.__iter__], now=0.0), "argument 2 of m"),
    ):
        with pytest.raises(LocalProtocolError, match=f"^{what} cannot be written as JSON: "):
            command()


@pytest.mark.parametrize("error", [5, b"text", ["text"]])
def test_the_reason_of_a_failure_is_text(error: Any) -> None:
    peer = connected_peer(handles=["ask"])
    peer.feed(hub_frame({"type": 1, "target": "ask", "arguments": [], "invocationId": "s1"}))
    text = f"^expected the reason of a failure as text, got {type(error).__name__}$"
    with pytest.raises(LocalProtocolError, match=text):
        client_of(peer).complete("s1", error=error, now=0.0)
    peer.settle()
    assert peer.said() == []
    (upload,) = client_of(peer).send("take", uploads=1, now=0.0)
    with pytest.raises(LocalProtocolError, match=text):
        client_of(peer).end_upload(upload, error=error, now=0.0)


# -------------------------------------------------------------------------------------------------- what is sent


def test_hub_headers_travel_with_every_kind_of_call() -> None:
    pair = joined()
    client, machine = pair.client, pair.partner
    assert isinstance(client, HubConnection)
    commands: list[Callable[..., object]] = [client.invoke, client.stream, client.send]
    for number, command in enumerate(commands):
        command("m", headers={"n": str(number)}, now=0.0)
    pair.drive()
    assert [event.headers for event in pair.server_events] == [{"n": "0"}, {"n": "1"}, {"n": "2"}]
    commands = [machine.invoke, machine.send]
    for number, command in enumerate(commands):
        command("m", headers={"n": str(number)}, now=0.0)
    pair.drive()
    called = [event for event in pair.events if isinstance(event, InvocationReceived)]
    assert [event.headers for event in called] == [{"n": "0"}, {"n": "1"}]


def test_plain_numbers_inside_a_type_are_exact() -> None:
    peer = connected_peer()
    client_of(peer).invoke("m", result_type=list[Any], now=0.0)
    client_of(peer).stream("m", item_type=dict[str, Any], now=0.0)
    peer.feed(hub_frame(b'{"type":3,"invocationId":"1","result":[0.1000]}'))
    peer.feed(hub_frame(b'{"type":2,"invocationId":"2","item":{"a":0.10}}', b'{"type":2,"invocationId":"2","item":{}}'))
    completed, item, _ = peer.events
    assert repr(completed.result) == "[Decimal('0.1000')]"
    assert repr(item.item["a"]) == repr(Decimal("0.10"))


def test_an_error_with_a_result_that_is_null_is_an_error() -> None:
    peer = connected_peer()
    client_of(peer).invoke("m", now=0.0)
    peer.feed(hub_frame({"type": 3, "invocationId": "1", "error": "no", "result": None}))
    (completed,) = peer.events
    assert isinstance(completed.error, HubError)


def test_a_server_cannot_tell_a_client_to_stop() -> None:
    pair = joined(answer=None)
    machine = pair.partner
    call = machine.invoke("ask", result_type=int, now=0.0)
    machine.cancel(call, now=0.0)
    machine.invoke("ask", result_type=int, now=0.0)
    sent = machine.data_to_send()
    assert sent.count(b'"type":1') == 2
    assert b'"type":5' not in sent


def test_every_command_puts_the_next_ping_off() -> None:
    peer = connected_peer(handles=["ask"], ping_interval=10.0, server_timeout=1_000.0)
    client = client_of(peer)
    peer.feed(hub_frame({"type": 1, "target": "ask", "arguments": [], "invocationId": "s1"}))
    call = client.stream("m", now=1.0)
    assert client.deadline == 11.0
    (upload, ended) = client.send("m", uploads=2, now=2.0)
    assert client.deadline == 12.0
    client.send_item(upload, 1, now=3.0)
    assert client.deadline == 13.0
    client.end_upload(ended, now=4.0)
    assert client.deadline == 14.0
    client.complete("s1", result=1, now=5.0)
    assert client.deadline == 15.0
    client.cancel(call, now=6.0)
    assert client.deadline == 16.0
    client.invoke("m", now=7.0)
    assert client.deadline == 17.0


# ------------------------------------------------------------------------------------------------------------ ids


def test_an_id_that_is_in_use_is_refused_and_given_again_once_it_is_free() -> None:
    peer = RawPeer(
        HubConnection(HubConfig(url="https://hub.test/chat"), now=0.0, ids=iter(["a", "b", "a", "c", "b", "d"]))
    )
    peer.connect()
    client = client_of(peer)
    first = client.invoke("m", now=0.0)
    (upload,) = client.send("m", uploads=1, now=0.0)
    assert (first.invocation_id, upload.stream_id) == ("a", "b")
    with pytest.raises(LocalProtocolError, match="got 'a'"):
        client.invoke("m", now=0.0)
    peer.feed(hub_frame({"type": 3, "invocationId": "a"}))
    assert client.invoke("m", now=0.0).invocation_id == "a"
    assert client.invoke("m", now=0.0).invocation_id == "c"
    with pytest.raises(LocalProtocolError, match="got 'b'"):
        client.invoke("m", now=0.0)
    client.end_upload(upload, now=0.0)
    assert client.invoke("m", now=0.0).invocation_id == "b"
    assert client.invoke("m", now=0.0).invocation_id == "d"


def test_each_upload_takes_one_id() -> None:
    peer = connected_peer()
    client = client_of(peer)
    call = client.invoke("m", uploads=2, now=0.0)
    assert [each.stream_id for each in call.uploads] == ["1", "2"]
    assert call.invocation_id == "3"
    assert client.invoke("m", now=0.0).invocation_id == "4"


def test_ids_that_were_not_spent_are_given_again_one_by_one() -> None:
    peer = connected_peer()
    client = client_of(peer)
    with pytest.raises(LocalProtocolError):
        client.invoke("m", [object()], uploads=3, now=0.0)
    (upload,) = client.send("m", uploads=1, now=0.0)
    assert upload.stream_id == "1"
    assert [client.invoke("m", now=0.0).invocation_id for _ in range(4)] == ["2", "3", "4", "5"]


def test_a_cancelled_call_says_so() -> None:
    peer = connected_peer()
    client_of(peer).cancel(client_of(peer).invoke("m", now=0.0), now=0.0)
    peer.settle()
    assert str(peer.events[0].error) == "m was cancelled by the application"


def test_the_oldest_cancelled_call_is_forgotten_first() -> None:
    peer = connected_peer(limits=Limits(pending_calls=2))
    client = client_of(peer)
    for _ in range(3):
        client.cancel(client.invoke("m", now=0.0), now=0.0)
    for number in ("2", "3"):
        peer.feed(hub_frame({"type": 2, "invocationId": number, "item": 1}))
        peer.feed(hub_frame({"type": 3, "invocationId": number}))
    assert not client.ignored
    peer.feed(hub_frame({"type": 3, "invocationId": "1"}))
    assert client.ignored == {"unknown_id": 1}


# ----------------------------------------------------------------------------------------------------------- room


def test_what_waits_may_be_as_long_as_the_limit() -> None:
    peer = connected_peer()
    client_of(peer).send("m", now=0.0)
    size = client_of(peer).queued_bytes
    record = size - 6  # without the head of its frame and the mask
    for limit, fits in ((size + record, True), (size + record - 1, False)):
        client = client_of(connected_peer(limits=Limits(queued_bytes=limit)))
        client.send("m", now=0.0)
        if fits:
            client.send("m", now=0.0)
            continue
        text = f"expected at most {limit} bytes waiting (Limits.queued_bytes), got more; send data_to_send() first"
        with pytest.raises(LocalProtocolError, match=f"^{re.escape(text)}$"):
            client.send("m", now=0.0)


def test_there_is_room_below_the_limits() -> None:
    """Of bytes that wait to be sent, and of those that wait to be acknowledged."""

    def sending(**limits: int) -> HubConnection:
        peer = RawPeer(hub(stateful_reconnect=True, limits=Limits(**limits)))
        peer.negotiate(negotiated(useStatefulReconnect=True))
        peer.upgrade(HANDSHAKE)
        client = client_of(peer)
        assert client.has_room
        client.send("m", now=0.0)
        return client

    queued, kept = sending().queued_bytes, sending().unacknowledged_bytes
    assert 0 < kept < queued
    assert sending(queued_bytes=queued + 1, unacknowledged_bytes=kept + 1).has_room
    assert not sending(queued_bytes=queued, unacknowledged_bytes=kept + 1).has_room
    full = sending(queued_bytes=queued + 1, unacknowledged_bytes=kept)
    assert not full.has_room
    text = (
        f"expected fewer than {kept} bytes that the peer has not acknowledged (Limits.unacknowledged_bytes), there are "
        f"{kept}; wait for the peer until has_room"
    )
    with pytest.raises(LocalProtocolError, match=f"^{re.escape(text)}$"):
        full.send("m", now=0.0)


def test_a_request_shows_what_it_is_and_nothing_else() -> None:
    for negotiates, text in ((True, "<ClientRequest to negotiate>"), (False, "<ClientRequest for a WebSocket>")):
        assert repr(ClientRequest("/hub", [("id", "secret")], [], negotiates)) == text


@pytest.mark.parametrize("header", ["Bearer t", "bearer t", "BEARER  t "])
def test_a_request_has_its_token(header: str) -> None:
    assert ClientRequest("/hub", [], [("authorization", header)], negotiates=False).access_token == "t"
    assert ClientRequest("/hub", [("access_token", "q")], [], negotiates=False).access_token == "q"


# ------------------------------------------------------------------------------------------- what peers bring about


def test_a_goodbye_has_its_own_deadline_and_no_other() -> None:
    peer = connected_peer(ping_interval=1.0, server_timeout=3.0, close_timeout=5.0)
    client_of(peer).close(now=0.0)
    assert client_of(peer).deadline == 5.0


def test_the_token_of_a_redirect_is_not_repeated() -> None:
    peer = RawPeer(hub(access_token="t-first"))
    peer.negotiate(http(200, b'{"url":"https://other.test/hub","accessToken":"t-second"}'))
    peer.negotiate()
    peer.upgrade(HANDSHAKE)
    assert client_of(peer).redact("t-first, t-second, secret-connection-token") == "***, ***, ***"
    peer.feed(hub_frame({"type": 7, "error": "no good: t-second"}))
    assert str(peer.error) == "the server closed the connection: no good: ***"
    assert peer.error.reason == "no good: ***"


@pytest.mark.parametrize(("size", "is_shown"), [(399, False), (400, True), (401, True)])
def test_a_refusal_is_told_once_enough_of_its_body_is_there(size: int, is_shown: bool) -> None:
    peer = RawPeer(hub())
    peer.negotiate()
    peer.open()
    peer.feed(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1000\r\n\r\n" + b"x" * size)
    assert bool(peer.events[2:]) is is_shown
    if not is_shown:
        peer.end()
    assert str(peer.error).endswith("got status 403: " + "x" * 160)


def test_calls_that_want_no_answer_need_no_room_among_those_that_do() -> None:
    pair = joined(limits=Limits(pending_calls=1))
    client = pair.client
    assert isinstance(client, HubConnection)
    client.invoke("first", now=0.0)
    client.send("second", now=0.0)
    client.send("third", uploads=2, now=0.0)
    client.invoke("fourth", now=0.0)
    pair.drive()
    assert [event.target for event in pair.server_events] == ["first", "second"]
    (refused,) = pair.events
    assert refused.call.target == "fourth", "and the third cannot be told"
    assert str(refused.error) == "Failed to invoke 'fourth': too many calls are pending."


def test_calls_that_want_no_answer_take_no_room() -> None:
    pair = joined(limits=Limits(pending_calls=1))
    client = pair.client
    assert isinstance(client, HubConnection)
    for _ in range(3):
        client.send("told", now=0.0)
    client.invoke("asked", now=0.0)
    pair.drive()
    assert [event.target for event in pair.server_events] == ["told", "told", "told", "asked"]
    assert pair.events == []


def test_a_silent_client() -> None:
    pair = joined()
    machine = pair.partner
    machine.handle_timeout(machine.deadline)
    while not (events := take(machine)):
        machine.handle_timeout(machine.deadline)
    assert str(events[-1].error) == "nothing came from the client within 30 s"


@pytest.mark.parametrize(("status", "is_good"), [(399, False), (400, True), (599, True), (600, False), ("401", False)])
def test_which_statuses_refuse_a_client(status: Any, is_good: bool) -> None:
    machine = server(authorize=lambda _: status)
    machine.receive_data(b"POST /hub/negotiate HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 0.0)
    shown = status if is_good else 500
    assert machine.data_to_send().startswith(b"HTTP/1.1 %d" % shown)


def test_a_host_must_fit_into_the_header_with_its_port() -> None:
    HubConfig(url=f"https://{'a' * 58}:8080/hub")
    for url in (f"https://{'a' * 63}:8080/hub", f"https://{'a' * 64}/hub"):
        with pytest.raises(LocalProtocolError, match=r"^expected a URL with a valid host name$"):
            HubConfig(url=url)


def test_a_body_that_is_too_long_for_a_server() -> None:
    machine = server(limits=Limits(http_body=100))
    machine.receive_data(b"POST /hub/negotiate HTTP/1.1\r\nHost: h\r\nContent-Length: 101\r\n\r\n" + b"x" * 101, 0.0)
    error = take(machine)[-1].error
    assert (error.limit, error.allowed) == ("http_body", 100)
    assert str(error).startswith("expected an HTTP body of at most 100 (Limits.http_body), got more")


def test_one_authorization_only() -> None:
    text = r"^expected either access_token or an Authorization header, got both$"
    with pytest.raises(LocalProtocolError, match=text):
        HubConfig(url="https://hub.test/chat", access_token="t", headers={"Authorization": "Basic x"})
