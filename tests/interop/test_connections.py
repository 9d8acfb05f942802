"""How connections of Microsoft's clients to our server begin, go on and end, in Node and in Chromium."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from interop_hub import InteropHub, Serve
from loopback import Client
from microsoft import PATIENCE, ClientError, MicrosoftClient, Runtime, skip_without

skip_without()

TOKEN = "aaaa.bbbb-_.cccc/+=="
# Nothing has to happen in between; in milliseconds.
LONG, SHORT = 600_000, 50


@contextlib.contextmanager
def opened(client: MicrosoftClient) -> Iterator[MicrosoftClient]:
    """A client that has been started and will end by itself; stopping it again does no harm."""
    client.start()
    try:
        yield client
    finally:
        client.ask("stop")


# -------------------------------------------------------------------------------------------------- what it brings


def test_an_access_token_arrives(runtime: Runtime, serve: Serve) -> None:
    hub = serve(runtime)
    with runtime.connect(hub.hub_url, token=TOKEN):
        heard = b"".join(client.heard for client in hub.clients).lower()
        assert heard.count(f"authorization: bearer {TOKEN}\r\n".encode()) == (2 if in_headers(runtime) else 1)
        assert hub.hubs[0].machine.query[1:] == ([] if in_headers(runtime) else [("access_token", TOKEN)])


def test_an_access_token_arrives_without_negotiation(runtime: Runtime, serve: Serve) -> None:
    hub = serve(runtime)
    with runtime.connect(hub.hub_url, token=TOKEN, skipNegotiation=True):
        assert hub.hubs[0].machine.query == ([] if in_headers(runtime) else [("access_token", TOKEN)])


def in_headers(runtime: Runtime) -> bool:
    """Whether the WebSocket has the token in its headers: browsers cannot, the older client does not."""
    return runtime.generation != "1.1" and runtime.origin is None


def test_headers_and_a_query_of_its_own_arrive(current: Runtime, serve: Serve) -> None:
    hub = serve(current)
    with current.connect(f"{hub.hub_url}?tenant=a%20b", headers={"X-Tenant": "seven"}):
        assert ("tenant", "a b") in hub.hubs[0].machine.query
        heard = b"".join(client.heard for client in hub.clients).lower()
        assert heard.count(b"x-tenant: seven\r\n") == (2 if current.origin is None else 1)
        assert heard.count(b"x-requested-with: xmlhttprequest\r\n") == 1


def test_a_path_without_a_hub_is_told_so(runtime: Runtime, serve: Serve) -> None:
    hub = serve(runtime, serves="/hub".__eq__)
    client = runtime.open(f"{hub.url}/elsewhere")
    with pytest.raises(ClientError, match=r"404|Not Found"):
        client.start()
    assert not hub.hubs


def test_a_page_that_is_not_allowed_gets_no_further(page: Runtime) -> None:
    with InteropHub(allowed_origins=["http://app.example.com"]) as hub:
        for skip in (False, True):
            with pytest.raises(ClientError):
                page.open(hub.hub_url, skipNegotiation=skip).start()
        assert len(hub.clients) >= 2
        assert not hub.hubs


def test_an_encoding_that_is_not_offered_is_refused(runtime: Runtime, serve: Serve) -> None:
    hub = serve(runtime, encodings=["json"])
    with pytest.raises(ClientError, match=r"Binary|binary|transport"):
        runtime.open(hub.hub_url, encoding="messagepack").start()
    refusal = "The protocol 'messagepack' is not supported."
    client = runtime.open(hub.hub_url, encoding="messagepack", skipNegotiation=True)
    if runtime.generation == "1.1":  # it throws where nobody can catch it, and is never done with starting
        client.ask("start")
        assert refusal in runtime.uncaught.get(timeout=PATIENCE)
    else:
        with pytest.raises(ClientError, match=refusal):
            client.start()


# ---------------------------------------------------------------------------------------------------- how it ends


def test_the_client_ends_it(runtime: Runtime, encoding: str, serve: Serve) -> None:
    hub = serve(runtime)
    with runtime.connect(hub.hub_url, encoding=encoding) as client:
        client.invoke("Add", 1)
    assert client.next("closed") == {"error": None}
    hub.wait(lambda: hub.hubs[0].end)
    assert hub.hubs[0].end is not None
    assert hub.hubs[0].end.error is None
    hub.wait(lambda: not hub.hubs[0].is_open)


@pytest.mark.parametrize("allow_reconnect", [False, True])
@pytest.mark.parametrize("error", [None, "closing time"])
def test_the_server_ends_it(
    runtime: Runtime, encoding: str, serve: Serve, error: str | None, *, allow_reconnect: bool
) -> None:
    hub = serve(runtime)
    with opened(runtime.open(hub.hub_url, encoding=encoding)) as client:
        call = client.stream("Forever")
        client.next("item")
        hub.hang_up_politely(error=error, allow_reconnect=allow_reconnect)
        assert client.next("completed")["stream"] == call
        told = client.next("closed")["error"]
        assert told is None if error is None else error in told
        hub.wait(lambda: hub.hubs[0].end)
        assert ended_well(hub.hubs[0])
    hub.wait(lambda: not hub.hubs[0].is_open)


def ended_well(client: Client) -> bool:
    return client.end is not None and client.end.error is None


@pytest.mark.parametrize("error", [None, "back soon"])
def test_it_comes_back_when_invited(current: Runtime, encoding: str, serve: Serve, error: str | None) -> None:
    hub = serve(current)
    with current.connect(hub.hub_url, encoding=encoding, reconnect=[0]) as client:
        hub.hang_up_politely(error=error, allow_reconnect=True)
        client.next("reconnecting")
        assert client.next("reconnected") == {"connectionId": hub.hubs[1].machine.connection_id}
        assert client.invoke("Add", 1, 2) == 3


@pytest.mark.parametrize("error", [None, "for good"])
def test_it_stays_away_when_not_invited(current: Runtime, encoding: str, serve: Serve, error: str | None) -> None:
    hub = serve(current)
    with opened(current.open(hub.hub_url, encoding=encoding, reconnect=[0])) as client:
        hub.hang_up_politely(error=error, allow_reconnect=False)
        client.next("closed")
        assert len(hub.hubs) == 1


def test_it_comes_back_after_a_loss(current: Runtime, encoding: str, serve: Serve) -> None:
    hub = serve(current)
    with current.connect(hub.hub_url, encoding=encoding, reconnect=[0, 0, 0]) as client:
        for number in range(1, 4):
            call = client.stream("Forever")
            client.next("item")
            hub.cut()
            lost = [client.next("completed", "reconnecting") for _ in range(2)]
            assert {"stream": call}.items() <= next(each for each in lost if "stream" in each).items()
            assert client.next("reconnected") == {"connectionId": hub.hubs[number].machine.connection_id}
            assert client.invoke("Add", 1, 2) == 3


def test_it_gives_up_a_server_that_stays_away(current: Runtime, serve: Serve) -> None:
    hub = serve(current)
    with opened(current.open(hub.hub_url, reconnect=[0, SHORT])) as client:
        hub.stop()
        client.next("reconnecting")
        client.next("closed")


def test_a_loss_without_reconnecting_is_an_error(runtime: Runtime, serve: Serve) -> None:
    hub = serve(runtime)
    with opened(runtime.open(hub.hub_url)) as client:
        call = client.call("Never answered by anybody")
        call.exception(10.0)
        hub.cut()
        assert client.next("closed")["error"] is not None


# -------------------------------------------------------------------------------------------------- silence and pings


def test_each_side_hears_the_others_pings(runtime: Runtime, encoding: str, serve: Serve) -> None:
    hub = serve(runtime, ping_interval=SHORT / 1_000, client_timeout=1.0)
    with runtime.connect(hub.hub_url, encoding=encoding, timeout=1_000, pings=SHORT) as client:
        machine = hub.hubs[0].machine
        began = time.monotonic()
        hub.wait(lambda: machine.last_heard > began + 1.5)
        assert client.invoke("Add", 1, 2) == 3


def test_it_gives_up_a_server_that_is_silent(runtime: Runtime, serve: Serve) -> None:
    hub = serve(runtime)
    with opened(runtime.open(hub.hub_url, timeout=10 * SHORT)) as client:
        hub.deafen()
        assert "timeout" in client.next("closed")["error"].lower()


def test_the_server_gives_up_a_client_that_is_silent(current: Runtime, encoding: str, serve: Serve) -> None:
    """The current client pings right after the handshake, from which on its silence counts."""
    hub = serve(current, client_timeout=SHORT / 1_000)
    with current.connect(hub.hub_url, encoding=encoding, pings=LONG, reconnect=[0, LONG]) as client:
        told = client.next("reconnecting")["error"]
        assert told is None or "Connection closed with an error." in told
        hub.wait(lambda: hub.hubs[0].end)
        assert "nothing came from the client" in str(hub.hubs[0].end and hub.hubs[0].end.error)
