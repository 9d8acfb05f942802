"""How events are shown: aligned, coloured lines for a person, one JSON object a line for a pipe.

JSON keeps the exchange's spelling and every digit; rows become objects of their fields. Knows events and nothing of
connections.
"""

from __future__ import annotations

import datetime
import sys
from decimal import Decimal
from typing import Any, Protocol

import msgspec
from rich.console import Console
from rich.text import Text

from etorox_proto import (
    EventReceived,
    MarketEvent,
    OrderCanceled,
    OrderCompleted,
    OrderCreated,
    OrderUpdated,
    Row,
    TradeCompleted,
    UnknownEvent,
    event_fields,
)

__all__ = ["Display", "JsonLines", "PrettyLines"]

_SIDES = {"bid": "green", "ask": "red"}
_LABELS = {
    "order_created": ("created", "cyan"),
    "order_updated": ("updated", "blue"),
    "order_canceled": ("cancelled", "bright_black"),
    "order_completed": ("completed", "magenta"),
    "trade_completed": ("trade", "bold yellow"),
}


class Display(Protocol):
    """Shows events on standard output, and notes about the connection on standard error."""

    def show(self, received: EventReceived) -> None:
        """Show one event."""
        ...

    def note(self, text: str) -> None:
        """Say something that is no event."""
        ...


class JsonLines:
    """One JSON object a line, for programs."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder(decimal_format="number")
        self._out = sys.stdout.buffer
        self._notes = Console(stderr=True, highlight=False, soft_wrap=True)

    def show(self, received: EventReceived) -> None:
        """See `Display.show`."""
        self._out.write(self._encoder.encode(as_object(received.event)) + b"\n")
        self._out.flush()

    def note(self, text: str) -> None:
        """See `Display.note`."""
        self._notes.print(text, style="dim", markup=False)


class PrettyLines:
    """Aligned, coloured lines, for a person."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, soft_wrap=True)
        self._notes = Console(stderr=True, highlight=False, soft_wrap=True)
        self._has_heading = False

    def show(self, received: EventReceived) -> None:
        """See `Display.show`."""
        if not self._has_heading:
            self._has_heading = True
            self._out.print(_heading(received.event), style="underline")
        self._out.print(_line(received.event))

    def note(self, text: str) -> None:
        """See `Display.note`."""
        self._notes.print(text, style="dim", markup=False)


def as_object(event: MarketEvent | Row) -> dict[str, Any]:
    """The event as a JSON object in the exchange's spelling."""
    if isinstance(event, Row):
        return {field: getattr(event, field) for field in event.fields}
    return event_fields(event)


def _heading(event: MarketEvent | Row) -> str:
    if isinstance(event, Row):
        return "  ".join(f"{field:<{_width(field)}}" for field in event.fields)
    columns = f"{'time (UTC)':<12}  {'market':<8} {'event':<10} {'side':<4}"
    return f"{columns} {'price':>14} {'volume':>14} {'change':>12}  {'id':<8}"


def _line(event: MarketEvent | Row) -> Text:
    match event:
        case Row():
            return _row(event)
        case UnknownEvent():
            plain = msgspec.json.encode(as_object(event)).decode()
            return Text.assemble(("unknown   ", "yellow"), plain)
        case OrderCreated() | OrderUpdated() | OrderCanceled() | OrderCompleted():
            line = _begin(event.at, event.market, event.name, event.side, event.price, event.volume)
            delta = getattr(event, "delta", None)
            line.append(f" {'' if delta is None else format(delta, '+f'):>12}", "dim")
            return line.append(f"  {event.id[:8]}", "dim")
        case TradeCompleted():
            line = _begin(event.at, event.market, event.name, event.side or "", event.price, event.quantity)
            return line.append(f" {'':>12}  {(event.trade_id or '')[:8]}", "dim")


def _begin(
    at: datetime.datetime | None, market: str, name: str, side: str, price: Decimal, volume: Decimal | None
) -> Text:
    label, style = _LABELS[name]
    time = "" if at is None else at.strftime("%H:%M:%S.%f")[:-3]
    size = "" if volume is None else format(volume.normalize(), "f")
    return Text.assemble(
        (f"{time:<12} ", "dim"),
        (f" {market:<8}", "bold"),
        (f" {label:<10}", style),
        (f" {side:<4}", _SIDES.get(side, "")),
        f" {format(price, 'f'):>14}",
        f" {size:>14}",
    )


def _row(row: Row) -> Text:
    line = Text()
    for field in row.fields:
        value = getattr(row, field)
        match value:
            case None:
                shown = "-"
            case datetime.datetime():
                shown = value.strftime("%H:%M:%S.%f")[:-3]
            case Decimal():
                shown = format(value, "f")
            case _:
                shown = str(value)
        style = _LABELS[value][1] if field == "name" and value in _LABELS else _SIDES.get(shown, "")
        line.append(f"{shown:<{_width(field)}}  ", style)
    return line


def _width(field: str) -> int:
    """How wide the column of a field is: as its longest usual value, and its name at least."""
    usual = {"id": 36, "tid": 36, "order_id": 36, "name": 15, "snapshot_id": 17, "amount": 24}
    return max(len(field), usual.get(field, 12))
