"""Every fault, seen by what it does to real machines: to the exchange's client and to a plain SignalR client."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from etorox_proto import (
    Closed,
    ConnectionLost,
    Credentials,
    EventReceived,
    ExchangeState,
    LocalProtocolError,
    NegotiationFailed,
    RemoteProtocolError,
    ServerClosed,
    TimedOut,
    load_private_key,
)
from etorox_proto.signalr import State
from etorox_proto.simulator import SimulatedMarket, Simulator
from etorox_proto.testing import (
    Driver,
    ExchangeRules,
    FaultKind,
    Link,
    RandomFaults,
    VirtualDialFailed,
    VirtualNetwork,
    bytewise,
    pieces,
    whole,
)
from machines import names, picture
from testing.markets import ALICE, HOST, Market, Member, event
from testing.rawends import Line, RawClient, RawHost

KEYS = Path(__file__).parents[1] / "data" / "keys"


class Scene:
    """A market and one client of either kind, at its beginning."""

    def __init__(self, kind: str, **world: Any) -> None:
        self.kind = kind
        self.market = Market(ExchangeRules(setup_timeout=1e6), **world)
        self.network = self.market.network
        self.driver: Driver[Any]
        self._is_ready: Callable[[], bool]

    def begin(self) -> None:
        if self.kind == "exchange":
            member = self.market.begin()
            self.driver = member.driver
            self._is_ready = lambda: member.connection.state is ExchangeState.READY
        else:
            hub, self.driver = self.market.hub()
            self._is_ready = lambda: hub.state is State.CONNECTED

    def join(self) -> None:
        self.begin()
        self.network.wait_for(self._is_ready)
        self.network.run_for(2.0)

    def seconds_until_closed(self) -> float:
        began = self.network.now
        self.network.wait_for(lambda: self.driver.is_closed, within=1_000.0)
        assert isinstance(self.driver.events[-1], Closed)
        return self.network.now - began


@pytest.fixture(params=["exchange", "hub"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


# ------------------------------------------------------------------------------------------ on an open stream


def test_a_reset_is_a_lost_connection_at_once(scene: Scene) -> None:
    scene.join()
    scene.driver.stream.reset()  # type: ignore[union-attr]
    assert scene.seconds_until_closed() == 0.0
    assert isinstance(scene.driver.error, ConnectionLost)
    scene.network.run_for(0.0)
    assert scene.market.exchange.connections == []


@pytest.mark.parametrize("toward", ["client", "server", "both"])
def test_an_end_is_a_lost_connection_in_whichever_direction(scene: Scene, toward: Any) -> None:
    scene.join()
    scene.driver.stream.end(toward)  # type: ignore[union-attr]
    assert scene.seconds_until_closed() <= 0.02
    assert isinstance(scene.driver.error, ConnectionLost)
    scene.network.run_for(1.0)
    assert scene.market.exchange.connections == []


def test_a_black_hole_is_silence_and_noticed_by_both(scene: Scene) -> None:
    scene.join()
    scene.driver.stream.black_hole()  # type: ignore[union-attr]
    assert scene.seconds_until_closed() == pytest.approx(30.0, abs=5.0)
    assert isinstance(scene.driver.error, TimedOut)
    assert scene.driver.error.timer == "silence"
    scene.network.run_for(35.0)
    assert scene.market.exchange.connections == []
    assert scene.network.streams == []


def test_a_black_hole_that_passes_in_time_hurts_nobody(scene: Scene) -> None:
    scene.join()
    scene.driver.stream.black_hole(seconds=10.0)  # type: ignore[union-attr]
    scene.network.run_for(600.0)
    assert not scene.driver.is_closed


@pytest.mark.parametrize("seed", range(8))
def test_corrupted_bytes_never_pass_unnoticed_where_structure_is_hit(seed: int) -> None:
    market = Market(seed=seed)
    member = market.join()
    member.subscribe("btcusd")
    assert member.driver.stream is not None
    member.driver.stream.corrupt("client", count=20)
    market.exchange.publish("btcusd", event(1))
    market.network.run_for(60.0)
    assert isinstance(member.driver.error, RemoteProtocolError | TimedOut | ConnectionLost)
    assert member.received() == []


def test_corruption_hits_the_server_through_the_clients_masks(scene: Scene) -> None:
    scene.join()
    scene.driver.stream.corrupt("server", count=1_000)  # type: ignore[union-attr]
    assert scene.seconds_until_closed() < 60.0
    assert scene.driver.error is not None
    assert scene.market.exchange.connections == []


def test_a_client_that_does_not_read_survives_if_it_says_so(scene: Scene) -> None:
    scene.join()
    scene.driver.pause_reading()
    scene.network.run_for(600.0)
    assert not scene.driver.is_closed, "its pings went on, and it holds silence against nobody"
    scene.driver.resume_reading()
    scene.network.run_for(600.0)
    assert not scene.driver.is_closed


def test_a_stream_that_is_not_read_unbeknown_to_the_machine_times_out(scene: Scene) -> None:
    scene.join()
    scene.driver.stream.limit_reading("client", 0)  # type: ignore[union-attr]
    scene.seconds_until_closed()
    assert isinstance(scene.driver.error, TimedOut)


@pytest.mark.parametrize("how", ["reset", "end", "goodbye"])
def test_a_restart_ends_every_connection(scene: Scene, how: Any) -> None:
    scene.join()
    scene.market.listener.restart(30.0, how=how)
    scene.seconds_until_closed()
    assert isinstance(scene.driver.error, ServerClosed if how == "goodbye" else ConnectionLost)
    assert scene.driver.error.may_retry
    scene.begin()
    scene.seconds_until_closed()
    assert isinstance(scene.driver.error, VirtualDialFailed)
    scene.network.run_until(scene.network.now + 30.0)
    scene.join()


# ------------------------------------------------------------------------------------------------ while it opens


def test_a_refused_dial_is_said_at_once(scene: Scene) -> None:
    scene.market.listener.refuse_dials()
    scene.begin()
    assert scene.seconds_until_closed() == pytest.approx(0.04)
    assert isinstance(scene.driver.error, VirtualDialFailed)
    assert scene.driver.error.may_retry
    assert isinstance(scene.driver.error.__cause__, ConnectionLost), "what the machine made of it"


def test_a_dial_without_an_answer_times_out(scene: Scene) -> None:
    scene.market.listener.ignore_dials()
    scene.begin()
    assert scene.seconds_until_closed() == 30.0
    assert isinstance(scene.driver.error, TimedOut)
    assert "no byte stream to https://ex.test was opened" in str(scene.driver.error)


def test_a_second_dial_may_fail_after_the_first_has_not(scene: Scene) -> None:
    scene.begin()
    scene.network.wait_for(lambda: scene.driver.dials == 2)
    scene.market.listener.fail_tls()
    scene.seconds_until_closed()
    assert isinstance(scene.driver.error, VirtualDialFailed)
    assert (scene.driver.error.reason, scene.driver.error.may_retry) == ("tls", False)
    assert scene.driver.dials == 2


def test_a_stream_that_ends_in_negotiation_is_a_failed_negotiation(scene: Scene) -> None:
    scene.begin()
    scene.network.wait_for(lambda: scene.driver.stream is not None)
    scene.driver.stream.end()  # type: ignore[union-attr]
    scene.seconds_until_closed()
    assert isinstance(scene.driver.error, NegotiationFailed | ConnectionLost)


@pytest.mark.parametrize("kind", ["exchange", "hub"])
def test_a_line_that_is_too_slow_times_out(kind: str) -> None:
    scene = Scene(kind, link=Link(bandwidth=25.0))
    scene.begin()
    assert scene.seconds_until_closed() == 30.0
    assert isinstance(scene.driver.error, TimedOut)
    assert scene.driver.error.timer == "opening"


# ------------------------------------------------------------------------------------------- the same everywhere


@pytest.mark.parametrize(
    "link",
    [
        Link(latency=0.0),
        Link(),
        Link(latency=1.0),
        Link(chunking=bytewise),
        Link(chunking=pieces),
        Link(jitter=2.0, chunking=pieces),
        Link(bandwidth=500.0, chunking=bytewise),
        Link(window=10),
        Link(latency=0.0, window=1, chunking=whole),
    ],
    ids=str,
)
def test_the_same_is_received_over_every_link(link: Link) -> None:
    market = Market(link=link)
    member = market.join()
    subscription = member.subscribe("btcusd")
    market.network.run_for(10.0)
    for number in range(20):
        market.network.at(market.network.now + number, lambda: market.exchange.publish("btcusd", event(5)))
    market.network.run_for(120.0)
    assert member.received(subscription) == [event(5)] * 20
    assert not member.driver.is_closed


# ------------------------------------------------------------------------------------------- other hosts


def test_the_embedded_exchange_is_a_host_as_well() -> None:
    key = load_private_key(KEYS / "rsa1024-pkcs8.pem")
    network = VirtualNetwork()
    simulator = Simulator(
        SimulatedMarket(seed=1, rate=5.0, now=network.now, unix_time=network.unix_time),
        accounts={ALICE.api_key: key.public_key},
        names=names(),
        now=network.now,
        unix_time=network.unix_time,
    )
    listener = network.listen(simulator, HOST)
    market = Market()
    market.network, market.listener = network, listener
    member = market.join(Credentials(ALICE.api_key, key))
    member.subscribe("btcusd", "ethusd")
    network.run_for(60.0)
    assert len(member.received()) > 50
    listener.restart(10.0, how="goodbye")
    network.run_for(5.0)
    assert isinstance(member.driver.error, ServerClosed)


# ------------------------------------------------------------------------------------------- random faults


REPEATABLE: list[FaultKind] = [kind for kind in get_args(FaultKind) if kind != "corrupt"]


def storm(seed: int, faults_seed: int) -> list[Any]:
    """Clients that come back whenever they are thrown out, in two hours of random faults; everything that happened."""
    market = Market(ExchangeRules(lifetime=1_000.0), seed=seed, link=Link(jitter=1.0, chunking=pieces))
    faults = RandomFaults(market.network, [market.listener], rate=1 / 60, kinds=REPEATABLE, seed=faults_seed)
    log: list[Any] = []
    members: list[Member] = []

    def come() -> None:
        if members and members[-1].driver.error is not None:
            log.append((market.network.now, picture(members[-1].driver.error)))
        members.append(market.begin())

    def look_after() -> None:
        if not members or members[-1].driver.is_closed:
            come()
        elif members[-1].connection.state is ExchangeState.READY and not members[-1].connection.subscriptions:
            members[-1].connection.subscribe(["btcusd"], now=market.network.now)
        market.exchange.publish("btcusd", event(1))

    for second in range(0, 7_200, 10):
        market.network.at(float(second), look_after)
    market.network.run_until(7_200.0)
    log += [(time, kind) for time, kind, _ in faults.log]
    log.append(picture(vars(market.exchange.counts)))
    log.append(sum(isinstance(each, EventReceived) for member in members for each in member.driver.events))
    assert set(faults.counts) == set(REPEATABLE)
    assert len(market.network.streams) < 10
    return log


def test_the_same_seeds_give_the_same_hours() -> None:
    first = storm(1, 1)
    assert first == storm(1, 1)
    assert first != storm(1, 2)
    assert first != storm(2, 1)
    assert len(first) > 100


def faults_of(kind: FaultKind, seed: int = 0) -> Iterator[tuple[RandomFaults, Line]]:
    while True:
        line = Line(seed=seed)
        yield RandomFaults(line.network, [line.listener], rate=1.0, kinds=[kind], spell=5.0, seed=seed), line
        seed += 1


@pytest.mark.parametrize("kind", get_args(FaultKind))
def test_each_kind_of_fault_happens(kind: FaultKind) -> None:
    faults, line = next(faults_of(kind))
    line.network.wait_for(lambda: faults.log)
    ((time, logged, where),) = faults.log
    assert (time, logged) == (line.network.now, kind)
    assert where == repr(line.listener if kind in {"refuse", "ignore", "tls", "restart"} else line.driver.stream)
    faults.stop()
    line.network.run_for(1_000.0)
    assert faults.counts == {kind: 1}


def test_faults_of_streams_wait_for_a_stream() -> None:
    network = VirtualNetwork()
    listener = network.listen(RawHost(), "raw.test")
    faults = RandomFaults(network, [listener], rate=1.0, kinds=["reset"])
    network.run_for(100.0)
    assert faults.log == []
    driver = network.drive(RawClient())
    network.run_for(100.0)
    assert faults.counts == {"reset": 1}
    assert driver.is_closed


def test_the_rate_of_faults_is_what_was_asked_for() -> None:
    network = VirtualNetwork()
    faults = RandomFaults(network, [network.listen(RawHost(), "raw.test")], rate=0.1, kinds=["refuse"])
    network.run_for(100_000.0)
    assert len(faults.log) == pytest.approx(10_000, rel=0.05)


@pytest.mark.parametrize("bad", [{"rate": 0.0}, {"kinds": []}, {"spell": 0.0}, {"listeners": []}, {"rate": math.nan}])
def test_faults_that_could_never_happen_are_refused(bad: dict[str, Any]) -> None:
    network = VirtualNetwork()
    settings: dict[str, Any] = {"listeners": [network.listen(RawHost(), "raw.test")], "rate": 1.0, **bad}
    with pytest.raises(LocalProtocolError, match="expected at least one listener"):
        RandomFaults(network, **settings)


# ------------------------------------------------------------------------------------------- what a day costs


def test_nothing_wakes_up_but_what_has_something_to_do() -> None:
    market = Market(ExchangeRules(lifetime=1e9))
    market.join()
    day = market.network.now + 86_400.0
    wake_ups = 0
    while market.network.now < day:
        market.network.step()
        wake_ups += 1
    # Each side pings every 15 s: a deadline here, a delivery there.
    assert wake_ups == pytest.approx(4 * 86_400 / 15, abs=20)
