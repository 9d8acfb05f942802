"""The adapters' contract: calls, streams and invocations of any SignalR hub."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from contract import Adapter, case, first, rest
from etorox_proto import ConnectionClosed, ConnectionFailed, LocalProtocolError, ServerClosed
from etorox_proto.signalr import (
    HubConfig,
    HubError,
    Limits,
    ServerConfig,
)
from etorox_transports import FeedOverflow
from loopback import LoopbackServer
from loopback_hub import Calculator

PINGING = 0.02


def hub_of(server: LoopbackServer, **options: Any) -> HubConfig:
    return HubConfig(url=f"{server.url}/hub", **options)


# ---------------------------------------------------------------------------------------------------------- calls


@case
async def test_calls_return_their_results(adapter: Adapter) -> None:
    with Calculator() as server:
        async with adapter.connect_hub(hub_of(server)) as hub:
            assert await hub.invoke("add", 1, 2) == 3
            result = await hub.invoke("add", 1, 2, result_type=float)
            assert isinstance(result, float)
            assert hub.connection.pending_calls == 0


@case
async def test_a_servers_error_is_raised(adapter: Adapter) -> None:
    with Calculator() as server:
        async with adapter.connect_hub(hub_of(server)) as hub:
            for _ in range(2):
                with pytest.raises(HubError, match="as you like"):
                    await hub.invoke("fail")
            assert await hub.invoke("add", 1) == 1


@case
async def test_what_cannot_be_sent_is_refused_and_the_connection_goes_on(adapter: Adapter) -> None:
    with Calculator() as server:
        async with adapter.connect_hub(hub_of(server)) as hub:
            with pytest.raises(LocalProtocolError):
                await hub.invoke("add", object())
            with pytest.raises(LocalProtocolError):
                await hub.send("add", object())
            with pytest.raises(LocalProtocolError):
                hub.stream("count", object())
            assert await hub.invoke("add", 1) == 1


@case
async def test_a_call_without_an_answer_times_out_and_is_cancelled(adapter: Adapter) -> None:
    with Calculator() as server:
        async with adapter.connect_hub(hub_of(server, ping_interval=PINGING)) as hub:
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                await hub.invoke("unheard", timeout=5 * PINGING)
            assert time.monotonic() - began < 1.0
            await adapter.until(lambda: server.cancelled == ["1"], server)
            assert hub.connection.pending_calls == 0
            assert await hub.invoke("add", 2, 2) == 4
            assert server.hubs[0].pings >= 2


@case
async def test_a_call_lost_with_the_connection_raises_its_reason(adapter: Adapter) -> None:
    with Calculator() as server:
        async with adapter.connect_hub(hub_of(server)) as hub:
            feed = hub.stream("unheard")
            with pytest.raises(ServerClosed, match="bye"):
                await hub.invoke("hang up")
            for _ in range(2):
                with pytest.raises(ServerClosed, match="bye"):
                    await feed.next(5.0)
            with pytest.raises(ConnectionClosed):
                await hub.invoke("add", 1)


@case
async def test_a_call_that_nobody_will_answer_ends_with_a_lost_connection(adapter: Adapter) -> None:
    with Calculator() as server:
        async with adapter.connect_hub(hub_of(server)) as hub:
            server.cut()
            with pytest.raises(ConnectionFailed):
                await hub.invoke("unheard")


@case
async def test_sending_asks_for_no_answer(adapter: Adapter) -> None:
    with Calculator() as server:
        async with adapter.connect_hub(hub_of(server)) as hub:
            await hub.send("add", 1)
            assert await hub.invoke("add", 1, 1) == 2
        calls = [message for message in server.hubs[0].messages if message.get("type") == 1]
        assert [call.get("invocationId") for call in calls] == [None, "1"]


# -------------------------------------------------------------------------------------------------------- streams


@case
async def test_streams_are_iterated(adapter: Adapter) -> None:
    with Calculator() as server:
        async with adapter.connect_hub(hub_of(server)) as hub:
            assert await rest(hub.stream("count", 0, 100, None, item_type=int)) == list(range(100))
            one, other = hub.stream("count", 0, 5, None), hub.stream("count", 5, 10, None)
            assert await rest(other) == [5, 6, 7, 8, 9]
            assert await rest(one) == [0, 1, 2, 3, 4]


@case
async def test_a_stream_that_fails_does_so_behind_its_items(adapter: Adapter) -> None:
    with Calculator() as server:
        async with adapter.connect_hub(hub_of(server)) as hub:
            feed = hub.stream("count", 0, 3, "as you like")
            assert await first(feed, 3) == [0, 1, 2]
            for _ in range(2):
                with pytest.raises(HubError, match="as you like"):
                    await feed.next(5.0)


@case
async def test_a_stream_closed_early_is_cancelled_at_the_server(adapter: Adapter) -> None:
    with Calculator() as server:
        async with adapter.connect_hub(hub_of(server)) as hub:
            feed = hub.stream("one")
            assert await feed.next(5.0) == 1
            with pytest.raises(TimeoutError):
                await feed.next(0.02)
            feed.close()
            await adapter.until(lambda: server.cancelled == ["1"], server)
            assert await rest(feed) == []
            assert hub.connection.pending_calls == 0


@case
async def test_a_stream_that_is_not_read_overflows(adapter: Adapter) -> None:
    with Calculator() as server:
        async with adapter.connect_hub(hub_of(server), feed_capacity=10) as hub:
            feed = hub.stream("count", 0, 25, None)
            assert await hub.invoke("add", 1) == 1
            assert (feed.lag, feed.received, feed.dropped) == (10, 25, 15)
            assert await first(feed, 10) == list(range(10))
            with pytest.raises(FeedOverflow):
                await feed.next(5.0)
            assert await rest(feed) == []


@case
async def test_a_stream_may_hold_the_server_back(adapter: Adapter) -> None:
    with Calculator(
        config=ServerConfig(limits=Limits(record=32_768, queued_bytes=33_554_432)), send_buffer=16_384
    ) as server:
        async with adapter.connect_hub(hub_of(server), feed_capacity=10, overload="wait") as hub:
            feed = hub.stream("count", 0, 8_000, None)
            await adapter.until(lambda: server.hubs[0].unsent, server)
            assert await rest(feed) == list(range(8_000))


# ------------------------------------------------------------------------------------- what the hub calls on us


@case
async def test_what_the_hub_calls_can_be_read(adapter: Adapter) -> None:
    with Calculator() as server:
        async with adapter.connect_hub(hub_of(server)) as hub:
            await hub.send("tell", 3)
            told = await first(hub.invocations, 3)
            assert [(call.target, call.arguments) for call in told] == [("told", [n]) for n in range(3)]
            with pytest.raises(TimeoutError):
                await hub.invocations.next(0.02)


@case
async def test_of_what_the_hub_calls_the_last_thousand_are_kept(adapter: Adapter) -> None:
    with Calculator() as server:
        async with adapter.connect_hub(hub_of(server)) as hub:
            await hub.send("tell", 1_500)
            assert await hub.invoke("add", 1) == 1
            assert hub.invocations.dropped == 500
            assert (await hub.invocations.next(5.0)).arguments == [500]
            assert hub.invocations.lag == 999


# --------------------------------------------------------------------------------------------- with tasks besides


@case
async def test_a_cancelled_call_is_cancelled_at_the_server(async_adapter: Adapter) -> None:
    with Calculator() as server:
        async with async_adapter.connect_hub(hub_of(server)) as hub:
            with anyio.move_on_after(0.02) as scope:
                await hub.invoke("unheard")
            assert scope.cancelled_caught
            await async_adapter.until(lambda: server.cancelled == ["1"], server)
            assert hub.connection.pending_calls == 0
            assert await hub.invoke("add", 1) == 1


@case
async def test_cancelling_calls_at_any_moment_tears_nothing(async_adapter: Adapter) -> None:
    """Whatever was being sent is sent whole, so that the connection can be used on."""
    config = ServerConfig(limits=Limits(record=4_194_304))
    with Calculator(config=config) as server:
        async with async_adapter.connect_hub(hub_of(server)) as hub:
            for attempt in range(30):
                with anyio.move_on_after(0.0005 * (attempt % 10)):
                    await hub.invoke("length", "x" * 300_000)
                assert await hub.invoke("add", attempt) == attempt
        assert len(server.hubs) == 1


@case
async def test_many_tasks_call_at_once(async_adapter: Adapter) -> None:
    with Calculator() as server:
        async with async_adapter.connect_hub(hub_of(server)) as hub:
            sums = {}

            async def add(number: int) -> None:
                sums[number] = await hub.invoke("add", number, 1)

            async with anyio.create_task_group() as tasks:
                for number in range(50):
                    tasks.start_soon(add, number)
            assert sums == {number: number + 1 for number in range(50)}


@case
async def test_one_task_iterates_while_another_calls(async_adapter: Adapter) -> None:
    with Calculator() as server:
        async with async_adapter.connect_hub(hub_of(server)) as hub:
            told: list[Any] = []

            async def listen() -> None:
                told.extend(await first(hub.invocations, 10))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen)
                for _ in range(10):
                    await hub.send("tell", 1)
                    assert await hub.invoke("add", 1) == 1
            assert len(told) == 10


@case
async def test_a_close_ends_the_calls_of_other_tasks(async_adapter: Adapter) -> None:
    with Calculator() as server:
        async with async_adapter.connect_hub(hub_of(server)) as hub, anyio.create_task_group() as tasks:

            async def call() -> None:
                with pytest.raises(Exception, match=r"closed|ended"):
                    await hub.invoke("unheard")

            async def read() -> None:
                assert await rest(hub.stream("unheard")) == []

            tasks.start_soon(call)
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            await hub.close()
