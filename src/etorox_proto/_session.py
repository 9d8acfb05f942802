"""`Session`: many attempts in time, one uninterrupted stream of events.

A session says when an attempt begins, takes the events of its connections, and gives the application what it wants:
the events of its subscriptions, each once and in order, with a `Gap` wherever some may be missing. It connects again
after failures, asks for the wanted subscriptions again, and replaces a connection before the exchange cuts it, with
both alive until the new one is proven to go on where the old one stands.

It sees no bytes. Adapters run the one loop on each connection that `StartAttempt` names and pass its events on; the
session gives commands to its connections itself. This module knows the attempts and which of them serves; `_demand`
knows the subscriptions, `_wanted` one of them, `_handover` how two streams of it are aligned, `_schedule` when an
attempt begins.

Source: the exchange's streaming documentation, "Staying connected"; the rules are explained in
`docs/explanation/sessions.md`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import assert_never, final

from etorox_proto._attempt import Attempt, CheckClock, NewConnection, SessionAction, SessionState, StartAttempt
from etorox_proto._config import SessionConfig
from etorox_proto._demand import Demand
from etorox_proto._errors import SetupRefused
from etorox_proto._events import (
    EventReceived,
    EventsByTurns,
    EventsReceived,
    ExchangeBatch,
    ExchangeEvent,
    Ready,
    Reconnecting,
    SessionBatch,
    SessionEvent,
    SubscriptionEnded,
    next_batch,
    next_single,
)
from etorox_proto._exchange import ExchangeConnection
from etorox_proto._schedule import Schedule
from etorox_proto._subscription import Subscription
from etorox_proto.signalr import Closed, ConnectionClosed, ConnectionFailed, Dial, TimedOut

__all__ = ["Session"]

# How long the answer to `CheckClock` is waited for, in seconds.
_CLOCK_PATIENCE = 15.0


@final
class Session:
    """A connection to the exchange that outlives its connections, as a pure state machine.

    - The world tells the session: `handle_event`, `handle_timeout`, `clock_checked`. These never raise.
    - The session tells the world: `next_action`, `next_event` or `next_batch`, `deadline`.
    - The application asks: `subscribe`, `unsubscribe`, `close`. These check, then act; a refused one raises
      `LocalProtocolError` and changes nothing.
    - Anyone looks: `state`, `subscriptions`, `connection`, and the counters.

    After any call take `next_action()` and `next_event()` until both are None, then flush and drain every connection
    that was started and has not said `Closed`: the session gives them commands. `now` is seconds of one monotonic
    clock, the same for the session and its connections.

    Args:
        new_connection: makes the connection of one attempt, with a fresh nonce and correlation id. It is called once
            at once and then within `handle_timeout`.
        now: seconds.
        random: gives numbers from 0 up to and without 1, for the jitter.
        config: how to stay connected; by default `SessionConfig()`.

    Attributes:
        rotations: how often a new connection has taken over from one that served.

    The last event is `Closed`: without an error after our own `close`, else with a final one, which no further attempt
    could mend.

    Raises:
        LocalProtocolError: what `new_connection` raises for a configuration that cannot be used.
    """

    def __init__(
        self,
        new_connection: NewConnection,
        *,
        now: float,
        random: Callable[[], float],
        config: SessionConfig | None = None,
    ) -> None:
        config = config or SessionConfig()
        self._new_connection = new_connection
        self._config = config
        self._schedule = Schedule(config, random)
        self._events: deque[SessionEvent | SessionBatch] = deque()
        self._actions: deque[SessionAction] = deque()
        self._demand = Demand(self._events, config, random)
        self._current: Attempt | None = None
        self._next: Attempt | None = None
        self._leaving: set[ExchangeConnection] = set()
        self._clock_deadline = math.inf
        self._refusal: SetupRefused | None = None  # the one that made us ask for the time
        self._skew = 0.0
        self._is_closing = False
        self._is_closed = False
        self.rotations = 0
        self._start(now)

    def __repr__(self) -> str:
        return f"<Session: {self.state.value}, {self.attempts} attempts, {self.rotations} rotations>"

    # ------------------------------------------------------------------------------------------ anyone looks

    @property
    def state(self) -> SessionState:
        """Where the session is."""
        if self._is_closed:
            return SessionState.CLOSED
        if self._is_closing:
            return SessionState.CLOSING
        if self._current is None:
            return SessionState.WAITING
        return SessionState.READY if self._current.is_ready else SessionState.CONNECTING

    @property
    def connection(self) -> ExchangeConnection | None:
        """The connection in use, or the one that is being made; None between attempts."""
        return None if self._current is None else self._current.connection

    @property
    def subscriptions(self) -> list[Subscription]:
        """What is wanted, oldest first, whether or not there is a connection."""
        return list(self._demand)

    @property
    def attempts(self) -> int:
        """How many attempts have begun."""
        return self._schedule.attempts

    @property
    def gaps(self) -> int:
        """How many gaps were delivered."""
        return self._demand.gaps

    # ------------------------------------------------------------------------- the world tells the session

    def handle_event(self, connection: ExchangeConnection, event: ExchangeEvent | ExchangeBatch, now: float) -> None:
        """A connection of this session said something.

        Args:
            connection: which; events of others are ignored.
            event: what `next_event` or `next_batch` of the connection gave. `Closed` also says that its stream could
                not be opened; the error is then the adapter's.
            now: seconds.
        """
        if self._is_closed:
            return
        match event:
            case EventReceived() | EventsReceived() | EventsByTurns():
                self._demand.received(connection, event, now)
                if self._next is not None:
                    self._promote(now)
            case Ready():
                self._ready(connection, event, now)
            case SubscriptionEnded(subscription, error):
                self._demand.ended(connection, subscription, error, now)
                self._promote(now)
            case Closed(failure):
                self._connection_closed(connection, failure, now)
            case Dial():
                pass  # for the adapter
            case _:
                assert_never(event)

    def handle_timeout(self, now: float) -> None:
        """Time has passed. Early or repeated calls do nothing; each due deadline is moved on."""
        if self._is_closed or self._is_closing:
            return
        if self._clock_deadline <= now:
            self.clock_checked(None, now)
        if self._schedule.deadline <= now:
            self._start(now)
        if not self._demand.handle_timeout(now):
            self._give_up_rotation(now)
        self._promote(now)

    def clock_checked(self, skew: float | None, now: float) -> None:
        """The answer to `CheckClock`.

        Args:
            skew: the exchange's wall clock minus ours, in seconds; None if it could not be learned, which makes the
                refusal of `setup` final.
            now: seconds.
        """
        if self._clock_deadline == math.inf or self._refusal is None:
            return
        self._clock_deadline = math.inf
        if skew is None or not math.isfinite(skew):
            self._give_up(self._refusal)
        else:
            self._skew = skew
            self._schedule.plan(now)

    # ------------------------------------------------------------------------- the session tells the world

    def next_action(self) -> SessionAction | None:
        """What the adapter is to do, or None."""
        return self._actions.popleft() if self._actions else None

    def next_event(self) -> SessionEvent | None:
        """The next event, or None when it is time to wait."""
        event: SessionEvent | None = next_single(self._events)
        return event

    def next_batch(self) -> SessionBatch | None:
        """As `next_event`, but market events that wait one behind the other may come at once."""
        event: SessionBatch | None = next_batch(self._events)
        return event

    @property
    def deadline(self) -> float:
        """When `handle_timeout` must be called next; `math.inf` if nothing is due. Read it anew before each wait."""
        return min(self._schedule.deadline, self._clock_deadline, self._demand.deadline)

    # ---------------------------------------------------------------------------------- the application asks

    def subscribe(
        self,
        channels: Sequence[str],
        *,
        event: str = "marketData",
        fields: Sequence[str] | None = None,
        stale_after: float | None = None,
        now: float,
    ) -> Subscription:
        """Want the events of some channels, from now on and on every connection to come.

        Args:
            channels: instrument ids such as `btcusd`.
            event: `marketData` for instrument channels.
            fields: only these fields, in alphanumeric order; events then come as rows.
            stale_after: seconds of silence before `Stale`; by default as in the configuration.
            now: seconds.

        Raises:
            LocalProtocolError: as for `ExchangeConnection.subscribe`; but there need be no connection now.
        """
        if self._is_closing or self._is_closed:
            raise ConnectionClosed(f"expected a session for subscribe, got one that is {self.state.value}")
        subscription = Subscription(channels, event=event, fields=fields)
        self._demand.add(subscription, self._config.stale_after if stale_after is None else stale_after, now)
        return subscription

    def unsubscribe(self, subscription: Subscription, *, now: float) -> None:
        """Want it no longer. Its `SubscriptionEnded` is there at once; one that has ended is left alone."""
        if subscription in self._demand:
            for attempt in (self._current, self._next):
                if attempt is not None:
                    attempt.connection.unsubscribe(subscription, now=now)
            self._demand.end(subscription, None)
            self._promote(now)

    def close(self, *, wait: bool = True, now: float) -> None:
        """Say goodbye and end the session; calling it again does nothing more.

        The subscriptions end at once. `Closed`, without an error, follows when every connection has ended, which is
        within their `close_timeout`.

        Args:
            wait: whether to wait for the exchange's goodbye. If not, `Closed` follows as soon as the connections are
                drained.
            now: seconds.
        """
        if self._is_closed:
            return
        self._is_closing = True
        self._schedule.stop()
        self._clock_deadline = math.inf
        self._demand.end_all(None)
        for attempt in (self._current, self._next):
            if attempt is not None:
                self._leaving.add(attempt.connection)
        self._current = self._next = None
        for connection in self._leaving:
            connection.close(wait=wait, now=now)
        if not self._leaving:
            self._finish(None)

    # ------------------------------------------------------------------------------------------------ attempts

    def _start(self, now: float) -> None:
        self._schedule.begin(now)
        attempt = Attempt(self._new_connection(now, self._skew), now)
        if self._current is None:
            self._current = attempt
        else:
            self._next = attempt
        self._actions.append(StartAttempt(attempt.connection))

    def _ready(self, connection: ExchangeConnection, ready: Ready, now: float) -> None:
        self._refusal = None
        if self._current is not None and connection is self._current.connection:
            self._current.ready_at = now
            self._demand.serving = connection
            self._schedule.plan_rotation(self._current.began, now)
            self._events.append(ready)
            self._demand.ask_for_all(now)
        elif self._next is not None and self._current is not None and connection is self._next.connection:
            self._next.ready_at = now
            self._demand.serving = connection
            self._demand.follow(connection, self._current.connection, now)
            self._promote(now)

    def _promote(self, now: float) -> None:
        """The new connection serves once it leads every subscription; the old one may go."""
        if self._next is None or self._current is None or not self._next.is_ready:
            return
        old = self._current.connection
        if self._demand.depends_on(old):
            return
        self._current, self._next = self._next, None
        self.rotations += 1
        self._schedule.plan_rotation(self._current.began, now)
        self._retire(old, now)

    def _retire(self, connection: ExchangeConnection, now: float) -> None:
        self._leaving.add(connection)
        connection.close(now=now)

    def _connection_closed(self, connection: ExchangeConnection, error: ConnectionFailed | None, now: float) -> None:
        if connection in self._leaving:
            self._leaving.discard(connection)
            if self._is_closing and not self._leaving:
                self._finish(None)
            return
        # A connection that somebody else closed: to us that is an end like any other.
        error = error or ConnectionFailed("the connection was closed, and not by the session")
        if self._next is not None and connection is self._next.connection:
            self._rotation_failed(error, now)
        elif self._current is not None and connection is self._current.connection:
            self._current_closed(self._current, error, now)

    def _current_closed(self, ended: Attempt, error: ConnectionFailed, now: float) -> None:
        self._schedule.lasted(now - ended.ready_at)
        self._current, self._next = self._next, None
        if self._current is None or not self._current.is_ready:
            self._demand.serving = None
        self._demand.lost(ended.connection, error, now)
        if self._current is None:
            self._try_again(error, now)
        elif self._current.is_ready:
            self.rotations += 1
            self._schedule.plan_rotation(self._current.began, now)
        else:
            self._events.append(Reconnecting(error, 0.0))

    def _give_up_rotation(self, now: float) -> None:
        """The new connection lives, but it must not take over."""
        if (rejected := self._next) is not None:
            what = "the new connection did not bring what the old one brought"
            self._rotation_failed(TimedOut("overlap", self._config.overlap, what), now)
            self._retire(rejected.connection, now)

    def _rotation_failed(self, error: ConnectionFailed, now: float) -> None:
        """The new connection cannot take over; the one in use goes on, and another attempt follows."""
        assert self._next is not None, "there is a new connection"
        assert self._current is not None, "there is one in use beside it"
        failed, self._next = self._next.connection, None
        self._demand.serving = self._current.connection
        self._demand.fall_back(failed, self._current.connection, error, now)
        self._try_again(error, now)

    def _try_again(self, error: ConnectionFailed, now: float) -> None:
        """After a failure: plan the next attempt, or give up."""
        if isinstance(error, SetupRefused) and self._config.check_clock and self._refusal is None:
            self._refusal = error
            self._clock_deadline = now + _CLOCK_PATIENCE
            self._actions.append(CheckClock())
            self._events.append(Reconnecting(error, 0.0))
        elif self._config.reconnect and error.may_retry:
            self._schedule.plan_after_failure(now)
            self._events.append(Reconnecting(error, self._schedule.deadline - now))
        else:
            self._give_up(error)

    def _give_up(self, error: ConnectionFailed) -> None:
        """No further attempt could mend this; but a connection that serves goes on serving."""
        if self._current is not None:
            self._events.append(Reconnecting(error, math.inf))
            return
        self._demand.end_all(error)
        self._finish(error)

    def _finish(self, error: ConnectionFailed | None) -> None:
        self._is_closed = True
        self._schedule.stop()
        self._clock_deadline = math.inf
        self._actions.clear()
        self._events.append(Closed(error))
