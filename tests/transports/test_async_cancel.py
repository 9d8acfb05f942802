"""The asynchronous adapters when something is cancelled or raises: at any step, and nothing is torn, left or hidden."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from virtual_async import LOOPS, Loop, World, number_of, virtual


class Mine(Exception):
    """An error of the application."""


async def after(steps: int, cancel: Callable[[], object]) -> None:
    """Cancel, once all others have taken so many steps."""
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    cancel()


async def a_whole_life(world: World) -> None:
    async with world.connect() as exchange:
        feed = exchange.subscribe(["btcusd"])
        async for _ in feed:
            break
        await feed.next()
        feed.close()
        again = exchange.subscribe(["btcusd"], overload="wait", capacity=1)
        await again.next()
        await exchange.close()


@virtual
async def test_cancelling_at_any_step_leaves_nothing_and_takes_no_time(world: World) -> None:
    async def publish() -> None:
        while True:
            world.publish()
            await anyio.lowlevel.checkpoint()

    finished, steps = 0, 0
    while finished < 5:
        assert not world.network.open_streams
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                tasks.start_soon(after, steps, scope.cancel)
                tasks.start_soon(publish)
                await a_whole_life(world)
                finished += 1
            tasks.cancel_scope.cancel()
        assert anyio.current_time() == began
        steps += 1
    assert steps > 20


@virtual
async def test_a_cancelled_body_says_no_goodbye_and_others_do(world: World) -> None:
    async def body(cancel: Callable[[], object]) -> None:
        async with world.connect() as exchange:
            world.network.buffer = 0
            feed = exchange.subscribe(["btcusd"])
            # Cancelled within a group of its own, which is then what the body raises.
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(feed.next)
                tasks.start_soon(feed.next)
                await anyio.sleep(1.0)
                cancel()
                await feed.next()

    began = anyio.current_time()
    with anyio.CancelScope() as scope:
        await body(scope.cancel)
    assert scope.cancelled_caught
    assert anyio.current_time() - began == pytest.approx(1.0)


@pytest.mark.parametrize("error", [Mine("x"), ExceptionGroup("mine", [Mine("x")]), SystemExit(1)], ids=repr)
@virtual
async def test_what_the_body_raises_comes_out_as_it_is_after_a_goodbye(world: World, error: BaseException) -> None:
    began = anyio.current_time()
    with pytest.raises(type(error)) as caught:  # noqa: PT012
        async with world.connect(config={"close_timeout": 2.0}):
            world.network.buffer = 0
            raise error
    assert caught.value is error
    assert caught.value.__context__ is None
    assert anyio.current_time() - began == pytest.approx(2.0)


@virtual
async def test_what_the_body_raises_wins_over_the_cancellation_of_its_goodbye(world: World) -> None:
    error = Mine("x")
    began = anyio.current_time()
    with pytest.raises(Mine) as caught, anyio.move_on_after(1.0):  # noqa: PT012
        async with world.connect():
            world.network.buffer = 0
            raise error
    assert caught.value is error
    assert anyio.current_time() - began == pytest.approx(1.0)


@pytest.mark.parametrize("loop", [loop for loop in LOOPS if loop.backend == "asyncio"], ids=repr)
def test_a_cancellation_that_comes_once_is_enough(loop: Loop) -> None:
    """As asyncio has it: nothing keeps the goodbye from being waited for but the adapter."""

    async def body(world: World) -> None:
        async with world.connect():
            world.network.buffer = 0
            await asyncio.sleep(100.0)

    async def main() -> None:
        world = World(loop)
        async with asyncio.timeout(50.0):
            serving = asyncio.create_task(world.network.serve())
            task = asyncio.create_task(body(world))
            await asyncio.sleep(1.0)
            began = anyio.current_time()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert anyio.current_time() == began
            assert not world.network.open_streams
            serving.cancel()

    loop.run(main)


@virtual
async def test_a_goodbye_that_is_cancelled_ends_at_once(world: World) -> None:
    began = anyio.current_time()
    with anyio.move_on_after(1.0) as scope:
        async with world.connect():
            world.network.buffer = 0
    assert scope.cancelled_caught
    assert anyio.current_time() - began == pytest.approx(1.0)


@virtual
async def test_what_goes_on_in_a_shielded_end_still_has_its_connection(world: World) -> None:
    with anyio.CancelScope() as scope:
        async with world.connect() as exchange:
            feed = exchange.subscribe(["btcusd"])
            try:
                await anyio.sleep(1.0)
                scope.cancel()
                await feed.next()
            finally:
                with anyio.CancelScope(shield=True):
                    world.publish()
                    assert number_of(await feed.next()) == 1
                    await exchange.close()
    assert scope.cancelled_caught


@virtual
async def test_reads_cancelled_at_any_step_take_nothing(world: World) -> None:
    async with world.connect() as exchange:
        feed = exchange.subscribe(["btcusd"])
        await anyio.sleep(1.0)
        seen: list[int] = []
        for steps in range(30):
            world.publish(3)
            async with anyio.create_task_group() as tasks:
                with anyio.CancelScope() as scope:
                    tasks.start_soon(after, steps, scope.cancel)
                    seen.extend([number_of(await feed.next()) for _ in range(1)])
                tasks.cancel_scope.cancel()
        await anyio.sleep(1.0)
        seen.extend([number_of(await feed.next()) for _ in range(feed.lag)])
        assert seen == list(range(1, 91))


@virtual
async def test_subscribing_and_closing_in_a_cancelled_scope_is_whole(world: World) -> None:
    async with world.connect() as exchange:
        with anyio.CancelScope() as scope:
            scope.cancel()
            feeds = [exchange.subscribe([channel]) for channel in ("btcusd", "ethusd")]
            feeds[0].close()
            await anyio.lowlevel.checkpoint()
        await anyio.sleep(1.0)
        assert world.exchange.subscriptions == {"ethusd": 1}
        assert exchange.session.attempts == 1
