"""HTTP headers of the user's own: where they go, what they replace, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest

from etorox_proto.signalr import HubConfig, LocalProtocolError
from machines import HANDSHAKE, RawPeer, http, hub, negotiated

REDIRECT_WITH_TOKEN = http(200, b'{"url":"https://other.test/hub","accessToken":"theirs"}')


def values(request: bytes, name: str) -> list[str]:
    """The values of that header in a request, in order."""
    lines = request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    pairs = [line.split(": ", 1) for line in lines]
    return [value for key, value in pairs if key.lower() == name.lower()]


def requests_of(response: bytes | None = None, **config: Any) -> list[bytes]:
    """The negotiate request and the one after it."""
    peer = RawPeer(hub(**config))
    first = peer.open()
    peer.feed(response or negotiated())
    return [first, peer.open()]


def test_they_go_with_every_request() -> None:
    headers = {"X-Own": "1", "User-Agent": "mine/2", "Cookie": "a=b; c=d"}
    for request in requests_of(headers=headers) + requests_of(REDIRECT_WITH_TOKEN, headers=headers):
        assert [values(request, name) for name in headers] == [[value] for value in headers.values()]
        assert values(request, "X-Requested-With") == ["XMLHttpRequest"]
        assert len(values(request, "Host")) == 1


def test_no_user_agent_is_sent_unless_there_is_one() -> None:
    for request in requests_of():
        assert values(request, "User-Agent") == []


def test_they_take_the_place_of_what_is_sent_by_default() -> None:
    for request in requests_of(headers={"x-requested-with": "me"}):
        assert values(request, "X-Requested-With") == ["me"]


def test_an_authorization_may_be_set_by_hand() -> None:
    for request in requests_of(headers={"authorization": "Basic dTpw"}):
        assert values(request, "Authorization") == ["Basic dTpw"]


@pytest.mark.parametrize("in_query", [False, True])
def test_a_token_that_came_with_a_redirect_takes_the_place_of_that_too(in_query: bool) -> None:
    peer = RawPeer(hub(headers={"authorization": "Basic dTpw"}, access_token_in_query=in_query))
    peer.negotiate(REDIRECT_WITH_TOKEN)
    assert values(peer.open(), "Authorization") == ["Bearer theirs"]
    peer.feed(negotiated())
    request = peer.open()
    assert values(request, "Authorization") == ([] if in_query else ["Bearer theirs"])
    assert (b"access_token=theirs" in request) == in_query


@pytest.mark.parametrize("token", ["t", lambda: "t"], ids=["text", "callable"])
def test_it_goes_with_no_access_token(token: Any) -> None:
    with pytest.raises(LocalProtocolError, match="either access_token or an Authorization header, got both"):
        HubConfig(url="https://h/hub", access_token=token, headers={"AUTHORIZATION": "Basic dTpw"})


def test_no_error_repeats_it() -> None:
    peer = RawPeer(hub(headers={"Authorization": "Bearer s3cret"}))
    peer.negotiate(http(200, b'{"error":"I know Bearer s3cret"}'))
    assert "I know Bearer ***" in str(peer.error)


# ----------------------------------------------------------------------------------------------------- cookies


def with_cookies(*cookies: str) -> bytes:
    """A usable response to a negotiate request that sets these."""
    head, _, rest = negotiated().partition(b"\r\n")
    return b"\r\n".join([head, *(b"Set-Cookie: " + each.encode("latin-1") for each in cookies), rest])


@pytest.mark.parametrize(
    ("cookies", "sent"),
    [
        ([], []),
        (["a=b"], ["a=b"]),
        (["a=b; Path=/; HttpOnly; Secure; SameSite=None", "c=d=e;Max-Age=60"], ["a=b; c=d=e"]),
        (["a=1", "b=2", "a=3"], ["a=3; b=2"]),
        (['a="quoted, with spaces"', "b="], ['a="quoted, with spaces"; b=']),
        (["gone=; Max-Age=0", "lost=x; max-age = -1"], []),
        (["no name", "=x", "two words=x", "caf\xe9=x", "x=caf\xe9", ""], []),
    ],
)
def test_cookies_of_the_negotiate_response_go_with_the_websocket(cookies: list[str], sent: list[str]) -> None:
    assert [values(request, "Cookie") for request in requests_of(with_cookies(*cookies))] == [[], sent]


def test_they_are_added_to_those_of_the_user() -> None:
    requests = requests_of(with_cookies("a=1", "b=2"), headers={"cookie": "mine=0", "X-Own": "1"})
    assert [values(request, "Cookie") for request in requests] == [["mine=0"], ["mine=0; a=1; b=2"]]
    assert [values(request, "X-Own") for request in requests] == [["1"], ["1"]]


def test_they_follow_no_redirect() -> None:
    peer = RawPeer(hub())
    peer.negotiate(REDIRECT_WITH_TOKEN.replace(b"\r\n", b"\r\nSet-Cookie: a=1\r\n", 1))
    assert values(peer.open(), "Cookie") == []
    peer.feed(with_cookies("b=2"))
    assert values(peer.open(), "Cookie") == ["b=2"]


def test_a_stream_that_takes_the_place_of_another_has_them_too() -> None:
    peer = RawPeer(hub(stateful_reconnect=True))
    granted = negotiated(useStatefulReconnect=True)
    peer.negotiate(granted.replace(b"\r\n", b"\r\nSet-Cookie: a=1\r\n", 1))
    peer.upgrade(HANDSHAKE)
    peer.end()
    assert values(peer.open(), "Cookie") == ["a=1"]


# ---------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "Connection", "UPGRADE", "content-length", "Transfer-Encoding", "TE", "Trailer", "Expect"),
        *("Keep-Alive", "Proxy-Connection"),
        *("Sec-WebSocket-Key", "Sec-WebSocket-Version", "sec-websocket-extensions", "Sec-WebSocket-Protocol"),
        *("Sec-WebSocket-Accept", "Sec-WebSocket-Anything"),
    ],
)
def test_what_the_library_sets_is_refused(name: str) -> None:
    with pytest.raises(LocalProtocolError, match="which this library sets itself") as caught:
        HubConfig(url="https://h/hub", headers={name: "s3cret"})
    assert repr(name) in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "s3cret\r\nEvil: yes"),
        ("X", "s3cret\n"),
        ("X", "s3cret\r"),
        ("X", "s3cret\0"),
        ("X", " s3cret"),
        ("X", "s3cret€"),
        ("X\r\nEvil", "s3cret"),
        ("X Y", "s3cret"),
        ("X:", "s3cret"),
        ("", "s3cret"),
        ("é", "s3cret"),
        ("X", 5),
        ("X", b"s3cret"),
        ("X", None),
        (5, "s3cret"),
    ],
)
def test_what_http_cannot_carry_is_refused(name: Any, value: Any) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        HubConfig(url="https://h/hub", headers={name: value})
    assert repr(name) in str(caught.value)
    assert "s3cret" not in str(caught.value)
