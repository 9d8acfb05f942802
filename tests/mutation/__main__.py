"""Mutation testing: `python tests/mutation record`, then `run`, then `show`; docs/explanation/testing.md says how."""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "src")]

import pytest

from mutation.forks import FOLDER, PACKAGE, PYTEST, SURVIVED, Runner, record
from mutation.mutants import Mutants
from mutation.report import outcomes, report


def main(arguments: Sequence[str] | None = None) -> int:
    """The script."""
    parser = argparse.ArgumentParser(prog="python tests/mutation", description="Do the tests notice mistakes?")
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("record", help="run the tests once, noting what each reaches and how long it takes")
    runs.add_argument("tests", nargs="*", help="files of tests, to add just these to what was recorded")
    run = commands.add_parser("run", help="run mutants")
    run.add_argument("modules", nargs="*", help="such as signalr/_json.py; all without")
    run.add_argument("--sample", type=int, help="how many of each module; all without")
    run.add_argument("--seed", type=int, default=1, help="of the samples")
    run.add_argument("--budget", type=float, default=30.0, help="seconds of tests for each mutant")
    run.add_argument("--survivors", action="store_true", help="only those that survived before, with another budget")
    show = commands.add_parser("show", help="a table, and the survivors that nobody has judged yet")
    for command in (run, show):
        command.add_argument("--results", type=Path, default=FOLDER / "results.jsonl")
    options = parser.parse_args(arguments)
    if options.command == "record":
        return record(options.tests)
    if options.command == "show":
        print(*report(outcomes(options.results).values()), sep="\n")
        return 0
    os.environ["CI"] = "yes"
    modules: list[str] = options.modules or sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
    chosen = {module: sample(module, options.sample, options.seed) for module in modules}
    if options.survivors:
        left = {mutant for mutant, outcome in outcomes(options.results).items() if outcome.outcome in SURVIVED}
        chosen = {module: [place for place in places if (module, place) in left] for module, places in chosen.items()}
    return pytest.main([*PYTEST], plugins=[Runner(chosen, options.budget, options.results)])


def sample(module: str, most: int | None, seed: int) -> Sequence[int]:
    """Which mutants of a module are run: the same ones for the same seed, and a larger sample has the smaller one."""
    places = list(range(len(Mutants(PACKAGE / module))))
    random.Random(f"{seed} {module}").shuffle(places)
    return sorted(places[:most])


if __name__ == "__main__":
    sys.exit(main())
