"""`Feed` and `Events`: where what a connection brings waits until it is read.

They hold so many and no more, by the policies of `_queue`, and turn an end into the end of an iteration. They know no
socket: to get more they call what `_client` gave them, which puts into them what comes.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol, final

from etorox_proto import LocalProtocolError, SignalRError, Subscription
from etorox_proto.signalr import Call
from etorox_transports._queue import EventQueue

__all__ = ["Events", "Feed", "Line", "OtherFeedFull", "Pump", "Reader"]

_monotonic = time.monotonic
_NOTHING: deque[Any] = deque(maxlen=0)


class Line(Protocol):
    """What keeps the connection alive while events that came together are read one by one."""

    due: float

    def keep_alive(self) -> float:
        """To be called when it is `due`."""
        ...


Pump = Callable[[float, "Reader | None"], deque[Any]]
"""Takes what comes next by a deadline and puts it where it belongs, into queues or, if that is for the reader who asks
and can go there without a queue, into what is returned. Raises TimeoutError if nothing came."""


class OtherFeedFull(LocalProtocolError):
    """Another feed is full and its policy is to wait, so nothing more can be read before that one is.

    Nothing was dropped. Read that feed, read all of them with `events()`, or give it another policy.

    Attributes:
        feed: the one that is full.
    """

    def __init__(self, feed: Feed) -> None:
        super().__init__(
            f'expected {feed!r} to be read first: it is full, its policy is "wait", and no thread reads it meanwhile'
        )
        self.feed = feed


class Reader:
    """What `Feed` and `Events` share: a queue, and an end.

    Args:
        queue: what waits.
        line: where it comes from.
        pump: brings more.
        look: takes in what is there already, without waiting; called before each read. None if that is not wanted.
    """

    def __init__(self, queue: EventQueue, line: Line, *, pump: Pump, look: Callable[[], None] | None) -> None:
        self._queue = queue
        self._line = line
        # What came together and is being read: it is counted, and can be dropped, only by and by. Never beside a queue.
        self._ahead = _NOTHING
        self._ahead_size = 0
        self._read_ahead = 0
        self._taken = 0
        self._pump = pump
        self._look = look
        self._is_over = False
        self._error: SignalRError | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._ahead and self._line.due > _monotonic():
            return self._ahead.popleft()
        return self._take(math.inf)

    def next(self, timeout: float = math.inf) -> Any:
        """The next event.

        Args:
            timeout: how many seconds to wait for it; the connection is kept alive meanwhile. The opening of a stream is
                not cut short.

        Raises:
            TimeoutError: none came; one may come later.
            StopIteration: it has ended.
        """
        try:
            return self._take(time.monotonic() + timeout)
        except TimeoutError:
            raise TimeoutError(f"no event came within {timeout:g} s") from None

    @property
    def lag(self) -> int:
        """How many events wait to be read."""
        return len(self._queue)

    @property
    def received(self) -> int:
        """How many events came."""
        return self._queue.received + self._directly

    @property
    def delivered(self) -> int:
        """How many events were read."""
        return self._taken + self._directly

    @property
    def _directly(self) -> int:
        return self._read_ahead + self._ahead_size - len(self._ahead)

    @property
    def wants_all(self) -> bool:
        """The adapter's side: whether it reads whatever comes, in order."""
        return self._look is None

    @property
    def dropped(self) -> int:
        """How many of them were dropped, or replaced by a later one of the same key."""
        return self._queue.dropped

    @property
    def is_full(self) -> bool:
        """The adapter's side: whether nothing more may be put in now."""
        return self._queue.must_wait and not self._is_over

    def recall(self) -> list[Any]:
        """The adapter's side: give up what came together and has not been read, as if it had not come."""
        rest = list(self._ahead)
        self._ahead.clear()
        self._ahead_size -= len(rest)
        return rest

    def put(self, event: Any) -> None:
        """The adapter's side: one more event."""
        if not self._is_over:
            self._queue.put(event)

    def finish(self, error: SignalRError | None) -> None:
        """The adapter's side: nothing more comes, for this reason."""
        if not self._is_over:
            self._is_over = True
            self._error = error

    def take_out(self) -> list[Any]:
        """The adapter's side: all that waits, with an exception where reading would have raised it."""
        waiting: list[Any] = []
        while self._queue:
            try:
                waiting.append(self._queue.take())
            except Exception as missed:  # noqa: BLE001 - it may be the user's own, and is raised where this is read
                waiting.append(missed)
        return waiting

    def _take(self, until: float) -> Any:
        if self._look is not None and not self._is_over:
            self._look()
        if self._ahead:
            if self._line.due <= _monotonic():
                self._line.keep_alive()  # a slow consumer has still to take what the last read brought
            return self._ahead.popleft()
        while not self._queue:
            if self._is_over:
                if self._error is None:
                    raise StopIteration
                raise self._error.with_traceback(None)
            if ahead := self._pump(until, self):
                self._read_ahead += self._ahead_size
                self._ahead, self._ahead_size = ahead, len(ahead)
                return ahead.popleft()
        event = self._queue.take()
        self._taken += 1
        return event


@final
class Feed(Reader):
    """The events of one subscription, or the items of one stream, in order; iterate it.

    It brings market events or rows, and `Gap` and `Stale` between them. Iteration ends when the subscription ends in
    good order. It raises `SubscriptionFailed` (for a hub's stream, the `CallError`) if the server refused or broke it
    off for good, and the connection's own error if that ended for good; every read after that raises it again.

    Leaving a loop leaves the subscription as it is: iterate the feed again, or close it.

    Args:
        handle: the machine's handle.
        queue: as for `Reader`, and so are `line`, `pump` and `look`.
        end: ends the subscription.

    Attributes:
        handle: the machine's handle, a `Subscription` or a `Call`; None for a hub's `invocations`.
    """

    def __init__(
        self,
        handle: Subscription | Call | None,
        queue: EventQueue,
        line: Line,
        *,
        pump: Pump,
        look: Callable[[], None] | None,
        end: Callable[[], None],
    ) -> None:
        super().__init__(queue, line, pump=pump, look=look)
        self.handle = handle
        self._end = end

    def __repr__(self) -> str:
        return f"<Feed of {self.handle!r}: {self.lag} waiting{', ended' if self._is_over else ''}>"

    def close(self) -> None:
        """End the subscription; what waits in the feed, or still comes, is dropped."""
        self.recall()
        self._queue.clear()
        if not self._is_over:
            self.finish(None)
            self._end()


@final
class Events(Reader):
    """All that a session says, in order; iterate it. Made by `Exchange.events`.

    It brings `EventReceived`, `Gap`, `Stale`, `Ready`, `Reconnecting` and `SubscriptionEnded`. Iteration ends after our
    `close`, and raises the session's error if that ended for good; every read after that raises it again.

    While it is open, feeds get nothing.

    Args:
        waiting: what came for feeds and was not read, which comes first; exceptions are raised.
        queue: as for `Reader`, and so are `line`, `pump` and `look`.
        give_back: called with what still waits when it is closed.
    """

    def __init__(
        self,
        waiting: list[Any],
        queue: EventQueue,
        line: Line,
        *,
        pump: Pump,
        look: Callable[[], None] | None,
        give_back: Callable[[list[Any]], None],
    ) -> None:
        super().__init__(queue, line, pump=pump, look=look)
        self._waiting = deque(waiting)
        self._before = sum(not isinstance(each, Exception) for each in waiting)
        self._give_back = give_back

    def __repr__(self) -> str:
        return f"<Events: {self.lag} waiting{', ended' if self._is_over else ''}>"

    def close(self) -> None:
        """Read no longer; what waits goes back to the feeds, and so does what comes."""
        if not self._is_over:
            self.finish(None)
            self._give_back(self.take_out())

    @property
    def lag(self) -> int:
        """How many events wait to be read."""
        return len(self._waiting) + len(self._queue)

    @property
    def received(self) -> int:
        """How many events came, or waited in feeds."""
        return self._before + super().received

    def take_out(self) -> list[Any]:
        """The adapter's side: all that waits, with an exception where reading would have raised it."""
        waiting = [*self._waiting, *super().take_out()]
        self._waiting.clear()
        return waiting

    def _take(self, until: float) -> Any:
        if not self._waiting:
            return super()._take(until)
        event = self._waiting.popleft()
        if isinstance(event, Exception):
            raise event
        self._taken += 1
        return event
