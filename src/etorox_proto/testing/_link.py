"""`Link`: what lies between two ends of a stream, and the ways in which it cuts bytes.

A link is a value: it says how long bytes take, how many pass in a second, and how they are cut. `_pipe` obeys it. What
is random in it is drawn from the network's seed, so one link may serve many networks.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from etorox_proto.signalr import LocalProtocolError

__all__ = ["Chunking", "Link", "bytewise", "pieces", "whole"]

Chunking = Callable[[bytes, random.Random], Iterable[bytes]]
"""Cuts the bytes of one write, given the network's random source; nothing may be lost, added or moved."""

_LENGTHS = (1, 1, 2, 3, 7, 20, 100, 1_000)


def whole(data: bytes, _source: random.Random, /) -> Iterable[bytes]:
    """Each write arrives as it was made."""
    return (data,)


def bytewise(data: bytes, _source: random.Random, /) -> Iterable[bytes]:
    """One byte after the other."""
    return (data[i : i + 1] for i in range(len(data)))


def pieces(data: bytes, source: random.Random, /) -> Iterable[bytes]:
    """Pieces of random lengths, from 1 byte to 1,000."""
    start = 0
    while start < len(data):
        end = start + source.choice(_LENGTHS)
        yield data[start:end]
        start = end


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How bytes get from one end of a stream to the other; the same in both directions.

    Attributes:
        latency: seconds that a byte is under way.
        jitter: up to so many seconds more, drawn evenly for each piece; pieces never overtake one another.
        bandwidth: bytes that pass in a second.
        chunking: how each write is cut: `whole`, `bytewise`, `pieces`, or a function of your own.
        window: bytes that may be under way or unread. Further ones stay with the sender, which is then held back.

    Raises:
        LocalProtocolError: a number is negative, or nothing could ever pass.
    """

    latency: float = 0.01
    jitter: float = 0.0
    bandwidth: float = math.inf
    chunking: Chunking = whole
    window: int = 262_144

    def __post_init__(self) -> None:
        for name in ("latency", "jitter"):
            if not 0 <= getattr(self, name) < math.inf:
                raise LocalProtocolError(f"expected {name} to be seconds from 0 upwards, got {getattr(self, name)!r}")
        for name in ("bandwidth", "window"):
            if not getattr(self, name) > 0:
                raise LocalProtocolError(f"expected {name} to be more than 0 bytes, got {getattr(self, name)!r}")

    def cut(self, data: bytes, source: random.Random) -> list[bytes]:
        """The pieces in which these bytes travel.

        Raises:
            LocalProtocolError: the chunking changed the bytes.
        """
        if self.chunking is whole:
            return [data]
        cut = [piece for piece in self.chunking(data, source) if piece]
        if b"".join(cut) != data:
            raise LocalProtocolError(f"expected the chunking to keep all {len(data)} bytes in order, got other bytes")
        return cut

    def delay(self, source: random.Random) -> float:
        """How long the next piece is under way, in seconds."""
        return self.latency + self.jitter * source.random() if self.jitter else self.latency
