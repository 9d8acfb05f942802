"""`run`: all cases against one transport, and the score card.

Each case runs in a thread of its own, so that a transport that hangs fails a case and not the run. What a case leaves
behind (sockets, tasks, threads, complaints of the event loop) fails it as well.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import re
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from etorox_transports.conformance._case import CASES, Case, Stage
from etorox_transports.conformance._loops import Loop, loop_of
from etorox_transports.conformance._transport import Transport

__all__ = ["Report", "Result", "run", "run_case"]

# How long what a case leaves behind has to go away, in seconds.
_GRACE = 1.0


@final
@dataclass(frozen=True)
class Result:
    """What became of a case.

    Attributes:
        case: the case.
        outcome: `"not offered"` if the transport has not what the case needs.
        reason: why it failed, in a line; empty otherwise.
        details: the traceback of the failure.
        seconds: how long it took.
    """

    case: Case
    outcome: Literal["passed", "failed", "not offered"]
    reason: str = ""
    details: str = ""
    seconds: float = 0.0


@final
@dataclass(frozen=True)
class Report:
    """What became of all cases.

    Attributes:
        name: of the transport.
        results: one for each case.
    """

    name: str
    results: tuple[Result, ...]

    @property
    def failed(self) -> list[Result]:
        """Those that failed."""
        return [result for result in self.results if result.outcome == "failed"]

    def __str__(self) -> str:
        """The score card."""
        lines = [f"conformance of {self.name}"]
        groups: dict[str, list[Result]] = {}
        for result in self.results:
            groups.setdefault(result.case.name.partition("/")[0], []).append(result)
        for group, results in groups.items():
            asked = [result for result in results if result.outcome != "not offered"]
            passed = sum(result.outcome == "passed" for result in asked)
            lines.append(f"  {group:<8} {passed:>2} of {len(asked):>2}" if asked else f"  {group:<8} not offered")
        for result in self.failed:
            lines += [f"  FAILED {result.case.name}: {result.reason}", f"         demanded: {result.case.demand}"]
        passed = sum(result.outcome == "passed" for result in self.results)
        missing = sum(result.outcome == "not offered" for result in self.results)
        lines.append(f"  {passed} passed, {len(self.failed)} failed, {missing} not offered")
        return "\n".join(lines)

    def as_json(self) -> str:
        """The same for programs: an object with `name` and `results`."""
        results = [
            {
                "case": result.case.name,
                "demand": result.case.demand,
                "outcome": result.outcome,
                "reason": result.reason,
                "seconds": round(result.seconds, 3),
            }
            for result in self.results
        ]
        return json.dumps({"name": self.name, "results": results}, indent=2)


def run(transport: Transport, *, cases: Iterable[Case | str] = CASES) -> Report:
    """Run cases against a transport, one after the other. It takes some twenty seconds.

    Args:
        transport: what is to be tested.
        cases: cases, or their names; a group's name stands for all of it.

    Raises:
        ValueError: there is no such case.
    """
    chosen = [each for case in cases for each in _named(case)]
    gc.collect()  # see `run_case`
    return Report(transport.name, tuple(run_case(transport, case) for case in chosen))


def _named(case: Case | str) -> list[Case]:
    if isinstance(case, Case):
        return [case]
    found = [each for each in CASES if case in {each.name, each.name.partition("/")[0]}]
    if not found:
        groups = dict.fromkeys(each.name.partition("/")[0] for each in CASES)
        raise ValueError(f"expected the name of a case or of a group ({', '.join(groups)}), got {case!r}")
    return found


def run_case(transport: Transport, case: Case) -> Result:
    """Run one case against a transport.

    Sockets and the like that were left open before and become garbage meanwhile would be blamed on it. So say
    `gc.collect()` first, if anything else has run since the last case.
    """
    has_tasks, in_memory = transport.runs_on != "blocking", transport.in_memory
    if (case.needs_tasks and not has_tasks) or (case.in_memory and not in_memory):
        return Result(case, "not offered")
    failures: list[BaseException] = []
    began = time.monotonic()
    before: list[tuple[int, set[threading.Thread]]] = []

    def work() -> None:
        try:
            loop = loop_of(transport, in_memory=case.in_memory)
            loop.run(_nothing)  # the first loop of a library may open what it keeps for those to come
            before.append(_left_open())
            loop.run(lambda: _on_stage(transport, loop, case))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the case's failure
            failures.append(_innermost(error))

    with _complaints() as complaints:
        thread = threading.Thread(target=work, name=f"conformance {case.name}", daemon=True)
        thread.start()
        thread.join(case.limit)
        if thread.is_alive():
            reason = f"it did not end within {case.limit:g} s"
            return Result(case, "failed", reason, reason, time.monotonic() - began)
        gc.collect()
        left = _still_open(before[0]) if not failures else ""
    seconds = time.monotonic() - began
    if failures:
        error = failures[0]
        text = "".join(traceback.format_exception(error))
        return Result(case, "failed", _in_a_line(error), text, seconds)
    if left or complaints:
        reason = left or complaints[0]
        return Result(case, "failed", reason.splitlines()[0], reason, seconds)
    return Result(case, "passed", seconds=seconds)


async def _nothing() -> None:
    pass


async def _on_stage(transport: Transport, loop: Loop, case: Case) -> None:
    before = loop.tasks()
    await case.run(Stage(transport, loop))
    until = time.monotonic() + _GRACE
    while loop.tasks() > before and time.monotonic() < until:
        await loop.sleep(0.005)
    left = loop.tasks() - before
    assert left <= 0, f"expected no task to be left, there are {left}"


def _innermost(error: BaseException) -> BaseException:
    """What was raised, without the groups that event loops put around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _in_a_line(error: BaseException) -> str:
    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
    return kind + (str(error).splitlines() or ["it was not as it should be"])[0]


@contextlib.contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what the event loop and the interpreter complain about: tasks that nobody awaited, sockets left open."""
    collected: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            collected.append(f"the event loop complained: {record.getMessage()}")

    handler, logger = Collector(logging.WARNING), logging.getLogger("asyncio")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught, _unraisable(collected):
            warnings.simplefilter("always", ResourceWarning)
            yield collected
            collected += [f"{each.category.__name__}: {each.message}" for each in caught if _matters(each)]
    finally:
        logger.removeHandler(handler)


def _matters(warning: warnings.WarningMessage) -> bool:
    return issubclass(warning.category, ResourceWarning) and re.search("unclosed", str(warning.message)) is not None


@contextlib.contextmanager
def _unraisable(collected: list[str]) -> Iterator[None]:
    """Collect what is raised where nobody can catch it."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda each: collected.append(f"raised where nobody catches it: {each.exc_value!r}")
    try:
        yield
    finally:
        sys.unraisablehook = before


def _left_open() -> tuple[int, set[threading.Thread]]:
    return _open_files(), set(threading.enumerate())


def _still_open(before: tuple[int, set[threading.Thread]]) -> str:
    """What is open or alive now and was not before, in words."""
    until = time.monotonic() + _GRACE
    while True:
        files = _open_files() - before[0]
        threads = {
            each for each in threading.enumerate() if not each.name.startswith(("Trio thread", "conformance"))
        } - before[1]
        if files <= 0 and not threads:
            return ""
        if time.monotonic() > until:
            break
        time.sleep(0.005)
    if threads:
        return f"expected no thread to be left, there is {next(iter(threads)).name}"
    return f"expected no file or socket to be left open, there are {files}"


def _open_files() -> int:
    """How many files and sockets this process has open; 0 where the system does not say."""
    try:
        return len(list(Path("/proc/self/fd").iterdir()))
    except OSError:
        return 0
