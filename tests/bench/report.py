"""The tables: goals, and the median of every figure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.cases import Case, Samples
from bench.goals import GOALS

__all__ = ["goal_rows", "tables"]


def goal_rows(samples: Samples) -> list[list[str]]:
    """Every goal that was measured: text, goal, figure, whether it is met."""
    rows = []
    for goal in GOALS:
        ratio = goal.ratio(samples)
        if ratio is None:
            continue
        bound = f"{'at least' if goal.is_least else 'at most'} {goal.bound:g}{goal.unit}"
        rows.append([goal.text, bound, f"{ratio:.2f}{goal.unit}", "yes" if goal.is_met(ratio) else "**no**"])
    return rows


def tables(samples: Samples, cases: Iterable[Case]) -> Iterator[str]:
    """All of it, as lines of Markdown."""
    if rows := goal_rows(samples):
        yield from _table(["measure", "goal", "measured", "met"], rows)
        yield ""
    rows = []
    for case in cases:
        for receiver in case.receivers:
            figure = samples.median(case.key, receiver)
            if figure is not None:
                rows.append([case.key, receiver, f"{figure:.2f}", f"{1e6 / figure:,.0f}"])
    yield from _table(["case", "receiver", "µs an event", "events a second"], rows)


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
