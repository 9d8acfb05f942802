"""`Subscription`: which topics, under which selector; and the rules that can be checked before anything is sent.

A topic is one channel with one event. Whether it is listed and active only the exchange knows.

Source: the exchange's streaming documentation, "subscribe".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

from etorox_proto._market import Row, event_decoder, read_event, row_decoder, row_reader, row_type
from etorox_proto.signalr import ItemReader, LocalProtocolError

__all__ = ["Subscription", "Topic"]

Topic = tuple[str, str]


@final
class Subscription:
    """One subscription: a SignalR stream of market events; compared by identity.

    Attributes:
        channels: instrument ids such as `btcusd`.
        event: the event of the channels, `marketData` for instruments.
        fields: the selector, None for whole events.
        row_type: the Struct type of the rows, None without `fields`.

    Raises:
        LocalProtocolError: a list is empty or holds something twice, or `fields` is not sorted or not usable.
    """

    __slots__ = ("channels", "event", "fields", "row_type")

    def __init__(
        self, channels: Sequence[str], *, event: str = "marketData", fields: Sequence[str] | None = None
    ) -> None:
        self.channels = _check_names(channels, "channels")
        if not isinstance(event, str) or not event:
            raise LocalProtocolError(f"expected the name of an event, got {event!r}")
        self.event = event
        self.fields: tuple[str, ...] | None = None
        self.row_type: type[Row] | None = None
        if fields is not None:
            self.fields = _check_names(fields, "fields")
            if list(self.fields) != sorted(self.fields):
                raise LocalProtocolError(
                    f"expected fields in alphanumeric order, {sorted(self.fields)}, got {list(self.fields)}"
                )
            try:
                self.row_type = row_type(self.fields)
            except ValueError as error:
                raise LocalProtocolError(f"expected fields that rows can have: {error}") from None

    def __repr__(self) -> str:
        fields = "" if self.fields is None else f", fields={list(self.fields)}"
        return f"<Subscription to {', '.join(self.channels)} ({self.event}{fields})>"

    @property
    def topics(self) -> list[Topic]:
        """Each channel with the event."""
        return [(channel, self.event) for channel in self.channels]

    def argument(self) -> dict[str, Any]:
        """The one argument of the hub method `subscribe`."""
        argument: dict[str, Any] = {"channels": list(self.channels), "event": self.event}
        if self.fields is not None:
            argument["fields"] = list(self.fields)
        return argument

    def decoder(self) -> tuple[Callable[[Any], Any], ItemReader]:
        """What makes an event or row of an item's JSON, and what does so faster, but raises where that knows a way."""
        if self.row_type is None:
            return event_decoder(), read_event
        return row_decoder(self.row_type), row_reader(self.row_type)


def _check_names(names: Sequence[str], what: str) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise LocalProtocolError(f'expected a list of {what}, such as ["..."], got {type(names).__name__}')
    if not names:
        raise LocalProtocolError(f"expected at least one of {what}, got an empty list")
    for name in names:
        if not isinstance(name, str) or not name:
            raise LocalProtocolError(f"expected {what} to be names, got {name!r}")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise LocalProtocolError(f"expected each of {what} once, got {', '.join(twice)} more than once")
    return tuple(names)
