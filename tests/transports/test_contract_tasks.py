"""The adapters' contract: several tasks on one connection, and tasks that are cancelled; on event loops only."""

from __future__ import annotations

import time
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from contract import QUICK, Adapter, Exchange, Feed, case, first, rest, where
from etorox_proto import ConnectionLost, Dial, ExchangeConfig, SessionState, TimedOut
from loopback import Client
from loopback_exchange import LoopbackExchange, number_of

PINGING = 0.02
# What a close may take beyond `close_timeout`, in seconds.
GRACE = 1.0


async def collect(feed: Feed, seen: list[int]) -> None:
    """Read to the end, and keep what came even if that is not reached."""
    async for event in feed:
        seen.append(number_of(event))
        await anyio.lowlevel.checkpoint()


# ------------------------------------------------------------------------------------------------------ consumers


@case
async def test_a_cancelled_consumer_loses_nothing(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with async_adapter.connect(where(server)) as exchange:
            feed = exchange.subscribe(["btcusd"])
            server.every(0.0005, server.publish_here)
            seen: list[int] = []
            for attempt in range(60):
                with anyio.move_on_after(0.0002 * (attempt % 15)):
                    await collect(feed, seen)
            seen += [number_of(event) for event in await first(feed, 50)]
            assert seen == list(range(seen[0], seen[0] + len(seen)))
            assert feed.received == feed.delivered + feed.lag


@case
async def test_two_consumers_of_one_feed_share_its_events(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with async_adapter.connect(where(server)) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await async_adapter.until(lambda: server.streams, server)
            shares: list[list[int]] = [[], []]

            async with anyio.create_task_group() as tasks:
                for share in shares:
                    tasks.start_soon(collect, feed, share)
                server.every(0.0005, partial(server.publish_here, count=3))
                await async_adapter.until(lambda: min(map(len, shares)) >= 20, server)
                feed.close()
            assert sorted(shares[0] + shares[1]) == list(range(1, len(shares[0] + shares[1]) + 1))
            assert all(share == sorted(share) for share in shares)


@case
async def test_an_end_reaches_all_who_wait(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with async_adapter.connect(where(server), session=None) as exchange:
            feed, other = exchange.subscribe(["btcusd"]), exchange.subscribe(["ethusd"])
            await async_adapter.until(lambda: len(server.streams) == 2, server)
            errors = []

            async def consume(each: Feed) -> None:
                with pytest.raises(ConnectionLost) as caught:
                    await each.next()
                errors.append(caught.value)

            async with anyio.create_task_group() as tasks:
                for each in (feed, feed, other):
                    tasks.start_soon(consume, each)
                await anyio.wait_all_tasks_blocked()
                server.stop()
            assert len(errors) == 3


@case
async def test_one_task_reads_while_another_subscribes_and_unsubscribes(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with async_adapter.connect(where(server)) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await async_adapter.until(lambda: server.streams, server)
            seen: list[int] = []

            async def consume() -> None:
                seen.extend(number_of(event) for event in await rest(feed))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(consume)
                for channel in ("ethusd", "xrpusd", "ethusd"):
                    other = exchange.subscribe([channel])
                    await async_adapter.until(lambda: len(server.streams) == 2, server)
                    server.publish()
                    server.publish(channel)
                    assert (await other.next(5.0)).market == channel
                    other.close()
                    await async_adapter.until(lambda: len(server.streams) == 1, server)
                server.end_streams()
            assert seen == [1, 2, 3]


@case
async def test_a_consumer_that_works_for_a_while_does_not_stop_the_pings(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        config = where(server, ping_interval=PINGING)
        async with async_adapter.connect(config, feed_capacity=5, overload="wait") as exchange:
            feed = exchange.subscribe(["btcusd"])
            server.every(0.001, server.publish_here)
            async for _ in feed:
                await anyio.sleep(10 * PINGING)
                break
            assert server.hubs[0].pings >= 5


# ----------------------------------------------------------------------------------- closing, and being cancelled


@case
async def test_readers_end_when_another_task_closes(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with async_adapter.connect(where(server)) as exchange:
            feed, other = exchange.subscribe(["btcusd"]), exchange.subscribe(["ethusd"])
            ended = []

            async def read() -> None:
                ended.append(await rest(feed))

            async def wait() -> None:
                with pytest.raises(StopAsyncIteration):
                    await other.next()
                ended.append([])

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                await exchange.close()
            assert ended == [[], []]


@case
async def test_who_reads_everything_ends_when_another_task_closes(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with async_adapter.connect(where(server)) as exchange, anyio.create_task_group() as tasks:
            events = aiter(exchange.events())
            tasks.start_soon(rest, events)
            await anyio.wait_all_tasks_blocked()
            await exchange.close()


@case
async def test_closing_from_two_tasks_at_once(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with async_adapter.connect(where(server, close_timeout=0.1)) as exchange:
            server.deafen()
            began = time.monotonic()
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(exchange.close)
            assert exchange.session.state is SessionState.CLOSED
            assert time.monotonic() - began < 0.1 + GRACE


def _queued_bytes(exchange: Exchange) -> int:
    assert exchange.connection is not None
    return exchange.connection.queued_bytes


@case
async def test_a_goodbye_that_does_not_get_through_is_bounded_too(async_adapter: Adapter) -> None:
    """More than the system holds waits before it, and the server reads nothing."""
    with LoopbackExchange() as server:
        async with async_adapter.connect(where(server, close_timeout=0.1), session=None) as exchange:
            server.deafen()
            exchange.subscribe(["0" * 4_000_000])
            await async_adapter.until(lambda: not _queued_bytes(exchange), server)  # it is being sent
            exchange.subscribe(["1" * 4_000_000])
            began = time.monotonic()
            await exchange.close()
            assert time.monotonic() - began < 0.1 + 1.5 * GRACE


@case
async def test_a_cancelled_close_may_be_done_again(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with async_adapter.connect(where(server, close_timeout=0.2)) as exchange:
            server.deafen()
            with anyio.move_on_after(0.02) as scope:
                await exchange.close()
            assert scope.cancelled_caught
            await exchange.close()
            assert exchange.session.state is SessionState.CLOSED


@case
async def test_leaving_by_cancellation_drops_the_stream_without_a_goodbye(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        began = time.monotonic()
        with anyio.move_on_after(0.1) as scope:
            async with async_adapter.connect(where(server, close_timeout=5.0)) as exchange:
                feed = exchange.subscribe(["btcusd"])
                server.deafen()
                await feed.next()
        assert scope.cancelled_caught
        assert time.monotonic() - began < 1.0


@case
async def test_a_cancelled_connection_leaves_nothing_whenever_it_happens(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        for attempt in range(30):
            with anyio.move_on_after(0.0003 * attempt):
                async with async_adapter.connect(where(server)) as exchange:
                    exchange.subscribe(["btcusd"])
                    await anyio.sleep_forever()
        await async_adapter.until(lambda: not server.open, server)
        assert {type(client.end.error) for client in server.hubs if client.end is not None} <= {ConnectionLost}


@case
async def test_a_cancelled_first_attempt_that_hangs_is_dropped(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:

        def be_deaf(client: Client) -> None:
            client.is_deaf = True

        server.greet = be_deaf
        with anyio.move_on_after(0.05) as scope:
            async with async_adapter.connect(where(server)):
                raise AssertionError("expected no connection")
        assert scope.cancelled_caught


@case
async def test_readers_elsewhere_end_when_the_context_is_left(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with anyio.create_task_group() as tasks:
            seen: list[int] = []
            async with async_adapter.connect(where(server)) as exchange:
                feed = exchange.subscribe(["btcusd"])
                await async_adapter.until(lambda: server.streams, server)
                tasks.start_soon(collect, feed, seen)
                server.publish(count=3)
                await async_adapter.until(lambda: len(seen) == 3, server)


@pytest.mark.parametrize("everything", [False, True], ids=["feed", "events"])
@case
async def test_readers_elsewhere_end_when_the_context_is_cancelled(async_adapter: Adapter, everything: bool) -> None:
    with LoopbackExchange() as server:
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                async with async_adapter.connect(where(server)) as exchange:
                    feed = exchange.subscribe(["btcusd"])
                    tasks.start_soon(rest, aiter(exchange.events() if everything else feed))
                    await anyio.wait_all_tasks_blocked()
                    scope.cancel()
                    await anyio.sleep_forever()


class Mine(Exception):
    pass


@case
async def test_an_exception_is_not_lost_if_the_goodbye_is_cancelled(async_adapter: Adapter) -> None:
    """The body has raised; while the context says goodbye somebody cancels it, as a task group does."""
    error = Mine()
    with LoopbackExchange() as server:

        async def consume(scope: anyio.CancelScope) -> None:
            with scope:
                async with async_adapter.connect(where(server, close_timeout=5.0)):
                    server.deafen()
                    scope.deadline = anyio.current_time() + 0.05
                    raise error

        with pytest.raises(Mine) as caught:
            await consume(anyio.CancelScope())
        assert caught.value is error


@case
async def test_a_time_source_that_never_answers_does_not_keep_us(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        server.judge_setup = lambda _client, _argument: {"status": "failure", "message": "timestamp"}
        asked = anyio.Event()

        async def never() -> float:
            asked.set()
            await anyio.sleep_forever()
            return 0.0

        async with async_adapter.connect(where(server), session=QUICK, wait=False, time_source=never):
            await asked.wait()
            began = time.monotonic()
        assert time.monotonic() - began < GRACE


@case
async def test_an_opener_that_never_returns_runs_into_the_opening_timeout(async_adapter: Adapter) -> None:
    async def never(_dial: Dial) -> None:
        await anyio.sleep_forever()

    began = time.monotonic()
    with pytest.raises(TimedOut) as caught:
        async with async_adapter.connect(ExchangeConfig("localhost", opening_timeout=0.05), open=never):
            raise AssertionError("expected no connection")
    assert caught.value.timer == "opening"
    assert time.monotonic() - began < 1.0
