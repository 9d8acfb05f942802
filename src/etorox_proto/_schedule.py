"""`Schedule`: when the next attempt begins.

Knows how often attempts failed, when the last ones began, and how old a connection may become; knows nothing of what an
attempt is. `Session` owns one. Randomness is an argument, as everywhere.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from etorox_proto._config import SessionConfig

__all__ = ["Schedule"]

_MINUTE = 60.0
# Two to this power is further than any cap; beyond it the power itself would grow without bound.
_MOST_DOUBLINGS = 60


class Schedule:
    """The time of one next attempt: after a failure, or to replace a connection that grows old.

    After failures the pauses are exponential, capped, and with full jitter: a pause is anything between nothing and the
    capped exponential, so that clients that lost the same server at the same moment do not come back at the same
    moment. And there is a ceiling of attempts a minute, whatever the reason.

    Args:
        config: of the session.
        random: gives numbers from 0 up to and without 1.

    Attributes:
        deadline: when the next attempt begins; `math.inf` while none is planned.
        attempts: how many have begun.
    """

    def __init__(self, config: SessionConfig, random: Callable[[], float]) -> None:
        self._config = config
        self._random = random
        self._failures = 0
        self._begun: deque[float] = deque(maxlen=config.attempts_per_minute)
        self.deadline = math.inf
        self.attempts = 0

    def begin(self, now: float) -> None:
        """An attempt begins now; no other is planned."""
        self._begun.append(now)
        self.attempts += 1
        self.deadline = math.inf

    def stop(self) -> None:
        """No attempt is planned any more."""
        self.deadline = math.inf

    def plan(self, when: float) -> None:
        """Plan one for that time, or for the later one that the ceiling allows."""
        is_full = len(self._begun) == self._begun.maxlen
        self.deadline = max(when, self._begun[0] + _MINUTE) if is_full else when

    def plan_after_failure(self, now: float) -> None:
        """A connection ended, or an attempt to make one: plan another after a pause."""
        doublings = min(self._failures, _MOST_DOUBLINGS)
        self._failures += 1
        self.plan(now + self._random() * min(self._config.backoff_cap, self._config.backoff_base * 2.0**doublings))

    def plan_rotation(self, began: float, now: float) -> None:
        """Plan the replacement of a connection that began then; never before now."""
        if self._config.reconnect and self._config.rotate_after != math.inf:
            spread = min(self._config.rotate_spread, self._config.rotate_after / 2)
            self.plan(max(now, began + self._config.rotate_after - self._random() * spread))

    def lasted(self, seconds: float) -> None:
        """A connection ended that had been ready for so long; if that was long enough, failures count anew."""
        if seconds >= self._config.stable_after:
            self._failures = 0
