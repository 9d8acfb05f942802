"""Runs one target of `targets`: over files, under Hypothesis, or under Atheris.

    python fuzz/run.py TARGET [FILE_OR_FOLDER ...]
    python fuzz/run.py TARGET --hypothesis [EXAMPLES]
    python fuzz/run.py TARGET --atheris [LIBFUZZER_OPTION_OR_FOLDER ...]

Without files the target's own seeds are taken: those in `corpus/TARGET`, and those made of captures and vectors; both
engines begin with them too. A crash found by any engine is replayed by naming its file here; then it is a plain
traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from seeds import seeds

__all__ = ["main"]

Target = Callable[[bytes], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the module says.

    Args:
        arguments: without the program's name; by default those of the process.

    Returns:
        The exit code: 0, or 2 if the target or the engine is not there. A failing target raises.
    """
    parser = argparse.ArgumentParser(description="Run one fuzz target over files, under Hypothesis, or under Atheris.")
    parser.add_argument("target", help="the name of a function in `targets`")
    engine = parser.add_mutually_exclusive_group()
    engine.add_argument("--hypothesis", nargs="?", type=int, const=1_000, metavar="EXAMPLES", help="so many examples")
    engine.add_argument("--atheris", action="store_true", help="fuzz; what follows goes to libFuzzer")
    options, rest = parser.parse_known_args(arguments)
    if options.atheris:
        return _fuzz(options.target, rest)
    target = _targets().get(options.target)
    if target is None:
        print(f"expected one of {', '.join(_targets())}, got {options.target}", file=sys.stderr)
        return 2
    if options.hypothesis is not None:
        return _try(options.target, target, options.hypothesis)
    count = 0
    for name, data in _inputs(options.target, [Path(name) for name in rest]):
        print(name)
        target(data)
        count += 1
    print(f"{options.target}: {count} files, no failure")
    return 0


def _targets() -> dict[str, Target]:
    targets: dict[str, Target] = importlib.import_module("targets").TARGETS
    return targets


def _inputs(target: str, paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    if not paths:
        yield from seeds(target).items()
    for path in paths:
        files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        yield from ((str(file), file.read_bytes()) for file in files)


def _try(name: str, target: Target, examples: int) -> int:
    try:
        hypothesis = importlib.import_module("hypothesis")
    except ImportError:
        print("expected Hypothesis for --hypothesis; it is not installed: pip install hypothesis", file=sys.stderr)
        return 2
    damaged = importlib.import_module("etorox_proto.testing.strategies").damaged
    binary = hypothesis.strategies.binary(max_size=400)
    settings = hypothesis.settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    settings(hypothesis.given(binary | damaged(list(seeds(name).values())))(target))()
    print(f"{name}: {examples} examples, no failure")
    return 0


def _fuzz(name: str, options: list[str]) -> int:
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        print("expected Atheris for --atheris; it is not installed: pip install atheris", file=sys.stderr)
        return 2
    # What is in Python can be watched, so let msgpack be.
    os.environ.setdefault("MSGPACK_PUREPYTHON", "1")
    # What is imported here is instrumented, so that the engine sees which branches an input takes.
    with atheris.instrument_imports(include=["etorox_proto", "h11", "wsproto", "msgpack", "targets"]):
        targets = _targets()
    # libFuzzer writes what it finds into the first folder; it begins with what is in there.
    folders = [option for option in options if not option.startswith("-")]
    folder = Path(folders[0] if folders else tempfile.mkdtemp(prefix=f"{name}-"))
    folder.mkdir(parents=True, exist_ok=True)
    for title, data in seeds(name).items():
        (folder / title).write_bytes(data)
    atheris.Setup([sys.argv[0], *options, *([] if folders else [str(folder)])], targets[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
