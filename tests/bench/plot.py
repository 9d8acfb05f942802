"""The plot, as SVG made by hand: events a second of processor time, a panel for each shape and frame.

It brings its own background, so it reads the same on light and on dark pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from bench.cases import Samples
from bench.measures.throughput import key
from bench.runs import OURS
from bench.task import Shape

__all__ = ["PLOT", "draw"]

# The name of the file, beside the page.
PLOT = "benchmarks.svg"

_PANELS: tuple[tuple[str, Shape, int], ...] = (
    ("Whole events, one a frame", "full", 1),
    ("Rows, one a frame", "row", 1),
    ("Whole events, ten a frame", "full", 10),
    ("Rows, ten a frame", "row", 10),
)
_NAMES = {
    "blocking": "ours, blocking",
    "asyncio": "ours, asyncio",
    "uvloop": "ours, uvloop",
    "anyio on trio": "ours, anyio on trio",
    "trio": "ours, trio",
    "node": "@microsoft/signalr",
    "pysignalr": "pysignalr",
    "signalrcore": "signalrcore",
    "decode only": "decoding alone",
}
_PAPER, _INK, _FAINT = "#fcfcfb", "#24292f", "#59636e"
_OURS, _PEERS, _LIMIT = "#1f6fb2", "#c98b2b", "#b9bfc6"
_WIDTH, _PANEL, _LEFT, _ROW = 960, 470, 140, 22
_BAR = _PANEL - _LEFT - 90


def draw(samples: Samples) -> str:
    """The plot of what was measured."""
    panels = [(title, key(shape, count)) for title, shape, count in _PANELS]
    panels = [(title, case) for title, case in panels if samples.rates(case)]
    tall = 70 + len(_NAMES) * _ROW
    height = 70 + -(-len(panels) // 2) * tall
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="13" role="img">',
        "<title>Events a second of processor time, by receiver</title>",
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="{_PAPER}"/>',
        _text(20, 30, "Events a second of processor time, JSON", size=17, bold=True),
        _text(20, 50, "from the socket to a typed event in the user's loop; longer is better", fill=_FAINT),
    ]
    for index, (title, case) in enumerate(panels):
        lines += _panel(samples, title, case, 10 + index % 2 * _PANEL, 70 + index // 2 * tall)
    return "\n".join([*lines, "</svg>", ""])


def _panel(samples: Samples, title: str, case: str, left: float, top: float) -> Iterator[str]:
    """Bars, the longest first; the limit sets the scale."""
    rates = sorted(samples.rates(case).items(), key=lambda pair: -pair[1])
    most = rates[0][1]
    yield _text(left + 10, top + 24, title, bold=True)
    for index, (receiver, rate) in enumerate(rates):
        middle = top + 40 + index * _ROW
        colour = _OURS if receiver in OURS else _LIMIT if receiver == "decode only" else _PEERS
        width = max(rate / most * _BAR, 1.0)
        yield _text(left + _LEFT, middle + 12, _NAMES[receiver], anchor="end")
        yield f'<rect x="{left + _LEFT + 8}" y="{middle}" width="{width:.1f}" height="16" rx="2" fill="{colour}"/>'
        yield _text(left + _LEFT + 14 + width, middle + 12, f"{rate:,.0f}", fill=_FAINT)


def _text(
    x: float, y: float, text: str, *, size: int = 13, bold: bool = False, anchor: str = "start", fill: str = _INK
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}"{weight} text-anchor="{anchor}" fill="{fill}">'
        f"{escape(text)}</text>"
    )
