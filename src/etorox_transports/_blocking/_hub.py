"""`Hub`: a connection to any SignalR hub, for programs that block; made by `blocking.connect_hub`."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, final

import msgspec

from etorox_proto.signalr import (
    Call,
    CallLost,
    Completed,
    Connected,
    ConnectionClosed,
    HubConnection,
    InvocationReceived,
    ItemsByTurns,
    ItemsReceived,
)
from etorox_transports._blocking._client import Client, reason_of
from etorox_transports._blocking._feed import Feed, Reader
from etorox_transports._blocking._line import Opener
from etorox_transports._blocking._loop import OneConnection
from etorox_transports._blocking._uploads import Sources
from etorox_transports._queue import Overload

__all__ = ["Hub"]

# How many of the hub's own calls are kept.
_INVOCATIONS = 1_000
# How often to look whether the hub has acknowledged something, in seconds; it does so once a second.
_LOOK_FOR_ROOM = 0.05


@final
class Hub(Client[Call | None]):
    """A connection to any SignalR hub. A context manager that closes.

    It lives only while you are inside one of its methods, or of those of its feeds, and belongs to one thread.

    Attributes:
        invocations: what the hub called on this client, as a feed of `InvocationReceived`; it holds the last thousand.
    """

    def __init__(self, connection: HubConnection, opener: Opener, *, capacity: int, overload: Overload) -> None:
        self._connection = connection
        self._completed: dict[Call, Completed | None] = {}
        self._sources = Sources(connection)
        super().__init__(OneConnection(connection), opener, capacity=capacity, overload=overload)
        queue, look = self._queue(_INVOCATIONS, "drop_oldest", self._pump)
        self.invocations = Feed(None, queue, self._driver, pump=self._pump, look=look, end=lambda: None)
        self._feeds[None] = self.invocations
        self._open(Connected)

    def __repr__(self) -> str:
        return f"<Hub on {self._connection!r}>"

    @property
    def connection(self) -> HubConnection:
        """The machine, to look at."""
        return self._connection

    def invoke(
        self,
        target: str,
        *arguments: Any,
        result_type: Any = Any,
        uploads: Sequence[Iterable[Any]] = (),
        headers: Mapping[str, str] | None = None,
        timeout: float = math.inf,
    ) -> Any:
        """Call a method of the hub and wait for its result.

        Args:
            target: the method's name.
            arguments: anything that msgspec can encode.
            result_type: what the result is decoded into.
            uploads: streams for the method, something to iterate for each; they are left out of `arguments`. An item is
                asked for when there is room for it. What one raises fails that stream at the server, and is the cause
                of the `HubError` if the method then fails.
            headers: hub message headers.
            timeout: seconds to wait; the call is then cancelled, as it is by an exception such as Ctrl-C.

        Raises:
            HubError: the server answered with an error.
            TimeoutError: no answer came in time.
            ConnectionFailed: the connection ended; the `CallLost` that says whether it was sent is its context.
        """
        until = time.monotonic() + timeout
        call = self._connection.invoke(
            target,
            arguments,
            result_type=result_type,
            uploads=len(uploads),
            headers=headers,
            now=time.monotonic(),
        )
        self._completed[call] = None
        self._sources.add(call.uploads, uploads)
        try:
            self._driver.commanded()
            completed = self._wait_for(call, until)
        except BaseException:
            self._cancel(call)  # unless it is settled, which does nothing
            raise
        finally:
            del self._completed[call]
        if completed.error is not None:
            _raise(completed)
        return completed.result

    def stream(
        self,
        target: str,
        *arguments: Any,
        item_type: Any = Any,
        uploads: Sequence[Iterable[Any]] = (),
        headers: Mapping[str, str] | None = None,
        capacity: int | None = None,
        overload: Overload | None = None,
    ) -> Feed:
        """Call a streaming method; its items are read from the feed.

        Args:
            target: the method's name.
            arguments: anything that msgspec can encode.
            item_type: what each item is decoded into.
            uploads: as for `invoke`; they are sent while the feed is read, until the stream ends.
            headers: hub message headers.
            capacity: how many items may wait in the feed; by default as `connect_hub` was told.
            overload: what happens to more; by default as `connect_hub` was told.
        """
        queue, look = self._queue(capacity, overload, self._pump)
        call = self._connection.stream(
            target,
            arguments,
            item_type=item_type,
            uploads=len(uploads),
            headers=headers,
            now=time.monotonic(),
        )
        self._sources.add(call.uploads, uploads)
        feed = Feed(call, queue, self._driver, pump=self._pump, look=look, end=partial(self._cancel, call))
        self._feeds[call] = feed
        self._driver.commanded()
        return feed

    def send(
        self,
        target: str,
        *arguments: Any,
        uploads: Sequence[Iterable[Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Call a method without asking for an answer. With `uploads` it returns when all of them have been sent.

        Args:
            target: the method's name.
            arguments: anything that msgspec can encode.
            uploads: as for `invoke`. Nothing tells that the method has lost interest in them.
            headers: hub message headers.

        Raises:
            LocalProtocolError: it cannot be called; nothing was sent.
        """
        handles = self._connection.send(target, arguments, uploads=len(uploads), headers=headers, now=time.monotonic())
        self._sources.add(handles, uploads)
        self._driver.commanded()
        while any(self._sources.has(handle) for handle in handles) and self._driver.end is None:
            self._pump(math.inf)

    def complete(self, invocation_id: str, *, result: Any = msgspec.UNSET, error: str | None = None) -> None:
        """Answer a call of the hub's, one of those in `invocations` that have an id; see `HubConfig.handles`.

        Args:
            invocation_id: of the `InvocationReceived`.
            result: anything that msgspec can encode.
            error: the reason of a failure, shown to the hub.

        Raises:
            LocalProtocolError: that id awaits no answer, or it cannot be sent; nothing was sent.
        """
        self._connection.complete(invocation_id, result=result, error=error, now=time.monotonic())
        self._driver.commanded()

    def _pump(self, until: float, reader: Reader | None = None) -> deque[Any]:
        """Take one event, and send some of what is uploaded meanwhile."""
        if not self._sources:
            return super()._pump(until, reader)
        self._sources.send_some()
        self._driver.commanded()
        try:
            return super()._pump(time.monotonic(), reader)  # look, and do not wait: there may be more to send
        except TimeoutError:
            if until <= time.monotonic():
                raise
        return deque()

    def wait_for_room(self, timeout: float = math.inf) -> None:
        """Wait until no command is refused because too many bytes wait to be acknowledged.

        Args:
            timeout: seconds to wait.

        Raises:
            TimeoutError: the hub has not acknowledged enough in time.
            ConnectionFailed: the connection ended.
            ConnectionClosed: we closed it.
        """
        until = time.monotonic() + timeout
        while True:
            if self._driver.end is not None:
                raise self._end_error or ConnectionClosed("expected an open connection, got one that was closed")
            if self._connection.has_room:
                return
            now = time.monotonic()
            if until <= now:
                raise TimeoutError("the hub has not taken in time what waits for it")
            with contextlib.suppress(TimeoutError):  # an acknowledgement is no event
                self._pump(min(until, now + _LOOK_FOR_ROOM))

    def _wait_for(self, call: Call, until: float) -> Completed:
        while (completed := self._completed[call]) is None:
            if self._driver.end is not None:
                raise self._end_error or ConnectionClosed("expected an open connection, got one that was given up")
            self._pump(until)
        return completed

    def _parts(self, reader: Reader, event: Any) -> tuple[Iterable[Any], Callable[[list[Any]], Any]] | None:
        if type(event) is ItemsReceived and reader is self._feeds.get(event.call):
            return event.items, partial(ItemsReceived, event.call)
        return None

    def _sort(self, event: Any, *, may_wait: bool) -> None:
        match event:
            case ItemsReceived(call, items):
                self._put(call, items, partial(ItemsReceived, call), may_wait=may_wait)
            case ItemsByTurns(calls, items):
                self._put_by_turns(calls, items, ItemsByTurns, may_wait=may_wait)
            case Completed(call=call):
                self._sources.explain(event)
                if call in self._completed:
                    self._completed[call] = event
                elif call in self._feeds:
                    self._feeds.pop(call).finish(reason_of(event.error))
            case _:
                assert isinstance(event, InvocationReceived), "it is connected already, and not closed yet"
                self._put(None, [event], lambda _: event, may_wait=may_wait)

    def _cancel(self, call: Call) -> None:
        if self._driver.end is None:
            self._connection.cancel(call, now=time.monotonic())
            self._driver.commanded()


def _raise(completed: Completed) -> None:
    """Raise why a call failed: the connection's own reason if it was lost with it, with the loss as its context."""
    assert completed.error is not None, "only of a call that failed"
    reason = reason_of(completed.error)
    if isinstance(completed.error, CallLost) and reason is not None:
        try:
            raise completed.error.with_traceback(None)
        except CallLost:
            raise reason.with_traceback(None)  # noqa: B904 - its cause is its own
    raise completed.error
