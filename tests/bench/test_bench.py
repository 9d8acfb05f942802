"""The benchmarks work: every receiver gets through a short form of every measure. No time is judged here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from bench.__main__ import all_cases, main
from bench.cases import US, Case, Samples, measure
from bench.goals import GOALS
from bench.plot import draw
from bench.report import goal_rows, page, tables
from bench.runs import OURS, PEERS, Bench, Missing
from bench.shapes import event, frames, item, record
from bench.task import Task
from etorox_proto import OrderCanceled, event_decoder

SCALE = 0.004


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Case]:
    return all_cases(SCALE, tmp_path_factory.mktemp("certificate"))


def short(name: str, cases: Sequence[Case]) -> Case:
    return next(case for case in cases if case.key == name)


# ------------------------------------------------------------------------------------------------- what is sent


@pytest.mark.parametrize("number", range(50))
def test_events_are_the_documented_sample_with_other_values(number: int) -> None:
    decoded = event_decoder()(json.dumps(item(Task(), number)).encode())
    assert isinstance(decoded, OrderCanceled)
    assert decoded.price == Decimal(str(event(number)["price"]))
    assert dict(decoded.extra) == {}


@pytest.mark.parametrize("size", [100, 1_000, 65_536, 1_048_576])
def test_sized_messages_have_their_size(size: int) -> None:
    task = Task(shape="sized", size=size)
    assert len(record("json", "2", item(task, 7, "2"))) == size


def test_streams_get_their_events_in_turn() -> None:
    sent = frames(Task(events=20, warmup=10), ["2", "33"])
    assert len(sent) == 30
    assert [b'"33"' in part for part in sent] == [False, True] * 15


def test_messages_share_a_frame() -> None:
    (first, *others) = frames(Task(per_frame=10, events=20, warmup=10), ["2"])
    assert len(others) == 2
    assert first.count(b"\x1e") == 10


# ------------------------------------------------------------------------------------------------- what is measured


@pytest.mark.parametrize("receiver", [*OURS, *PEERS, "decode only"])
@pytest.mark.parametrize("encoding", ["json", "messagepack"])
def test_receivers_get_events(receiver: str, encoding: str, cases: Sequence[Case]) -> None:
    bench = Bench()
    if reason := bench.missing(receiver):
        pytest.skip(reason)
    assert short(f"row, 10 a frame, {encoding}", cases).run(bench, receiver)[US] > 0


@pytest.mark.parametrize(
    ("key", "receiver"),
    [
        ("one record an event, with TLS", "blocking"),
        ("one record an event, with TLS", "asyncio"),
        ("one record an event, with TLS", "raw"),
        ("the documented loop, without an adapter", "bare"),
        ("the documented loop, without an adapter", "session"),
        ("5,000 a second, in bursts of 50", "blocking"),
        ("5,000 a second, one by one", "trio"),
        ("100,000 events", "asyncio"),
        ("a thousand idle connections", "asyncio"),
        ("from connect to the first event", "blocking"),
        ("import", "import etorox_proto"),
        ("100 subscriptions", "blocking"),
        ("1,000 connections", "asyncio"),
        ("1,048,576 B a message", "blocking"),
        ("16 B a read", "blocking"),
    ],
)
def test_measures_give_figures(key: str, receiver: str, cases: Sequence[Case]) -> None:
    figures = short(key, cases).run(Bench(), receiver)
    assert figures
    assert all(math.isfinite(figure) for figure in figures.values())


def test_what_is_not_installed_says_what_to_do(tmp_path: Path) -> None:
    for receiver in PEERS:
        assert "--install" in Bench(tmp_path).missing(receiver)
        with pytest.raises(Missing, match="--install"):
            Bench(tmp_path).run(receiver, Task())


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick", "--only", "full", "--receivers", "blocking,decode only", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "against decoding alone" in printed
    assert printed.strip() in (tmp_path / "benchmarks.md").read_text()
    ET.fromstring((tmp_path / "benchmarks.svg").read_text())


def test_an_unknown_group_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "speed"])
    assert "expected --only to name some of full, row" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- what is made of it


def sampled(figures: Mapping[tuple[str, str], Sequence[float]]) -> Samples:
    samples = Samples()
    for (case, receiver), values in figures.items():
        for value in values:
            samples.add(case, receiver, {US: value})
    return samples


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    samples = sampled({("case", "slow"): [8.0, 30.0, 9.0], ("case", "fast"): [2.0, 10.0, 1.0]})
    assert samples.ratio(("case", "slow"), ("case", "fast")) == 4.0
    assert samples.ratio(("case", "slow"), ("case", "other")) is None


def test_goals_are_judged() -> None:
    samples = sampled({("full, 1 a frame, json", name): [value] for name, value in (("blocking", 2.0), ("node", 4.0))})
    assert [row[1:] for row in goal_rows(samples)] == [["at least 2.2", "2.00", "**no**"]]
    samples = sampled({("full, 1 a frame, json", name): [value] for name, value in (("blocking", 2.0), ("node", 5.0))})
    assert [row[1:] for row in goal_rows(samples)] == [["at least 2.2", "2.50", "yes"]]


def test_every_goal_is_about_something_measured(cases: Sequence[Case]) -> None:
    everything = Samples()
    names = [US, "p50, µs", "p99, µs", "more, MiB", "peak, MiB", "processor time, ms", "ns a byte"]
    for case in cases:
        for number, receiver in enumerate(case.receivers):
            everything.add(case.key, receiver, dict.fromkeys(names, number + 1.0 + len(case.key)))
    assert len(goal_rows(everything)) == len(GOALS)
    plot = ET.fromstring(draw(everything))
    assert plot.tag.endswith("svg")
    text = page(everything, cases, ["pysignalr 1.3.3"], 7)
    assert max(map(len, text.splitlines()[:12])) <= 120
    assert all(case.key in text for case in cases)


def test_a_receiver_that_fails_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    def run(_bench: Bench, receiver: str) -> Mapping[str, float]:
        if receiver == "trio":
            raise ValueError("it broke")
        return {US: 4.0}

    case = Case("full", "some case", ("blocking", "trio"), run)
    samples = measure(Bench(), [case], 3)
    assert samples.all("some case", "blocking") == [4.0, 4.0, 4.0]
    assert samples.all("some case", "trio") == []
    assert capsys.readouterr().err.count("left out: trio failed at some case: it broke") == 1
    assert "| some case | blocking | 4.00 | 250,000 |" in tables(samples, [case])


def test_a_task_survives_the_command_line() -> None:
    task = Task(shape="row", events=3, chunk=7, certificate="x.pem", port=5)
    assert Task.load(task.dump()) == task
    assert msgspec.json.decode(task.dump())["hub_url"] == "https://localhost:5/streams/v1/KEY/signalr"
