"""The pages on testing are true: their blocks run, one after the other, and print what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import etorox_proto.testing
import etorox_proto.testing.laws
import etorox_proto.testing.strategies

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS / "howto/test-offline.md").read_text()
    sources = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    for source in sources:
        exec(compile(source, "test-offline.md", "exec"), names)
    assert len(sources) == 9
    assert capsys.readouterr().out.count("\n") == 1
    program = names["program"]
    assert program.is_sure is False  # type: ignore[attr-defined]
    assert program.total > 500  # type: ignore[attr-defined]


def test_the_reference_names_everything_that_is_public() -> None:
    page = (DOCS / "reference/testing.md").read_text()
    named = set(re.findall(r"\w+", page))
    types = {"DialFault", "FaultKind", "Side", "Toward", "HowToStop", "SetupAnswer", "Chunking", "Item"}
    assert set(etorox_proto.testing.__all__) - types <= named | {"ExchangeCounts", "FakeExchangeConnection"}
    testing = etorox_proto.testing
    for kind in (testing.FakeExchange, testing.HubHost, testing.VirtualNetwork, testing.Stream):
        assert {name for name in vars(kind) if not name.startswith("_")} <= named
    assert set(etorox_proto.testing.ExchangeRules.__dataclass_fields__) <= named
    assert set(etorox_proto.testing.ExchangeCounts.__dataclass_fields__) <= named
    for module in (etorox_proto.testing.strategies, etorox_proto.testing.laws):
        assert set(module.__all__) <= named
    assert set(etorox_proto.testing.laws.Subject.__dataclass_fields__) <= named


def test_the_page_on_machines_runs_and_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS / "howto/test-your-machine.md").read_text()
    names: dict[str, Any] = {}
    for source in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        exec(compile(source, "test-your-machine.md", "exec"), names)
    assert capsys.readouterr().out == "".join(re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    names["test_an_endless_line_is_given_up"]()
    names["test_records_come_whole"]()
    for law in etorox_proto.testing.laws.Law:
        names["test_the_law_is_kept"](law)


def test_the_page_on_machines_is_right_about_what_comes_of_leaving_a_method_out() -> None:
    page = (DOCS / "howto/test-your-machine.md").read_text()
    names: dict[str, Any] = {}
    *whole, limited = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[:5]
    for source in whole:
        exec(compile(source, "test-your-machine.md", "exec"), names)
    shorter = re.sub(r"    def _hear(.|\n)*?\n\n", "", limited)
    assert len(shorter) < len(limited)
    with pytest.raises(etorox_proto.testing.laws.LawBroken) as caught:
        exec(compile(shorter, "test-your-machine.md", "exec"), names)
    assert caught.value.law is etorox_proto.testing.laws.Law.CHUNKING_DOES_NOT_MATTER
