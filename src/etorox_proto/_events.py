"""What an `ExchangeConnection` tells the application: a closed union; `match` over it is exhaustive."""

from __future__ import annotations

import msgspec

from etorox_proto._market import MarketEvent, Row
from etorox_proto._subscription import Subscription
from etorox_proto.signalr import CallError, Closed, Dial

__all__ = ["EventReceived", "ExchangeEvent", "Ready", "SubscriptionEnded"]


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


class SubscriptionEnded(msgspec.Struct, frozen=True):
    """A subscription is over; nothing more comes for it. Every subscription gets exactly one.

    Attributes:
        subscription: what `subscribe` returned.
        error: None after `unsubscribe` and where the exchange ended it in good order; `SubscriptionFailed` if it
            refused or broke it off; `CallLost` if the connection ended.
    """

    subscription: Subscription
    error: CallError | None


ExchangeEvent = Dial | Ready | EventReceived | SubscriptionEnded | Closed
