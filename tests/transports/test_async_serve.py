"""`serve` of the asynchronous adapters: what handlers may do, and what becomes of them."""

from __future__ import annotations

import logging
import math
from typing import Any

import anyio
import pytest

from contract import Adapter, case, rest
from etorox_proto import ConnectionClosed, LocalProtocolError, ServerClosed
from etorox_proto.signalr import CallLost, HubConfig, HubError, Limits, ServerConfig
from etorox_transports import ServeLimits, UploadFailed


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the server has said of failures."""
    caplog.set_level(logging.WARNING, "etorox_transports")
    return caplog


def url(server: Any) -> str:
    return f"http://127.0.0.1:{server.port}/hub"


@case
async def test_a_handler_that_fails_ends_its_connection_and_no_other(
    async_adapter: Adapter, logged: pytest.LogCaptureFixture
) -> None:
    async def handler(connection: Any) -> None:
        async for call in connection:
            if call.target == "fail":
                raise LookupError("of the handler")
            await call.complete(call.target)

    async with (
        async_adapter.library.serve(handler) as server,
        async_adapter.connect_hub(url(server)) as hub,
        async_adapter.connect_hub(url(server)) as other,
    ):
        with pytest.raises(HubError, match="invoking 'fail' on the server"):
            await hub.invoke("fail")
        with pytest.raises(ServerClosed, match=r"Connection closed with an error\."):
            await rest(hub.invocations)
        assert await other.invoke("echo") == "echo"
    assert [record.exc_info[0] for record in logged.records if record.exc_info] == [LookupError]


@case
async def test_a_handler_that_returns_says_goodbye(async_adapter: Adapter) -> None:
    async def handler(connection: Any) -> None:
        call = await connection.next(5.0)
        await call.complete()

    async with async_adapter.library.serve(handler) as server, async_adapter.connect_hub(url(server)) as hub:
        assert await hub.invoke("anything") is None
        with pytest.raises(ServerClosed):
            await rest(hub.invocations)


@case
async def test_when_the_client_has_left_the_handler_finds_the_end(async_adapter: Adapter) -> None:
    seen: list[Any] = []

    async def handler(connection: Any) -> None:
        seen.extend([call.target async for call in connection])
        seen.append(connection.error)
        with pytest.raises(StopAsyncIteration):
            await connection.next(5.0)
        with pytest.raises(ConnectionClosed):
            await connection.send("told")
        with pytest.raises(ConnectionClosed):
            await connection.invoke("asked")
        await connection.close()
        seen.append("end")

    async with async_adapter.library.serve(handler) as server:
        async with async_adapter.connect_hub(url(server)) as hub:
            await hub.send("one")
            await hub.send("two")
        with anyio.fail_after(5.0):
            while server.connections or "end" not in seen:
                await anyio.lowlevel.checkpoint()
    assert seen == ["one", "two", None, "end"]


@case
async def test_a_handler_that_stays_is_cancelled(async_adapter: Adapter, logged: pytest.LogCaptureFixture) -> None:
    cancelled = anyio.Event()

    async def handler(_connection: Any) -> None:
        try:
            await anyio.sleep(math.inf)
        finally:
            cancelled.set()

    limits = ServeLimits(handler_grace=0.05)
    async with async_adapter.library.serve(handler, limits=limits) as server:
        async with async_adapter.connect_hub(url(server)):
            pass
        with anyio.fail_after(5.0):
            await cancelled.wait()
    assert not logged.records


@case
async def test_what_the_client_did_not_answer_is_lost_with_it(
    async_adapter: Adapter, logged: pytest.LogCaptureFixture
) -> None:
    outcomes: list[type[BaseException]] = []

    async def handler(connection: Any) -> None:
        with pytest.raises(TimeoutError):
            await connection.invoke("asked", timeout=0.02)
        try:
            await connection.invoke("asked")
        except CallLost as error:
            outcomes.append(type(error))

    async with async_adapter.library.serve(handler) as server:
        config = HubConfig(url=url(server), handles=["asked"])
        async with async_adapter.connect_hub(config) as hub:
            await hub.invocations.next(5.0)
            await hub.invocations.next(5.0)
        with anyio.fail_after(5.0):
            while not outcomes:
                await anyio.lowlevel.checkpoint()
    assert not logged.records


@case
async def test_calls_are_what_they_say(async_adapter: Adapter) -> None:
    seen: list[Any] = []

    async def handler(connection: Any) -> None:
        async for call in connection:
            async with call:
                seen.append((call.target, call.streaming, call.wants_answer, call.invocation_id, repr(call)))
                await call.complete()
                if call.wants_answer:
                    with pytest.raises(LocalProtocolError):
                        await call.complete()
        seen.append(connection.encoding)

    async with async_adapter.library.serve(handler) as server:
        assert repr(server).startswith("<Server at port ")
        async with async_adapter.connect_hub(HubConfig(url=url(server), encoding="messagepack")) as hub:
            await hub.send("a")
            await hub.invoke("b")
            await rest(hub.stream("c"))
            assert "<Connection '" in repr(server.connections[0])
    assert seen == [
        ("a", False, False, None, "<IncomingCall None: message of 'a'>"),
        ("b", False, True, "1", "<IncomingCall '1': call of 'b'>"),
        ("c", True, True, "2", "<IncomingCall '2': stream of 'c'>"),
        "messagepack",
    ]


@case
async def test_an_upload_that_the_client_gives_up_raises(async_adapter: Adapter) -> None:
    raised: list[str] = []

    async def numbers() -> Any:
        yield 1
        raise ValueError

    async def handler(connection: Any) -> None:
        async for call in connection:
            async with call:
                try:
                    await rest(call.uploads[0])
                except UploadFailed as error:
                    raised.append(str(error))

    async with async_adapter.library.serve(handler) as server, async_adapter.connect_hub(url(server)) as hub:
        await hub.invoke("total", uploads=[numbers()])
        assert raised == ["the client's stream failed with ValueError"]


@case
async def test_an_upload_that_nobody_reads_holds_nothing_up(async_adapter: Adapter) -> None:
    async def handler(connection: Any) -> None:
        async for call in connection:
            async with call:
                await call.complete(call.target)

    limits = ServeLimits(waiting_calls=10)
    async with (
        async_adapter.library.serve(handler, limits=limits) as server,
        async_adapter.connect_hub(url(server)) as hub,
    ):
        await hub.send("a", uploads=[range(1_000)])
        assert await hub.invoke("b", uploads=[range(1_000)]) == "b"
        assert await hub.invoke("c") == "c"


@case
async def test_a_handler_that_is_busy_holds_its_client_back(async_adapter: Adapter) -> None:
    """What it does not take waits with the client, and nothing is lost."""
    may_go_on = anyio.Event()
    taken: list[int] = []

    async def handler(connection: Any) -> None:
        await may_go_on.wait()
        async for call in connection:
            async with call:
                taken.append(call.arguments[0])

    limits = ServeLimits(waiting_calls=10)
    serving = async_adapter.library.serve(handler, limits=limits)
    async with serving as server, async_adapter.connect_hub(url(server)) as hub:
        for number in range(2_000):
            await hub.send("take", number, "x" * 1_000)
        with anyio.fail_after(5.0):
            while not server.connections or server.connections[0].machine.is_reading:
                await anyio.lowlevel.checkpoint()
        may_go_on.set()
        await hub.invoke("take", 2_000)
    assert taken == list(range(2_001))


@case
async def test_leaving_by_an_error_tells_the_error_and_says_goodbye(async_adapter: Adapter) -> None:
    async def handler(connection: Any) -> None:
        async for _ in connection:
            pass

    with pytest.raises(LookupError, match="of the program"):
        async with async_adapter.library.serve(handler) as server, async_adapter.connect_hub(url(server)):
            raise LookupError("of the program")
    with pytest.raises(LocalProtocolError, match="entered before"):
        await server.__aenter__()


@case
async def test_leaving_by_cancellation_waits_for_nobody(async_adapter: Adapter) -> None:
    ended: list[bool] = []

    async def handler(_connection: Any) -> None:
        try:
            await anyio.sleep(math.inf)
        finally:
            ended.append(True)

    with anyio.move_on_after(0.1) as scope:
        async with async_adapter.library.serve(handler) as server, async_adapter.connect_hub(url(server)):
            await anyio.sleep(math.inf)
    assert scope.cancelled_caught
    assert ended == [True]


@case
async def test_a_server_that_was_not_entered(async_adapter: Adapter) -> None:
    server = async_adapter.library.serve(rest)
    with pytest.raises(LocalProtocolError, match="async with"):
        _ = server.port
    await server.close()
    assert server.connections == []


@case
async def test_a_port_that_is_taken(async_adapter: Adapter) -> None:
    async with async_adapter.library.serve(rest) as server:
        with pytest.raises(OSError, match="in use"):
            async with async_adapter.library.serve(rest, port=server.port):
                pass


@pytest.mark.parametrize("wrong", [{"connections": 0}, {"room": 1.5}, {"idle_timeout": 0.0}, {"send_timeout": "1"}])
def test_limits_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError, match=rf"expected ServeLimits\.{next(iter(wrong))} to be"):
        ServeLimits(**wrong)


@case
async def test_items_that_have_no_room_end_the_connection(
    async_adapter: Adapter, logged: pytest.LogCaptureFixture
) -> None:
    """`ServeLimits.room` is more than the machine holds, so that sending fails instead of waiting."""

    async def handler(connection: Any) -> None:
        async for call in connection:
            async with call:
                await call.send_item("x" * 20_000)

    config = ServerConfig(limits=Limits(queued_bytes=10_000))
    async with (
        async_adapter.library.serve(handler, config=config) as server,
        async_adapter.connect_hub(url(server)) as hub,
    ):
        with pytest.raises(HubError, match="invoking 'push'"):
            await rest(hub.stream("push"))
    assert "expected at most 10000 bytes waiting" in logged.text


@case
async def test_a_call_that_was_cancelled_before_it_was_worked_on(async_adapter: Adapter) -> None:
    outcome: list[str] = []

    async def handler(connection: Any) -> None:
        slow = await connection.next(5.0)
        behind = await connection.next(5.0)  # the cancel came before it
        async with slow:
            outcome.append("begun")
            await anyio.sleep(math.inf)
        async with behind:
            outcome.append("next")
        await connection.next(5.0)

    async with async_adapter.library.serve(handler) as server, async_adapter.connect_hub(url(server)) as hub:
        with pytest.raises(TimeoutError):
            await hub.invoke("slow", timeout=0.02)
        assert await hub.invoke("behind") is None
    assert outcome == ["begun", "next"]
