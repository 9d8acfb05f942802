"""The published vectors as pytest parameters; see `data/vectors/README.md`.

Knows the fields that all vectors share, and nothing of what a case means.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from peers import DATA, read_json

__all__ = ["COUNTS", "Case", "Vectors", "check_mentions", "ways", "wire"]

Case = dict[str, Any]


# How many cases each file has by level, so that none gets lost.
COUNTS = {
    "flows": {"must": 24, "should": 11, "may": 1},
    "framing": {"must": 18, "should": 6, "may": 6},
    "handshake": {"must": 23, "should": 4, "may": 1},
    "json_hub": {"must": 103, "should": 3, "may": 3},
    "messagepack_hub": {"must": 91, "should": 7, "may": 2},
    "negotiate": {"must": 34, "should": 10},
}


class Vectors:
    """The cases of one file at level `must` or `should`.

    Args:
        file: its name without `.json`.
        not_yet: ids of cases that the library cannot be held to, and why.
    """

    def __init__(self, file: str, not_yet: Mapping[str, str] | None = None) -> None:
        self._not_yet = not_yet or {}
        every: list[Case] = read_json((DATA / "vectors" / f"{file}.json").read_bytes())
        assert Counter(case["level"] for case in every) == COUNTS[file]
        self.cases = [case for case in every if case["level"] != "may"]
        self._taken: set[str] = set()

    def each(self, kind: str, *categories: str) -> pytest.MarkDecorator:
        """One test per case of this kind; without categories, of all."""
        chosen = [
            case
            for case in self.cases
            if case["kind"] == kind
            and case["id"] not in self._not_yet
            and (not categories or case["category"] in categories)
        ]
        assert chosen, "a test that takes no case is a mistake"
        self._taken |= {case["id"] for case in chosen}
        return pytest.mark.parametrize("case", chosen, ids=[case["id"] for case in chosen])

    def left_over(self) -> set[str]:
        """What no test takes: cases that were forgotten, and ids in `not_yet` that are stale."""
        return {case["id"] for case in self.cases} ^ (self._taken | set(self._not_yet))


def wire(case: Case, key: str = "wire") -> bytes:
    """The bytes of a case; empty if it has none under that key."""
    text = case.get(key, "")
    return base64.b64decode(text) if case["wire_format"] == "base64" else str(text).encode()


def ways(case: Case) -> Iterator[list[bytes]]:
    """The wire whole, byte by byte, and in the pieces that the case asks for."""
    whole = wire(case)
    yield [whole]
    yield [bytes([byte]) for byte in whole]
    if "chunks" in case:
        assert case["wire_format"] == "text"
        chunks = [str(chunk).encode() for chunk in case["chunks"]]
        assert b"".join(chunks) == whole
        yield chunks


def check_mentions(case: Case, error: BaseException) -> None:
    """The error ought to name what the case says, without regard to case."""
    assert str(case.get("error_contains", "")).lower() in str(error).lower()
