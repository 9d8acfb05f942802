"""Thirty virtual days with a rotation every day and trouble at random; it prints its figures.

And the sober cases beside it: days on which nothing goes wrong, and what a server sees that is down, or that closes
right after the handshake.
"""

from __future__ import annotations

import gc
import time
from typing import Any

import pytest

from etorox_proto import SessionEvent, SessionState
from etorox_proto.testing import ExchangeRules, Link, RandomFaults
from session.world import Witness, World

HOUR, DAY = 3_600.0, 86_400.0
CHANNELS = ("btcusd", "ethusd", "xrpusd")
# What a network and a server can do. Corrupted bytes are not among them: TCP and TLS find them out, and what gets past
# both is a wrong digit that nobody can tell from a right one.
TROUBLE: Any = ("reset", "end", "stall", "black hole", "slow reader", "refuse", "ignore", "tls", "restart")


def trade(world: World, pause: float) -> None:
    """Publish on every channel, again and again, with these pauses on average."""

    def publish() -> None:
        for channel in CHANNELS:
            world.publish(channel)
        network = world.network
        network.at(network.now + network.random.expovariate(1.0 / pause), publish)

    publish()


def figures(world: World, seconds: float, **more: object) -> str:
    told, session = world.witness.counts, world.session
    parts = {
        "virtual days": f"{world.network.now / DAY:.1f}",
        "seconds taken": f"{seconds:.1f}",
        "events published": f"{sum(world.published.values()):,}",
        "delivered": f"{told['EventReceived']:,}",
        "gaps": told["Gap"],
        "rotations": session.rotations,
        "attempts": session.attempts,
        "interruptions": told["Ready"] - 1,
        **more,
    }
    return ", ".join(f"{name} {value}" for name, value in parts.items())


def test_thirty_days_with_trouble(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.process_time()
    # Three rotations a day, or those who are interrupted once a day would hardly ever see one.
    world = World(seed=30, link=Link(latency=0.02, jitter=0.03), rotate_after=8 * HOUR)
    for channel in CHANNELS:
        world.subscribe(channel)
    world.network.run_for(5.0)
    trade(world, 120.0)
    faults = RandomFaults(world.network, [world.listener], rate=1.0 / (5 * HOUR), kinds=TROUBLE, seed=30)
    objects = []
    for _ in range(30):
        world.network.run_for(DAY)
        objects.append(_count_objects())
    faults.stop()
    world.heal()
    world.network.run_for(HOUR)
    assert world.is_serving
    told = world.witness.counts
    lost = sum(world.published.values()) - told["EventReceived"]
    with capsys.disabled():
        print("\n30 days:", figures(world, time.process_time() - began, faults=len(faults.log), lost=lost))
    assert len(faults.log) > 100
    assert set(faults.counts) == set(TROUBLE)
    assert world.session.rotations > 30
    assert told["Gap"] == world.session.gaps
    # What is lost is lost behind gaps, as the witness has checked at each event; and that is little.
    assert 0 < lost < 0.02 * sum(world.published.values())
    assert max(objects[20:]) < 1.01 * max(objects[:10])
    world.finish()


def _count_objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def test_four_days_without_trouble_lose_nothing() -> None:
    world = World(seed=10, link=Link(latency=0.02, jitter=0.2))
    for channel in CHANNELS:
        world.subscribe(channel, stale_after=HOUR)
    world.network.run_for(5.0)
    trade(world, 30.0)
    world.network.run_for(4 * DAY)
    told = world.witness.counts
    assert world.session.rotations == 4
    assert world.session.attempts == 5
    assert told["Gap"] == told["Reconnecting"] == told["Stale"] == 0
    assert sum(world.published.values()) - told["EventReceived"] <= len(CHANNELS)
    assert world.most_streams <= 3
    world.finish()


def test_rows_are_handed_over_too() -> None:
    world = World(seed=3, link=Link(latency=0.02, jitter=0.2))
    world.subscribe("btcusd", fields=["id", "market", "name"])
    world.network.run_for(5.0)
    trade(world, 20.0)
    world.network.run_for(2 * DAY)
    assert world.session.rotations == 2
    assert world.witness.counts["Gap"] == 0


def test_where_a_topic_is_given_once_each_rotation_is_a_gap_at_most() -> None:
    world = World(seed=4, rules=ExchangeRules(exclusive_topics=True, topic_release=20.0))
    world.subscribe("btcusd")
    world.network.run_for(5.0)
    trade(world, 20.0)
    world.network.run_for(2 * DAY)
    assert world.session.rotations == 2
    assert world.witness.counts["Gap"] == 2
    assert world.witness.counts["Ready"] == 1


def test_an_exchange_that_cuts_earlier_than_it_says_is_reconnected() -> None:
    world = World(seed=5, rules=ExchangeRules(lifetime=6 * HOUR, lifetime_ends="cut"))
    world.subscribe("btcusd")
    world.network.run_for(5.0)
    trade(world, 20.0)
    world.network.run_for(2 * DAY - HOUR)
    told = world.witness.counts
    assert told["Ready"] == 1 + told["Reconnecting"] == 1 + told["Gap"] == 8
    world.finish()


def test_a_server_that_closes_right_after_the_handshake_sees_the_ceiling_at_most() -> None:
    world = World(seed=6, attempts_per_minute=10)
    world.subscribe("btcusd")
    world.exchange.turn_away()
    world.network.run_for(HOUR)
    assert world.exchange.counts.connections <= 60 * 10
    assert world.exchange.counts.connections >= 30
    world.heal()
    world.network.run_for(61.0)
    assert world.is_serving


def test_a_server_down_for_an_hour_is_found_again() -> None:
    world = World(seed=7)
    world.subscribe("btcusd")
    world.network.run_for(10.0)
    world.publish("btcusd", 3)
    world.network.run_for(1.0)
    world.listener.restart(HOUR)
    world.network.run_for(HOUR)
    assert world.witness.counts["Ready"] == 1
    assert 60 <= world.session.attempts <= 240
    world.network.run_for(61.0)
    assert world.is_serving
    world.publish("btcusd", 3)
    world.network.run_for(1.0)
    assert world.witness.counts["Gap"] == 1
    assert world.witness.counts["EventReceived"] == 6


def test_a_clean_close_is_never_retried() -> None:
    world = World(seed=8)
    world.subscribe("btcusd")
    world.network.run_for(10.0)
    world.finish()
    world.network.run_for(DAY)
    assert world.exchange.counts.streams == 2
    assert world.session.attempts == 1


class Deaf(Witness):
    """Believes everything: with bytes that were altered no number can be trusted."""

    def hear(self, event: SessionEvent) -> None:
        self.counts[type(event).__name__] += 1


def test_corrupted_bytes_raise_nothing_and_the_session_goes_on() -> None:
    world = World(seed=9, witness=Deaf(), attempts_per_minute=30)
    world.subscribe("btcusd")
    world.network.run_for(5.0)
    trade(world, 5.0)
    faults = RandomFaults(world.network, [world.listener], rate=1 / 20.0, kinds=["corrupt"], seed=9)
    while world.network.now < 4 * HOUR and not world.driver.is_closed:
        world.network.run_for(60.0)
    assert len(faults.log) > 50
    assert world.witness.counts["Reconnecting"] > 10
    # An altered byte may make a refusal of anything; then the session has said so.
    is_over = world.session.state is SessionState.CLOSED
    assert world.driver.is_closed is is_over
    assert world.witness.counts["Closed"] == is_over
