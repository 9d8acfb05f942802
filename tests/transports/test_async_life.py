"""The asynchronous adapters from entering to leaving, and what hooks can do to them."""

from __future__ import annotations

import signal
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from etorox_proto import (
    ConnectionClosed,
    ConnectionFailed,
    Credentials,
    Dial,
    ExchangeConfig,
    LocalProtocolError,
    ServerClosed,
    SessionState,
    SigningFailed,
)
from etorox_transports import DialFailed
from memory_network import MemoryStream
from virtual_async import LOOPS, Loop, World, number_of, virtual

API_KEY = "0b6e2c1e-8b63-4a51-93a4-7f3d8a4b5c6d"


class Mine(Exception):
    """An error of the application."""


async def fails(client: Any) -> Any:
    """Enter, and give the error that this raised."""
    with pytest.raises(ConnectionFailed) as caught:
        async with client:
            raise AssertionError("expected no connection")
    return caught.value


# ------------------------------------------------------------------------------------------------ before and after


@virtual
async def test_what_was_not_entered_can_do_nothing_and_be_closed(world: World) -> None:
    exchange = world.connect()
    for attempt in (lambda: exchange.subscribe(["btcusd"]), exchange.events, lambda: exchange.session):
        with pytest.raises(LocalProtocolError, match="async with"):
            attempt()
    await exchange.close()
    assert "not entered" in repr(exchange)
    assert not world.network.dials


@virtual
async def test_a_client_is_entered_once(world: World) -> None:
    exchange = world.connect()
    async with exchange:
        with pytest.raises(LocalProtocolError, match="connect again"):
            await exchange.__aenter__()
        assert exchange.session.state is SessionState.READY
    with pytest.raises(LocalProtocolError, match="connect again"):
        await exchange.__aenter__()


@virtual
async def test_what_was_left_is_closed_and_says_so(world: World) -> None:
    async with world.connect() as exchange:
        feed = exchange.subscribe(["btcusd"])
        await anyio.sleep(1.0)
        world.publish(3)
        await anyio.sleep(1.0)
    assert [number_of(event) async for event in feed] == [1, 2, 3]
    feed.close()
    await exchange.close()
    assert [event async for event in exchange.events()] == []
    with pytest.raises(ConnectionClosed):
        exchange.subscribe(["ethusd"])
    assert exchange.session.state is SessionState.CLOSED
    assert exchange.connection is None


@virtual
async def test_credentials_that_are_none_are_refused_by_entering(world: World) -> None:
    client = world.loop.library.connect("http://localhost", object(), open=world.network.open)
    with pytest.raises(LocalProtocolError, match="expected Credentials"):
        async with client:
            raise AssertionError("expected no connection")


@virtual
async def test_a_reader_in_another_task_ends_with_the_context(world: World) -> None:
    seen: list[int] = []

    async def consume(feed: Any) -> None:
        seen.extend([number_of(event) async for event in feed])
        seen.append(-1)

    async with anyio.create_task_group() as tasks, world.connect() as exchange:
        tasks.start_soon(consume, exchange.subscribe(["btcusd"]))
        await anyio.sleep(1.0)
        world.publish(2)
        await anyio.sleep(1.0)
    assert seen == [1, 2, -1]


# ------------------------------------------------------------------------------------------------------- the hooks


@pytest.mark.parametrize(
    ("error", "text", "may_retry"),
    [
        (ConnectionRefusedError(111, "nobody there"), "Connection refused", True),
        (TimeoutError("too late"), "too late", True),
        (ValueError("no such proxy"), "no such proxy", False),
        (ValueError(), "ValueError", False),
    ],
)
@virtual
async def test_what_a_hook_raises_is_why_there_is_no_stream(
    world: World, error: Exception, text: str, may_retry: bool
) -> None:
    async def refuse(_dial: Dial) -> MemoryStream:
        raise error

    failed = await fails(world.connect(open=refuse))
    assert isinstance(failed, DialFailed)
    assert str(failed) == f"could not connect to localhost port 80: {text}"
    assert failed.may_retry is may_retry
    assert failed.__cause__ is error or failed.__cause__.__cause__ is error  # type: ignore[union-attr]


@virtual
async def test_what_lies_below_a_librarys_error_is_told(world: World) -> None:
    below = ConnectionResetError(104, "reset")

    async def refuse(_dial: Dial) -> MemoryStream:
        try:
            raise OSError("all attempts failed") from ExceptionGroup("attempts", [below])
        except OSError as error:
            raise anyio.BrokenResourceError from error

    failed = await fails(world.connect(open=refuse))
    assert str(failed) == "could not connect to localhost port 80: Connection reset by peer"


@virtual
async def test_an_error_of_ours_comes_through_as_it_is(world: World) -> None:
    error = DialFailed("the proxy wants a password", may_retry=False)

    async def refuse(_dial: Dial) -> MemoryStream:
        raise error

    assert await fails(world.connect(open=refuse)) is error
    async with world.connect(open=refuse, wait=False) as exchange:
        with pytest.raises(DialFailed, match="password"):
            await exchange.events().next()
        assert exchange.session.attempts == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("loop", [loop for loop in LOOPS if loop.backend == "trio"], ids=repr)
def test_an_interrupt_in_a_hook_comes_out_alone(loop: Loop, error: BaseException, wait: bool) -> None:
    async def interrupted(_dial: Dial) -> MemoryStream:
        raise error

    async def main() -> None:
        with pytest.raises(type(error)) as caught:
            async with world.connect(open=interrupted, wait=wait):
                await anyio.sleep(1.0)
        assert caught.value is error

    world = World(loop)
    loop.run(main)


@pytest.mark.parametrize("loop", LOOPS[:1], ids=repr)
def test_a_real_interrupt_meets_the_application_and_not_our_tasks(loop: Loop) -> None:
    where: list[str] = []

    async def main() -> None:
        world = World(loop)

        async def open_stream(dial: Dial) -> MemoryStream:
            signal.raise_signal(signal.SIGINT)
            where.append("our task goes on")
            return await world.network.open(dial)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.network.serve)
            try:
                async with world.connect(open=open_stream, wait=False):
                    await anyio.sleep(1.0)
            except KeyboardInterrupt:
                where.append("the application was interrupted")
            tasks.cancel_scope.cancel()

    loop.run(main)
    assert where == ["our task goes on", "the application was interrupted"]


@virtual
async def test_whatever_a_stream_raises_is_its_end(world: World) -> None:
    class Odd(MemoryStream):
        async def receive_some(self, max_bytes: int) -> bytes:
            if self.waiting:
                return await super().receive_some(max_bytes)
            raise Mine("no more")

        async def aclose(self) -> None:
            await super().aclose()
            raise Mine("it does not close either")

    async def open_stream(dial: Dial) -> MemoryStream:
        stream = await world.network.open(dial)
        stream.__class__ = Odd
        return stream

    error = await fails(world.connect(open=open_stream))
    assert isinstance(error, ConnectionFailed)
    assert isinstance(error.__cause__, Mine)


@virtual
async def test_a_reason_of_its_own_is_left_alone(world: World) -> None:
    class Lost:
        def sign(self, payload: bytes, /) -> bytes:
            raise Mine("the token was pulled out")

    config, credentials = ExchangeConfig("http://localhost"), Credentials(API_KEY, Lost())
    error = await fails(world.loop.library.connect(config, credentials, open=world.network.open))
    assert isinstance(error, SigningFailed)
    assert isinstance(error.__cause__, Mine)


@virtual
async def test_a_stream_may_give_bytearrays(world: World) -> None:
    class Mutable(MemoryStream):
        async def receive_some(self, max_bytes: int) -> Any:
            return bytearray(await super().receive_some(max_bytes))

    async def open_stream(dial: Dial) -> MemoryStream:
        stream = await world.network.open(dial)
        stream.__class__ = Mutable
        return stream

    async with world.connect(open=open_stream) as exchange:
        feed = exchange.subscribe(["btcusd"])
        await anyio.sleep(1.0)
        world.publish()
        assert number_of(await feed.next()) == 1


@virtual
async def test_what_the_peer_said_is_heard_before_a_send_that_fails(world: World) -> None:
    class Broken(MemoryStream):
        """What was received takes a moment, what is sent fails at once."""

        async def send_all(self, data: bytes) -> None:
            raise BrokenPipeError(32, "Broken pipe")

        async def receive_some(self, max_bytes: int) -> bytes:
            data = await super().receive_some(max_bytes)
            await anyio.lowlevel.checkpoint()
            return data

    async with world.connect(session=None) as exchange:
        await anyio.sleep(1.0)
        (stream,) = world.network.open_streams
        stream.__class__ = Broken
        world.exchange.close_all(allow_reconnect=False, error="maintenance")
        stream.pump()
        feed = exchange.subscribe(["btcusd"])
        with pytest.raises(ServerClosed, match="maintenance"):
            await feed.next()


class Unspeakable(DialFailed):
    """An error that cannot be looked at, so that it breaks whoever does."""

    def __init__(self) -> None:
        ConnectionFailed.__init__(self, "unspeakable")

    @property
    def may_retry(self) -> bool:  # type: ignore[override]
        raise Mine("do not look")


@virtual
async def test_a_fault_in_the_background_is_raised_where_the_application_reads(world: World) -> None:
    async def refuse(_dial: Dial) -> MemoryStream:
        raise Unspeakable

    with pytest.raises(Mine, match="do not look"):
        async with world.connect(open=refuse):
            raise AssertionError("expected no connection")
    # Nobody may have read, so leaving raises it as well.
    with pytest.raises(Mine, match="do not look"):  # noqa: PT012
        async with world.connect(open=refuse, wait=False) as exchange:
            feed, events = exchange.subscribe(["btcusd"]), exchange.events()
            for reader in (events, feed, events):
                with pytest.raises(Mine, match="do not look"):
                    await reader.next()
