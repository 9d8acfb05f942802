"""The adapters' contract: subscriptions, what their feeds bring, and how they end."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from contract import QUICK, Adapter, Exchange, Feed, case, first, rest, where
from etorox_proto import (
    Closed,
    ConnectionClosed,
    ConnectionFailed,
    EventReceived,
    LocalProtocolError,
    OrderCreated,
    Row,
    ServerClosed,
    SubscriptionEnded,
    SubscriptionFailed,
)
from loopback_exchange import LoopbackExchange, number_of

PINGING = 0.02
TWO = ("btcusd", "ethusd")


def numbers(events: list[Any]) -> list[int]:
    return [number_of(event) for event in events]


# ------------------------------------------------------------------------------------------------ what they bring


@case
async def test_typed_events_come_in_order(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: server.streams, server)
            server.publish(count=1_000)
            events = await first(feed, 1_000)
    assert numbers(events) == list(range(1, 1_001))
    assert {type(event) for event in events} == {OrderCreated}


@case
async def test_rows_have_the_fields_asked_for(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feed = exchange.subscribe(["btcusd"], fields=["id", "market", "price"])
            await adapter.until(lambda: server.streams, server)
            server.publish(count=3)
            rows = await first(feed, 3)
    assert all(isinstance(row, Row) for row in rows)
    assert [(row.id, row.market, row.price) for row in rows] == [(str(n), "btcusd", n) for n in (1, 2, 3)]


@case
async def test_several_feeds_get_their_own_events(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            bitcoin = exchange.subscribe(["btcusd"])
            others = exchange.subscribe(["ethusd", "xrpusd"])
            await adapter.until(lambda: len(server.streams) == 2, server)
            for channel in ("ethusd", "btcusd", "xrpusd", "btcusd"):
                server.publish(channel)
            assert [event.market for event in await first(bitcoin, 2)] == ["btcusd", "btcusd"]
            assert [event.market for event in await first(others, 2)] == ["ethusd", "xrpusd"]
            assert exchange.session.subscriptions == [bitcoin.handle, others.handle]


@case
async def test_all_events_can_be_read_in_the_order_of_their_arrival(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feeds = {channel: exchange.subscribe([channel]) for channel in ("btcusd", "ethusd")}
            await adapter.until(lambda: len(server.streams) == 2, server)
            order = ["btcusd", "ethusd", "ethusd", "btcusd", "ethusd"]
            for channel in order:
                server.publish(channel)
            received = await first(aiter(exchange.events()), len(order))
    assert all(isinstance(event, EventReceived) for event in received)
    assert [event.event.market for event in received] == order
    assert [event.subscription for event in received] == [feeds[channel].handle for channel in order]


async def two_known_feeds(adapter: Adapter, server: LoopbackExchange, exchange: Exchange, **options: Any) -> list[Feed]:
    """Two feeds that have brought an event each, so that what comes together is passed on together."""
    feeds = [exchange.subscribe([channel], **options) for channel in TWO]
    await adapter.until(lambda: len(server.streams) == 2, server)
    server.publish_by_turns(TWO, 1)
    for feed in feeds:
        assert numbers(await first(feed, 1)) == [1]
    return feeds


@case
async def test_what_comes_by_turns_is_read_in_that_order(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feeds = await two_known_feeds(adapter, server, exchange)
            events = exchange.events()
            server.publish_by_turns(TWO, 100)
            received = await first(aiter(events), 110)
            assert [event.event.market for event in received] == [*TWO] * 55
            assert [event.subscription for event in received] == [feed.handle for feed in feeds] * 55
            assert [number_of(event.event) for event in received] == [2 + place // 2 for place in range(110)]
            events.close()
            for feed in feeds:
                assert numbers(await first(feed, 45)) == list(range(57, 102))


@case
async def test_what_comes_by_turns_goes_to_the_feed_of_each(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feeds = await two_known_feeds(adapter, server, exchange)
            server.publish_by_turns(TWO, 100)
            for feed in feeds:
                assert numbers(await first(feed, 100)) == list(range(2, 102))
                assert (feed.lag, feed.received, feed.delivered, feed.dropped) == (0, 101, 101, 0)


@case
async def test_what_comes_by_turns_is_dropped_where_it_does_not_fit(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            unread, read = await two_known_feeds(adapter, server, exchange, capacity=300, overload="drop_oldest")
            small = exchange.subscribe(["xrpusd"], capacity=5, overload="drop_oldest")
            await adapter.until(lambda: len(server.streams) == 3, server)
            server.publish_by_turns(["xrpusd"], 1)
            assert numbers(await first(small, 1)) == [1]
            server.publish_by_turns(["xrpusd", *TWO], 100)
            assert numbers(await first(read, 100)) == list(range(2, 102))
            assert numbers(await first(small, 5)) == [97, 98, 99, 100, 101]
            assert numbers(await first(unread, 100)) == list(range(2, 102))


@case
async def test_what_waits_in_a_feed_moves_to_who_reads_everything_and_back_again(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feed, pump = exchange.subscribe(["btcusd"]), exchange.subscribe(["ethusd"])
            await adapter.until(lambda: len(server.streams) == 2, server)
            server.publish(count=3)
            server.publish("ethusd")
            await pump.next(5.0)
            assert feed.lag == 3
            events = exchange.events()
            assert feed.lag == 0
            assert [number_of(event.event) for event in await first(aiter(events), 3)] == [1, 2, 3]
            server.publish(count=3)
            assert [number_of(event.event) for event in await first(aiter(events), 1)] == [4]
            events.close()
            server.publish()
            assert numbers(await first(feed, 3)) == [5, 6, 7]


@case
async def test_the_newest_reader_of_everything_replaces_the_earlier_one(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feed, pump = exchange.subscribe(["btcusd"]), exchange.subscribe(["ethusd"])
            await adapter.until(lambda: len(server.streams) == 2, server)
            server.publish(count=3)
            server.publish("ethusd")
            await pump.next(5.0)
            earlier = exchange.events()
            newest = exchange.events()
            with pytest.raises(StopAsyncIteration):
                await earlier.next(1.0)
            assert [number_of(event.event) for event in await first(aiter(newest), 3)] == [1, 2, 3]
            earlier.close()
            server.publish()
            assert [number_of(event.event) for event in await first(aiter(newest), 1)] == [4]
            newest.close()
            server.publish()
            assert number_of(await feed.next(5.0)) == 5


@case
async def test_a_feed_cannot_be_read_while_everything_is(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feed, events = exchange.subscribe(["btcusd"]), exchange.events()
            for _ in range(2):
                with pytest.raises(LocalProtocolError):
                    await feed.next(1.0)
            with pytest.raises(LocalProtocolError):
                await anext(feed)
            events.close()
            with pytest.raises(TimeoutError):
                await feed.next(0.01)


# ---------------------------------------------------------------------------------------------- refused, mistaken


@case
async def test_a_refused_subscription_raises_where_it_is_read_and_nowhere_else(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        server.judge_subscription = lambda _client, channels: "not listed" if "nothing" in channels else ""
        async with adapter.connect(where(server)) as exchange:
            good, bad = exchange.subscribe(["btcusd"]), exchange.subscribe(["nothing"])
            for _ in range(3):
                with pytest.raises(SubscriptionFailed, match="not listed"):
                    await bad.next(5.0)
            server.publish()
            assert number_of(await good.next(5.0)) == 1


@case
async def test_a_refused_subscription_is_an_event_for_who_reads_everything(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        server.judge_subscription = lambda _client, channels: "not listed" if "nothing" in channels else ""
        async with adapter.connect(where(server)) as exchange:
            exchange.subscribe(["btcusd"])
            bad = exchange.subscribe(["nothing"])
            events = aiter(exchange.events())
            ended = await anext(events)
            assert isinstance(ended, SubscriptionEnded)
            assert ended.subscription is bad.handle
            assert isinstance(ended.error, SubscriptionFailed)
            server.publish()
            assert isinstance(await anext(events), EventReceived)


MISTAKES: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["btcusd", "btcusd"], {}),
    (["ethusd"], {"fields": ["price", "name"]}),
    (["ethusd"], {"event": ""}),
    (["ethusd"], {"capacity": 0}),
    (["ethusd"], {"overload": "explode"}),
    (["ethusd"], {"stale_after": -1.0}),
    (["btcusd"], {}),
]


@case
async def test_local_mistakes_are_raised_by_the_call_and_nothing_is_sent(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            taken = exchange.subscribe(["btcusd"])
            for channels, options in MISTAKES:
                with pytest.raises(LocalProtocolError):
                    exchange.subscribe(channels, **options)
            assert exchange.session.subscriptions == [taken.handle]
            await adapter.until(lambda: server.streams, server)
            server.publish()
            assert number_of(await taken.next(5.0)) == 1
    calls = [message for message in server.hubs[0].messages if message.get("type") == 4]
    assert [call["arguments"][0]["channels"] for call in calls] == [["btcusd"]]


# -------------------------------------------------------------------------------------------------------- the end


@case
async def test_what_came_before_the_end_is_delivered_before_it(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: server.streams, server)
            server.publish(count=5)
            server.say_goodbye(error="maintenance")
            assert numbers(await first(feed, 5)) == [1, 2, 3, 4, 5]
            with pytest.raises(ServerClosed, match="maintenance"):
                await anext(feed)


@case
async def test_every_read_after_the_end_raises_the_same(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feed, other = exchange.subscribe(["btcusd"]), exchange.subscribe(["ethusd"])
            await adapter.until(lambda: len(server.streams) == 2, server)
            server.say_goodbye(error="maintenance")
            errors, depths = [], []
            for each in (feed, other, feed, feed, other):
                with pytest.raises(ConnectionFailed) as caught:
                    await each.next(5.0)
                errors.append(caught.value)
                depths.append(len(caught.traceback))
            assert len({id(error) for error in errors}) == 1
            assert len(set(depths[1:])) == 1, "its traceback does not grow"
            for _ in range(2):
                with pytest.raises(ServerClosed, match="maintenance"):
                    await rest(exchange.events())
            with pytest.raises(ConnectionClosed):
                exchange.subscribe(["xrpusd"])


@case
async def test_a_stream_that_the_exchange_ends_in_good_order_ends_the_iteration(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: server.streams, server)
            server.publish(count=2)
            server.end_streams()
            assert numbers(await rest(feed)) == [1, 2]
            assert await rest(feed) == []
            assert exchange.subscribe(["btcusd"]).handle in exchange.session.subscriptions


@case
async def test_a_closed_feed_ends_and_its_topic_is_free_again(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: server.streams, server)
            server.publish(count=3)
            await feed.next(5.0)
            feed.close()
            feed.close()
            assert await rest(feed) == []
            again = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: any(s.invocation_id == "3" for s in server.streams), server)
            server.publish()
            assert number_of(await again.next(5.0)) == 4
        assert {"type": 5, "invocationId": "2"} in server.hubs[0].messages


@case
async def test_our_close_ends_feeds_and_the_iteration_over_everything(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feed, events = exchange.subscribe(["btcusd"]), exchange.events()
            await exchange.close()
            assert await rest(feed) == []
            assert all(isinstance(event, SubscriptionEnded | Closed) for event in await rest(aiter(events)))
            assert await rest(aiter(events)) == []
        assert await rest(feed) == []
        with pytest.raises(StopAsyncIteration):
            await feed.next(0.1)


# -------------------------------------------------------------------------------------------------------- timeouts


@case
async def test_waiting_in_vain_keeps_the_connection_alive(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server, ping_interval=PINGING)) as exchange:
            feed = exchange.subscribe(["btcusd"])
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                await feed.next(10 * PINGING)
            assert 9 * PINGING < time.monotonic() - began + 0.01 < 1.0
            await adapter.until(lambda: server.hubs[0].pings >= 5, server)
            server.publish()
            assert number_of(await feed.next(timeout=math.inf)) == 1


@case
async def test_no_time_to_wait_is_a_timeout_at_once_unless_something_waits(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feed, pump = exchange.subscribe(["btcusd"]), exchange.subscribe(["ethusd"])
            await adapter.until(lambda: len(server.streams) == 2, server)
            for timeout in (0.0, -1.0):
                with pytest.raises(TimeoutError):
                    await feed.next(timeout)
            server.publish()
            server.publish("ethusd")
            await pump.next(5.0)
            assert number_of(await feed.next(0.0)) == 1


@case
async def test_a_session_that_reconnects_for_ever_can_be_waited_for_with_a_timeout(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), session=QUICK) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: server.streams, server)
            server.stop()
            with pytest.raises(TimeoutError):
                await feed.next(0.1)
            assert exchange.session.attempts > 2
