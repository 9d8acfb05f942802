"""The session under everything at once: what is wanted changes, the network breaks, the exchange refuses, time passes.

One state machine of Hypothesis over `Session`, `FakeExchange` and `VirtualNetwork`. The `Witness` holds the promises
that hold at any moment; `calm` holds those that hold once trouble has passed.
"""

from __future__ import annotations

from typing import Any, Literal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from etorox_proto import Subscription
from etorox_proto.testing import ExchangeRules, Link, pieces, whole
from session.world import World

CHANNELS = ("btcusd", "ethusd", "xrpusd")
TOWARDS: Any = st.sampled_from(["client", "server", "both"])
SIDES: Any = st.sampled_from(["client", "server"])
SECONDS = st.sampled_from([0.01, 0.3, 1.0, 7.0, 20.0, 61.0, 200.0])


class SessionMachine(RuleBasedStateMachine):
    """One session for as long as Hypothesis likes."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriptions: dict[str, Subscription] = {}
        self.dropped_for_good: set[Subscription] = set()

    @initialize(
        seed=st.integers(0, 1_000),
        latency=st.sampled_from([0.0, 0.01, 0.4]),
        jitter=st.sampled_from([0.0, 0.2]),
        chunking=st.sampled_from([whole, pieces]),
        exclusive=st.booleans(),
        release=st.sampled_from([0.0, 3.0, 40.0]),
        lifetime=st.sampled_from([150.0, 1_000.0, 86_400.0]),
        ends=st.sampled_from(["goodbye", "cut"]),
        rotate_after=st.sampled_from([60.0, 300.0, 100_000.0]),
        overlap=st.sampled_from([8.0, 30.0]),
    )
    def begin(
        self,
        seed: int,
        latency: float,
        jitter: float,
        chunking: Any,
        exclusive: bool,
        release: float,
        lifetime: float,
        ends: Literal["goodbye", "cut"],
        rotate_after: float,
        overlap: float,
    ) -> None:
        self.world = World(
            seed=seed,
            link=Link(latency=latency, jitter=jitter, chunking=chunking),
            rules=ExchangeRules(
                exclusive_topics=exclusive, topic_release=release, lifetime=lifetime, lifetime_ends=ends
            ),
            rotate_after=rotate_after,
            overlap=overlap,
        )
        self.world.subscribe("btcusd")
        self.world.network.run_for(5.0)

    # ------------------------------------------------------------------------------------------- the application

    @rule(channels=st.sets(st.sampled_from(CHANNELS), min_size=1), rows=st.booleans())
    def subscribe(self, channels: set[str], rows: bool) -> None:
        free = sorted(channels - {c for s in self.world.session.subscriptions for c in s.channels})
        if free:
            fields = ["id", "market", "name"] if rows else None
            self.world.subscribe(*free, fields=fields)

    @rule(data=st.data())
    def unsubscribe(self, data: st.DataObject) -> None:
        if subscriptions := self.world.session.subscriptions:
            self.world.unsubscribe(data.draw(st.sampled_from(subscriptions)))

    # -------------------------------------------------------------------------------------------------- the market

    @rule(channel=st.sampled_from(CHANNELS), count=st.sampled_from([1, 2, 5, 50]))
    def publish(self, channel: str, count: int) -> None:
        self.world.publish(channel, count)

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.world.network.run_for(seconds)

    @rule(
        channels=st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=30), pause=st.sampled_from([0.05, 1.0, 4.0])
    )
    def trade(self, channels: list[str], pause: float) -> None:
        for channel in channels:
            # Every market moves, so that whatever is subscribed has something to lose.
            for each in {channel, *(c for s in self.world.session.subscriptions for c in s.channels)}:
                self.world.publish(each)
            self.world.network.run_for(pause)

    # ----------------------------------------------------------------------------------------------------- trouble

    @precondition(lambda self: self.world.network.streams)
    @rule(data=st.data())
    def a_stream_breaks(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(self.world.network.streams))
        match data.draw(st.sampled_from(["reset", "end", "hole", "stall", "slow"])):
            case "reset":
                stream.reset()
            case "end":
                stream.end(data.draw(TOWARDS))
            case "hole":
                stream.black_hole(data.draw(TOWARDS))
            case "stall":
                stream.black_hole(data.draw(TOWARDS), seconds=data.draw(st.sampled_from([0.5, 5.0, 25.0])))
            case _:
                stream.limit_reading(data.draw(SIDES), data.draw(st.sampled_from([50.0, 2_000.0])))

    @rule(how=st.sampled_from(["refuse", "ignore", "tls"]), seconds=st.sampled_from([1.0, 15.0, 120.0]))
    def dials_fail(self, how: str, seconds: float) -> None:
        match how:
            case "refuse":
                self.world.listener.refuse_dials(seconds)
            case "ignore":
                self.world.listener.ignore_dials(seconds)
            case _:
                self.world.listener.fail_tls(seconds, may_retry=True)

    @rule(how=st.sampled_from(["reset", "end", "goodbye"]), down_for=st.sampled_from([0.1, 10.0, 100.0]))
    def the_server_restarts(self, how: Any, down_for: float) -> None:
        self.world.listener.restart(down_for, how=how)

    @rule(
        how=st.sampled_from(["reset", "end", "hole"]),
        which=st.sampled_from(["all", "newest", "oldest"]),
        after=st.sampled_from([0.5, 2.5, 12.0]),
        count=st.integers(0, 5),
    )
    def streams_break_soon_after_a_rotation_began(self, how: str, which: str, after: float, count: int) -> None:
        world = self.world
        begun = world.session.attempts
        for _ in range(200):
            world.network.run_for(1.0)
            if world.session.attempts > begun:
                break
        for _ in range(count):
            for channel in {c for s in world.session.subscriptions[:1] for c in s.channels}:
                world.publish(channel)
        world.network.run_for(after)
        streams = world.network.streams
        for stream in {"all": streams, "newest": streams[-1:], "oldest": streams[:1]}[which]:
            match how:
                case "reset":
                    stream.reset()
                case "end":
                    stream.end("both")
                case _:
                    stream.black_hole("client")

    @rule(times=st.integers(1, 3))
    def clients_are_turned_away(self, times: int) -> None:
        self.world.exchange.turn_away(times=times)

    @rule(error=st.sampled_from([None, "an error occurred on the server"]))
    def subscriptions_are_broken_off(self, error: str | None) -> None:
        self.world.exchange.end_subscriptions(error=error)

    @rule(times=st.integers(1, 3))
    def subscriptions_are_refused(self, times: int) -> None:
        self.world.exchange.refuse_subscriptions(times=times)

    @rule()
    def the_reader_pauses(self) -> None:
        self.world.driver.pause_reading()
        self.world.network.run_for(50.0)
        self.world.driver.resume_reading()

    # ------------------------------------------------------------------------------------------------ what must be

    @rule()
    def calm(self) -> None:
        """Trouble passes: soon the session serves exactly what is wanted, and events come again."""
        world = self.world
        world.heal()
        for _ in range(100):
            world.network.run_for(10.0)
            if world.is_serving:
                break
        assert world.is_serving
        wanted = [(each, channel) for each in world.session.subscriptions for channel in each.channels]
        for _ in range(20):
            for _, channel in wanted:
                world.publish(channel)
            world.network.run_for(5.0)
            if all(world.witness.last(each, channel) == world.published[channel] for each, channel in wanted):
                break
        else:
            told = "\n".join(world.witness.lately)
            raise AssertionError(f"what is published in calm arrives; at {world.network.now}, lately:\n{told}")

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.world.network.streams) <= 12
        assert self.world.session.attempts <= 10 + self.world.network.now / 6.0 + 10

    def teardown(self) -> None:
        if hasattr(self, "world"):
            wanted = set(self.world.session.subscriptions)
            self.world.finish()
            assert wanted <= self.world.witness.ended


SessionMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, suppress_health_check=list(HealthCheck)
)
TestSession = SessionMachine.TestCase
