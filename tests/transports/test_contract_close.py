"""The adapters' contract: closing is bounded, may be done at any time, and leaves nothing behind.

That no task, thread or open file is left is seen to after every case of the suite.
"""

from __future__ import annotations

import socket
import time

import pytest

from contract import QUICK, Adapter, case, rest, where
from etorox_proto import (
    Closed,
    ConnectionClosed,
    ExchangeConfig,
    Reconnecting,
    SessionConfig,
    SessionState,
    SetupRefused,
    SubscriptionEnded,
)
from loopback_exchange import LoopbackExchange, number_of

# What a close may take beyond `close_timeout`, in seconds.
GRACE = 1.0
# Comes back, but not within a test.
PATIENT = SessionConfig(backoff_base=3_600.0, backoff_cap=3_600.0)


@case
async def test_closing_again_does_nothing(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            exchange.subscribe(["btcusd"])
            for _ in range(3):
                await exchange.close()
                assert exchange.session.state is SessionState.CLOSED
            with pytest.raises(ConnectionClosed):
                exchange.subscribe(["ethusd"])
        await exchange.close()
        await adapter.until(lambda: not server.open, server)
        assert server.hubs[0].end == Closed(None)
        goodbyes = [message for message in server.hubs[0].messages if message == {"type": 7}]
        assert len(goodbyes) == 1


@case
async def test_leaving_says_goodbye(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            exchange.subscribe(["btcusd"])
        await adapter.until(lambda: not server.open, server)
        assert server.hubs[0].said_goodbye
        async with adapter.connect_hub(f"{server.url}/hub"):
            pass
        await adapter.until(lambda: not server.open, server)
        assert server.hubs[1].said_goodbye


@case
async def test_a_server_that_does_not_answer_the_goodbye_delays_it_by_close_timeout(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server, close_timeout=0.1)) as exchange:
            exchange.subscribe(["btcusd"])
            server.deafen()
            began = time.monotonic()
            await exchange.close()
            assert 0.05 < time.monotonic() - began < 0.1 + GRACE


@case
async def test_a_server_that_is_gone_already_does_not_matter(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            exchange.subscribe(["btcusd"])
            server.stop()
            began = time.monotonic()
        assert time.monotonic() - began < GRACE
        assert exchange.session.state is SessionState.CLOSED


@case
async def test_closing_while_the_first_connection_is_made(adapter: Adapter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = ExchangeConfig(f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with adapter.connect(config, session=QUICK, wait=False) as exchange:
            feed = exchange.subscribe(["btcusd"])
            with pytest.raises(TimeoutError):
                await feed.next(0.05)
            assert exchange.session.state is SessionState.CONNECTING
            began = time.monotonic()
        assert time.monotonic() - began < GRACE
        assert await rest(feed) == []


@case
async def test_leaving_at_once(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), session=QUICK, wait=False) as exchange:
            began = time.monotonic()
        assert time.monotonic() - began < GRACE
        assert exchange.session.state is SessionState.CLOSED
        await adapter.until(lambda: not server.open, server)


@case
async def test_closing_in_a_pause_between_attempts(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        server.stop()
        async with adapter.connect(where(server), session=PATIENT, wait=False) as exchange:
            feed, events = exchange.subscribe(["btcusd"]), aiter(exchange.events())
            assert isinstance(await anext(events), Reconnecting)
            assert exchange.session.state is SessionState.WAITING
            began = time.monotonic()
            await exchange.close()
            assert time.monotonic() - began < GRACE
            assert [type(event) for event in await rest(events)] in (
                [SubscriptionEnded, Closed],
                [SubscriptionEnded],
            )
            assert await rest(feed) == []


@case
async def test_closing_while_setup_is_not_answered(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        server.judge_setup = lambda _client, _argument: None
        async with adapter.connect(where(server, close_timeout=0.1), session=QUICK, wait=False) as exchange:
            feed = exchange.subscribe(["btcusd"])
            while not server.hubs:
                with pytest.raises(TimeoutError):
                    await feed.next(0.05)
        await adapter.until(lambda: not server.open, server)
        assert server.hubs[0].said_goodbye


@case
async def test_closing_from_within_the_loop_over_a_feed_ends_it(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: server.streams, server)
            server.publish(count=3)
            seen = []
            async for event in feed:
                seen.append(number_of(event))
                await exchange.close()
            assert seen == list(range(1, len(seen) + 1))


class Mine(Exception):
    pass


@case
async def test_an_exception_gets_out_although_the_server_does_not_answer(adapter: Adapter) -> None:
    error = Mine()
    with LoopbackExchange() as server:

        async def consume() -> None:
            async with adapter.connect(where(server, close_timeout=0.1)) as exchange:
                exchange.subscribe(["btcusd"])
                server.deafen()
                raise error

        began = time.monotonic()
        with pytest.raises(Mine) as caught:
            await consume()
        assert caught.value is error
        assert time.monotonic() - began < 0.1 + GRACE


@pytest.mark.parametrize("error", [None, Mine()], ids=["in peace", "with an exception"])
@case
async def test_a_final_error_that_nobody_reads_is_not_raised_on_leaving(adapter: Adapter, error: Mine | None) -> None:
    with LoopbackExchange() as server:
        server.judge_setup = lambda _client, _argument: {"status": "failure", "message": "no such key"}

        async def leave() -> None:
            async with adapter.connect(where(server), session=QUICK, wait=False) as exchange:
                events = aiter(exchange.events())
                with pytest.raises(SetupRefused):
                    await rest(events)
                if error is not None:
                    raise error

        if error is None:
            await leave()
        else:
            with pytest.raises(Mine) as caught:
                await leave()
            assert caught.value is error


@case
async def test_closing_while_the_server_is_held_back(adapter: Adapter) -> None:
    """What it could not send is read and dropped, so that its goodbye is heard."""
    with LoopbackExchange(send_buffer=16_384) as server:
        async with adapter.connect(where(server), feed_capacity=10, overload="wait") as exchange:
            feed = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: server.streams, server)
            server.publish(count=3_000)
            await adapter.until(lambda: server.hubs[0].unsent, server)
            await feed.next(5.0)
            began = time.monotonic()
            await exchange.close()
            assert time.monotonic() - began < GRACE
        await adapter.until(lambda: not server.open, server)
        assert server.hubs[0].end == Closed(None)
