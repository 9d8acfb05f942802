"""`Demand`: all that the application wants, and what is done for it on the connections that there are.

It applies the wanted subscriptions to a connection that is ready, passes events to the one they belong to, answers
refusals, and keeps the deadlines of all. It knows which connections it was told of, and nothing of how many there will
be or when: that is `Session`, which owns it. One subscription is the business of `_wanted`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import final

from etorox_proto._config import SessionConfig
from etorox_proto._errors import SubscriptionFailed
from etorox_proto._events import (
    EventReceived,
    EventsByTurns,
    EventsReceived,
    SessionBatch,
    SessionEvent,
    SubscriptionEnded,
)
from etorox_proto._exchange import ExchangeConnection
from etorox_proto._subscription import Subscription
from etorox_proto._wanted import Wanted
from etorox_proto.signalr import CallError, CallLost, LocalProtocolError, SignalRError

__all__ = ["Demand"]


@final
class Demand:
    """The wanted subscriptions of one session.

    Args:
        events: where to write what the application is told.
        config: of the session.
        random: gives numbers from 0 up to and without 1.

    Attributes:
        deadline: when `handle_timeout` must be called next.
        serving: the newest connection that is ready, on which to ask; None if there is none.
    """

    def __init__(
        self, events: deque[SessionEvent | SessionBatch], config: SessionConfig, random: Callable[[], float]
    ) -> None:
        self._events = events
        self._config = config
        self._random = random
        self._wanted: dict[Subscription, Wanted] = {}
        self._ended_gaps = 0
        self.deadline = math.inf
        self.serving: ExchangeConnection | None = None

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._wanted)

    def __contains__(self, subscription: object) -> bool:
        return subscription in self._wanted

    @property
    def gaps(self) -> int:
        """How many gaps were delivered."""
        return self._ended_gaps + sum(wanted.gaps for wanted in self._wanted.values())

    # ------------------------------------------------------------------------------------ what is wanted changes

    def add(self, subscription: Subscription, stale_after: float, now: float) -> None:
        """Want it, and ask for it if there is a connection.

        Raises:
            LocalProtocolError: a topic of it is wanted already, it cannot be asked for, or `stale_after` is no positive
                number of seconds; nothing was changed.
        """
        if not (isinstance(stale_after, int | float) and stale_after > 0):
            raise LocalProtocolError(f"expected stale_after to be a positive number of seconds, got {stale_after!r}")
        taken = {topic for each in self._wanted for topic in each.topics}
        for channel, name in subscription.topics:
            if (channel, name) in taken:
                raise LocalProtocolError(f"expected topics that are not subscribed, got {channel} ({name}), which is")
        wanted = Wanted(subscription, stale_after=stale_after, events=self._events, config=self._config)
        if self.serving is not None and (refusal := wanted.ask(self.serving, now)) is not None:
            raise LocalProtocolError(str(refusal))
        self._wanted[subscription] = wanted
        self._watch(wanted)

    def end(self, subscription: Subscription, error: CallError | None) -> None:
        """Want it no longer, and say so."""
        self._ended_gaps += self._wanted.pop(subscription).gaps
        self._events.append(SubscriptionEnded(subscription, error))

    def end_all(self, reason: SignalRError | None) -> None:
        """The session is over, for this reason or by our own `close`."""
        for subscription in list(self._wanted):
            lost = None
            if reason is not None:
                lost = CallLost("maybe_sent")
                lost.__cause__ = reason
            self.end(subscription, lost)
        self.deadline = math.inf

    # ----------------------------------------------------------------------------------- connections come and go

    def ask_for_all(self, now: float) -> None:
        """A first connection is ready: apply everything."""
        for wanted in list(self._wanted.values()):
            self._ask(wanted, now)

    def follow(self, new: ExchangeConnection, old: ExchangeConnection, now: float) -> None:
        """A second connection is ready: apply everything there too, to take over from the old one."""
        for wanted in list(self._wanted.values()):
            if wanted.leader is not old:
                self._ask(wanted, now)
            elif (refusal := wanted.follow(new, now)) is not None:
                self._make_after_break(wanted, refusal, now)
            self._watch(wanted)

    def lost(self, connection: ExchangeConnection, error: SignalRError, now: float) -> None:
        """A connection is gone. What no other one carries is asked for where that is possible."""
        for wanted in list(self._wanted.values()):
            wanted.lost(connection, error, now)
            if wanted.leader is None and wanted.follower is None and wanted.ask_at == math.inf:
                self._ask(wanted, now)
            self._watch(wanted)

    def fall_back(self, failed: ExchangeConnection, old: ExchangeConnection, error: SignalRError, now: float) -> None:
        """The second connection cannot take over; what it led already is asked for anew on the old one.

        The old one carries it still, but at another place: it would repeat or leave out something.
        """
        for wanted in self._wanted.values():
            if wanted.leader is failed:
                old.unsubscribe(wanted.subscription, now=now)
                wanted.ask_again(error, now)
                self._watch(wanted)
        self.lost(failed, error, now)

    def depends_on(self, old: ExchangeConnection) -> bool:
        """Whether anything would be missed if this connection ended now, while a newer one is ready."""
        return any(wanted.leader is old or wanted.follower is not None for wanted in self._wanted.values())

    # ------------------------------------------------------------------------------------------------------ events

    def received(
        self, connection: ExchangeConnection, received: EventReceived | EventsReceived | EventsByTurns, now: float
    ) -> None:
        """A connection brought events."""
        if isinstance(received, EventReceived):
            received = EventsReceived(received.subscription, [received.event])
        elif isinstance(received, EventsByTurns):
            self._received_by_turns(connection, received, now)
            return
        wanted = self._wanted.get(received.subscription)
        if wanted is not None:
            was_stale = wanted.stale_level > 0
            wanted.received(connection, received, now)
            if was_stale or wanted.follower is not None:
                self._watch(wanted)

    def _received_by_turns(self, connection: ExchangeConnection, received: EventsByTurns, now: float) -> None:
        """Nothing is amiss, as a rule, and they are passed on together."""
        find = self._wanted.get
        for subscription in set(received.subscriptions):
            wanted = find(subscription)
            if wanted is None or not wanted.passes_on(connection, now):
                for part in received.apart():
                    self.received(connection, part, now)
                return
        self._events.append(received)

    def ended(
        self, connection: ExchangeConnection, subscription: Subscription, error: CallError | None, now: float
    ) -> None:
        """A connection says that a subscription is over there."""
        wanted = self._wanted.get(subscription)
        if wanted is None or isinstance(error, CallLost):
            return  # unsubscribed, or `Closed` comes next
        reason = error if isinstance(error, SubscriptionFailed) else SubscriptionFailed("the exchange ended it there")
        if connection is wanted.follower:
            self._make_after_break(wanted, reason, now)
        elif connection is wanted.leader and wanted.follower is not None:
            wanted.broken_off(reason, now)
            self._watch(wanted)
        elif connection is wanted.leader:
            if isinstance(error, SubscriptionFailed):
                self._refused(wanted, error, now)
            else:
                self.end(subscription, error)

    def handle_timeout(self, now: float) -> bool:
        """Time has passed. Returns False if the second connection must not take over: it brings nothing."""
        if now < self.deadline:
            return True
        can_take_over = True
        for wanted in list(self._wanted.values()):
            if wanted.ask_at <= now:
                self._ask(wanted, now)
            can_take_over = wanted.handle_timeout(now) and can_take_over
        due = min((wanted.deadline for wanted in self._wanted.values()), default=math.inf)
        # Forward, even where a float of that size cannot hold the sum, and where `Session` still has to act.
        self.deadline = max(due, math.nextafter(now, math.inf))
        return can_take_over

    # -------------------------------------------------------------------------------------------- one subscription

    def _ask(self, wanted: Wanted, now: float) -> None:
        wanted.ask_at = math.inf  # without a connection the next one that is ready is asked
        if self.serving is not None and (refusal := wanted.ask(self.serving, now)) is not None:
            self._refused(wanted, refusal, now)
        self._watch(wanted)

    def _refused(self, wanted: Wanted, error: SubscriptionFailed, now: float) -> None:
        if wanted.refused(error, now, self._random):
            self._watch(wanted)
        else:
            self.end(wanted.subscription, error)

    def _make_after_break(self, wanted: Wanted, cause: SubscriptionFailed, now: float) -> None:
        """The exchange does not give a topic to two connections: give it up on the old one, ask on the new one."""
        if wanted.leader is not None:
            wanted.leader.unsubscribe(wanted.subscription, now=now)
        wanted.ask_again(cause, now)
        self._watch(wanted)

    def _watch(self, wanted: Wanted) -> None:
        self.deadline = min(self.deadline, wanted.deadline)
