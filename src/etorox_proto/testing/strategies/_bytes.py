"""Bytes as streams bring them: cut anywhere, and damaged."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import strategies as st

__all__ = ["chunkings", "damaged"]

_MOST_CUTS = 12
# Pieces of so many bytes at most cut nearly everything that can be cut.
_SMALL = 4


def chunkings(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """The pieces in which a stream may bring these bytes.

    Whole, cut in a few places, or in pieces of one length, often a short one, such as one byte. No piece is empty.
    Shrinks towards one piece, then towards few cuts near the beginning.
    """
    if len(data) < 2:
        return st.just([data] if data else [])
    # In this order, and each with an integer first, so that a choice shrinks to the one before it.
    place = st.integers(1, len(data) - 1)
    small = st.integers(1, min(len(data) - 1, _SMALL))
    return st.one_of(
        st.just([data]),
        place.map(lambda cut: _cut(data, [cut])),
        small.map(lambda size: _cut(data, range(size, len(data), size))),
        place.map(lambda size: _cut(data, range(size, len(data), size))),
        st.sets(place, min_size=2, max_size=_MOST_CUTS).map(lambda cuts: _cut(data, sorted(cuts)))
        if len(data) > 2
        else st.just([data[:1], data[1:]]),
    )


def _cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    return [data[start:end] for start, end in pairwise([0, *places, len(data)])]


@st.composite
def damaged(draw: st.DrawFn, originals: st.SearchStrategy[bytes] | Sequence[bytes]) -> bytes:
    """Bytes of which some were replaced, left out or added, or that end early; now and then two behind one another.

    Args:
        draw: given by Hypothesis.
        originals: what is damaged: a strategy, or the values to choose from.
    """
    source = originals if isinstance(originals, st.SearchStrategy) else st.sampled_from(originals)
    data = draw(source)
    if draw(st.booleans()):
        data += draw(source)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.integers(0, 8))
        data = data[:start] + draw(st.binary(max_size=8)) + data[end:]
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data
