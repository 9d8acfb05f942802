"""The adapters' contract: consumers that are slow, break off, or raise."""

from __future__ import annotations

import time
from typing import Any

import pytest

from contract import QUICK, Adapter, Exchange, Feed, case, first, rest, where
from etorox_proto import Closed, TimedOut
from etorox_transports import FeedOverflow, LatestBy
from loopback_exchange import LoopbackExchange, number_of

PINGING = 0.02


def numbers(events: list[Any]) -> list[int]:
    return [number_of(event) for event in events]


async def two_feeds(
    adapter: Adapter, server: LoopbackExchange, exchange: Exchange, **options: Any
) -> tuple[Feed, Feed]:
    """A feed that nobody reads, and one to read meanwhile."""
    unread, read = exchange.subscribe(["btcusd"], **options), exchange.subscribe(["ethusd"])
    await adapter.until(lambda: len(server.streams) == 2, server)
    return unread, read


# ------------------------------------------------------------------------------------------------ slow consumers


@case
async def test_fail_delivers_what_waits_then_says_so_once_then_goes_on(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), feed_capacity=10) as exchange:
            unread, read = await two_feeds(adapter, server, exchange)
            server.publish(count=25)
            server.publish("ethusd")
            await read.next(5.0)
            assert (unread.lag, unread.received, unread.delivered, unread.dropped) == (10, 25, 0, 15)
            assert numbers(await first(unread, 10)) == list(range(1, 11))
            with pytest.raises(FeedOverflow) as caught:
                await unread.next(5.0)
            assert caught.value.dropped == 15
            server.publish(count=2)
            assert numbers(await first(unread, 2)) == [26, 27]
            assert (unread.lag, unread.received, unread.delivered, unread.dropped) == (0, 27, 12, 15)


@case
async def test_drop_oldest_keeps_the_newest(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            unread, read = await two_feeds(adapter, server, exchange, capacity=10, overload="drop_oldest")
            server.publish(count=25)
            server.publish("ethusd")
            await read.next(5.0)
            assert (unread.lag, unread.received, unread.delivered, unread.dropped) == (10, 25, 0, 15)
            assert numbers(await first(unread, 10)) == list(range(16, 26))
            server.publish()
            assert number_of(await unread.next(5.0)) == 26


@case
async def test_latest_by_keeps_one_of_each_key(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), overload=LatestBy(lambda event: event.market)) as exchange:
            many, read = exchange.subscribe(["btcusd", "xrpusd"]), exchange.subscribe(["ethusd"])
            await adapter.until(lambda: len(server.streams) == 2, server)
            server.publish("xrpusd", count=7)
            server.publish("btcusd", count=5)
            server.publish("ethusd")
            await read.next(5.0)
            assert (many.lag, many.received, many.dropped) == (2, 12, 10)
            latest = await first(many, 2)
            assert {(event.market, number_of(event)) for event in latest} == {("xrpusd", 7), ("btcusd", 5)}


@case
async def test_a_flood_does_not_run_over_a_consumer_that_only_takes(adapter: Adapter) -> None:
    """However many reads an event loop does in a row."""
    count = 20_000
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), feed_capacity=2_000) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: server.streams, server)
            server.publish(count=count)
            assert numbers(await first(feed, count)) == list(range(1, count + 1))
            assert feed.dropped == 0


@case
async def test_wait_holds_the_server_back_loses_nothing_and_keeps_pinging(adapter: Adapter) -> None:
    count = 6_000  # more than the system's buffers hold
    with LoopbackExchange(send_buffer=16_384) as server:
        config = where(server, ping_interval=PINGING, server_timeout=0.15)
        async with adapter.connect(config, session=None, feed_capacity=10, overload="wait") as exchange:
            feed = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: server.streams, server)
            server.publish(count=count)
            client, seen = server.hubs[0], []
            # Longer than the server may be silent, and it is held back so that nothing comes from it.
            for _ in range(30):
                seen.append(number_of(await feed.next(5.0)))
                await adapter.work(0.01)
            assert client.unsent, "the server cannot get rid of it all"
            assert feed.lag < count / 2
            assert client.pings >= 5
            seen += numbers(await first(feed, count - 30))
            assert seen == list(range(1, count + 1))
            assert (feed.lag, feed.received, feed.delivered, feed.dropped) == (0, count, count, 0)
            with pytest.raises(TimeoutError):
                await feed.next(3 * PINGING)


@case
async def test_a_feed_that_nobody_reads_holds_the_others_back_and_pings_go_on(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        config = where(server, ping_interval=PINGING, server_timeout=0.15)
        async with async_adapter.connect(config, session=None) as exchange:
            unread, read = await two_feeds(async_adapter, server, exchange, capacity=10, overload="wait")
            server.publish(count=50)
            with pytest.raises(TimeoutError):
                await read.next(0.3)
            assert server.hubs[0].pings >= 5
            server.publish("ethusd")
            with pytest.raises(TimeoutError):
                await read.next(0.05)
            await first(unread, 50)
            assert number_of(await read.next(5.0)) == 1


@case
async def test_silence_counts_again_after_a_pause(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with async_adapter.connect(where(server, server_timeout=0.15), session=None) as exchange:
            unread, read = await two_feeds(async_adapter, server, exchange, capacity=10, overload="wait")
            server.publish(count=50)
            with pytest.raises(TimeoutError):
                await read.next(0.3)
            server.deafen()
            began = time.monotonic()
            await first(unread, 50)
            with pytest.raises(TimedOut, match="nothing came from the server"):
                await read.next(5.0)
            assert 0.1 < time.monotonic() - began < 1.0


@case
async def test_a_full_feed_that_has_ended_holds_nobody_back(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            unread, read = await two_feeds(adapter, server, exchange, capacity=10, overload="wait")

            def publish_and_end() -> None:
                server.publish_here(count=10)
                ended = server.streams.pop(0)
                ended.client.machine.complete(ended.invocation_id, now=time.monotonic())

            server.do(publish_and_end)
            server.publish("ethusd")
            assert number_of(await read.next(5.0)) == 1
            server.publish("ethusd")
            assert number_of(await read.next(5.0)) == 2
            assert numbers(await rest(unread)) == list(range(1, 11))


@case
async def test_a_full_feed_that_is_closed_holds_nobody_back(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            unread, read = await two_feeds(adapter, server, exchange, capacity=10, overload="wait")
            server.publish(count=50)
            server.publish("ethusd")
            await unread.next(5.0)
            unread.close()
            assert number_of(await read.next(5.0)) == 1


@case
async def test_what_a_key_function_raises_is_raised_where_the_feed_is_read(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), overload=LatestBy(lambda event: event.nonsense)) as exchange:
            feed, read = exchange.subscribe(["btcusd"]), exchange.subscribe(["ethusd"], overload="fail")
            await adapter.until(lambda: len(server.streams) == 2, server)
            server.publish()
            server.publish("ethusd")
            assert number_of(await read.next(5.0)) == 1
            with pytest.raises(AttributeError, match="nonsense"):
                await feed.next(5.0)
            assert number_of(await feed.next(5.0)) == 1


# -------------------------------------------------------------------------------- breaking off, and coming back


@case
async def test_who_breaks_out_of_a_loop_may_come_back(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feed = exchange.subscribe(["btcusd"])
            server.every(0.001, server.publish_here)
            seen = []
            for _ in range(5):
                async for event in feed:
                    seen.append(number_of(event))
                    if len(seen) % 3 == 0:
                        break
            assert seen == list(range(seen[0], seen[0] + 15))


class Mine(Exception):
    pass


@pytest.mark.parametrize(
    "error", [Mine("x"), ExceptionGroup("mine", [Mine("x")]), KeyboardInterrupt()], ids=["error", "group", "interrupt"]
)
@case
async def test_what_the_consumer_raises_comes_out_as_it_is(adapter: Adapter, error: BaseException) -> None:
    """Not in a group, nor altered; and the exchange gets a goodbye."""
    with LoopbackExchange() as server:

        async def consume() -> None:
            async with adapter.connect(where(server), session=QUICK) as exchange:
                feed = exchange.subscribe(["btcusd"])
                server.every(0.001, server.publish_here)
                async for _ in feed:
                    raise error

        with pytest.raises(type(error)) as caught:
            await consume()
        assert caught.value is error
        assert caught.value.__cause__ is None
        await adapter.until(lambda: not server.open, server)
        assert server.hubs[0].end == Closed(None)
        assert server.hubs[0].said_goodbye
