"""`run_in_thread`: an exchange in one thread of its own, for programs that cannot come back to it often enough.

The thread alone touches the exchange; what comes goes through one bounded queue to whoever iterates, under one lock.
It is no daemon: it ends when it is closed, when nobody holds its `ThreadedEvents` any more, or when the program's main
thread has ended, and says goodbye each time. It looks up ten times a second to see whether it is to.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar, final

from etorox_proto import ConnectionClosed, SessionEvent
from etorox_transports._blocking._exchange import Exchange
from etorox_transports._blocking._feed import Events
from etorox_transports._queue import Overload, by_market_event, new_queue

__all__ = ["ThreadedEvents", "run_in_thread"]

T = TypeVar("T")

# How long the thread may be deep in a wait before it looks up again, in seconds.
_LOOK_UP = 0.1


def run_in_thread(exchange: Exchange, *, capacity: int = 10_000, overload: Overload = "fail") -> ThreadedEvents:
    """Run an exchange in a thread of its own from now on, and read here what it brings.

    Connect with `wait=False`, or wait for the connection first; subscribe; then hand the exchange over. It belongs to
    the thread from now on, and is closed with it.

        exchange = connect(config, credentials, wait=False)
        exchange.subscribe(["btcusd", "ethusd"])
        with run_in_thread(exchange) as events:
            for event in events:
                ...

    Args:
        exchange: made by `blocking.connect`, and read by nobody else.
        capacity: how many events may wait for you.
        overload: what happens to more. With `"wait"` the thread reads nothing more until there is room, and goes on
            pinging. The key of a `LatestBy` is made of market events; other events are kept.

    Raises:
        LocalProtocolError: these cannot be used, or another thread has the exchange already.
    """
    return ThreadedEvents(exchange, capacity=capacity, overload=overload)


@final
class ThreadedEvents:
    """All that a session says, brought by a thread; iterate it. Made by `run_in_thread`. A context manager that closes.

    It brings what `Exchange.events` brings. Iteration ends after `close`, and raises the session's error if that ended
    for good, or whatever else ended the thread; every read after that raises it again. What came before comes first.
    """

    def __init__(self, exchange: Exchange, *, capacity: int, overload: Overload) -> None:
        self._worker = _Worker(exchange, capacity, overload)
        self._worker.start()

    def __repr__(self) -> str:
        return f"<ThreadedEvents: {self.lag} waiting{', ended' if self._worker.is_over else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_worker"):
            self._worker.stop()

    def __iter__(self) -> Iterator[SessionEvent]:
        return self

    def __next__(self) -> SessionEvent:
        return self._worker.take(math.inf)

    def next(self, timeout: float = math.inf) -> SessionEvent:
        """The next event.

        Args:
            timeout: how many seconds to wait for it.

        Raises:
            TimeoutError: none came; one may come later.
            StopIteration: it was closed.
        """
        return self._worker.take(timeout)

    def call(self, function: Callable[[Exchange], T]) -> T:
        """Have the thread do something with the exchange, such as to subscribe; returns or raises what that did.

        It is done within a tenth of a second, unless a stream is being opened. The thread reads nothing meanwhile.

        Args:
            function: for example `lambda exchange: exchange.subscribe(["xrpusd"])`.

        Raises:
            ConnectionClosed: the thread has ended.
        """
        return self._worker.call(function)

    def close(self) -> None:
        """End the session with a goodbye, and the thread. Twice does nothing more.

        It takes as long as `Exchange.close`, or, while a stream is being opened, until that has succeeded or failed.
        """
        self._worker.close()

    @property
    def lag(self) -> int:
        """How many events wait to be read."""
        return len(self._worker.queue)

    @property
    def received(self) -> int:
        """How many events came."""
        return self._worker.queue.received

    @property
    def dropped(self) -> int:
        """How many of them were dropped, or replaced by a later one of the same key."""
        return self._worker.queue.dropped

    @property
    def delivered(self) -> int:
        """How many events were read."""
        return self._worker.delivered


@final
class _Worker:
    """The thread's side. It knows nothing of the `ThreadedEvents`, so that this can be forgotten and the thread end."""

    def __init__(self, exchange: Exchange, capacity: int, overload: Overload) -> None:
        self.queue = new_queue(capacity, by_market_event(overload))
        self.delivered = 0
        self.is_over = False
        self._exchange = exchange
        self._calls: deque[tuple[Callable[[Exchange], Any], Future[Any]]] = deque()
        self._error: BaseException | None = None
        self._is_stopping = False
        self._lock = threading.Lock()
        self._has_event = threading.Condition(self._lock)
        self._has_room = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._run, name="etorox exchange")

    def start(self) -> None:
        """Take the exchange over and begin."""
        self._exchange.hand_over(self._thread, self.close)
        try:
            self._thread.start()
        except RuntimeError:
            self._exchange.take_back()
            raise

    def stop(self) -> None:
        """End soon. It takes no lock, because a finaliser may call it anywhere."""
        self._is_stopping = True

    def close(self) -> None:
        """End, and wait for it."""
        self.stop()
        self._thread.join()

    def take(self, timeout: float) -> SessionEvent:
        """The next event."""
        patience = None if timeout > threading.TIMEOUT_MAX else max(timeout, 0.0)
        with self._lock:
            if not self._has_news() and not self._has_event.wait_for(self._has_news, patience):
                raise TimeoutError(f"no event came within {timeout:g} s")
            if self.queue:
                event: SessionEvent = self.queue.take()
                self.delivered += 1
                self._has_room.notify()
                return event
            if self._error is not None:
                raise self._error.with_traceback(None)
            raise StopIteration

    def _has_news(self) -> bool:
        return bool(self.queue) or self.is_over

    def call(self, function: Callable[[Exchange], T]) -> T:
        """Have it done by the thread."""
        done: Future[T] = Future()
        with self._lock:
            if self.is_over:
                raise ConnectionClosed("expected a thread that runs, got one that has ended")
            self._calls.append((function, done))
            self._has_room.notify()
        return done.result()

    # --------------------------------------------------------------------------------------------- in the thread

    @property
    def _goes_on(self) -> bool:
        return not self._is_stopping and threading.main_thread().is_alive()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            events = self._exchange.events(overload="fail")  # read one by one, so that none ever waits there
            try:
                self._read(events)
            finally:
                self._exchange.close()
            for event in events:
                self._put(event)
        except BaseException as failure:  # noqa: BLE001 - it is raised where the events are read
            error = failure
        finally:
            self._end(error)

    def _read(self, events: Events) -> None:
        while self._goes_on:
            while self._calls:
                _carry_out(*self._calls.popleft(), self._exchange)
            try:
                event = events.next(_LOOK_UP)
            except TimeoutError:
                continue
            except StopIteration:
                return
            self._put(event)
            if self.queue.must_wait:
                self._wait_for_room()

    def _put(self, event: SessionEvent) -> None:
        with self._lock:
            self.queue.put(event)
            self._has_event.notify()

    def _wait_for_room(self) -> None:
        """Read nothing until somebody has read here, but keep the connection alive."""
        while self._goes_on:
            patience = self._exchange.keep_alive()
            with self._lock:
                if not self.queue.must_wait or self._calls:
                    return
                self._has_room.wait(min(patience, _LOOK_UP))

    def _end(self, error: BaseException | None) -> None:
        self._exchange.take_back()
        with self._lock:
            self.is_over = True
            self._error = error
            self._has_event.notify_all()
            calls, self._calls = self._calls, deque()
        for _, done in calls:
            done.set_exception(ConnectionClosed("expected a thread that runs, got one that has ended"))


def _carry_out(function: Callable[[Exchange], Any], done: Future[Any], exchange: Exchange) -> None:
    try:
        result = function(exchange)
    except BaseException as error:  # noqa: BLE001 - raised where it was asked for
        done.set_exception(error)
    else:
        done.set_result(result)
