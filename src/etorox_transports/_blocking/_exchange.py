"""`Exchange`: a session with the exchange, for programs that block; made by `blocking.connect`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, final

from etorox_proto import (
    ConnectionClosed,
    EventReceived,
    EventsByTurns,
    EventsReceived,
    ExchangeConnection,
    Gap,
    LocalProtocolError,
    Ready,
    Session,
    Stale,
    Subscription,
    SubscriptionEnded,
)
from etorox_transports._blocking._client import Client, reason_of
from etorox_transports._blocking._feed import Events, Feed, Reader
from etorox_transports._blocking._line import Opener
from etorox_transports._queue import Overload, by_market_event

__all__ = ["Exchange"]


@final
class Exchange(Client[Subscription]):
    """A session with the exchange, which connects again and rotates by itself. A context manager that closes.

    It lives only while you are inside one of its methods, or of those of its feeds, and belongs to one thread.
    """

    def __init__(
        self,
        session: Session,
        opener: Opener,
        *,
        wait: bool,
        capacity: int,
        overload: Overload,
        time_source: Callable[[], float] | None,
    ) -> None:
        self._session = session
        self._events: Events | None = None
        super().__init__(session, opener, capacity=capacity, overload=overload, time_source=time_source)
        if wait:
            self._open(Ready)

    def __repr__(self) -> str:
        return f"<Exchange on {self._session!r}>"

    @property
    def session(self) -> Session:
        """The session, to look at."""
        return self._session

    @property
    def connection(self) -> ExchangeConnection | None:
        """The connection in use, or being made, to look at; None between two attempts."""
        return self._session.connection

    def subscribe(
        self,
        channels: Sequence[str],
        *,
        event: str = "marketData",
        fields: Sequence[str] | None = None,
        stale_after: float | None = None,
        capacity: int | None = None,
        overload: Overload | None = None,
    ) -> Feed:
        """Want the events of some channels, on this connection and all that follow; the answer shows in the feed.

        Args:
            channels: instrument ids such as `btcusd`.
            event: `marketData` for instrument channels.
            fields: only these fields, in alphanumeric order; events then come as rows.
            stale_after: seconds of silence before `Stale`; by default as in the `SessionConfig`.
            capacity: how many events may wait in the feed; by default as `connect` was told.
            overload: what happens to more; by default as `connect` was told.

        Raises:
            LocalProtocolError: the subscription cannot be asked for; nothing was sent.
        """
        self._check_thread()
        if self._driver.end is not None:
            raise ConnectionClosed("expected a session for subscribe, got one that has ended")
        queue, look = self._queue(capacity, overload, self._pump_feed)
        subscription = self._session.subscribe(
            channels, event=event, fields=fields, stale_after=stale_after, now=time.monotonic()
        )
        end = partial(self._unsubscribe, subscription)
        feed = Feed(subscription, queue, self._driver, pump=self._pump_feed, look=look, end=end)
        self._feeds[subscription] = feed
        self._driver.commanded()
        return feed

    def events(self, *, capacity: int | None = None, overload: Overload | None = None) -> Events:
        """All that the session says from now on, instead of reading single feeds, until it is closed.

        What waits in feeds comes first. There is one such reader at a time: it replaces an earlier one, which ends, and
        gets what waits there. While it is open, feeds get nothing, and reading them raises `LocalProtocolError`.

        Args:
            capacity: how many events may wait; by default as `connect` was told. Events wait only for those who want
                the latest: whoever reads makes them come, one by one.
            overload: what happens to more; by default as `connect` was told. The key of a `LatestBy` is made of market
                events, as in a feed; other events are kept.

        Raises:
            LocalProtocolError: these cannot be used.
        """
        self._check_thread()
        self._take_back()
        overload = by_market_event(self._overload if overload is None else overload)
        queue, look = self._queue(capacity, overload, self._pump)
        waiting = [
            item if isinstance(item, Gap | Stale | Exception) else EventReceived(subscription, item)
            for subscription, feed in self._feeds.items()
            for item in feed.take_out()
        ]
        if self._events is not None:
            self._events.finish(None)
            waiting = self._events.take_out()
        held, self._held = self._held, None
        if isinstance(held, EventsReceived | EventsByTurns):
            waiting += held.singly()
        elif held is not None:
            waiting.append(held)
        events = Events(waiting, queue, self._driver, pump=self._pump, look=look, give_back=self._give_back)
        if self._driver.end is None:
            self._events = events
        else:
            events.finish(self._end_error)
        return events

    def _next(self, until: float) -> Any:
        event = super()._next(until)
        if type(event) is SubscriptionEnded:
            feed = self._feeds.pop(event.subscription, None)
            if feed is not None:
                feed.finish(reason_of(event.error))
        elif event is None and self._events is not None:
            self._events.finish(self._end_error)
            self._events = None
        return event

    def _pump_feed(self, until: float, reader: Reader | None) -> deque[Any]:
        self._check_thread()
        if self._events is not None:
            raise LocalProtocolError("expected events() to be closed before a feed is read: it gets all that comes")
        return self._pump(until, reader)

    def _parts(self, reader: Reader, event: Any) -> tuple[Iterable[Any], Callable[[list[Any]], Any]] | None:
        if type(event) is not EventsReceived and type(event) is not EventsByTurns:
            return None
        if reader is self._events:
            return event.singly(), _batch
        if type(event) is EventsReceived and reader is self._feeds.get(event.subscription):
            return event.events, partial(EventsReceived, event.subscription)
        return None

    def _sort(self, event: Any, *, may_wait: bool) -> None:
        if self._events is not None and isinstance(event, EventsReceived | EventsByTurns):
            for each in event.singly():
                self._events.put(each)
        elif self._events is not None:
            self._events.put(event)
        elif type(event) is EventsReceived:
            self._put(event.subscription, event.events, partial(EventsReceived, event.subscription), may_wait=may_wait)
        elif type(event) is EventsByTurns:
            self._put_by_turns(event.subscriptions, event.events, EventsByTurns, may_wait=may_wait)
        elif type(event) is EventReceived:
            self._sort(_batch([event]), may_wait=may_wait)
        elif isinstance(event, Gap | Stale):
            self._put(event.subscription, [event], lambda _: event, may_wait=may_wait)

    def _give_back(self, waiting: list[Any]) -> None:
        self._take_back()
        self._events = None
        for event in waiting:
            if not isinstance(event, Exception):
                self._sort(event, may_wait=False)

    def _unsubscribe(self, subscription: Subscription) -> None:
        self._check_thread()
        if self._driver.end is None:
            self._session.unsubscribe(subscription, now=time.monotonic())
            self._driver.commanded()


def _batch(events: list[EventReceived]) -> EventsByTurns:
    return EventsByTurns([each.subscription for each in events], [each.event for each in events])
