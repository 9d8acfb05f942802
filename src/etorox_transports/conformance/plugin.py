"""The cases for pytest: `pytest_plugins = ["etorox_transports.conformance.plugin"]` in a test module or conftest.

A test that has the fixtures `transport`, which is yours, and `conformance_case` becomes one test for each case; the
score card is printed at the end. Nothing is loaded in projects that do not ask for it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from etorox_transports.conformance import CASES, Report, Result, Transport, run_case

__all__ = ["conformance_case"]

_RESULTS = pytest.StashKey[dict[str, list[Result]]]()
_OTHERS_HAVE_RUN = pytest.StashKey[bool]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Notice other tests."""
    if "conformance_case" not in getattr(item, "fixturenames", ()):
        item.config.stash[_OTHERS_HAVE_RUN] = True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each case."""
    if "conformance_case" in metafunc.fixturenames:
        metafunc.parametrize("conformance_case", CASES, ids=repr, indirect=True)


@pytest.fixture
def conformance_case(request: pytest.FixtureRequest) -> Callable[[Transport], None]:
    """A function of a `Transport` that runs one case against it, and fails or skips the test."""

    def check(transport: Transport) -> None:
        if request.config.stash.get(_OTHERS_HAVE_RUN, True):
            request.config.stash[_OTHERS_HAVE_RUN] = False
            gc.collect()  # what they have left open is no fault of the transport's
        result = run_case(transport, request.param)
        request.config.stash.setdefault(_RESULTS, {}).setdefault(transport.name, []).append(result)
        if result.outcome == "not offered":
            pytest.skip("the transport does not offer what the case needs")
        if result.outcome == "failed":
            pytest.fail(
                f"{result.case.name}: {result.reason}\ndemanded: {result.case.demand}\n\n{result.details}",
                pytrace=False,
            )

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the score cards."""
    for name, results in config.stash.get(_RESULTS, {}).items():
        terminalreporter.section("score card")
        terminalreporter.write_line(str(Report(name, tuple(results))))
