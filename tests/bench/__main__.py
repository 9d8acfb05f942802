"""The benchmarks: `python tests/bench` measures everything and prints the tables.

`--install` installs the peers first; without them the run leaves them out, with a reason.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent.parent / "src")]

from bench.cases import Case, measure
from bench.measures import growth, latency, machines, resources, throughput
from bench.report import tables
from bench.runs import ROOT, Bench


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser(prog="python tests/bench", description="Measure, and compare with other clients.")
    parser.add_argument("--install", action="store_true", help="install the peers first")
    parser.add_argument("--peers", type=Path, default=ROOT / ".bench", help="the folder where they are")
    parser.add_argument("--only", default="", help="groups of measures, such as full,row")
    parser.add_argument("--receivers", default="", help="only these, such as 'blocking,pysignalr,decode only'")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="few events and one round: does it work?")
    options = parser.parse_args()
    bench = Bench(options.peers.resolve())
    if options.install:
        bench.install()
    with tempfile.TemporaryDirectory() as folder:
        scale = 0.02 if options.quick else 1.0
        cases = [
            *throughput.cases(scale),
            *machines.cases(scale, Path(folder)),
            *latency.cases(scale),
            *resources.cases(scale),
            *growth.cases(scale),
        ]
        run(parser, options, bench, cases)


def run(parser: argparse.ArgumentParser, options: argparse.Namespace, bench: Bench, cases: list[Case]) -> None:
    """Choose the cases, measure them, and print the tables."""
    groups = {name for name in options.only.split(",") if name}
    if unknown := groups - {case.group for case in cases}:
        known = ", ".join(dict.fromkeys(case.group for case in cases))
        parser.error(f"expected --only to name some of {known}; got {', '.join(sorted(unknown))}")
    if groups:
        cases = [case for case in cases if case.group in groups]
    if options.receivers:
        bench = Bench(bench.peers, only=frozenset(options.receivers.split(",")))
    samples = measure(bench, cases, 1 if options.quick else options.rounds)
    print(*tables(samples, cases), sep="\n")


if __name__ == "__main__":
    main()
