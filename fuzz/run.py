"""Runs one target of `targets.py`: over files, with nothing but Python, or under Atheris.

    python fuzz/run.py TARGET [FILE_OR_FOLDER ...]
    python fuzz/run.py TARGET --atheris [LIBFUZZER_OPTION_OR_FOLDER ...]

Without files the target's own seeds in `corpus/TARGET` are taken. A crash found by any engine is replayed by naming its
file here; then it is a plain traceback.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

__all__ = ["main"]

CORPUS = Path(__file__).parent / "corpus"

Target = Callable[[bytes], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the module says.

    Args:
        arguments: without the program's name; by default those of the process.

    Returns:
        The exit code: 0, or 2 if the target or the engine is not there. A failing target raises.
    """
    parser = argparse.ArgumentParser(description="Run one fuzz target over files, or under Atheris.")
    parser.add_argument("target", help="the name of a function in targets.py")
    parser.add_argument("--atheris", action="store_true", help="fuzz; what follows goes to libFuzzer")
    options, rest = parser.parse_known_args(arguments)
    if options.atheris:
        return _fuzz(options.target, rest)
    target = _targets().get(options.target)
    if target is None:
        print(f"expected one of {', '.join(_targets())}, got {options.target}", file=sys.stderr)
        return 2
    count = 0
    for file in _files([Path(name) for name in rest] or [CORPUS / options.target]):
        print(file)
        target(file.read_bytes())
        count += 1
    print(f"{options.target}: {count} files, no failure")
    return 0


def _targets() -> dict[str, Target]:
    targets: dict[str, Target] = importlib.import_module("targets").TARGETS
    return targets


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(each for each in path.rglob("*") if each.is_file())
        else:
            yield path


def _fuzz(name: str, options: list[str]) -> int:
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        print("expected Atheris for --atheris; it is not installed: pip install atheris", file=sys.stderr)
        return 2
    # What is imported here is instrumented, so that the engine sees which branches an input takes.
    with atheris.instrument_imports(include=["etorox_proto", "h11", "wsproto", "targets"]):
        targets = _targets()
    atheris.Setup([sys.argv[0], *options], targets[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
