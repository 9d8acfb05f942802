"""What `etorox stream` does with a session: it is the same on every adapter, and so is what it shows.

`watch` runs the adapter of that name and gives each event to a `Watcher`, which shows it, counts it, and says when to
stop. The asynchronous adapters are imported when they are asked for, because they need extras.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, final

from etorox_proto import (
    CallLost,
    Closed,
    EventReceived,
    Gap,
    LocalProtocolError,
    Ready,
    Reconnecting,
    Session,
    SessionEvent,
    SessionState,
    Stale,
    SubscriptionEnded,
)
from etorox_transports import blocking
from etorox_transports.cli._display import Display

__all__ = ["ADAPTERS", "Summary", "Wish", "watch"]

ADAPTERS = ("blocking", "trio", "anyio")


@dataclass(frozen=True)
class Wish:
    """What to subscribe, and how many events of it to show; None for all."""

    channels: Sequence[str]
    event: str
    fields: Sequence[str] | None
    count: int | None


class Summary:
    """What is said at the end."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.events = 0
        self.reconnects = 0
        self.gaps = 0
        self.rotations = 0

    def text(self, *, interrupted: bool) -> str:
        """The line; it begins on a new one behind the `^C` of a terminal."""
        seconds = time.monotonic() - self.began
        rate = self.events / seconds if seconds else 0.0
        counts = [f"{_times(self.events, 'event')} in {seconds:.1f} s ({rate:,.1f} a second)"]
        if self.reconnects:
            counts.append("connected again " + ("once" if self.reconnects == 1 else f"{self.reconnects:,} times"))
        counts += [_times(n, what) for n, what in ((self.gaps, "gap"), (self.rotations, "rotation")) if n]
        return ("\n" if interrupted else "") + ", ".join(counts) + "."


@final
class _Watcher:
    """Shows and counts what a session says."""

    def __init__(self, display: Display, summary: Summary, session: Session, count: int | None) -> None:
        self._display = display
        self._summary = summary
        self._session = session
        self._count = count
        self._has_been_ready = False

    def wants_more(self, event: SessionEvent) -> bool:
        """Show an event. Whether another one is wanted.

        Raises:
            CallError: the exchange refused the subscription, or broke it off.
        """
        display, summary = self._display, self._summary
        if summary.rotations != self._session.rotations:
            summary.rotations = self._session.rotations
            display.note("--- gone over to a new connection ---")
        match event:
            case EventReceived():
                display.show(event)
                summary.events += 1
                return summary.events != self._count
            case Gap():
                display.gap(event)
                summary.gaps += 1
            case Stale(subscription, silent_for):
                display.note(f"--- nothing came for {', '.join(subscription.channels)} for {silent_for:.0f} s ---")
            case Reconnecting():
                display.note(f"--- {self._trouble(event)} ---")
            case Ready():
                if self._has_been_ready:
                    summary.reconnects += 1
                    display.note("--- connected again ---")
                self._has_been_ready = True
            case SubscriptionEnded(error=CallLost()) | Closed():
                pass  # the session ends, and says why
            case SubscriptionEnded(error=error):
                if error is not None:
                    raise error
                display.note("The exchange has ended the subscription.")
                return False
        return True

    def _trouble(self, event: Reconnecting) -> str:
        if self._session.state is not SessionState.READY:
            return f"{event.error}; connecting again in {event.delay:.1f} s"
        again = "not tried again" if event.delay == math.inf else f"tried again in {event.delay:.1f} s"
        return f"a second connection, to replace this one, failed: {event.error}; {again}"


def watch(adapter: str, display: Display, summary: Summary, wish: Wish, *arguments: Any, **options: Any) -> None:
    """Show the events until there are enough, the exchange ends them, or an error is final.

    Args:
        adapter: one of `ADAPTERS`.
        display: where to show them.
        summary: where to count them.
        wish: what to subscribe.
        arguments: for the adapter's `connect`.
        options: as well.

    Raises:
        LocalProtocolError: the adapter's extra is missing.
        SignalRError: why it ended.
    """

    def begin(exchange: Any) -> tuple[Any, Callable[[SessionEvent], bool]]:
        exchange.subscribe(wish.channels, event=wish.event, fields=wish.fields)
        return exchange.events(), _Watcher(display, summary, exchange.session, wish.count).wants_more

    async def run() -> None:
        async with library.connect(*arguments, wait=False, **options) as exchange:
            events, wants_more = begin(exchange)
            async for event in events:
                if not wants_more(event):
                    break

    if adapter == "blocking":
        with blocking.connect(*arguments, wait=False, **options) as exchange:
            events, wants_more = begin(exchange)
            for event in events:
                if not wants_more(event):
                    break
    else:
        loop = _module(adapter, adapter)
        library = _module(f"etorox_transports.{adapter}", adapter)
        loop.run(run)


def _module(name: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != extra:
            raise
        raise LocalProtocolError(
            f"expected the extra `{extra}` for --adapter {extra}: pip install 'etorox-proto[{extra}]'"
        ) from None


def _times(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number:,} {what}s"
