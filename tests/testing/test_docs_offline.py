"""The page on testing offline is true: its blocks run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import etorox_proto.testing

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS / "howto/test-offline.md").read_text()
    sources = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    for source in sources:
        exec(compile(source, "test-offline.md", "exec"), names)
    assert len(sources) == 8
    assert capsys.readouterr().out.count("\n") == 1
    program = names["program"]
    assert program.is_sure is False  # type: ignore[attr-defined]
    assert program.total > 500  # type: ignore[attr-defined]


def test_the_reference_names_everything_that_is_public() -> None:
    page = (DOCS / "reference/testing.md").read_text()
    named = set(re.findall(r"\w+", page))
    types = {"DialFault", "FaultKind", "Side", "Toward", "HowToStop", "SetupAnswer", "Chunking", "Item"}
    assert set(etorox_proto.testing.__all__) - types <= named | {"ExchangeCounts", "FakeExchangeConnection"}
    for kind in (etorox_proto.testing.FakeExchange, etorox_proto.testing.VirtualNetwork, etorox_proto.testing.Stream):
        assert {name for name in vars(kind) if not name.startswith("_")} - {"deadline", "advance"} <= named
    assert set(etorox_proto.testing.ExchangeRules.__dataclass_fields__) <= named
    assert set(etorox_proto.testing.ExchangeCounts.__dataclass_fields__) <= named
