"""Mutants run in forks: the tests are collected once, and each mutant is a child that runs those which reach it.

A child exchanges the code of the functions that its mutant changes, as they are: whatever has imported them, and
whatever wraps them, runs the new code. What a test module computed while it was imported stays as it was.

Time is the processor's: a child may use three times what a test took when it was recorded, and some seconds.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType
from typing import NamedTuple

import coverage
import pytest

from mutation.mutants import Mutants

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/etorox_proto"
FOLDER = ROOT / ".pytest_cache/mutation"
# These wait for sockets or processes, or judge the text of the sources; test_thirty_days is one test of a minute.
LEFT_OUT = (
    *("bench", "cli", "interop", "transports", "test_embedding.py"),
    *("test_docs.py", "test_docs_consumers.py", "test_docs_serve.py", "test_architecture.py", "test_exports.py"),
)
PYTEST = (
    *("-q", "-p", "no:cacheprovider", "--tb=no", "--disable-warnings", "--no-header", f"--rootdir={ROOT}"),
    *(f"--ignore={ROOT / 'tests' / name}" for name in LEFT_OUT),
    "--deselect=tests/session/test_month.py::test_thirty_days_with_trouble",
    str(ROOT / "tests"),
)
KILLED = ("killed", "timeout")
SURVIVED = ("survived", "unreached")
MOST_MEMORY = 4 << 30

Functions = dict[tuple[str, int], list[FunctionType]]


class Outcome(NamedTuple):
    """What became of one mutant.

    Attributes:
        module: Path below the package, `signalr/_json.py`.
        place: Which of the mutants of its module it was.
        operator: What was done.
        line: Where.
        difference: Lines of a diff.
        outcome: `killed`, `timeout` (killed too), `survived`, `unreached` (no test runs that statement), or `void`: it
            is no program, or the same one, or runs only while modules are imported.
        test: Which test killed it.
        tests: How many tests reach the statement.
        left_out: How many of them had no place in the budget.
    """

    module: str
    place: int
    operator: str
    line: int
    difference: str
    outcome: str
    test: str
    tests: int
    left_out: int


class Recorder:
    """Runs the tests as they are, and notes how long each takes; pytest-cov notes what it reaches."""

    def __init__(self, *, add: bool) -> None:
        self._known: dict[str, float] = json.loads((FOLDER / "seconds.json").read_text()) if add else {}
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self) -> None:
        (FOLDER / "seconds.json").write_text(json.dumps(self._known | self._seconds))


def record(tests: Sequence[str]) -> int:
    """Run the tests once under coverage, or add only these to what was recorded; the exit code is pytest's."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n")
    os.environ.update(CI="yes", COVERAGE_FILE=str(FOLDER / "coverage"))
    cov = ["--cov=etorox_proto", "--cov-context=test", "--cov-report="]
    if tests:
        cov.append("--cov-append")
    which = [*PYTEST[:-1], *tests] if tests else PYTEST
    return pytest.main(["-x", *cov, *which], plugins=[Recorder(add=bool(tests))])


class Runner:
    """In place of pytest's loop over the tests: one over mutants.

    Args:
        modules: Paths below the package, with the places of the mutants that are to be run.
        budget: How many seconds of tests, as recorded, a mutant is given; the cheapest first.
        results: Where outcomes are appended, one line of JSON each.
    """

    def __init__(self, modules: dict[str, Sequence[int]], budget: float, results: Path) -> None:
        self._modules = modules
        self._budget = budget
        self._results = results
        self._seconds: dict[str, float] = json.loads((FOLDER / "seconds.json").read_text())
        self._coverage = coverage.CoverageData(str(FOLDER / "coverage"))
        self._coverage.read()

    def pytest_configure(self) -> None:
        from hypothesis import HealthCheck, Phase, settings  # noqa: PLC0415 -- pytest wants to be there first

        # The first failure is enough: no shrinking. And a machine that is busy must kill nobody.
        phases = (Phase.explicit, Phase.generate)
        slow = (HealthCheck.too_slow,)
        settings.register_profile("mutation", settings.get_profile("ci"), phases=phases, suppress_health_check=slow)
        settings.load_profile("mutation")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        live = {module: _functions(PACKAGE / module) for module in self._modules}
        gc.collect()
        gc.freeze()
        with self._results.open("a") as file:
            for module, places in self._modules.items():
                for outcome in self._run(module, places, items, live[module]):
                    file.write(json.dumps(outcome._asdict()) + "\n")
                    file.flush()
        return True

    def _run(
        self, module: str, places: Sequence[int], items: dict[str, pytest.Item], live: Functions
    ) -> Iterator[Outcome]:
        path = PACKAGE / module
        mutants = Mutants(path)
        reach = self._coverage.contexts_by_lineno(str(path))
        kills: Counter[str] = Counter()
        for place in places:
            mutant = mutants[place]
            reached = {name for line in mutant.lines for name in reach.get(line, ())}
            names = {name.partition("|")[0] for name in reached} & items.keys()
            # What has killed others nearby is likely to kill again.
            chosen: list[pytest.Item] = []
            spent = 0.0
            for name in sorted(names, key=lambda name: (self._seconds[name] + 0.001) / (1 + kills[name])):
                spent += self._seconds[name]
                if spent <= self._budget or not chosen:
                    chosen.append(items[name])
            if chosen:
                outcome, test = self._fork(path, mutant.code, live, chosen)
            else:
                outcome, test = "void" if reached else "unreached", ""
            if outcome in KILLED:
                kills[test] += 1
            counts = len(names), len(names) - len(chosen)
            yield Outcome(module, place, mutant.operator, mutant.lines.start, mutant.difference, outcome, test, *counts)

    def _fork(
        self,
        path: Path,
        code: str | None,
        live: Functions,
        items: Sequence[pytest.Item],
    ) -> tuple[str, str]:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            try:
                self._be(path, code, live, items, writer)
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            said = pipe.read().split("\n")
        _, status = os.waitpid(child, 0)
        last = said[-2] if len(said) > 1 else ""
        if os.WIFSIGNALED(status):
            return ("timeout" if os.WTERMSIG(status) in {signal.SIGPROF, signal.SIGKILL} else "killed"), last
        return {0: "survived", 1: "killed"}.get(os.WEXITSTATUS(status), "void"), last

    def _be(
        self,
        path: Path,
        code: str | None,
        live: Functions,
        items: Sequence[pytest.Item],
        writer: int,
    ) -> None:
        """The child: says each test's name before it runs, and exits with 1 at the first failure."""
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        if code is not None and not _exchange(path, code, live):
            os._exit(2)
        failed = _Failures()
        plugins = items[0].config.pluginmanager
        plugins.unregister(name="terminalreporter")
        plugins.register(failed)
        for item, following in zip(items, [*items[1:], None], strict=True):
            os.write(writer, f"{item.nodeid}\n".encode())
            signal.setitimer(signal.ITIMER_PROF, 3 * self._seconds[item.nodeid] + 4)
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if failed.any:
                os._exit(1)
        os._exit(0)


class _Failures:
    any = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.any |= report.failed


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _functions(path: Path) -> Functions:
    """The functions of a module that exist, by qualified name and place among those of that name."""
    found: defaultdict[CodeType, list[FunctionType]] = defaultdict(list)
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename == str(path):
            found[thing.__code__].append(thing)
    compiled = _keyed(compile(path.read_text(), str(path), "exec", dont_inherit=True))
    return {key: found.get(code, []) for key, code in compiled.items()}


def _keyed(module: CodeType) -> dict[tuple[str, int], CodeType]:
    """Properties have several functions of one name, so their place among these counts too."""
    seen: Counter[str] = Counter()
    keyed = {}
    for code in _codes(module):
        seen[code.co_qualname] += 1
        keyed[code.co_qualname, seen[code.co_qualname]] = code
    return keyed


def _exchange(path: Path, code: str, live: Functions) -> bool:
    """Give the functions of a module the code that it has now; False if none has changed, or it is no program."""
    changed = False
    try:
        module = compile(code, str(path), "exec", dont_inherit=True)
    except SyntaxError:
        return False
    for key, new in _keyed(module).items():
        for function in live.get(key, ()):
            old = function.__code__
            if old != new:
                # Without its `super()` it has no cell for the class, but a function keeps the number of its cells.
                function.__code__ = new if new.co_freevars else new.replace(co_freevars=old.co_freevars)
                changed = True
    return changed
