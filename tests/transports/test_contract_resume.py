"""The adapters' contract: a connection that outlives its stream, where the hub grants that."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from contract import Adapter, case
from etorox_proto import ConnectionFailed, ConnectionLost, LocalProtocolError
from etorox_proto.signalr import HubConfig, Limits, ServerConfig, State
from loopback import LoopbackServer
from loopback_hub import Calculator

GRANTS = ServerConfig(stateful_reconnect=True)


def hub_of(server: LoopbackServer, **options: Any) -> HubConfig:
    return HubConfig(url=f"{server.url}/hub", stateful_reconnect=True, **options)


@case
async def test_calls_are_answered_on_the_next_stream(adapter: Adapter) -> None:
    with Calculator(config=GRANTS) as server:
        async with adapter.connect_hub(hub_of(server)) as hub:
            assert hub.connection.is_stateful
            name = hub.connection.connection_id
            for number in range(5):
                server.cut()
                assert await hub.invoke("add", number, 1) == number + 1
            assert hub.connection.connection_id == name
            assert len(server.hubs) == 6
            server.wait(lambda: server.open == 1)
        server.wait(lambda: server.open == 0)
        assert server.hubs[-1].said_goodbye


@case
async def test_a_stream_goes_on_where_it_was(adapter: Adapter) -> None:
    with Calculator(config=GRANTS) as server:
        async with adapter.connect_hub(hub_of(server)) as hub:
            feed = hub.stream("one")
            assert await feed.next(5.0) == 1
            (first,) = server.hubs
            for number in range(10):
                if number % 3 == 0:
                    server.cut()
                server.do(partial(first.machine.send_item, "1", number, now=0.0))
            assert [await feed.next(5.0) for _ in range(10)] == list(range(10))


@case
async def test_a_hub_that_has_gone_is_a_lost_connection(adapter: Adapter) -> None:
    with Calculator(config=GRANTS) as server:
        async with adapter.connect_hub(hub_of(server)) as hub:
            feed = hub.stream("one")
            assert await feed.next(5.0) == 1
            server.stop()
            with pytest.raises(ConnectionLost, match="lost, and the connection could not be resumed") as caught:
                await hub.invoke("unheard")
            assert isinstance(caught.value.__cause__, ConnectionFailed)
            assert "could not connect" in str(caught.value.__cause__)
            with pytest.raises(ConnectionLost):
                await feed.next(5.0)


@case
async def test_a_hub_that_does_not_grant_it_is_used_without(adapter: Adapter) -> None:
    with Calculator() as server:
        async with adapter.connect_hub(hub_of(server)) as hub:
            assert await hub.invoke("add", 1, 2) == 3
            assert not hub.connection.is_stateful
            server.cut()
            with pytest.raises(ConnectionLost):
                await hub.invoke("unheard")


@case
async def test_a_command_is_refused_while_too_much_waits_for_the_hub(adapter: Adapter) -> None:
    limits = Limits(unacknowledged_bytes=500)
    with Calculator(config=GRANTS) as server:
        async with adapter.connect_hub(hub_of(server, limits=limits)) as hub:
            for _ in range(3):
                while hub.connection.has_room:
                    await hub.send("nothing", "x" * 100)
                with pytest.raises(LocalProtocolError, match=r"Limits\.unacknowledged_bytes"):
                    await hub.send("nothing")
                with pytest.raises(TimeoutError):
                    await hub.wait_for_room(timeout=0.01)
                await hub.wait_for_room()
                assert hub.connection.unacknowledged_bytes < 500
            assert await hub.invoke("add", 1, 2) == 3


@case
async def test_waiting_for_room_ends_with_the_connection(adapter: Adapter) -> None:
    limits = Limits(unacknowledged_bytes=10)
    with Calculator(config=GRANTS) as server:
        async with adapter.connect_hub(hub_of(server, limits=limits)) as hub:
            await hub.wait_for_room()
            await hub.send("nothing")
            server.stop()
            with pytest.raises(ConnectionLost):
                await hub.wait_for_room()
            assert hub.connection.state is State.CLOSED
