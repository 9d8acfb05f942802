"""`HubDriver`: the tasks behind a `Hub`, which run one connection and give what it says to whoever waits for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, assert_never, final

from etorox_proto import CallLost, Closed, ConnectionClosed, Dial
from etorox_proto.signalr import (
    Call,
    CallCancelled,
    Completed,
    Connected,
    HubConfig,
    HubConnection,
    InvocationReceived,
    ItemsByTurns,
    ItemsReceived,
    Upload,
)
from etorox_transports._async._answers import Answers
from etorox_transports._async._backend import AsyncOpener, Backend
from etorox_transports._async._driver import Driver, not_entered
from etorox_transports._async._feed import Feed, Inbox
from etorox_transports._async._lane import Lane, wait_until
from etorox_transports._async._uploads import Items, Producers
from etorox_transports._attempt import NewHub
from etorox_transports._queue import Overload

__all__ = ["HubDriver"]

# How many invocations by the hub are kept for somebody to read.
_INVOCATIONS = 1_000


@final
class HubDriver(Driver):
    """Runs one connection to a hub.

    Args:
        backend: the library.
        open_stream: opens byte streams.
        config: where the hub is.
        new_connection: makes the machine.

    Attributes:
        invocations: where the hub's calls to this client wait.
    """

    def __init__(self, backend: Backend, open_stream: AsyncOpener, config: HubConfig, new_connection: NewHub) -> None:
        super().__init__(backend, close_timeout=config.close_timeout, wait=True)
        self._open_stream = open_stream
        self._new_connection = partial(new_connection, config)
        self._connection: HubConnection | None = None
        self._lane: Lane[HubConnection] | None = None
        self._producers: Producers | None = None
        self._streams: dict[Call, Inbox] = {}
        self._answers = Answers(backend, self.settle, lambda call: self.connection.cancel(call, now=backend.now()))
        self._room = backend.new_event()
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
        uploads: Sequence[Items],
        headers: Mapping[str, str] | None,
        until: float,
    ) -> Any:
        """Call a method and wait for its outcome, until a time."""
        call = self.connection.invoke(
            target,
            arguments,
            result_type=result_type,
            uploads=len(uploads),
            headers=headers,
            now=self._backend.now(),
        )
        self._upload(call.uploads, uploads)
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
        uploads: Sequence[Items],
        headers: Mapping[str, str] | None,
        capacity: int,
        overload: Overload,
    ) -> Feed:
        """Call a streaming method, and make the feed that it fills."""
        inbox = Inbox(self.consumers, capacity, overload)
        try:
            call = self.connection.stream(
                target,
                arguments,
                item_type=item_type,
                uploads=len(uploads),
                headers=headers,
                now=self._backend.now(),
            )
        except BaseException:
            inbox.finish(None)
            raise
        self._streams[call] = inbox
        self._upload(call.uploads, uploads)
        self.settle()
        return Feed(call, inbox, self.consumers, partial(self._cancel, call))

    def send(
        self, target: str, arguments: tuple[Any, ...], *, uploads: Sequence[Items], headers: Mapping[str, str] | None
    ) -> None:
        """Call a method without asking for an answer."""
        handles = self.connection.send(
            target, arguments, uploads=len(uploads), headers=headers, now=self._backend.now()
        )
        self._upload(handles, uploads)
        self.settle()

    def complete(self, invocation_id: str, result: Any, error: str | None) -> None:
        """Answer a call of the hub's."""
        self.connection.complete(invocation_id, result=result, error=error, now=self._backend.now())
        self.settle()

    def _upload(self, handles: tuple[Upload, ...], sources: Sequence[Items]) -> None:
        assert self._producers is not None, "who calls has begun"
        for handle, items in zip(handles, sources, strict=True):
            self._start(partial(self._producers.run, handle, items), "etorox upload")

    async def wait_for_room(self, until: float) -> None:
        """Wait until what waits for the hub leaves room, or until a time."""
        await self._room_or_end(until)
        if self.has_ended:
            raise self._ended()

    async def _room_or_end(self, until: float = math.inf) -> None:
        connection = self.connection
        while not (self.has_ended or connection.has_room):
            self._room = room = self._backend.new_event() if self._room.is_set() else self._room
            await wait_until(self._backend, room, until)
            if not room.is_set():
                raise TimeoutError("the hub has not taken in time what waits for it")

    def _ended(self) -> Exception:
        if self.error is not None:
            return self.error.with_traceback(None)
        return ConnectionClosed("expected an open connection, got one that was closed")

    def _cancel(self, call: Call) -> None:
        self.connection.cancel(call, now=self._backend.now())
        self.settle()

    # -------------------------------------------------------------------------------------------------- the driver

    def _begin(self) -> None:
        self._connection = self._new_connection(now=self._backend.now())
        self._lane = Lane(self._connection, self.settle, self.consumers, self._open_stream)
        self._producers = Producers(self._backend, self._lane, self.settle, self._room_or_end)
        self.settle()
        self._start(self._lane.read, "etorox reader")
        self._start(self._lane.write, "etorox writer")
        self._start(self._lane.keep_time, "etorox clock")

    def _step(self) -> bool:
        next_batch, moved = self.connection.next_batch, False
        streams, lane = self._streams, self._lane
        assert lane is not None, "it begins with entering"
        while (event := next_batch()) is not None:
            if isinstance(event, ItemsReceived):
                streams[event.call].put_all(event.items)
                continue
            if isinstance(event, ItemsByTurns):
                for call, item in zip(event.calls, event.items, strict=True):
                    streams[call].put(item)
                continue
            moved = True
            match event:
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
        if self.has_ended or self.connection.has_room:
            self._room.set()
        return moved

    def _completed(self, completed: Completed) -> None:
        call, error = completed.call, completed.error
        if self._producers is not None:
            self._producers.explain(completed)
        if self._answers.take(completed):
            pass
        elif isinstance(error, CallLost) and error.__cause__ is not None:
            pass  # `Closed` comes next, and says why
        elif (inbox := self._streams.pop(call, None)) is not None:
            inbox.finish(None if isinstance(error, CallLost | CallCancelled) else error)

    def _nudge(self) -> None:
        assert self._lane is not None, "it begins with entering"
        self._lane.nudge()
        if self._producers is not None:
            self._producers.look()

    def _inboxes(self) -> list[Inbox]:
        return [*self._streams.values(), self.invocations]

    def _say_goodbye(self, *, wait: bool) -> None:
        self.connection.close(wait=wait, now=self._backend.now())
        self.settle()

    def _raise_if_not_open(self) -> None:
        if self.error is not None:
            raise self.error.with_traceback(None)
