"""Virtual time: `Clock`, which jumps from one wake-up to the next, and the `Wakeup`s that it fires.

It knows nothing of streams and machines; `VirtualNetwork` owns one clock and everything in the network arms wake-ups
with it. `ManualClock` is the clock of those who use `FakeExchange` without a network.

Deadlines of machines move with nearly every byte, and mostly to later. So a wake-up that is put off keeps its place in
the heap and is put back when its turn comes; only one that is brought forward is queued again.
"""

from __future__ import annotations

import enum
import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Clock", "ManualClock", "Rank", "TimeSource", "Wakeup"]

# How often a deadline may come back within a microsecond; a machine that needs more does not get on.
_MOST_REPEATS = 1_000
_MOMENT = 1e-6


class TimeSource(Protocol):
    """Whatever tells a time: a `VirtualNetwork`, a `ManualClock`, or an object of your own."""

    @property
    def now(self) -> float:
        """Seconds of a monotonic clock."""
        ...

    @property
    def unix_time(self) -> float:
        """Seconds since the epoch, right at that moment."""
        ...


@dataclass
class ManualClock:
    """A clock that stands until you set it.

    Attributes:
        now: seconds; set it as you like, but never back.
        epoch: seconds since the epoch when `now` was 0.
    """

    now: float = 0.0
    epoch: float = 1_600_000_000.0

    @property
    def unix_time(self) -> float:
        """Seconds since the epoch."""
        return self.epoch + self.now


class Rank(enum.IntEnum):
    """The order of wake-ups that are due in the same moment: bytes that are there come before deadlines."""

    ACTION = 0
    ARRIVAL = 1
    DEADLINE = 2


class Wakeup:
    """One thing that may have to be done at a time, which can be moved; made by `Clock.wakeup`."""

    __slots__ = ("_clock", "_queued", "action", "due", "fired_since", "rank", "repeats")

    def __init__(self, clock: Clock, action: Callable[[], object], rank: Rank) -> None:
        self._clock = clock
        self._queued = math.inf
        self.action = action
        self.rank = rank
        self.due = math.inf
        self.fired_since = -math.inf
        self.repeats = 0

    def set(self, due: float) -> None:
        """Be fired at this time and not at the one set before; `math.inf` for never, a time that is past for now."""
        self.due = due
        if due < self._queued:
            self._queued = due
            self._clock.queue(due, self)

    def is_current(self, queued: float) -> bool:
        """Whether the place in the heap for that time is still this wake-up's place."""
        return queued == self._queued

    def leave(self) -> None:
        """Its place in the heap is given up."""
        self._queued = math.inf


class Clock:
    """Virtual seconds, and the heap of what is to come.

    Args:
        now: the time to begin at.

    Attributes:
        now: the time.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        self._heap: list[tuple[float, int, int, Wakeup]] = []
        self._order = itertools.count()

    def wakeup(self, action: Callable[[], object], rank: Rank) -> Wakeup:
        """A wake-up that is not set."""
        return Wakeup(self, action, rank)

    def queue(self, due: float, wakeup: Wakeup) -> None:
        """Give a wake-up its place; for `Wakeup` alone."""
        heapq.heappush(self._heap, (due, wakeup.rank, next(self._order), wakeup))

    def next_due(self) -> float:
        """When the next wake-up is to be fired; `math.inf` if none is set. It is then the first in the heap."""
        heap = self._heap
        while heap:
            queued, _, _, wakeup = heap[0]
            is_current = wakeup.is_current(queued)
            if is_current and wakeup.due <= queued:
                return queued
            heapq.heappop(heap)
            if is_current:
                wakeup.leave()
                wakeup.set(wakeup.due)
        return math.inf

    def fire_next(self, until: float) -> bool:
        """Jump to the next wake-up and fire it, if it is due at or before `until`.

        Returns:
            False if there is none; the time is then what it was.

        Raises:
            AssertionError: a machine answers its deadline again and again and does not move it.
        """
        due = self.next_due()
        if not self._heap or due > until:
            return False
        _, _, _, wakeup = heapq.heappop(self._heap)
        wakeup.leave()
        wakeup.due = math.inf
        self.now = max(self.now, due)
        if wakeup.rank is Rank.DEADLINE:
            self._check_progress(wakeup)
        wakeup.action()
        return True

    def _check_progress(self, wakeup: Wakeup) -> None:
        if self.now - wakeup.fired_since > _MOMENT:
            wakeup.fired_since, wakeup.repeats = self.now, 0
        wakeup.repeats += 1
        if wakeup.repeats > _MOST_REPEATS:
            raise AssertionError(
                f"expected handle_timeout to move the deadline on or to close, got {_MOST_REPEATS} calls at {self.now}"
            )
