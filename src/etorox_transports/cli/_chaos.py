"""`Chaos`: what goes wrong at the embedded exchange, and when; for `etorox simulate --chaos`.

It decides and describes, from a seed; `_host` carries it out, because it has the sockets. `Valve` is what it puts on a
stream whose bytes are to be held back. No socket, no clock.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

__all__ = ["Chaos", "Fault", "FaultKind", "Valve"]


class FaultKind(enum.Enum):
    """The ways in which it goes wrong."""

    RESET = "reset {stream}"
    HALF_CLOSE = "ended {stream} without a goodbye, and went on reading"
    BLACK_HOLE = "holds everything back on {stream}, for {seconds:.1f} s"
    SLOW = "lets {rate} bytes a second through on {stream}, for {seconds:.1f} s"
    REFUSE = "refuses new streams, for {seconds:.1f} s"
    GOODBYE = "said goodbye on {stream}, with allowReconnect"
    LAST_GOODBYE = "said goodbye on {stream}, without allowReconnect"


# How often each kind comes beside the others; the last goodbye is final for a client, so it is rare.
_WEIGHTS = {
    FaultKind.RESET: 4,
    FaultKind.HALF_CLOSE: 3,
    FaultKind.BLACK_HOLE: 3,
    FaultKind.SLOW: 3,
    FaultKind.REFUSE: 2,
    FaultKind.GOODBYE: 4,
    FaultKind.LAST_GOODBYE: 1,
}
# How long troubles last, in seconds. A client gives a silent server up after 30.
_SECONDS = {FaultKind.BLACK_HOLE: (3.0, 45.0), FaultKind.SLOW: (3.0, 20.0), FaultKind.REFUSE: (1.0, 10.0)}
_BYTES_A_SECOND = (50, 2_000)
# How finely slow bytes drop, in seconds.
_DROP = 0.05


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        kind: what.
        stream: the number of the stream that it hits.
        seconds: how long it lasts, 0 if it is over at once.
        rate: how many bytes a second pass, for `SLOW`.
    """

    kind: FaultKind
    stream: int
    seconds: float = 0.0
    rate: int = 0

    def __str__(self) -> str:
        return self.kind.value.format(stream=f"stream {self.stream}", seconds=self.seconds, rate=self.rate)


@final
class Chaos:
    """When something goes wrong, and what; seeded.

    Args:
        rate: faults a minute, on average.
        seed: the same one gives the same faults, for the same streams at the same times.
        say: is told of each fault.
        kinds: which there may be; by default all.

    Attributes:
        deadline: when `next_fault` must be asked next.
    """

    def __init__(
        self,
        *,
        rate: float,
        seed: int = 0,
        say: Callable[[str], None] = lambda _text: None,
        kinds: Sequence[FaultKind] = tuple(FaultKind),
    ) -> None:
        self._mean = 60.0 / rate
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._say = say
        self._kinds = list(kinds)
        self.deadline = -math.inf

    def next_fault(self, streams: Sequence[int], now: float) -> Fault | None:
        """What goes wrong now; None: nothing. The first time it only begins to count.

        Args:
            streams: the numbers of those that are open.
            now: seconds.
        """
        if now < self.deadline:
            return None
        is_first = self.deadline == -math.inf
        self.deadline = now + self._random.expovariate(1.0) * self._mean
        if is_first or not streams:
            return None
        kind = self._random.choices(self._kinds, [_WEIGHTS[kind] for kind in self._kinds])[0]
        fault = Fault(
            kind,
            self._random.choice(streams),
            self._random.uniform(*_SECONDS.get(kind, (0.0, 0.0))),
            self._random.randint(*_BYTES_A_SECOND),
        )
        self._say(str(fault))
        return fault


@final
class Valve:
    """How many bytes may pass on one stream; all of them, unless it has been turned down.

    Attributes:
        deadline: when more may pass than now.
    """

    def __init__(self) -> None:
        self.deadline = math.inf
        self._rate = 0
        self._until = -math.inf
        self._passed_at = 0.0

    def turn_down(self, rate: int, *, now: float, until: float) -> None:
        """Let so many bytes a second pass until then, 0 for none; a longer trouble that there is already stays."""
        if until > self._until:
            self._rate, self._until, self._passed_at = rate, until, now
            self.deadline = until

    def look(self, now: float) -> None:
        """Time has passed."""
        self.deadline = self._until if now < self._until else math.inf

    def is_shut(self, now: float) -> bool:
        """Whether nothing passes in either direction."""
        return now < self._until and not self._rate

    def take(self, data: bytes, now: float) -> bytes:
        """As much from the beginning of these bytes as may pass now."""
        if now >= self._until:
            return data
        allowed = int((now - self._passed_at) * self._rate)
        if allowed:
            self._passed_at = now
        if self._rate:
            self.deadline = min(self._until, now + _DROP)
        return data[:allowed]
