"""`Client`: what runs for one client of an asynchronous server, from its first byte to the end of its handler.

It takes the machine's events and gives them to whoever waits: calls to the handler, uploads to the call, answers to who
asked. The stream is driven by a `Pump`; the verbs are in `_connection`, and the server itself in `_server`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable
from typing import Any, assert_never, final

import msgspec

from etorox_proto import LocalProtocolError
from etorox_proto.signalr import (
    Call,
    CancelReceived,
    Closed,
    Completed,
    Connected,
    ConnectionClosed,
    Detached,
    InvocationReceived,
    Resumed,
    ServerConnection,
    UploadEnded,
    UploadItemReceived,
)
from etorox_transports._async._answers import Answers
from etorox_transports._async._backend import Backend, Event
from etorox_transports._async._connection import Connection, IncomingCall
from etorox_transports._async._feed import Consumers, Feed, Inbox
from etorox_transports._async._lane import wait_until
from etorox_transports._async._listening import SocketStream
from etorox_transports._async._pump import Pump
from etorox_transports._errors import UploadFailed
from etorox_transports._serving import IS_UP, LOGGER, ServeLimits, failure_text

__all__ = ["AsyncHandler", "Client"]

AsyncHandler = Callable[[Connection], Awaitable[object]]
"""What an asynchronous server runs for each client that connects, in a task of its own."""

_FAILED = "Connection closed with an error."


@final
class Client:
    """One client.

    Args:
        backend: the library.
        machine: the server's side of its connection.
        handler: of the application.
        limits: of the server.
        detailed_errors: whether clients are told what a handler raised.
        lost_stream: called when it waits for another stream.
        came_back: called with it and a machine when its own stream has turned out to be that of the client with that.

    Attributes:
        backend: the library.
        machine: the server's side of its connection.
        connection: what the handler gets; None before the client is connected.
        calls: what the client asks for.
        error: why it has ended.
    """

    def __init__(
        self,
        backend: Backend,
        machine: ServerConnection,
        handler: AsyncHandler,
        *,
        limits: ServeLimits,
        detailed_errors: bool,
        lost_stream: Callable[[], None],
        came_back: Callable[[Client, ServerConnection], None],
    ) -> None:
        self.backend = backend
        self.machine = machine
        self.connection: Connection | None = None
        self.error: Exception | None = None
        self._handler = handler
        self._limits = limits
        self._detailed_errors = detailed_errors
        self._consumers = Consumers(backend)
        self._inbox = Inbox(self._consumers, limits.waiting_calls, "wait")
        self.calls = Feed(None, self._inbox, self._consumers, lambda: None)
        self._pending: dict[str, IncomingCall] = {}
        self._uploads: dict[str, Inbox] = {}
        self._answers = Answers(backend, self.settle, lambda call: machine.cancel(call, now=backend.now()))
        self._handling = backend.new_scope()
        self._lost_stream = lost_stream
        self._came_back = came_back
        self._pump: Pump | None = None
        self._moved = backend.new_event()  # it has ended, lost its stream or got another
        self._room: Event | None = None
        self._tasks: Any = None

    @property
    def is_detached(self) -> bool:
        """Whether it waits for another stream."""
        return self._pump is not None and self._pump.is_over and not self.machine.closed

    @property
    def has_stream(self) -> bool:
        """Whether it has one that is its own; not so once that has become another client's."""
        return not self.is_detached and not (self._pump is None and self.machine.closed)

    # ---------------------------------------------------------------------------------------------------- its tasks

    async def run(self, stream: SocketStream) -> None:
        """Drive it until it is over and the handler has returned.

        If it loses its stream and may be resumed, only its deadline is kept here; another client's `run` brings it its
        next stream, and has no connection of its own then.
        """
        async with self.backend.new_tasks() as self._tasks:
            self._pump = Pump(stream, self.machine, self.settle, self._consumers, self._limits)
            self.backend.start(self._tasks, self._pump.write, "etorox server writer")
            await self._pump.read()
            while not self.machine.closed:
                self._moved = self.backend.new_event()
                due = self.machine.deadline if self.is_detached else math.inf
                await wait_until(self.backend, self._moved, due)
                if due <= self.backend.now():
                    self.machine.handle_timeout(self.backend.now())
                    self.settle()

    async def _handle(self) -> None:
        assert self.connection is not None, "the handler is for clients that are connected"
        try:
            with self._handling:
                await self._handler(self.connection)
        except Exception as error:  # noqa: BLE001 - it ends this connection, and nothing else
            self._log(error)
            for call in list(self._pending.values()):
                self._answer_failed(call, error)
            self.machine.close(error=_FAILED, now=self.backend.now())
        else:
            self.machine.close(now=self.backend.now())
        self.settle()

    def take_over(self, arrival: Client) -> None:
        """Go on with the stream of that client, which has turned out to be this one; if it is over, leave it alone."""
        now = self.backend.now()
        self.machine.receive_data(b"", now)  # it may have its old stream still
        self.settle()
        try:
            self.machine.resume(arrival.machine, now=now)
        except LocalProtocolError:
            return
        self._pump, arrival._pump = arrival._pump, None
        assert self._pump is not None, "who has come back has come on a stream"
        self._pump.turn_to(self.machine, self.settle, self._consumers)
        self._moved.set()
        self.settle()

    # ------------------------------------------------------------------------------------------------ for the verbs

    def settle(self) -> None:
        """The machine was told something: take its events, and wake who has something to do."""
        while (event := self.machine.next_event()) is not None:
            match event:
                case Connected():
                    self.connection = Connection(self)
                    self.backend.start(self._tasks, self._handle, "etorox server handler")
                case InvocationReceived():
                    self._inbox.put(self._new_call(event))
                case UploadItemReceived(stream_id, item):
                    if (upload := self._uploads.get(stream_id)) is not None and not upload.has_ended:
                        upload.put(item)
                case UploadEnded(stream_id, error):
                    if (upload := self._uploads.pop(stream_id, None)) is not None:
                        upload.finish(None if error is None else UploadFailed(error))
                case CancelReceived(invocation_id):
                    if (call := self._pending.get(invocation_id)) is not None:
                        call.cancel()
                case Completed():
                    self._answers.take(event)
                case Detached():
                    assert self._pump is not None, "what is lost was there"
                    self._pump.let_go()
                    self._moved.set()
                    self._lost_stream()
                case Resumed(machine):
                    self._came_back(self, machine)
                case Closed(error):
                    self._end(error)
                case _:
                    assert_never(event)
        if self._pump is not None:
            self._pump.nudge()
        if self._room is not None and (self.machine.has_room or self.machine.closed):
            self._room.set()
            self._room = None

    async def wait_for_room(self) -> None:
        """Wait until the client has taken enough of what was sent before."""
        assert self._pump is not None, "who sends is connected"
        await self._pump.wait_for_room()
        while not (self.machine.has_room or self.machine.closed):
            if self._room is None:
                self._room = self.backend.new_event()
            await self._room.wait()

    async def invoke(self, call: Callable[[], Call], until: float) -> Any:
        """Make a call and wait for its outcome."""
        completed = await self._answers.wait(call(), until)
        if completed.error is not None:
            raise completed.error
        return completed.result

    def answered(self, call: IncomingCall) -> None:
        """That call has its completion; nobody sends it anything any more."""
        self._pending.pop(call.invocation_id or "", None)
        self._end_uploads(call)

    def left(self, call: IncomingCall) -> None:
        """Whoever worked on that call has done so."""
        self._end_uploads(call)
        if call.invocation_id in self._pending and self.machine.state in IS_UP:
            with contextlib.suppress(LocalProtocolError):
                call.answer(msgspec.UNSET, None)
                return
            self.machine.close(error=_FAILED, now=self.backend.now())  # not even this has room
            self.settle()

    def failed(self, call: IncomingCall, error: Exception) -> None:
        """Whoever worked on that call raised this."""
        self._log(error, call)
        self._end_uploads(call)
        self._answer_failed(call, error)

    # ----------------------------------------------------------------------------------------------------- inside

    def _new_call(self, event: InvocationReceived) -> IncomingCall:
        feeds = []
        for stream_id in event.uploads:
            self._uploads[stream_id] = inbox = Inbox(self._consumers, self._limits.waiting_calls, "wait")
            feeds.append(Feed(None, inbox, self._consumers, lambda: None))
        call = IncomingCall(self, event, tuple(feeds))
        if event.invocation_id is not None:
            self._pending[event.invocation_id] = call
        return call

    def _end_uploads(self, call: IncomingCall) -> None:
        """Nobody reads them any more, so that they must not hold anything up."""
        for stream_id, feed in zip(call.upload_ids, call.uploads, strict=True):
            self._uploads.pop(stream_id, None)
            feed.close()

    def _answer_failed(self, call: IncomingCall, error: Exception) -> None:
        if call.invocation_id in self._pending and self.machine.state in IS_UP:
            try:
                call.answer(msgspec.UNSET, failure_text(call.target, error, detailed=self._detailed_errors))
            except LocalProtocolError:  # the client reads nothing, so that not even this has room
                self.machine.close(error=_FAILED, now=self.backend.now())
                self.settle()

    def _log(self, error: Exception, call: IncomingCall | None = None) -> None:
        """Tell of it, unless it only says that the client has left."""
        if self.machine.state in IS_UP or not _says_closed(error):
            what = "the handler" if call is None else f"work on {call!r}"
            LOGGER.error("%s of %r failed", what, self.connection, exc_info=error)

    def _end(self, error: Exception | None) -> None:
        """The connection has ended: nobody wants the answers any more, and the handler is to find its end."""
        self.error = error
        self._moved.set()
        for call in self._pending.values():
            call.cancel()
        self._pending.clear()
        self._inbox.finish(None)
        for upload in self._uploads.values():
            upload.finish(UploadFailed("the client left before it had sent everything"))
        self._uploads.clear()
        self._handling.deadline = self.backend.now() + self._limits.handler_grace


def _says_closed(error: Exception) -> bool:
    if isinstance(error, ExceptionGroup):
        return error.split(ConnectionClosed)[1] is None
    return isinstance(error, ConnectionClosed)
