"""`ServerCase`: one question to a server, and the list of all of them.

A case is a function of a `Server` that says what it found. Whatever keeps it from finding what it wants is raised as
`Unlike`, by the client in `_server` and `_talk` or by the case itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from etorox_transports.probe._finding import Finding
from etorox_transports.probe._server import Server

__all__ = ["SERVER_CASES", "ServerCase", "case"]


@final
@dataclass(frozen=True)
class ServerCase:
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


SERVER_CASES: list[ServerCase] = []
"""All cases, in the order in which they are asked."""


def case(
    group: str, *, sends: str, expects: str, source: str, thorough: bool = False
) -> Callable[[Callable[[Server], Finding]], Callable[[Server], Finding]]:
    """Make a case of a function."""

    def enter(run: Callable[[Server], Finding]) -> Callable[[Server], Finding]:
        SERVER_CASES.append(ServerCase(f"{group}/{run.__name__}", sends, expects, source, thorough, run))
        return run

    return enter
