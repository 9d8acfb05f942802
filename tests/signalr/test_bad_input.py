"""What a client makes of servers that err, lie, or fall silent: always one named error, which says what was wrong."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest

from etorox_proto.signalr import (
    CallCancelled,
    CallLost,
    Closed,
    Completed,
    ConnectionLost,
    HandshakeRefused,
    HubConfig,
    HubConnection,
    HubError,
    InvocationReceived,
    ItemReceived,
    JsonCodec,
    LimitExceeded,
    Limits,
    LocalProtocolError,
    NegotiationFailed,
    RemoteProtocolError,
    ServerClosed,
    State,
    TimedOut,
    UnexpectedResult,
    parse_negotiate_response,
)
from machines import (
    HANDSHAKE,
    LIMITS,
    RawPeer,
    accept,
    after_negotiating,
    bytewise,
    connected_peer,
    frame,
    http,
    hub,
    hub_frame,
    negotiated,
    records,
    whole,
)

chunkings = pytest.mark.parametrize("chunking", [whole, bytewise], ids=["whole", "bytewise"])


def after_receiving(data: bytes, **config: Any) -> RawPeer:
    """A connected client that received this."""
    peer = connected_peer(limits=LIMITS, **config)
    peer.feed(data)
    return peer


def client_of(peer: RawPeer) -> HubConnection:
    assert isinstance(peer.client, HubConnection)
    return peer.client


# ------------------------------------------------------------------------------------------------------- handshake


@pytest.mark.parametrize(
    ("record", "kind", "text"),
    [
        (b'{"error":"wrong protocol"}', HandshakeRefused, "refused the handshake: wrong protocol"),
        (b'{"error":""}', HandshakeRefused, "(it gave no reason)"),
        (b'{"type":6}', RemoteProtocolError, "a hub message (it has a type)"),
        (b"{", RemoteProtocolError, "a handshake response"),
        (b"[]", RemoteProtocolError, "a handshake response"),
        (b'{"error":1}', RemoteProtocolError, "error"),
        (b"", RemoteProtocolError, "a handshake response"),
        (b'{"x":' + b"[" * 100_000, RemoteProtocolError, "nested too deeply"),
    ],
)
def test_a_handshake_that_is_wrong(record: bytes, kind: type[Exception], text: str) -> None:
    peer = RawPeer(hub())
    peer.negotiate()
    peer.upgrade(frame(record + b"\x1e"))
    assert type(peer.error) is kind
    assert text in str(peer.error)
    if isinstance(peer.error, RemoteProtocolError):
        assert peer.error.state == "waiting for the SignalR handshake"


def test_a_handshake_in_pieces_and_with_new_members_is_a_handshake() -> None:
    peer = RawPeer(hub())
    peer.negotiate()
    peer.upgrade(frame(b'{"minor', fin=False) + frame(b"", 9) + frame(b'Version":1}\x1e{"type":6}', 0) + frame(b"\x1e"))
    assert peer.client.state is State.CONNECTED


# ---------------------------------------------------------------------------------------------------------- frames


@chunkings
@pytest.mark.parametrize(
    ("data", "text", "code"),
    [
        (frame(b"x", masked=True), "client received unexpected masked frame", 1002),
        (frame(b"", 9, fin=False), "fragment control frame", 1002),
        (frame(b"x" * 126, 9), "Control frame with payload len > 125", 1002),
        (frame(b"", reserved=4), "Reserved bit set unexpectedly", 1002),
        (frame(b"", reserved=2), "Reserved bit set unexpectedly", 1002),
        (frame(b"", 3), "Invalid opcode 0x3", 1002),
        (frame(b"x", 0), "unexpected CONTINUATION", 1002),
        (frame(b"x", fin=False) + frame(b"x"), "expected CONTINUATION", 1002),
        (b"\x81\x7e\x00\x01x", "Payload length used 2 bytes", 1002),
        (b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", "non-zero MSB", 1002),
        (frame(b"\x03", 8), "CLOSE with 1 byte payload", 1002),
        (frame(b"\x03\xed", 8), "local-only reason", 1002),
        (frame(b"\x00\x01", 8), "invalid code", 1002),
        (frame(b"\x03\xe8\xff", 8), "text that is not UTF-8", 1007),
        (frame(b"\xff\xfe\x1e"), "text that is not UTF-8", 1007),
        (frame("é".encode()[:1] + b"\x1e"), "text that is not UTF-8", 1007),
    ],
)
def test_a_frame_that_breaks_the_rules(data: bytes, text: str, code: int, chunking: Any) -> None:
    peer = connected_peer(chunking)
    peer.feed(data)
    assert isinstance(peer.error, RemoteProtocolError)
    assert text in str(peer.error)
    assert peer.error.state == "connected"
    assert peer.said() == [("close", code, "")] or peer.said() == []


@chunkings
@pytest.mark.parametrize(
    ("payload", "code", "text"),
    [
        (b"\x03\xe8", 1000, "with code 1000 and without"),
        (b"\x03\xe9going away", 1001, "with code 1001 (going away) and without"),
        (b"\x0f\xa0", 4000, "with code 4000 and without"),
        (b"\x03\xf3", 1011, "with code 1011 and without"),
        (b"", 1005, "with code 1005 and without"),
    ],
)
def test_a_close_frame_without_a_goodbye(payload: bytes, code: int, text: str, chunking: Any) -> None:
    peer = connected_peer(chunking)
    peer.feed(frame(payload, 8) + hub_frame({"type": 1, "target": "late", "arguments": []}))
    assert isinstance(peer.error, ConnectionLost)
    assert text in str(peer.error)
    assert (peer.error.code, peer.error.may_retry) == (code, True)
    assert len(peer.events) == 1, "what follows a close frame does not count"
    assert [each[0] for each in peer.said()] == ["close"]


@chunkings
@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (frame(b"x" * 501), "record"),
        (frame(b"x" * 400) + frame(b"x" * 101), "record"),
        (frame(b"x" * 501 + b"\x1e"), "record"),
        (frame(b"x" * 1_001), "websocket_message"),
        (frame(b"x" * 1_001, 2), "websocket_message"),
        (frame(b"x" * 600, fin=False) + frame(b"x" * 401, 0), "websocket_message"),
        (frame(b"x" * 1_001, length=2**40), "websocket_message"),
    ],
)
def test_an_oversized_message(data: bytes, limit: str, chunking: Any) -> None:
    peer = connected_peer(chunking, limits=LIMITS)
    peer.feed(data)
    assert isinstance(peer.error, LimitExceeded)
    assert peer.error.limit == limit
    assert peer.error.state == "connected"
    assert [each[:2] for each in peer.said()] == [("close", 1009 if limit == "websocket_message" else 1000)]


def test_messages_of_exactly_the_limits_are_read() -> None:
    peer = after_receiving(frame(records({"type": 6}) + b" " * 481 + b'{"type":6}\x1e' + b" " * 497))
    peer.feed(hub_frame(b' {"type":6}'))
    assert isinstance(peer.error, LimitExceeded)
    peer = after_receiving(frame(b" " * 490 + b'{"type":6}\x1e' + b" " * 489 + b'{"type":6}'))
    assert peer.events == []


# ---------------------------------------------------------------------------------------------------- hub messages


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"null", "null"),
        (b"[1]", "array"),
        (b"{}", "type"),
        (b'{"type":"1"}', "type"),
        (b'{"type":1,"target":"t"}', "arguments"),
        (b'{"type":1,"target":1,"arguments":[]}', "target"),
        (b'{"type":1,"target":"t","arguments":{}}', "arguments"),
        (b'{"type":1,"target":"t","arguments":[1e99999999999999999999]}', "out of range"),
        (b'{"type":2,"invocationId":"1"}', "item"),
        (b'{"type":2,"item":1}', "invocationId"),
        (b'{"type":2,"invocationId":1,"item":1}', "invocationId"),
        (b'{"type":2,"invocationId":"","item":1}', "an empty one"),
        (b'{"type":3,"invocationId":""}', "an empty one"),
        (b'{"type":3,"invocationId":"1","result":1,"error":"x"}', "one with both"),
        (b'{"type":3,"invocationId":"1","error":1}', "error"),
        (b'{"type":7,"allowReconnect":"yes"}', "allowReconnect"),
        (b'{"type":6}x', ""),
    ],
)
@chunkings
def test_a_hub_message_that_is_wrong(record: bytes, text: str, chunking: Any) -> None:
    peer = connected_peer(chunking)
    peer.feed(hub_frame(record))
    assert isinstance(peer.error, RemoteProtocolError)
    assert peer.error.may_retry
    assert text in peer.error.got
    assert peer.error.state == "connected"
    assert peer.said() == [("close", 1000, "")]


def test_a_deeply_nested_message() -> None:
    for record in (b"[" * 100_000, b'{"type":1,"target":"t","arguments":' + b"[" * 100_000):
        peer = connected_peer()
        peer.feed(hub_frame(record))
        assert isinstance(peer.error, RemoteProtocolError)


def test_text_that_is_not_utf8_in_a_binary_message() -> None:
    peer = after_receiving(frame(b'{"type":1,"target":"\xff","arguments":[]}\x1e', 2))
    assert isinstance(peer.error, RemoteProtocolError)
    assert peer.error.got == "text that is not UTF-8"


@pytest.mark.parametrize("error", [None, "", "shutting down"])
@pytest.mark.parametrize("again", [True, False, None])
def test_a_hub_close(error: str | None, again: bool | None) -> None:
    message = {"type": 7, "error": error, "allowReconnect": again}
    peer = after_receiving(hub_frame({k: v for k, v in message.items() if v is not None}))
    assert isinstance(peer.error, ServerClosed)
    assert peer.error.reason == error
    assert peer.error.allow_reconnect == peer.error.may_retry == bool(again)
    assert (error or "closed") in str(peer.error)
    assert peer.said() == [("close", 1000, "")]


def test_the_end_of_the_stream() -> None:
    peer = connected_peer()
    client_of(peer).invoke("echo", now=0.0)
    peer.settle()
    peer.end()
    completed, closed = peer.events
    assert isinstance(closed, Closed)
    assert str(peer.error) == "the server ended the byte stream without a goodbye (while connected)"
    assert isinstance(completed.error, CallLost)
    assert completed.error.delivery == "maybe_sent"


def test_an_invocation_that_wants_an_answer_gets_an_error() -> None:
    peer = after_receiving(hub_frame({"type": 1, "target": "ask", "arguments": [1], "invocationId": "s1"}))
    assert peer.events == [InvocationReceived("ask", [1], None, False)]
    answer = {"type": 3, "invocationId": "s1", "error": "Client didn't provide a result."}
    assert peer.said() == [answer]


def test_an_invocation_with_an_empty_id_wants_no_answer() -> None:
    peer = after_receiving(hub_frame({"type": 1, "target": "tell", "arguments": [], "invocationId": ""}))
    assert peer.events == [InvocationReceived("tell", [], None, False)]
    assert peer.said() == []


# ---------------------------------------------------------------------------------------------------------- calls


def answered(message: dict[str, Any], *, streaming: bool, item_type: Any = Any) -> RawPeer:
    """A client with one call or stream, after a message of the server."""
    peer = connected_peer()
    client = client_of(peer)
    if streaming:
        client.stream("method", item_type=item_type, now=0.0)
    else:
        client.invoke("method", result_type=item_type, now=0.0)
    peer.settle()
    peer.said()
    peer.feed(hub_frame({"invocationId": "1", **message}))
    return peer


def test_a_result_of_the_wrong_type_fails_the_call_only() -> None:
    peer = answered({"type": 3, "result": "text"}, streaming=False, item_type=int)
    (completed,) = peer.events
    assert isinstance(completed.error, UnexpectedResult)
    assert "expected the result of method to fit its type" in str(completed.error)
    assert "Expected `int`, got `str`" in str(completed.error)
    assert peer.said() == []
    assert peer.client.state is State.CONNECTED


def test_an_item_of_the_wrong_type_fails_the_stream_only() -> None:
    peer = answered({"type": 2, "item": "text"}, streaming=True, item_type=int)
    (completed,) = peer.events
    assert isinstance(completed.error, UnexpectedResult)
    assert "expected items of method to fit their type" in str(completed.error)
    assert peer.said() == [{"type": 5, "invocationId": "1"}]
    peer.feed(hub_frame({"type": 2, "invocationId": "1", "item": 1}, {"type": 3, "invocationId": "1"}))
    assert peer.events == [completed], "what still comes is dropped"
    assert dict(client_of(peer).ignored) == {}
    peer.feed(hub_frame({"type": 2, "invocationId": "1", "item": 1}))
    assert dict(client_of(peer).ignored) == {"unknown_id": 1}


def test_an_item_decoder_may_raise_anything() -> None:
    def decode(payload: Any) -> Any:
        raise ZeroDivisionError(bytes(payload).decode())

    peer = connected_peer()
    client_of(peer).stream("method", item_decoder=decode, now=0.0)
    peer.feed(hub_frame({"type": 2, "invocationId": "1", "item": 7}))
    (completed,) = peer.events
    assert isinstance(completed.error, UnexpectedResult)


def test_a_stream_item_for_a_plain_call() -> None:
    peer = answered({"type": 2, "item": 1}, streaming=False)
    (completed,) = peer.events
    assert isinstance(completed.error, UnexpectedResult)
    assert "use stream() for streaming methods" in str(completed.error)
    assert peer.said() == [{"type": 5, "invocationId": "1"}]


def test_a_result_at_the_end_of_a_stream() -> None:
    peer = answered({"type": 3, "result": 1}, streaming=True)
    (completed,) = peer.events
    assert isinstance(completed.error, UnexpectedResult)
    assert "to end without a result, got one" in str(completed.error)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_result_of_null_is_no_fault(streaming: bool) -> None:
    (completed,) = answered({"type": 3, "result": None}, streaming=streaming, item_type=int).events
    assert (completed.result, completed.error) == (None, None)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("text", ["it broke", ""])
def test_an_error_of_the_server(streaming: bool, text: str) -> None:
    (completed,) = answered({"type": 3, "error": text}, streaming=streaming).events
    assert isinstance(completed.error, HubError)
    assert str(completed.error) == text


UNUSABLE: list[tuple[dict[str, Any], str]] = [
    ({"type": 2, "invocationId": "77", "item": 1}, "unknown_id"),
    ({"type": 3, "invocationId": "77"}, "unknown_id"),
    ({"type": 4, "invocationId": "1", "target": "t", "arguments": []}, "unsupported"),
    ({"type": 5, "invocationId": "1"}, "unsupported"),
    ({"type": 8, "sequenceId": 1}, "unsupported"),
    ({"type": 9, "sequenceId": 1}, "unsupported"),
    ({"type": 42}, "unknown_type"),
    ({"type": 0}, "unknown_type"),
]


@pytest.mark.parametrize(("message", "reason"), UNUSABLE)
def test_what_is_of_no_use_is_counted_or_refused(message: dict[str, Any], reason: str) -> None:
    peer = after_receiving(hub_frame(message, message))
    assert dict(client_of(peer).ignored) == {reason: 2}
    assert peer.events == []
    strict = after_receiving(hub_frame(message), strict=True)
    assert isinstance(strict.error, RemoteProtocolError)
    assert strict.error.state == "connected"


def test_strict_refuses_new_properties() -> None:
    message = {"type": 6, "new": 1}
    assert after_receiving(hub_frame(message)).events == []
    strict = after_receiving(hub_frame(message), strict=True)
    assert "new" in str(strict.error)


def test_strict_lets_late_items_of_a_cancelled_stream_pass() -> None:
    peer = connected_peer(strict=True)
    client = client_of(peer)
    call = client.stream("numbers", now=0.0)
    client.cancel(call, now=0.0)
    client.cancel(call, now=0.0)
    peer.feed(hub_frame({"type": 2, "invocationId": "1", "item": 1}, {"type": 3, "invocationId": "1", "error": "x"}))
    (completed,) = peer.events
    assert isinstance(completed.error, CallCancelled)
    assert client.state is State.CONNECTED


def test_the_oldest_cancelled_ids_are_forgotten() -> None:
    peer = connected_peer(limits=Limits(pending_calls=2))
    client = client_of(peer)
    for _ in range(3):
        client.cancel(client.stream("numbers", now=0.0), now=0.0)
    for number in ("1", "2", "3"):
        peer.feed(hub_frame({"type": 2, "invocationId": number, "item": 1}))
    assert dict(client.ignored) == {"unknown_id": 1}


def test_ids_that_run_out_or_repeat_are_refused() -> None:
    for ids in (["a", "a"], ["a"], ["a", ""]):
        peer = RawPeer(HubConnection(HubConfig(url="https://hub.test/chat"), now=0.0, ids=ids))
        peer.connect()
        client = client_of(peer)
        client.invoke("echo", now=0.0)
        with pytest.raises(LocalProtocolError, match="expected a fresh invocation id"):
            client.invoke("echo", now=0.0)


# ---------------------------------------------------------------------------------------------------------- silence


def silent_peer(steps: int) -> RawPeer:
    """A server that answers so often and then no more; time begins at 1000 and goes on by 2 s a step."""
    peer = RawPeer(hub(now=1_000.0, opening_timeout=20, handshake_timeout=7, server_timeout=40, ping_interval=11))
    peer.now = 1_000.0
    for step in range(steps):
        peer.now += 2.0
        if step in {0, 2}:
            peer.open()
        elif step == 1:
            peer.feed(negotiated())
        elif step == 3:
            peer.feed(accept(peer.sent))
        else:
            peer.feed(HANDSHAKE)
    return peer


@pytest.mark.parametrize(
    ("steps", "timer", "at", "text"),
    [
        (0, "opening", 1_020, "no byte stream to https://hub.test was opened within 20 s"),
        (1, "opening", 1_020, "the server did not answer the negotiate request within 20 s"),
        (2, "opening", 1_020, "no byte stream to https://hub.test was opened within 20 s"),
        (3, "opening", 1_020, "the server did not accept the WebSocket within 20 s"),
        (4, "handshake", 1_015, "the server did not answer the handshake within 7 s"),
        (5, "silence", 1_050, "nothing came from the server within 40 s"),
    ],
)
def test_silence_ends_in_a_named_error_at_its_deadline(steps: int, timer: str, at: float, text: str) -> None:
    peer = silent_peer(steps)
    while peer.client.state is not State.CLOSED:
        peer.wait_until_deadline()
    assert peer.now == at
    assert isinstance(peer.error, TimedOut)
    assert (peer.error.timer, str(peer.error), peer.error.may_retry) == (timer, text, True)
    assert peer.client.deadline == math.inf


def test_any_byte_breaks_the_silence() -> None:
    peer = connected_peer(server_timeout=10, ping_interval=100)
    for _ in range(5):
        peer.now += 9
        peer.feed(frame(b"")[:1] if peer.now % 2 else frame(b"")[1:])
    assert peer.wait_until_deadline() == 55
    assert isinstance(peer.error, TimedOut)


def test_a_server_that_does_not_answer_our_goodbye() -> None:
    peer = connected_peer(close_timeout=3)
    client_of(peer).close(now=2.0)
    peer.settle()
    assert peer.said() == [{"type": 7}, ("close", 1000, "")]
    peer.feed(hub_frame({"type": 1, "target": "late", "arguments": []}) + frame(b"", 9))
    assert peer.events == []
    assert peer.wait_until_deadline() == 5
    assert peer.error is None
    assert peer.sent == b""


@pytest.mark.parametrize("last", [b"", frame(b"\x03\xe8", 8), frame(b"", 3), hub_frame({"type": 7})])
def test_while_we_close_the_server_may_end_it_as_it_likes(last: bytes) -> None:
    peer = connected_peer()
    client_of(peer).close(now=0.0)
    peer.settle()
    if last:
        peer.feed(last)
    peer.end()
    assert peer.error is None


# ---------------------------------------------------------------------------------------------------------- secrets


def test_no_error_repeats_a_token() -> None:
    """Servers and proxies quote what they were sent."""
    token, connection_token = "T0PSECRET", "secret-connection-token"
    responses = [
        http(404, f"cannot POST with Bearer {token}".encode()),
        http(200, json.dumps({"error": f"bad token {token}"}).encode()),
        http(301, b"", f"Location: https://hub.test/{token}"),
    ]
    for response in responses:
        peer = after_negotiating(response, access_token=token)
        assert isinstance(peer.error, NegotiationFailed)
        assert "***" in str(peer.error)
        assert token not in repr(vars(peer.error)) + repr(peer.error) + repr(peer.events)
    for after in (
        hub_frame({"error": f"{token} {connection_token}"}),
        HANDSHAKE + hub_frame({"type": 7, "error": f"{token} {connection_token}"}),
        HANDSHAKE + frame(b"\x03\xe9" + f"{token} {connection_token}".encode(), 8),
    ):
        peer = RawPeer(hub(access_token=token))
        peer.negotiate()
        peer.upgrade(after)
        shown = str(peer.error) + repr(vars(peer.error)) + repr(peer.events) + repr(peer.client)
        assert "*** ***" in shown
        assert token not in shown
        assert connection_token not in shown


def test_a_name_that_is_no_secret_is_shown() -> None:
    peer = RawPeer(hub())
    peer.negotiate(negotiated("visible", connectionToken=None, negotiateVersion=0))
    peer.upgrade(HANDSHAKE + hub_frame({"type": 7, "error": "visible is gone"}))
    assert str(peer.error).endswith("visible is gone")


# ------------------------------------------------------------------------------------- what used to be got wrong


@pytest.mark.parametrize("now", [math.inf, 1e300])
def test_the_end_of_time_is_the_end_of_the_connection_once(now: float) -> None:
    peer = connected_peer()
    for _ in range(2):
        client_of(peer).handle_timeout(now)
    peer.settle()
    assert isinstance(peer.error, TimedOut)


def test_what_precedes_a_fault_in_the_same_message_is_delivered() -> None:
    for fault in (b"{", b"x" * 501):
        peer = connected_peer(limits=LIMITS)
        call = client_of(peer).stream("numbers", now=0.0)
        peer.feed(hub_frame({"type": 2, "invocationId": "1", "item": 1}, fault))
        item, completed, closed = peer.events
        assert item == ItemReceived(call, 1)
        assert isinstance(completed, Completed)
        assert isinstance(closed, Closed)


# ------------------------------------------------------------------------------------------ what cannot be asked


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"url": "hub.test"}, "got the scheme ''"),
        ({"url": "ftp://hub.test/"}, "got the scheme 'ftp'"),
        ({"url": "https:///x"}, "got no host"),
        ({"url": "https://hub.test:99999/"}, "cannot be read"),
        ({"url": "https://me:passw0rd@hub.test/"}, "without user and password"),
        ({"url": "https://" + "x" * 70 + ".test/"}, "a valid host name"),
        ({"url": "https://a b/"}, "a valid host name"),
        ({"url": "http://hub.test/"}, "expected an encrypted connection, got http://hub.test"),
        ({"url": "http://[::2]:80/"}, "got http://[::2]:"),
        ({"headers": {"Upgrade": "h2c"}}, "which this library sets itself"),
        ({"headers": {"X": "a\r\nb"}}, "forbidden character: 'X'"),
        ({"headers": {"X\xe9 ": "a"}}, "forbidden character"),
        ({"access_token": "a\nb"}, "forbidden character: 'Authorization'"),
        ({"ping_interval": 0}, "expected ping_interval to be a positive number of seconds, got 0"),
        ({"close_timeout": math.inf}, "close_timeout"),
        ({"server_timeout": math.nan}, "server_timeout"),
        ({"opening_timeout": "1"}, "opening_timeout"),
    ],
)
def test_a_configuration_that_cannot_be_used(config: dict[str, Any], text: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        HubConfig(**{"url": "https://hub.test/", **config})
    assert text in str(caught.value)
    assert "passw0rd" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -1, 1.5, None])
def test_limits_are_positive_integers(value: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"expected Limits\.record to be an integer from 1 upwards"):
        Limits(record=value)


@pytest.mark.parametrize(
    ("url", "host", "shown"),
    [
        ("http://127.0.0.1:8080/a?k=v", "127.0.0.1:8080", "<Endpoint http://127.0.0.1:8080/...>"),
        ("http://[::1]/", "[::1]", "<Endpoint http://[::1]/...>"),
        ("http://app.localhost/", "app.localhost", "<Endpoint http://app.localhost/...>"),
        ("https://B\xfccher.test:443", "xn--bcher-kva.test", "<Endpoint https://xn--bcher-kva.test/...>"),
    ],
)
def test_a_configuration_shows_no_more_than_the_origin(url: str, host: str, shown: str) -> None:
    config = HubConfig(url=url, access_token="t0ken", headers={"X": "s3cret"})
    assert config.endpoint.authority == host
    assert repr(config.endpoint) == shown
    assert "t0ken" not in repr(config)
    assert "s3cret" not in repr(config)
    assert "k=v" not in repr(config)


def test_an_access_token_may_go_into_the_query() -> None:
    peer = RawPeer(hub("https://hub.test/chat/?negotiateVersion=0", access_token="a b", access_token_in_query=True))
    assert peer.open().startswith(b"POST /chat/negotiate?negotiateVersion=0 HTTP/1.1\r\n")
    assert b"Authorization: Bearer a b\r\n" in peer.sent
    peer.feed(negotiated(connectionToken=None, negotiateVersion=0))
    request = peer.open()
    assert request.startswith(b"GET /chat/?negotiateVersion=0&id=shown&access_token=a%20b HTTP/1.1\r\n")
    assert b"Authorization" not in request


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"target": ""}, "expected the name of a method, got ''"),
        ({"target": None}, "expected the name of a method, got None"),
        ({"arguments": "text"}, "expected a sequence of arguments for m, got str"),
        ({"arguments": {1}}, "expected a sequence of arguments for m, got set"),
        ({"arguments": [1, object()]}, "argument 2 of m cannot be written as JSON"),
        ({"arguments": [float("nan"), Decimal("NaN")]}, "argument 2 of m cannot be written as JSON"),
        ({"arguments": [Decimal("Infinity")]}, "argument 1 of m cannot be written as JSON"),
        ({"headers": {"a": 1}}, "expected hub headers to be strings by strings"),
        ({"result_type": set[list[int]] | set[int]}, "expected a type that msgspec can decode"),
    ],
)
def test_a_call_that_cannot_be_made(arguments: dict[str, Any], text: str) -> None:
    peer = connected_peer()
    with pytest.raises(LocalProtocolError) as caught:
        client_of(peer).invoke(**{"target": "m", "now": 0.0, **arguments})
    assert text in str(caught.value)
    assert client_of(peer).pending_calls == 0
    assert client_of(peer).queued_bytes == 0


def test_words_such_as_nan_are_words_within_text() -> None:
    peer = connected_peer()
    client_of(peer).invoke("m", ["NaN and Infinity"], headers={"h": "v"}, now=0.0)
    peer.settle()
    (sent,) = peer.said()
    assert (sent["arguments"], sent["headers"]) == (["NaN and Infinity"], {"h": "v"})


def test_calls_and_connections_show_who_they_are() -> None:
    peer = connected_peer()
    client = client_of(peer)
    assert repr(client.invoke("m", now=0.0)) == "<Call '1': call of 'm'>"
    assert repr(client.stream("n", now=0.0)) == "<Call '2': stream of 'n'>"
    assert repr(client) == "<HubConnection to https://hub.test: connected>"


def test_messages_and_responses_do_not_show_what_may_be_secret() -> None:
    message = JsonCodec().decode(b'{"type":1,"target":"setup","arguments":["s3cret"]}')
    assert repr(message) == "<Invocation of 'setup'>"
    response = parse_negotiate_response(negotiated(token="s3cret").partition(b"\r\n\r\n")[2])
    assert repr(response) == "<NegotiateResponse version 1, connection 'shown'>"
