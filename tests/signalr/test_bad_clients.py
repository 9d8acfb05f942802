"""What a server makes of clients that err: an answer in the words of the layer that was broken, then an end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from etorox_proto.signalr import (
    CancelReceived,
    Closed,
    Connected,
    ConnectionClosed,
    ConnectionLost,
    ConnectionTokens,
    HandshakeRefused,
    InvocationReceived,
    LimitExceeded,
    Limits,
    LocalProtocolError,
    RemoteProtocolError,
    ServerConnection,
    State,
    TimedOut,
)
from machines import frame, names, records, server, take

UPGRADE = {
    "Host": "h",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
HANDSHAKE = frame(b'{"protocol":"json","version":1}\x1e', masked=True)


def request(method: str = "GET", target: str = "/hub", version: str = "1.1", **headers: str) -> bytes:
    """A request with these headers and no body."""
    lines = [f"{method} {target} HTTP/{version}", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items() if v)]
    return "\r\n".join([*lines, "", ""]).encode()


def upgrade(target: str = "/hub", **headers: str) -> bytes:
    return request(target=target, **{**UPGRADE, **headers})


def message(*messages: Any) -> bytes:
    return frame(records(*messages), masked=True)


def connected(**config: Any) -> ServerConnection:
    """A server after the handshake of its client, drained."""
    machine = server(**config)
    machine.receive_data(upgrade() + HANDSHAKE, 0.0)
    assert [type(event) for event in take(machine)] == [Connected]
    machine.data_to_send()
    return machine


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The short frames of a server: opcode and payload."""
    while data:
        length = data[1]
        assert length < 126
        yield data[0] & 15, data[2 : 2 + length]
        data = data[2 + length :]


def answers(machine: ServerConnection) -> list[Any]:
    """The hub messages that the server has sent since."""
    sent = list(frames(machine.data_to_send()))
    return [json.loads(payload[:-1]) for opcode, payload in sent if opcode == 1]


def error_of(machine: ServerConnection) -> Any:
    *before, closed = take(machine)
    assert isinstance(closed, Closed)
    assert not any(isinstance(event, Closed) for event in before)
    return closed.error


# ------------------------------------------------------------------------------------------------------------ HTTP


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(Host="h"), 404),
        (request("PUT", Host="h"), 404),
        (request("HEAD", Host="h"), 404),
        (request("GET", "/hub/negotiate", Host="h"), 405),
        (request("POST", "/other/negotiate", Host="h"), 404),
        (request("POST", **UPGRADE), 404),
        (upgrade("/other"), 404),
        (upgrade("/hub?id=unknown"), 404),
        (upgrade(Sec_WebSocket_Version="12", **{"Sec-WebSocket-Version": ""}), 400),
        (upgrade(**{"Sec-WebSocket-Key": ""}), 400),
        (upgrade(Connection="close"), 400),
        (request("HEAD", **{**UPGRADE, "Sec-WebSocket-Key": ""}), 404),
        (request(version="1.0", Upgrade="websocket", Connection="Upgrade"), 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01", 400),
        (request(Host="h", X="x" * 600), 400),
        (request("POST", "/hub/negotiate", Host="h", Content_Length="601") + b"x" * 601, 400),
    ],
)
def test_a_request_that_cannot_be_served(data: bytes, status: int) -> None:
    machine = server(limits=Limits(http_head=500, http_body=600), serves=lambda path: path == "/hub")
    machine.receive_data(data, 0.0)
    response = machine.data_to_send()
    assert response.startswith(f"HTTP/1.1 {status} ".encode())
    if data.startswith(b"HEAD"):
        assert response.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("", {"negotiateVersion": 0}),
        ("?negotiateVersion=0", {"negotiateVersion": 0}),
        ("?NegotiateVersion=1", {"negotiateVersion": 1}),
        ("?negotiateVersion=%2B07", {"negotiateVersion": 1}),
        ("?negotiateVersion=x", {"error": "The client requested a non-integer protocol version."}),
        ("?negotiateVersion=", {"error": "The client requested a non-integer protocol version."}),
        ("?negotiateVersion=" + "1" * 5_000, {"error": "The client requested a non-integer protocol version."}),
        (
            "?negotiateVersion=-1",
            {"error": "The client requested version '-1', but the server does not support this version."},
        ),
    ],
)
def test_the_negotiate_version(version: str, told: dict[str, Any]) -> None:
    machine = server()
    machine.receive_data(request("POST", f"/hub/negotiate{version}", Host="h", Content_Length="0"), 0.0)
    head, _, body = machine.data_to_send().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    answer = json.loads(body)
    assert {name: answer[name] for name in told} == told
    assert ("connectionToken" in answer) == (told.get("negotiateVersion") == 1)


def test_requests_in_one_piece_and_at_any_cut_are_answered_alike() -> None:
    data = request("POST", "/negotiate", Host="h", Content_Length="5") + b"hello" + request(Host="h") * 2
    expected = b""
    for cut in range(len(data) + 1):
        machine = server()
        for piece in (data[:cut], data[cut:]):
            if piece:
                machine.receive_data(piece, 0.0)
        sent = machine.data_to_send()
        assert sent == (expected or sent)
        expected = sent
    assert expected.count(b"HTTP/1.1 404") == 2


def test_a_client_that_does_not_read_its_answers_is_given_up() -> None:
    machine = server(limits=Limits(queued_bytes=1_000))
    while machine.state is not State.CLOSED:
        machine.receive_data(request("POST", "/negotiate", Host="h"), 0.0)
    assert machine.queued_bytes < 3_000
    assert error_of(machine).limit == "queued_bytes"


def test_a_connection_is_attached_once() -> None:
    tokens = ConnectionTokens(names(), max_waiting=1)
    first, token = tokens.issue(1)
    one, two = server(tokens=tokens), server(tokens=tokens)
    for machine, status in ((one, 101), (two, 409)):
        machine.receive_data(upgrade(f"/hub?id={token}"), 0.0)
        assert machine.data_to_send().startswith(f"HTTP/1.1 {status} ".encode())
    assert (one.connection_id, two.connection_id) == (first, None)
    assert (one.path, two.path) == ("/hub", None)
    assert first in repr(one)
    assert len(tokens) == 1
    one.receive_data(b"", 0.0)
    assert len(tokens) == 0


def test_the_oldest_promise_is_forgotten() -> None:
    tokens = ConnectionTokens(names(), max_waiting=1)
    (old, _), (new, _) = tokens.issue(0), tokens.issue(0)
    assert tokens.attach(old) == 404
    assert tokens.attach(new) == new


def test_a_stream_that_only_negotiates_ends_well() -> None:
    machine = server()
    machine.receive_data(request("POST", "/negotiate", Host="h", Connection="close"), 0.0)
    assert error_of(machine) is None
    machine = server()
    machine.receive_data(request("POST", "/negotiate", Host="h"), 0.0)
    machine.receive_data(b"", 0.0)
    assert error_of(machine) is None
    machine = server()
    machine.receive_data(request("POST", "/negotiate", Host="h"), 0.0)
    machine.handle_timeout(15.0)
    assert error_of(machine) is None


def test_a_stream_without_a_request() -> None:
    machine = server()
    machine.receive_data(b"", 0.0)
    assert isinstance(error_of(machine), ConnectionLost)
    machine = server()
    machine.handle_timeout(14.9)
    assert machine.state is State.NEGOTIATING
    machine.handle_timeout(15.0)
    error = error_of(machine)
    assert isinstance(error, TimedOut)
    assert (error.timer, str(error)) == ("opening", "no HTTP request came within 15 s")
    machine = server()
    machine.close(now=0.0)
    assert error_of(machine) is None


# ------------------------------------------------------------------------------------------------------- handshake


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (message(b"{"), "An unexpected error occurred during connection handshake."),
        (message({"type": 6}), "An unexpected error occurred during connection handshake."),
        (message({"protocol": "cbor", "version": 1}), "The protocol 'cbor' is not supported."),
        (
            message({"protocol": "json", "version": 2}),
            "The server does not support version 2 of the 'json' protocol.",
        ),
        (message(b"x" * 600), "Handshake was canceled."),
        (frame(b""), "Handshake was canceled."),
    ],
)
def test_a_handshake_that_is_refused(data: bytes, text: str) -> None:
    machine = server(limits=Limits(record=500))
    machine.receive_data(upgrade() + data, 0.0)
    error = error_of(machine)
    assert isinstance(error, HandshakeRefused)
    assert str(error) == text
    sent = machine.data_to_send().partition(b"\r\n\r\n")[2]
    if text != "Handshake was canceled.":
        assert next(frames(sent))[1] == b'{"error":"' + text.encode() + b'"}\x1e'


def test_a_handshake_that_does_not_come() -> None:
    machine = server(handshake_timeout=3)
    machine.receive_data(upgrade(), 1.0)
    assert machine.deadline == 4.0
    machine.handle_timeout(4.0)
    assert isinstance(error_of(machine), HandshakeRefused)


# ---------------------------------------------------------------------------------------------------- hub messages


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (message(b"{"), RemoteProtocolError),
        (message({"type": 1}), RemoteProtocolError),
        (message(b"x" * 600), LimitExceeded),
        (frame(b"x" * 2_000, masked=True), LimitExceeded),
        (frame(b""), RemoteProtocolError),
        (frame(b"\xff", masked=True), RemoteProtocolError),
        (frame(b"\x03\xe9", 8, masked=True), ConnectionLost),
        (b"", ConnectionLost),
    ],
)
def test_a_client_that_breaks_the_protocol(data: bytes, kind: type[Exception]) -> None:
    machine = connected(limits=Limits(record=500, websocket_message=1_000))
    machine.receive_data(data, 0.0)
    error = error_of(machine)
    assert type(error) is kind
    if isinstance(error, RemoteProtocolError):
        assert error.state == "connected"


@pytest.mark.parametrize("data", [message({"type": 7}), frame(b"\x03\xe8", 8, masked=True), frame(b"", 8, masked=True)])
def test_goodbyes_of_a_client(data: bytes) -> None:
    machine = connected()
    machine.receive_data(message({"type": 1, "target": "t", "arguments": [1]}) + data + message({"type": 6}), 0.0)
    called, closed = take(machine)
    assert called == InvocationReceived("t", [1], None, False)
    assert repr(called) == "InvocationReceived(target='t', arguments=<1>, invocation_id=None, streaming=False)"
    assert closed == Closed(None)


def test_calls_that_cannot_be_taken_are_refused() -> None:
    machine = connected(limits=Limits(pending_calls=1))
    call = {"type": 1, "target": "t", "arguments": [], "invocationId": "1"}
    upload = {**call, "invocationId": "3", "streamIds": ["7", "8"]}
    machine.receive_data(message(call, call, upload, {**call, "invocationId": "2"}), 0.0)
    assert take(machine) == [InvocationReceived("t", [], "1", False)]
    assert [(each["invocationId"], each["error"]) for each in answers(machine)] == [
        ("1", "Invocation ID '1' is already in use."),
        ("3", "Failed to invoke 't': too many calls are pending."),
        ("2", "Failed to invoke 't': too many calls are pending."),
    ]


def test_what_is_of_no_use_is_passed_over() -> None:
    machine = connected()
    machine.receive_data(
        message(
            {"type": 2, "invocationId": "1", "item": 1},
            {"type": 3, "invocationId": "1"},
            {"type": 5, "invocationId": "1"},
            {"type": 8, "sequenceId": 1},
            {"type": 9, "sequenceId": 1},
            {"type": 99},
        ),
        0.0,
    )
    assert take(machine) == []
    assert machine.data_to_send() == b""


def test_a_call_is_cancelled_once_however_often_the_client_says_so() -> None:
    """Whoever completes a call when it is cancelled must not find the same wish again behind it."""
    machine = connected()
    cancel = {"type": 5, "invocationId": "1"}
    machine.receive_data(message({"type": 4, "invocationId": "1", "target": "a", "arguments": []}, cancel, cancel), 0.0)
    machine.receive_data(message(cancel), 0.0)
    assert take(machine)[1:] == [CancelReceived("1")]
    machine.complete("1", now=0.0)
    # The id is free again, and what is called under it can be cancelled like any other.
    machine.receive_data(message({"type": 4, "invocationId": "1", "target": "a", "arguments": []}, cancel), 0.0)
    assert take(machine)[1:] == [CancelReceived("1")]


@pytest.mark.parametrize("error", [5, b"text", ["text"]])
def test_a_reason_that_is_no_text_cannot_be_sent(error: Any) -> None:
    machine = connected()
    with pytest.raises(LocalProtocolError, match="as text"):
        machine.close(error=error, now=0.0)
    assert (machine.state, machine.data_to_send()) == (State.CONNECTED, b"")


def test_a_cancelled_call_still_awaits_its_completion() -> None:
    machine = connected()
    machine.receive_data(message({"type": 4, "target": "t", "arguments": [], "invocationId": "1"}), 0.0)
    machine.receive_data(message({"type": 5, "invocationId": "1"}), 0.0)
    assert take(machine)[1] == CancelReceived("1")
    machine.complete("1", error="canceled", now=0.0)
    assert answers(machine) == [{"type": 3, "invocationId": "1", "error": "canceled"}]
    with pytest.raises(LocalProtocolError, match="awaits its completion"):
        machine.complete("1", now=0.0)


def test_commands_that_do_not_fit_are_refused() -> None:
    machine = server()
    with pytest.raises(LocalProtocolError, match="wait for Connected"):
        machine.send("t", now=0.0)
    machine = connected()
    machine.receive_data(
        message(
            {"type": 1, "target": "t", "arguments": [], "invocationId": "call"},
            {"type": 4, "target": "t", "arguments": [], "invocationId": "stream"},
        ),
        0.0,
    )
    with pytest.raises(LocalProtocolError, match="a result or an error"):
        machine.complete("call", result=1, error="x", now=0.0)
    with pytest.raises(LocalProtocolError, match="none with a result for a stream"):
        machine.complete("stream", result=None, now=0.0)
    with pytest.raises(LocalProtocolError, match="that of a plain call"):
        machine.send_item("call", 1, now=0.0)
    with pytest.raises(LocalProtocolError, match="UTF-8"):
        machine.complete("call", error="\ud800", now=0.0)
    with pytest.raises(LocalProtocolError, match="the reason"):
        machine.close(error="\ud800", now=0.0)
    assert machine.queued_bytes == 0
    machine.complete("call", result=None, now=0.0)
    machine.complete("stream", now=0.0)
    machine.close(error="enough", allow_reconnect=True, now=0.0)
    machine.close(now=0.0)
    assert answers(machine)[-1] == {"type": 7, "error": "enough", "allowReconnect": True}
    with pytest.raises(ConnectionClosed):
        machine.send("t", now=0.0)
    machine.receive_data(message({"type": 1, "target": "late", "arguments": []}), 0.0)
    machine.handle_timeout(machine.deadline)
    assert error_of(machine) is None


def test_while_we_close_the_client_may_err() -> None:
    for data in (frame(b"", 3, masked=True), b"", frame(b"\x03\xe9", 8, masked=True)):
        machine = connected()
        machine.close(now=0.0)
        machine.receive_data(data, 0.0)
        assert error_of(machine) is None


def test_a_client_is_timed_out_from_its_first_ping_on() -> None:
    machine = connected(client_timeout=20, ping_interval=7)
    machine.handle_timeout(1_000.0)
    assert answers(machine) == [{"type": 6}]
    machine.receive_data(message({"type": 6}), 1_000.0)
    for now in (1_007.0, 1_014.0):
        assert machine.deadline == now
        machine.handle_timeout(now)
    machine.handle_timeout(1_020.0)
    error = error_of(machine)
    assert isinstance(error, TimedOut)
    assert error.timer == "silence"
    assert answers(machine)[-1] == {"type": 7, "error": "Connection closed with an error.", "allowReconnect": True}
