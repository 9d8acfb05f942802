"""From the server's write to the user's loop, at 5,000 events a second, one by one and in bursts of 50."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from bench.cases import US, Case, on_task
from bench.task import Task

__all__ = ["BURSTS", "P50", "P99", "SINGLE", "cases"]

P50, P99 = "p50, µs", "p99, µs"
SINGLE, BURSTS = "5,000 a second, one by one", "5,000 a second, in bursts of 50"
_RECEIVERS = ("blocking", "asyncio", "trio", "pysignalr", "node")


def _delays(task: Task, outcome: dict[str, Any]) -> Mapping[str, float]:
    written, came = outcome["written"][task.warmup :], outcome["times"][task.warmup :]
    delays = sorted((there - here) / 1e3 for here, there in zip(written, came, strict=True))
    return {
        P50: statistics.median(delays),
        P99: delays[len(delays) * 99 // 100],
        US: outcome["cpu"] / task.events * 1e6,
    }


def cases(scale: float) -> Iterator[Case]:
    """Both; the processor time of so thin a stream comes with them."""
    for key, burst in ((SINGLE, 1), (BURSTS, 50)):
        # A second of it warms up, a second counts.
        count = max(int(5_000 * scale), 100)
        task = Task(measure="latency", rate=5_000, burst=burst, warmup=count, events=count)
        yield Case("latency", key, _RECEIVERS, on_task(task, _delays))
