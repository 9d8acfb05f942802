"""The adapters' contract on asyncio: its own timeouts, task groups and cancellation, without anyio's around them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from contract import ASYNC_ADAPTERS, CREDENTIALS, QUICK, Adapter, case, where
from etorox_proto import Gap
from etorox_transports.anyio import connect
from loopback import Client
from loopback_exchange import LoopbackExchange, number_of
from loopback_hub import Calculator


@pytest.fixture(params=[adapter for adapter in ASYNC_ADAPTERS if adapter.backend == "asyncio"], ids=repr)
def async_adapter(request: pytest.FixtureRequest) -> Adapter:
    chosen: Adapter = request.param
    return chosen


@case
async def test_a_timeout_around_everything(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), async_adapter.connect(where(server), session=QUICK) as exchange:
                await exchange.subscribe(["btcusd"]).next()
        assert time.monotonic() - began < 1.0
        await async_adapter.until(lambda: not server.open, server)


@case
async def test_a_timeout_around_each_event_loses_none(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with async_adapter.connect(where(server)) as exchange:
            feed = exchange.subscribe(["btcusd"])
            server.every(0.0005, server.publish_here)
            seen: list[int] = []
            attempt = 0
            while len(seen) < 50:
                attempt += 1
                try:
                    event = await asyncio.wait_for(feed.next(), 0.0001 * (attempt % 20))
                except TimeoutError:
                    continue
                seen.append(number_of(event))
            assert seen == list(range(seen[0], seen[0] + 50))


@case
async def test_a_task_cancelled_at_any_moment_leaves_nothing(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:

        async def stream() -> None:
            async with async_adapter.connect(where(server), session=QUICK) as exchange:
                async for _ in exchange.subscribe(["btcusd"]):
                    pass

        for attempt in range(30):
            task = asyncio.create_task(stream())
            await asyncio.sleep(0.0004 * attempt)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()
        await async_adapter.until(lambda: not server.open, server)


@case
async def test_a_task_cancelled_while_it_closes_leaves_nothing(async_adapter: Adapter) -> None:
    with LoopbackExchange() as server:

        async def leave() -> None:
            async with async_adapter.connect(where(server, close_timeout=5.0)):
                server.deafen()

        task = asyncio.create_task(leave())
        await async_adapter.until(lambda: any(client.is_deaf for client in server.clients), server)
        await asyncio.sleep(0.02)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 1.0


class Mine(Exception):
    pass


@case
async def test_an_exception_is_not_lost_if_the_goodbye_is_cancelled(async_adapter: Adapter) -> None:
    """A task of a group fails; before its context has said goodbye another one fails, and cancels it."""
    errors = [Mine("first"), Mine("second")]
    with LoopbackExchange() as server:

        async def consume() -> None:
            async with async_adapter.connect(where(server, close_timeout=5.0)):
                server.deafen()
                raise errors[0]

        async def fail() -> None:
            await async_adapter.until(lambda: any(client.is_deaf for client in server.clients), server)
            await asyncio.sleep(0.02)
            raise errors[1]

        async def both() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(consume())
                tasks.create_task(fail())

        with pytest.raises(ExceptionGroup) as caught:
            await both()
        assert set(caught.value.exceptions) == set(errors)


@case
async def test_a_task_group_with_readers_and_callers(async_adapter: Adapter) -> None:
    with Calculator() as server:
        async with async_adapter.connect_hub(f"{server.url}/hub") as hub, asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(hub.invoke("add", number, 1)) for number in range(20)]
            await asyncio.wait(calls)
            assert [call.result() for call in calls] == [number + 1 for number in range(20)]


@case
async def test_cancelled_calls_tear_nothing(async_adapter: Adapter) -> None:
    with Calculator() as server:
        async with async_adapter.connect_hub(f"{server.url}/hub") as hub:
            for attempt in range(20):
                task = asyncio.ensure_future(hub.invoke("unheard", "x" * 10_000))
                await asyncio.sleep(0.0002 * attempt)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await hub.invoke("add", attempt) == attempt
        assert len(server.hubs) == 1


@pytest.mark.parametrize("library", ["asyncio", "uvloop"])
def test_asking_for_the_time_and_connecting_again_need_nothing_of_anyio_around(library: str) -> None:
    """On a loop alone nobody has told anyio which library it is, and bytes are heard outside of tasks."""
    new_event_loop = pytest.importorskip(library).new_event_loop
    asked = 0

    async def wall_time() -> float:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return time.time()

    def judge(_client: Client, _argument: dict[str, Any]) -> dict[str, Any]:
        return {"status": "success"} if asked else {"status": "failure", "message": "timestamp"}

    async def main() -> None:
        async with connect(where(server), CREDENTIALS, session=QUICK, time_source=wall_time) as exchange:
            assert exchange.session.attempts == 2
            feed = exchange.subscribe(["btcusd"])
            server.every(0.001, server.publish_here)
            await feed.next(5.0)
            server.cut()
            while not isinstance(await feed.next(5.0), Gap):
                pass
            await feed.next(5.0)

    with LoopbackExchange() as server, asyncio.Runner(loop_factory=new_event_loop) as runner:
        server.judge_setup = judge
        runner.run(main())
    assert asked == 1
