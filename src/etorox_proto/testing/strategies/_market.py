"""Market data: events in both forms, selectors and rows, instruments, and what traders do to an order book.

Source: the exchange's streaming documentation, events of the public and private channels.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal

import msgspec
from hypothesis import strategies as st

from etorox_proto import (
    MarketEvent,
    OrderCanceled,
    OrderCompleted,
    OrderCreated,
    OrderUpdated,
    Row,
    TradeCompleted,
    encode_event,
    row_decoder,
    row_type,
)
from etorox_proto.simulator import Instrument

__all__ = [
    "CancelOrder",
    "MarketKind",
    "PlaceOrder",
    "instruments",
    "market_events",
    "order_flows",
    "rows",
    "selectors",
]

MarketKind = type[OrderCreated] | type[OrderUpdated] | type[OrderCanceled] | type[OrderCompleted] | type[TradeCompleted]
"""A documented event."""

_texts = st.text(max_size=8)
_sides = st.sampled_from(["bid", "ask"])
_maybe_text = st.none() | _texts
# The wire tells milliseconds.
_times = st.datetimes(timezones=st.just(datetime.UTC)).map(
    lambda at: at.replace(microsecond=at.microsecond // 1_000 * 1_000)
)
_numbers = st.one_of(
    st.decimals(0, 10**6, places=2),
    st.builds(
        lambda digits, places: Decimal(digits).scaleb(-places), st.integers(-(10**24), 10**24), st.integers(0, 24)
    ),
    st.sampled_from([Decimal("0.10"), Decimal(0), Decimal("-0.00"), Decimal("1E+20"), Decimal("1E-200")]),
)
# A trade's amount and an update's delta are written with 18 places.
_amounts = st.integers(-(10**25), 10**25).map(lambda units: Decimal(f"{units}e-18"))
_extras = st.dictionaries(_texts.map(lambda key: "x" + key), st.integers() | _maybe_text, max_size=2).map(
    MappingProxyType
)
_common: dict[str, Any] = {
    "market": st.sampled_from(["btcusd", "ethusd", ""]),
    "price": _numbers,
    "snapshot_id": st.none() | st.integers(0, 2**64),
    "extra": _extras,
}
_order = {**_common, "id": _texts, "side": _sides, "volume": _numbers, "state": _texts, "strategy": _maybe_text}
_limited = {**_order, "tif": _maybe_text, "expiration_date": st.none() | _times}

_EVENTS: dict[MarketKind, st.SearchStrategy[Any]] = {
    OrderCreated: st.builds(OrderCreated, **_limited, updated_at=_times),
    OrderUpdated: st.builds(OrderUpdated, **_limited, updated_at=_times, delta=_amounts),
    OrderCanceled: st.builds(
        OrderCanceled,
        **_limited,
        delta=_numbers,
        origin_volume=st.none() | _numbers,
        update_at=st.none() | _times,
        updated_at=st.none() | _times,
    ),
    OrderCompleted: st.builds(OrderCompleted, **_order, updated_at=_times, delta=st.none() | _numbers),
    TradeCompleted: st.builds(
        TradeCompleted,
        **_common,
        created_at=_times,
        tid=_maybe_text,
        amount=st.none() | _amounts,
        id=_maybe_text,
        volume=st.none() | _numbers,
        side=st.none() | _sides,
        order_id=_maybe_text,
        execution_type=st.none() | st.sampled_from(["taker", "maker"]),
    ),
}


def market_events(*kinds: MarketKind) -> st.SearchStrategy[MarketEvent]:
    """Documented events with any mixture of public and private fields; `encode_event` gives the item's bytes.

    Args:
        kinds: such as `OrderCreated, TradeCompleted`; by default all five.
    """
    return st.one_of([_EVENTS[kind] for kind in kinds or _EVENTS])


def selectors(event: MarketEvent) -> st.SearchStrategy[list[str]]:
    """Values for `fields` of a subscription: some of what this event has, in any order."""
    members = [name for name in type(event).__struct_fields__ if name != "extra"]
    return st.lists(st.sampled_from(members), min_size=1, unique=True)


def rows(events: st.SearchStrategy[MarketEvent] | None = None) -> st.SearchStrategy[Row]:
    """Rows as a subscription with `fields` delivers them; `row.fields` is the selector."""

    def row(event: MarketEvent) -> st.SearchStrategy[Any]:
        return selectors(event).map(lambda fields: row_decoder(row_type(fields))(encode_event(event, fields)))

    return (market_events() if events is None else events).flatmap(row)


def instruments(ids: Sequence[str] = ("btcusd", "ethusd", "x")) -> st.SearchStrategy[Instrument]:
    """Instruments for `SimulatedMarket`: from one tick to prices of many digits, volumes down to 18 places."""
    ticks = st.integers(0, 18).map(lambda places: Decimal(1).scaleb(-places))

    def instrument(drawn: tuple[str, Decimal, Decimal, int]) -> Instrument:
        name, price_tick, volume_tick, price = drawn
        return Instrument(name, name.upper(), price * price_tick, price_tick, volume_tick)

    return st.tuples(st.sampled_from(ids), ticks, ticks, st.integers(1, 10**9)).map(instrument)


class PlaceOrder(msgspec.Struct, frozen=True):
    """Place an order.

    Attributes:
        side: which side.
        price: in ticks.
        volume: in ticks.
    """

    side: Literal["bid", "ask"]
    price: int
    volume: int


class CancelOrder(msgspec.Struct, frozen=True):
    """Cancel one of the orders that rest.

    Attributes:
        which: counted from 0; take it modulo the number of orders.
    """

    which: int


def order_flows(
    *, prices: int = 12, volumes: int = 20, max_size: int = 60
) -> st.SearchStrategy[list[PlaceOrder | CancelOrder]]:
    """What traders do to one order book, one after the other.

    Args:
        prices: how many price levels there are; few of them, and orders meet.
        volumes: the greatest volume, in ticks.
        max_size: how many actions at most.
    """
    places = st.builds(PlaceOrder, _sides, st.integers(1, prices), st.integers(1, volumes))
    cancels = st.builds(CancelOrder, st.integers(0, 1_000))
    return st.lists(st.one_of(places, places, cancels), max_size=max_size)
