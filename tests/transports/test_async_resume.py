"""Connections that outlive their streams, on the event loops, in virtual time: how reader and writer meet the loss."""

from __future__ import annotations

import anyio
import pytest

from etorox_proto import ConnectionLost, Limits
from etorox_proto.signalr import State
from virtual_async import World, virtual

STATEFUL = {"stateful_reconnect": True}


@virtual
async def test_a_stream_that_is_lost_while_nobody_reads(world: World) -> None:
    """The consumer holds the reader up; the writer finds out, and on the next stream it is read again."""
    world.hub_network.buffer = 5_000
    async with world.connect_hub(config=STATEFUL, feed_capacity=10, overload="wait") as hub:
        feed = hub.stream("count", 2_000, item_type=int)
        items = [await feed.next() for _ in range(5)]
        await anyio.sleep(1.0)
        assert not hub.connection.is_reading
        world.hub_network.cut_all()
        await anyio.sleep(20.0)  # the ping could not be sent
        assert len(world.hub_network.dials) == 3
        items += [item async for item in feed]
        assert items == list(range(2_000))
        assert hub.connection.is_reading
        assert await hub.invoke("add", 1) == 1


@virtual
async def test_calls_go_on_over_any_number_of_streams(world: World) -> None:
    async with world.connect_hub(config=STATEFUL) as hub:
        for number in range(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(world.hub_network.cut_all_soon)
                assert await hub.invoke("add", number, 1) == number + 1
            await anyio.sleep(0.1)  # one that is lost while it is being resumed is lost for good
        assert hub.connection.is_stateful


@virtual
async def test_a_stream_that_cannot_be_opened_in_time_is_the_end(world: World) -> None:
    async with world.connect_hub(config=STATEFUL | {"opening_timeout": 7.0}) as hub:
        world.hub_network.hangs = True
        before = anyio.current_time()
        world.hub_network.cut_all()
        with pytest.raises(ConnectionLost, match="nobody took it up within 7 s"):
            await hub.invoke("silence")
        assert anyio.current_time() - before == pytest.approx(7.0)
        assert hub.connection.state is State.CLOSED


@virtual
async def test_waiting_for_room_is_woken_by_the_acknowledgement(world: World) -> None:
    async with world.connect_hub(config=STATEFUL | {"limits": Limits(unacknowledged_bytes=10)}) as hub:
        for _ in range(3):
            await hub.send("nothing")
            before = anyio.current_time()
            assert not hub.connection.has_room
            await hub.wait_for_room()
            assert anyio.current_time() - before == pytest.approx(1.0)
