"""Transports and the conformance cases: ours pass, broken ones fail in just the cases that are for their fault."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conformance import broken
from conformance.broken import BROKEN
from conformance.ours import EXAMPLES, OURS, streams
from etorox_transports import conformance
from etorox_transports.conformance import CASES, Attempt, Case, Report, Transport, run, run_case

pytest_plugins = ["etorox_transports.conformance.plugin", "pytester"]

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs/howto/test-your-transport.md"


@pytest.fixture(params=OURS)
def transport(request: pytest.FixtureRequest) -> Transport:
    if request.param == "anyio-uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")
    return OURS[request.param]()


def test_ours_keep_the_contract(transport: Transport, conformance_case: Callable[[Transport], None]) -> None:
    conformance_case(transport)


# ----------------------------------------------------------------------------------------------------- broken ones


@pytest.fixture(scope="module")
def score_cards() -> Iterator[dict[str, Future[Any]]]:
    """Of each broken transport, from a process of its own; they wait most of the time, so some run side by side."""

    def card(name: str) -> Any:
        command = [sys.executable, "-W", "error", str(HERE / "broken.py"), name]
        child = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert child.returncode == 0, child.stderr
        return json.loads(child.stdout)

    with ThreadPoolExecutor(3) as pool:
        yield {name: pool.submit(card, name) for name in BROKEN}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_transport_fails_in_the_cases_for_its_fault(name: str, score_cards: dict[str, Future[Any]]) -> None:
    results = score_cards[name].result()["results"]
    failed = {result["case"]: result["reason"] for result in results if result["outcome"] == "failed"}
    assert set(failed) == BROKEN[name][1], failed


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        (broken.FeedsTwice, "law/drain_before_feed", "expected events to be taken until None after each input"),
        (broken.OpensUnasked, "law/streams_that_were_asked_for", "2 streams were wanted, 4 opened"),
        (broken.HasTwoClocks, "time/one_clock", "expected the time of one clock, got: "),
        (broken.TrustsEverybody, "tls/authority_that_nobody_knows", "expected nothing to be said to a server"),
        (broken.KeepsTimeBadly, "open/server_that_says_nothing", "expected the opening timeout within 0.6 s"),
        (broken.KeepsTimeBadly, "time/pings_while_nothing_happens", "expected a ping every 0.1 s, got "),
        (broken.SwallowsCommands, "end/command_that_is_refused_reaches_its_caller", "expected an argument that cannot"),
        (broken.SwallowsCommands, "end/command_after_the_end_is_refused", "expected a command on a connection that is"),
        (broken.MumblesAndGivesUp, "end/goodbye_of_the_server", "expected the server's"),
        (broken.MumblesAndGivesUp, "open/server_of_another_kind", "expected a reply with the status 404"),
        (broken.MumblesAndGivesUp, "end/reset", "expected a reset"),
    ],
)
def test_a_fault_is_told_in_words(kind: Any, name: str, reason: str) -> None:
    (result,) = run(streams(kind), cases=[name]).results
    assert result.outcome == "failed"
    assert result.reason.startswith(reason), result.reason


# --------------------------------------------------------------------------------------------------------- the kit


def test_names_are_unique_and_say_what_is_demanded() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60
    assert all(len(case.demand) > 20 for case in CASES)


def of_case(body: Callable[[Any], Coroutine[Any, Any, None]], limit: float = 5.0) -> Report:
    """What becomes of a case with this body."""
    return run(streams(), cases=[Case("test/body", "what is demanded", body, limit, needs_tasks=False)])


def test_a_case_that_hangs_fails_and_the_run_goes_on() -> None:
    async def body(_stage: Any) -> None:
        await asyncio.sleep(2.0)

    report = of_case(body, limit=0.1)
    assert [result.reason for result in report.failed] == ["it did not end within 0.1 s"]


def test_a_task_that_is_left_fails_the_case() -> None:
    async def body(_stage: Any) -> None:
        kept.append(asyncio.ensure_future(asyncio.sleep(60.0)))

    kept: list[Any] = []
    assert [result.reason for result in of_case(body).failed] == ["expected no task to be left, there are 1"]


def test_a_thread_that_is_left_fails_the_case() -> None:
    may_go = threading.Event()

    async def body(_stage: Any) -> None:
        threading.Thread(target=may_go.wait, name="forgotten").start()

    report = of_case(body)
    may_go.set()
    assert [result.reason for result in report.failed] == ["expected no thread to be left, there is forgotten"]


def test_what_the_event_loop_complains_about_fails_the_case() -> None:
    async def body(_stage: Any) -> None:
        async def fail() -> None:
            raise ValueError("unheard")

        task = asyncio.ensure_future(fail())
        await asyncio.sleep(0.01)
        del task

    (result,) = of_case(body).failed
    assert result.reason == "the event loop complained: Task exception was never retrieved"


def test_a_socket_that_nobody_closed_fails_the_case() -> None:
    async def body(_stage: Any) -> None:
        socket.create_connection(listener.getsockname())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        (result,) = of_case(body).failed
    assert result.reason.startswith("ResourceWarning: unclosed <socket.socket")


LEAK = """
import gc
import socket

def leak():
    gc.disable()  # so that it is found when we look, and not before
    kept = [socket.socket()]
    kept.append(kept)
"""


@pytest.fixture
def strangers(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with the example's transport and the page's test of it."""
    shutil.copy(EXAMPLES / "asyncio_streams.py", pytester.path)
    (pytester.path / "test_transport.py").write_text(blocks("python")[0])
    return pytester


def test_what_other_tests_have_left_open_is_not_blamed_on_the_first_case(strangers: pytest.Pytester) -> None:
    (strangers.path / "test_theirs.py").write_text(f"{LEAK}\ndef test_theirs():\n    leak()\n")
    result = strangers.runpytest_subprocess("-k", "theirs or closed_is_taken", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)


def test_what_was_left_open_before_a_run_is_not_blamed_on_it(strangers: pytest.Pytester) -> None:
    script = """
from test_transport import Transport, connect
from etorox_transports.conformance import run

leak()
print(run(Transport(connect), cases=["law/closed_is_taken"]))
"""
    (strangers.path / "card.py").write_text(LEAK + script)
    assert "1 passed, 0 failed, 0 not offered" in strangers.run(sys.executable, "card.py").stdout.str()


def test_a_socket_that_is_left_open_fails_the_case() -> None:
    async def body(_stage: Any) -> None:
        kept.append(socket.create_connection(listener.getsockname()))

    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        report = of_case(body)
    kept[0].close()
    if Path("/proc/self/fd").exists():
        assert [result.reason for result in report.failed] == [
            "expected no file or socket to be left open, there are 1"
        ]


def test_the_score_card_counts_and_explains() -> None:
    async def good(_stage: Any) -> None:
        pass

    async def bad(_stage: Any) -> None:
        raise AssertionError("expected this, got that\nand more of it")

    async def worse(_stage: Any) -> None:
        raise ExceptionGroup("around it", [ValueError("not as it should be")])

    cases = [
        Case("one/good", "this", good, 5.0, needs_tasks=False),
        Case("one/bad", "that", bad, 5.0, needs_tasks=False),
        Case("two/worse", "something else", worse, 5.0, needs_tasks=False),
        Case("two/tasks", "tasks", good, 5.0, needs_tasks=True),
    ]
    transport = Transport(lambda _attempt: contextlib.nullcontext(None), runs_on="blocking", name="mine")  # type: ignore[arg-type, return-value]
    report = run(transport, cases=cases)
    assert str(report).splitlines() == [
        "conformance of mine",
        "  one       1 of  2",
        "  two       0 of  1",
        "  FAILED one/bad: expected this, got that",
        "         demanded: that",
        "  FAILED two/worse: ValueError: not as it should be",
        "         demanded: something else",
        "  1 passed, 2 failed, 1 not offered",
    ]
    told = json.loads(report.as_json())
    assert told["name"] == "mine"
    assert [(each["case"], each["outcome"], each["reason"]) for each in told["results"]] == [
        ("one/good", "passed", ""),
        ("one/bad", "failed", "expected this, got that"),
        ("two/worse", "failed", "ValueError: not as it should be"),
        ("two/tasks", "not offered", ""),
    ]


def test_cases_are_chosen_by_their_names_and_groups() -> None:
    report = run(streams(), cases=["law/closed_is_taken", "leak"])
    assert {result.case.name.partition("/")[0] for result in report.results} == {"law", "leak"}
    assert not report.failed
    with pytest.raises(ValueError, match=r"the name of a case or of a group \(bytes, open, .*got 'laws'"):
        run(streams(), cases=["laws"])


def test_a_transport_that_cannot_connect_fails_with_its_own_error() -> None:
    def connect(_attempt: Attempt) -> Any:
        raise RuntimeError("out of order")

    case = next(case for case in CASES if case.name == "end/close_twice")
    result = run_case(Transport(connect), case)
    assert (result.outcome, result.reason) == ("failed", "RuntimeError: out of order")
    assert "out of order" in result.details


def test_all_that_is_exported_is_there() -> None:
    assert all(hasattr(conformance, name) for name in conformance.__all__)


# --------------------------------------------------------------------------------------------------------- the page


# Options for this run are none for those of the page.
PLAIN = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}


def blocks(language: str) -> list[str]:
    text = PAGE.read_text()
    return [block.split("```")[0] for block in text.split(f"```{language}\n")[1:]]


def test_the_page_tests_the_transport_of_the_documentation(tmp_path: Path) -> None:
    """A stranger copies the example and the page's module, and gets a score card."""
    shutil.copy(EXAMPLES / "asyncio_streams.py", tmp_path)
    (tmp_path / "test_transport.py").write_text(blocks("python")[0])
    command = [sys.executable, "-m", "pytest", "-q", "-k", "law or leak", "--rootdir", str(tmp_path), str(tmp_path)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, env=PLAIN)
    assert child.returncode == 0, child.stdout + child.stderr
    assert "conformance of my transport" in child.stdout
    assert "7 passed, 0 failed, 0 not offered" in child.stdout


def test_the_page_runs_without_pytest(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "asyncio_streams.py", tmp_path)
    (tmp_path / "test_transport.py").write_text(blocks("python")[0])
    (tmp_path / "card.py").write_text(blocks("python")[2])
    child = subprocess.run(
        [sys.executable, "card.py"], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, env=PLAIN
    )
    assert child.stdout.splitlines()[0] == "conformance of my transport", child.stderr
    assert child.returncode == 0


def test_the_page_tests_an_adapter_in_virtual_time(tmp_path: Path) -> None:
    (tmp_path / "card.py").write_text(blocks("python")[1])
    child = subprocess.run(
        [sys.executable, "-W", "error", "card.py"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env=PLAIN,
    )
    virtual = sum(case.in_memory for case in CASES)
    assert child.stdout.splitlines() == [
        "conformance of trio",
        f"  virtual  {virtual} of {virtual}",
        f"  {virtual} passed, 0 failed, 0 not offered",
    ], child.stderr


def test_the_page_counts_the_cases_right() -> None:
    groups: dict[str, int] = {}
    for case in CASES:
        group = case.name.partition("/")[0]
        groups[group] = groups.get(group, 0) + 1
    card = [f"  {group:<8} {count:>2} of {count:>2}" for group, count in groups.items()]
    text, virtual = PAGE.read_text(), groups["virtual"]
    assert "\n".join(card) + f"\n  {len(CASES)} passed, 0 failed, 0 not offered\n" in text
    for words in (f"{len(CASES)} named cases", f"{len(CASES) - virtual} of them talk", f"The other {virtual} need no"):
        assert words in " ".join(text.split())
    assert all(f"| `{group}` |" in text for group in groups)
    assert f"{len(CASES)} cases" in (PAGE.parent / "write-a-transport.md").read_text()
    assert f"{len(CASES)} named cases" in (PAGE.parent.parent.parent / "CHANGELOG.md").read_text()


def test_a_failure_is_told_by_pytest_with_the_demand(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "asyncio_streams.py", tmp_path)
    module = blocks("python")[0].replace("attempt.ssl_context", "None")  # so that the cases' authority is not trusted
    (tmp_path / "test_transport.py").write_text(module)
    command = [sys.executable, "-m", "pytest", "-q", "-k", "server_that_is_trusted", "--rootdir", str(tmp_path)]
    child = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False, env=PLAIN
    )
    assert child.returncode == 1
    assert "tls/server_that_is_trusted" in child.stdout
    assert "demanded: A certificate of a trusted authority" in child.stdout
    assert "0 passed, 1 failed" in child.stdout


def test_the_plugin_skips_fails_and_prints(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_mine="""
        import contextlib
        import pytest
        from etorox_transports.conformance import Transport

        pytest_plugins = ["etorox_transports.conformance.plugin"]

        @pytest.fixture
        def transport():
            return Transport(lambda attempt: contextlib.nullcontext(), runs_on="blocking", name="nothing at all")

        def test_it(transport, conformance_case):
            conformance_case(transport)
        """
    )
    result = pytester.runpytest_inprocess("-k", "while_sending or failed_opening", "-p", "no:cacheprovider")
    result.assert_outcomes(failed=1, skipped=3)
    result.stdout.fnmatch_lines(
        [
            "*open/failed_opening_leaves_nothing: expected a reply with the status 503 to be raised, nothing was",
            "*conformance of nothing at all*",
            "*0 passed, 1 failed, 3 not offered*",
        ]
    )
