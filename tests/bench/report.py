"""The page: goals, the plot, and the median of every figure, as Markdown."""

from __future__ import annotations

import itertools
import os
import platform
from collections.abc import Iterable, Iterator, Sequence

from bench.cases import US, Case, Samples
from bench.goals import GOALS
from bench.measures.growth import CURVES
from bench.plot import PLOT

__all__ = ["goal_rows", "page", "tables"]

_HEADINGS = {
    "full": "Whole events",
    "row": "Rows",
    "full-messagepack": "Whole events in MessagePack",
    "row-messagepack": "Rows in MessagePack",
    "session": "What a session adds",
    "tls": "TLS",
    "latency": "Latency",
    "import": "Import",
    "first": "The first event",
    "memory": "Memory",
    "idle": "Idle connections",
    "subscriptions": "Growth: subscriptions",
    "connections": "Growth: connections",
    "size": "Growth: message size",
    "chunk": "Growth: bytes a read",
}
_HEAD = f"""# Benchmarks

This page and its plot are written by `python tests/bench`; [Benchmark](../howto/benchmark.md) says how, and what each
figure means. µs an event is processor time, median of the rounds; the goals compare within rounds.

![Events a second of processor time, by receiver]({PLOT})
"""


def page(samples: Samples, cases: Sequence[Case], versions: Sequence[str], rounds: int) -> str:
    """The whole page.

    Args:
        samples: what was measured.
        cases: what can be shown.
        versions: of the peers.
        rounds: how many there were.
    """
    system = f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.machine()}"
    where = f"Taken with {system}, {os.cpu_count()} processors, {rounds} rounds; {', '.join(versions)}."
    return "\n".join([_HEAD, *_wrapped(where), "", *tables(samples, cases)]).rstrip() + "\n"


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
    """All figures, as lines of Markdown."""
    if rows := goal_rows(samples):
        yield "## Goals"
        yield ""
        yield from _table(["measure", "goal", "measured", "met"], rows)
        yield ""
    for group, members in itertools.groupby(cases, key=lambda case: case.group):
        if lines := list(_group(samples, list(members))):
            yield f"## {_HEADINGS[group]}"
            yield ""
            yield from lines
            yield ""


def _group(samples: Samples, cases: list[Case]) -> Iterator[str]:
    """One table: a line for each receiver of each case, a column for each figure."""
    curve = CURVES.get(cases[0].group)
    pairs = [(case.key, receiver) for case in cases for receiver in case.receivers]
    names = list(dict.fromkeys(name for pair in pairs for name in samples.names(*pair)))
    rows: list[list[str]] = []
    before: float | None = None
    for key, receiver in pairs:
        medians = [samples.median(key, receiver, name) for name in names]
        if medians.count(None) == len(medians):
            continue
        row = [key, *([] if curve else [receiver]), *map(_number, medians)]
        cost = samples.median(key, receiver)
        if curve:
            row.append(_number(cost / before if cost and before else None))
            before = cost
        elif names == [US]:
            row.append(_number(1e6 / cost if cost else None))
        rows.append(row)
    if not rows:
        return
    if curve:
        yield from _table([curve, *names, "time against the line above"], rows)
    else:
        yield from _table(["", "receiver", *names, *(["events a second"] if names == [US] else [])], rows)


def _number(value: float | None) -> str:
    """Three digits of it, or all before the point."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _wrapped(text: str) -> Iterator[str]:
    line = ""
    for word in text.split():
        if len(line) + len(word) >= 118:
            yield line
            line = ""
        line = f"{line} {word}".lstrip()
    yield line
