"""The asynchronous adapters on a plain hub: calls, streams, and what becomes of them when something is cancelled."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from etorox_proto import CallLost, ConnectionClosed, LocalProtocolError, ServerClosed
from etorox_proto.signalr import InvocationReceived, State
from virtual_async import World, virtual


@virtual
async def test_a_hub_that_was_not_entered_can_do_nothing(world: World) -> None:
    hub = world.connect_hub()
    with pytest.raises(LocalProtocolError, match="async with"):
        await hub.invoke("add", 1)
    with pytest.raises(LocalProtocolError, match="async with"):
        hub.stream("count", 1)
    await hub.close()
    assert repr(hub) == "<Hub: not entered>"
    assert not world.hub_network.dials


@virtual
async def test_a_call_is_waited_for_so_long_and_then_cancelled(world: World) -> None:
    async with world.connect_hub() as hub:
        began = anyio.current_time()
        with pytest.raises(TimeoutError, match="silence was not answered"):
            await hub.invoke("silence", timeout=2.5)
        assert anyio.current_time() - began == pytest.approx(2.5)
        assert await hub.invoke("add", 1, 2, timeout=2.5) == 3
        assert hub.connection.pending_calls == 0
        assert world.hub.cancelled == ["1"]
        assert "connected" in repr(hub)


@virtual
async def test_calls_cancelled_at_any_step_leave_the_connection_as_it_was(world: World) -> None:
    async def cancel(steps: int, scope: anyio.CancelScope) -> None:
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    async with world.connect_hub() as hub:
        for steps in range(20):
            async with anyio.create_task_group() as tasks:
                with anyio.CancelScope() as scope:
                    tasks.start_soon(cancel, steps, scope)
                    await hub.invoke("silence", "x" * 10_000)
            assert scope.cancelled_caught
            assert await hub.invoke("add", steps, 1) == steps + 1
        assert hub.connection.pending_calls == 0
        assert len(world.hub.cancelled) == 20
        assert len(world.hub_network.open_streams) == 1


@virtual
async def test_closing_ends_what_is_pending(world: World) -> None:
    async def call(hub: Any) -> None:
        with pytest.raises(CallLost) as caught:
            await hub.invoke("silence")
        assert caught.value.delivery == "maybe_sent"

    async def read(feed: Any) -> None:
        assert [item async for item in feed] == []

    async with world.connect_hub() as hub, anyio.create_task_group() as tasks:
        tasks.start_soon(call, hub)
        tasks.start_soon(read, hub.stream("silence"))
        tasks.start_soon(read, hub.invocations)
        await anyio.sleep(1.0)
        await hub.close()
        with pytest.raises(ConnectionClosed):
            await hub.send("add", 1)
        assert hub.connection.state is State.CLOSED


@virtual
async def test_a_hub_that_hangs_up_says_why_everywhere(world: World) -> None:
    async with world.connect_hub() as hub:
        pending, told = hub.stream("silence"), hub.invocations
        with pytest.raises(ServerClosed, match="bye") as caught:
            await hub.invoke("hang up")
        assert isinstance(caught.value.__context__, CallLost)
        for feed in (pending, told, pending):
            with pytest.raises(ServerClosed, match="bye"):
                await feed.next()


@virtual
async def test_a_stream_may_hold_the_connection_up(world: World) -> None:
    world.hub_network.buffer = 5_000
    async with world.connect_hub(feed_capacity=10, overload="wait") as hub:
        (stream,) = world.hub_network.open_streams
        stream.largest_read = 1_000
        feed = hub.stream("count", 10_000, item_type=int)
        with pytest.raises(TimeoutError):
            await hub.invoke("add", 1, timeout=100.0)
        assert feed.lag < 100
        assert [item async for item in feed] == list(range(10_000))
        assert await hub.invoke("add", 1) == 1


@virtual
async def test_what_the_hub_calls_is_read_until_nobody_wants_it(world: World) -> None:
    async with world.connect_hub() as hub:
        await hub.send("tell", 1)
        told = await hub.invocations.next(1.0)
        assert isinstance(told, InvocationReceived)
        assert told.arguments == [1]
        hub.invocations.close()
        await hub.send("tell", 2)
        assert await hub.invoke("add", 1) == 1
        assert [item async for item in hub.invocations] == []
