"""The goals: each a ratio of medians measured in one run, with the bound that it has to keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from bench.cases import Samples
from bench.measures.throughput import key

__all__ = ["GOALS", "Goal"]


@dataclasses.dataclass(frozen=True)
class Goal:
    """Something that we want to reach.

    Attributes:
        text: what is compared with what.
        bound: the least, or the most, that the ratio may be.
        ratio: reads it from the samples; None if it was not measured.
        is_least: whether `bound` is the least.
        unit: of ratio and bound.
    """

    text: str
    bound: float
    ratio: Callable[[Samples], float | None]
    is_least: bool = True
    unit: str = ""

    def is_met(self, ratio: float) -> bool:
        """Whether this is good enough."""
        return ratio >= self.bound if self.is_least else ratio <= self.bound


def _faster(case: str, than: str, receiver: str = "blocking") -> Callable[[Samples], float | None]:
    """How many times faster the receiver is, by processor time."""
    return lambda samples: samples.ratio((case, than), (case, receiver))


GOALS: tuple[Goal, ...] = (
    Goal("full, 1 a frame: blocking, faster than pysignalr", 4.5, _faster(key("full", 1), "pysignalr")),
    Goal("full, 1 a frame: blocking, faster than @microsoft/signalr", 2.2, _faster(key("full", 1), "node")),
    Goal("full, 1 a frame: blocking, against decoding alone", 0.65, _faster(key("full", 1), "decode only")),
    Goal("row, 1 a frame: blocking, faster than pysignalr", 6.5, _faster(key("row", 1), "pysignalr")),
    Goal("row, 1 a frame: blocking, faster than @microsoft/signalr", 2.7, _faster(key("row", 1), "node")),
    Goal("full, 10 a frame: blocking, faster than @microsoft/signalr", 1.4, _faster(key("full", 10), "node")),
    *(
        Goal(f"full, 1 a frame: {name}, against blocking", 0.9, _faster(key("full", 1), "blocking", name))
        for name in ("asyncio", "anyio on trio", "trio")
    ),
)
