"""A session's rules, one by one: what it does about failures, how often, and what the application is told."""

from __future__ import annotations

import math
from typing import Any

import pytest

from etorox_proto import (
    Closed,
    ConnectionClosed,
    ConnectionFailed,
    ConnectionLost,
    Gap,
    Limits,
    LocalProtocolError,
    Ready,
    Reconnecting,
    ServerClosed,
    SessionConfig,
    SessionState,
    SetupRefused,
    Stale,
    SubscriptionEnded,
    SubscriptionFailed,
)
from machines import HANDSHAKE, exchange, hub_frame
from session.bench import START, Bench


def ready_bench(**config: Any) -> Bench:
    """A session whose first connection serves one subscription."""
    bench = Bench(**config)
    bench.subscribe()
    bench.line.ready()
    assert bench.told() == ["ready"]
    return bench


class TestReconnecting:
    def test_the_first_attempt_begins_at_once(self) -> None:
        bench = Bench()
        assert len(bench.lines) == 1
        assert bench.session.state is SessionState.CONNECTING
        assert bench.session.connection is bench.line.connection

    def test_subscriptions_can_be_wanted_before_there_is_a_connection(self) -> None:
        bench = ready_bench()
        bench.line.bring(1, 2)
        assert bench.told() == [1, 2]
        assert bench.session.state is SessionState.READY

    def test_a_lost_connection_is_made_again_and_a_gap_stands_before_the_next_event(self) -> None:
        bench = ready_bench()
        bench.line.bring(1)
        bench.wait(5.0)
        bench.line.hang_up()
        assert bench.session.state is SessionState.WAITING
        assert bench.session.connection is None
        bench.wait(1.0)
        bench.line.ready()
        assert bench.told() == [1, "reconnecting", "ready"]
        bench.wait(2.0)
        bench.line.bring(7, 8)
        (gap, first, _) = bench.events
        assert isinstance(gap, Gap)
        assert isinstance(gap.cause, ConnectionLost)
        assert gap.since == START
        assert gap.lasted == pytest.approx(8.0)
        assert gap.subscription is first.subscription
        assert bench.told() == ["gap", 7, 8]
        assert bench.session.gaps == 1

    def test_an_event_names_the_same_subscription_on_every_connection(self) -> None:
        bench = Bench()
        subscription = bench.subscribe(fields=["name"])
        for _ in range(3):
            bench.line.ready().bring(["x"])
            bench.line.hang_up()
            bench.wait(1.0)
        received = [event for event in bench.events if hasattr(event, "event")]
        assert len(received) == 3
        assert {event.subscription for event in received} == {subscription}
        assert {type(event.event) for event in received} == {subscription.row_type}

    def test_what_was_never_asked_for_has_no_gap(self) -> None:
        bench = Bench()
        bench.line.hang_up()
        bench.subscribe()
        bench.wait(1.0)
        bench.line.ready().bring(1)
        assert bench.told() == ["reconnecting", "ready", 1]

    def test_two_interruptions_without_an_event_between_are_one_gap(self) -> None:
        bench = ready_bench()
        for _ in range(3):
            bench.line.hang_up()
            bench.wait(8.0)
            bench.line.ready()
        bench.line.bring(1)
        assert bench.told().count("gap") == 1

    def test_pauses_double_up_to_the_cap_and_the_ceiling_holds(self) -> None:
        bench = Bench(random=lambda: 0.999999, attempts_per_minute=1_000)
        delays = []
        for _ in range(9):
            bench.line.hang_up()
            delays.append(bench.events[-1].delay)
            bench.next_attempt()
        assert [round(delay) for delay in delays] == [1, 2, 4, 8, 16, 32, 60, 60, 60]

    def test_full_jitter_may_be_nothing_but_the_ceiling_holds(self) -> None:
        bench = Bench(random=lambda: 0.0, attempts_per_minute=5)
        began = []
        while bench.now < START + 300.0:
            began.append(bench.now)
            bench.line.ready()
            bench.line.hang_up()
            bench.next_attempt()
        assert len(began) >= 24
        for first, sixth in zip(began, began[5:], strict=False):
            assert sixth - first >= 60.0

    def test_a_stable_period_makes_the_next_failure_a_first_one(self) -> None:
        bench = Bench(random=lambda: 0.5, stable_after=60.0)
        for _ in range(4):
            bench.line.hang_up()
            bench.next_attempt()
        bench.line.ready()
        bench.subscribe()
        bench.wait(59.0)
        bench.told()
        bench.line.hang_up()
        assert bench.events[-1] == Reconnecting(bench.events[-1].error, 8.0)
        bench.next_attempt()
        bench.line.ready()
        bench.wait(61.0)
        bench.line.hang_up()
        assert bench.events[-1].delay == 0.5

    def test_a_stream_that_cannot_be_opened_is_told_in_the_adapters_words(self) -> None:
        bench = Bench()
        error = ConnectionFailed("no such host")
        bench.fail_dial(error)
        assert bench.events == [Reconnecting(error, 0.5)]
        bench.wait(1.0)
        assert len(bench.lines) == 2

    def test_a_server_that_is_down_for_an_hour_is_found_again(self) -> None:
        bench = ready_bench()
        bench.line.bring(1)
        bench.line.hang_up()
        down_until = bench.now + 3600.0
        while bench.now < down_until:
            bench.next_attempt()
            bench.fail_dial(ConnectionFailed("refused"))
        assert 60 <= bench.session.attempts <= 200
        bench.next_attempt()
        bench.line.ready().bring(2)
        assert bench.told()[-3:] == ["ready", "gap", 2]


class TestTheEnd:
    def test_our_own_close_is_never_retried(self) -> None:
        bench = ready_bench()
        bench.session.close(now=bench.now)
        bench.settle()
        assert "closing" in repr(bench.session)
        assert bench.session.deadline == math.inf
        assert bench.told() == ["ended"]
        bench.line.hang_up()
        assert bench.told() == ["closed"]
        assert bench.session.state is SessionState.CLOSED
        bench.wait(100_000.0)
        assert len(bench.lines) == 1
        with pytest.raises(ConnectionClosed):
            bench.session.subscribe(["ethusd"], now=bench.now)

    def test_close_is_bounded_by_the_connections_close_timeout(self) -> None:
        bench = ready_bench()
        bench.session.close(now=bench.now)
        bench.settle()
        bench.wait(5.1)
        assert bench.told() == ["ended", "closed"]

    def test_close_without_waiting_ends_at_once(self) -> None:
        bench = ready_bench()
        bench.session.close(wait=False, now=bench.now)
        bench.settle()
        assert bench.told() == ["ended", "closed"]
        bench.session.close(now=bench.now)
        bench.settle()
        assert bench.told() == []

    def test_close_between_attempts_ends_at_once(self) -> None:
        bench = Bench()
        bench.line.hang_up()
        bench.told()
        bench.session.close(now=bench.now)
        assert bench.session.state is SessionState.CLOSED
        bench.settle()
        assert bench.told() == ["closed"]
        assert bench.session.deadline == math.inf

    def test_a_close_while_closing_does_not_wait_any_longer(self) -> None:
        bench = ready_bench()
        bench.session.close(now=bench.now)
        bench.session.close(wait=False, now=bench.now)
        bench.settle()
        assert bench.told() == ["ended", "closed"]

    def test_a_server_that_does_not_want_us_back_is_obeyed(self) -> None:
        bench = ready_bench()
        bench.line.goodbye(allow_reconnect=False)
        (ended, closed) = bench.events
        assert isinstance(closed, Closed)
        assert isinstance(closed.error, ServerClosed)
        assert ended.error.__cause__ is closed.error
        bench.wait(1_000.0)
        assert len(bench.lines) == 1

    def test_a_server_that_wants_us_back_is_obeyed_too(self) -> None:
        bench = ready_bench()
        bench.line.goodbye(allow_reconnect=True)
        bench.wait(1.0)
        assert bench.told() == ["reconnecting"]
        assert len(bench.lines) == 2

    def test_refused_authentication_is_final(self) -> None:
        bench = Bench()
        bench.line.refuse_setup()
        (closed,) = bench.events
        assert isinstance(closed, Closed)
        assert isinstance(closed.error, SetupRefused)
        assert bench.clock_checks == 0

    @pytest.mark.parametrize(
        ("reason", "told"),
        [
            ("Handshake was canceled.", "reconnecting"),
            ("An unexpected error occurred during connection handshake.", "reconnecting"),
            ("The protocol 'json' is not supported.", "closed"),
            ("The server does not support version 1 of the 'json' protocol.", "closed"),
        ],
    )
    def test_a_refused_handshake_is_final_if_it_can_never_succeed(self, reason: str, told: str) -> None:
        bench = Bench()
        bench.line.upgrade(hub_frame({"error": reason}))
        bench.settle()
        assert [event.partition(":")[0] for event in bench.told()] == [told]

    def test_without_reconnection_every_end_is_final(self) -> None:
        bench = Bench(reconnect=False)
        bench.line.ready()
        bench.wait(90_000.0)
        assert len(bench.lines) == 1
        bench.line.hang_up()
        assert bench.told()[-1].startswith("closed: ")

    def test_events_of_a_connection_that_is_not_ours_are_ignored(self) -> None:
        bench = ready_bench()
        stranger = exchange()
        for event in (Ready(None), SubscriptionEnded(bench.session.subscriptions[0], None), Closed(None)):
            bench.session.handle_event(stranger, event, bench.now)
        bench.settle()
        assert bench.told() == []
        bench.line.bring(1)
        assert bench.told() == [1]

    def test_without_reconnection_nothing_is_asked_for_twice(self) -> None:
        bench = ready_bench(reconnect=False)
        bench.line.bring(1)
        bench.line.refuse("an error occurred on the server")
        assert [str(event).partition(":")[0] for event in bench.told()] == ["1", "ended"]

    def test_a_closed_session_is_inert(self) -> None:
        bench = Bench()
        bench.line.refuse_setup()
        bench.told()
        bench.session.handle_event(bench.line.connection, Closed(None), bench.now)
        bench.session.handle_timeout(bench.now + 1e9)
        bench.session.clock_checked(1.0, bench.now)
        assert bench.session.next_event() is None
        assert bench.session.next_action() is None
        assert "closed" in repr(bench.session)


class TestTheClock:
    def test_a_refused_setup_is_tried_once_more_with_the_exchanges_time(self) -> None:
        bench = Bench(check_clock=True)
        bench.line.refuse_setup()
        assert bench.clock_checks == 1
        assert bench.told() == ["reconnecting"]
        bench.session.clock_checked(123.5, bench.now)
        bench.wait(0.001)
        assert bench.skews == [0.0, 123.5]
        bench.line.ready()
        bench.line.hang_up()
        bench.wait(1.0)
        assert bench.skews[-1] == 123.5
        bench.line.refuse_setup()
        assert bench.clock_checks == 2

    def test_a_second_refusal_is_final(self) -> None:
        bench = Bench(check_clock=True)
        bench.line.refuse_setup()
        bench.session.clock_checked(123.5, bench.now)
        bench.wait(0.001)
        bench.line.refuse_setup()
        assert bench.clock_checks == 1
        assert bench.told()[-1].startswith("closed: the exchange refused setup")

    @pytest.mark.parametrize("skew", [None, math.inf, math.nan])
    def test_no_usable_time_makes_the_refusal_final(self, skew: float | None) -> None:
        bench = Bench(check_clock=True)
        bench.line.refuse_setup()
        bench.session.clock_checked(skew, bench.now)
        bench.settle()
        assert bench.told() == ["reconnecting", "closed: the exchange refused setup: failure"]

    def test_an_answer_that_never_comes_is_waited_for_in_vain_for_a_while(self) -> None:
        bench = Bench(check_clock=True)
        bench.line.refuse_setup()
        bench.wait(16.0)
        assert bench.told()[-1].startswith("closed: ")

    def test_an_answer_that_nobody_asked_for_is_ignored(self) -> None:
        bench = Bench()
        bench.session.clock_checked(5.0, bench.now)
        bench.line.hang_up()
        bench.wait(1.0)
        assert bench.skews == [0.0, 0.0]


class TestSubscriptions:
    def test_the_first_refusal_is_final(self) -> None:
        bench = ready_bench()
        bench.line.refuse("not listed")
        assert bench.told() == ["ended: the subscription to btcusd (marketData) failed: not listed"]
        assert bench.session.subscriptions == []

    def test_a_refusal_after_a_reconnection_is_asked_again(self) -> None:
        bench = ready_bench()
        bench.line.bring(1)
        bench.line.hang_up()
        bench.wait(1.0)
        bench.line.ready().refuse()
        assert len(bench.session.subscriptions) == 1
        bench.wait(0.2)
        bench.line.refuse()
        bench.wait(1.0)
        bench.line.bring(2)
        assert bench.told() == [1, "reconnecting", "ready", "gap", 2]

    def test_a_refusal_that_lasts_is_final_in_the_end(self) -> None:
        bench = ready_bench(resubscribe_timeout=20.0)
        bench.line.bring(1)
        bench.line.hang_up()
        bench.wait(1.0)
        bench.line.ready()
        began = bench.now
        bench.line.refuse()
        while bench.session.subscriptions:
            bench.wait(max(bench.session.deadline - bench.now, 0.0) + 0.001)
            bench.line.refuse()
        assert 20.0 <= bench.now - began <= 26.0
        assert bench.told()[-1].startswith("ended: ")

    def test_a_new_connection_makes_patience_begin_anew(self) -> None:
        bench = ready_bench(resubscribe_timeout=20.0)
        bench.line.bring(1)
        for _ in range(5):
            bench.line.hang_up()
            bench.next_attempt()
            bench.line.ready().refuse()
            bench.wait(15.0)
            bench.line.refuse()
        assert len(bench.session.subscriptions) == 1

    def test_a_stream_that_is_broken_off_is_asked_again(self) -> None:
        bench = ready_bench()
        bench.line.bring(1)
        bench.line.refuse("an error occurred on the server")
        bench.wait(1.0)
        bench.line.bring(2)
        gap = bench.events[1]
        assert isinstance(gap, Gap)
        assert isinstance(gap.cause, SubscriptionFailed)
        assert bench.told() == [1, "gap", 2]

    def test_a_quiet_one_that_is_broken_off_after_a_while_had_been_accepted(self) -> None:
        bench = ready_bench()
        bench.wait(3600.0)
        bench.line.refuse("an error occurred on the server")
        assert len(bench.session.subscriptions) == 1
        bench.wait(4000.0)
        bench.line.refuse("an error occurred on the server")
        assert len(bench.session.subscriptions) == 1

    def test_an_end_in_good_order_is_an_end(self) -> None:
        bench = ready_bench()
        bench.line.bring(1)
        bench.line.finish()
        assert bench.told() == [1, "ended"]

    def test_unsubscribe_ends_it_at_once_and_for_good(self) -> None:
        bench = ready_bench()
        (subscription,) = bench.session.subscriptions
        bench.session.unsubscribe(subscription, now=bench.now)
        bench.session.unsubscribe(subscription, now=bench.now)
        bench.settle()
        assert bench.told() == ["ended"]
        bench.line.listen()
        assert bench.line.cancelled == ["btcusd"]
        bench.line.hang_up()
        bench.wait(1.0)
        bench.line.ready().listen()
        assert bench.line.streams == {}

    def test_a_topic_is_wanted_once(self) -> None:
        bench = ready_bench()
        with pytest.raises(LocalProtocolError, match="btcusd"):
            bench.subscribe("ethusd", "btcusd")
        assert len(bench.session.subscriptions) == 1

    def test_one_more_than_a_connection_holds_is_refused_at_the_call(self) -> None:
        bench = Bench(limits=[Limits(pending_calls=1)])
        bench.line.ready()
        bench.subscribe()
        with pytest.raises(LocalProtocolError, match="pending_calls"):
            bench.subscribe("ethusd")
        assert len(bench.session.subscriptions) == 1

    def test_one_more_than_the_next_connection_holds_ends(self) -> None:
        bench = Bench(limits=[Limits(pending_calls=1)])
        bench.subscribe()
        bench.subscribe("ethusd")
        bench.line.ready()
        ready, ended = bench.told()
        assert ready == "ready"
        assert "pending_calls" in ended

    def test_a_connection_that_ends_in_the_same_breath_is_not_asked(self) -> None:
        bench = Bench()
        bench.subscribe()
        bench.line.upgrade(HANDSHAKE)
        bench.line.say({"type": 3, "invocationId": "1", "result": {"status": "success"}}, {"type": 7})
        assert bench.session.subscriptions == []
        assert [event.partition(":")[0] for event in bench.told()] == ["ready", "ended", "closed"]

    @pytest.mark.parametrize(
        "config",
        [
            {"attempts_per_minute": 0},
            {"handover_limit": 1.5},
            {"rotate_spread": -1},
            {"rotate_spread": math.inf},
            {"rotate_after": 0},
            {"backoff_cap": math.inf},
        ],
    )
    def test_a_configuration_that_makes_no_sense_is_refused(self, config: dict[str, Any]) -> None:
        with pytest.raises(LocalProtocolError, match=next(iter(config))):
            SessionConfig(**config)

    @pytest.mark.parametrize("stale_after", [0, -1, math.nan, "soon"])
    def test_nonsense_is_refused(self, stale_after: object) -> None:
        with pytest.raises(LocalProtocolError, match="stale_after"):
            Bench().subscribe(stale_after=stale_after)

    def test_silence_is_told_once_and_then_ever_more_rarely(self) -> None:
        bench = ready_bench(stale_after=10.0)
        bench.line.bring(1)
        bench.wait(50.0)
        silences = [event.silent_for for event in bench.events if isinstance(event, Stale)]
        assert silences == [10.0, 20.0, 40.0]
        bench.line.bring(2)
        bench.told()
        bench.wait(11.0)
        assert bench.told() == ["stale"]

    def test_silence_without_a_connection_is_not_the_subscriptions(self) -> None:
        bench = ready_bench(stale_after=10.0)
        bench.line.hang_up()
        bench.wait(0.6)
        bench.wait(15.0)
        assert not any(isinstance(event, Stale) for event in bench.events)

    def test_silence_while_nobody_reads_is_not_the_exchanges(self) -> None:
        bench = ready_bench(stale_after=10.0)
        bench.line.connection.reading_paused(bench.now)
        bench.wait(35.0)
        assert bench.told() == []
        bench.line.connection.reading_resumed(bench.now)
        bench.wait(6.0)
        assert bench.told() == ["stale"]

    def test_a_subscription_has_its_own_patience(self) -> None:
        bench = Bench(stale_after=math.inf)
        bench.line.ready()
        bench.subscribe(stale_after=3.0)
        bench.subscribe("ethusd")
        bench.wait(5.0)
        assert bench.told() == ["ready", "stale"]
