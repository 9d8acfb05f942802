"""The adapters' contract: connecting, and what is raised when that fails."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import time
from typing import Any

import pytest
import trustme

from contract import CREDENTIALS, KEY, QUICK, SIGNED, Adapter, Exchange, case, rest, where
from etorox_proto import (
    ConnectionFailed,
    ConnectionLost,
    ExchangeConfig,
    LocalProtocolError,
    NegotiationFailed,
    Ready,
    Reconnecting,
    SessionConfig,
    SessionState,
    SetupRefused,
    TimedOut,
)
from etorox_proto.signalr import HubConfig
from etorox_transports import DialFailed
from hosts import served
from loopback_exchange import LoopbackExchange, number_of
from machines import API_KEY, http
from scripted import scripted


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def fails(adapter: Adapter, *arguments: Any, **options: Any) -> Any:
    """Connect, and give the error that this raised."""
    with pytest.raises(ConnectionFailed) as caught:
        async with adapter.connect(*arguments, **options):
            raise AssertionError("expected no connection")
    return caught.value


# ------------------------------------------------------------------------------------------------- it works


@case
async def test_the_embedded_exchange_lets_us_in_and_publishes(adapter: Adapter) -> None:
    with served(API_KEY, KEY.public_key, rate=2000.0, seed=1) as host:
        config = ExchangeConfig(f"http://127.0.0.1:{host.port}")
        async with adapter.connect(config, SIGNED) as exchange:
            assert exchange.session.state is SessionState.READY
            assert exchange.connection is exchange.session.connection
            feed = exchange.subscribe(["btcusd"])
            for _ in range(20):
                assert (await feed.next(5.0)).market == "btcusd"


@case
async def test_tls_is_verified_against_the_authority_given(adapter: Adapter, authority: trustme.CA) -> None:
    with served(API_KEY, KEY.public_key, rate=2000.0, ssl_context=server_tls(authority, "127.0.0.1")) as host:
        config = ExchangeConfig(f"https://127.0.0.1:{host.port}")
        async with adapter.connect(config, SIGNED, ssl_context=client_tls(authority)) as exchange:
            feed = exchange.subscribe(["btcusd"])
            for _ in range(20):
                assert (await feed.next(5.0)).market == "btcusd"


@case
async def test_skipping_negotiation_opens_one_stream(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server, skip_negotiation=True)):
            assert len(server.clients) == 1


@case
async def test_two_connections_live_side_by_side(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as one, adapter.connect(where(server)) as other:
            feeds = [exchange.subscribe(["btcusd"]) for exchange in (one, other)]
            await adapter.until(lambda: len(server.streams) == 2, server)
            server.publish()
            assert [number_of(await feed.next(5.0)) for feed in feeds] == [1, 1]


# ---------------------------------------------------------------------------------------- no stream, no trust


@case
async def test_an_untrusted_certificate_is_refused_for_good(adapter: Adapter, authority: trustme.CA) -> None:
    with served(API_KEY, KEY.public_key, ssl_context=server_tls(authority, "127.0.0.1")) as host:
        error = await fails(adapter, ExchangeConfig(f"https://127.0.0.1:{host.port}"), SIGNED)
    assert isinstance(error, DialFailed)
    assert "certificate was not accepted" in str(error)
    assert not error.may_retry
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)


@case
async def test_a_certificate_for_another_name_is_refused(adapter: Adapter, authority: trustme.CA) -> None:
    with served(API_KEY, KEY.public_key, ssl_context=server_tls(authority, "somewhere.else")) as host:
        config = ExchangeConfig(f"https://127.0.0.1:{host.port}")
        error = await fails(adapter, config, SIGNED, ssl_context=client_tls(authority))
    assert isinstance(error, DialFailed)
    assert "certificate was not accepted" in str(error)


@case
async def test_an_untrusted_certificate_ends_a_session_that_need_not_wait(
    adapter: Adapter, authority: trustme.CA
) -> None:
    with served(API_KEY, KEY.public_key, ssl_context=server_tls(authority, "127.0.0.1")) as host:
        config = ExchangeConfig(f"https://127.0.0.1:{host.port}")
        async with adapter.connect(config, SIGNED, session=QUICK, wait=False) as exchange:
            with pytest.raises(DialFailed, match="certificate was not accepted"):
                await rest(exchange.events())
            assert exchange.session.attempts == 1


@case
async def test_plain_http_at_the_port_is_a_clear_error(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        error = await fails(adapter, ExchangeConfig(f"https://127.0.0.1:{server.port}"))
    assert isinstance(error, DialFailed)
    assert "does it speak TLS" in str(error)


@case
async def test_a_refused_port_is_told_with_the_systems_error(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        server.stop()
        error = await fails(adapter, where(server), session=QUICK)
    assert isinstance(error, DialFailed)
    assert f"could not connect to 127.0.0.1 port {server.port}: {os.strerror(errno.ECONNREFUSED)}" in str(error)
    assert error.may_retry
    assert isinstance(error.__cause__, OSError)


# ---------------------------------------------------------------------------- streams that come to nothing


@case
async def test_a_server_that_never_answers_runs_into_the_opening_timeout(adapter: Adapter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = ExchangeConfig(f"http://127.0.0.1:{silent.getsockname()[1]}", opening_timeout=0.1)
        began = time.monotonic()
        error = await fails(adapter, config)
    assert isinstance(error, TimedOut)
    assert error.timer == "opening"
    assert time.monotonic() - began < 2.0


@case
async def test_a_server_that_never_answers_tls_runs_into_the_opening_timeout_too(adapter: Adapter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = ExchangeConfig(f"https://127.0.0.1:{silent.getsockname()[1]}", opening_timeout=0.1)
        began = time.monotonic()
        error = await fails(adapter, config)
    assert isinstance(error, TimedOut | DialFailed)
    assert error.may_retry
    assert time.monotonic() - began < 2.0


@case
async def test_a_server_that_hangs_up_is_a_lost_connection(adapter: Adapter) -> None:
    with scripted(lambda sock: sock.recv(65_536)) as url:
        error = await fails(adapter, ExchangeConfig(url))
    assert isinstance(error, ConnectionLost)


@case
async def test_a_server_that_resets_is_a_lost_connection_with_its_cause(adapter: Adapter) -> None:
    def reset(sock: socket.socket) -> None:
        sock.recv(10)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with scripted(reset) as url:
        error = await fails(adapter, ExchangeConfig(url))
    assert isinstance(error, ConnectionLost)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConnectionResetError):
        cause = cause.__cause__
    assert cause is not None, "the system's own error is in the chain"


@case
async def test_what_is_no_signalr_server_is_named(adapter: Adapter) -> None:
    def answer(sock: socket.socket) -> None:
        sock.recv(65_536)
        sock.sendall(http(404))

    with scripted(answer) as url:
        error = await fails(adapter, ExchangeConfig(url))
    assert isinstance(error, NegotiationFailed)
    assert "404" in str(error)


@case
async def test_a_refused_setup_is_raised_and_nothing_is_left_open(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        server.judge_setup = lambda _client, _argument: {"status": "failure", "message": "no such key"}
        error = await fails(adapter, where(server), session=QUICK)
        assert isinstance(error, SetupRefused)
        assert "no such key" in str(error)
        await adapter.until(lambda: not server.open, server)
        assert len(server.setups) == 1


@case
async def test_a_setup_that_is_not_answered_times_out(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        server.judge_setup = lambda _client, _argument: None
        error = await fails(adapter, where(server, setup_timeout=0.05))
        assert isinstance(error, TimedOut)
        assert error.timer == "setup"
        await adapter.until(lambda: not server.open, server)


# ------------------------------------------------------------------------------------------- local mistakes


@pytest.mark.parametrize("host", ["http://streams.example.com", "streams.example.com/path", "", "host:port"])
@case
async def test_a_host_that_cannot_be_used_is_refused_before_anything_is_opened(adapter: Adapter, host: str) -> None:
    with pytest.raises(LocalProtocolError):
        async with adapter.connect(host):
            raise AssertionError("expected no connection")


@case
async def test_a_string_is_a_host_and_a_url_is_a_hub(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(server.url) as exchange, adapter.connect_hub(f"{server.url}/hub") as hub:
            assert exchange.session.state is SessionState.READY
            assert hub.connection.connection_id is not None


@pytest.mark.parametrize("options", [{"feed_capacity": 0}, {"overload": "explode"}])
@case
async def test_a_queue_that_cannot_be_made_is_refused(adapter: Adapter, options: dict[str, Any]) -> None:
    with LoopbackExchange() as server:
        with pytest.raises(LocalProtocolError):
            async with adapter.connect(where(server), **options) as exchange:
                exchange.subscribe(["btcusd"])
        await adapter.until(lambda: not server.open, server)
        assert not server.streams


@case
async def test_a_hub_that_is_not_there_is_told_too(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        server.stop()
        with pytest.raises(DialFailed, match=os.strerror(errno.ECONNREFUSED)):
            async with adapter.connect_hub(HubConfig(url=f"{server.url}/hub")):
                raise AssertionError("expected no connection")


# --------------------------------------------------------------------------------------- to wait, or not to


@case
async def test_the_first_failure_is_raised_and_not_retried(adapter: Adapter) -> None:
    """A server that is there a moment later does not matter to who waits."""
    with LoopbackExchange() as server:
        server.greet = lambda client: setattr(client, "is_deaf", True)
        error = await fails(adapter, where(server, opening_timeout=0.05), session=QUICK)
        assert isinstance(error, TimedOut)
        assert len(server.clients) == 1


@case
async def test_who_does_not_wait_sees_failures_and_success_as_events(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        server.stop()
        async with adapter.connect(where(server), session=QUICK, wait=False) as exchange:
            events = exchange.events()
            first = await anext(aiter(events))
            assert isinstance(first, Reconnecting)
            assert isinstance(first.error, DialFailed)
            server.start()
            async for event in events:
                if isinstance(event, Ready):
                    break
                assert isinstance(event, Reconnecting)
            assert exchange.session.state is SessionState.READY


@case
async def test_who_does_not_wait_may_subscribe_at_once(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), session=QUICK, wait=False) as exchange:
            feed = exchange.subscribe(["btcusd"])
            server.every(0.01, server.publish_here)
            assert (await feed.next(5.0)).market == "btcusd"


async def lose(adapter: Adapter, server: LoopbackExchange, exchange: Exchange) -> ConnectionFailed:
    """Cut a connection that is ready off; what its feed raises."""
    feed = exchange.subscribe(["btcusd"])
    await adapter.until(lambda: server.streams, server)
    server.cut()
    with pytest.raises(ConnectionFailed) as caught:
        await feed.next(5.0)
    return caught.value


@pytest.mark.parametrize("session", [None, SessionConfig(reconnect=False)], ids=["None", "reconnect=False"])
@case
async def test_without_a_session_nothing_is_ever_tried_again(adapter: Adapter, session: SessionConfig | None) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), CREDENTIALS, session=session) as exchange:
            assert isinstance(await lose(adapter, server, exchange), ConnectionLost)
            assert exchange.session.state is SessionState.CLOSED
            assert exchange.session.attempts == 1
        assert len(server.hubs) == 1
