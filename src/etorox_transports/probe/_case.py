"""`Case` and `Finding`: what is asked of a server, and what came of it.

A case is a function of a `Server` that says what it found. Whatever keeps it from finding what it wants is raised as
`Unlike`, by the client in `_server` and `_talk` or by the case itself.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from etorox_transports.probe._server import Server

__all__ = ["CASES", "Case", "Finding", "Outcome", "Unlike", "case", "conforms", "differs", "tolerated", "unanswered"]


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
        text: what came, in a line. It may quote the server; `Report` hides what is secret in it.
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


@final
@dataclass(frozen=True)
class Case:
    """One question to a server.

    Attributes:
        name: what it is called, with the group first, as in `"negotiate/version_1"`.
        sends: what is sent.
        expects: what has to come.
        source: who says so: `"Transport Protocols"` and `"Hub Protocol"` are the specification's two documents,
            `"ASP.NET Core"` is what the official server does.
        is_thorough: whether it is large or takes long, and is only tried when asked for.
        run: asks it.
    """

    name: str
    sends: str
    expects: str
    source: str
    is_thorough: bool
    run: Callable[[Server], Finding]

    @property
    def group(self) -> str:
        """The first part of the name."""
        return self.name.partition("/")[0]

    def __repr__(self) -> str:
        return self.name


CASES: list[Case] = []
"""All cases, in the order in which they are asked."""


def case(
    group: str, *, sends: str, expects: str, source: str, thorough: bool = False
) -> Callable[[Callable[[Server], Finding]], Callable[[Server], Finding]]:
    """Make a case of a function."""

    def enter(run: Callable[[Server], Finding]) -> Callable[[Server], Finding]:
        CASES.append(Case(f"{group}/{run.__name__}", sends, expects, source, thorough, run))
        return run

    return enter
