"""What every receiver counts and prints; for those of peers too, so it needs the standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from bench.task import Task

if sys.platform == "win32":
    resource = None
else:
    import resource

__all__ = ["Tally", "finish", "memory", "read_task"]


def read_task() -> Task:
    """The task that this process was started with."""
    if resource is not None:  # a thousand connections are more than is usual
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return Task.load(sys.argv[1])


def finish(**figures: Any) -> NoReturn:
    """Print the figures and end at once, without a goodbye: that is not what is measured."""
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
    os._exit(0)


def memory(what: str = "VmRSS") -> int:
    """Bytes of resident memory, now (`VmRSS`) or at most (`VmHWM`); 0 where the system does not say.

    Not `ru_maxrss`: that counts in what the process was before it became this program.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(what):
                return int(line.split()[1]) * 1_024
    return 0


class Tally:
    """Counts events; `take` is called with each of them, and ends the process after the last.

    Args:
        task: what is measured.

    Attributes:
        take: to be called with each event that reaches the user.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._left = 1 if task.measure == "first" else task.warmup
        self._is_warm = False
        self._times: list[int] = []
        self._memory = 0
        self._cpu = time.process_time()
        self._wall = time.monotonic()
        self.take = self._take_time if task.measure == "latency" else self._take

    def cpu(self) -> float:
        """Seconds of processor time since the measure began."""
        return time.process_time() - self._cpu

    def _take(self, event: Any) -> None:
        self._left -= 1
        if not self._left:
            self.turn(event)

    def turn(self, event: Any) -> None:
        """The warm-up, or the measure, is over with this event."""
        cpu, wall = time.process_time(), time.monotonic()
        if self._is_warm or self._task.measure == "first":
            assert event.price if hasattr(event, "price") else len(event) == len(self._task.fields or range(11))
            finish(
                cpu=cpu - self._cpu,
                wall=wall - self._wall,
                events=self._task.events,
                times=self._times,
                warm=self._memory,
                memory=memory(),
                peak=memory("VmHWM"),
            )
        self._is_warm = True
        self._left = self._task.events
        self._memory = memory()
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def _take_time(self, event: Any) -> None:
        self._times.append(time.monotonic_ns())
        self._left -= 1
        if not self._left:
            self.turn(event)
