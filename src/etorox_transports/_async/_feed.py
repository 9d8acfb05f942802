"""`Feed` and `Events`: where what a connection brings waits until a task reads it.

An `Inbox` is the side of the tasks that fill it, the other two are the side of those who read. `Consumers` is what all
of one client share: whether there is room, and whether somebody is in the middle of taking. They turn an end into the
end of an iteration, and know no socket; what is dropped is the business of `_queue`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator
from functools import partial
from typing import Any, Self, final

from etorox_proto import LocalProtocolError, Subscription
from etorox_proto.signalr import Call
from etorox_transports._async._backend import Backend, Event
from etorox_transports._queue import EventQueue, Overload, new_queue

__all__ = ["Consumers", "Events", "Feed", "Inbox", "Missed"]

# How many events a consumer takes in a row, while some wait, before other tasks get their turn.
_FAIR_SHARE = 256
_NOTHING: deque[Any] = deque(maxlen=0)


@final
class Consumers:
    """All who read from one client.

    Attributes:
        backend: the library.
        turns: how often one of them had more to take, and let others run first.
        are_diverted: whether what comes for feeds goes to a reader of everything.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.turns = 0
        self.are_diverted = False
        self._patient: dict[Inbox, None] = {}
        self._room: Event | None = None

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be read from the connection now."""
        return any(inbox.queue.must_wait for inbox in self._patient)

    async def wait_for_room(self) -> None:
        """Wait until that may have changed."""
        if self._room is None:
            self._room = self.backend.new_event()
        await self._room.wait()

    def look_for_room(self) -> None:
        """Somebody has taken something, or will not: wake those who wait for it, if that made room."""
        if self._room is not None and not self.is_full:
            self._room.set()
            self._room = None

    def enter(self, inbox: Inbox) -> None:
        """An inbox that must be read before the connection is, when it is full."""
        self._patient[inbox] = None

    def leave(self, inbox: Inbox) -> None:
        """That inbox gets nothing more."""
        self._patient.pop(inbox, None)
        self.look_for_room()


@final
class Missed:
    """Stands in an inbox where reading raises, because something is missing.

    Attributes:
        subscription: whose events; None if nobody knows.
        error: what is raised.
    """

    def __init__(self, subscription: Subscription | None, error: Exception) -> None:
        self.subscription = subscription
        self.error = error


@final
class Inbox:
    """What waits for one reader, and how it ends. Several tasks may read it; each event goes to one of them.

    Args:
        consumers: those of the client.
        capacity: how many events may wait.
        overload: what happens to more.

    Attributes:
        queue: what waits.
        waiting: the part of it that a reader may take as it is, at the left, instead of calling `take`.
        forgotten: how many events left the queue otherwise than to a reader.
        has_ended: whether nothing more comes.
        error: why, None for an end in good order.
        failure: to be raised by the next read that finds nothing.
        wakeup: set while a task waits; `put` sees to it.
    """

    def __init__(self, consumers: Consumers, capacity: int, overload: Overload) -> None:
        self.queue: EventQueue = new_queue(capacity, overload)
        self.forgotten = 0
        self.has_ended = False
        self.error: Exception | None = None
        self.failure: Exception | None = None
        self.wakeup: Event | None = None
        self.take: Callable[[], Any] = self.queue.take
        self.waiting = self.queue.waiting
        self._may_raise = False
        self._consumers = consumers
        if overload == "wait":
            self.take = self._take_and_make_room
            self.waiting = _NOTHING
            consumers.enter(self)

    def put(self, event: Any) -> None:
        """One more event."""
        self.queue.put(event)
        if self.wakeup is not None:
            self.wake()

    def put_all(self, events: Collection[Any]) -> None:
        """Several events."""
        self.queue.put_all(events)
        if self.wakeup is not None:
            self.wake()

    def put_missed(self, missed: Missed) -> None:
        """Have a read raise, when everything before has been read. Only while nobody reads yet."""
        self.queue.put(missed)
        if not self._may_raise:
            self._may_raise = True
            self.take = partial(_take_or_raise, self.take)
            self.waiting = _NOTHING

    def finish(self, error: Exception | None) -> None:
        """Nothing more comes. The first reason counts."""
        if not self.has_ended:
            self.has_ended = True
            self.error = error
            self._consumers.leave(self)
            self.wake()

    def wake(self) -> None:
        """Wake those who wait."""
        if self.wakeup is not None:
            self.wakeup.set()
            self.wakeup = None

    def wait(self) -> Awaitable[object]:
        """Await this until there is something, or an end."""
        if self.wakeup is None:
            self.wakeup = self._consumers.backend.new_event()
        return self.wakeup.wait()

    def clear(self) -> None:
        """Forget what waits."""
        self.forgotten += len(self.queue)
        self.queue.clear()
        self._consumers.look_for_room()

    def take_out(self) -> Iterator[Any]:
        """What waits, for another inbox; an exception where reading would raise it."""
        while self.queue:
            before = len(self.queue)
            try:
                event = self.queue.take()
            except Exception as error:  # noqa: BLE001 - it may come from the function that makes keys, the user's
                event = error
            self.forgotten += before - len(self.queue)
            yield event
        self._consumers.look_for_room()

    def _take_and_make_room(self) -> Any:
        event = self.queue.take()
        self._consumers.look_for_room()
        return event


class _Reader:
    """What `Feed` and `Events` share."""

    def __init__(self, inbox: Inbox, consumers: Consumers) -> None:
        self._inbox = inbox
        self._consumers = consumers
        self._backend = consumers.backend
        self._queue = inbox.queue
        self._waiting = inbox.waiting
        self._take = inbox.take
        self._left = _FAIR_SHARE

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._left and self._waiting:
            self._left -= 1
            return self._waiting.popleft()
        return await self._next()

    async def next(self, timeout: float = math.inf) -> Any:  # noqa: ASYNC109 - as in the blocking adapter
        """The next event.

        Args:
            timeout: how many seconds to wait for it.

        Raises:
            TimeoutError: none came; the feed goes on.
            StopAsyncIteration: it has ended.
        """
        if not self._left:
            await self._let_others_run()
        if self._queue or timeout == math.inf:
            return await self.__anext__()
        with self._backend.new_scope(deadline=self._backend.now() + timeout):
            return await self.__anext__()
        raise TimeoutError(f"no event came within {timeout:g} s")

    @property
    def lag(self) -> int:
        """How many events wait to be read."""
        return len(self._queue)

    @property
    def received(self) -> int:
        """How many events came."""
        return self._queue.received

    @property
    def delivered(self) -> int:
        """How many of them were read."""
        return self._queue.received - self._queue.dropped - len(self._queue) - self._inbox.forgotten

    @property
    def dropped(self) -> int:
        """How many of them were dropped, or replaced by a later one of the same key."""
        return self._queue.dropped

    async def _next(self) -> Any:
        inbox = self._inbox
        if self._queue and not self._left:
            await self._let_others_run()
        self._left -= 1
        while not self._queue:
            if inbox.failure is not None:
                failure, inbox.failure = inbox.failure, None
                raise failure
            if inbox.has_ended:
                await self._backend.checkpoint()
                if inbox.error is not None:
                    raise inbox.error.with_traceback(None)
                raise StopAsyncIteration
            self._check_comes()
            await inbox.wait()
            self._left = _FAIR_SHARE
        return self._take()

    def _check_comes(self) -> None:
        """Raise if it makes no sense to wait."""

    async def _let_others_run(self) -> None:
        self._left = _FAIR_SHARE
        self._consumers.turns += 1
        await self._backend.checkpoint()


@final
class Feed(_Reader):
    """The events of one subscription, or the items of one stream, in order; iterate it with `async for`.

    It brings market events or rows, and `Gap` and `Stale` between them. Iteration ends when the subscription ends in
    good order. It raises `SubscriptionFailed` (for a hub's stream, the `CallError`) if the server refused or broke it
    off for good, and the connection's own error if that ended for good; every read after that raises it again.

    Leaving a loop leaves the subscription as it is: iterate the feed again, or close it. A read that is cancelled takes
    nothing. Several tasks may read one feed; each event goes to one of them.

    Args:
        handle: the machine's handle.
        inbox: where its events wait.
        consumers: those of the client.
        end: ends the subscription.

    Attributes:
        handle: the machine's handle, a `Subscription` or a `Call`; None for a hub's `invocations`.
    """

    def __init__(
        self, handle: Subscription | Call | None, inbox: Inbox, consumers: Consumers, end: Callable[[], None]
    ) -> None:
        super().__init__(inbox, consumers)
        self.handle = handle
        self._end = end

    def _check_comes(self) -> None:
        if self._consumers.are_diverted:
            raise LocalProtocolError("expected events() to be closed before a feed is read: it gets all that comes")

    def __repr__(self) -> str:
        return f"<Feed of {self.handle!r}: {self.lag} waiting{', ended' if self._inbox.has_ended else ''}>"

    def close(self) -> None:
        """End the subscription; what waits in the feed, or still comes, is dropped. It waits for nothing."""
        self._inbox.clear()
        if not self._inbox.has_ended:
            self._inbox.finish(None)
            self._end()


@final
class Events(_Reader):
    """All that a session says, in order; iterate it with `async for`. Made by `Exchange.events`.

    It brings `EventReceived`, `Gap`, `Stale`, `Ready`, `Reconnecting` and `SubscriptionEnded`. Iteration ends after our
    `close`, and raises the session's error if that ended for good; every read after that raises it again.

    While it is open, feeds get nothing, and cannot be read.

    Args:
        inbox: where the events wait.
        consumers: those of the client.
        give_back: takes what waits, when it is closed.
    """

    def __init__(self, inbox: Inbox, consumers: Consumers, give_back: Callable[[Iterator[Any]], None]) -> None:
        super().__init__(inbox, consumers)
        self._give_back = give_back

    def __repr__(self) -> str:
        return f"<Events: {self.lag} waiting{', ended' if self._inbox.has_ended else ''}>"

    def close(self) -> None:
        """Read no longer; what waits goes back to the feeds, and so does what comes."""
        if not self._inbox.has_ended:
            self._inbox.finish(None)
            self._give_back(self._inbox.take_out())


def _take_or_raise(take: Callable[[], Any]) -> Any:
    event = take()
    if isinstance(event, Missed):
        raise event.error
    return event
