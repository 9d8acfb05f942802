"""What errors say, word for word: what was expected, what came and what to do are the message's to tell.

Elsewhere a few words decide which error it is; here that all of them are there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import plain_msgpack
from etorox_proto.signalr import (
    CallLost,
    ConnectionLost,
    LengthPrefixReader,
    LimitExceeded,
    Limits,
    State,
    parse_handshake_request,
)
from machines import RawPeer, connected_peer, frame, http, hub, hub_frame, negotiated

LIMITS = Limits(record=500, websocket_message=1_000, http_head=1_500, http_body=1_500)
USABLE = "expected a message that this connection can use, got"


def closed_by(data: bytes, **config: Any) -> str:
    peer = connected_peer(limits=LIMITS, **config)
    peer.feed(data)
    return str(peer.error)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (hub_frame(b"{"), "expected a hub message in JSON, got Input data was truncated"),
        (
            hub_frame(b'{"type":2,"invocationId":"","item":1}'),
            "expected an invocationId that is not empty, got an empty one",
        ),
        (
            hub_frame({"type": 3, "invocationId": "1", "result": 1, "error": "x"}),
            "expected a Completion with a result or an error, got one with both",
        ),
        (frame(b"x" * 501), "expected a hub message of at most 500 (Limits.record), got more"),
        (
            frame(b"x" * 1_001),
            "expected a WebSocket message of at most 1000 (Limits.websocket_message), got more",
        ),
        (frame(b"\xff"), "expected a WebSocket frame as in RFC 6455, got text that is not UTF-8"),
        (frame(b"", 3), "expected a WebSocket frame as in RFC 6455, got Invalid opcode 0x3"),
    ],
)
def test_what_breaks_the_protocol(data: bytes, text: str) -> None:
    assert closed_by(data) == f"{text} (while connected)"


def test_what_is_nested_too_deeply() -> None:
    peer = connected_peer()
    peer.feed(hub_frame(b'{"type":1,"target":"t","arguments":' + b"[" * 100_000))
    assert str(peer.error) == "expected a hub message in JSON, got values nested too deeply (while connected)"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (hub_frame({"type": 7}), "the server closed the connection"),
        (hub_frame({"type": 7, "error": "e"}), "the server closed the connection: e"),
        (
            frame(b"\x03\xe9bye", 8),
            "the server closed the WebSocket with code 1001 (bye) and without a SignalR Close",
        ),
        (frame(b"", 8), "the server closed the WebSocket with code 1005 and without a SignalR Close"),
    ],
)
def test_how_the_server_ends(data: bytes, text: str) -> None:
    assert closed_by(data) == text


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"type": 42}, "expected a hub message of type 1 to 9, got type 42"),
        ({"type": 6, "x": 1}, "expected a hub message in JSON, got Object contains unknown field `x`"),
        ({"type": 2, "invocationId": "9", "item": 1}, f"{USABLE} a StreamItem for an id that is not in use"),
        ({"type": 3, "invocationId": "9"}, f"{USABLE} a Completion for an id that is not in use"),
        ({"type": 5, "invocationId": "9"}, f"{USABLE} a CancelInvocation, which no server sends here"),
        ({"type": 9, "sequenceId": 1}, f"{USABLE} a Sequence, which no server sends here"),
    ],
)
def test_what_is_strictly_refused(message: dict[str, Any], text: str) -> None:
    assert closed_by(hub_frame(message), strict=True) == f"{text} (while connected)"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ([1], "expected a hub message in MessagePack, got Expected `array` of at least length 5, got 1"),
        ([2, {}, "", 1], "expected an invocationId that is not empty, got an empty one"),
        ([3, {}, "1", 1, 5], "expected a Completion whose error is text, got Expected `str`, got `int`"),
        ([3, {}, "1", 1], "expected a Completion with the result or error that it announces, got one without"),
        ([3, {}, "1", 3], "expected a Completion with the result or error that it announces, got one without"),
        ([3, {}, "1", 4], "expected a Completion of kind 1 (error), 2 (void) or 3 (result), got kind 4"),
        ([3, {}, "1", 2, 5], "expected a void Completion without a value, got one with a value"),
        ([42], "expected a hub message of type 1 to 9, got type 42"),
        ("x" * 501, "expected a hub message of at most 500 (Limits.record), got more"),
        (None, "expected a length prefix of at most 2147483647, got a greater one"),
    ],
)
def test_what_breaks_the_protocol_in_messagepack(message: Any, text: str) -> None:
    peer = connected_peer(limits=LIMITS, encoding="messagepack", strict=True)
    data = b"\xff" * 5 if message is None else plain_msgpack.framed(plain_msgpack.pack(message))
    peer.feed(frame(data, 2))
    assert str(peer.error) == f"{text} (while connected)"


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (b"\x15\x03", "expected an HTTP/1.1 response, got TLS; does one side use https and the other http?"),
        (b"garbage", "expected an HTTP/1.1 response, got something else"),
        (
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_500,
            "expected an HTTP head of at most 1500 (Limits.http_head), got more",
        ),
        (http(200, b"x" * 1_501), "expected an HTTP body of at most 1500 (Limits.http_body), got more"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "expected an HTTP/1.1 response, got bad Content-Length"),
    ],
)
def test_what_is_no_response(response: bytes, text: str) -> None:
    peer = RawPeer(hub(limits=LIMITS))
    peer.negotiate(response)
    assert str(peer.error) == f"{text} (while negotiating)"


STATUS = "the server answered the negotiate request with HTTP status"


@pytest.mark.parametrize(
    ("response", "status", "text"),
    [
        (http(404, b"no\tpe"), 404, f"{STATUS} 404 (is this the URL of a SignalR hub?): nope"),
        (http(404, b"not here"), 404, f"{STATUS} 404 (is this the URL of a SignalR hub?): not here"),
        (http(500, b"x" * 160), 500, f"{STATUS} 500: {'x' * 160}"),
        (http(500, b"x" * 161), 500, f"{STATUS} 500: {'x' * 160}..."),
        (
            http(302, b"", "Location: https://else/where?x=1"),
            302,
            f"{STATUS} 302 and points to https://else/where; HTTP redirects are not followed, use that URL",
        ),
        (http(401, b""), 401, f"{STATUS} 401 (the access token or API key was not accepted)"),
        (
            http(200, b"{}"),
            200,
            "expected a negotiate response with connectionId and availableTransports, got one without",
        ),
        (
            http(200, b"["),
            200,
            "expected a negotiate response in JSON, got 1 bytes of something else: Expected `object`, got `array`",
        ),
        (http(200, b'{"error":"no"}'), 200, "the server refused to negotiate: no"),
        (
            negotiated(availableTransports=[]),
            200,
            "expected the server to offer WebSockets with Text, it offers nothing",
        ),
        (
            negotiated(availableTransports=[{"transport": each, "transferFormats": ["Text"]} for each in ("A", "B")]),
            200,
            "expected the server to offer WebSockets with Text, it offers A, B",
        ),
        (
            negotiated(useStatefulReconnect=True),
            200,
            "expected a response without useStatefulReconnect, which was not asked for, got one that grants it",
        ),
        (
            http(200, b'{"ProtocolVersion":"1.4"}'),
            200,
            "expected ASP.NET Core SignalR, got classic ASP.NET SignalR (its response has a ProtocolVersion); the two "
            "cannot talk to each other",
        ),
        (
            http(200, b'{"url":"ftp://x"}'),
            None,
            "the server redirects to where this client does not go: expected a URL such as https://host/hub, got the "
            "scheme 'ftp'",
        ),
        (
            http(200, b'{"url":"http://x/y"}'),
            None,
            "the server redirects to where this client does not go: expected an encrypted connection, got http://x: "
            "everything sent there could be read on the way. Use https, or say allow_insecure=True",
        ),
    ],
)
def test_why_negotiation_failed(response: bytes, status: int | None, text: str) -> None:
    peer = RawPeer(hub(limits=LIMITS))
    peer.negotiate(response)
    assert (str(peer.error), peer.error.status) == (text, status)


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (
            http(403, b"go away"),
            "expected the server to accept the WebSocket (HTTP status 101), got status 403: go away",
        ),
        (http(200, b""), "expected the server to accept the WebSocket (HTTP status 101), got status 200"),
        (
            b"HTTP/1.1 101 x\r\n\r\n",
            "expected the server to accept the WebSocket, got Missing header, 'Connection: Upgrade'",
        ),
    ],
)
def test_why_there_is_no_websocket(response: bytes, text: str) -> None:
    peer = RawPeer(hub())
    peer.negotiate()
    peer.open()
    peer.feed(response)
    assert str(peer.error) == text


HANDSHAKING = "(while waiting for the SignalR handshake)"


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (b'{"error":"x"}', "the server refused the handshake: x"),
        (b'{"error":""}', "the server refused the handshake: (it gave no reason)"),
        (b'{"type":6}', f"expected a handshake response, got a hub message (it has a type) {HANDSHAKING}"),
        (b"[", f"expected a handshake response, got Expected `object`, got `array` {HANDSHAKING}"),
        (b"x" * 501, f"expected a hub message of at most 500 (Limits.record), got more {HANDSHAKING}"),
    ],
)
def test_why_there_is_no_handshake(record: bytes, text: str) -> None:
    peer = RawPeer(hub(limits=LIMITS))
    peer.negotiate()
    peer.upgrade(frame(record + b"\x1e"))
    assert str(peer.error) == text
    assert not isinstance(peer.error, LimitExceeded) or (peer.error.limit, peer.error.allowed) == ("record", 500)


def test_what_is_no_handshake_request() -> None:
    with pytest.raises(Exception, match=r"^expected a handshake request, got Expected `object`, got `array`$"):
        parse_handshake_request(b"[]")


def test_what_ends_and_what_never_comes() -> None:
    def nothing(_: RawPeer) -> None:
        """Not even a stream."""

    def negotiating(peer: RawPeer) -> None:
        peer.open()

    def half(peer: RawPeer) -> None:
        peer.open()
        peer.feed(b"HTTP/1.1 200 OK\r\n")

    def upgrading(peer: RawPeer) -> None:
        peer.negotiate()
        peer.open()

    def handshaking(peer: RawPeer) -> None:
        peer.negotiate()
        peer.upgrade()

    ended: dict[Callable[[RawPeer], None], str] = {
        nothing: "the byte stream to https://hub.test could not be opened",
        negotiating: "the server closed the stream without an HTTP response; does it want https?",
        half: "the server closed the stream in the middle of its HTTP response",
        upgrading: "the server ended the byte stream without a goodbye (while upgrading to WebSocket)",
        RawPeer.connect: "the server ended the byte stream without a goodbye (while connected)",
    }
    for reach, text in ended.items():
        peer = RawPeer(hub())
        reach(peer)
        peer.end()
        assert str(peer.error) == text
        assert peer.error.code is None
    silent: dict[Callable[[RawPeer], None], tuple[str, str, float]] = {
        nothing: ("no byte stream to https://hub.test was opened within 30 s", "opening", 30.0),
        negotiating: ("the server did not answer the negotiate request within 30 s", "opening", 30.0),
        upgrading: ("the server did not accept the WebSocket within 30 s", "opening", 30.0),
        handshaking: ("the server did not answer the handshake within 15 s", "handshake", 15.0),
        RawPeer.connect: ("nothing came from the server within 30 s", "silence", 30.0),
    }
    for reach, expected in silent.items():
        peer = RawPeer(hub())
        reach(peer)
        while peer.client.state is not State.CLOSED:
            peer.wait_until_deadline()
        assert (str(peer.error), peer.error.timer, peer.error.seconds) == expected


@pytest.mark.parametrize("name", ["record", "websocket_message"])
def test_which_limit_it_was(name: str) -> None:
    allowed = 100
    for encoding in ("json", "messagepack"):
        for data in (frame(b"\x7f" * 200, 2), frame(b"\xff\x01" + b"x" * 253 + b"\x1e", 2)):
            peer = connected_peer(limits=Limits(**{name: allowed}), encoding=encoding)
            peer.feed(data)
            assert isinstance(peer.error, LimitExceeded)
            assert (peer.error.limit, peer.error.allowed, peer.error.state) == (name, allowed, "connected")
    with pytest.raises(LimitExceeded) as caught:
        LengthPrefixReader(3).feed(b"\x04")
    assert str(caught.value) == "expected a hub message of at most 3 (Limits.record), got more"


def test_a_reader_of_prefixes_tells_whether_it_is_between_records() -> None:
    reader, told = LengthPrefixReader(9), []
    for piece in (b"", b"\x02x", b"y"):
        reader.feed(piece)
        told.append(reader.is_between)
    assert told == [True, False, True]


def test_how_a_call_was_lost() -> None:
    assert str(CallLost("not_sent")) == "the connection ended before the call was sent"
    maybe = "the connection ended before the call did; the server may have received it"
    assert str(CallLost("maybe_sent")) == maybe
    assert str(ConnectionLost("why")) == "why"
