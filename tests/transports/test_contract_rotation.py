"""The adapters' contract: a connection is replaced before the exchange cuts it, and nothing is lost."""

from __future__ import annotations

import pytest

from contract import Adapter, case, first, rest, where
from etorox_proto import Closed, Gap, SessionConfig, SessionState, SubscriptionFailed
from loopback import Client
from loopback_exchange import LoopbackExchange, number_of

ROTATING = SessionConfig(
    backoff_base=0.002,
    backoff_cap=0.02,
    attempts_per_minute=10_000,
    rotate_after=0.1,
    rotate_spread=0.0,
    overlap=1.0,
)


@case
async def test_rotation_loses_and_repeats_nothing(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), session=ROTATING) as exchange:
            feeds = {channel: exchange.subscribe([channel]) for channel in ("btcusd", "ethusd")}
            await adapter.until(lambda: len(server.streams) == 2, server)

            def publish() -> None:
                for channel in feeds:
                    server.publish_here(channel, 2)

            server.every(0.002, publish)
            seen: dict[str, list[int]] = {channel: [] for channel in feeds}
            while exchange.session.rotations < 3:
                for channel, feed in feeds.items():
                    seen[channel] += [number_of(event) for event in await first(feed, 10)]
            for numbers in seen.values():
                assert numbers == list(range(1, len(numbers) + 1))
            assert exchange.session.gaps == 0
            assert sum(client.is_open for client in server.hubs) <= 2
            await adapter.until(lambda: all(client.end == Closed(None) for client in server.hubs[:3]), server)
            assert all(client.said_goodbye for client in server.hubs[:3]), "the old connections get a goodbye"


def one_stream_for_each_topic(server: LoopbackExchange) -> None:
    """Make the exchange refuse a topic that is subscribed already, on whatever connection."""

    def judge(_client: Client, channels: tuple[str, ...]) -> str:
        taken = {channel for stream in server.streams for channel in stream.channels}
        return "already subscribed" if taken & set(channels) else ""

    server.judge_subscription = judge


@case
async def test_an_exchange_that_refuses_a_second_subscription_costs_a_gap(adapter: Adapter) -> None:
    """Break before make: the old connection gives the topic up, then the new one asks for it."""
    with LoopbackExchange() as server:
        one_stream_for_each_topic(server)
        async with adapter.connect(where(server), session=ROTATING) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: server.streams, server)
            server.every(0.002, server.publish_here)
            numbers: list[int] = []
            gaps: list[Gap] = []
            while exchange.session.rotations < 2 or len(gaps) < 2:
                event = await feed.next(5.0)
                if isinstance(event, Gap):
                    gaps.append(event)
                else:
                    numbers.append(number_of(event))
            assert numbers == sorted(set(numbers))
            assert all(isinstance(gap.cause, SubscriptionFailed) for gap in gaps)


@case
async def test_a_new_connection_that_fails_leaves_the_old_one_serving(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), session=ROTATING) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: server.streams, server)
            server.greet = server.hang_up
            server.every(0.002, server.publish_here)
            numbers = []
            while exchange.session.attempts < 5:
                numbers.append(number_of(await feed.next(5.0)))
            assert numbers == list(range(1, len(numbers) + 1))
            assert exchange.session.state is SessionState.READY
            assert exchange.session.rotations == 0


@pytest.mark.parametrize("answers", [True, False], ids=["answered", "not answered"])
@case
async def test_closing_in_the_middle_of_a_rotation_closes_both(adapter: Adapter, answers: bool) -> None:
    with LoopbackExchange() as server:
        async with adapter.connect(where(server, close_timeout=0.2), session=ROTATING) as exchange:
            feed = exchange.subscribe(["btcusd"])
            await adapter.until(lambda: server.streams, server)
            if not answers:
                server.judge_setup = lambda _client, _argument: None
            server.every(0.002, server.publish_here)
            numbers = []
            while len(server.hubs) < 2:
                numbers.append(number_of(await feed.next(5.0)))
        await adapter.until(lambda: not server.open, server)
        numbers += [number_of(event) for event in await rest(feed)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert exchange.session.state is SessionState.CLOSED
