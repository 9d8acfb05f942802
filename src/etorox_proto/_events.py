"""What an `ExchangeConnection` and a `Session` tell the application: two closed unions, exhaustive to `match`."""

from __future__ import annotations

import itertools
import operator
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from etorox_proto._market import MarketEvent, Row
from etorox_proto._subscription import Subscription
from etorox_proto.signalr import CallError, Closed, ConnectionFailed, Dial, SignalRError

__all__ = [
    "EventReceived",
    "EventsByTurns",
    "EventsReceived",
    "ExchangeBatch",
    "ExchangeEvent",
    "Gap",
    "Ready",
    "Reconnecting",
    "SessionBatch",
    "SessionEvent",
    "Stale",
    "SubscriptionEnded",
    "next_batch",
    "next_single",
]


class Ready(msgspec.Struct, frozen=True):
    """`setup` succeeded; `subscribe` is accepted from now on.

    Attributes:
        connection_id: the public name that the server gave this connection; None if negotiation was skipped.
    """

    connection_id: str | None


class EventReceived(msgspec.Struct, frozen=True, gc=False):
    """One market event, or one row of a subscription with `fields`.

    Attributes:
        subscription: what `subscribe` returned.
        event: a typed event; a `Row` if the subscription has `fields`; `UnknownEvent` for anything else.
    """

    subscription: Subscription
    event: MarketEvent | Row


class EventsReceived(msgspec.Struct, frozen=True):
    """Market events of one subscription that came one behind the other, as `next_batch` gives them.

    Attributes:
        subscription: what `subscribe` returned.
        events: as in `EventReceived`, in order; at least one. The list is the reader's.
    """

    subscription: Subscription
    events: list[Any]

    def singly(self) -> Iterator[EventReceived]:
        """The same as `next_event` would give it."""
        return map(EventReceived, itertools.repeat(self.subscription), self.events)


class EventsByTurns(msgspec.Struct, frozen=True):
    """Market events of several subscriptions that came one behind the other, as `next_batch` gives them.

    Attributes:
        subscriptions: for each event, what `subscribe` returned.
        events: as in `EventReceived`, in order; as many. Both lists are the reader's.
    """

    subscriptions: list[Subscription]
    events: list[Any]

    def singly(self) -> Iterator[EventReceived]:
        """The same as `next_event` would give it."""
        return map(EventReceived, self.subscriptions, self.events)

    def apart(self) -> Iterator[EventsReceived]:
        """The same in batches of one subscription, in the same order."""
        pairs = zip(self.subscriptions, self.events, strict=True)
        for subscription, each in itertools.groupby(pairs, operator.itemgetter(0)):
            yield EventsReceived(subscription, [event for _, event in each])


class SubscriptionEnded(msgspec.Struct, frozen=True):
    """A subscription is over; nothing more comes for it. Every subscription gets exactly one.

    Attributes:
        subscription: what `subscribe` returned.
        error: None after `unsubscribe` and where the exchange ended it in good order; `SubscriptionFailed` if it
            refused or broke it off; `CallLost` if the connection ended.
    """

    subscription: Subscription
    error: CallError | None


ExchangeBatch = Dial | Ready | EventsReceived | EventsByTurns | SubscriptionEnded | Closed
ExchangeEvent = Dial | Ready | EventReceived | SubscriptionEnded | Closed


class Gap(msgspec.Struct, frozen=True):
    """Events of a subscription may be missing here: between the one delivered before and the one that follows.

    It stands directly before the first event after an interruption, and comes with that event, not with the
    interruption.

    Attributes:
        subscription: what `subscribe` returned.
        since: until when the subscription is known to be whole: the time of its last event, or of `subscribe` if there
            was none, in seconds of the session's clock.
        lasted: seconds from `since` until the event that follows.
        cause: why. What ended the connection; why the exchange broke the subscription off; `HandoverUnproven`.
    """

    subscription: Subscription
    since: float
    lasted: float
    cause: SignalRError


class Stale(msgspec.Struct, frozen=True):
    """The connection lives, but a subscription that should be busy is silent. Nothing is done about it.

    It comes after `stale_after` seconds of silence, again after twice and four times as long, and so on.

    Attributes:
        subscription: what `subscribe` returned.
        silent_for: seconds since its last event, or since it was asked for on this connection.
    """

    subscription: Subscription
    silent_for: float


class Reconnecting(msgspec.Struct, frozen=True):
    """A connection ended, or an attempt to make one; another attempt follows.

    If the session is `READY` all the same, it was the attempt to replace a connection that still serves.

    Attributes:
        error: why it ended.
        delay: seconds until the next attempt begins. `math.inf`: none is made while the connection in use lives.
    """

    error: ConnectionFailed
    delay: float


SessionBatch = Ready | EventsReceived | EventsByTurns | Gap | Stale | Reconnecting | SubscriptionEnded | Closed
SessionEvent = Ready | EventReceived | Gap | Stale | Reconnecting | SubscriptionEnded | Closed


def next_single(events: deque[Any]) -> Any:
    """Take the next event from a queue in which market events wait in batches; None if it is empty."""
    if events and isinstance(events[0], EventsReceived | EventsByTurns):
        events.extendleft(reversed(list(events.popleft().singly())))
    return events.popleft() if events else None


def next_batch(events: deque[Any]) -> Any:
    """Take the next event from such a queue, market events in batches; None if it is empty."""
    event = events.popleft() if events else None
    return EventsReceived(event.subscription, [event.event]) if type(event) is EventReceived else event
