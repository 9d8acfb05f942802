"""Sessions on the virtual network: the driver keeps the law for drivers, and a session its word in any weather."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from etorox_proto import (
    Closed,
    ConnectionLost,
    EventReceived,
    ExchangeConfig,
    Gap,
    LocalProtocolError,
    OrderCreated,
    Ready,
    Reconnecting,
    ServerClosed,
    Session,
    SessionConfig,
    SessionEvent,
    SessionState,
    SetupRefused,
    Stale,
    SubscriptionEnded,
)
from etorox_proto.testing import (
    ExchangeRules,
    FaultKind,
    Link,
    RandomFaults,
    SessionDriver,
    VirtualDialFailed,
    pieces,
)
from machines import picture
from testing.markets import ALICE, HOST, Market, event, order


def number_of(received: EventReceived) -> int:
    """The number of an order that was published."""
    order = received.event
    assert isinstance(order, OrderCreated)
    return int(order.id)


class Sitting:
    """A market and one session."""

    def __init__(
        self,
        rules: ExchangeRules | None = None,
        *,
        link: Link | None = None,
        seed: int = 0,
        deliver: Callable[[SessionEvent], object] | None = None,
        keep: int | None = None,
        clock_skew: Callable[[], float | None] | None = None,
        our_skew: float = 0.0,
        **config: Any,
    ) -> None:
        self.market = Market(rules, link=link, seed=seed)
        self.network, self.exchange = self.market.network, self.market.exchange
        self.session = Session(
            lambda _now, skew: self.network.new_exchange_connection(ExchangeConfig(HOST), ALICE, skew=skew + our_skew),
            now=self.network.now,
            random=self.network.random.random,
            config=SessionConfig(**config),
        )
        self.driver: SessionDriver = self.network.drive_session(
            self.session, deliver=deliver, keep=keep, clock_skew=clock_skew
        )

    def kinds(self) -> list[str]:
        """The events so far, by their names."""
        return [type(each).__name__ for each in self.driver.events]

    def publish_every(self, seconds: float, until: float) -> None:
        """Publish numbered orders at even times from now on."""
        start = self.network.now
        for number in range(int((until - start) / seconds)):
            self.network.at(start + number * seconds, lambda number=number: self.publish(number))  # type: ignore[misc]

    def publish(self, number: int) -> None:
        self.exchange.publish("btcusd", order(number))

    def wait_until_ready(self) -> None:
        self.network.wait_for(lambda: self.session.state is SessionState.READY, within=300.0)


def test_a_session_streams() -> None:
    sitting = Sitting()
    subscription = sitting.session.subscribe(["btcusd"], now=sitting.network.now)
    sitting.wait_until_ready()
    sitting.network.run_for(1.0)
    sitting.publish(1)
    sitting.network.run_for(1.0)
    ready, received = sitting.driver.events
    assert isinstance(ready, Ready)
    assert received == EventReceived(subscription, event(1))
    assert sitting.driver.delivered == 2
    assert not sitting.driver.is_closed
    assert sitting.driver.error is None
    assert len(sitting.driver.streams) == 1
    assert repr(sitting.driver).startswith("<SessionDriver of <Session: ready")


def test_it_comes_back_after_a_restart() -> None:
    sitting = Sitting()
    subscription = sitting.session.subscribe(["btcusd"], now=sitting.network.now)
    sitting.wait_until_ready()
    sitting.network.run_for(120.0)
    sitting.publish(1)
    sitting.network.run_for(1.0)
    sitting.driver.events.clear()
    sitting.market.listener.restart(20.0)
    sitting.network.run_for(1.0)
    assert sitting.driver.streams == []
    assert sitting.session.state is not SessionState.READY
    sitting.wait_until_ready()
    sitting.network.run_for(1.0)
    sitting.publish(5)
    sitting.network.run_for(1.0)
    first, *others, ready, gap, received = sitting.driver.events
    assert isinstance(first, Reconnecting)
    assert isinstance(first.error, ConnectionLost)
    assert others
    for each in others:
        assert isinstance(each, Reconnecting)
        assert isinstance(each.error, VirtualDialFailed)
        assert each.error.reason == "refused"
    assert isinstance(ready, Ready)
    assert isinstance(gap, Gap)
    assert isinstance(gap.cause, ConnectionLost)
    assert received == EventReceived(subscription, event(5))


def test_a_failure_that_cannot_be_mended_is_the_end() -> None:
    sitting = Sitting()
    sitting.market.listener.fail_tls(may_retry=False)
    sitting.network.wait_for(lambda: sitting.driver.is_closed)
    assert isinstance(sitting.driver.error, VirtualDialFailed)
    assert sitting.driver.events[-1] == Closed(sitting.driver.error)
    assert not sitting.network.step(), "nothing is left to do"


def test_its_own_close_ends_it_and_its_connections() -> None:
    sitting = Sitting()
    sitting.wait_until_ready()
    sitting.session.close(now=sitting.network.now)
    closed: list[bool] = []
    for _ in range(2):
        sitting.network.run_for(0.0 if not closed else 1.0)
        closed.append(sitting.driver.is_closed)
    assert closed == [False, True]
    assert sitting.driver.error is None
    assert sitting.network.streams == []
    assert sitting.exchange.connections == []


def test_commands_may_be_given_from_within_a_delivery() -> None:
    heard: list[SessionEvent] = []

    def deliver(each: SessionEvent) -> None:
        heard.append(each)
        match each:
            case Ready():
                sitting.session.subscribe(["btcusd"], now=sitting.network.now)
                sitting.network.at(sitting.network.now + 1.0, lambda: sitting.publish(1))
            case EventReceived():
                sitting.session.close(now=sitting.network.now)
            case _:
                pass

    sitting = Sitting(deliver=deliver, keep=1)
    sitting.network.wait_for(lambda: sitting.driver.is_closed)
    assert [type(each).__name__ for each in heard] == ["Ready", "EventReceived", "SubscriptionEnded", "Closed"]
    assert sitting.driver.events == heard[-1:]
    assert sitting.driver.delivered == 4


@pytest.mark.parametrize("answered", [True, False])
def test_the_clock_is_checked_with_the_function_given(answered: bool) -> None:
    rules = ExchangeRules()
    asked: list[float] = []

    def skew() -> float:
        asked.append(sitting.network.now)
        return 3_600.0

    sitting = Sitting(rules, our_skew=-3_600.0, check_clock=True, clock_skew=skew if answered else None)
    if answered:
        sitting.wait_until_ready()
        assert len(asked) == 1
        assert (sitting.exchange.counts.setups, sitting.exchange.counts.setups_refused) == (1, 1)
    else:
        sitting.network.wait_for(lambda: sitting.driver.is_closed)
        assert isinstance(sitting.driver.error, SetupRefused)


def test_a_pause_in_reading_holds_for_connections_to_come() -> None:
    sitting = Sitting()
    sitting.session.subscribe(["btcusd"], now=sitting.network.now)
    sitting.driver.pause_reading()
    sitting.network.run_for(5.0)
    assert sitting.session.state is SessionState.CONNECTING
    sitting.driver.resume_reading()
    sitting.wait_until_ready()
    sitting.network.run_for(1.0)
    sitting.driver.pause_reading()
    sitting.publish(1)
    sitting.network.run_for(300.0)
    assert "EventReceived" not in sitting.kinds()
    sitting.driver.streams[0].reset()
    sitting.network.run_for(5.0)
    assert sitting.exchange.counts.streams >= 3
    sitting.driver.resume_reading()
    sitting.wait_until_ready()


def test_a_connection_is_replaced_without_a_gap() -> None:
    sitting = Sitting(rotate_after=600.0, rotate_spread=0.0)
    sitting.session.subscribe(["btcusd"], now=sitting.network.now)
    sitting.publish_every(1.0, 3_000.0)
    sitting.network.run_for(3_100.0)
    numbers = [number_of(each) for each in sitting.driver.events if isinstance(each, EventReceived)]
    assert numbers == list(range(numbers[0], 3_000))
    assert sitting.session.rotations >= 4
    assert sitting.session.gaps == 0
    assert len(sitting.network.streams) <= 2


def test_an_exclusive_topic_is_given_up_before_it_is_asked_for() -> None:
    sitting = Sitting(ExchangeRules(exclusive_topics=True), rotate_after=600.0, rotate_spread=0.0)
    sitting.session.subscribe(["btcusd"], now=sitting.network.now)
    sitting.publish_every(1.0, 3_000.0)
    sitting.network.run_for(3_100.0)
    check_stream(sitting.driver.events)
    assert sitting.session.rotations >= 4
    assert 4 <= sitting.session.gaps <= sitting.session.rotations
    assert sitting.exchange.subscriptions == {"btcusd": 1}


def test_a_frozen_feed_is_stale() -> None:
    sitting = Sitting(stale_after=60.0)
    sitting.session.subscribe(["btcusd"], now=sitting.network.now)
    sitting.publish_every(1.0, 300.0)
    sitting.network.at(30.0, sitting.exchange.freeze)
    sitting.network.run_for(100.0)
    assert isinstance(sitting.driver.events[-1], Stale)
    assert sitting.session.state is SessionState.READY


def test_a_server_that_turns_everybody_away_is_not_stormed() -> None:
    sitting = Sitting()
    sitting.exchange.turn_away()
    sitting.network.run_for(600.0)
    assert sitting.exchange.counts.connections <= 25
    last = sitting.driver.events[-1]
    assert isinstance(last, Reconnecting)
    assert isinstance(last.error, ServerClosed)


def test_keeping_a_negative_number_of_events_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="expected to keep 0 events or more"):
        Sitting(keep=-1)


# ---------------------------------------------------------------------------------------------- in any weather


def check_stream(events: list[SessionEvent]) -> int:
    """Numbered orders come each once and in order, and nothing is missing but behind a `Gap`; returns how many came."""
    last: int | None = None
    gap: Gap | None = None
    count = 0
    for each in events:
        match each:
            case Gap():
                assert gap is None, "a gap comes with the event that follows it"
                gap = each
            case EventReceived():
                number = number_of(each)
                count += 1
                if last is not None:
                    assert number > last, "each once, in order"
                    assert number == last + 1 or gap is not None, f"{last + 1} to {number - 1} are missing"
                last, gap = number, None
            case _:
                assert gap is None, "a gap comes directly before the event that follows it"
    return count


WEATHERS: dict[str, list[FaultKind]] = {
    "resets": ["reset"],
    "ends": ["end"],
    "silence": ["stall", "black hole"],
    "crowds": ["slow reader"],
    "closed doors": ["refuse", "ignore", "tls"],
    "restarts": ["restart"],
    "everything": ["reset", "end", "stall", "black hole", "slow reader", "refuse", "ignore", "tls", "restart"],
}


def weather(name: str, seed: int, **rules: Any) -> Sitting:
    """An hour of faults, with a connection replaced every ten minutes or sooner.

    A fault that makes the client late for handshake or `setup` is not among them: to the session, being turned away for
    that is final.
    """
    sitting = Sitting(
        ExchangeRules(lifetime=1_000.0, handshake_timeout=1e6, setup_timeout=1e6, **rules),
        link=Link(latency=0.05, jitter=0.2, chunking=pieces),
        seed=seed,
        rotate_after=600.0,
        rotate_spread=300.0,
    )
    RandomFaults(sitting.network, [sitting.market.listener], rate=1 / 60, kinds=WEATHERS[name], spell=20.0, seed=seed)
    sitting.session.subscribe(["btcusd"], now=sitting.network.now)
    sitting.publish_every(2.5, 3_600.0)
    sitting.network.run_until(3_600.0)
    return sitting


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", WEATHERS)
def test_a_session_keeps_its_word_in_any_weather(name: str, seed: int) -> None:
    sitting = weather(name, seed)
    count = check_stream(sitting.driver.events)
    assert count > 700
    assert not sitting.driver.is_closed
    assert not [each for each in sitting.driver.events if isinstance(each, SubscriptionEnded)]
    assert len(sitting.network.streams) <= 12


@pytest.mark.parametrize("release", [0.0, 10.0])
def test_a_session_keeps_its_word_where_topics_are_exclusive(release: float) -> None:
    sitting = weather("everything", 5, exclusive_topics=True, topic_release=release)
    assert check_stream(sitting.driver.events) > 500
    assert not sitting.driver.is_closed


def test_the_same_seed_gives_the_same_session() -> None:
    def run(seed: int) -> list[Any]:
        return [
            picture(each) for each in weather("everything", seed).driver.events if not isinstance(each, EventReceived)
        ]

    first = run(3)
    assert first == run(3)
    assert first != run(4)


class Pedantic:
    """A session that insists on being asked for actions and events before it is told anything more."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._left = {"next_action", "next_event"}
        self.inputs = 0

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._session, name)
        if name in {"handle_event", "handle_timeout", "clock_checked"}:

            def tell(*arguments: Any) -> None:
                assert not self._left, f"{self._left} before {name}"
                self._left = {"next_action", "next_event"}
                self.inputs += 1
                member(*arguments)

            return tell
        if name in {"next_action", "next_event"}:

            def ask() -> Any:
                answer = member()
                if answer is None:
                    self._left.discard(name)
                else:
                    self._left.add(name)
                return answer

            return ask
        return member


def test_a_driver_looks_after_the_session_before_it_tells_it_more() -> None:
    market = Market(ExchangeRules(lifetime=100.0), link=Link(jitter=0.1, chunking=pieces))
    network = market.network
    session = Session(
        lambda _now, skew: network.new_exchange_connection(ExchangeConfig(HOST), skew=skew),
        now=network.now,
        random=network.random.random,
        config=SessionConfig(rotate_after=80.0, rotate_spread=10.0),
    )
    pedantic = Pedantic(session)
    driver = network.drive_session(pedantic)  # type: ignore[arg-type]
    session.subscribe(["btcusd"], now=network.now)
    for second in range(1_000):
        network.at(float(second), lambda: market.exchange.publish("btcusd", event(1)))
    network.run_for(1_000.0)
    assert pedantic.inputs > 900
    assert driver.delivered > 900
