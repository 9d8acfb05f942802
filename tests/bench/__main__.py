"""The benchmarks: `python tests/bench` measures everything, prints the tables and writes them into docs/reference.

`--install` installs the peers first; without them the run leaves them out, with a reason.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent.parent / "src")]

from bench.cases import Case, measure
from bench.measures import growth, latency, machines, resources, throughput
from bench.plot import PLOT, draw
from bench.report import page, tables
from bench.runs import ROOT, Bench


def main(arguments: Sequence[str] | None = None) -> None:
    """The script."""
    parser = argparse.ArgumentParser(prog="python tests/bench", description="Measure, and compare with other clients.")
    parser.add_argument("--install", action="store_true", help="install the peers first")
    parser.add_argument("--peers", type=Path, default=ROOT / ".bench", help="the folder where they are")
    parser.add_argument("--only", default="", help="groups of measures, such as full,row")
    parser.add_argument("--receivers", default="", help="only these, such as 'blocking,pysignalr,decode only'")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="few events and one round: does it work?")
    parser.add_argument("--out", type=Path, help="where page and plot go; a run of everything writes docs/reference")
    options = parser.parse_args(arguments)
    wanted = frozenset(name for name in options.receivers.split(",") if name)
    bench = Bench(options.peers.resolve(), wanted)
    if options.install:
        bench.install()
    with tempfile.TemporaryDirectory() as folder:
        cases = all_cases(0.02 if options.quick else 1.0, Path(folder))
        groups = dict.fromkeys(case.group for case in cases)
        chosen = {name for name in options.only.split(",") if name}
        if unknown := chosen - set(groups):
            parser.error(f"expected --only to name some of {', '.join(groups)}; got {', '.join(sorted(unknown))}")
        cases = [case for case in cases if not chosen or case.group in chosen]
        rounds = 1 if options.quick else options.rounds
        samples = measure(bench, cases, rounds)
    print(*tables(samples, cases), sep="\n")
    out = options.out
    if out is None and not (options.quick or chosen or wanted):
        out = ROOT / "docs" / "reference"
    if out is not None:
        (out / "benchmarks.md").write_text(page(samples, cases, bench.versions(), rounds), encoding="utf-8")
        (out / PLOT).write_text(draw(samples), encoding="utf-8")
        print(f"written: {out / 'benchmarks.md'} and {PLOT} beside it", file=sys.stderr)


def all_cases(scale: float, folder: Path) -> list[Case]:
    """Everything that can be measured.

    Args:
        scale: how many events, 1 for all.
        folder: where a certificate may be written.
    """
    return [
        *throughput.cases(scale),
        *machines.cases(scale, folder),
        *latency.cases(scale),
        *resources.cases(scale),
        *growth.cases(scale),
    ]


if __name__ == "__main__":
    main()
