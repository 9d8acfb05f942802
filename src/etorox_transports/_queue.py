"""`EventQueue`: a bounded queue with a policy for what happens when its reader is too slow. No I/O, no waiting.

Each feed of each adapter has one. The adapter puts in what comes and wakes readers; what is lost is counted here and
told by the policy.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Hashable
from typing import Any, Literal, final

from etorox_proto import EventReceived, Gap, LocalProtocolError, SessionEvent, Stale
from etorox_transports._errors import FeedOverflow

__all__ = ["EventQueue", "LatestBy", "LatestQueue", "Overload", "by_market_event", "new_queue"]


@final
class LatestBy:
    """Keep the latest event of each key, and forget those it replaces; for readers who want the present only.

    A key's new event takes the place of its old one, so that a busy key does not overtake a quiet one.

    Args:
        key: makes the key of an event, such as `lambda event: event.market`. It is not called for a `Gap` or `Stale`.
    """

    def __init__(self, key: Callable[[Any], Hashable]) -> None:
        self.key = key

    def __repr__(self) -> str:
        return "LatestBy(...)"


Overload = Literal["fail", "wait", "drop_oldest"] | LatestBy
"""What happens to an event when `capacity` events wait already.

- `"fail"`: it is dropped, and so are those behind it, until the reader comes: who reads gets what waits, then
  `FeedOverflow`, once; then the feed goes on.
- `"wait"`: the adapter stops reading the connection until there is room. Pings still go out.
- `"drop_oldest"`: the oldest event is dropped.
- `LatestBy(key)`: of each key only the latest event waits; with more keys than `capacity`, the oldest is dropped.
"""


class EventQueue:
    """What waits for one reader, in the order in which it came; made by `new_queue`.

    Attributes:
        waiting: what `take` gives, and may be taken out at the left.
        received: how many events came.
        dropped: how many of them were dropped, or replaced by a later one of the same key.
    """

    def __init__(self, capacity: int, overload: Overload) -> None:
        self._capacity = capacity
        self._overload = overload
        self.waiting: deque[Any] = deque()
        self._missed = 0
        self.received = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self.waiting)

    def __bool__(self) -> bool:
        """Whether `take` has something to say."""
        return bool(self.waiting) or self._missed > 0

    @property
    def must_wait(self) -> bool:
        """Whether nothing more should be put in now. Only with `"wait"`; what is put in all the same is kept."""
        return self._overload == "wait" and len(self.waiting) >= self._capacity

    def put(self, event: Any) -> None:
        """One more event."""
        self.received += 1
        if (len(self.waiting) < self._capacity and not self._missed) or self._overload == "wait":
            self.waiting.append(event)
        elif self._overload == "fail":
            self._missed += 1
            self.dropped += 1
        else:
            self._drop_oldest()
            self.waiting.append(event)

    def put_all(self, events: Collection[Any]) -> None:
        """Several events, as if one by one."""
        if len(self.waiting) + len(events) <= self._capacity and not self._missed:
            self.received += len(events)
            self.waiting.extend(events)
        else:
            for event in events:
                self.put(event)

    def take(self) -> Any:
        """The oldest event that waits; ask `bool(queue)` first.

        Raises:
            FeedOverflow: everything that waited has been taken, and events behind it were dropped.
        """
        if not self.waiting:
            missed, self._missed = self._missed, 0
            raise FeedOverflow(missed, self._capacity)
        return self.waiting.popleft()

    def clear(self) -> None:
        """Forget what waits."""
        self.waiting.clear()
        self._missed = 0

    def _drop_oldest(self) -> None:
        self.dropped += 1
        oldest = self.waiting.popleft()
        if isinstance(oldest, Gap) and self.waiting:
            # What it says is still true, and of more events than before.
            self.waiting[0] = oldest


@final
class LatestQueue(EventQueue):
    """What waits for a reader who wants the latest of each key; made by `new_queue`."""

    def __init__(self, capacity: int, overload: LatestBy) -> None:
        super().__init__(capacity, "drop_oldest")
        self._key = overload.key
        self._latest: OrderedDict[Hashable, Any] = OrderedDict()
        self._failure: Exception | None = None

    def __len__(self) -> int:
        return len(self._latest)

    def __bool__(self) -> bool:
        """Whether `take` has something to say."""
        return bool(self._latest) or self._failure is not None

    def put(self, event: Any) -> None:
        """One more event, which replaces the one of the same key."""
        self.received += 1
        key: Hashable = object()
        if not isinstance(event, Gap | Stale):
            try:
                key = self._key(event)
                hash(key)
            except Exception as failure:  # noqa: BLE001 - the user's function; told where the user reads
                key, self._failure = object(), failure
        if key in self._latest:
            self.dropped += 1
        elif len(self._latest) >= self._capacity:
            self.dropped += 1
            self._latest.popitem(last=False)
        self._latest[key] = event

    def put_all(self, events: Collection[Any]) -> None:
        """Several events, as if one by one."""
        for event in events:
            self.put(event)

    def take(self) -> Any:
        """The event whose key has waited longest; ask `bool(queue)` first. Raises what the key function raised."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return self._latest.popitem(last=False)[1]

    def clear(self) -> None:
        """Forget what waits."""
        self._latest.clear()
        self._failure = None


def new_queue(capacity: int, overload: Overload) -> EventQueue:
    """A queue for one reader.

    Args:
        capacity: how many events may wait.
        overload: what happens to more.

    Raises:
        LocalProtocolError: these cannot be used.
    """
    if not isinstance(capacity, int) or capacity < 1:
        raise LocalProtocolError(f"expected a capacity of at least one event, got {capacity!r}")
    if isinstance(overload, LatestBy):
        return LatestQueue(capacity, overload)
    if overload not in {"fail", "wait", "drop_oldest"}:
        raise LocalProtocolError(
            f'expected overload to be "fail", "wait", "drop_oldest" or LatestBy(key), got {overload!r}'
        )
    return EventQueue(capacity, overload)


def by_market_event(overload: Overload) -> Overload:
    """The same policy for the events of a session: only what a subscription brought has a key."""
    if not isinstance(overload, LatestBy):
        return overload
    key = overload.key

    def session_key(event: SessionEvent) -> Any:
        return (event.subscription, key(event.event)) if isinstance(event, EventReceived) else object()

    return LatestBy(session_key)
