"""The order book of one instrument: price-time priority and nothing else.

Knows orders as whole numbers of ticks, who rests in front of whom, and what a new order trades with. Does not know
instruments, decimals, time, customers or events: `SimulatedMarket` turns what happens here into those.

An order rests at its price behind those that came before it. A new order trades with the best prices of the other
side first, and within a price with the oldest order first, always at the price of the resting order; what is left of
it rests. So no bid ever rests at or above an ask.

A price level is a dict by order id: it keeps the order of arrival, gives up a cancelled order at once, and leaves
nothing behind, so that a book which lives for months holds its resting orders and no more.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Literal, final

import msgspec

__all__ = ["Order", "OrderBook"]

Side = Literal["bid", "ask"]


class Order(msgspec.Struct, eq=False, kw_only=True):
    """An order, before, while and after it rests in a book. Compared and hashed by identity.

    Attributes:
        id: unique in its book.
        side: `bid` buys, `ask` sells.
        price: the limit, in price ticks, at least 1.
        volume: as placed, in volume ticks, at least 1.
        remaining: what is neither filled nor cancelled, in volume ticks. The book keeps it; 0 before `OrderBook.place`.
        place: the index of the order in `OrderBook.orders`, -1 while it does not rest. The book keeps it.
    """

    id: str
    side: Side
    price: int
    volume: int
    remaining: int = 0
    place: int = -1


class _Side:
    """One side of a book. A key is a price with the sign that makes the best price the greatest key."""

    __slots__ = ("keys", "levels", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []  # ascending: the best is the last
        self.levels: dict[int, dict[str, Order]] = {}

    def remove_level(self, key: int) -> None:
        del self.levels[key]
        del self.keys[bisect.bisect_left(self.keys, key)]


@final
class OrderBook:
    """The resting orders of one instrument."""

    def __init__(self) -> None:
        self._bids = _Side(1)
        self._asks = _Side(-1)
        self._orders: list[Order] = []

    def __len__(self) -> int:
        """How many orders rest."""
        return len(self._orders)

    @property
    def orders(self) -> Sequence[Order]:
        """The resting orders of both sides, in no useful order. A live view: read it, do not keep it."""
        return self._orders

    def place(self, order: Order) -> list[tuple[Order, int]]:
        """Match an order, then let the rest of it rest.

        Args:
            order: a new order.

        Returns:
            One pair for each fill, in the order in which they happened: the resting order that was hit, and the
            volume in ticks. The trade's price is the resting order's. Afterwards `remaining` of all of them is up to
            date, and the new order rests exactly if it has something remaining.

        Raises:
            ValueError: the price or the volume is below one tick, or the order rests already. Nothing has changed.
        """
        if order.price < 1 or order.volume < 1 or order.place >= 0:
            raise ValueError(f"expected a new order of at least one tick in price and volume, got {order}")
        own, other = (self._bids, self._asks) if order.side == "bid" else (self._asks, self._bids)
        order.remaining = order.volume
        fills = self._match(order, other)
        if order.remaining:
            key = order.price * own.sign
            level = own.levels.get(key)
            if level is None:
                level = own.levels[key] = {}
                bisect.insort(own.keys, key)
            level[order.id] = order
            order.place = len(self._orders)
            self._orders.append(order)
        return fills

    def cancel(self, order: Order) -> int:
        """Take a resting order out of the book.

        Returns:
            The volume that remained, in ticks. Afterwards the order has nothing remaining and rests no more.

        Raises:
            ValueError: the order does not rest in this book. Nothing has changed.
        """
        if not 0 <= order.place < len(self._orders) or self._orders[order.place] is not order:
            raise ValueError(f"expected an order that rests in this book, got {order}")
        side = self._bids if order.side == "bid" else self._asks
        key = order.price * side.sign
        level = side.levels[key]
        del level[order.id]
        if not level:
            side.remove_level(key)
        self._forget(order)
        remaining, order.remaining = order.remaining, 0
        return remaining

    def levels(self, side: Side, count: int) -> list[tuple[int, int]]:
        """The best prices of one side with the volume that rests at each.

        Args:
            side: which side.
            count: how many levels at most.

        Returns:
            Pairs of price and volume in ticks, the best price first.
        """
        half = self._bids if side == "bid" else self._asks
        return [
            (key * half.sign, sum(order.remaining for order in half.levels[key].values()))
            for key in half.keys[: -count - 1 : -1]
        ]

    def _match(self, taker: Order, other: _Side) -> list[tuple[Order, int]]:
        fills: list[tuple[Order, int]] = []
        keys = other.keys
        limit = taker.price * other.sign
        while taker.remaining and keys and keys[-1] >= limit:
            key = keys[-1]
            level = other.levels[key]
            used = []
            for maker in level.values():
                volume = min(maker.remaining, taker.remaining)
                maker.remaining -= volume
                taker.remaining -= volume
                fills.append((maker, volume))
                if not maker.remaining:
                    used.append(maker)
                if not taker.remaining:
                    break
            for maker in used:
                del level[maker.id]
                self._forget(maker)
            if not level:
                other.remove_level(key)
        return fills

    def _forget(self, order: Order) -> None:
        """Take the order out of the list in constant time: the last one moves to its place."""
        last = self._orders.pop()
        if last is not order:
            self._orders[order.place] = last
            last.place = order.place
        order.place = -1
