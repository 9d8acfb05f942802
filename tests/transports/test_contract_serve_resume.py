"""The adapters' contract: `serve` with clients whose streams are lost, and who come back."""

from __future__ import annotations

from typing import Any

import pytest

from contract import Adapter, case
from desks import serving
from etorox_proto import ConnectionFailed
from etorox_proto.signalr import HubConfig, Limits, ServerConfig, State
from etorox_transports import ServeLimits
from relay import Relay

GRANTS = ServerConfig(stateful_reconnect=True)
IMPATIENT = ServerConfig(stateful_reconnect=True, resume_timeout=0.3)


def through(relay: Relay, **options: Any) -> HubConfig:
    return HubConfig(url=f"http://localhost:{relay.port}/hub", stateful_reconnect=True, **options)


@pytest.mark.parametrize("encoding", ["json", "messagepack"])
@case
async def test_a_stream_arrives_whole_whatever_happens_to_its_connection(adapter: Adapter, encoding: Any) -> None:
    async with serving(adapter, config=GRANTS) as served:
        with Relay(served.server.port) as relay:
            config = through(relay, encoding=encoding)
            async with adapter.connect_hub(config, feed_capacity=10, overload="wait") as hub:
                assert hub.connection.is_stateful
                feed = hub.stream("count", 2_000, "x" * 100)
                cut_at = 0
                for number in range(2_000):
                    if number >= cut_at + 200 and hub.connection.state is State.CONNECTED:
                        cut_at = number  # not while it comes back: there is one attempt
                        relay.cut()
                    assert await feed.next(10.0) == [number, "x" * 100]
                assert await hub.invoke("add", 1, 1, timeout=10.0) == 2  # so it is there again, and can say goodbye
            assert relay.accepted > 3  # negotiation, the first stream, and those behind the cuts
        await served.until(adapter, lambda: served.desk.left == 1)
        assert served.server.connections == []


@case
async def test_calls_and_uploads_outlive_their_stream(adapter: Adapter) -> None:
    async with serving(adapter, config=GRANTS) as served:
        with Relay(served.server.port) as relay:
            async with adapter.connect_hub(through(relay)) as hub:

                def numbers() -> Any:
                    for number in range(4_000):
                        if number % 1_000 == 500 and hub.connection.state is State.CONNECTED:
                            relay.cut()
                        yield number

                assert await hub.invoke("total", uploads=[numbers()], timeout=20.0) == sum(range(4_000))
                assert len(served.server.connections) == 1
                relay.cut()
                assert await hub.invoke("add", 1, 2, timeout=10.0) == 3


@case
async def test_a_small_buffer_slows_a_stream_down_and_loses_nothing(adapter: Adapter) -> None:
    limits = Limits(record=32_768, unacknowledged_bytes=2_000)
    async with serving(adapter, config=ServerConfig(stateful_reconnect=True, limits=limits)) as served:
        with Relay(served.server.port) as relay:
            async with adapter.connect_hub(through(relay)) as hub:
                feed = hub.stream("count", 20, "x" * 100)
                for number in range(20):
                    if number == 10:
                        relay.cut()
                    assert await feed.next(10.0) == [number, "x" * 100]


@case
async def test_who_does_not_come_back_is_not_worked_for_any_longer(adapter: Adapter) -> None:
    async with serving(adapter, config=IMPATIENT) as served:
        with Relay(served.server.port) as relay:
            with pytest.raises(ConnectionFailed):  # noqa: PT012 - it is noticed at one of these
                async with adapter.connect_hub(through(relay)) as hub:
                    hub.stream("silence")
                    await served.until(adapter, lambda: served.desk.begun)
                    relay.stop()
                    await hub.invoke("add", 1, 1, timeout=10.0)
            await served.until(adapter, lambda: served.desk.left == 1)
            assert served.desk.cancelled == ["silence"]
            assert served.server.connections == []


@case
async def test_a_server_that_is_closed_waits_for_nobody_who_has_lost_his_stream(adapter: Adapter) -> None:
    async with serving(adapter, config=GRANTS, limits=ServeLimits(shutdown_timeout=2.0)) as served:
        with Relay(served.server.port) as relay:
            with pytest.raises(ConnectionFailed):  # noqa: PT012 - it is noticed at one of these
                async with adapter.connect_hub(through(relay)) as hub:
                    hub.stream("silence")
                    await served.until(adapter, lambda: served.desk.begun)
                    relay.stop()
                    await hub.invoke("add", 1, 1, timeout=10.0)
            assert len(served.server.connections) == 1
            await served.close()
        assert served.desk.left == 1
        assert served.server.connections == []
