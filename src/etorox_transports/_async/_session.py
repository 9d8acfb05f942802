"""`SessionDriver`: the tasks behind an `Exchange`. It runs a `Session` with all its connections.

It carries out what the session asks for, and gives what it says to whoever waits for that. Policy is in the session,
bytes are in `_lane`, and what the application sees is in `_exchange`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, assert_never, final

from etorox_proto import (
    CallLost,
    CheckClock,
    Closed,
    ConnectionFailed,
    Dial,
    EventReceived,
    EventsByTurns,
    EventsReceived,
    ExchangeConnection,
    Gap,
    Ready,
    Reconnecting,
    Session,
    SessionEvent,
    Stale,
    StartAttempt,
    Subscription,
    SubscriptionEnded,
)
from etorox_transports._async._backend import AsyncOpener, Backend, Scope
from etorox_transports._async._driver import Driver, not_entered
from etorox_transports._async._feed import Events, Feed, Inbox, Missed
from etorox_transports._async._lane import Lane, let_readers_go_first, wait_until
from etorox_transports._queue import Overload, by_market_event, new_queue

__all__ = ["SessionDriver", "AsyncTimeSource"]

AsyncTimeSource = Callable[[], Awaitable[float]]
"""Gives the exchange's wall time in Unix seconds."""

# How late an answer to the question for the time is of no use any more, in seconds.
_CLOCK_PATIENCE = 10.0


@final
class SessionDriver(Driver):
    """Runs a session and its connections.

    Args:
        backend: the library.
        open_stream: opens byte streams.
        new_session: makes the session, at the time given.
        time_source: the exchange's wall clock, if it can be asked.
        close_timeout: how many seconds the exchange has for its goodbye.
        wait: whether entering takes until the exchange has let us in, and the first failure is final.
    """

    def __init__(
        self,
        backend: Backend,
        open_stream: AsyncOpener,
        new_session: Callable[[float], Session],
        time_source: AsyncTimeSource | None,
        *,
        close_timeout: float,
        wait: bool,
    ) -> None:
        super().__init__(backend, close_timeout=close_timeout, wait=wait)
        self._open_stream = open_stream
        self._new_session = new_session
        self._time_source = time_source
        self._session: Session | None = None
        self._lanes: dict[ExchangeConnection, Lane[ExchangeConnection]] = {}
        self._feeds: dict[Subscription, Inbox] = {}
        self._all: Inbox | None = None  # who reads everything, if anybody does
        self._waits_for_ready = wait
        self._first_error: ConnectionFailed | None = None
        self._asking: Scope | None = None
        self._is_checking_clock = False
        self._wakeup = backend.new_event()
        self._due = math.inf

    def __repr__(self) -> str:
        return "not entered" if self._session is None else repr(self._session)

    # ----------------------------------------------------------------------------------------------- the application

    @property
    def session(self) -> Session:
        """The session; raises `LocalProtocolError` before it has begun."""
        if self._session is None:
            raise not_entered()
        return self._session

    def subscribe(
        self,
        channels: Sequence[str],
        *,
        event: str,
        fields: Sequence[str] | None,
        stale_after: float | None,
        capacity: int,
        overload: Overload,
    ) -> Feed:
        """Want a subscription, and make the feed that it fills."""
        new_queue(capacity, overload)  # whatever is wrong is said before anything is asked for
        subscription = self.session.subscribe(
            channels, event=event, fields=fields, stale_after=stale_after, now=self._backend.now()
        )
        self._feeds[subscription] = inbox = Inbox(self.consumers, capacity, overload)
        self.settle()
        return Feed(subscription, inbox, self.consumers, partial(self._unsubscribe, subscription))

    def events(self, *, capacity: int, overload: Overload) -> Events:
        """Make the reader of everything; it replaces the one that there may be."""
        if self._session is None:
            raise not_entered()
        inbox = Inbox(self.consumers, capacity, by_market_event(overload))
        if self._all is not None:
            earlier, self._all = self._all, None
            for event in earlier.take_out():
                _put(inbox, None, event)
            earlier.finish(None)
        for subscription, feed in self._feeds.items():
            for event in feed.take_out():
                _put(inbox, subscription, event)
            feed.wake()
        if self.has_ended:
            inbox.finish(self.error)
        else:
            self._divert(inbox)
        return Events(inbox, self.consumers, self._give_back)

    def _divert(self, inbox: Inbox | None) -> None:
        """Give everything to a reader of everything from now on, or to feeds."""
        self._all = inbox
        self.consumers.are_diverted = inbox is not None

    def _give_back(self, waiting: Iterator[Any]) -> None:
        self._divert(None)
        for event in waiting:
            if isinstance(event, Missed) and event.subscription is not None:
                if (inbox := self._feeds.get(event.subscription)) is not None:
                    inbox.failure = event.error
            elif isinstance(event, Missed | Exception):
                # Nobody knows whose events were dropped, so all are told.
                for inbox in self._feeds.values():
                    inbox.failure = event.error if isinstance(event, Missed) else event
            else:
                self._give_to_feed(event)

    def _unsubscribe(self, subscription: Subscription) -> None:
        self.session.unsubscribe(subscription, now=self._backend.now())
        self.settle()

    # -------------------------------------------------------------------------------------------------- the driver

    def _begin(self) -> None:
        self._session = self._new_session(self._backend.now())
        self._start(self._keep_time, "etorox session")
        self.settle()

    def _step(self) -> bool:
        session, now, moved = self.session, self._backend.now(), False
        for connection, lane in list(self._lanes.items()):
            moved = self._drain(connection, lane, now) or moved
        while (action := session.next_action()) is not None:
            moved = True
            match action:
                case StartAttempt(connection):
                    self._start_attempt(connection)
                case CheckClock():
                    self._is_checking_clock = True
                    self._start(self._check_clock, "etorox clock")
                case _:
                    assert_never(action)
        feeds, everything = self._feeds, self._all
        while (event := session.next_batch()) is not None:
            if not isinstance(event, EventsReceived | EventsByTurns):
                moved = True
                self._deliver(event, now)
            elif everything is not None:
                everything.put_all([*event.singly()])
            elif isinstance(event, EventsByTurns):
                for subscription, each in zip(event.subscriptions, event.events, strict=True):
                    if (inbox := feeds.get(subscription)) is not None:
                        inbox.put(each)
            elif (inbox := feeds.get(event.subscription)) is not None:
                inbox.put_all(event.events)
        return moved

    def _drain(self, connection: ExchangeConnection, lane: Lane[ExchangeConnection], now: float) -> bool:
        """Pass the events of a connection on to the session; whether there were any but for feeds."""
        next_batch, handle_event, moved = connection.next_batch, self.session.handle_event, False
        while (event := next_batch()) is not None:
            if not isinstance(event, EventsReceived | EventsByTurns):
                moved = True
                if isinstance(event, Dial):
                    lane.dial(event)
                    continue
                if isinstance(event, Closed):
                    event = lane.end(event)
                    del self._lanes[connection]
            handle_event(connection, event, now)
        return moved

    def _start_attempt(self, connection: ExchangeConnection) -> None:
        lane = Lane(connection, self.settle, self.consumers, self._open_stream)
        self._lanes[connection] = lane
        self._start(lane.read, "etorox reader")
        self._start(lane.write, "etorox writer")
        self._start(lane.keep_time, "etorox clock")

    def _deliver(self, event: SessionEvent, now: float) -> None:
        if self._all is None:
            self._give_to_feed(event)
        elif type(event) is not Closed:
            self._all.put(event)
        match event:
            case Ready():
                self._waits_for_ready = False
                self._is_open.set()
            case Reconnecting(error):
                if self._waits_for_ready and not self._is_checking_clock:
                    self._first_error = error
                    self.session.close(wait=False, now=now)
            case SubscriptionEnded(subscription, error):
                # If it was lost with the session, `Closed` comes next, and says why.
                if not isinstance(error, CallLost) and (inbox := self._feeds.pop(subscription, None)) is not None:
                    inbox.finish(error)
            case Closed(error):
                self._finish(error)
            case _:
                pass

    def _give_to_feed(self, event: SessionEvent) -> None:
        match event:
            case EventReceived():
                item: object = event.event
            case Gap() | Stale():
                item = event
            case _:
                return
        if (inbox := self._feeds.get(event.subscription)) is not None:
            inbox.put(item)

    def _nudge(self) -> None:
        for lane in self._lanes.values():
            lane.nudge()
        if self.has_ended or self.session.deadline < self._due:
            self._wakeup.set()

    def _inboxes(self) -> list[Inbox]:
        inboxes = list(self._feeds.values())
        return inboxes if self._all is None else [*inboxes, self._all]

    def _finish(self, error: Exception | None) -> None:
        super()._finish(error)
        self._divert(None)
        if self._asking is not None:
            self._asking.cancel()

    def _say_goodbye(self, *, wait: bool) -> None:
        if self._session is not None:
            self._session.close(wait=wait, now=self._backend.now())
            self.settle()

    def _raise_if_not_open(self) -> None:
        if self._waits_for_ready and (error := self._first_error or self.error) is not None:
            raise error.with_traceback(None)

    # --------------------------------------------------------------------------------------------- further tasks

    async def _keep_time(self) -> None:
        """Tell the session when its deadline has come."""
        session, backend = self.session, self._backend
        while not self.has_ended:
            self._wakeup, self._due = backend.new_event(), session.deadline
            await wait_until(backend, self._wakeup, self._due)
            now = backend.now()
            if session.deadline <= now:
                await let_readers_go_first(backend)
                session.handle_timeout(now)
                self.settle()

    async def _check_clock(self) -> None:
        """Ask for the exchange's time, and tell the session."""
        skew: float | None = None
        if self._time_source is not None and not self.has_ended:
            with self._backend.new_scope(deadline=self._backend.now() + _CLOCK_PATIENCE) as self._asking:
                try:
                    skew = float(await self._time_source()) - time.time()
                except Exception:  # noqa: BLE001 - the user's function; the refusal that it was to cure tells more
                    skew = None
        self._is_checking_clock = False
        self.session.clock_checked(skew, self._backend.now())
        self.settle()


def _put(everything: Inbox, subscription: Subscription | None, event: Any) -> None:
    """Move what waited for a feed, or for an earlier reader of everything, to the one that reads it now."""
    if isinstance(event, Missed):
        everything.put_missed(event)
    elif isinstance(event, Exception):
        everything.put_missed(Missed(subscription, event))
    elif subscription is None or isinstance(event, Gap | Stale):
        everything.put(event)
    else:
        everything.put(EventReceived(subscription, event))
