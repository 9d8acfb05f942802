"""The adapters' contract: `serve` with clients whose streams are lost, and who come back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import pytest

from contract import Adapter, case
from desks import serving
from etorox_proto import Closed, ConnectionFailed, Dial
from etorox_proto.signalr import HubConfig, HubConnection, ItemReceived, Limits, ServerConfig, State
from etorox_transports import ServeLimits
from loopback import PATIENCE
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


@case
async def test_who_comes_back_finds_a_place_where_there_is_only_one(adapter: Adapter) -> None:
    async with serving(adapter, config=GRANTS, limits=ServeLimits(connections=1)) as served:
        with Relay(served.server.port) as relay:
            async with adapter.connect_hub(through(relay)) as hub:
                for number in range(3):
                    relay.cut()
                    assert await hub.invoke("add", number, 1, timeout=10.0) == number + 1
            await served.until(adapter, lambda: served.desk.left == 1)


@case
async def test_no_more_wait_for_a_stream_than_there_may_be_streams(adapter: Adapter) -> None:
    async with serving(adapter, config=GRANTS, limits=ServeLimits(connections=1)) as served:
        for number in range(3):
            with Relay(served.server.port) as relay, pytest.raises(ConnectionFailed):  # noqa: PT012 - it is noticed at one of these
                async with adapter.connect_hub(through(relay)) as hub:
                    hub.stream("silence")
                    await served.until(adapter, lambda want=number + 1: len(served.desk.begun) == want)
                    relay.stop()
                    await hub.invoke("add", 1, 1, timeout=10.0)
            await served.until(adapter, lambda want=number: served.desk.left == want)
        assert len(served.server.connections) == 1


class Deaf:
    """A client by hand: it takes a few bytes of its first stream, and then comes back on a second one."""

    def __init__(self, port: int) -> None:
        self.items: list[Any] = []
        self.error: BaseException | None = None
        self.may_go = threading.Event()
        self._address = ("127.0.0.1", port)
        config = HubConfig(url=f"http://127.0.0.1:{port}/hub", stateful_reconnect=True)
        self._machine = HubConnection(config, now=time.monotonic())
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.may_go.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._drive(lambda: self._machine.state is State.CONNECTED)
            self._machine.stream("count", [1_000, "x" * 10_000], now=time.monotonic())
            self._drive(lambda: self.items)
            time.sleep(0.2)  # the server fills what the system holds for it, and is left with the rest
            self._machine.receive_data(b"", time.monotonic())
            self._drive(lambda: len(self.items) == 1_000)
            self.may_go.wait(PATIENCE)
        except BaseException as error:
            self.error = error
        finally:
            for sock in self._open:
                sock.close()

    def _drive(self, is_done: Callable[[], Any]) -> None:
        machine = self._machine
        while True:
            while (event := machine.next_event()) is not None:
                match event:
                    case Dial():
                        sock = socket.socket()
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                        sock.settimeout(PATIENCE)
                        sock.connect(self._address)
                        self._open.append(sock)  # the one before stays open: the server is not told of its end
                        machine.stream_opened(time.monotonic())
                    case ItemReceived(item=item):
                        self.items.append(item)
                    case Closed(error):
                        raise error or AssertionError("expected more")
                    case _:
                        pass
            self._open[-1].sendall(machine.data_to_send())
            if is_done():
                return
            machine.receive_data(self._open[-1].recv(4_096), time.monotonic())
            if machine.deadline <= time.monotonic():
                machine.handle_timeout(time.monotonic())


@pytest.mark.parametrize("room", [50_000, 20_000_000], ids=["it is not read either", "it is read"])
@case
async def test_what_becomes_of_the_old_stream_means_nothing_to_the_new_one(adapter: Adapter, room: int) -> None:
    """The server is in the middle of sending on the one when the client comes back on the other."""
    limits = Limits(record=32_768, unacknowledged_bytes=50_000_000, queued_bytes=50_000_000)
    config = ServerConfig(stateful_reconnect=True, limits=limits)
    async with serving(adapter, config=config, limits=ServeLimits(room=room)) as served:
        with Deaf(served.server.port) as client:
            await served.until(adapter, lambda: len(client.items) == 1_000 or client.error is not None)
            (connection,) = served.server.connections
            await served.until(adapter, lambda: connection.machine.is_reading)
        assert client.error is None
        assert client.items == [[number, "x" * 10_000] for number in range(1_000)]
