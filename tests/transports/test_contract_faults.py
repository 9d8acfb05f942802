"""The adapters' contract: whatever goes wrong, nothing is lost without a gap, and nothing is repeated."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from contract import Adapter, Feed, case, where
from etorox_proto import Gap, SessionConfig
from loopback import Client
from loopback_exchange import LoopbackExchange

FAULTS = 12

ROTATING = SessionConfig(
    backoff_base=0.002,
    backoff_cap=0.02,
    attempts_per_minute=10_000,
    rotate_after=0.08,
    rotate_spread=0.04,
    overlap=0.2,
)


class Reader:
    """Reads a feed of numbered events or rows and checks that it is honest.

    Attributes:
        number: of the last event, 0 before the first.
        gaps: how many there were.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._may_jump = True
        self.number = 0
        self.gaps = 0

    async def read(self) -> None:
        """Take one event or gap, or give up after a moment."""
        try:
            event = await self._feed.next(0.05)
        except TimeoutError:
            return
        if isinstance(event, Gap):
            assert not self._may_jump or not self.number, "a gap stands directly before an event"
            self._may_jump = True
            self.gaps += 1
            return
        number = int(event.id)
        assert number > self.number, "nothing is repeated, nothing out of order"
        assert self._may_jump or number == self.number + 1, "nothing is lost without a gap"
        self.number, self._may_jump = number, False


def faults(server: LoopbackExchange) -> list[Callable[[], None]]:
    """What may go wrong; the last undoes what lasts."""

    def restart() -> None:
        server.stop()
        server.start()

    def be_silent_after_setup() -> None:
        server.judge_setup = lambda _client, _argument: None

    def allow_one_stream_for_each_topic() -> None:
        def judge(_client: Client, channels: tuple[str, ...]) -> str:
            taken = {channel for stream in server.streams for channel in stream.channels}
            return "already subscribed" if taken & set(channels) else ""

        server.judge_subscription = judge

    def be_kind() -> None:
        server.judge_setup = lambda _client, _argument: {"status": "success"}
        server.judge_subscription = lambda _client, _channels: ""

    return [
        server.cut,
        lambda: server.say_goodbye(error="restart", allow_reconnect=True),
        restart,
        server.deafen,
        be_silent_after_setup,
        allow_one_stream_for_each_topic,
        be_kind,
    ]


def publish_on(server: LoopbackExchange, *channels: str) -> None:
    """Publish on these channels a thousand times a second."""

    def publish() -> None:
        for channel in channels:
            server.publish_here(channel)

    server.every(0.001, publish)


@pytest.mark.parametrize("seed", [1])
@case
async def test_nothing_is_lost_without_a_gap_and_nothing_repeated(adapter: Adapter, seed: int) -> None:
    source = random.Random(seed)
    quick: dict[str, Any] = dict.fromkeys(("server_timeout", "setup_timeout", "opening_timeout"), 0.15)
    with LoopbackExchange() as server:
        config = where(server, ping_interval=0.05, close_timeout=0.05, **quick)
        async with adapter.connect(config, session=ROTATING) as exchange:
            readers = [
                Reader(exchange.subscribe(["btcusd"])),
                Reader(exchange.subscribe(["ethusd"], fields=["id", "price"])),
            ]
            publish_on(server, "btcusd", "ethusd")
            everything = faults(server)
            be_kind = everything[-1]
            for _ in range(FAULTS):
                source.choice(everything)()
                for _ in range(source.randrange(60)):
                    for reader in readers:
                        await reader.read()
            be_kind()
            last = server.numbers["btcusd"] + 20
            while min(reader.number for reader in readers) < last:
                for reader in readers:
                    await reader.read()
            assert 0 < sum(reader.gaps for reader in readers) <= exchange.session.gaps


@case
async def test_two_connections_that_are_cut_while_they_overlap_cost_a_gap(adapter: Adapter) -> None:
    """Rows take a while to be aligned; what was under way on both is lost, and must be owned up to."""
    with LoopbackExchange() as server:
        async with adapter.connect(where(server), session=ROTATING) as exchange:
            feed = exchange.subscribe(["btcusd"], fields=["id", "price"])
            reader = Reader(feed)
            await adapter.until(lambda: server.streams, server)
            publish_on(server, "btcusd")
            while len(server.streams) < 2:
                await reader.read()
            for _ in range(20):
                await reader.read()
            server.stop()
            server.publish(count=5)
            server.start()
            while not reader.gaps:
                await reader.read()
            await reader.read()
            assert exchange.session.gaps == 1
