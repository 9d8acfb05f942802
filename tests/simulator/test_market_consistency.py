"""The events of the simulated market are consistent with each other, and with the books."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etorox_proto import (
    OrderCanceled,
    OrderCompleted,
    OrderCreated,
    OrderUpdated,
    TradeCompleted,
    UnknownEvent,
    encode_event,
    event_decoder,
    event_fields,
)
from etorox_proto.simulator import INSTRUMENTS, Instrument, Published, SimulatedMarket
from etorox_proto.simulator._market import BookSnapshot

SEEDS = st.integers(0, 2**64)
# The least price, the least and an odd price tick, the least and a great volume tick.
INSTRUMENTS_OF_ALL_KINDS = (
    *INSTRUMENTS[:2],
    Instrument("penny", "PEN/NY", Decimal(5), Decimal(5), Decimal("1E-18")),
    Instrument("round", "ROU/ND", Decimal(999), Decimal("0.25"), Decimal(2)),
)


def market(seed: int, customers: tuple[str, ...]) -> SimulatedMarket:
    simulated = SimulatedMarket(seed=seed, instruments=INSTRUMENTS_OF_ALL_KINDS, now=0.0, unix_time=1_596_449_777.5)
    for customer in customers:
        simulated.register(customer)
    return simulated


@dataclass
class Known:
    """An order as its public events tell it."""

    created: OrderCreated
    number: int
    remaining: Decimal
    customer: str | None


@dataclass
class Audit:
    """Replays the changes of one instrument and checks each against those before."""

    instrument: Instrument
    orders: dict[str, Known] = field(default_factory=dict)
    trades: set[str] = field(default_factory=set)
    placed: int = 0

    def action(self, changes: list[Published]) -> None:
        """Check all that one action caused."""
        rest = iter(changes)
        match (first := next(rest)).event:
            case OrderCanceled() as event:
                self._cancel(first, event)
            case OrderCreated() as event:
                self._create(first, event)
                self._trade(rest, self.orders[event.id])
                if not self.orders[event.id].remaining:
                    del self.orders[event.id]
            case other:
                pytest.fail(f"an action begins with {other}")
        assert next(rest, None) is None

    def snapshot(self) -> tuple[tuple[tuple[Decimal, Decimal], ...], ...]:
        """The levels of both sides that follow from the events."""
        sides = []
        for side in ("bid", "ask"):
            volumes: dict[Decimal, Decimal] = {}
            for order in self.orders.values():
                if order.created.side == side:
                    volumes[order.created.price] = volumes.get(order.created.price, Decimal(0)) + order.remaining
            sides.append(tuple(sorted(volumes.items(), reverse=side == "bid")))
        return tuple(sides)

    def _create(self, change: Published, event: OrderCreated) -> None:
        assert event.id not in self.orders
        assert event.state == "wait"
        assert event.price > 0
        assert event.price % self.instrument.price_tick == 0
        assert event.volume > 0
        assert event.volume % self.instrument.volume_tick == 0
        assert str(uuid.UUID(event.id)) == event.id
        assert uuid.UUID(event.id).version == 4
        self.placed += 1
        customer = change.private[0][0] if change.private else None
        self.orders[event.id] = Known(event, self.placed, event.volume, customer)
        self._private(change, event.id)

    def _cancel(self, change: Published, event: OrderCanceled) -> None:
        order = self.orders[event.id]
        assert event.state == "cancelled"
        assert event.volume == order.remaining
        assert event.delta == -event.volume
        assert event.origin_volume == order.created.volume
        self._same_order(event)
        self._private(change, event.id)
        del self.orders[event.id]

    def _trade(self, rest: Iterator[Published], taker: Known) -> None:
        filled = Decimal(0)
        for change in rest:
            event = change.event
            if not isinstance(event, TradeCompleted):
                assert filled > 0
                assert self._fill(change) is taker
                return
            assert event.tid is not None
            assert event.tid not in self.trades
            assert uuid.UUID(event.tid).version == 4
            assert event.amount is not None
            assert event.amount > 0
            assert event.amount % self.instrument.volume_tick == 0
            self.trades.add(event.tid)
            maker = self._best_against(taker)
            before = maker.remaining
            self._private_trade(change, event, taker, maker)
            assert self._fill(next(rest)) is maker
            assert event.price == maker.created.price
            assert event.amount == before - maker.remaining
            if not maker.remaining:
                del self.orders[maker.created.id]
            filled += event.amount
        assert filled == 0

    def _fill(self, change: Published) -> Known:
        event = change.event
        assert isinstance(event, OrderUpdated | OrderCompleted)
        order = self.orders[event.id]
        assert event.delta is not None
        assert event.delta < 0
        order.remaining += event.delta
        if isinstance(event, OrderUpdated):
            assert event.state == "open"
            assert event.volume == order.remaining > 0
        else:
            assert event.state == "completed"
            assert event.volume == -event.delta
            assert order.remaining == 0
        self._same_order(event)
        self._private(change, event.id)
        return order

    def _best_against(self, taker: Known) -> Known:
        def priority(order: Known) -> tuple[Decimal, int]:
            return (order.created.price if taker.created.side == "bid" else -order.created.price, order.number)

        return min((order for order in self.orders.values() if order.created.side != taker.created.side), key=priority)

    def _same_order(self, event: OrderUpdated | OrderCanceled | OrderCompleted) -> None:
        created = self.orders[event.id].created
        assert (event.side, event.price, event.market) == (created.side, created.price, created.market)

    def _private(self, change: Published, order_id: str) -> None:
        """The private form differs from the public one exactly as documented, and goes to the order's owner."""
        customer = self.orders[order_id].customer
        assert [who for who, _ in change.private] == ([] if customer is None else [customer])
        for _, private in change.private:
            expected, told = event_fields(change.event), event_fields(private)
            del expected["snapshot_id"]
            assert told.pop("strategy") == "limit"
            if isinstance(private, OrderCompleted):
                del expected["delta"]
            else:
                lasting = "expiration_date" in told
                assert told.pop("tif") == ("gtd" if lasting else "gtc")
                time = told.get("update_at", told.get("updated_at", ""))
                assert told.pop("expiration_date", "9999") > time > "2020-08-03T10:16"
            if isinstance(private, OrderCanceled):
                del expected["origin_volume"]
                expected["updated_at"] = expected.pop("update_at")
            assert told == expected

    def _private_trade(self, change: Published, event: TradeCompleted, taker: Known, maker: Known) -> None:
        concerned = [(taker, "taker"), (maker, "maker")]
        assert change.private == tuple(
            (
                order.customer,
                TradeCompleted(
                    market=event.market,
                    id=event.tid,
                    price=event.price,
                    volume=event.amount,
                    side=order.created.side,
                    state="completed",
                    order_id=order.created.id,
                    execution_type=part,
                    created_at=event.created_at,
                ),
            )
            for order, part in concerned
            if order.customer is not None
        )


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.sampled_from([(), ("ann",), ("ann", "bob", "cy")]))
def test_every_change_follows_from_those_before(seed: int, customers: tuple[str, ...]) -> None:
    simulated = market(seed, customers)
    audits = {instrument.id: Audit(instrument) for instrument in simulated.instruments}
    last = dict.fromkeys(audits, 2**52)
    for _ in range(1200):
        changes = simulated.step()
        (channel,) = {change.channel for change in changes}
        for change in changes:
            event = change.event
            assert not isinstance(event, UnknownEvent)
            assert event.market == channel
            assert event.snapshot_id is not None
            assert event.snapshot_id > last[channel]
            last[channel] = event.snapshot_id
        audits[channel].action(changes)
        bids, asks = audits[channel].snapshot()
        assert simulated.book(channel, 1000) == BookSnapshot(last[channel], bids, asks)
        assert not bids or not asks or bids[0][0] < asks[0][0]
    assert all(audit.trades for audit in audits.values())


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_every_event_survives_the_wire(seed: int) -> None:
    simulated = market(seed, ("ann",))
    decode = event_decoder()
    seen = set()
    for _ in range(800):
        for change in simulated.step():
            for event in (change.event, *(private for _, private in change.private)):
                assert not isinstance(event, UnknownEvent)
                assert decode(encode_event(event)) == event
                seen.add((event.name, event.is_private))
    assert len(seen) == 10
