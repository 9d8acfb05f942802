"""The tables: goals, and the median of every figure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from bench.cases import US, Case, Samples
from bench.goals import GOALS
from bench.measures.growth import CURVES

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
    for _, group in itertools.groupby(cases, key=lambda case: case.group.partition("-")[0]):
        yield from _group(samples, list(group))
        yield ""


def _group(samples: Samples, cases: list[Case]) -> Iterator[str]:
    """One table: a line for each receiver of each case, a column for each figure."""
    curve = CURVES.get(cases[0].group)
    names = list(
        dict.fromkeys(name for case in cases for one in case.receivers for name in samples.names(case.key, one))
    )
    if not names:
        return
    rows: list[list[str]] = []
    before: float | None = None
    for case in cases:
        for receiver in case.receivers:
            medians = [samples.median(case.key, receiver, name) for name in names]
            if medians.count(None) == len(names):
                continue
            row = [case.key, *([] if curve else [receiver])]
            row += ["" if median is None else f"{median:.2f}" for median in medians]
            cost = samples.median(case.key, receiver, US)
            if curve:
                row.append(f"{cost / before:.2f}" if cost and before else "")
                before = cost
            elif names == [US]:
                row.append(f"{1e6 / cost:,.0f}" if cost else "")
            rows.append(row)
    if curve:
        head = [curve, *names, "against the line above"]
    else:
        head = ["", "receiver", *names, *(["events a second"] if names == [US] else [])]
    yield from _table(head, rows)


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
