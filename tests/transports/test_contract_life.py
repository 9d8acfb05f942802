"""The adapters' contract: staying connected, coming back, and when not to."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

from contract import KEY, QUICK, SIGNED, Adapter, Feed, case, first, rest, where
from etorox_proto import (
    Closed,
    ConnectionFailed,
    ConnectionLost,
    EventReceived,
    ExchangeConfig,
    Gap,
    Ready,
    Reconnecting,
    ServerClosed,
    SessionConfig,
    SessionState,
    SetupRefused,
    Stale,
    TimedOut,
)
from etorox_proto.signalr import ServerConfig
from etorox_transports import DialFailed
from hosts import served
from loopback import Client
from loopback_exchange import LoopbackExchange, number_of
from machines import API_KEY

PINGING = 0.02
# A server that has nothing to say of its own.
MUTE = ServerConfig(ping_interval=1_000.0)


async def until_gap(feed: Feed) -> tuple[list[int], Gap]:
    """The numbers of the events up to the next gap, and that."""
    numbers: list[int] = []
    async for event in feed:
        if isinstance(event, Gap):
            return numbers, event
        numbers.append(number_of(event))
    raise AssertionError("expected a gap before the end")


# ------------------------------------------------------------------------------------------------ signs of life


@case
async def test_pings_go_out_while_nothing_is_said(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server, ping_interval=PINGING)) as exchange:
            feed = exchange.subscribe(["btcusd"])
            with pytest.raises(TimeoutError):
                await feed.next(10 * PINGING)
            await adapter.until(lambda: 5 <= server.hubs[0].pings <= 15, server)


@case
async def test_pings_go_out_while_events_come(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server, ping_interval=PINGING)) as exchange:
            feed = exchange.subscribe(["btcusd"])
            server.every(0.001, server.publish_here)
            began = time.monotonic()
            while time.monotonic() - began < 10 * PINGING:
                await feed.next(5.0)
            await adapter.until(lambda: server.hubs[0].pings >= 5, server)


@case
async def test_silence_ends_a_connection(adapter: Adapter) -> None:
    with LoopbackExchange(config=MUTE) as server:
        async with adapter.connect(where(server, server_timeout=0.1), session=None) as exchange:
            feed = exchange.subscribe(["btcusd"])
            began = time.monotonic()
            with pytest.raises(TimedOut) as caught:
                await feed.next()
            assert caught.value.timer == "silence"
            assert 0.05 < time.monotonic() - began < 1.0


@case
async def test_a_connection_that_is_silent_is_replaced(adapter: Adapter) -> None:
    with LoopbackExchange(config=MUTE) as server:
        async with adapter.connect(where(server, server_timeout=0.1), session=QUICK) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: server.streams, server)
            server.hubs[0].is_deaf = True
            server.every(0.01, server.publish_here)
            _, gap = await until_gap(feed)
            assert isinstance(gap.cause, TimedOut)
            assert gap.lasted >= 0.1


@case
async def test_a_quiet_subscription_is_told_to_be_stale(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server)) as exchange:
            feed = exchange.subscribe(["btcusd"], stale_after=0.05)
            stale = await feed.next(5.0)
            assert isinstance(stale, Stale)
            assert stale.subscription is feed.handle
            assert 0.049 < stale.silent_for < 1.0


# ---------------------------------------------------------------------------------------------------- coming back


@case
async def test_a_server_that_restarts_costs_one_gap_each_time(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), session=QUICK) as exchange:
            feed = exchange.subscribe(["btcusd"])
            server.every(0.002, server.publish_here)
            seen = [number_of(event) for event in await first(feed, 5)]
            for interruption in range(3):
                server.stop()
                server.start()
                numbers, gap = await until_gap(feed)
                seen += numbers
                assert isinstance(gap.cause, ConnectionLost | DialFailed)
                assert gap.subscription is feed.handle
                assert exchange.session.gaps == interruption + 1
                # After the one gap the events follow one another again.
                numbers = [number_of(event) for event in await first(feed, 20)]
                assert numbers == list(range(numbers[0], numbers[0] + 20))
                seen += numbers
            assert seen == sorted(set(seen)), "nothing is repeated, nothing out of order"


@case
async def test_the_embedded_exchange_may_be_stopped_and_started_again(adapter: Adapter) -> None:
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(served(API_KEY, KEY.public_key, rate=500.0, seed=1))
        address = ("127.0.0.1", host.port)
        async with adapter.connect(ExchangeConfig(f"http://127.0.0.1:{host.port}"), SIGNED, session=QUICK) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await first(feed, 5)
            stack.close()
            with served(API_KEY, KEY.public_key, rate=500.0, seed=2, address=address):
                async for event in feed:
                    if isinstance(event, Gap):
                        break
                assert (await feed.next(5.0)).market == "btcusd"
                await exchange.close()


@case
async def test_the_whole_story_is_told_to_who_reads_everything(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), session=QUICK) as exchange:
            events = aiter(exchange.events())
            exchange.subscribe(["btcusd"])
            server.every(0.002, server.publish_here)
            await first(events, 3)
            server.cut()
            kinds: list[type[Any]] = []
            while len(kinds) < 4:
                kind = type(await anext(events))
                if not kinds or kind is not kinds[-1]:
                    kinds.append(kind)
            story = [EventReceived, Reconnecting, Ready, Gap]
            assert kinds in (story, [*story[1:], EventReceived])


@case
async def test_an_invitation_to_come_back_is_accepted(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), session=QUICK) as exchange:
            feed = exchange.subscribe(["btcusd"])
            server.every(0.002, server.publish_here)
            await first(feed, 3)
            server.say_goodbye(error="restart", allow_reconnect=True)
            _, gap = await until_gap(feed)
            assert isinstance(gap.cause, ServerClosed)
            assert gap.cause.reason == "restart"


# --------------------------------------------------------------------------------------------------- and when not


@case
async def test_a_goodbye_without_an_invitation_is_final(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), session=QUICK) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: server.streams, server)
            server.say_goodbye(error="go away")
            with pytest.raises(ServerClosed, match="go away"):
                await feed.next(5.0)
            assert exchange.session.state is SessionState.CLOSED
            await adapter.until(lambda: not server.open, server)
        assert len(server.hubs) == 1


@case
async def test_a_setup_that_is_refused_on_coming_back_is_final(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), session=QUICK) as exchange:
            feed, events = exchange.subscribe(["btcusd"]), exchange.events()
            await adapter.until(lambda: server.streams, server)
            server.judge_setup = lambda _client, _argument: {"status": "failure", "message": "revoked"}
            server.cut()
            assert isinstance(await anext(aiter(events)), Reconnecting)
            with pytest.raises(SetupRefused, match="revoked"):
                await rest(aiter(events))
            with pytest.raises(SetupRefused, match="revoked"):
                await feed.next(5.0)
        assert len(server.setups) == 2


@case
async def test_our_own_close_is_never_retried(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), session=QUICK) as exchange:
            await exchange.close()
            assert exchange.session.state is SessionState.CLOSED
            assert exchange.session.next_action() is None
        await adapter.until(lambda: not server.open, server)
        assert len(server.hubs) == 1
        assert server.hubs[0].end == Closed(None)


@case
async def test_a_server_that_hangs_up_after_each_handshake_sees_no_more_than_the_ceiling(adapter: Adapter) -> None:
    with LoopbackExchange() as server:

        def hang_up(client: Client, _argument: object) -> None:
            client.machine.close(allow_reconnect=True, now=time.monotonic())

        server.judge_setup = hang_up
        session = SessionConfig(backoff_base=0.001, backoff_cap=0.002, attempts_per_minute=3)
        async with adapter.connect(where(server), session=session, wait=False) as exchange:
            events, feed = exchange.events(), exchange.subscribe(["btcusd"])
            delays = []
            async for event in events:
                assert isinstance(event, Reconnecting)
                delays.append(event.delay)
                if len(delays) == 3:
                    break
            events.close()
            with pytest.raises(TimeoutError):
                await feed.next(0.2)
            assert delays[0] < 0.01
            assert delays[1] < 0.01
            assert 59.0 < delays[2] <= 60.0
        assert len(server.hubs) == 3


# ------------------------------------------------------------------------------------------------------ the clock


def judge_time(ahead: float) -> Any:
    """An exchange whose clock is so many seconds ahead, and which refuses timestamps that are a second off."""

    def judge(_client: Client, argument: dict[str, Any]) -> dict[str, Any]:
        is_right = abs(argument["timestamp"] / 1000 - time.time() - ahead) < 1.0
        return {"status": "success"} if is_right else {"status": "failure", "message": "timestamp"}

    return judge


@pytest.mark.parametrize(("wait", "ahead"), [(True, 3600.0), (False, -3600.0)], ids=["wait", "do not wait"])
@case
async def test_a_clock_that_is_off_is_corrected_once(adapter: Adapter, wait: bool, ahead: float) -> None:
    with LoopbackExchange() as server:
        server.judge_setup = judge_time(ahead)
        source = adapter.answering(lambda: time.time() + ahead)
        async with adapter.connect(where(server), session=QUICK, wait=wait, time_source=source) as exchange:
            feed = exchange.subscribe(["btcusd"])
            server.every(0.002, server.publish_here)
            assert number_of(await feed.next(5.0)) >= 1
        assert len(server.setups) == 2


def broken() -> float:
    raise OSError("no time server")


@pytest.mark.parametrize("source", [broken, time.time, lambda: "noon"], ids=["raises", "no help", "no number"])
@case
async def test_a_clock_that_cannot_be_corrected_leaves_the_refusal(adapter: Adapter, source: Any) -> None:
    with LoopbackExchange() as server:
        server.judge_setup = judge_time(3600.0)
        with pytest.raises(SetupRefused, match="timestamp"):
            async with adapter.connect(where(server), session=QUICK, time_source=adapter.answering(source)):
                raise AssertionError("expected no connection")
        assert len(server.setups) <= 2


@case
async def test_a_final_error_is_raised_again_by_whoever_asks_later(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), session=None) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: server.streams, server)
            server.stop()
            for _ in range(2):
                with pytest.raises(ConnectionFailed):
                    await feed.next(5.0)
                await exchange.close()
