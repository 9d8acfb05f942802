"""What `etorox simulate --chaos` does to clients: decided from a seed, and each kind on real sockets."""

from __future__ import annotations

import contextlib
import itertools
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from etorox_proto import (
    ConnectionFailed,
    ConnectionLost,
    Credentials,
    ExchangeConfig,
    Gap,
    ServerClosed,
    SessionConfig,
    TimedOut,
    load_private_key,
)
from etorox_transports.blocking import Exchange, connect
from etorox_transports.cli._chaos import Chaos, Fault, FaultKind, Valve
from etorox_transports.cli._host import SimulatorHost
from hosts import served

API_KEY = "5c9d4a52-1f0c-4d0a-9a52-0a6d2b7f2a11"
KEY = load_private_key(Path(__file__).parents[1] / "data" / "keys" / "rsa1024-pkcs8.pem")
CREDENTIALS = Credentials(API_KEY, KEY)
QUICK = SessionConfig(backoff_base=0.002, backoff_cap=0.02, attempts_per_minute=10_000)


class TestDeciding:
    def faults(self, seed: int, count: int, **options: Any) -> list[tuple[float, Fault]]:
        """What goes wrong at three streams."""
        chaos = Chaos(rate=30.0, seed=seed, **options)
        happened: list[tuple[float, Fault]] = []
        now = 100.0
        while len(happened) < count:
            if (fault := chaos.next_fault([1, 2, 3], now)) is not None:
                happened.append((now, fault))
            assert chaos.next_fault([1, 2, 3], now) is None, "once each"
            now = chaos.deadline
        return happened

    def test_the_same_seed_gives_the_same_faults(self) -> None:
        assert self.faults(1, 50) == self.faults(1, 50)
        assert self.faults(1, 50) != self.faults(2, 50)

    def test_all_kinds_come_at_the_rate_that_was_asked_for(self) -> None:
        happened = self.faults(3, 600)
        assert {fault.kind for _, fault in happened} == set(FaultKind)
        assert {fault.stream for _, fault in happened} == {1, 2, 3}
        minutes = (happened[-1][0] - happened[0][0]) / 60.0
        assert 25.0 < len(happened) / minutes < 35.0

    def test_nothing_happens_at_the_beginning_or_while_nobody_is_there(self) -> None:
        said: list[str] = []
        chaos = Chaos(rate=30.0, say=said.append)
        assert chaos.next_fault([1], 0.0) is None
        for _ in range(100):
            assert chaos.next_fault([], chaos.deadline) is None
        assert not said

    def test_each_is_said(self) -> None:
        said: list[str] = []
        happened = self.faults(1, 200, say=said.append)
        assert said == [str(fault) for _, fault in happened]
        assert "reset stream 2" in said
        assert any("with allowReconnect" in text for text in said)
        assert all("{" not in text for text in said)


class TestValve:
    def test_everything_passes_until_it_is_turned_down(self) -> None:
        valve = Valve()
        assert valve.take(b"data", 1.0) == b"data"
        assert not valve.is_shut(1.0)
        assert valve.deadline == float("inf")

    def test_shut_nothing_passes_until_its_time_has_come(self) -> None:
        valve = Valve()
        valve.turn_down(0, now=1.0, until=3.0)
        assert valve.is_shut(2.9)
        assert valve.take(b"data", 2.9) == b""
        assert valve.deadline == 3.0
        valve.look(3.0)
        assert valve.take(b"data", 3.0) == b"data"
        assert valve.deadline == float("inf")

    def test_bytes_drop_at_the_rate_that_was_set(self) -> None:
        valve = Valve()
        valve.turn_down(100, now=0.0, until=10.0)
        data, now = bytes(1_000), 0.0
        while data:
            data = data[len(valve.take(data, now)) :]
            assert not valve.is_shut(now)
            now = max(valve.deadline, now + 0.001)
        assert 9.0 < now < 10.1

    def test_the_longer_trouble_stays(self) -> None:
        valve = Valve()
        valve.turn_down(0, now=0.0, until=10.0)
        valve.turn_down(50, now=0.0, until=5.0)
        assert valve.is_shut(9.0)


@contextlib.contextmanager
def serving(*kinds: FaultKind, said: list[str], **options: Any) -> Iterator[SimulatorHost]:
    """A host at which these go wrong ten times a second."""
    chaos = Chaos(rate=600.0, say=said.append, kinds=kinds)
    with served(API_KEY, KEY.public_key, rate=500.0, chaos=chaos, **options) as host:
        yield host


def exchange(host: SimulatorHost, **options: Any) -> Exchange:
    config = ExchangeConfig(f"http://127.0.0.1:{host.port}", server_timeout=1.0, opening_timeout=1.0, close_timeout=0.2)
    return connect(config, CREDENTIALS, **{"session": QUICK, "wait": False, **options})


class TestHappening:
    @pytest.mark.parametrize(
        ("kind", "error"),
        [
            (FaultKind.RESET, ConnectionLost),
            (FaultKind.HALF_CLOSE, ConnectionLost),
            (FaultKind.GOODBYE, ServerClosed),
        ],
    )
    def test_what_ends_a_stream_costs_a_gap(self, kind: FaultKind, error: type[ConnectionFailed]) -> None:
        said: list[str] = []
        with serving(kind, said=said) as host, exchange(host) as client:
            feed = client.subscribe(["btcusd", "ethusd"])
            causes = [event.cause for event in feed_until(feed, gaps=5) if isinstance(event, Gap)]
        assert error in {type(cause) for cause in causes}
        assert len(said) >= 3

    def test_a_goodbye_without_an_invitation_is_final(self) -> None:
        said: list[str] = []
        with serving(FaultKind.LAST_GOODBYE, said=said) as host, exchange(host) as client:
            feed = client.subscribe(["btcusd"])
            with pytest.raises(ConnectionFailed) as caught:
                list(feed)
        assert not caught.value.may_retry
        assert "without allowReconnect" in said[0]

    def test_a_black_hole_is_noticed_by_its_silence(self) -> None:
        said: list[str] = []
        with serving(FaultKind.BLACK_HOLE, said=said) as host, exchange(host, session=None) as client:
            with pytest.raises(TimedOut):
                list(client.subscribe(["btcusd"]))
            assert said[0].startswith("holds everything back on stream ")

    def test_slow_bytes_are_slow_and_lose_nothing(self) -> None:
        said: list[str] = []
        with serving(FaultKind.SLOW, said=said) as host, exchange(host) as client:
            client.subscribe(["btcusd"])
            events = client.events()
            while not said:
                events.next(5.0)
            assert " bytes a second through on stream " in said[0]

    def test_while_it_refuses_nobody_comes_in(self) -> None:
        said: list[str] = []
        with serving(FaultKind.REFUSE, said=said) as host:
            with exchange(host) as client:
                client.subscribe(["btcusd"])
                events = client.events()
                while not said:
                    events.next(5.0)
            with pytest.raises(ConnectionFailed), exchange(host, session=None, wait=True):
                pass

    @pytest.mark.parametrize("kind", [FaultKind.RESET, FaultKind.HALF_CLOSE, FaultKind.GOODBYE])
    def test_under_tls_too(self, kind: FaultKind) -> None:
        authority = trustme.CA()
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(server)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        with serving(kind, said=[], ssl_context=server) as host:
            config = ExchangeConfig(f"https://localhost:{host.port}", close_timeout=0.2)
            with connect(config, CREDENTIALS, session=QUICK, ssl_context=trusting, wait=False) as client:
                assert sum(isinstance(event, Gap) for event in feed_until(client.subscribe(["btcusd"]), gaps=2)) == 2


def feed_until(feed: Any, *, gaps: int) -> list[Any]:
    """What comes until there were so many gaps, and an event behind the last."""
    events: list[Any] = []
    while sum(isinstance(event, Gap) for event in events) < gaps:
        events.append(feed.next(10.0))
    return [*events, *itertools.islice(feed, 1)]
