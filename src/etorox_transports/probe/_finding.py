"""`Finding`: how what a server did is judged; `Unlike` carries one out of wherever it was found."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import final

__all__ = ["Finding", "Outcome", "Unlike", "conforms", "differs", "tolerated", "unanswered"]


class Outcome(enum.Enum):
    """What became of a case."""

    CONFORMS = "conforms"
    """The server does what the specification, or the official server, does."""
    TOLERATED = "tolerated"
    """It does something else, with which the official clients get along."""
    DIFFERS = "differs"
    """It does something with which clients may not get along."""
    NOT_ANSWERED = "not answered"
    """Something had to come, and did not in time."""
    SKIPPED = "skipped"
    """It was not tried; the text says why."""


@final
@dataclass(frozen=True)
class Finding:
    """What a case found.

    Attributes:
        outcome: how it is judged.
        text: what came, in a line. It may quote the server; `ServerReport` hides what is secret in it.
    """

    outcome: Outcome
    text: str


@final
class Unlike(Exception):
    """A case ends with this finding, from wherever it was."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


def conforms(text: str) -> Finding:
    """All is well."""
    return Finding(Outcome.CONFORMS, text)


def tolerated(text: str) -> Finding:
    """Something else came, and that will do."""
    return Finding(Outcome.TOLERATED, text)


def differs(text: str) -> Finding:
    """Something else came."""
    return Finding(Outcome.DIFFERS, text)


def unanswered(text: str) -> Finding:
    """Nothing came."""
    return Finding(Outcome.NOT_ANSWERED, text)
