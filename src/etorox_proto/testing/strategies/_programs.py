"""Programs: what an application asks of a machine, one command after the other."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from etorox_proto.testing._steps import Ask

__all__ = ["commands", "programs"]


def commands(names: Iterable[str]) -> st.SearchStrategy[Ask]:
    """One command by name, and a number from 0 to 400 that picks its arguments, good and bad."""
    return st.tuples(st.sampled_from(sorted(names)), st.integers(0, 400)).map(lambda drawn: Ask(*drawn))


def programs(names: Iterable[str], *, min_size: int = 0, max_size: int = 8) -> st.SearchStrategy[list[Ask]]:
    """Programs of such commands.

    Args:
        names: of the commands.
        min_size: how many commands at least.
        max_size: how many at most.
    """
    return st.lists(commands(names), min_size=min_size, max_size=max_size)
