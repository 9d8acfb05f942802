"""A session at its edges: what it refuses before there is a connection, and what it says of what is lost."""

from __future__ import annotations

import pytest

from etorox_proto import CallLost, ConnectionLost, LocalProtocolError, SessionConfig, SubscriptionEnded
from session.bench import Bench


def test_a_session_refuses_a_topic_twice_before_there_is_a_connection() -> None:
    bench = Bench()
    bench.subscribe("btcusd", "ethusd")
    text = r"^expected topics that are not subscribed, got ethusd \(marketData\), which is$"
    with pytest.raises(LocalProtocolError, match=text):
        bench.subscribe("ltcusd", "ethusd")
    bench.subscribe("ltcusd")


def test_what_a_session_loses_may_have_been_sent() -> None:
    bench = Bench(reconnect=False)
    bench.subscribe()
    bench.line.ready().hang_up()
    (ended,) = [event for event in bench.events if isinstance(event, SubscriptionEnded)]
    assert isinstance(ended.error, CallLost)
    assert ended.error.delivery == "maybe_sent"
    assert isinstance(ended.error.__cause__, ConnectionLost)


@pytest.mark.parametrize(
    "name", ["backoff_base", "backoff_cap", "stable_after", "overlap", "resubscribe_timeout", "rotate_after"]
)
def test_the_times_of_a_session_are_positive_numbers(name: str) -> None:
    for value in (0, -1.0, "1"):
        with pytest.raises(LocalProtocolError, match=name):
            SessionConfig(**{name: value})  # type: ignore[arg-type]


def test_time_passes_where_nothing_is_wanted_any_more() -> None:
    bench = Bench()
    subscription = bench.subscribe(stale_after=5.0)
    bench.line.ready().bring(1)
    bench.session.unsubscribe(subscription, now=bench.now)
    bench.settle()
    bench.wait(60.0)
    assert bench.told() == ["ready", 1, "ended"]
