"""The fuzz targets as tests: every seed replayed, arbitrary bytes, and mutated seeds; so that fuzzing cannot rot."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etorox_proto.testing.strategies import damaged

FUZZ = Path(__file__).parent.parent / "fuzz"


def load(name: str) -> ModuleType:
    """A module of `fuzz/`, which is no package."""
    spec = importlib.util.spec_from_file_location(name, FUZZ / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


TARGETS = load("targets").TARGETS
RUN = load("run")
SEEDS = {
    name: {path.name: path.read_bytes() for path in sorted((FUZZ / "corpus" / name).iterdir())} for name in TARGETS
}

every_target = pytest.mark.parametrize("name", TARGETS)
quickly = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name, seeds in SEEDS.items() for seed in seeds])
def test_a_seed_is_survived(name: str, seed: str) -> None:
    TARGETS[name](SEEDS[name][seed])


@every_target
def test_the_invariant_comes_first(name: str) -> None:
    assert TARGETS[name].__name__ == name
    assert TARGETS[name].__doc__.splitlines()[0].endswith(".")


@every_target
@quickly
@given(data=st.binary(max_size=200))
def test_any_bytes_are_survived(name: str, data: bytes) -> None:
    TARGETS[name](data)


@every_target
@quickly
@given(data=st.data())
def test_mutated_seeds_are_survived(name: str, data: st.DataObject) -> None:
    # A mutated key file may ask for any number of rounds of key derivation, which takes as long as it says.
    seeds = [seed for title, seed in SEEDS[name].items() if "empty" not in title or name != "private_key"]
    TARGETS[name](data.draw(damaged(seeds)))


# ---------------------------------------------------------------------------------------------- the command


def test_the_command_replays_the_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert RUN.main(["handshake"]) == 0
    assert f"handshake: {len(SEEDS['handshake'])} files, no failure" in capsys.readouterr().out


def test_the_command_replays_files_and_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    for file in (tmp_path / "alone", tmp_path / "folder" / "crash-1", tmp_path / "folder" / "crash-2"):
        file.write_bytes(b"{}")
    assert RUN.main(["json_message", str(tmp_path / "alone"), str(tmp_path / "folder")]) == 0
    assert "3 files" in capsys.readouterr().out


def test_the_command_names_the_targets_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert RUN.main(["nothing"]) == 2
    assert ", ".join(TARGETS) in capsys.readouterr().err


def test_the_command_says_that_the_engine_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    assert RUN.main(["framing", "--atheris", "-max_total_time=1"]) == 2
    assert "pip install atheris" in capsys.readouterr().err


def test_the_targets_need_no_engine() -> None:
    assert "import atheris" not in (FUZZ / "targets.py").read_text(encoding="utf-8")
