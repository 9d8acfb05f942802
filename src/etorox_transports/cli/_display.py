"""How events are shown: aligned, coloured lines for a person, one JSON object a line for a pipe.

JSON keeps the exchange's spelling and every digit; rows become objects of their fields. A gap is a line among the
events in both, because it belongs where it is. Knows events and nothing of connections.
"""

from __future__ import annotations

import datetime
import sys
from decimal import Decimal
from typing import Any, Protocol, assert_never

import msgspec
from rich.console import Console
from rich.text import Text

from etorox_proto import (
    EventReceived,
    Gap,
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
from etorox_transports._text import printable

__all__ = ["Display", "JsonLines", "PrettyLines", "new_console"]

_SIDES = {"bid": "green", "ask": "red"}
_LABELS = {
    "order_created": ("created", "cyan"),
    "order_updated": ("updated", "blue"),
    "order_canceled": ("cancelled", "bright_black"),
    "order_completed": ("completed", "magenta"),
    "trade_completed": ("trade", "bold yellow"),
}
# Columns of numbers, which are read from the right.
_NUMBERS = {"amount", "delta", "origin_volume", "price", "volume"}


class Display(Protocol):
    """Shows events on standard output, and notes about the connection on standard error."""

    def show(self, received: EventReceived) -> None:
        """Show one event."""
        ...

    def gap(self, gap: Gap) -> None:
        """Show, between the events, that some may be missing here."""
        ...

    def note(self, text: str) -> None:
        """Say something that is no event."""
        ...


class JsonLines:
    """One JSON object a line, for programs."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder(decimal_format="number")
        self._out = sys.stdout.buffer
        self._notes = new_console(stderr=True)

    def show(self, received: EventReceived) -> None:
        """See `Display.show`."""
        self._write(as_object(received.event))

    def gap(self, gap: Gap) -> None:
        """See `Display.gap`. No event of the exchange has such a name, so that nobody takes it for one."""
        since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=gap.lasted)
        self._write(
            {
                "name": "(gap)",
                "channels": gap.subscription.channels,
                "event": gap.subscription.event,
                "since": f"{since:%Y-%m-%dT%H:%M:%S}.{since.microsecond // 1000:03}Z",
                "lasted": round(gap.lasted, 3),
                "cause": str(gap.cause),
            }
        )

    def _write(self, line: dict[str, Any]) -> None:
        self._out.write(self._encoder.encode(line) + b"\n")
        self._out.flush()

    def note(self, text: str) -> None:
        """See `Display.note`."""
        self._notes.print(printable(text), style="dim")


class PrettyLines:
    """Aligned, coloured lines, for a person."""

    def __init__(self) -> None:
        self._out = new_console()
        self._notes = new_console(stderr=True)
        self._has_heading = False

    def show(self, received: EventReceived) -> None:
        """See `Display.show`."""
        if not self._has_heading:
            self._has_heading = True
            self._out.print(_heading(received.event), style="underline")
        self._out.print(_line(received.event))

    def gap(self, gap: Gap) -> None:
        """See `Display.gap`."""
        channels = ", ".join(gap.subscription.channels)
        text = f"--- events of {channels} may be missing here, from {gap.lasted:.1f} s: {gap.cause} ---"
        self._out.print(printable(text), style="bold red")

    def note(self, text: str) -> None:
        """See `Display.note`."""
        self._notes.print(printable(text), style="dim")


def new_console(*, stderr: bool = False) -> Console:
    """A terminal or pipe that shows text as it is: no wrapping, and `:100:` stays what it is."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False, markup=False)


def as_object(event: MarketEvent | Row) -> dict[str, Any]:
    """The event as a JSON object in the exchange's spelling."""
    if isinstance(event, Row):
        return {field: getattr(event, field) for field in event.fields}
    return event_fields(event)


def _heading(event: MarketEvent | Row) -> str:
    if isinstance(event, Row):
        return "  ".join(_cell(field, printable(field)) for field in event.fields)
    columns = f"{'time (UTC)':<12}  {'market':<8} {'event':<10} {'side':<4}"
    return f"{columns} {'price':>14} {'volume':>14} {'change':>12}  {'id':<8}"


def _line(event: MarketEvent | Row) -> Text:
    match event:
        case Row():
            return _row(event)
        case UnknownEvent():
            plain = msgspec.json.encode(as_object(event)).decode()
            return Text.assemble(("unknown   ", "yellow"), printable(plain))
        case OrderCreated() | OrderUpdated() | OrderCanceled() | OrderCompleted():
            line = _begin(event.at, event.market, event.name, event.side, event.price, event.volume)
            delta = getattr(event, "delta", None)
            line.append(f" {'' if delta is None else _number(delta, '+f', trim=True):>12}", "dim")
            return line.append(f"  {printable(event.id[:8])}", "dim")
        case TradeCompleted():
            line = _begin(event.at, event.market, event.name, event.side or "", event.price, event.quantity)
            return line.append(f" {'':>12}  {printable((event.trade_id or '')[:8])}", "dim")
        case _:
            assert_never(event)


def _begin(
    at: datetime.datetime | None, market: str, name: str, side: str, price: Decimal, volume: Decimal | None
) -> Text:
    label, style = _LABELS[name]
    time = "" if at is None else at.strftime("%H:%M:%S.%f")[:-3]
    size = "" if volume is None else _number(volume, trim=True)
    return Text.assemble(
        (f"{time:<12} ", "dim"),
        (f" {printable(market):<8}", "bold"),
        (f" {label:<10}", style),
        (f" {side:<4}", _SIDES.get(side, "")),
        f" {_number(price):>14}",
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
                shown = _number(value)
            case _:
                shown = printable(str(value))
        style = _LABELS[value][1] if field == "name" and value in _LABELS else _SIDES.get(shown, "")
        line.append(_cell(field, shown), style).append("  ")
    line.rstrip()
    return line


def _number(number: Decimal, form: str = "f", *, trim: bool = False) -> str:
    """The number without an exponent, and if wanted without zeros at its end."""
    if abs(number.adjusted()) > 30:
        return str(number)  # nobody wants to see the zeros of 1E+999999
    text = format(number, form)
    return text.rstrip("0").rstrip(".") if trim and "." in text else text


def _cell(field: str, text: str) -> str:
    """The text in the column of a field, which is as wide as its longest usual value, and its name at least."""
    usual = {"id": 36, "tid": 36, "order_id": 36, "name": 15, "snapshot_id": 17, "amount": 24}
    width = max(len(field), usual.get(field, 12))
    return f"{text:>{width}}" if field in _NUMBERS else f"{text:<{width}}"
