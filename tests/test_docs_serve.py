"""The page on serving is true: its programs run as they stand."""

from __future__ import annotations

import pytest

from test_docs import blocks, run_block

PAGE = "docs/howto/serve.md"


@pytest.mark.parametrize(
    ("number", "printed"),
    [(0, ["3", "[0, 1, 2]", "45"]), (1, ["joined ['Ann', '/chat']"]), (2, ["3", "[0, 1, 2]"])],
    ids=["in an event loop", "asking the client", "without an event loop"],
)
def test_a_program_runs(number: int, printed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run_block(blocks(PAGE)[number], {"__name__": "documentation"})
    assert capsys.readouterr().out.splitlines() == printed


def test_the_programs_are_all_but_the_lines_on_tls() -> None:
    assert [("import" in block) for block in blocks(PAGE)] == [True, True, True, False]
