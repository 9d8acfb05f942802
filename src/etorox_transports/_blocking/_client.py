"""`Client`: what an `Exchange` and a `Hub` share: one driver, its feeds, and the end of both.

It puts what comes into the feeds and keeps what must wait; which events belong where is the business of the two.
"""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Generic, Never, Self, TypeVar

from etorox_proto import CallError, CallLost, LocalProtocolError, Reconnecting, SignalRError
from etorox_transports._blocking._feed import Feed, OtherFeedFull, Pump, Reader
from etorox_transports._blocking._line import Opener
from etorox_transports._blocking._loop import Driver, Source
from etorox_transports._queue import EventQueue, Overload, new_queue

__all__ = ["Client", "reason_of"]

HandleT = TypeVar("HandleT")

# Who wants the latest only: how often what has come is looked at between two waits, and for how long, in seconds.
_LOOK_AGAIN, _LOOK_LONGEST = 0.01, 0.05
_NOTHING: deque[Any] = deque(maxlen=0)


class Client(ABC, Generic[HandleT]):
    """One driver and the feeds that it fills. A context manager that closes."""

    def __init__(
        self,
        source: Source,
        opener: Opener,
        *,
        capacity: int,
        overload: Overload,
        time_source: Callable[[], float] | None = None,
    ) -> None:
        new_queue(capacity, overload)  # refuses what no feed could use
        self._capacity = capacity
        self._overload: Overload = overload
        self._driver = Driver(source, opener, time_source)
        self._feeds: dict[HandleT, Feed] = {}
        self._held: Any = None
        # Who reads what came together, and what makes a batch of the rest of it again.
        self._ahead: tuple[Reader, Callable[[list[Any]], Any]] | None = None
        self._look_at = -math.inf
        self._owner: threading.Thread | None = None  # None: whoever calls
        self._end_owner: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # No goodbye: a finaliser must not wait for the network.
        if hasattr(self, "_driver"):
            self._driver.drop()

    def close(self) -> None:
        """Say goodbye, wait for the answer for `close_timeout` seconds at most, close. Twice does nothing more."""
        if self._owner is not None and self._owner is not threading.current_thread():
            self._end_owner()
            return
        try:
            self._driver.close()
            while (event := self._next(math.inf)) is not None:
                self._sort(event, may_wait=False)
        finally:
            self._driver.drop()

    def keep_alive(self) -> float:
        """Send the pings that are due, and read nothing; for a consumer that is busy with something else.

        Until something is read again, the silence of the server is not held against it.

        Returns:
            In how many seconds it must be called again, unless something is read before.
        """
        self._check_thread()
        return max(self._driver.keep_alive() - time.monotonic(), 0.0)

    def hand_over(self, owner: threading.Thread, end_owner: Callable[[], None]) -> None:
        """The adapter's side: only this thread may use it from now on; `close` from any other one ends that.

        Raises:
            LocalProtocolError: another thread has it already.
        """
        self._check_thread()
        self._owner, self._end_owner = owner, end_owner

    def take_back(self) -> None:
        """The adapter's side: that thread has ended."""
        self._owner = None

    def _check_thread(self) -> None:
        if self._owner is not None and self._owner is not threading.current_thread():
            raise LocalProtocolError("expected a connection that no other thread has, got one that run_in_thread has")

    def _open(self, opened: type[Any]) -> None:
        """Run until the connection is open; a first failure is raised, and nothing left open."""
        try:
            failure = self._await(opened)
        except BaseException:
            self._driver.drop()
            raise
        if failure is not None:
            self._driver.drop()
            raise failure

    def _await(self, opened: type[Any]) -> SignalRError | None:
        while not isinstance(event := self._driver.next_event(math.inf), opened):
            if event is None:
                return self._end_error
            if isinstance(event, Reconnecting) and not self._driver.is_checking_clock:
                return event.error
            self._driver.is_checking_clock = False
        return None

    def _next(self, until: float) -> Any:
        """The next event, the one that was held back first; None after the end, of which every feed then knows."""
        self._take_back()
        if self._held is not None:
            event, self._held = self._held, None
            return event
        event = self._driver.next_event(until)
        if event is None:
            for feed in self._feeds.values():
                feed.finish(self._end_error)
        return event

    def _pump(self, until: float, reader: Reader | None = None) -> deque[Any]:
        event = self._next(until)
        if event is None:
            return _NOTHING
        if reader is not None and reader.wants_all and (parts := self._parts(reader, event)) is not None:
            items, batch = parts
            self._ahead = reader, batch
            return deque(items)
        self._sort(event, may_wait=True)
        return _NOTHING

    def _take_back(self) -> None:
        """Let what a reader has not read be the next event again: somebody else wants to know what is next."""
        if self._ahead is not None:
            (reader, batch), self._ahead = self._ahead, None
            if rest := reader.recall():
                self._held = batch(rest)

    def _look(self, pump: Pump) -> None:
        """Take in what is there, for a reader who wants the latest only; not at every read of a fast one."""
        now = time.monotonic()
        if self._look_at <= now:
            try:
                while self._driver.end is None and time.monotonic() < now + _LOOK_LONGEST:
                    pump(now, None)
            except (TimeoutError, OtherFeedFull):
                pass
            self._look_at = time.monotonic() + _LOOK_AGAIN

    def _queue(
        self, capacity: int | None, overload: Overload | None, pump: Pump
    ) -> tuple[EventQueue, Callable[[], None] | None]:
        """A queue for a reader who calls this for more, and what to call before each read."""
        overload = self._overload if overload is None else overload
        queue = new_queue(self._capacity if capacity is None else capacity, overload)
        # Who wants the present only is not to be told what was there when he read last.
        return queue, None if overload in {"fail", "wait"} else partial(self._look, pump)

    @abstractmethod
    def _parts(self, reader: Reader, event: Any) -> tuple[Iterable[Any], Callable[[list[Any]], Any]] | None:
        """What this reader gets of a batch, if that is all for it, and what makes a batch of the rest again."""

    @abstractmethod
    def _sort(self, event: Any, *, may_wait: bool) -> None:
        """Put an event where it belongs."""

    def _put(self, handle: HandleT, items: list[Any], batch: Callable[[list[Any]], Any], *, may_wait: bool) -> None:
        """Put them into their feed, or hold those back, as a batch, for which there is no room."""
        feed = self._feeds.get(handle)
        if feed is None:
            return
        for number, item in enumerate(items):
            if may_wait and feed.is_full:
                self._hold(feed, batch(items[number:]))
            feed.put(item)

    def _put_by_turns(
        self,
        handles: Sequence[HandleT],
        items: list[Any],
        batch: Callable[[Any, list[Any]], Any],
        *,
        may_wait: bool,
    ) -> None:
        """As `_put`, each into the feed of its own handle."""
        find = self._feeds.get
        for number, (handle, item) in enumerate(zip(handles, items, strict=True)):
            feed = find(handle)
            if feed is not None:
                if may_wait and feed.is_full:
                    rest = batch(handles[number:], items[number:])
                    if not number:
                        self._hold(feed, rest)
                    self._held = rest  # and raise if somebody asks for more than has been put
                    return
                feed.put(item)

    def _hold(self, feed: Feed, batch: Any) -> Never:
        self._held = batch
        self._driver.keep_alive()
        raise OtherFeedFull(feed)

    @property
    def _end_error(self) -> SignalRError | None:
        return None if self._driver.end is None else self._driver.end.error


def reason_of(error: CallError | None) -> SignalRError | None:
    """Why a subscription or call ended: what was lost with its connection, for the connection's own reason."""
    if isinstance(error, CallLost):
        return error.__cause__ if isinstance(error.__cause__, SignalRError) else None
    return error
