"""The simulated market: its pace, its randomness and its bounds. What the events say: `test_market_consistency`."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etorox_proto import (
    LocalProtocolError,
    MarketEvent,
    OrderCanceled,
    OrderCompleted,
    OrderCreated,
    UnknownEvent,
)
from etorox_proto.simulator import INSTRUMENTS, Instrument, Published, SimulatedMarket
from etorox_proto.simulator._market import BookSnapshot
from etorox_proto.simulator._orderflow import CAPACITY, Cancel, Draws, OrderFlow, Place

SEEDS = st.integers(0, 2**64)
UNIX_TIME = 1_596_449_777.5


def market(seed: int = 0, rate: float = 10.0, customers: Iterable[str] = (), **changes: Any) -> SimulatedMarket:
    simulated = SimulatedMarket(seed=seed, rate=rate, now=100.0, unix_time=UNIX_TIME, **changes)
    for customer in customers:
        simulated.register(customer)
    return simulated


def drain(simulated: SimulatedMarket, now: float) -> list[Published]:
    published = []
    while simulated.deadline <= now:
        published += simulated.advance(now)
    return published


def at(event: MarketEvent) -> datetime.datetime:
    assert not isinstance(event, UnknownEvent)
    assert event.at is not None
    return event.at


def public(published: Iterable[Published]) -> list[MarketEvent]:
    return [change.event for change in published]


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_the_same_seed_gives_the_same_events(seed: int) -> None:
    first, second = market(seed, customers=("ann", "bob")), market(seed, customers=("ann", "bob"))
    assert drain(first, 200.0) == drain(second, 200.0)
    assert first.deadline == second.deadline
    assert public(drain(market(seed + 1), 200.0)) != public(drain(market(seed), 200.0))


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_customers_change_nothing_that_the_public_sees(seed: int) -> None:
    alone, accompanied = market(seed), market(seed)
    expected, actual = drain(alone, 150.0), drain(accompanied, 150.0)
    assert not any(change.private for change in actual)
    for customer in ("ann", "bob", "ann"):
        accompanied.register(customer)
    assert accompanied.customers == ("ann", "bob")
    expected += drain(alone, 500.0)
    actual += drain(accompanied, 500.0)
    assert public(actual) == public(expected)
    assert {customer for change in actual for customer, _ in change.private} == {"ann", "bob"}


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.lists(st.floats(90.0, 160.0), max_size=30))
def test_it_does_not_matter_how_often_the_market_is_advanced(seed: int, times: list[float]) -> None:
    whole, pieces = market(seed, rate=50.0), market(seed, rate=50.0)
    expected = drain(whole, 160.0)
    actual = []
    for now in [*times, 160.0]:
        actual += drain(pieces, now)
    assert actual == expected
    assert pieces.deadline == whole.deadline > 160.0


def test_to_step_is_to_advance_to_the_deadline() -> None:
    stepped, advanced = market(7), market(7)
    for _ in range(500):
        due = advanced.deadline
        assert stepped.deadline == due
        assert advanced.advance(math.nextafter(due, 0.0)) == []
        assert advanced.advance(due) == stepped.step()
        assert advanced.deadline > due


@pytest.mark.parametrize("rate", [1.0, 10.0, 50.0])
def test_the_rate_counts_public_events_over_all_instruments(rate: float) -> None:
    simulated = market(5, rate=rate)
    drain(simulated, 1100.0)
    published = drain(simulated, 2100.0)
    assert len(published) == pytest.approx(1000.0 * rate, rel=0.1)
    assert {change.channel for change in published} == {instrument.id for instrument in simulated.instruments}


def test_times_are_utc_milliseconds_that_never_go_back() -> None:
    times = [at(change.event) for change in drain(market(rate=100.0), 160.0)]
    began = datetime.datetime.fromtimestamp(UNIX_TIME, datetime.UTC)
    assert times[0] >= began
    assert began + datetime.timedelta(seconds=59) < times[-1] <= began + datetime.timedelta(seconds=60)
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert all(time.tzinfo is datetime.UTC and time.microsecond % 1000 == 0 for time in times)


def test_a_call_gives_a_bounded_part_of_a_backlog() -> None:
    simulated = market(rate=100_000.0)
    published: list[Published] = []
    calls = 0
    while simulated.deadline <= 100.1:
        part = simulated.advance(100.1)
        assert 0 < len(part) < 2000
        published += part
        calls += 1
    assert calls > 5
    assert simulated.advance(100.1) == []
    assert published == drain(market(rate=100_000.0), 100.1)


def test_without_a_rate_the_market_moves_only_by_steps_at_the_time_of_the_caller() -> None:
    simulated = market(rate=0.0)
    assert simulated.deadline == math.inf
    assert simulated.advance(130.0) == []
    changes = simulated.step()
    assert {at(change.event) for change in changes} == {datetime.datetime.fromtimestamp(UNIX_TIME + 30.0, datetime.UTC)}
    assert simulated.deadline == math.inf


def test_with_an_infinite_rate_each_call_gives_as_much_as_it_may_at_the_time_of_the_caller() -> None:
    simulated = market(rate=math.inf)
    for now in (100.0, 130.0, 130.0):
        assert simulated.deadline <= now
        published = simulated.advance(now)
        assert len(published) >= 1000
        assert {at(change.event) for change in published} == {
            datetime.datetime.fromtimestamp(UNIX_TIME + now - 100.0, datetime.UTC)
        }


def test_the_books_stay_within_their_bound_and_deep_enough_to_be_of_use() -> None:
    simulated = market(instruments=INSTRUMENTS[:1])
    resting: set[str] = set()
    sizes = []
    for _ in range(30_000):
        for change in simulated.step():
            match change.event:
                case OrderCreated(id=order_id):
                    resting.add(order_id)
                case OrderCanceled(id=order_id) | OrderCompleted(id=order_id):
                    resting.remove(order_id)
                case _:
                    pass
        sizes.append(len(resting))
    assert max(sizes) <= 250
    assert min(sizes[1000:]) >= 30
    snapshot = simulated.book("btcusd", 10)
    assert len(snapshot.bids) > 5
    assert len(snapshot.asks) > 5
    assert Decimal(5000) < snapshot.bids[0][0] < Decimal(20000)


def test_the_flow_meets_a_book_that_is_full_with_cancellations() -> None:
    # The usual mix never lets so many orders rest.
    flow = OrderFlow(Draws(3), price=1)
    for _ in range(2000):
        action = flow.next_action(CAPACITY)
        assert isinstance(action, Cancel)
        assert 0 <= action.index < CAPACITY
        placed = flow.next_action(0)
        assert isinstance(placed, Place)
        assert placed.price >= 1
        assert placed.volume >= 1


def test_a_snapshot_has_as_many_levels_as_asked_from_the_best_on() -> None:
    simulated = market(rate=0.0)
    empty = simulated.book("ethusd", 1)
    assert (empty.bids, empty.asks) == ((), ())
    for _ in range(1000):
        simulated.step()
    whole, best = simulated.book("ethusd", 1000), simulated.book("ethusd", 2)
    assert best == BookSnapshot(whole.snapshot_id, whole.bids[:2], whole.asks[:2])
    assert whole.snapshot_id > empty.snapshot_id


def test_the_decimal_context_of_the_caller_changes_nothing() -> None:
    expected = drain(market(2), 150.0)
    with decimal.localcontext(prec=2, rounding=decimal.ROUND_UP):
        assert drain(market(2), 150.0) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"rate": -1.0},
        {"rate": math.nan},
        {"instruments": ()},
        {"instruments": (*INSTRUMENTS[:2], INSTRUMENTS[0])},
    ],
)
def test_a_market_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError, match="expected"):
        SimulatedMarket(now=0.0, unix_time=0.0, **changes)


@pytest.mark.parametrize(("channel", "levels"), [("dogeusd", 1), ("btcusd", 0)])
def test_a_book_that_is_not_there_is_refused(channel: str, levels: int) -> None:
    with pytest.raises(LocalProtocolError, match="expected one of btcusd"):
        market().book(channel, levels)


@pytest.mark.parametrize(
    ("price", "price_tick", "volume_tick"),
    [
        ("0", "1", "1"),
        ("1", "0", "1"),
        ("-1", "-1", "1"),
        ("1", "2", "1"),
        ("NaN", "1", "1"),
        ("1", "NaN", "1"),
        ("Infinity", "1", "1"),
        ("1", "1", "0"),
        ("1", "1", "NaN"),
        ("1", "1", "1E-19"),
    ],
)
def test_an_instrument_out_of_range_is_refused(price: str, price_tick: str, volume_tick: str) -> None:
    with pytest.raises(LocalProtocolError, match="expected a p"):
        Instrument("x", "X", Decimal(price), Decimal(price_tick), Decimal(volume_tick))
