"""The asynchronous adapters: one reader of everything, in place of the feeds."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from etorox_proto import (
    ConnectionLost,
    EventReceived,
    Gap,
    LocalProtocolError,
    Ready,
    Reconnecting,
    SessionConfig,
    SubscriptionEnded,
)
from etorox_transports import FeedOverflow, LatestBy
from virtual_async import World, number_of, virtual


class Mine(Exception):
    """An error of the application."""


@virtual
async def test_there_is_one_reader_of_everything_at_a_time(world: World) -> None:
    async with world.connect() as exchange:
        feed = exchange.subscribe(["btcusd"])
        await anyio.sleep(1.0)
        world.publish(2)
        await anyio.sleep(1.0)
        assert "btcusd" in repr(feed)
        assert "2 waiting" in repr(feed)
        async for event in exchange.events():
            assert number_of(event.event) == 1
            break
        events = exchange.events()
        assert number_of((await events.next()).event) == 2
        world.publish(2)
        await anyio.sleep(1.0)
        assert (events.lag, feed.lag) == (2, 0)
        assert repr(events) == "<Events: 2 waiting>"
        events.close()
        events.close()
        assert repr(events) == "<Events: 0 waiting, ended>"
        assert [event async for event in events] == []
        assert [number_of(await feed.next()) for _ in range(2)] == [3, 4]


@virtual
async def test_everything_is_told_in_order(world: World) -> None:
    async with world.connect(session=SessionConfig(backoff_base=1.0)) as exchange:
        events, feed = exchange.events(), exchange.subscribe(["btcusd"])
        await anyio.sleep(1.0)
        world.publish()
        await anyio.sleep(1.0)
        world.network.cut_all()
        await anyio.sleep(10.0)
        world.publish()
        await anyio.sleep(1.0)
        feed.close()
        told = [await events.next() for _ in range(6)]
        kinds = [EventReceived, Reconnecting, Ready, Gap, EventReceived, SubscriptionEnded]
        assert [type(event) for event in told] == kinds
        assert all(event.subscription is feed.handle for event in told if hasattr(event, "subscription"))
        assert isinstance(told[1].error, ConnectionLost)


@virtual
async def test_who_waits_for_a_feed_is_told_when_another_reads_everything(world: World) -> None:
    async def wait(feed: Any) -> None:
        with pytest.raises(LocalProtocolError, match="gets all that comes"):
            await feed.next()

    async with world.connect() as exchange, anyio.create_task_group() as tasks:
        tasks.start_soon(wait, exchange.subscribe(["btcusd"]))
        await anyio.sleep(1.0)
        exchange.events()


@virtual
async def test_what_was_dropped_is_told_to_whoever_reads_instead(world: World) -> None:
    async with world.connect(feed_capacity=4) as exchange:
        feed, quiet = exchange.subscribe(["btcusd"], capacity=2), exchange.subscribe(["ethusd"])
        await anyio.sleep(1.0)
        world.publish(5)
        await anyio.sleep(1.0)
        exchange.events()
        events = exchange.events()  # and so on, if another reads instead
        assert [number_of((await events.next()).event) for _ in range(2)] == [1, 2]
        with pytest.raises(FeedOverflow) as caught:
            await events.next()
        assert caught.value.dropped == 3
        world.publish(6)
        await anyio.sleep(1.0)
        events.close()
        assert [number_of(await feed.next()) for _ in range(2)] == [6, 7]
        for each, dropped in ((feed, 2), (quiet, 2)):
            with pytest.raises(FeedOverflow) as caught:
                await each.next()
            assert caught.value.dropped == dropped


@virtual
async def test_what_was_dropped_comes_back_to_its_feed(world: World) -> None:
    async with world.connect() as exchange:
        feed, quiet = exchange.subscribe(["btcusd"], capacity=2), exchange.subscribe(["ethusd"])
        await anyio.sleep(1.0)
        world.publish(5)
        await anyio.sleep(1.0)
        exchange.events().close()
        assert [number_of(await feed.next()) for _ in range(2)] == [1, 2]
        with pytest.raises(FeedOverflow):
            await feed.next()
        with pytest.raises(TimeoutError):
            await quiet.next(1.0)


@virtual
async def test_what_was_dropped_in_several_feeds_is_told_for_each(world: World) -> None:
    async with world.connect(feed_capacity=2) as exchange:
        exchange.subscribe(["btcusd"])
        exchange.subscribe(["ethusd"])
        await anyio.sleep(1.0)
        world.publish(5)
        world.publish(4, channel="ethusd")
        await anyio.sleep(1.0)
        events = exchange.events(capacity=10)
        dropped = []
        for _ in range(6):
            try:
                await events.next()
            except FeedOverflow as overflow:
                dropped.append(overflow.dropped)
        assert dropped == [3, 2]


@virtual
async def test_what_was_dropped_is_forgotten_with_its_feed(world: World) -> None:
    async with world.connect(feed_capacity=2) as exchange:
        feed, quiet = exchange.subscribe(["btcusd"]), exchange.subscribe(["ethusd"])
        await anyio.sleep(1.0)
        world.publish(5)
        await anyio.sleep(1.0)
        events = exchange.events(capacity=10)
        feed.close()
        events.close()
        assert [event async for event in feed] == []
        world.publish(channel="ethusd")
        assert number_of(await quiet.next()) == 6


@virtual
async def test_a_key_that_cannot_be_made_is_told_to_whoever_reads(world: World) -> None:
    def key(event: Any) -> str:
        raise Mine(event.id)

    async with world.connect() as exchange:
        feed = exchange.subscribe(["btcusd"], overload=LatestBy(key))
        await anyio.sleep(1.0)
        world.publish()
        await anyio.sleep(1.0)
        events = exchange.events()
        with pytest.raises(Mine, match="1"):
            await events.next()
        assert number_of((await events.next()).event) == 1
        assert feed.lag == 0


@virtual
async def test_the_latest_of_each_subscription_and_key(world: World) -> None:
    async with world.connect() as exchange:
        one, other = exchange.subscribe(["btcusd"]), exchange.subscribe(["ethusd"])
        events = exchange.events(overload=LatestBy(lambda event: event.side))
        await anyio.sleep(1.0)
        world.publish(2)
        world.publish(2, channel="ethusd")
        await anyio.sleep(1.0)
        one.close()
        told = [await events.next() for _ in range(3)]
        assert [number_of(event.event) for event in told[:2]] == [2, 4]
        assert [event.subscription for event in told] == [one.handle, other.handle, one.handle]


@virtual
async def test_what_nobody_has_a_feed_for_is_dropped(world: World) -> None:
    async with world.connect() as exchange:
        exchange.session.subscribe(["btcusd"], now=anyio.current_time())
        feed = exchange.subscribe(["ethusd"])
        await anyio.sleep(1.0)
        world.publish(2)
        world.publish(channel="ethusd")
        assert number_of(await feed.next()) == 3


@virtual
async def test_a_command_from_inside_a_key_function_is_carried_out(world: World) -> None:
    async with world.connect() as exchange:
        opened: list[Any] = []

        def key(event: Any) -> str:
            if not opened:
                opened.append(exchange.subscribe(["ethusd"]))
            return str(event.id)

        feed = exchange.subscribe(["btcusd"], overload=LatestBy(key))
        await anyio.sleep(1.0)
        world.publish()
        assert number_of(await feed.next()) == 1
        await anyio.sleep(1.0)
        world.publish(channel="ethusd")
        assert number_of(await opened[0].next()) == 2
