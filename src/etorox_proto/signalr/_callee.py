"""The peer's calls to us: which of them await an answer, and that each gets exactly one.

Both roles own one `Callee`: the server for the calls and streams of its client, the client for the results that a
server asks of it. A call that cannot be taken is answered here, with an error. Knows no bytes of the wire, no timers
and no states.

Source: SignalR specification, sections 12 and 18.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from etorox_proto.signalr._errors import LocalProtocolError
from etorox_proto.signalr._events import CancelReceived, InvocationReceived
from etorox_proto.signalr._messages import (
    CancelInvocation,
    Completion,
    HubMessage,
    Invocation,
    StreamInvocation,
)

__all__ = ["Callee"]


class Callee:
    """The calls that the peer has made and that are not answered.

    Args:
        events: where events for the application go.
        outbox: where messages for the peer go; whoever drives the connection takes them from there.
        max_calls: how many calls may await an answer.
    """

    def __init__(self, events: deque[Any], outbox: list[HubMessage], *, max_calls: int) -> None:
        self._events = events
        self._outbox = outbox
        self._max_calls = max_calls
        self._pending: dict[str, bool] = {}

    def receive_call(self, message: Invocation | StreamInvocation) -> None:
        """Take a call of the peer's: tell the application, or refuse."""
        invocation_id, streaming = message.invocation_id, isinstance(message, StreamInvocation)
        if invocation_id is not None:
            refusal = self._refusal(message, invocation_id)
            if refusal is not None:
                self._outbox.append(Completion(invocation_id=invocation_id, error=refusal))
                return
            self._pending[invocation_id] = streaming
        self._events.append(InvocationReceived(message.target, message.arguments, invocation_id, streaming=streaming))

    def receive_cancel(self, message: CancelInvocation) -> None:
        """Take the peer's wish to stop a call; one that is over is ignored."""
        if message.invocation_id in self._pending:
            self._events.append(CancelReceived(message.invocation_id))

    def is_stream(self, invocation_id: str) -> bool:
        """Whether this call, which awaits its completion, is answered with a stream.

        Raises:
            LocalProtocolError: it awaits none.
        """
        try:
            return self._pending[invocation_id]
        except KeyError:
            raise LocalProtocolError(
                f"expected the id of a call that awaits its completion, got {invocation_id!r}"
            ) from None

    def answered(self, invocation_id: str) -> None:
        """The completion of that call is on its way."""
        del self._pending[invocation_id]

    def clear(self) -> None:
        """Forget all calls because the connection ends."""
        self._pending.clear()

    def _refusal(self, message: Invocation | StreamInvocation, invocation_id: str) -> str | None:
        if invocation_id in self._pending:
            return f"Invocation ID '{invocation_id}' is already in use."
        if message.stream_ids:
            return f"Failed to invoke '{message.target}': this server does not take upload streams."
        if len(self._pending) >= self._max_calls:
            return f"Failed to invoke '{message.target}': too many calls are pending."
        return None
