"""What a session makes of events of several subscriptions that come together is what it makes of them one by one."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from etorox_proto import EventReceived, EventsByTurns
from machines import take
from session.bench import Bench

CHANNELS = ("btcusd", "ethusd", "xrpusd")

orders = st.lists(st.sampled_from(CHANNELS), min_size=3, max_size=12)
steps = st.tuples(
    st.one_of(
        st.sampled_from(["next attempt", "next attempt", "nothing", "hang up the old", "hang up"]),
        st.tuples(st.just("wait"), st.sampled_from([6.0, 40.0, 40.0])),
        st.tuples(st.just("break off"), st.sampled_from(CHANNELS)),
        st.tuples(st.just("unsubscribe"), st.sampled_from(CHANNELS)),
    ),
    st.lists(st.tuples(st.integers(-2, -1), orders), max_size=3),
)


def act(bench: Bench, step: Any) -> None:
    """Let something happen, where it can."""
    live = [line for line in bench.lines if not line.is_over]
    match step:
        case "next attempt" if bench.session.deadline < math.inf:
            bench.next_attempt()
            bench.line.ready()
        case "hang up" | "hang up the old" if live:
            live[-1 if step == "hang up" else 0].hang_up()
        case "wait", float(seconds):
            bench.wait(seconds)
        case "break off", str(channel) if live:
            live[-1].listen()
            if channel in live[-1].streams:
                live[-1].refuse(channel=channel)
        case "unsubscribe", str(channel):
            for subscription in bench.session.subscriptions:
                if subscription.channels == (channel,):
                    bench.session.unsubscribe(subscription, now=bench.now)
                    bench.settle()
        case _:
            pass  # not now


def told(script: list[Any], *, in_batches: bool) -> list[Any]:
    """What the application hears; numbers go up, and each connection begins two events behind the one before."""
    bench = Bench(in_batches=in_batches, rotate_after=100.0, rotate_spread=0.0, stale_after=30.0)
    for channel in CHANNELS:
        bench.subscribe(channel)
    bench.line.ready()
    sent: list[Counter[str]] = [Counter()]  # how many events of each channel each connection has brought
    for step, brought in script:
        act(bench, step)
        for which, order in brought:
            sent += [Counter({each: max(0, sent[-1][each] - 2) for each in CHANNELS})] * (len(bench.lines) - len(sent))
            index = max(len(bench.lines) + which, 0)
            line, counts = bench.lines[index], sent[index].copy()
            line.listen()
            if not line.is_over and line.streams:
                items = []
                for channel in order:
                    if channel in line.streams:
                        counts[channel] += 1
                        items.append((channel, counts[channel]))
                line.bring_by_turns(*items)
                sent[index] = counts
    return [*map(repr, bench.events), bench.session.gaps, bench.session.rotations, bench.session.state]


@settings(max_examples=150)
@given(st.lists(steps, min_size=3, max_size=12))
@example(
    [
        ("nothing", [(-1, [*CHANNELS])]),
        (("wait", 40.0), []),
        (("wait", 40.0), [(-1, [*CHANNELS])]),
        (("wait", 40.0), []),
    ]
)
def test_a_session_is_told_in_batches_or_one_by_one(script: list[Any]) -> None:
    assert told(script, in_batches=True) == told(script, in_batches=False)


def ready_bench() -> Bench:
    bench = Bench(in_batches=True)
    for channel in CHANNELS:
        bench.subscribe(channel)
    bench.line.ready()
    bench.line.bring_by_turns(*zip(CHANNELS, (1, 2, 3), strict=True))
    bench.told()
    return bench


def test_a_session_passes_on_together_what_came_together() -> None:
    bench = ready_bench()
    line, session = bench.line, bench.session
    bench.settle = lambda: None  # type: ignore[method-assign] # what the session says is looked at here
    line.bring_by_turns(*zip(CHANNELS * 10, range(10, 40), strict=True))
    (batch,) = iter(session.next_batch, None)
    assert isinstance(batch, EventsByTurns)
    assert [each.channels[0] for each in batch.subscriptions] == [*CHANNELS] * 10
    assert [event.id for event in batch.events] == [str(number) for number in range(10, 40)]
    assert [part.events for part in batch.apart()] == [[event] for event in batch.events]


def test_a_batch_of_turns_can_be_begun_one_by_one() -> None:
    bench = ready_bench()
    line, session = bench.line, bench.session
    bench.settle = lambda: None  # type: ignore[method-assign] # as above
    line.bring_by_turns(*zip(CHANNELS * 10, range(10, 40), strict=True))
    first = session.next_event()
    assert isinstance(first, EventReceived)
    assert [event.event.id for event in take(session)] == [str(number) for number in range(11, 40)]


def test_who_is_unsubscribed_is_not_told_of_what_came_together() -> None:
    bench = ready_bench()
    bench.session.unsubscribe(bench.session.subscriptions[0], now=bench.now)
    assert bench.session.next_event() is not None
    bench.line.bring_by_turns(*zip(CHANNELS * 10, range(10, 40), strict=True))
    assert [number % 3 for number in bench.told()] == [2, 0] * 10
