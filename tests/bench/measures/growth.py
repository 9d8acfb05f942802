"""How the cost of an event grows with subscriptions, connections, message size and chunk size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench.cases import US, Case, on_task
from bench.task import Task

__all__ = ["CURVES", "PER_BYTE", "cases"]

PER_BYTE = "ns a byte"

_SUBSCRIPTIONS = (1, 10, 100)
_CONNECTIONS = (1, 100, 1_000)
_SIZES = (100, 1_000, 10_000, 100_000, 1_048_576)
_CHUNKS = (1, 16, 256, 4_096, 65_536, 262_144)
_ROUNDS = 3


def cases(scale: float) -> Iterator[Case]:
    """All points of all curves."""
    for count in _SUBSCRIPTIONS:
        task = Task(subscriptions=count, merged=True, warmup=int(10_000 * scale), events=int(50_000 * scale))
        yield _case("subscriptions", f"{count:,} subscriptions", "blocking", task)
    for count in _CONNECTIONS:
        # All together as many events a second, so that what is compared is not how well reads are filled.
        number = max(int(count * scale), 1)
        task = Task(connections=number, rate=4_000, warmup=2 * number, events=int(8_000 * scale))
        yield _case("connections", f"{count:,} connections", "asyncio", task)
    for size in _SIZES:
        events = int(min(50_000, 60_000_000 / size) * scale) + 1
        yield _case(
            "size",
            f"{size:,} B a message",
            "blocking",
            Task(shape="sized", size=size, warmup=events // 4 + 1, events=events),
        )
    for chunk in _CHUNKS:
        events = int(min(50_000, chunk * 300) * scale) + 1
        yield _case(
            "chunk", f"{chunk:,} B a read", "blocking", Task(chunk=chunk, warmup=events // 4 + 1, events=events)
        )


CURVES: Mapping[str, str] = {
    "subscriptions": "subscriptions on one connection, `events()`",
    "connections": "connections in one process, 4,000 events a second in all, asyncio",
    "size": "size of a message",
    "chunk": "bytes read at a time",
}


def _case(group: str, point: str, receiver: str, task: Task) -> Case:
    def figures(task: Task, outcome: dict[str, Any]) -> Mapping[str, float]:
        cost = outcome["cpu"] / task.events * 1e6
        return {US: cost} | ({PER_BYTE: cost * 1e3 / task.size} if task.size else {})

    return Case(group, point, (receiver,), on_task(task, figures), rounds=_ROUNDS)
