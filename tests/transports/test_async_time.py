"""The asynchronous adapters and time: deadlines, pauses, bounds. In virtual time, so that hours take a moment."""

from __future__ import annotations

import math
import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from etorox_proto import (
    ConnectionLost,
    Gap,
    LocalProtocolError,
    SessionConfig,
    SessionState,
    SetupRefused,
    Stale,
    TimedOut,
)
from etorox_transports import DialFailed, FeedOverflow
from virtual_async import World, number_of, virtual

# A ping on the wire: the frame's head, its mask and `{"type":6}` with its end.
PING = 2 + 4 + 11


async def seconds_of(awaitable: Any, error: type[Exception] | None = None) -> float:
    """How long something takes; with an error, which it raises."""
    began = anyio.current_time()
    if error is None:
        await awaitable
    else:
        with pytest.raises(error):
            await awaitable
    return anyio.current_time() - began


# ---------------------------------------------------------------------------------------------------- signs of life


@virtual
async def test_pings_keep_their_rhythm_for_an_hour(world: World) -> None:
    async with world.connect() as exchange:
        await anyio.sleep(1.0)
        (stream,) = world.network.open_streams
        sent = stream.sent
        await anyio.sleep(3_600.0)
        assert stream.sent - sent == 240 * PING
        assert exchange.session.attempts == 1


@virtual
async def test_silence_is_noticed_in_time(world: World) -> None:
    async with world.connect(session=None) as exchange:
        feed = exchange.subscribe(["btcusd"])
        await anyio.sleep(1.0)
        world.publish()
        await feed.next()
        world.network.buffer = 0  # nothing gets through any more
        assert await seconds_of(feed.next(), TimedOut) == pytest.approx(30.0)


@virtual
async def test_bytes_that_came_while_the_loop_was_blocked_count_before_the_deadline(world: World) -> None:
    world.rules.client_timeout = 1_000.0
    async with world.connect(session=None) as exchange:
        feed = exchange.subscribe(["btcusd"])
        await anyio.sleep(1.0)
        world.publish()
        for stream in world.network.open_streams:
            stream.pump()
            assert stream.waiting
        world.loop.jump(100.0)
        assert number_of(await feed.next()) == 1
        await anyio.sleep(1.0)
        assert exchange.session.state is SessionState.READY


@pytest.mark.parametrize("steps", range(8))
@virtual
async def test_a_loop_that_is_blocked_again_and_again_brings_nobody_down(world: World, steps: int) -> None:
    world.rules.client_timeout = 100_000.0
    async with world.connect(session=None) as exchange:
        feed = exchange.subscribe(["btcusd"])
        await anyio.sleep(1.0)
        for _ in range(20):
            world.publish()
            for stream in world.network.open_streams:
                stream.pump()
            world.loop.jump(100.0)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
        assert [number_of(await feed.next()) for _ in range(20)] == list(range(1, 21))
        await anyio.sleep(1.0)
        assert exchange.session.state is SessionState.READY


@virtual
async def test_a_consumer_that_blocks_the_loop_over_each_event_brings_nobody_down(world: World) -> None:
    world.rules.client_timeout = 100_000.0
    async with world.connect(session=None) as exchange:
        feed = exchange.subscribe(["btcusd"])
        await anyio.sleep(1.0)
        world.publish(1_000)
        for number in range(1, 1_001):
            assert number_of(await feed.next()) == number
            world.loop.jump(1.0)
        await anyio.sleep(1.0)
        assert exchange.session.state is SessionState.READY


@virtual
async def test_a_quiet_subscription_is_told_in_time(world: World) -> None:
    async with world.connect() as exchange:
        feed = exchange.subscribe(["btcusd"])
        assert await seconds_of(feed.next()) == pytest.approx(300.0)
        stale = await feed.next()
        assert isinstance(stale, Stale)
        assert stale.silent_for == pytest.approx(600.0)


@virtual
async def test_a_long_interruption_costs_one_gap_and_few_attempts(world: World) -> None:
    async with world.connect() as exchange:
        feed = exchange.subscribe(["btcusd"])
        await anyio.sleep(1.0)
        world.publish()
        await feed.next()
        whole_until = anyio.current_time()
        world.network.refuses = True
        world.network.cut_all()
        await anyio.sleep(600.0)
        assert 10 <= exchange.session.attempts <= 100
        world.network.refuses = False
        await anyio.sleep(61.0)
        world.publish()
        gap = await feed.next()
        assert isinstance(gap, Gap)
        assert isinstance(gap.cause, ConnectionLost)
        assert gap.since == pytest.approx(whole_until)
        assert gap.lasted == pytest.approx(anyio.current_time() - whole_until)
        assert number_of(await feed.next()) == 2


# ------------------------------------------------------------------------------------------------------------ bounds


async def enter(client: Any) -> None:
    async with client:
        raise AssertionError("expected no connection")


@virtual
async def test_a_stream_that_does_not_open_is_given_up(world: World) -> None:
    world.network.hangs = True
    assert await seconds_of(enter(world.connect()), TimedOut) == pytest.approx(30.0)
    assert len(world.network.dials) == 1


@virtual
async def test_a_peer_that_takes_nothing_is_given_up(world: World) -> None:
    async with world.connect(session=None) as exchange:
        world.network.takes_nothing = True
        began = anyio.current_time()
        with pytest.raises(ConnectionLost) as caught:
            await exchange.subscribe(["btcusd"]).next()
        assert anyio.current_time() - began == pytest.approx(5.0)
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert "did not take within 5 s" in str(caught.value.__cause__)


@virtual
async def test_a_peer_that_reads_slowly_is_not_given_up(world: World) -> None:
    class Slow:
        """A stream through which 32 KiB pass in a second."""

        def __init__(self, stream: Any) -> None:
            self.receive_some, self.aclose = stream.receive_some, stream.aclose
            self._stream = stream

        async def send_all(self, data: bytes) -> None:
            await anyio.sleep(len(data) / 32_768)
            await self._stream.send_all(data)

    async def open_slowly(dial: Any) -> Slow:
        return Slow(await world.hub_network.open(dial))

    async with world.connect_hub(open=open_slowly) as hub:
        began = anyio.current_time()
        await hub.send("take", "x" * 500_000)
        assert await hub.invoke("add", 1, 2) == 3
        assert 15.0 < anyio.current_time() - began < 16.0


@virtual
async def test_a_peer_that_takes_nothing_keeps_nobody_from_the_deadline(world: World) -> None:
    """And nothing is sent after the part that it took, which the network would tell."""
    async with world.connect(session=None, config={"server_timeout": 3.0, "ping_interval": 1.0}) as exchange:
        world.network.takes_nothing = True
        assert await seconds_of(exchange.subscribe(["btcusd"]).next(), TimedOut) == pytest.approx(3.0)
    assert not world.network.open_streams


@virtual
async def test_a_goodbye_without_an_answer_is_waited_for_so_long(world: World) -> None:
    async with world.connect(config={"close_timeout": 3.0}) as exchange:
        world.network.buffer = 0
        assert await seconds_of(exchange.close()) == pytest.approx(3.0)
        assert not world.network.open_streams
        assert await seconds_of(exchange.close()) == pytest.approx(0.0)


@virtual
async def test_a_goodbye_that_cannot_be_sent_is_given_up(world: World) -> None:
    async with world.connect(config={"close_timeout": 3.0}) as exchange:
        world.network.takes_nothing = True
        assert await seconds_of(exchange.close()) == pytest.approx(3.5)  # half a second for what is on its way
        assert not world.network.open_streams
        assert exchange.session.state is SessionState.CLOSED


@virtual
async def test_leaving_takes_no_longer_than_closing(world: World) -> None:
    began = anyio.current_time()
    async with world.connect(config={"close_timeout": 3.0}):
        world.network.buffer = 0
    assert anyio.current_time() - began == pytest.approx(3.0)


@virtual
async def test_closing_while_a_stream_is_being_opened_takes_no_time(world: World) -> None:
    world.network.hangs = True
    async with world.connect(wait=False) as exchange:
        await anyio.sleep(1.0)
        assert await seconds_of(exchange.close()) == pytest.approx(0.0)


@virtual
async def test_closing_between_two_attempts_takes_no_time(world: World) -> None:
    world.network.refuses = True
    async with world.connect(wait=False, session=SessionConfig(backoff_base=60.0)) as exchange:
        events = exchange.events()
        await events.next()
        assert exchange.session.state is SessionState.WAITING
        assert await seconds_of(exchange.close()) == pytest.approx(0.0)
        assert [event async for event in events] == []


@pytest.mark.parametrize("takes", [9.0, 11.0])
@virtual
async def test_the_time_is_asked_for_and_not_for_ever(world: World, takes: float) -> None:
    world.exchange.refuse_setup(times=1)

    async def now() -> float:
        await anyio.sleep(takes)
        return time.time()

    if takes < 10.0:
        async with world.connect(time_source=now) as exchange:
            assert exchange.session.attempts == 2
    else:
        client = world.connect(time_source=now)
        assert await seconds_of(enter(client), SetupRefused) == pytest.approx(10.0)


@virtual
async def test_without_a_time_source_a_refusal_stays_one(world: World) -> None:
    world.exchange.refuse_setup(times=1)
    client = world.connect(session=SessionConfig(check_clock=True))
    assert await seconds_of(enter(client), SetupRefused) == pytest.approx(0.0)


@virtual
async def test_closing_does_not_wait_for_the_time(world: World) -> None:
    world.exchange.refuse_setup()

    async def never() -> float:
        await anyio.sleep(math.inf)
        raise AssertionError("time without end")

    async with world.connect(wait=False, time_source=never) as exchange:
        await anyio.sleep(1.0)
        assert await seconds_of(exchange.close()) == pytest.approx(0.0)


# --------------------------------------------------------------------------------------------------------- overload


@virtual
async def test_a_pause_is_not_held_against_the_exchange(world: World) -> None:
    world.network.buffer = 10_000
    async with world.connect(session=None) as exchange:
        feed = exchange.subscribe(["btcusd"], capacity=10, overload="wait")
        await anyio.sleep(1.0)
        (stream,) = world.network.open_streams
        stream.largest_read = 1_000
        sent = stream.sent
        world.publish(1_000)
        await anyio.sleep(300.0)
        assert stream.sent - sent == 20 * PING, "pings go on"
        assert 10 <= feed.lag < 20
        assert [number_of(await feed.next()) for _ in range(1_000)] == list(range(1, 1_001))
        assert (feed.received, feed.delivered, feed.dropped, feed.lag) == (1_000, 1_000, 0, 0)
        world.network.buffer = 0
        assert await seconds_of(feed.next(), TimedOut) == pytest.approx(30.0, abs=15.0), "now it counts again"


@virtual
async def test_who_waits_for_room_can_still_be_closed(world: World) -> None:
    """Unread events must not keep the goodbye from being heard."""
    world.network.buffer = 10_000
    async with world.connect() as exchange:
        feed = exchange.subscribe(["btcusd"], capacity=10, overload="wait")
        await anyio.sleep(1.0)
        world.publish(1_000)
        await anyio.sleep(1.0)
        assert feed.lag >= 10
        assert await seconds_of(exchange.close()) == pytest.approx(0.0)
        waiting = feed.lag
        assert [number_of(event) async for event in feed] == list(range(1, waiting + 1))


@pytest.mark.parametrize("how", ["close the feed", "read everything"])
@virtual
async def test_there_is_more_than_one_way_to_make_room(world: World, how: str) -> None:
    world.network.buffer = 10_000
    async with world.connect() as exchange:
        full = exchange.subscribe(["btcusd"], capacity=10, overload="wait")
        other = exchange.subscribe(["ethusd"])
        await anyio.sleep(1.0)
        world.publish(1_000)
        world.publish(channel="ethusd")
        with pytest.raises(TimeoutError):
            await other.next(1.0)
        if how == "close the feed":
            full.close()
        else:
            events = exchange.events()
            assert full.lag == 0
            assert number_of((await events.next()).event) == 1
            await anyio.sleep(1.0)
            events.close()
        assert number_of(await other.next(5.0)) > 1_000


@virtual
async def test_silence_after_a_pause_is_noticed_before_the_next_ping(world: World) -> None:
    world.rules.client_timeout = 100_000.0
    async with world.connect(session=None, config={"server_timeout": 20.0, "ping_interval": 1_000.0}) as exchange:
        feed = exchange.subscribe(["btcusd"], capacity=1, overload="wait")
        await anyio.sleep(1.0)
        world.publish()
        await anyio.sleep(200.0)
        world.network.buffer = 0
        assert number_of(await feed.next()) == 1
        assert await seconds_of(feed.next(), TimedOut) == pytest.approx(20.0)


@virtual
async def test_a_full_feed_does_not_keep_a_new_connection_from_being_made(world: World) -> None:
    async with world.connect() as exchange:
        feed = exchange.subscribe(["btcusd"], capacity=1, overload="wait")
        await anyio.sleep(1.0)
        world.publish()
        await anyio.sleep(1.0)
        world.network.cut_all()  # which is noticed by the next ping
        await anyio.sleep(60.0)
        assert feed.lag == 1
        assert exchange.session.attempts == 2
        assert exchange.session.state is SessionState.READY


@virtual
async def test_no_connection_is_read_while_a_feed_is_full(world: World) -> None:
    """Not the one that takes over from another either; and both are, once there is room."""
    world.network.buffer = 10_000
    rotating = SessionConfig(rotate_after=100.0, rotate_spread=0.0, overlap=60.0)
    async with world.connect(session=rotating) as exchange:
        feed = exchange.subscribe(["btcusd"], capacity=1, overload="wait")
        await anyio.sleep(99.0)
        for stream in world.network.open_streams:
            stream.largest_read = 500
        world.publish(20)
        await anyio.sleep(2.0)
        world.publish(200)
        await anyio.sleep(20.0)
        assert len(world.network.open_streams) == 2
        assert all(stream.waiting for stream in world.network.open_streams)
        assert feed.lag < 10
        seen: list[int] = []
        while len(seen) < 220:
            event = await feed.next()
            assert not isinstance(event, Gap)
            seen.append(number_of(event))
        assert seen == list(range(1, 221))
        await anyio.sleep(61.0)
        assert exchange.session.rotations == 1


@virtual
async def test_a_consumer_that_keeps_up_is_not_run_over(world: World) -> None:
    world.rules.max_queued = 100_000_000
    async with world.connect(feed_capacity=1_500) as exchange:
        feed = exchange.subscribe(["btcusd"])
        await anyio.sleep(1.0)
        world.publish(20_000)
        assert [number_of(await anext(feed)) for _ in range(20_000)] == list(range(1, 20_001))
        assert feed.dropped == 0


@virtual
async def test_a_consumer_that_works_long_is_told_what_it_missed(world: World) -> None:
    world.rules.max_queued = 100_000_000
    async with world.connect(feed_capacity=100) as exchange:
        feed = exchange.subscribe(["btcusd"])
        await anyio.sleep(1.0)
        world.publish(20_000)
        await feed.next()
        await anyio.sleep(1.0)
        with pytest.raises(FeedOverflow) as caught:
            async for _ in feed:
                pass
        assert feed.received == 20_000
        assert feed.delivered <= 200
        assert caught.value.dropped == feed.dropped == 20_000 - feed.delivered


@virtual
async def test_others_run_while_a_consumer_takes_what_waits(world: World) -> None:
    world.rules.max_queued = 100_000_000
    async with world.connect() as exchange, anyio.create_task_group() as tasks:
        feed = exchange.subscribe(["btcusd"])
        await anyio.sleep(1.0)
        world.publish(6_000)
        await anyio.sleep(1.0)
        assert feed.lag == 6_000
        rounds = 0

        async def other() -> None:
            nonlocal rounds
            while True:
                rounds += 1
                await anyio.lowlevel.checkpoint()

        tasks.start_soon(other)
        for _ in range(2_500):
            await anext(feed)
        assert 5 <= rounds <= 20
        rounds = 0
        for _ in range(2_500):
            await feed.next(timeout=1.0)
        assert 5 <= rounds <= 20
        tasks.cancel_scope.cancel()


@virtual
async def test_a_consumer_that_only_takes_what_waits_can_be_cancelled(world: World) -> None:
    async with world.connect() as exchange:
        feed = exchange.subscribe(["btcusd"])
        await anyio.sleep(1.0)
        world.publish(1_000)
        await anyio.sleep(1.0)
        with anyio.CancelScope() as scope:
            scope.cancel()
            async for _ in feed:
                pass
        assert scope.cancelled_caught
        assert feed.delivered <= 256
        assert number_of(await feed.next()) == feed.delivered


@virtual
async def test_a_read_with_a_timeout_waits_no_longer(world: World) -> None:
    async with world.connect() as exchange:
        feed = exchange.subscribe(["btcusd"])
        assert await seconds_of(feed.next(2.5), TimeoutError) == pytest.approx(2.5)
        with pytest.raises(LocalProtocolError):
            exchange.subscribe(["btcusd"])


@virtual
async def test_who_does_not_wait_hears_of_every_attempt(world: World) -> None:
    world.network.refuses = True
    async with world.connect(wait=False) as exchange:
        events = exchange.events()
        for _ in range(5):
            event = await events.next()
            assert isinstance(event.error, DialFailed)
            assert str(event.error) == "could not connect to localhost port 80: Connection refused"
            assert isinstance(event.error.__cause__, ConnectionRefusedError)
            assert 0.0 <= event.delay <= 60.0
