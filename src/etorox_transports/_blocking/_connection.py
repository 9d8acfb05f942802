"""`Connection`: one client of a blocking server, as its handler sees it.

It has the commands of `ServerConnection` without the clock, and streams that are made as fast as the client reads them.
It knows no socket: `_server` sends what its commands queue. A connection is not its byte stream.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, final

import msgspec

from etorox_proto.signalr import (
    Call,
    CancelReceived,
    Closed,
    Completed,
    Connected,
    ConnectionClosed,
    InvocationReceived,
    LocalProtocolError,
    ServerConnection,
    UploadEnded,
    UploadItemReceived,
)
from etorox_transports._serving import IS_UP, LOGGER, failure_text

__all__ = ["Connection", "ConnectionEvent"]

ConnectionEvent = (
    Connected | InvocationReceived | CancelReceived | UploadItemReceived | UploadEnded | Completed | Closed
)
"""What a client does that its handler is told; of the streams that come and go below it hears nothing."""

# How many items a stream gives before others get their turn.
_FAIR_SHARE = 64


@final
class Connection:
    """One client. Its commands wait for nothing; what they queue is sent when the handler returns.

    It may be kept, as a key too, and used until its `Closed`; from other threads with `Server.call` only. A command
    that cannot be carried out raises `LocalProtocolError`, one that comes too late its subclass `ConnectionClosed`.

    Args:
        machine: the server's side of the connection.
        changed: called with the connection after each command.
        room: how many bytes may wait before a stream of `send_items` does.
        detailed_errors: whether clients are told what a handler raised.
    """

    def __init__(
        self, machine: ServerConnection, changed: Callable[[Connection], None], *, room: int, detailed_errors: bool
    ) -> None:
        self._machine = machine
        self._changed = changed
        self._room = room
        self._detailed_errors = detailed_errors
        self._calls: dict[str, InvocationReceived] = {}  # those that await an answer
        self._uploads: dict[str, str] = {}  # the call that brought each
        self._producers: dict[str, Iterator[Any]] = {}

    def __repr__(self) -> str:
        return f"<Connection {self.connection_id!r}: {self._machine.state.value}>"

    # ------------------------------------------------------------------------------------------ anyone looks

    @property
    def connection_id(self) -> str:
        """The public name of the connection."""
        return self._machine.connection_id or ""

    @property
    def path(self) -> str:
        """The path that the client asked for (percent-encoded)."""
        return self._machine.path or ""

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query that it asked with, as name and value pairs, `id` included."""
        return self._machine.query

    @property
    def encoding(self) -> str | None:
        """The encoding that the client chose."""
        return self._machine.encoding

    @property
    def queued_bytes(self) -> int:
        """How many bytes wait to be sent, beside those that the socket does not take now."""
        return self._machine.queued_bytes

    @property
    def machine(self) -> ServerConnection:
        """The machine, to look at."""
        return self._machine

    # ------------------------------------------------------------------------------------------------ commands

    def complete(self, invocation_id: str, *, result: Any = msgspec.UNSET, error: str | None = None) -> None:
        """Answer a call, or end a stream; see `ServerConnection.complete`."""
        self._machine.complete(invocation_id, result=result, error=error, now=time.monotonic())
        self._answered(invocation_id)
        self._changed(self)

    def send_item(self, invocation_id: str, item: Any) -> None:
        """Send the next item of a stream.

        Nothing here waits for room: too much is refused, with `LocalProtocolError`. `send_items` is for long streams.
        """
        self._machine.send_item(invocation_id, item, now=time.monotonic())
        self._changed(self)

    def send_items(self, invocation_id: str, items: Iterable[Any]) -> None:
        """Send all of these, and then complete the stream; the next is asked for when the client has room for it.

        A generator does well: it is closed when the client cancels the stream or leaves, and what it raises ends the
        stream with an error. It must not block.
        """
        if invocation_id not in self._calls or not self._calls[invocation_id].streaming:
            raise LocalProtocolError(f"expected the id of a stream that awaits its completion, got {invocation_id!r}")
        self._producers[invocation_id] = iter(items)
        self._changed(self)

    def send(self, target: str, *arguments: Any, headers: Mapping[str, str] | None = None) -> None:
        """Call a method of the client's without asking for an answer."""
        self._machine.send(target, arguments, headers=headers, now=time.monotonic())
        self._changed(self)

    def invoke(
        self, target: str, *arguments: Any, result_type: Any = Any, headers: Mapping[str, str] | None = None
    ) -> Call:
        """Ask a method of the client's for its result, which comes as the event `Completed` of this call."""
        call = self._machine.invoke(target, arguments, result_type=result_type, headers=headers, now=time.monotonic())
        self._changed(self)
        return call

    def cancel(self, call: Call) -> None:
        """Stop waiting for the result of that call; its `Completed` comes at once."""
        self._machine.cancel(call, now=time.monotonic())
        self._changed(self)

    def close(self, *, error: str | None = None, allow_reconnect: bool = False) -> None:
        """Say goodbye; `Closed` is the last event. Calling it again does nothing."""
        self._machine.close(error=error, allow_reconnect=allow_reconnect, now=time.monotonic())
        self._changed(self)

    # --------------------------------------------------------------------------------------- the server's side

    @property
    def has_streams(self) -> bool:
        """The server's side: whether there is a stream of `send_items`."""
        return bool(self._producers)

    @property
    def is_producing(self) -> bool:
        """The server's side: whether there is a stream of `send_items`, and room for its next item."""
        return bool(self._producers) and self._machine.queued_bytes <= self._room and self._machine.has_room

    def take(self, event: ConnectionEvent) -> bool:
        """The server's side: note an event; whether the handler is to be told."""
        match event:
            case InvocationReceived(invocation_id=str(invocation_id)):
                self._calls[invocation_id] = event
                self._uploads.update(dict.fromkeys(event.uploads, invocation_id))
            case CancelReceived(invocation_id) if invocation_id in self._producers:
                self._end_production(invocation_id)
                with contextlib.suppress(LocalProtocolError):  # it was answered in the same breath, or has no room
                    self.complete(invocation_id)
                return False
            case Closed():
                for invocation_id in list(self._producers):
                    self._end_production(invocation_id)
                self._calls.clear()
                self._uploads.clear()
            case _:
                pass
        return True

    def produce(self) -> None:
        """The server's side: ask the streams of `send_items` for more, in turn, while there is room."""
        for invocation_id, items in list(self._producers.items()):
            try:
                for _ in range(_FAIR_SHARE):
                    if not self.is_producing:
                        return
                    try:
                        item = next(items)
                    except StopIteration:
                        self.complete(invocation_id)
                        break
                    self.send_item(invocation_id, item)
            except Exception as error:  # noqa: BLE001 - of the application's generator
                self.fail(self._calls.get(invocation_id), error)

    def fail(self, event: ConnectionEvent | None, error: Exception) -> None:
        """The server's side: the handler raised this at that event. The call concerned is answered with an error."""
        if self._machine.state not in IS_UP:
            if not isinstance(error, ConnectionClosed):
                LOGGER.error("the handler of %r failed", self, exc_info=error)
            return
        LOGGER.error("the handler of %r failed at %r", self, event, exc_info=error)
        match event:
            case InvocationReceived(invocation_id=invocation_id) | CancelReceived(invocation_id):
                call = self._calls.get(invocation_id or "")
            case UploadItemReceived(stream_id) | UploadEnded(stream_id):
                call = self._calls.get(self._uploads.get(stream_id, ""))
            case _:
                self.close(error="Connection closed with an error.")
                return
        if call is not None and call.invocation_id is not None:
            text = failure_text(call.target, error, detailed=self._detailed_errors)
            try:
                self.complete(call.invocation_id, error=text)
            except LocalProtocolError:  # it reads nothing, so that not even this has room
                self.close(error="Connection closed with an error.")

    def _answered(self, invocation_id: str) -> None:
        for stream_id in self._calls.pop(invocation_id).uploads:
            self._uploads.pop(stream_id, None)
        self._end_production(invocation_id)

    def _end_production(self, invocation_id: str) -> None:
        items = self._producers.pop(invocation_id, None)
        if isinstance(items, Generator):
            try:
                items.close()
            except Exception as error:  # noqa: BLE001 - of the application's generator
                LOGGER.error("a stream for %r failed while it was closed", self, exc_info=error)
