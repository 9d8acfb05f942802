"""`Case`: something to measure on several receivers; `Samples`: what came out, round by round.

Receivers take turns within a round, so that what the machine does besides falls on all of them, and figures are
compared within their round: a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bench.runs import Bench
from bench.task import Task

__all__ = ["US", "Case", "Samples", "measure", "microseconds", "on_task"]

# The name of the figure that most cases have.
US = "µs an event"

Run = Callable[[Bench, str], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Case:
    """Something to measure.

    Attributes:
        group: what `--only` calls it.
        key: names it among all, such as `full 1 json`.
        receivers: on what.
        run: measures one of them, once; its figures by name.
        rounds: it is measured so often at most.
    """

    group: str
    key: str
    receivers: Sequence[str]
    run: Run
    rounds: int = 1_000


class Samples:
    """All figures: by case, receiver and name, one for each round."""

    def __init__(self) -> None:
        self._figures: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)

    def add(self, case: str, receiver: str, figures: Mapping[str, float]) -> None:
        """Keep the figures of one run."""
        for name, value in figures.items():
            self._figures[case, receiver, name].append(value)

    def names(self, case: str, receiver: str) -> list[str]:
        """The names of its figures."""
        return [name for one, other, name in self._figures if (one, other) == (case, receiver)]

    def rates(self, case: str) -> dict[str, float]:
        """Events a second of processor time, of every receiver of a case, by the medians."""
        receivers = [receiver for one, receiver, name in self._figures if (one, name) == (case, US)]
        return {receiver: 1e6 / statistics.median(self.all(case, receiver)) for receiver in receivers}

    def all(self, case: str, receiver: str, name: str = US) -> list[float]:
        """A figure of all rounds; empty if it was not measured."""
        return self._figures.get((case, receiver, name), [])

    def median(self, case: str, receiver: str, name: str = US) -> float | None:
        """The median of a figure of a case; None if it was not measured."""
        figures = self.all(case, receiver, name)
        return statistics.median(figures) if figures else None

    def ratio(self, of: tuple[str, str], to: tuple[str, str], name: str = US) -> float | None:
        """The median of the ratios of a figure, of one case and receiver to another; None if not measured."""
        return self.combine(lambda one, other: one / other, [of, to], name)

    def combine(self, formula: Callable[..., float], kinds: Sequence[tuple[str, str]], name: str = US) -> float | None:
        """The median of what a formula makes of a figure of some cases and receivers, round by round."""
        rounds = zip(*(self.all(*kind, name) for kind in kinds), strict=False)
        values = [formula(*figures) for figures in rounds]
        return statistics.median(values) if values else None


def measure(bench: Bench, cases: Iterable[Case], rounds: int) -> Samples:
    """Measure all cases, in turns; says on standard error how far it has come.

    A receiver that is not installed is left out, with a reason; one that fails is left out from then on.
    """
    samples, cases = Samples(), list(cases)
    gone: set[tuple[str, str]] = set()
    for receiver in dict.fromkeys(name for case in cases for name in case.receivers):
        if reason := bench.missing(receiver):
            print(f"left out: {reason}", file=sys.stderr)
            gone |= {(case.key, receiver) for case in cases}
    for number in range(rounds):
        for case in cases:
            if number >= case.rounds:
                continue
            print(f"round {number + 1} of {rounds}: {case.key}", file=sys.stderr, flush=True)
            for receiver in case.receivers:
                if (case.key, receiver) in gone:
                    continue
                try:
                    samples.add(case.key, receiver, case.run(bench, receiver))
                except (subprocess.SubprocessError, ValueError, IndexError) as error:
                    print(f"left out: {receiver} failed at {case.key}: {error}", file=sys.stderr)
                    gone.add((case.key, receiver))
    return samples


def on_task(task: Task, figures: Callable[[Task, dict[str, Any]], Mapping[str, float]]) -> Run:
    """A run of one task, whose outcome is made figures."""
    return lambda bench, receiver: figures(task, bench.run(receiver, task))


def microseconds(task: Task, outcome: dict[str, Any]) -> dict[str, float]:
    """Processor time of an event."""
    return {US: outcome["cpu"] / task.events * 1e6}
