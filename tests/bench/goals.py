"""The goals: each a ratio of figures measured in one run, with the bound that it has to keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from bench.cases import US, Samples
from bench.measures.growth import PER_BYTE
from bench.measures.latency import BURSTS, P50, P99, SINGLE
from bench.measures.machines import PLAIN, SESSION, TLS
from bench.measures.resources import GROWN, IMPORT, MEMORY, MILLISECONDS, MORE, PEAK
from bench.measures.throughput import key

__all__ = ["GOALS", "Goal"]

Ratio = Callable[[Samples], float | None]


@dataclasses.dataclass(frozen=True)
class Goal:
    """Something that we want to reach.

    Attributes:
        text: what is compared with what.
        bound: the least, or the most, that the ratio may be.
        ratio: reads it from the samples; None if it was not measured.
        is_least: whether `bound` is the least.
        unit: of ratio and bound.
    """

    text: str
    bound: float
    ratio: Ratio
    is_least: bool = True
    unit: str = ""

    def is_met(self, ratio: float) -> bool:
        """Whether this is good enough."""
        return ratio >= self.bound if self.is_least else ratio <= self.bound


def _faster(case: str, than: str, receiver: str = "blocking") -> Ratio:
    """How many times faster the receiver is than another, by processor time."""
    return lambda samples: samples.ratio((case, than), (case, receiver))


def _share(case: str, receiver: str, of: str, name: str) -> Ratio:
    """A figure of the receiver against that of another."""
    return lambda samples: samples.ratio((case, receiver), (case, of), name)


def _grown(receiver: str) -> Ratio:
    """How much more memory two million events left, in MiB."""
    return lambda samples: samples.median(GROWN, receiver, MORE)


def _grows(receiver: str, of: str, to: str, figure: str) -> Ratio:
    """A figure of one point of a curve, against that of another."""
    return lambda samples: samples.ratio((of, receiver), (to, receiver), figure)


def _tls(samples: Samples) -> float | None:
    """What TLS adds to the blocking adapter, against what it adds to a plain socket."""
    kinds = [(case, receiver) for receiver in ("blocking", "raw") for case in (TLS, PLAIN)]
    return samples.combine(lambda ours, plain, theirs, bare: (ours - plain) / (theirs - bare), kinds)


FULL, ROW = key("full", 1), key("row", 1)

GOALS: tuple[Goal, ...] = (
    Goal("full, 1 a frame: blocking, faster than pysignalr", 4.5, _faster(FULL, "pysignalr")),
    Goal("full, 1 a frame: blocking, faster than @microsoft/signalr", 2.2, _faster(FULL, "node")),
    Goal("full, 1 a frame: blocking, against decoding alone", 0.65, _faster(FULL, "decode only")),
    Goal("row, 1 a frame: blocking, faster than pysignalr", 6.5, _faster(ROW, "pysignalr")),
    Goal("row, 1 a frame: blocking, faster than @microsoft/signalr", 2.7, _faster(ROW, "node")),
    Goal("full, 10 a frame: blocking, faster than @microsoft/signalr", 1.4, _faster(key("full", 10), "node")),
    *(
        Goal(f"full, 1 a frame: {name}, against blocking", 0.9, _faster(FULL, "blocking", name))
        for name in ("asyncio", "anyio on trio", "trio")
    ),
    Goal("a Session of one subscription, against a bare ExchangeConnection", 0.95, _faster(SESSION, "bare", "session")),
    Goal("TLS: time added to blocking, against SSLSocket.recv", 0.5, _tls, is_least=False),
    Goal("latency, p50: blocking, against Node", 1.0, _share(SINGLE, "blocking", "node", P50), is_least=False),
    Goal("latency, p50: asyncio, against pysignalr", 0.9, _share(SINGLE, "asyncio", "pysignalr", P50), is_least=False),
    Goal(
        "latency in bursts, p99: blocking, against Node", 1.0, _share(BURSTS, "blocking", "node", P99), is_least=False
    ),
    Goal(
        "latency in bursts, p99: asyncio, against pysignalr",
        0.7,
        _share(BURSTS, "asyncio", "pysignalr", P99),
        is_least=False,
    ),
    Goal(
        "time at 5,000 a second: blocking, against pysignalr", 0.6, _share(SINGLE, "blocking", "pysignalr", US), False
    ),
    Goal("time at 5,000 a second: asyncio, against pysignalr", 0.85, _share(SINGLE, "asyncio", "pysignalr", US), False),
    *(
        Goal(
            f"memory after two million events, more than after ten thousand: {name}",
            0.5,
            _grown(name),
            is_least=False,
            unit=" MiB",
        )
        for name in ("blocking", "asyncio", "trio")
    ),
    Goal(
        "peak memory: blocking, against pysignalr", 0.75, _share(MEMORY, "blocking", "pysignalr", PEAK), is_least=False
    ),
    Goal(
        "import of etorox_proto, against pysignalr.client",
        0.35,
        _share(IMPORT, "import etorox_proto", "import pysignalr.client", MILLISECONDS),
        is_least=False,
    ),
    *(
        Goal(f"growth: {figure}, {of}, against {to}", bound, _grows(receiver, of, to, figure), is_least=False)
        for receiver, of, to, figure, bound in (
            ("blocking", "100 subscriptions", "1 subscriptions", US, 1.25),
            ("asyncio", "1,000 connections", "1 connections", US, 1.5),
            ("blocking", "1,048,576 B a message", "100,000 B a message", PER_BYTE, 1.25),
            ("blocking", "1 B a read", "16 B a read", US, 20.0),
            ("blocking", "262,144 B a read", "65,536 B a read", US, 1.25),
        )
    ),
)
