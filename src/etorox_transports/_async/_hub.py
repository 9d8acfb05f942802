"""`Hub`: the verbs of a connection to any SignalR hub, and the tasks behind them.

`HubDriver` runs one connection and gives what it says to whoever waits for it. There is no reconnection: what a call or
a stream means after one, only the application knows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self, assert_never, final

from etorox_proto import CallLost, Closed, Dial
from etorox_proto.signalr import (
    Call,
    CallCancelled,
    Completed,
    Connected,
    HubConfig,
    HubConnection,
    InvocationReceived,
    ItemReceived,
)
from etorox_transports._async._answers import Answers
from etorox_transports._async._backend import AsyncOpener, Backend
from etorox_transports._async._driver import Driver, not_entered
from etorox_transports._async._feed import Feed, Inbox
from etorox_transports._async._lane import Lane
from etorox_transports._queue import Overload, new_queue

__all__ = ["Hub", "HubDriver", "new_hub"]

# How many invocations by the hub are kept for somebody to read.
_INVOCATIONS = 1_000


@final
class HubDriver(Driver):
    """Runs one connection to a hub.

    Args:
        backend: the library.
        open_stream: opens byte streams.
        config: where the hub is.

    Attributes:
        invocations: where the hub's calls to this client wait.
    """

    def __init__(self, backend: Backend, open_stream: AsyncOpener, config: HubConfig) -> None:
        super().__init__(backend, close_timeout=config.close_timeout, wait=True)
        self._open_stream = open_stream
        self._config = config
        self._connection: HubConnection | None = None
        self._lane: Lane[HubConnection] | None = None
        self._streams: dict[Call, Inbox] = {}
        self._answers = Answers(backend, self.settle, lambda call: self.connection.cancel(call, now=backend.now()))
        self.invocations = Inbox(self.consumers, _INVOCATIONS, "drop_oldest")

    def __repr__(self) -> str:
        return "not entered" if self._connection is None else repr(self._connection)

    @property
    def connection(self) -> HubConnection:
        """The machine; raises `LocalProtocolError` before it has begun."""
        if self._connection is None:
            raise not_entered()
        return self._connection

    async def invoke(
        self,
        target: str,
        arguments: tuple[Any, ...],
        *,
        result_type: Any,
        headers: Mapping[str, str] | None,
        until: float,
    ) -> Any:
        """Call a method and wait for its outcome, until a time."""
        call = self.connection.invoke(
            target, arguments, result_type=result_type, headers=headers, now=self._backend.now()
        )
        return self._outcome(await self._answers.wait(call, until))

    def _outcome(self, completed: Completed) -> Any:
        error = completed.error
        if isinstance(error, CallLost) and self.error is not None:
            try:
                raise error
            except CallLost:
                # The connection's own reason says more; whether the call was sent, its context says.
                raise self.error.with_traceback(None)  # noqa: B904
        if error is not None:
            raise error
        return completed.result

    def stream(
        self,
        target: str,
        arguments: tuple[Any, ...],
        *,
        item_type: Any,
        headers: Mapping[str, str] | None,
        capacity: int,
        overload: Overload,
    ) -> Feed:
        """Call a streaming method, and make the feed that it fills."""
        call = self.connection.stream(target, arguments, item_type=item_type, headers=headers, now=self._backend.now())
        self._streams[call] = inbox = Inbox(self.consumers, capacity, overload)
        self.settle()
        return Feed(call, inbox, self.consumers, partial(self._cancel, call))

    def send(self, target: str, arguments: tuple[Any, ...], *, headers: Mapping[str, str] | None) -> None:
        """Call a method without asking for an answer."""
        self.connection.send(target, arguments, headers=headers, now=self._backend.now())
        self.settle()

    def _cancel(self, call: Call) -> None:
        self.connection.cancel(call, now=self._backend.now())
        self.settle()

    # -------------------------------------------------------------------------------------------------- the driver

    def _begin(self) -> None:
        self._connection = HubConnection(self._config, now=self._backend.now())
        self._lane = Lane(self._connection, self.settle, self.consumers, self._open_stream)
        self.settle()
        self._start(self._lane.read, "etorox reader")
        self._start(self._lane.write, "etorox writer")

    def _step(self) -> bool:
        next_event, moved = self.connection.next_event, False
        streams, lane = self._streams, self._lane
        assert lane is not None, "it begins with entering"
        while (event := next_event()) is not None:
            moved = True
            match event:
                case ItemReceived():
                    streams[event.call].put(event.item)
                case Completed():
                    self._completed(event)
                case InvocationReceived():
                    if not self.invocations.has_ended:
                        self.invocations.put(event)
                case Connected():
                    self._is_open.set()
                case Dial():
                    lane.dial(event)
                case Closed():
                    self._finish(lane.end(event).error)
                case _:
                    assert_never(event)
        return moved

    def _completed(self, completed: Completed) -> None:
        call, error = completed.call, completed.error
        if self._answers.take(completed):
            pass
        elif isinstance(error, CallLost) and error.__cause__ is not None:
            pass  # `Closed` comes next, and says why
        elif (inbox := self._streams.pop(call, None)) is not None:
            inbox.finish(None if isinstance(error, CallLost | CallCancelled) else error)

    def _nudge(self) -> None:
        assert self._lane is not None, "it begins with entering"
        self._lane.nudge()

    def _inboxes(self) -> list[Inbox]:
        return [*self._streams.values(), self.invocations]

    def _say_goodbye(self, *, wait: bool) -> None:
        self.connection.close(wait=wait, now=self._backend.now())
        self.settle()

    def _raise_if_not_open(self) -> None:
        if self.error is not None:
            raise self.error.with_traceback(None)


@final
class Hub:
    """A connection to any SignalR hub; made by `connect_hub`, and used with `async with`.

    Its methods may be called by several tasks of the event loop, at any time; from other threads they may not. Leaving
    the context is as with `Exchange`.
    """

    def __init__(self, driver: HubDriver, *, feed_capacity: int, overload: Overload) -> None:
        new_queue(feed_capacity, overload)  # to refuse at once what cannot be used
        self._driver = driver
        self._capacity = feed_capacity
        self._overload = overload
        self._invocations = Feed(None, driver.invocations, driver.consumers, lambda: None)

    def __repr__(self) -> str:
        return f"<Hub: {self._driver}>"

    async def __aenter__(self) -> Self:
        await self._driver.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._driver.leave(error)

    @property
    def connection(self) -> HubConnection:
        """The machine, to look at."""
        return self._driver.connection

    @property
    def invocations(self) -> Feed:
        """What the hub calls on this client: a feed of `InvocationReceived`. It holds the last thousand."""
        return self._invocations

    async def invoke(
        self,
        target: str,
        *arguments: Any,
        result_type: Any = Any,
        headers: Mapping[str, str] | None = None,
        timeout: float = math.inf,  # noqa: ASYNC109 - as in the blocking adapter
    ) -> Any:
        """Call a method of the hub and wait for its result. If that is cancelled, the hub is told.

        Args:
            target: the method's name.
            arguments: anything that msgspec can encode.
            result_type: what the result is decoded into.
            headers: hub message headers.
            timeout: seconds to wait; the call is then cancelled.

        Raises:
            LocalProtocolError: it cannot be called; nothing was sent.
            HubError: the server answered with an error.
            TimeoutError: no answer came in time.
            ConnectionFailed: the connection ended; the `CallLost` that says whether it was sent is its context.
            CallLost: we closed the connection.
        """
        until = self._driver.consumers.backend.now() + timeout
        return await self._driver.invoke(target, arguments, result_type=result_type, headers=headers, until=until)

    def stream(
        self,
        target: str,
        *arguments: Any,
        item_type: Any = Any,
        headers: Mapping[str, str] | None = None,
    ) -> Feed:
        """Call a streaming method; its items are read from the feed. It waits for nothing.

        Args:
            target: the method's name.
            arguments: anything that msgspec can encode.
            item_type: what each item is decoded into.
            headers: hub message headers.

        Raises:
            LocalProtocolError: it cannot be called; nothing was sent.
        """
        return self._driver.stream(
            target,
            arguments,
            item_type=item_type,
            headers=headers,
            capacity=self._capacity,
            overload=self._overload,
        )

    async def send(self, target: str, *arguments: Any, headers: Mapping[str, str] | None = None) -> None:
        """Call a method without asking for an answer. It is queued at once, and sent while other tasks run.

        Raises:
            LocalProtocolError: it cannot be called; nothing was sent.
        """
        self._driver.send(target, arguments, headers=headers)
        await self._driver.consumers.backend.checkpoint()

    async def close(self) -> None:
        """Say goodbye, wait for the answer for a few seconds at most, close. Calling it again does nothing."""
        await self._driver.close()


def new_hub(
    backend: Backend, config: HubConfig | str, *, open_stream: AsyncOpener, feed_capacity: int, overload: Overload
) -> Hub:
    """What `connect_hub` of an adapter returns; see there."""
    where = HubConfig(url=config) if isinstance(config, str) else config
    return Hub(HubDriver(backend, open_stream, where), feed_capacity=feed_capacity, overload=overload)
