"""`Wanted`: one subscription as the application wants it, whatever becomes of the connections that carry it.

It knows which connection leads (whose events are delivered), until when the subscription is known to be whole, whether
it is to be asked for again and when, and, while two connections overlap, the `Handover` between them. It writes `Gap`,
`Stale` and the events themselves into the session's queue. It knows nothing of attempts and their times;
`_demand` calls it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, final

from etorox_proto._config import SessionConfig
from etorox_proto._errors import HandoverUnproven, SubscriptionFailed
from etorox_proto._events import EventsReceived, Gap, SessionBatch, SessionEvent, Stale
from etorox_proto._exchange import ExchangeConnection
from etorox_proto._handover import Handover
from etorox_proto._subscription import Subscription
from etorox_proto.signalr import ConnectionClosed, LocalProtocolError, SignalRError

__all__ = ["Wanted"]

# A subscription that was not refused for so long was accepted, in seconds: a stream has no other answer than its items.
_ACCEPTED_AFTER = 5.0
# The pauses before a refused subscription is asked for again, in seconds; they double up to the longest.
_FIRST_PAUSE, _LONGEST_PAUSE, _MOST_DOUBLINGS = 0.25, 5.0, 10


@final
class Wanted:
    """One wanted subscription.

    Args:
        subscription: which.
        stale_after: seconds of silence before `Stale`.
        events: where to write what the application is told.
        config: of the session.

    Attributes:
        leader: the connection whose events are delivered; None while there is none.
        follower: the connection that is to lead next, while both carry the subscription.
        ask_at: when to ask for it again after a refusal; `math.inf` if it need not be.
        gaps: how many gaps were delivered.
        stale_level: how often `Stale` was told since the last event; with an event `deadline` moves to earlier.
    """

    __slots__ = (
        "_asked_at",
        "_cause",
        "_config",
        "_events",
        "_excused_until",
        "_handover",
        "_old_error",
        "_quiet_since",
        "_refusals",
        "_refused_since",
        "_repeats",
        "_since",
        "_stale_after",
        "_was_accepted",
        "_whole_until",
        "ask_at",
        "follower",
        "gaps",
        "leader",
        "stale_level",
        "subscription",
    )

    def __init__(
        self,
        subscription: Subscription,
        *,
        stale_after: float,
        events: deque[SessionEvent | SessionBatch],
        config: SessionConfig,
    ) -> None:
        self.subscription = subscription
        self.leader: ExchangeConnection | None = None
        self.follower: ExchangeConnection | None = None
        self.ask_at = math.inf
        self.gaps = 0
        self._config = config
        self._events = events
        self._handover: Handover | None = None
        self._old_error: SignalRError | None = None  # what ended the connection that led, while two overlapped
        self._repeats: deque[Any] | None = None  # what the new leader will bring again
        self._whole_until: float | None = None  # None: never asked for
        self._asked_at = math.inf  # never
        self._cause: SignalRError | None = None  # of the gap that the next event will show
        self._since = 0.0
        self._was_accepted = False
        self._refused_since = math.inf
        self._refusals = 0
        self._stale_after = stale_after
        self.stale_level = 0
        self._quiet_since = math.nan
        self._excused_until = -math.inf

    @property
    def deadline(self) -> float:
        """When `handle_timeout` has something to do, at the latest; events may move it to later."""
        handover = math.inf if self._handover is None else self._handover.deadline
        return min(self.ask_at, handover, self._stale_at)

    # ------------------------------------------------------------------------------------- asking, and being refused

    def ask(self, connection: ExchangeConnection, now: float) -> SubscriptionFailed | None:
        """Ask for it on this connection, which will lead. Returns why it cannot be asked for there."""
        if self._handover is not None:
            # The connection that was to follow has brought nothing yet, and will not be heard any more.
            self._open_gap(self._old_error or HandoverUnproven())
        self.leader, self.follower, self._handover = connection, None, None
        return self._resubscribe(connection, now)

    def follow(self, connection: ExchangeConnection, now: float) -> SubscriptionFailed | None:
        """Ask for it on a second connection, which will lead once the two are aligned; as `ask`."""
        self.follower = connection
        self._old_error = None
        self._handover = Handover(now, patience=self._config.overlap, limit=self._config.handover_limit)
        return self._resubscribe(connection, now)

    def refused(self, error: SubscriptionFailed, now: float, random: Callable[[], float]) -> bool:
        """The exchange does not grant it, or broke it off. Whether it will be asked for again, at `ask_at`."""
        if now - self._asked_at >= _ACCEPTED_AFTER:
            self._was_accepted = True
        if now - self._asked_at >= self._config.resubscribe_timeout:
            self._granted()
        self._refused_since = min(self._refused_since, now)
        if not (self._config.reconnect and self._was_accepted):
            return False
        if now - self._refused_since >= self._config.resubscribe_timeout:
            return False
        self.interrupted(error)
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._refusals, _MOST_DOUBLINGS))
        self._refusals += 1
        self.ask_at = now + random() * pause
        return True

    def ask_again(self, cause: SignalRError, now: float) -> None:
        """It was given up on the connection that had it; it is to be asked for anew, at once."""
        self._granted()  # until now, whatever was refused before
        self._refused_since = now
        self.interrupted(cause)
        self.ask_at = now

    def _resubscribe(self, connection: ExchangeConnection, now: float) -> SubscriptionFailed | None:
        self.ask_at = math.inf
        try:
            connection.resubscribe(self.subscription, now=now)
        except ConnectionClosed:
            return None  # its `Closed` is on the way, and settles this too
        except LocalProtocolError as error:
            return SubscriptionFailed(str(error))
        self._asked_at = now
        if self._whole_until is None:
            self._whole_until = now
        return None

    def _granted(self) -> None:
        self._was_accepted = True
        self._refused_since = math.inf
        self._refusals = 0

    # ----------------------------------------------------------------------------------------------- interruptions

    def interrupted(self, cause: SignalRError) -> None:
        """No connection carries it any more; events may be lost from here on."""
        self.leader = self.follower = self._handover = self._repeats = None
        self.ask_at = math.inf
        self._open_gap(cause)

    def lost(self, connection: ExchangeConnection, cause: SignalRError, now: float) -> None:
        """A connection has ended."""
        self._was_accepted = self._was_accepted or self._whole_until is not None
        # The exchange may take a while to notice that this one is gone, so patience begins anew.
        self._refused_since, self._refusals = math.inf, 0
        if connection is self.follower and self.leader is None:
            self.interrupted(self._old_error or cause)
        elif connection is self.follower:
            self.follower = self._handover = None
        elif connection is self.leader:
            self.broken_off(cause, now)

    def broken_off(self, cause: SignalRError, now: float) -> None:
        """The leader carries it no longer. If another connection is to follow, that goes on alone."""
        if self._handover is None:
            self.interrupted(cause)
            return
        self.leader = None
        # What the other one brings may join without a seam; if it does not, this is why.
        self._old_error = cause
        self._handover.old_ended()
        self._decide(now)

    def _open_gap(self, cause: SignalRError) -> None:
        if self._cause is None and self._whole_until is not None:
            self._cause = cause
            self._since = self._whole_until

    # ------------------------------------------------------------------------------------------------------ events

    def passes_on(self, connection: ExchangeConnection, now: float) -> bool:
        """Whether events that this connection brings now are to be delivered as they are, and nothing else be done."""
        if connection is not self.leader or self._repeats is not None or self._handover is not None:
            return False
        if self._cause is not None or self.stale_level or not self._was_accepted or self._refused_since != math.inf:
            return False
        self._whole_until = now
        return True

    def received(self, connection: ExchangeConnection, received: EventsReceived, now: float) -> None:
        """One of the connections brought events."""
        if connection is self.leader and self._repeats is None and self._handover is None:
            self._deliver(received, now)
            return
        for event in received.events:
            self._received_in_overlap(connection, event, now)

    def _received_in_overlap(self, connection: ExchangeConnection, event: Any, now: float) -> None:
        """One more event while two connections carry it, or shortly afterwards: each may change where we stand."""
        if connection is self.leader:
            if self._repeats is not None and self._is_repeated(event):
                return
            self._deliver(EventsReceived(self.subscription, [event]), now)
            if self._handover is not None:
                self._handover.old_received(event, now)
                self._decide(now)
        elif connection is self.follower and self._handover is not None:
            self._handover.new_received(event, now)
            self._decide(now)

    def _deliver(self, received: EventsReceived, now: float) -> None:
        if self._cause is not None:
            self._events.append(Gap(self.subscription, self._since, now - self._since, self._cause))
            self._cause = None
            self.gaps += 1
        self._events.append(received)
        self._whole_until = now
        if self._refused_since != math.inf or not self._was_accepted:
            self._granted()

    def _is_repeated(self, event: Any) -> bool:
        assert self._repeats is not None, "asked only while something will repeat"
        is_repeated = event in self._repeats
        while is_repeated and self._repeats.popleft() != event:
            pass
        if not self._repeats:
            self._repeats = None
        return is_repeated

    def _decide(self, now: float) -> None:
        assert self._handover is not None, "two connections carry it"
        takeover = self._handover.decide(now, -math.inf if self.leader is None else self.leader.last_heard)
        if takeover is None:
            return
        self.leader, self.follower, self._handover = self.follower, None, None
        self._repeats = deque(takeover.repeats) if takeover.repeats else None
        if not takeover.proven:
            self._open_gap(self._old_error or HandoverUnproven())
        if takeover.items:
            self._deliver(EventsReceived(self.subscription, takeover.items), now)

    # -------------------------------------------------------------------------------------------------------- time

    def handle_timeout(self, now: float) -> bool:
        """Time has passed. Returns False if the second connection must not take over: it brings nothing."""
        if self._handover is not None:
            if self._handover.is_hopeless(now):
                return False
            self._decide(now)
        carrier = self.leader or self.follower
        if self._stale_at <= now and carrier is not None and not carrier.is_reading:
            self._excused_until = now  # the silence is ours
        elif self._stale_at <= now:
            self.stale_level += 1
            self._events.append(Stale(self.subscription, now - self._quiet_since))
        return True

    @property
    def _stale_at(self) -> float:
        if (self.leader is None and self.follower is None) or self._whole_until is None:
            return math.inf
        quiet_since = max(self._whole_until, self._asked_at, self._excused_until)
        if quiet_since != self._quiet_since:
            self._quiet_since, self.stale_level = quiet_since, 0
        return quiet_since + self._stale_after * 2.0**self.stale_level
