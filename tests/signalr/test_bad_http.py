"""What a client makes of bad answers to its HTTP requests: to negotiate, redirects included, and to upgrade."""

from __future__ import annotations

import json
from typing import Any

import pytest

from etorox_proto.signalr import (
    ConnectionLost,
    Dial,
    LimitExceeded,
    Limits,
    NegotiationFailed,
    RemoteProtocolError,
    State,
    UpgradeFailed,
)
from machines import (
    HANDSHAKE,
    LIMITS,
    RawPeer,
    accept,
    after_negotiating,
    bytewise,
    http,
    hub,
    negotiated,
    whole,
)

chunkings = pytest.mark.parametrize("chunking", [whole, bytewise], ids=["whole", "bytewise"])


# ---------------------------------------------------------------------------------------------------- negotiation


@pytest.mark.parametrize(
    ("status", "retry", "hint"),
    [
        (400, False, "HTTP status 400: the body says why"),
        (401, False, "HTTP status 401 (the access token or API key was not accepted): the body"),
        (403, False, "HTTP status 403 (the access token or API key is not allowed here)"),
        (404, False, "HTTP status 404 (is this the URL of a SignalR hub?)"),
        (405, False, "HTTP status 405 (is this the URL of a SignalR hub?)"),
        (408, True, "HTTP status 408"),
        (429, True, "HTTP status 429"),
        (500, True, "HTTP status 500: the body says why"),
        (503, True, "HTTP status 503"),
        (201, False, "HTTP status 201"),
    ],
)
def test_a_wrong_status_is_named_with_the_body_and_a_hint(status: int, retry: bool, hint: str) -> None:
    peer = after_negotiating(http(status, b"the body\r\n says why\x00"))
    assert isinstance(peer.error, NegotiationFailed)
    assert hint in str(peer.error)
    assert (peer.error.status, peer.error.may_retry) == (status, retry)


def test_a_long_body_is_quoted_in_part() -> None:
    peer = after_negotiating(http(500, b"x" * 1_000))
    assert str(peer.error).endswith("x" * 160 + "...")


def test_an_empty_body_is_not_quoted() -> None:
    assert str(after_negotiating(http(500, b" \r\n")).error).endswith("HTTP status 500")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_an_http_redirect_is_not_followed_but_shown(status: int) -> None:
    peer = after_negotiating(http(status, b"", "Location: https://new.test/hub?secret"))
    assert isinstance(peer.error, NegotiationFailed)
    assert f"HTTP status {status} and points to https://new.test/hub; HTTP redirects are not followed" in str(
        peer.error
    )
    assert "secret" not in str(peer.error)


def test_a_redirect_without_a_place_is_a_wrong_status() -> None:
    assert str(after_negotiating(http(302)).error).endswith("HTTP status 302")


@chunkings
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "0 bytes of something else"),
        (b"<html>", "6 bytes of something else"),
        (b"[]", "something else"),
        (b'{"connectionId":1}', "connectionId"),
        (b'{"connectionId":"a"', "truncated"),
        (b'{"connectionId":"\xff"}', "not UTF-8"),
        (b'{"x":' + b"[" * 1_400, ""),
        (b'{"x":1e99999999999999999999}', "availableTransports"),
        (b'{"availableTransports":[{"transport":1}]}', "transport"),
    ],
)
def test_a_body_that_is_no_negotiate_response(body: bytes, text: str, chunking: Any) -> None:
    peer = RawPeer(hub(limits=LIMITS), chunking)
    peer.negotiate(http(200, body))
    assert isinstance(peer.error, NegotiationFailed)
    assert text in str(peer.error)
    assert peer.error.status == 200


def test_a_deeply_nested_body() -> None:
    peer = RawPeer(hub())
    peer.negotiate(http(200, b'{"x":' + b"[" * 60_000))
    assert isinstance(peer.error, NegotiationFailed)
    assert "nested too deeply" in str(peer.error)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"connectionId": None}, "with connectionId, got one without"),
        ({"connectionId": ""}, "with connectionId, got one without"),
        ({"connectionToken": ""}, "with connectionToken, got one without"),
        ({"connectionToken": None}, "with connectionToken, got one without"),
        ({"availableTransports": None}, "with availableTransports, got one without"),
        ({"connectionId": None, "connectionToken": None}, "connectionId and connectionToken"),
        ({"availableTransports": []}, "it offers nothing"),
        (
            {"availableTransports": [{"transport": "LongPolling", "transferFormats": ["Text"]}]},
            "to offer WebSockets with Text, it offers LongPolling",
        ),
        (
            {"availableTransports": [{"transport": "WebSockets", "transferFormats": ["Binary"]}]},
            "to offer WebSockets with Text, it offers WebSockets",
        ),
        ({"error": "not today"}, "refused to negotiate: not today"),
        ({"error": ""}, "refused to negotiate: "),
        ({"ProtocolVersion": "1.5", "connectionId": None}, "got classic ASP.NET SignalR"),
    ],
)
def test_a_response_that_cannot_be_used(members: dict[str, Any], text: str) -> None:
    peer = after_negotiating(negotiated(**members))
    assert isinstance(peer.error, NegotiationFailed)
    assert text in str(peer.error)
    assert not peer.error.may_retry


def test_version_0_needs_no_token() -> None:
    peer = after_negotiating(negotiated("the-id", connectionToken=None, negotiateVersion=None))
    assert b"GET /chat?id=the-id HTTP/1.1" in peer.open()


@pytest.mark.parametrize(
    "response",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
    ],
)
@chunkings
def test_what_is_no_http(response: bytes, chunking: Any) -> None:
    peer = RawPeer(hub(), chunking)
    peer.negotiate(response)
    assert isinstance(peer.error, RemoteProtocolError)
    assert peer.error.expected == "an HTTP/1.1 response"
    assert peer.error.state == "negotiating"
    assert str(peer.error).endswith("(while negotiating)")


@chunkings
@pytest.mark.parametrize(
    ("response", "limit", "allowed"),
    [
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_500, "http_head", 1_500),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_500 + b"\r\n\r\n", "http_head", 1_500),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX: " + b"x" * 1_500, "http_head", 1_500),
        (http(200, b"x" * 1_501), "http_body", 1_500),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_501, "http_body", 1_500),
    ],
)
def test_an_oversized_response(response: bytes, limit: str, allowed: int, chunking: Any) -> None:
    peer = RawPeer(hub(limits=LIMITS), chunking)
    peer.negotiate(response)
    assert isinstance(peer.error, LimitExceeded)
    assert (peer.error.limit, peer.error.allowed, peer.error.may_retry) == (limit, allowed, False)
    assert f"at most {allowed} (Limits.{limit}), got more" in str(peer.error)


@chunkings
def test_a_body_of_exactly_the_limit_is_read(chunking: Any) -> None:
    response = negotiated()
    body = response.partition(b"\r\n\r\n")[2]
    for room, fits in ((len(body), True), (len(body) - 1, False)):
        peer = RawPeer(hub(limits=Limits(http_body=room)), chunking)
        peer.negotiate(response)
        assert (peer.client.state is State.UPGRADING) is fits


@pytest.mark.parametrize("cut", [0, 5, 30, -1])
def test_a_truncated_response(cut: int) -> None:
    peer = RawPeer(hub())
    peer.open()
    peer.feed(negotiated()[:cut])
    peer.end()
    assert isinstance(peer.error, ConnectionLost)
    assert "stream" in str(peer.error)
    assert peer.error.may_retry


def test_a_body_may_end_with_the_stream() -> None:
    peer = RawPeer(hub())
    peer.open()
    peer.feed(b"HTTP/1.1 200 OK\r\n\r\n" + negotiated().partition(b"\r\n\r\n")[2])
    peer.end()
    assert isinstance(peer.events[-1], Dial)
    peer.upgrade(HANDSHAKE)
    assert peer.client.state is State.CONNECTED


def test_a_stream_that_cannot_be_opened() -> None:
    peer = RawPeer(hub())
    peer.end()
    assert isinstance(peer.error, ConnectionLost)
    assert str(peer.error).startswith("the byte stream to http")
    assert str(peer.error).endswith("could not be opened")


# ------------------------------------------------------------------------------------------------------- redirects


def redirect(url: str, **members: Any) -> bytes:
    return http(200, json.dumps({"url": url, **members}).encode())


def test_a_redirect_loop_ends_after_a_hundred_requests() -> None:
    peer = RawPeer(hub())
    requests = 0
    while peer.client.state is State.NEGOTIATING:
        assert peer.open().startswith(b"POST ")
        requests += 1
        peer.feed(redirect("https://hub.test/chat"))
    assert requests == 100
    assert isinstance(peer.error, NegotiationFailed)
    assert "fewer than 100 redirects" in str(peer.error)
    assert sum(isinstance(event, Dial) for event in peer.events) == 100


@pytest.mark.parametrize("url", ["http://other.test/hub", "http://10.0.0.1/"])
def test_a_redirect_to_an_insecure_host_is_refused(url: str) -> None:
    peer = after_negotiating(redirect(url, accessToken="the-secret"))
    assert isinstance(peer.error, NegotiationFailed)
    assert "expected an encrypted connection" in str(peer.error)
    peer = after_negotiating(redirect(url), allow_insecure=True)
    assert isinstance(peer.events[-1], Dial)
    assert not peer.events[-1].tls


@pytest.mark.parametrize(
    "url", ["", "other", "ftp://other.test/", "https://", "https://u:p@h/", "https://[", "https://a b/"]
)
def test_a_redirect_to_nowhere_is_refused(url: str) -> None:
    peer = after_negotiating(redirect(url))
    assert isinstance(peer.error, NegotiationFailed)
    assert "redirects to where this client does not go" in str(peer.error)


def test_a_redirect_brings_its_token() -> None:
    peer = after_negotiating(redirect("https://other.test:444/hub?a=b", accessToken="t-2"), access_token="t-1")
    assert peer.events[-1] == Dial("other.test", 444, True, "other.test")
    request = peer.open()
    assert request.startswith(b"POST /hub/negotiate?a=b&negotiateVersion=1 HTTP/1.1\r\n")
    assert b"Authorization: Bearer t-2\r\n" in request
    assert b"t-1" not in request


def test_a_token_that_no_header_can_hold_is_refused() -> None:
    peer = after_negotiating(redirect("https://other.test/", accessToken="a\r\nEvil: yes"))
    assert isinstance(peer.error, NegotiationFailed)
    assert "Evil" not in str(peer.error)


# --------------------------------------------------------------------------------------------------------- upgrade


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("Sec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ==", "Bad accept token"),
        ("Sec-WebSocket-Accept: ", "Bad accept token"),
        ("Upgrade: ", "Missing header, 'Upgrade: websocket'"),
        ("Upgrade: h2c", "Missing header, 'Upgrade: websocket'"),
        ("Connection: ", "Missing header, 'Connection: Upgrade'"),
        ("Connection: close", "Missing header, 'Connection: Upgrade'"),
        ("Sec-WebSocket-Extensions: permessage-deflate", "unrecognized extension"),
        ("Sec-WebSocket-Protocol: chat", "unrecognized subprotocol chat"),
        ("Sec-WebSocket-Protocol: ch\xe4t", "a header that is not ASCII"),
        ("Connection: Upgr\xe4de", "a header that is not ASCII"),
        ("Sec-WebSocket-Extensions: \xe4", "a header that is not ASCII"),
        ("X-Bad\x00: 1", "Bad HTTP message"),
    ],
)
@chunkings
def test_an_upgrade_that_is_wrong(header: str, text: str, chunking: Any) -> None:
    peer = RawPeer(hub(), chunking)
    peer.negotiate()
    peer.upgrade(b"", header)
    assert isinstance(peer.error, UpgradeFailed)
    assert peer.error.status is None
    assert text in str(peer.error)
    assert peer.sent.startswith(b"GET "), "nothing is said to a server that did not upgrade"


@chunkings
@pytest.mark.parametrize(
    ("status", "retry"), [(400, False), (401, False), (403, False), (404, True), (409, True), (503, True), (200, True)]
)
def test_a_refused_upgrade_is_named_with_its_body(status: int, retry: bool, chunking: Any) -> None:
    peer = RawPeer(hub(), chunking)
    peer.negotiate()
    peer.open()
    peer.feed(http(status, b"because\x00 of that" + b" " * 1_000))
    assert isinstance(peer.error, UpgradeFailed)
    assert str(peer.error).endswith(f"(HTTP status 101), got status {status}: because of that")
    assert (peer.error.status, peer.error.may_retry) == (status, retry)


def test_a_refusal_that_breaks_off_is_still_told() -> None:
    peer = RawPeer(hub())
    peer.negotiate()
    peer.open()
    peer.feed(b"HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\nbecause")
    peer.end()
    assert str(peer.error).endswith("got status 403: because")


def test_an_upgrade_that_breaks_off() -> None:
    peer = RawPeer(hub())
    peer.negotiate()
    peer.feed(accept(peer.open())[:-1])
    peer.end()
    assert isinstance(peer.error, ConnectionLost)
    assert "while upgrading" in str(peer.error)


@chunkings
def test_an_oversized_head_of_an_upgrade(chunking: Any) -> None:
    peer = RawPeer(hub(limits=LIMITS), chunking)
    peer.negotiate()
    peer.upgrade(b"", "X: " + "x" * 1_500)
    assert isinstance(peer.error, LimitExceeded)
    assert peer.error.limit == "http_head"


@chunkings
@pytest.mark.parametrize("garbage", [b"garbage, not frames", b"\xff\xff\xff", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_garbage_behind_the_upgrade(garbage: bytes, chunking: Any) -> None:
    peer = RawPeer(hub(), chunking)
    peer.negotiate()
    peer.upgrade(garbage)
    assert isinstance(peer.error, RemoteProtocolError)
    assert peer.error.expected == "a WebSocket frame as in RFC 6455"
