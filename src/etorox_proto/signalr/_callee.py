"""The peer's calls to us: which of them await an answer, that each gets exactly one, and the uploads that come along.

Both roles own one `Callee`: the server for the calls and streams of its client, the client for the results that a
server asks of it. A call that cannot be taken is answered here, with an error. Knows no bytes of the wire, no timers
and no states.

Source: SignalR specification, sections 12 and 18.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from etorox_proto.signalr._decoding import MALFORMED, describe
from etorox_proto.signalr._errors import LocalProtocolError
from etorox_proto.signalr._events import CancelReceived, InvocationReceived, UploadEnded, UploadItemReceived
from etorox_proto.signalr._messages import (
    CancelInvocation,
    Completion,
    HubMessage,
    Invocation,
    StreamInvocation,
    StreamItem,
)

__all__ = ["Callee"]


class _Pending(NamedTuple):
    streaming: bool
    uploads: tuple[str, ...]
    is_cancelled: bool = False


class Callee:
    """The calls that the peer has made and that are not answered.

    Args:
        events: where events for the application go.
        outbox: where messages for the peer go; whoever drives the connection takes them from there.
        max_calls: how many calls may await an answer, and how many uploads be open.
        takes_uploads: whether calls may bring streams along; those to a client never do.
    """

    def __init__(self, events: deque[Any], outbox: list[HubMessage], *, max_calls: int, takes_uploads: bool) -> None:
        self._events = events
        self._outbox = outbox
        self._max_calls = max_calls
        self._takes_uploads = takes_uploads
        self._pending: dict[str, _Pending] = {}
        self._uploads: set[str] = set()

    def receive_call(self, message: Invocation | StreamInvocation) -> None:
        """Take a call of the peer's: tell the application, or refuse."""
        invocation_id, streaming = message.invocation_id, isinstance(message, StreamInvocation)
        uploads = tuple(message.stream_ids) if self._takes_uploads else ()
        refusal = self._refusal(message.target, invocation_id, uploads)
        if refusal is not None:
            if invocation_id is not None:
                self._outbox.append(Completion(invocation_id=invocation_id, error=refusal))
            return
        if invocation_id is not None:
            self._pending[invocation_id] = _Pending(streaming, uploads)
        self._uploads.update(uploads)
        self._events.append(
            InvocationReceived(
                message.target,
                message.arguments,
                invocation_id,
                streaming=streaming,
                uploads=uploads,
                headers=message.headers,
            )
        )

    def receive_cancel(self, message: CancelInvocation) -> None:
        """Take the peer's wish to stop a call; one that is over, or told already, is ignored."""
        pending = self._pending.get(message.invocation_id)
        if pending is not None and not pending.is_cancelled:
            self._pending[message.invocation_id] = pending._replace(is_cancelled=True)
            self._events.append(CancelReceived(message.invocation_id))

    def receive_item(self, message: StreamItem, decode: Callable[[msgspec.Raw], Any]) -> bool:
        """Take an item of the peer's; whether it was for an open upload. One that cannot be read ends the upload."""
        stream_id = message.invocation_id
        if stream_id not in self._uploads:
            return False
        try:
            item = decode(message.item)
        except MALFORMED as error:
            self._uploads.remove(stream_id)
            self._events.append(UploadEnded(stream_id, f"an item cannot be read: {describe(error)}"))
        else:
            self._events.append(UploadItemReceived(stream_id, item))
        return True

    def receive_end(self, message: Completion) -> bool:
        """Take a completion of the peer's; whether it was for an open upload."""
        if message.invocation_id not in self._uploads:
            return False
        self._uploads.remove(message.invocation_id)
        self._events.append(UploadEnded(message.invocation_id, message.error))
        return True

    def is_stream(self, invocation_id: str) -> bool:
        """Whether this call, which awaits its completion, is answered with a stream.

        Raises:
            LocalProtocolError: it awaits none.
        """
        try:
            return self._pending[invocation_id].streaming
        except KeyError:
            raise LocalProtocolError(
                f"expected the id of a call that awaits its completion, got {invocation_id!r}"
            ) from None

    def answered(self, invocation_id: str) -> None:
        """The completion of that call is on its way; what still comes for its uploads is dropped."""
        self._uploads.difference_update(self._pending.pop(invocation_id).uploads)

    def clear(self) -> None:
        """Forget all calls because the connection ends."""
        self._pending.clear()
        self._uploads.clear()

    def _refusal(self, target: str, invocation_id: str | None, uploads: tuple[str, ...]) -> str | None:
        if invocation_id is not None:
            if invocation_id in self._pending or invocation_id in self._uploads:
                return f"Invocation ID '{invocation_id}' is already in use."
            if len(self._pending) >= self._max_calls:
                return f"Failed to invoke '{target}': too many calls are pending."
        if len(self._uploads) + len(uploads) > self._max_calls:
            return f"Failed to invoke '{target}': too many uploads are open."
        taken = {"", invocation_id, *self._pending, *self._uploads} if uploads else set()
        for stream_id in uploads:
            if stream_id in taken:
                return f"Failed to invoke '{target}': stream ID '{stream_id}' is already in use."
            taken.add(stream_id)
        return None
