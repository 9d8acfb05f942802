"""Memory after many events, what idle connections cost, importing, and the time until the first event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench.cases import Case, on_task
from bench.runs import OURS, PEERS, Bench
from bench.task import Task

__all__ = ["FIRST", "GROWN", "IDLE", "IMPORT", "MEMORY", "MILLISECONDS", "MORE", "PEAK", "cases"]

IMPORT, FIRST = "import", "from connect to the first event"
MEMORY, GROWN = "100,000 events", "two million events, against ten thousand"
IDLE = "a thousand idle connections"
MILLISECONDS, PEAK, MORE = "processor time, ms", "peak, MiB", "more, MiB"
_MIB = 1_048_576


def cases(scale: float) -> Iterator[Case]:
    """All of them."""
    imports = (
        "import etorox_proto",
        "import etorox_transports.blocking",
        "import pysignalr",
        "import pysignalr.client",
    )
    yield Case("import", IMPORT, imports, _imported)
    first = Task(measure="first", warmup=0, events=1)
    yield Case("first", FIRST, (*OURS, *PEERS), on_task(first, _elapsed), rounds=3)
    some = Task(measure="memory", warmup=int(10_000 * scale), events=int(90_000 * scale))
    yield Case("memory", MEMORY, ("blocking", "asyncio", "trio", *PEERS), on_task(some, _weighed), rounds=3)
    many = Task(measure="memory", warmup=int(10_000 * scale), events=int(1_990_000 * scale))
    yield Case("memory", GROWN, ("blocking", "asyncio", "trio"), on_task(many, _weighed), rounds=1)
    # Long enough for every connection to ping once.
    idle = Task(measure="idle", connections=int(1_000 * scale), seconds=16 * scale)
    yield Case("idle", IDLE, ("asyncio", "trio", "pysignalr"), on_task(idle, _idled), rounds=1)


def _imported(bench: Bench, receiver: str) -> Mapping[str, float]:
    return {MILLISECONDS: bench.imported(receiver) * 1e3}


def _elapsed(_task: Task, outcome: dict[str, Any]) -> Mapping[str, float]:
    return {"wall time, ms": outcome["wall"] * 1e3, MILLISECONDS: outcome["cpu"] * 1e3}


def _weighed(_task: Task, outcome: dict[str, Any]) -> Mapping[str, float]:
    return {MORE: (outcome["memory"] - outcome["warm"]) / _MIB, PEAK: outcome["peak"] / _MIB}


def _idled(task: Task, outcome: dict[str, Any]) -> Mapping[str, float]:
    return {
        "KiB a connection": (outcome["memory"] - outcome["before"]) / 1_024 / task.connections,
        "µs of processor time a connection and minute": outcome["cpu"] * 1e6 / task.connections / task.seconds * 60,
    }
