"""Rotation: a new connection takes over from the old one; each event once, in order, whichever it came by."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etorox_proto import (
    ConnectionFailed,
    ExchangeState,
    Gap,
    HandoverUnproven,
    Limits,
    Reconnecting,
    SessionState,
    SetupRefused,
    TimedOut,
)
from session.bench import START, Bench, Line, created

DAY = 86_400.0


def rotating(*channels: str, **options: Any) -> tuple[Bench, Line, Line]:
    """A session that has just made its second connection ready; old and new line."""
    config = {name: options.pop(name) for name in ("overlap", "handover_limit", "check_clock") if name in options}
    bench = Bench(rotate_after=1_000.0, rotate_spread=0.0, **config)
    for channel in channels or ("btcusd",):
        bench.subscribe(channel, **options)
    bench.line.ready()
    bench.told()
    bench.next_attempt()
    old, new = bench.lines
    assert bench.now == START + 1_000.0
    bench.told()
    return bench, old, new.ready()


class TestWhen:
    def test_a_connection_is_replaced_before_the_exchange_cuts_it(self) -> None:
        for random in (0.0, 0.5, 0.999):
            bench = Bench(random=itertools.repeat(random).__next__)
            bench.line.ready()
            bench.next_attempt()
            assert bench.now - START == pytest.approx(23 * 3600 - random * 1800)
            assert bench.session.state is SessionState.READY

    def test_it_can_be_switched_off(self) -> None:
        bench = Bench(rotate_after=float("inf"))
        bench.line.ready()
        bench.wait(3 * DAY)
        assert len(bench.lines) == 1

    def test_a_short_life_is_spread_over_half_of_it_at_most(self) -> None:
        bench = Bench(rotate_after=10.0, random=lambda: 0.999)
        bench.line.ready()
        bench.next_attempt()
        assert bench.now - START == pytest.approx(5.0, abs=0.01)

    def test_without_subscriptions_the_new_one_takes_over_at_once(self) -> None:
        bench = Bench(rotate_after=10.0, rotate_spread=0.0)
        bench.line.ready()
        for day in range(1, 5):
            bench.next_attempt()
            bench.line.ready()
            assert bench.session.rotations == day
            assert bench.session.connection is bench.line.connection
        assert bench.told() == ["ready"]


class TestHandingOver:
    def test_the_old_one_leads_until_an_event_is_recognised_on_the_new_one(self) -> None:
        bench, old, new = rotating()
        old.bring(1, 2, 3)
        assert bench.told() == [1, 2, 3]
        new.bring(3)
        assert bench.session.connection is new.connection
        new.bring(4)
        old.bring(4, 5)
        new.bring(5)
        assert bench.told() == [4, 5]
        assert (bench.session.gaps, bench.session.rotations) == (0, 1)

    def test_a_new_one_that_is_ahead_waits_for_the_old_one(self) -> None:
        bench, old, new = rotating()
        new.bring(1, 2, 3, 4)
        assert bench.told() == []
        old.bring(1)
        assert bench.told() == [1, 2, 3, 4]
        new.bring(5)
        assert bench.told() == [5]

    def test_a_new_one_that_is_behind_repeats_nothing(self) -> None:
        bench, old, new = rotating()
        old.bring(1, 2, 3, 4)
        new.bring(2)
        assert bench.session.connection is new.connection
        new.bring(3, 4, 5)
        assert bench.told() == [1, 2, 3, 4, 5]

    def test_two_silent_ones_are_equal(self) -> None:
        bench, _old, new = rotating(overlap=30.0)
        bench.wait(29.0)
        assert bench.session.rotations == 0
        bench.wait(1.0)
        assert bench.session.rotations == 1
        new.bring(1)
        assert bench.told() == [1]

    def test_each_subscription_is_handed_over_by_itself(self) -> None:
        bench, old, new = rotating("btcusd", "ethusd")
        old.bring(1)
        new.bring(1)
        assert bench.session.rotations == 0
        new.bring(2)
        old.bring(2)
        old.bring(11, 12, channel="ethusd")
        assert bench.told() == [1, 2, 11, 12]
        new.bring(12, channel="ethusd")
        assert bench.session.rotations == 1
        new.bring(13, channel="ethusd")
        assert bench.told() == [13]

    def test_the_old_one_gets_a_goodbye(self) -> None:
        bench, old, new = rotating()
        old.bring(1)
        old.said()
        new.bring(1)
        assert {"type": 7} in old.said()
        bench.wait(6.0)
        assert old.is_over
        assert bench.session.state is SessionState.READY

    def test_what_is_wanted_during_the_overlap_is_asked_for_on_the_new_one(self) -> None:
        bench, old, new = rotating()
        bench.subscribe("ethusd")
        new.bring(1, channel="ethusd")
        old.listen()
        assert "ethusd" not in old.streams
        old.bring(2)
        new.bring(2)
        assert bench.told() == [1, 2]
        assert bench.session.rotations == 1

    def test_what_is_wanted_no_longer_does_not_hold_it_up(self) -> None:
        bench, _old, _new = rotating()
        bench.session.unsubscribe(bench.session.subscriptions[0], now=bench.now)
        bench.settle()
        assert bench.session.rotations == 1

    def test_the_next_rotation_is_counted_from_the_new_connection(self) -> None:
        bench, old, new = rotating()
        old.bring(1)
        new.bring(1)
        began = bench.now
        bench.next_attempt()
        assert bench.now == began + 1_000.0


class TestRows:
    FIELDS = ("name", "price")

    def test_a_row_that_could_be_two_is_not_trusted(self) -> None:
        bench, old, new = rotating(fields=self.FIELDS)
        same, other = ["a", 1], ["b", 2]
        old.bring(same, same, other)
        new.bring(same, other)
        bench.wait(4.0)
        assert bench.session.rotations == 0
        bench.wait(2.0)
        assert bench.session.rotations == 1
        new.bring(same)
        assert [row[0] for row in bench.told()] == ["a", "a", "b", "a"]

    def test_rows_that_are_all_alike_are_taken_over_with_a_gap_and_never_twice(self) -> None:
        bench, old, new = rotating(fields=self.FIELDS, overlap=20.0)
        old.bring(*[["a", 1]] * 5)
        new.bring(*[["a", 1]] * 3)
        bench.wait(25.0)
        assert bench.session.rotations == 1
        assert len(bench.told()) == 5
        new.bring(["a", 1], ["a", 1], ["b", 1])
        gap, row = bench.events
        assert isinstance(gap, Gap)
        assert isinstance(gap.cause, HandoverUnproven)
        assert str(gap.cause) == "the events of the old and the new connection could not be aligned"
        assert row.event.name == "b"

    def test_a_place_that_the_old_one_refutes_later_is_given_up(self) -> None:
        bench, old, new = rotating(fields=self.FIELDS, overlap=20.0)
        old.bring(["a", 1], ["b", 1])
        new.bring(["b", 1], ["c", 1])
        old.bring(["d", 1])
        bench.wait(10.0)
        assert bench.session.rotations == 0, "it was not b and c that came there"
        bench.wait(15.0)
        assert bench.session.rotations == 1
        told = [each if each == "gap" else each[0] for each in bench.told()]
        assert told == ["a", "b", "d", "gap", "b", "c"]

    def test_rows_match_up_to_five_seconds_apart(self) -> None:
        for seconds, is_proven in ((5.0, True), (5.5, False)):
            bench, old, new = rotating(fields=self.FIELDS, overlap=20.0)
            old.bring(["a", 1])
            bench.wait(seconds)
            new.bring(["a", 1], ["b", 1])
            old.bring(["b", 1])
            bench.wait(25.0)
            new.bring(["c", 1])
            assert bench.session.rotations == 1
            assert bench.session.gaps == (0 if is_proven else 1)

    def test_a_run_of_rows_settles_what_one_row_does_not(self) -> None:
        bench, old, new = rotating(fields=self.FIELDS)
        rows = [[name, 1] for name in "abcabcabdab"]
        old.bring(*rows)
        new.bring(*rows[3:], ["z", 1])
        bench.wait(1.0)
        old.bring(["z", 1])
        bench.wait(5.0)
        assert bench.session.rotations == 1
        assert [row[0] for row in bench.told()] == [*"abcabcabdabz"]

    def test_rows_of_an_old_one_that_was_late_and_died_are_not_repeated(self) -> None:
        bench, old, new = rotating(fields=self.FIELDS)
        new.bring(["a", 1], ["b", 1], ["c", 1])
        bench.wait(7.0)
        old.bring(["a", 1], ["b", 1])
        old.hang_up()
        told = [event[0] if isinstance(event, list) else event for event in bench.told()]
        assert told == ["a", "b", "gap", "c"]


class TestFailures:
    def test_an_attempt_that_fails_leaves_the_old_one_serving_and_is_made_again(self) -> None:
        bench = Bench(rotate_after=1_000.0, rotate_spread=0.0)
        bench.subscribe()
        bench.line.ready()
        bench.next_attempt()
        old = bench.lines[0]
        bench.told()
        bench.line.hang_up()
        assert bench.told() == ["reconnecting"]
        assert bench.session.state is SessionState.READY
        old.bring(1)
        bench.next_attempt()
        bench.line.ready()
        old.bring(2)
        bench.line.bring(2, 3)
        assert bench.told() == [1, 2, 3]
        assert bench.session.rotations == 1

    def test_a_new_one_that_brings_nothing_does_not_take_over(self) -> None:
        bench, old, new = rotating(overlap=10.0)
        bench.wait(6.0)
        old.bring(1)
        bench.wait(9.5)
        assert len(bench.events) == 1, "it may be late"
        bench.wait(0.5)
        (_, failed) = bench.events
        assert isinstance(failed, Reconnecting)
        assert isinstance(failed.error, TimedOut)
        assert (failed.error.timer, failed.error.seconds) == ("overlap", 10.0)
        assert str(failed.error) == "the new connection did not bring what the old one brought within 10 s"
        assert bench.session.connection is old.connection
        assert {"type": 7} in new.said()
        old.bring(2)
        assert bench.told() == [1, "reconnecting", 2]
        assert bench.session.gaps == 0

    def test_what_a_new_one_led_that_dies_is_asked_for_anew_on_the_old_one(self) -> None:
        bench, old, new = rotating("btcusd", "ethusd")
        old.bring(1)
        new.bring(1, 2, 3)
        assert bench.told() == [1, 2, 3]
        stream = old.streams["btcusd"]
        new.hang_up()
        old.listen()
        assert old.cancelled == ["btcusd"]
        # What the old one still brings of the stream that was given up would be a repetition.
        old.say({"type": 2, "invocationId": stream, "item": created(3)})
        bench.wait(0.001)
        old.bring(5)
        assert bench.told() == ["reconnecting", "gap", 5]
        old.bring(11, channel="ethusd")
        assert bench.told() == [11]
        assert bench.session.connection is old.connection
        assert bench.session.gaps == 1

    def test_final_errors_of_an_attempt_leave_the_old_one_alone(self) -> None:
        bench = Bench(rotate_after=1_000.0, rotate_spread=0.0)
        bench.subscribe()
        bench.line.ready()
        bench.next_attempt()
        old = bench.lines[0]
        bench.told()
        bench.line.refuse_setup()
        (failed,) = bench.events
        assert isinstance(failed, Reconnecting)
        assert isinstance(failed.error, SetupRefused)
        assert failed.delay == float("inf")
        old.bring(1)
        bench.wait(100_000.0)
        assert len(bench.lines) == 2
        old.hang_up()
        bench.next_attempt()
        bench.line.refuse_setup()
        assert bench.session.state is SessionState.CLOSED

    def test_an_old_one_that_dies_while_the_new_one_is_made(self) -> None:
        bench = Bench(rotate_after=1_000.0, rotate_spread=0.0)
        bench.subscribe()
        bench.line.ready().bring(1)
        bench.next_attempt()
        bench.lines[0].hang_up()
        assert bench.session.state is SessionState.CONNECTING
        (told,) = [event for event in bench.events if isinstance(event, Reconnecting)]
        assert told.delay == 0.0, "an attempt has begun already"
        bench.line.ready().bring(2)
        assert bench.told() == ["ready", 1, "reconnecting", "ready", "gap", 2]
        assert len(bench.lines) == 2

    def test_an_old_one_that_dies_in_the_overlap_leaves_no_gap_where_the_streams_join(self) -> None:
        bench, old, new = rotating()
        old.bring(1, 2)
        old.hang_up()
        assert bench.session.connection is new.connection
        new.bring(2, 3)
        assert bench.told() == [1, 2, 3]
        assert bench.session.rotations == 1

    def test_and_a_gap_where_they_do_not(self) -> None:
        bench, old, new = rotating()
        old.bring(1)
        old.hang_up()
        new.bring(3)
        (_, gap, _) = bench.events
        assert isinstance(gap, Gap)
        assert isinstance(gap.cause, ConnectionFailed)
        assert bench.told() == [1, "gap", 3]

    @pytest.mark.parametrize("error", [None, "an error occurred on the server"])
    def test_an_old_stream_that_is_broken_off_in_the_overlap_leaves_the_new_one_to_go_on(
        self, error: str | None
    ) -> None:
        bench, old, new = rotating()
        old.bring(1, 2)
        if error is None:
            old.finish()
        else:
            old.refuse(error)
        new.bring(2, 3)
        bench.wait(0.001)
        assert bench.told() == [1, 2, 3]
        assert bench.session.connection is new.connection
        assert bench.session.rotations == 1
        new.bring(4)
        assert bench.told() == [4]

    def test_and_where_both_die_before_they_are_aligned(self) -> None:
        bench, old, new = rotating()
        old.bring(1)
        old.hang_up()
        new.hang_up()
        bench.next_attempt()
        bench.line.ready().bring(3)
        assert bench.told() == [1, "reconnecting", "ready", "gap", 3]

    def test_events_that_waited_are_delivered_when_the_old_one_dies(self) -> None:
        bench, old, new = rotating()
        old.bring(1)
        new.bring(3, 4)
        old.hang_up()
        assert bench.told() == [1, "gap", 3, 4]

    def test_a_follower_that_stayed_silent_until_the_next_rotation_leaves_a_gap(self) -> None:
        bench, old, new = rotating()
        old.hang_up()
        bench.next_attempt()
        bench.line.ready()
        bench.line.bring(1)
        assert bench.told() == ["gap", 1]
        assert not new.is_over or bench.session.rotations == 2

    def test_too_much_that_waits_is_taken_over_with_a_gap(self) -> None:
        bench, old, new = rotating(handover_limit=5)
        old.bring(1)
        new.bring(*range(11, 16))
        assert bench.told() == [1, "gap", 11, 12, 13, 14, 15]

    def test_an_old_one_that_goes_on_without_the_new_one_beyond_the_limit(self) -> None:
        bench, old, new = rotating(handover_limit=5)
        bench.wait(6.0)
        old.bring(*range(5))
        bench.wait(1.0)
        assert bench.told() == [0, 1, 2, 3, 4, "reconnecting"]
        bench.wait(6.0)
        assert new.is_over

    def test_a_connection_closed_by_somebody_else_is_made_again(self) -> None:
        bench = Bench()
        bench.line.ready()
        bench.line.connection.close(wait=False, now=bench.now)
        bench.settle()
        assert bench.told() == ["ready", "reconnecting"]


class TestBreakBeforeMake:
    def test_a_refused_second_subscription_is_asked_for_after_the_first_is_given_up(self) -> None:
        bench, old, new = rotating()
        old.bring(1)
        new.refuse()
        old.listen()
        assert old.cancelled == ["btcusd"]
        bench.wait(0.001)
        new.bring(2)
        assert bench.told() == [1, "gap", 2]
        assert bench.session.rotations == 1

    def test_a_new_connection_that_holds_less_gives_nothing_twice(self) -> None:
        bench = Bench(rotate_after=1_000.0, rotate_spread=0.0, limits=[Limits(), Limits(pending_calls=1)])
        bench.subscribe()
        bench.subscribe("ethusd")
        bench.line.ready()
        bench.next_attempt()
        old, new = bench.lines
        new.ready()
        old.listen()
        assert old.cancelled == ["ethusd"]
        old.bring(1)
        new.bring(1, 2)
        assert bench.told() == ["ready", 1, 2]
        assert bench.session.rotations == 1

    def test_a_follower_that_is_refused_when_it_is_alone_is_asked_for_anew(self) -> None:
        bench, old, new = rotating()
        old.bring(1)
        old.hang_up()
        new.refuse()
        bench.wait(0.001)
        new.bring(2)
        assert bench.told() == [1, "gap", 2]

    def test_it_is_asked_for_until_the_exchange_has_noticed(self) -> None:
        bench, old, new = rotating()
        old.bring(1)
        for _ in range(5):
            new.refuse()
            bench.wait(5.0)
        new.bring(2)
        assert bench.told() == [1, "gap", 2]

    def test_patience_begins_anew_with_each_rotation_even_if_nothing_came_between(self) -> None:
        bench, _old, new = rotating()
        new.refuse()
        bench.next_attempt()
        third = bench.line.ready()
        third.refuse()
        bench.wait(0.001)
        third.refuse()
        assert len(bench.session.subscriptions) == 1
        bench.wait(1.0)
        third.bring(1)
        assert bench.told()[-2:] == ["gap", 1]

    def test_a_second_subscription_that_ends_in_good_order_is_refused_too(self) -> None:
        bench, old, new = rotating()
        old.bring(1)
        new.finish()
        bench.wait(0.001)
        new.bring(2)
        assert bench.told() == [1, "gap", 2]


@given(
    length=st.integers(1, 30),
    joined_at=st.integers(0, 10),
    order=st.lists(st.booleans(), max_size=80),
    dies_at=st.one_of(st.none(), st.integers(0, 30)),
)
def test_each_event_once_in_order_however_the_two_streams_interleave(
    length: int, joined_at: int, order: list[bool], dies_at: int | None
) -> None:
    """The old stream brings everything from the beginning, the new one from some event on; either may be ahead."""
    bench, old, new = rotating()
    events = list(range(length))
    to_come = {False: list(events), True: events[min(joined_at, length) :]}
    for by_new in [*order, *([False, True] * length)]:
        if dies_at is not None and length - len(to_come[False]) >= dies_at and not old.is_over:
            old.hang_up()
        line = new if by_new else old
        if to_come[by_new] and line.connection.state is ExchangeState.READY:
            line.bring(to_come[by_new].pop(0))
    bench.wait(40.0)
    told = [event for event in bench.told() if event != "reconnecting"]
    numbers = [event for event in told if isinstance(event, int)]
    assert numbers == sorted(set(numbers)), "each once, in order"
    if dies_at is None:
        assert told == events
    for before, after in itertools.pairwise([-1, *told]):
        if isinstance(before, int) and isinstance(after, int):
            assert after == before + 1, "nothing is missing without a gap"
    # What the new connection brings is delivered to its end, whatever became of the old one.
    assert not to_come[True]
    if joined_at < length:
        assert told[-1] == length - 1


@given(
    names=st.text("abc", min_size=1, max_size=40),
    joined_at=st.integers(0, 10),
    order=st.lists(st.booleans(), max_size=80),
)
def test_rows_that_repeat_are_lost_behind_a_gap_at_worst_and_never_delivered_twice(
    names: str, joined_at: int, order: list[bool]
) -> None:
    bench, old, new = rotating(fields=["name"])
    to_come = {False: list(names), True: list(names[joined_at:])}
    for by_new in [*order, *([False, True] * len(names))]:
        line = new if by_new else old
        if to_come[by_new] and line.connection.state is ExchangeState.READY:
            line.bring([to_come[by_new].pop(0)])
    bench.wait(40.0)
    assert bench.session.rotations == 1
    bench.line.bring(["z"])
    told = [event[0] if isinstance(event, list) else event for event in bench.told()]
    assert told[-1] == "z"
    if "gap" not in told:
        assert "".join(told) == names + "z"
    else:
        at = told.index("gap")
        assert names.startswith("".join(told[:at]))
        assert (names + "z").endswith("".join(told[at + 1 :]))
        assert len(told) - 1 <= len(names) + 1
