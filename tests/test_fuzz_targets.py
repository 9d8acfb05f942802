"""The fuzz targets as tests: every seed replayed, arbitrary bytes, and mutated seeds; so that fuzzing cannot rot."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import run
import seeds
from etorox_proto.testing.strategies import damaged
from targets import TARGETS

FUZZ = Path(__file__).parent.parent / "fuzz"
SEEDS = {name: seeds.seeds(name) for name in TARGETS}

every_target = pytest.mark.parametrize("name", TARGETS)
quickly = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.fixture(autouse=True)
def msgpack_where_it_is_needed(request: pytest.FixtureRequest) -> None:
    if "messagepack_as_msgpack" in request.node.name:
        pytest.importorskip("msgpack")


@pytest.mark.parametrize(
    ("name", "seed"), [(name, path.name) for name in TARGETS for path in (FUZZ / "corpus" / name).iterdir()]
)
def test_a_seed_is_survived(name: str, seed: str) -> None:
    TARGETS[name](SEEDS[name][seed])


@every_target
def test_what_others_have_written_is_survived(name: str) -> None:
    for seed in SEEDS[name].values():
        TARGETS[name](seed)


@every_target
def test_the_invariant_comes_first(name: str) -> None:
    assert TARGETS[name].__name__ == name
    assert (TARGETS[name].__doc__ or "").splitlines()[0].endswith(".")


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
    sources = [seed for title, seed in SEEDS[name].items() if "empty" not in title or name != "private_key"]
    TARGETS[name](data.draw(damaged(sources)))


# ---------------------------------------------------------------------------------------------- the command


def test_the_command_replays_the_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["handshake"]) == 0
    assert f"handshake: {len(SEEDS['handshake'])} files, no failure" in capsys.readouterr().out


def test_the_command_replays_files_and_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    for file in (tmp_path / "alone", tmp_path / "folder" / "crash-1", tmp_path / "folder" / "crash-2"):
        file.write_bytes(b"{}")
    assert run.main(["json_message", str(tmp_path / "alone"), str(tmp_path / "folder")]) == 0
    assert "3 files" in capsys.readouterr().out


def test_the_command_names_the_targets_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["nothing"]) == 2
    assert ", ".join(TARGETS) in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["atheris", "hypothesis"])
def test_the_command_says_that_the_engine_is_missing(
    engine: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, engine, None)
    assert run.main(["framing", f"--{engine}"]) == 2
    assert f"pip install {engine}" in capsys.readouterr().err


def test_the_command_runs_hypothesis(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["framing", "--hypothesis", "20"]) == 0
    assert "framing: 20 examples, no failure" in capsys.readouterr().out


def test_the_command_fails_where_a_target_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def fragile(data: bytes) -> None:
        # Most seeds have two separators, so that whatever is drawn of them does; two in a row are a matter of luck.
        assert data.count(b"\x1e") < 2

    monkeypatch.setitem(TARGETS, "framing", fragile)
    with pytest.raises(AssertionError):
        run.main(["framing"])
    with pytest.raises(AssertionError):
        run.main(["framing", "--hypothesis", "300"])


def test_the_targets_need_no_engine() -> None:
    for path in (FUZZ / "targets").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"atheris", "hypothesis"} & set(names)
