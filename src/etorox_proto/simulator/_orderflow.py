"""The order flow of one instrument: what its traders do next, drawn from a seeded source.

Knows how traders behave: most orders rest near a middle that drifts slowly, some cross it and trade, some resting
orders are taken back. Does not know the book (only how many orders rest), decimals, time or customers.
`SimulatedMarket` asks for the next action of an instrument and carries it out.

The flow keeps a book bounded without looking into it: the fuller the book, the likelier the next action is a
cancellation, and at `CAPACITY` it always is. The middle is drawn back to where it began, so that months of drift stay
a plausible market.
"""

from __future__ import annotations

import random
from typing import final

import msgspec

from etorox_proto.simulator._matching import Side

__all__ = ["CAPACITY", "Cancel", "Draws", "OrderFlow", "Place"]

# As many orders rest in a book at most; about a third of it on average.
CAPACITY = 250

# How far the middle moves at most with one action, and how strongly it is drawn back, as shares of the opening price.
# In the long run it strays by about 4 % (one standard deviation, drift / sqrt(6 pull)), and never beyond one half.
_DRIFT = 3e-5
_PULL = 1e-7
_FARTHEST = 0.5

# Orders are priced on a grid coarser than the tick, as people do, so that several orders share a level. A step of the
# grid is at most this part of the price, if the tick permits.
_GRID = 10_000
_MEAN_DEPTH = 8.0
_DEEPEST = 80
_TAKERS = 0.25
_MEAN_VOLUME = 5_000.0

_UUID_VARIANT = 0x8 << 60
_UUID_VARIANT_MASK = ~(0xC << 60)


class Draws(random.Random):
    """A seeded source of everything random. The same seed gives the same draws; it is no source of secrets."""

    def uuid(self) -> str:
        """The text of a random UUID, version 4."""
        text = f"{self.getrandbits(128) & _UUID_VARIANT_MASK | _UUID_VARIANT:032x}"
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{text[16:20]}-{text[20:]}"


class Place(msgspec.Struct, frozen=True):
    """Place a new order.

    Attributes:
        side: which side.
        price: in price ticks, at least 1.
        volume: in volume ticks, at least 1.
    """

    side: Side
    price: int
    volume: int


class Cancel(msgspec.Struct, frozen=True):
    """Cancel a resting order.

    Attributes:
        index: which one, counted in the orders that rest.
    """

    index: int


@final
class OrderFlow:
    """What the traders of one instrument do.

    Args:
        draws: the source; flows may share one.
        price: the opening middle, in price ticks, at least 1.
    """

    def __init__(self, draws: Draws, *, price: int) -> None:
        self._draws = draws
        # A power of ten, so that the steps are round prices.
        self._grid = 10 ** (len(str(price // _GRID)) - 1)
        self._opening = price / self._grid
        self._shift = 0.0

    def next_action(self, resting: int) -> Place | Cancel:
        """Draw the next action.

        Args:
            resting: how many orders rest now.

        Returns:
            `Cancel` with an index below `resting`, certainly so if `resting` is `CAPACITY` or more; else `Place`.
        """
        draws = self._draws
        draw = draws.random
        shift = self._shift * (1.0 - _PULL) + _DRIFT * (2.0 * draw() - 1.0)
        self._shift = min(max(shift, -_FARTHEST), _FARTHEST)
        if draw() * CAPACITY < resting:
            return Cancel(int(draw() * resting))
        side: Side = "bid" if draw() < 0.5 else "ask"
        # Steps away from the best price that an order of this side may have without trading.
        depth = min(int(draws.expovariate(1.0 / _MEAN_DEPTH)), _DEEPEST)
        if draw() < _TAKERS:
            depth = -1 - depth
        step = int(self._opening * (1.0 + self._shift))
        step += 1 + depth if side == "ask" else -depth
        return Place(side, max(1, step) * self._grid, 1 + int(draws.expovariate(1.0 / _MEAN_VOLUME)))
