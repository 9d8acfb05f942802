"""`Handover`: where a second stream of the same events takes over from the first, without loss and without repetition.

While a connection is being replaced, both carry the same subscription. Each stream is a run of one common sequence, but
neither says where in it it stands, and one may be ahead of the other. The first stream goes on leading; what comes by
the second waits, until an item of it is recognised among those of the first. From there on it is known of every item
of the second whether the first has brought it.

An event with a name that the documentation knows is recognised at once: it holds ids and times. Rows and unknown
events may repeat, so a match of theirs counts only if no other is left once both streams had time to bring the same
items. Silence counts only if the first connection is heard to live: bytes arrive in order, so a ping that comes late
enough says that nothing was on the way before it. Where no place is proven in time, the answer is honest: take over
with a gap, or do not take over.

Knows events and times; knows no connection. `_wanted` owns one for each subscription while two connections overlap.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from etorox_proto._market import Row, UnknownEvent

__all__ = ["Handover", "Takeover"]

# How much later than the other one a connection may bring the same item, in seconds; beyond it a row is no match.
_SKEW = 5.0
# How often to look whether the first connection has been heard, in seconds.
_RHYTHM = 1.0


class Takeover(msgspec.Struct, frozen=True):
    """The second stream leads from now on.

    Attributes:
        items: what it brought and the first did not, to be delivered now.
        repeats: what the first brought and the second will bring again; the next items of the second, to be dropped.
        proven: whether that is sure; if not, something may be missing before `items`.
    """

    items: list[Any]
    repeats: list[Any]
    proven: bool


class Handover:
    """Finds the place for one subscription.

    Args:
        now: when the second stream was asked for, in seconds.
        patience: how long two silent streams are watched, and how long a place is looked for, in seconds.
        limit: how many items of either stream may wait for the decision.
    """

    def __init__(self, now: float, *, patience: float, limit: int) -> None:
        self._patience = patience
        self._limit = limit
        self._began = now
        self._old: list[Any] = []
        self._old_times: list[float] = []
        self._new: list[Any] = []
        self._new_times: list[float] = []
        # When the first stream brought something that the second, which must have joined by then, has not.
        self._unanswered = math.inf
        self._candidates: list[int] = []  # indices into `_old` at which the second stream may have begun
        self._old_is_over = False
        self._looked = now

    @property
    def deadline(self) -> float:
        """When `decide` may have an answer that it has not now, even if nothing comes."""
        if self._new:
            times = [self._looked + _RHYTHM, self._gives_up, *map(self._expires, self._candidates)]
            return min((time for time in times if time > self._looked), default=self._looked)
        if self._old_is_over:
            return math.inf  # the second stream leads as soon as it brings something
        if len(self._old) >= self._limit:
            return self._looked
        due = (self._began if self._unanswered == math.inf else self._unanswered) + self._patience
        return due if due > self._looked else self._looked + _RHYTHM

    def old_received(self, item: Any, now: float) -> None:
        """The first stream brought an item, and it was delivered."""
        index = len(self._old)
        self._old.append(item)
        self._old_times.append(now)
        if not self._new:
            if now > self._began + _SKEW:
                self._unanswered = min(self._unanswered, now)
            return
        self._candidates = [
            start for start in self._candidates if index - start >= len(self._new) or self._new[index - start] == item
        ]
        self._add_candidate(index)

    def new_received(self, item: Any, now: float) -> None:
        """The second stream brought an item; it waits here."""
        position = len(self._new)
        self._new.append(item)
        self._new_times.append(now)
        if position == 0:
            for index in range(len(self._old)):
                self._add_candidate(index)
            return
        self._candidates = [
            start
            for start in self._candidates
            if start + position >= len(self._old) or self._old[start + position] == item
        ]

    def old_ended(self) -> None:
        """The first stream is over; what it has not brought until now it never will."""
        self._old_is_over = True

    def decide(self, now: float, old_heard: float) -> Takeover | None:
        """Whether the second stream can lead from now on; None as long as that is open.

        Args:
            now: seconds.
            old_heard: when the first connection last gave a sign of life.
        """
        self._looked = now
        if not self._new:
            # Two silent streams are equal: what is under way on the one is under way on the other. What only the first
            # one brought in the beginning came before the second one was heard.
            is_quiet = self._unanswered == math.inf and now >= self._began + self._patience
            is_quiet = is_quiet and old_heard >= self._began + _SKEW and not self._old_is_over
            return Takeover([], [item for item in self._old if _is_identified(item)], proven=True) if is_quiet else None
        self._candidates = [start for start in self._candidates if now < self._expires(start)]
        settled = self._new_times[0] + _SKEW
        is_settled = _is_identified(self._new[0]) or (now >= settled and old_heard >= settled and not self._old_is_over)
        if len(self._candidates) == 1 and is_settled:
            return self._take_over(self._candidates[0], proven=True)
        is_hopeless = self._old_is_over and not self._candidates
        if is_hopeless or now >= self._gives_up or max(len(self._new), len(self._old)) >= self._limit:
            # Rather lose something behind a gap than deliver it twice: of all places that fit, however late one of the
            # streams would have been, the earliest one repeats the most.
            fitting = (start for start in range(len(self._old)) if self._fits(start))
            return self._take_over(next(fitting, len(self._old)), proven=False)
        return None

    def is_hopeless(self, now: float) -> bool:
        """Whether the first stream goes on and the second brings nothing: it must not take over."""
        is_late = now >= self._unanswered + self._patience or len(self._old) >= self._limit
        return not self._new and not self._old_is_over and is_late

    @property
    def _gives_up(self) -> float:
        return self._new_times[0] + self._patience

    def _expires(self, start: int) -> float:
        """When that place is refuted: the first stream should have brought by then what it lacks if it were true."""
        lacking = len(self._old) - start
        if _is_identified(self._new[0]) or self._old_is_over or lacking >= len(self._new):
            return math.inf
        return self._new_times[lacking] + _SKEW

    def _add_candidate(self, index: int) -> None:
        """Enter a place if the second stream, as far as it came, fits there."""
        is_near = _is_identified(self._new[0]) or abs(self._old_times[index] - self._new_times[0]) <= _SKEW
        if is_near and self._fits(index):
            self._candidates.append(index)

    def _fits(self, start: int) -> bool:
        """Whether the streams bring the same where both have brought something, if the second one began there."""
        both = min(len(self._old) - start, len(self._new))
        return self._old[start : start + both] == self._new[:both]

    def _take_over(self, start: int, *, proven: bool) -> Takeover:
        both = len(self._old) - start
        return Takeover(self._new[both:], self._old[start + len(self._new) :], proven=proven)


def _is_identified(item: Any) -> bool:
    """Whether no two items are alike; those of documented events hold ids, times and volumes."""
    return not isinstance(item, Row | UnknownEvent)
