"""The order book against a matcher that looks at every order every time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given

from etorox_proto.simulator._matching import Order, OrderBook
from etorox_proto.testing.strategies import CancelOrder, PlaceOrder, order_flows

Side = Literal["bid", "ask"]


@dataclass
class NaiveOrder:
    number: int
    side: Side
    price: int
    remaining: int


@dataclass
class NaiveBook:
    """All orders in one list; the best of them is searched for at each fill."""

    orders: list[NaiveOrder] = field(default_factory=list)

    def place(self, order: NaiveOrder) -> list[tuple[int, int]]:
        fills = []
        while order.remaining:
            if order.side == "bid":
                hits = [each for each in self.orders if each.side == "ask" and each.price <= order.price]
                best = min(hits, key=lambda each: (each.price, each.number), default=None)
            else:
                hits = [each for each in self.orders if each.side == "bid" and each.price >= order.price]
                best = min(hits, key=lambda each: (-each.price, each.number), default=None)
            if best is None:
                break
            volume = min(best.remaining, order.remaining)
            best.remaining -= volume
            order.remaining -= volume
            fills.append((best.number, volume))
            if not best.remaining:
                self.orders.remove(best)
        if order.remaining:
            self.orders.append(order)
        return fills

    def levels(self, side: Side) -> list[tuple[int, int]]:
        volumes: dict[int, int] = {}
        for order in self.orders:
            if order.side == side:
                volumes[order.price] = volumes.get(order.price, 0) + order.remaining
        return sorted(volumes.items(), reverse=side == "bid")


def limit(number: int, side: Side, price: int, volume: int) -> Order:
    return Order(id=str(number), side=side, price=price, volume=volume)


def resting(book: OrderBook) -> dict[str, int]:
    return {order.id: order.remaining for order in book.orders}


@given(order_flows())
def test_price_and_time_decide_as_in_a_naive_book(program: list[PlaceOrder | CancelOrder]) -> None:
    book, naive = OrderBook(), NaiveBook()
    for number, step in enumerate(program):
        if isinstance(step, PlaceOrder):
            fills = book.place(limit(number, step.side, step.price, step.volume))
            expected = naive.place(NaiveOrder(number, step.side, step.price, step.volume))
            assert [(int(maker.id), volume) for maker, volume in fills] == expected
        elif naive.orders:
            victim = naive.orders.pop(step.which % len(naive.orders))
            (order,) = (each for each in book.orders if each.id == str(victim.number))
            assert book.cancel(order) == victim.remaining
        assert resting(book) == {str(each.number): each.remaining for each in naive.orders}
        assert len(book) == len(naive.orders)
        for side in ("bid", "ask"):
            levels = naive.levels(side)
            assert book.levels(side, 100) == levels
            assert book.levels(side, 2) == levels[:2]


@given(order_flows())
def test_no_volume_appears_or_vanishes_and_the_book_is_never_crossed(program: list[PlaceOrder | CancelOrder]) -> None:
    book = OrderBook()
    placed = filled = cancelled = 0
    for number, step in enumerate(program):
        if isinstance(step, PlaceOrder):
            placed += step.volume
            taker = limit(number, step.side, step.price, step.volume)
            fills = book.place(taker)
            for maker, volume in fills:
                assert maker.side != taker.side
                assert volume > 0
                assert maker.price <= taker.price if taker.side == "bid" else maker.price >= taker.price
            filled += sum(volume for _, volume in fills)
            assert taker.remaining == step.volume - sum(volume for _, volume in fills)
        elif len(book):
            cancelled += book.cancel(book.orders[step.which % len(book)])
        assert placed == 2 * filled + cancelled + sum(order.remaining for order in book.orders)
        assert all(order.remaining > 0 for order in book.orders)
        bids, asks = book.levels("bid", 1), book.levels("ask", 1)
        if bids and asks:
            assert bids[0][0] < asks[0][0]


def test_an_order_sweeps_the_levels_and_its_rest_rests() -> None:
    book = OrderBook()
    near, far, behind = limit(1, "ask", 101, 2), limit(2, "ask", 103, 4), limit(3, "ask", 101, 3)
    for order in (far, near, behind):
        assert book.place(order) == []
    taker = limit(4, "bid", 102, 10)
    assert book.place(taker) == [(near, 2), (behind, 3)]
    assert (near.remaining, behind.remaining, far.remaining, taker.remaining) == (0, 0, 4, 5)
    assert book.levels("bid", 5) == [(102, 5)]
    assert book.levels("ask", 5) == [(103, 4)]


def test_a_partly_filled_order_keeps_its_place_in_the_queue() -> None:
    book = OrderBook()
    first, second = limit(1, "bid", 10, 5), limit(2, "bid", 10, 5)
    book.place(first)
    book.place(second)
    assert book.place(limit(3, "ask", 10, 2)) == [(first, 2)]
    assert book.place(limit(4, "ask", 9, 4)) == [(first, 3), (second, 1)]


def test_a_cancelled_order_is_not_hit_and_may_be_placed_again_behind_the_others() -> None:
    book = OrderBook()
    first, second = limit(1, "bid", 10, 5), limit(2, "bid", 10, 5)
    book.place(first)
    book.place(second)
    assert book.cancel(first) == 5
    assert first.remaining == 0
    book.place(first)
    assert book.place(limit(3, "ask", 10, 6)) == [(second, 5), (first, 1)]


@pytest.mark.parametrize(("price", "volume"), [(0, 1), (-1, 1), (1, 0), (1, -1)])
def test_an_order_below_one_tick_is_refused(price: int, volume: int) -> None:
    book = OrderBook()
    with pytest.raises(ValueError, match="at least one tick"):
        book.place(limit(1, "bid", price, volume))
    assert len(book) == 0


def test_a_resting_order_cannot_be_placed_again() -> None:
    book = OrderBook()
    order = limit(1, "bid", 10, 5)
    book.place(order)
    with pytest.raises(ValueError, match="a new order"):
        book.place(order)
    assert book.levels("bid", 5) == [(10, 5)]


def test_only_an_order_that_rests_in_this_book_can_be_cancelled() -> None:
    book, other = OrderBook(), OrderBook()
    order, elsewhere = limit(1, "bid", 10, 5), limit(1, "bid", 10, 5)
    book.place(order)
    other.place(elsewhere)
    for stranger in (elsewhere, limit(2, "bid", 10, 5)):
        with pytest.raises(ValueError, match="rests in this book"):
            book.cancel(stranger)
    book.cancel(order)
    with pytest.raises(ValueError, match="rests in this book"):
        book.cancel(order)
    assert len(book) == 0
