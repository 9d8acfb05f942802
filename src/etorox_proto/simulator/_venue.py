"""`Venue`: the trading of one instrument, worded as the documented events.

Knows instruments, decimals, who owns an order, and which events one action causes. Does not know when anything
happens, other instruments, subscriptions or connections: `SimulatedMarket` says `act` and gives the time.

What an action publishes, in this order:

- A cancellation: `order_canceled`; `volume` is what remained, `delta` the same volume below zero.
- A new order: `order_created`, state `wait`, with the volume and the limit as placed. If it trades, then for each fill
  `trade_completed` at the price of the resting order and, for that resting order (the maker), `order_updated` or
  `order_completed`; at the end one `order_updated` or `order_completed` for the new order (the taker) over all its
  fills.
- `order_updated` (state `open`): `delta` is what was filled now, below zero, and `volume` what remains.
- `order_completed`: `volume` is what was filled last, `delta` the same below zero.

So the volume of `order_created` and all deltas of an order add up to what remains of it, and to zero when it is gone.
The price of an order event is the limit of the order.

Every public event has the next `snapshot_id` of its instrument. Private events have none, and, as documented, the
private `order_completed` has neither `tif` nor `expiration_date`. An order may trade with one of the same customer,
who then gets the private `trade_completed` twice, first as the taker, then as the maker.

Source: the exchange's streaming documentation, events of the public and private channels, and its examples.
"""

from __future__ import annotations

import datetime
import decimal
from decimal import Decimal
from typing import Any, Literal, final

import msgspec

from etorox_proto._market import (
    MarketEvent,
    OrderCanceled,
    OrderCompleted,
    OrderCreated,
    OrderUpdated,
    TradeCompleted,
)
from etorox_proto.signalr import LocalProtocolError
from etorox_proto.simulator._matching import Order, OrderBook
from etorox_proto.simulator._orderflow import Cancel, Draws, OrderFlow, Place

__all__ = ["BookSnapshot", "Instrument", "Owners", "Published", "Venue"]

# Where the snapshot ids begin: whoever reads them as floats loses the odd ones.
_FIRST_SNAPSHOT_ID = 2**53

_STRATEGY = "limit"
_CUSTOMERS_SHARE = 0.25
_LASTING_SHARE = 0.2
# Far beyond the life of an order here, so nothing ever expires.
_LASTING = datetime.timedelta(days=30)

_SIDES: tuple[Literal["bid"], Literal["ask"]] = ("bid", "ask")
_OrderEvent = OrderCreated | OrderUpdated | OrderCanceled | OrderCompleted

# The caller's decimal context must not change prices. 100 digits hold whatever ticks count.
_EXACT = decimal.Context(prec=100, traps=[decimal.Inexact])


class Instrument(msgspec.Struct, frozen=True):
    """What is traded.

    Attributes:
        id: the channel, such as `btcusd`.
        name: such as `BTC/USD`.
        price: where the middle of the market begins, at least one tick.
        price_tick: prices are multiples of it.
        volume_tick: volumes are multiples of it; at most 18 decimals, as many as a trade's `amount` shows.

    Raises:
        LocalProtocolError: a number is out of its range.
    """

    id: str
    name: str
    price: Decimal
    price_tick: Decimal
    volume_tick: Decimal

    def __post_init__(self) -> None:
        if not (self.price.is_finite() and self.price_tick.is_finite() and 0 < self.price_tick <= self.price):
            raise LocalProtocolError(
                f"expected a price of at least one positive tick for {self.id}, got {self.price} by {self.price_tick}"
            )
        tick = self.volume_tick
        if not (tick.is_finite() and tick > 0 and Decimal(format(tick, ".18f")) == tick):
            raise LocalProtocolError(f"expected a positive volume tick of at most 18 decimals, got {tick}")


class Published(msgspec.Struct, frozen=True):
    """One market change.

    Attributes:
        channel: the instrument's id.
        event: the public form.
        private: the customers concerned and the form that each receives, of a trade the taker's first; empty if the
            orders concerned are anonymous.
    """

    channel: str
    event: MarketEvent
    private: tuple[tuple[str, MarketEvent], ...] = ()


class BookSnapshot(msgspec.Struct, frozen=True):
    """What rests in a book.

    Attributes:
        snapshot_id: of the last public event that the snapshot contains.
        bids: price and volume of each level, the highest price first.
        asks: likewise, the lowest price first.
    """

    snapshot_id: int
    bids: tuple[tuple[Decimal, Decimal], ...]
    asks: tuple[tuple[Decimal, Decimal], ...]


class _CustomerOrder(Order, eq=False, kw_only=True):
    """An order with someone to tell. A plain `Order` is anonymous."""

    customer: str
    tif: str
    expiration_date: datetime.datetime | None


@final
class Owners:
    """The registered customers, and which new orders are theirs.

    Args:
        draws: a source apart from the flow's, so that who owns an order changes nothing about what is traded.
    """

    def __init__(self, draws: Draws) -> None:
        self.customers: tuple[str, ...] = ()
        self._draws = draws

    def new_order(self, order_id: str, action: Place, at: datetime.datetime) -> Order:
        """The order that the action asks for, given to a customer or to nobody."""
        draws = self._draws
        if not self.customers or draws.random() >= _CUSTOMERS_SHARE:
            return Order(id=order_id, side=action.side, price=action.price, volume=action.volume)
        lasting = draws.random() < _LASTING_SHARE
        return _CustomerOrder(
            id=order_id,
            side=action.side,
            price=action.price,
            volume=action.volume,
            customer=draws.choice(self.customers),
            tif="gtd" if lasting else "gtc",
            expiration_date=at + _LASTING if lasting else None,
        )


@final
class Venue:
    """The trading of one instrument, which begins with an empty book.

    Args:
        instrument: what is traded.
        draws: the source of the flow and of the ids.
        owners: who owns new orders.
    """

    def __init__(self, instrument: Instrument, *, draws: Draws, owners: Owners) -> None:
        self._id = instrument.id
        self._price_tick = instrument.price_tick
        self._volume_tick = instrument.volume_tick
        self._draws = draws
        self._owners = owners
        self._book = OrderBook()
        self._flow = OrderFlow(draws, price=int(_EXACT.divide_int(instrument.price, instrument.price_tick)))
        self._snapshot_id = _FIRST_SNAPSHOT_ID

    def act(self, at: datetime.datetime) -> list[Published]:
        """Carry out the next action of the flow.

        Args:
            at: when it happens, UTC.

        Returns:
            The changes that it causes, at least one, in the order of their snapshot ids.
        """
        action = self._flow.next_action(len(self._book))
        if isinstance(action, Cancel):
            return [self._canceled(self._book.orders[action.index], at)]
        order = self._owners.new_order(self._draws.uuid(), action, at)
        published = [self._created(order, at)]
        fills = self._book.place(order)
        for maker, volume in fills:
            published.append(self._traded(order, maker, volume, at))
            published.append(self._filled(maker, volume, at))
        if fills:
            published.append(self._filled(order, order.volume - order.remaining, at))
        return published

    def snapshot(self, levels: int) -> BookSnapshot:
        """The best levels of both sides, at most `levels` of each."""
        bids, asks = (
            tuple((self._price(price), self._volume(volume)) for price, volume in self._book.levels(side, levels))
            for side in _SIDES
        )
        return BookSnapshot(self._snapshot_id, bids, asks)

    def _price(self, ticks: int) -> Decimal:
        return _EXACT.multiply(self._price_tick, ticks)

    def _volume(self, ticks: int) -> Decimal:
        return _EXACT.multiply(self._volume_tick, ticks)

    def _next_snapshot_id(self) -> int:
        self._snapshot_id += 1
        return self._snapshot_id

    def _published(self, event: _OrderEvent, order: Order, **private: Any) -> Published:
        """Pair an order's public event with its private form, which differs by terms of the order and by `private`."""
        if not isinstance(order, _CustomerOrder):
            return Published(self._id, event)
        terms = {"strategy": _STRATEGY, "tif": order.tif, "expiration_date": order.expiration_date, **private}
        return Published(
            self._id, event, ((order.customer, msgspec.structs.replace(event, snapshot_id=None, **terms)),)
        )

    def _created(self, order: Order, at: datetime.datetime) -> Published:
        event = OrderCreated(
            market=self._id,
            snapshot_id=self._next_snapshot_id(),
            id=order.id,
            side=order.side,
            volume=self._volume(order.volume),
            price=self._price(order.price),
            state="wait",
            updated_at=at,
        )
        return self._published(event, order)

    def _canceled(self, order: Order, at: datetime.datetime) -> Published:
        remained = self._book.cancel(order)
        event = OrderCanceled(
            market=self._id,
            snapshot_id=self._next_snapshot_id(),
            id=order.id,
            side=order.side,
            volume=self._volume(remained),
            price=self._price(order.price),
            delta=self._volume(-remained),
            state="cancelled",
            origin_volume=self._volume(order.volume),
            update_at=at,
        )
        return self._published(event, order, origin_volume=None, update_at=None, updated_at=at)

    def _filled(self, order: Order, filled: int, at: datetime.datetime) -> Published:
        if order.remaining:
            updated = OrderUpdated(
                market=self._id,
                snapshot_id=self._next_snapshot_id(),
                id=order.id,
                side=order.side,
                volume=self._volume(order.remaining),
                price=self._price(order.price),
                delta=self._volume(-filled),
                state="open",
                updated_at=at,
            )
            return self._published(updated, order)
        completed = OrderCompleted(
            market=self._id,
            snapshot_id=self._next_snapshot_id(),
            id=order.id,
            side=order.side,
            volume=self._volume(filled),
            price=self._price(order.price),
            delta=self._volume(-filled),
            state="completed",
            updated_at=at,
        )
        return self._published(completed, order, delta=None, tif=None, expiration_date=None)

    def _traded(self, taker: Order, maker: Order, volume: int, at: datetime.datetime) -> Published:
        trade_id = self._draws.uuid()
        price, amount = self._price(maker.price), self._volume(volume)
        event = TradeCompleted(
            market=self._id,
            snapshot_id=self._next_snapshot_id(),
            tid=trade_id,
            price=price,
            amount=amount,
            created_at=at,
        )
        private: list[tuple[str, MarketEvent]] = []
        for order, part in ((taker, "taker"), (maker, "maker")):
            if isinstance(order, _CustomerOrder):
                told = TradeCompleted(
                    market=self._id,
                    id=trade_id,
                    price=price,
                    volume=amount,
                    side=order.side,
                    state="completed",
                    order_id=order.id,
                    execution_type=part,
                    created_at=at,
                )
                private.append((order.customer, told))
        return Published(self._id, event, tuple(private))
