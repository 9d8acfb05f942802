"""Time, and what goes wrong in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from hypothesis import strategies as st

from etorox_proto.testing._faults import Fault, FaultKind
from etorox_proto.testing._hosts import HowToStop
from etorox_proto.testing._stream import Side, Toward

__all__ = ["clocks", "fault_schedules", "moments"]

_SPELLS = (0.01, 0.3, 1.0, 7.0, 20.0, 61.0, 200.0)


def moments(within: float = 200.0) -> st.SearchStrategy[float]:
    """Times of a clock that works, in seconds from 0; neither sorted nor distinct."""
    return st.floats(0.0, within)


def clocks() -> st.SearchStrategy[float]:
    """Times of clocks that do not: infinite, not a number, before all beginning, so large that seconds are lost."""
    return moments() | st.sampled_from([math.inf, -math.inf, math.nan, -1.0, 1e18, -1e18, 1e300, 1.7e308])


def fault_schedules(
    kinds: Iterable[FaultKind] = get_args(FaultKind), *, within: float = 60.0, max_size: int = 4
) -> st.SearchStrategy[list[Fault]]:
    """Faults of a virtual network, in the order of their times; call `fault.schedule(network, listener)` on each.

    Unlike `RandomFaults`, which are drawn from a seed, these shrink: to few, early and short ones.

    Args:
        kinds: which may happen; by default all.
        within: no fault begins later than so many seconds after it is scheduled.
        max_size: how many at most.
    """
    after = st.integers(0, int(within * 10)).map(lambda tenths: tenths / 10)
    chosen = list(kinds)
    by_shape = {shape: [kind for kind in chosen if kind in shape] for shape in _SHAPES}
    fault = st.one_of(
        [
            st.builds(
                _fault, st.sampled_from(of_shape), after, st.sampled_from(_SHAPES[shape]), st.sampled_from(_SPELLS)
            )
            for shape, of_shape in by_shape.items()
            if of_shape
        ]
    )
    return st.lists(fault, max_size=max_size).map(lambda faults: sorted(faults, key=lambda each: each.after))


def _fault(kind: FaultKind, after: float, where: Mapping[str, Any], seconds: float) -> Fault:
    return Fault(kind=kind, after=after, seconds=seconds, **where)


# Which kinds need which details. One draw picks all of them: Hypothesis leaves out only what takes few draws.
_SHAPES: dict[tuple[FaultKind, ...], list[Mapping[str, Any]]] = {
    ("refuse", "ignore", "tls"): [{}],
    ("restart",): [{"how": how} for how in get_args(HowToStop)],
    ("reset",): [{"which": which} for which in range(3)],
    ("end", "stall", "black hole"): [{"toward": to, "which": which} for which in range(3) for to in get_args(Toward)],
    ("corrupt", "slow reader"): [{"side": side, "which": which} for which in range(3) for side in get_args(Side)],
}
