"""Access tokens: a text or a callable, when it is asked, where the token goes, and what never repeats it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from etorox_proto.signalr import AccessTokenFailed, HubConfig, HubConnection, LocalProtocolError, State
from machines import HANDSHAKE, RawPeer, http, hub, negotiated


class Source:
    """Gives one token after the other, and remembers how often it was asked."""

    def __init__(self, *tokens: Any) -> None:
        self.tokens = [*tokens]
        self.asked = 0

    def __call__(self) -> Any:
        self.asked += 1
        return self.tokens.pop(0)


def bearer(request: bytes) -> bytes | None:
    """The token in the header of a request."""
    _, found, rest = request.partition(b"Authorization: Bearer ")
    return rest.partition(b"\r\n")[0] if found else None


REDIRECT = http(200, b'{"url":"https://other.test/hub"}')
REDIRECT_WITH_TOKEN = http(200, b'{"url":"https://other.test/hub","accessToken":"theirs"}')


def test_it_is_asked_before_negotiating_and_used_for_the_websocket_too() -> None:
    source = Source("first")
    peer = RawPeer(hub(access_token=source))
    assert source.asked == 0
    assert bearer(peer.open()) == b"first"
    peer.feed(negotiated())
    assert bearer(peer.open()) == b"first"
    assert source.asked == 1


def test_it_is_asked_once_a_connection_is_up_no_more() -> None:
    source = Source("first")
    peer = RawPeer(hub(access_token=source))
    peer.connect()
    for _ in range(2):
        peer.wait_until_deadline()
    peer.end()
    assert source.asked == 1


def test_it_is_asked_anew_after_a_redirect() -> None:
    source = Source("first", "second")
    peer = RawPeer(hub(access_token=source))
    peer.negotiate(REDIRECT)
    assert bearer(peer.open()) == b"second"
    peer.feed(negotiated())
    assert bearer(peer.open()) == b"second"
    assert source.asked == 2


def test_a_token_that_came_with_a_redirect_takes_its_place() -> None:
    source = Source("first")
    peer = RawPeer(hub(access_token=source))
    peer.negotiate(REDIRECT_WITH_TOKEN)
    assert bearer(peer.open()) == b"theirs"
    peer.feed(REDIRECT)
    assert bearer(peer.open()) == b"theirs"
    peer.feed(negotiated())
    assert bearer(peer.open()) == b"theirs"
    assert source.asked == 1


@pytest.mark.parametrize("in_query", [False, True])
def test_without_negotiation_it_is_asked_before_the_websocket(in_query: bool) -> None:
    source = Source("to/ken")
    peer = RawPeer(hub(access_token=source, skip_negotiation=True, access_token_in_query=in_query))
    assert source.asked == 0
    request = peer.open()
    assert source.asked == 1
    assert bearer(request) == (None if in_query else b"to/ken")
    assert (b"access_token=to%2Fken" in request.partition(b"\r\n")[0]) == in_query


def test_each_connection_asks_for_itself() -> None:
    source = Source("first", "second")
    config = HubConfig(url="https://h/hub", access_token=source)
    tokens = [bearer(RawPeer(HubConnection(config, now=0.0)).open()) for _ in range(2)]
    assert tokens == [b"first", b"second"]


def test_none_is_no_token() -> None:
    peer = RawPeer(hub(access_token=Source(None)))
    assert bearer(peer.open()) is None
    peer.feed(negotiated())
    peer.upgrade(HANDSHAKE)
    assert peer.client.state is State.CONNECTED


def raising(error: Exception) -> Callable[[], str]:
    def source() -> str:
        raise error

    return source


class Unspeakable:
    """Cannot be made a text."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("token", [5, b"bytes", Unspeakable()])
def test_what_is_no_text_is_no_token(token: Any) -> None:
    peer = RawPeer(hub(access_token=Source(token)))
    assert peer.open() == b""
    assert isinstance(peer.error, AccessTokenFailed)
    with pytest.raises(LocalProtocolError, match="access_token"):
        hub(access_token=token)


@pytest.mark.parametrize("skip", [False, True])
def test_what_it_raises_ends_the_connection(skip: bool) -> None:
    cause = KeyError("a secret")
    peer = RawPeer(hub(access_token=raising(cause), skip_negotiation=skip))
    assert peer.open() == b""
    assert isinstance(peer.error, AccessTokenFailed)
    assert peer.error.__cause__ is cause
    assert peer.error.may_retry
    assert str(peer.error) == "expected an access token from the application, its callable raised KeyError"


@pytest.mark.parametrize("token", ["", "two\r\nlines", "\u20ac", 5, b"bytes"])
def test_what_no_header_can_carry_ends_the_connection(token: Any) -> None:
    peer = RawPeer(hub(access_token=Source(token)))
    assert peer.open() == b""
    assert isinstance(peer.error, AccessTokenFailed)
    assert "that a header can carry" in str(peer.error)


def test_a_text_is_checked_before_anything_is_sent() -> None:
    with pytest.raises(LocalProtocolError):
        HubConfig(url="https://h/hub", access_token="two\r\nlines")


def test_no_error_repeats_a_token_that_was_ever_used() -> None:
    peer = RawPeer(hub(access_token=Source("first-token", "second-token")))
    peer.negotiate(REDIRECT)
    peer.negotiate(http(200, b'{"error":"I know first-token and second-token"}'))
    assert "I know *** and ***" in str(peer.error)


def test_no_repr_shows_it() -> None:
    config = HubConfig(url="https://h/hub", access_token=Source("token"))
    assert "Source" not in repr(config)
