"""`SimulatedMarket`: several instruments, and when something happens in them.

Knows which instrument acts next and when, and the bound on what one call gives. Does not know what an action means
(`Venue` does), nor subscriptions, connections or clocks: the embedded exchange reads `deadline`, calls `advance`, and
sends each `Published` to whoever subscribed to it. The same seed and the same calls give the same events.

An action that published `k` events is followed by a pause whose mean is `k / rate` seconds. So `rate` counts public
events over all instruments whatever the mix of actions, and what one order causes still arrives together.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import final

from etorox_proto.signalr import LocalProtocolError
from etorox_proto.simulator._orderflow import Draws
from etorox_proto.simulator._venue import BookSnapshot, Instrument, Owners, Published, Venue

__all__ = ["INSTRUMENTS", "BookSnapshot", "Instrument", "Published", "SimulatedMarket"]

# A few milliseconds of work, so that a loop which calls `advance` stays responsive.
_MOST_AT_ONCE = 1024

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

INSTRUMENTS: tuple[Instrument, ...] = tuple(
    Instrument(channel, name, Decimal(price), Decimal(price_tick), Decimal(volume_tick))
    for channel, name, price, price_tick, volume_tick in (
        ("btcusd", "BTC/USD", "11250.00", "0.01", "0.0001"),
        ("ethusd", "ETH/USD", "390.00", "0.01", "0.001"),
        ("ltcusd", "LTC/USD", "57.800", "0.001", "0.01"),
        ("xrpusd", "XRP/USD", "0.29800", "0.00001", "0.1"),
        ("btceur", "BTC/EUR", "9560.00", "0.01", "0.0001"),
        ("ethbtc", "ETH/BTC", "0.034500", "0.000001", "0.001"),
    )
)
"""The instruments that a market has unless told otherwise."""


@final
class SimulatedMarket:
    """A market of several instruments, each with an order book and traders of its own.

    All books begin empty and fill within some hundred events for each instrument; no book ever holds more than 250
    orders, so a market can run for months.

    Args:
        seed: what happens follows from it.
        instruments: what is traded, at least one.
        rate: public events a second over all instruments, on average. 0: nothing happens by itself, only `step` makes
            changes. `math.inf`: each `advance` gives as much as it may.
        now: the time, in seconds from any origin, as for `advance`.
        unix_time: the same moment in seconds since 1970, UTC; the times in events count from it.

    Raises:
        LocalProtocolError: no instruments, two of the same id, or a rate that is negative or no number.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        instruments: Sequence[Instrument] = INSTRUMENTS,
        rate: float = 10.0,
        now: float,
        unix_time: float,
    ) -> None:
        if not rate >= 0.0:
            raise LocalProtocolError(f"expected a rate of 0 or more events a second, got {rate}")
        draws = Draws(seed)
        self._owners = Owners(Draws(f"owners of {seed}"))
        self._venues = {each.id: Venue(each, draws=draws, owners=self._owners) for each in instruments}
        if not self._venues or len(self._venues) < len(instruments):
            raise LocalProtocolError(f"expected instruments of different ids, got {[each.id for each in instruments]}")
        self._instruments = tuple(instruments)
        self._turns = tuple(self._venues.values())
        self._draws = draws
        self._rate = rate
        self._unix_offset = unix_time - now
        self._due = now
        self._pause(1)

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """What is traded."""
        return self._instruments

    @property
    def customers(self) -> tuple[str, ...]:
        """Who is registered, in the order of registration."""
        return self._owners.customers

    @property
    def deadline(self) -> float:
        """When the next action is due, in seconds as `now`; `math.inf` if the rate is 0.

        It stays in the past while more is due than one `advance` gives.
        """
        return self._due if self._rate else math.inf

    def register(self, customer: str) -> None:
        """Let a customer take part: a quarter of the orders placed from now on belong to the registered customers.

        Nothing changes but who owns the orders; the public events are the same with and without customers. To register
        again does nothing.
        """
        if customer not in self._owners.customers:
            self._owners.customers += (customer,)

    def advance(self, now: float) -> list[Published]:
        """Carry out what is due.

        Args:
            now: the time in seconds, from the same origin as the constructor's. An earlier one than before does
                nothing.

        Returns:
            The changes in the order in which they happened, each with the time when it was due. Not many more than a
            thousand: while `deadline` is in the past, call again.
        """
        if not 0.0 < self._rate < math.inf:
            # No pause moves the time of these.
            self._due = max(self._due, now)
        published: list[Published] = []
        while self.deadline <= now and len(published) < _MOST_AT_ONCE:
            published += self.step()
        return published

    def step(self) -> list[Published]:
        """Carry out the next action at once, whether it is due or not.

        Returns:
            All that one action causes, at least one change, with the time when it was due. Afterwards `deadline` is
            that of the action after it.
        """
        draws = self._draws
        milliseconds = math.floor((self._due + self._unix_offset) * 1000.0)
        venue = self._turns[int(draws.random() * len(self._turns))]
        published = venue.act(_EPOCH + datetime.timedelta(milliseconds=milliseconds))
        self._pause(len(published))
        return published

    def book(self, channel: str, levels: int) -> BookSnapshot:
        """What rests in the book of one instrument now.

        Args:
            channel: the instrument's id.
            levels: how many prices of each side at most, from the best on; at least 1.

        Raises:
            LocalProtocolError: no such instrument, or no level.
        """
        venue = self._venues.get(channel)
        if venue is None or levels < 1:
            raise LocalProtocolError(
                f"expected one of {', '.join(self._venues)} and a level or more, got {channel!r} and {levels}"
            )
        return venue.snapshot(levels)

    def _pause(self, events: int) -> None:
        if self._rate:
            self._due += self._draws.expovariate(self._rate / events)
