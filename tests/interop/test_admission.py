"""Who gets in, and where they are sent instead: what Microsoft's clients make of our server's answers."""

from __future__ import annotations

import pytest

from etorox_proto.signalr import ClientRequest, Redirect
from interop_hub import Serve
from microsoft import ClientError, Runtime, skip_without

skip_without()


def only(token: str, status: int = 401) -> object:
    def authorize(request: ClientRequest) -> int | None:
        return None if request.access_token == token else status

    return authorize


@pytest.mark.parametrize("skip", [False, True])
def test_whoever_has_the_token_gets_in(runtime: Runtime, serve: Serve, *, skip: bool) -> None:
    hub = serve(runtime, authorize=only("open-sesame"))
    with runtime.connect(hub.hub_url, token="open-sesame", skipNegotiation=skip) as client:
        assert client.invoke("Add", 1, 2) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_whoever_has_not_is_told_why(runtime: Runtime, serve: Serve, status: int) -> None:
    hub = serve(runtime, authorize=only("open-sesame", status))
    for options in ({}, {"token": "sesame"}):
        with pytest.raises(ClientError, match=rf"{status}|Unauthorized|Forbidden"):
            runtime.open(hub.hub_url, **options).start()
    assert not hub.hubs


def test_a_negotiation_lets_nobody_in_by_itself(runtime: Runtime, serve: Serve) -> None:
    hub = serve(runtime, authorize=lambda request: None if request.negotiates else 403)
    for skip in (False, True):
        client = runtime.open(hub.hub_url, token="any", skipNegotiation=skip)
        with pytest.raises(ClientError):
            client.start()
    assert not hub.hubs


def test_it_goes_where_it_is_sent(runtime: Runtime, encoding: str, serve: Serve) -> None:
    there = serve(runtime, authorize=only("for-there"))
    again = serve(runtime, redirects=lambda _: Redirect(f"{there.hub_url}?tenant=4", "for-there"))
    here = serve(runtime, redirects=lambda _: Redirect(again.hub_url), authorize=only("for-here"))
    with runtime.connect(f"{here.hub_url}?mine=1", token="for-here", encoding=encoding) as client:
        assert client.invoke("Add", 1, 2) == 3
        assert not here.hubs
        assert not again.hubs
        query = dict(there.hubs[0].machine.query)
        assert query["tenant"] == "4"
        assert "mine" not in query


def test_it_negotiates_where_it_began_when_it_comes_back(current: Runtime, serve: Serve) -> None:
    first, second = serve(current), serve(current)
    targets = iter([first.hub_url, second.hub_url])
    here = serve(current, redirects=lambda _: Redirect(next(targets)))
    with current.connect(here.hub_url, reconnect=[0]) as client:
        first.hang_up_politely(allow_reconnect=True)
        client.next("reconnecting")
        assert client.next("reconnected") == {"connectionId": second.hubs[0].machine.connection_id}
        assert client.invoke("Add", 1, 2) == 3
