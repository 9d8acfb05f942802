"""`Feed`: where the events of one subscription wait until they are read.

It holds so many and no more, and turns the end of its subscription into the end of an iteration. It knows no socket: to
get more events it calls the `pump` it was given, and the adapter puts into it what comes.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, final

from etorox_proto import CallError, CallLost, Subscription
from etorox_proto.signalr import Call
from etorox_transports._errors import FeedOverflow

__all__ = ["Feed"]


@final
class Feed:
    """The events of one subscription, or the items of one stream, in order; iterate it.

    Iteration ends when the subscription ends in good order. It raises `SubscriptionFailed` (for a hub's stream, the
    `CallError`) if the server refused or broke it off, and the connection's own error if that ended.

    Args:
        handle: the machine's handle.
        pump: takes one event of the connection by a deadline; returns False if there are no more, because we closed.
        end: ends the subscription.
        capacity: how many events may wait.

    Attributes:
        handle: the machine's handle, a `Subscription` or a `Call`.
        dropped: how many events were dropped because nobody read them; `FeedOverflow` is raised in their place.
    """

    def __init__(
        self, handle: Subscription | Call, pump: Callable[[float], bool], end: Callable[[], None], capacity: int
    ) -> None:
        self.handle = handle
        self.dropped = 0
        self._pump = pump
        self._end = end
        self._capacity = capacity
        self._waiting: deque[Any] = deque()
        self._missed = 0
        self._closed = False
        self._ended = False
        self._error: CallError | None = None

    def __repr__(self) -> str:
        return f"<Feed of {self.handle!r}: {len(self._waiting)} waiting{', ended' if self._ended else ''}>"

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._take(math.inf)

    def next(self, timeout: float = math.inf) -> Any:
        """The next event.

        Args:
            timeout: how many seconds to wait for it; the connection is kept alive meanwhile.

        Raises:
            TimeoutError: none came; the feed goes on.
            StopIteration: the subscription has ended.
        """
        try:
            return self._take(time.monotonic() + timeout)
        except TimeoutError:
            raise TimeoutError(f"no event came within {timeout:g} s") from None

    def close(self) -> None:
        """End the subscription; what waits in the feed, or still comes, is dropped."""
        self._closed = True
        self._waiting.clear()
        self._end()

    def put(self, item: Any) -> None:
        """The adapter's side: one more event."""
        if self._closed:
            return
        if len(self._waiting) < self._capacity and not self._missed:
            self._waiting.append(item)
        else:
            self._missed += 1
            self.dropped += 1

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def finish(self, error: CallError | None) -> None:
        """The adapter's side: nothing more comes."""
        self._ended = True
        self._error = error

    def _take(self, until: float) -> Any:
        while not self._waiting:
            if self._missed:
                missed, self._missed = self._missed, 0
                raise FeedOverflow(missed, self._capacity)
            if self._ended and self._error is None:
                raise StopIteration
            # What was lost with the connection waits for the connection's own reason, which says more.
            if self._error is not None and not isinstance(self._error, CallLost):
                raise self._error.with_traceback(None)
            if not self._pump(until):
                raise StopIteration
        return self._waiting.popleft()
