"""`Peer`: what both roles ask of the other side, and what both answer.

Between `Machine`, which is bytes, timers and the end, and the two roles: it owns the `Caller` and the `Callee` and has
the commands that client and server share. How a connection comes about is the business of the roles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from etorox_proto.signalr._call import Call, ItemReader, Upload
from etorox_proto.signalr._callee import Callee
from etorox_proto.signalr._caller import Caller, encode_arguments, hub_headers
from etorox_proto.signalr._codec import Codec
from etorox_proto.signalr._config import HubConfig, ServerConfig
from etorox_proto.signalr._errors import ConnectionFailed, LocalProtocolError
from etorox_proto.signalr._machine import Machine
from etorox_proto.signalr._messages import Completion, HubMessage, Invocation, StreamInvocation
from etorox_proto.signalr._state import State

__all__ = ["Peer", "check_reason"]

Event = TypeVar("Event")


def check_reason(error: object) -> None:
    """Refuse a reason that is no text.

    Raises:
        LocalProtocolError: it is neither text nor None.
    """
    if not (error is None or isinstance(error, str)):
        raise LocalProtocolError(f"expected the reason of a failure as text, got {type(error).__name__}")


class Peer(Machine[Event]):
    """A connection whose two sides call each other; each role adds its inputs and the commands of its own."""

    def __init__(
        self,
        config: HubConfig | ServerConfig,
        state: State,
        codec: Codec,
        *,
        ids: Iterable[str],
        tells_cancel: bool,
        redact: Callable[[str], str],
    ) -> None:
        super().__init__(config, state, codec)
        self._outbox: list[HubMessage] = []
        allowed = config.limits.pending_calls
        self._caller = Caller(
            self._events, self._outbox, ids=ids, max_calls=allowed, tells_cancel=tells_cancel, redact=redact
        )
        self._callee = Callee(self._events, self._outbox, max_calls=allowed, takes_uploads=not tells_cancel)

    @property
    def pending_calls(self) -> int:
        """How many calls and streams of ours are not settled."""
        return len(self._caller)

    # ---------------------------------------------------------------------------------- the application asks

    def cancel(self, call: Call, *, now: float) -> None:
        """Stop waiting for a call or stream; a client also tells the server to stop, which no server can do.

        Its `Completed` with `CallCancelled` is there at once, behind the items received before; what the other side
        still sends for it is dropped. Cancelling a settled call does nothing.
        """
        self._caller.cancel(call)
        self._post(now, is_answer=False)

    def complete(
        self, invocation_id: str, *, result: Any = msgspec.UNSET, error: str | None = None, now: float
    ) -> None:
        """Answer a call of the other side's, or end a stream that it asked for.

        Args:
            invocation_id: of an `InvocationReceived` that has not been completed.
            result: anything msgspec can encode; not for a stream. Left out, the completion is void.
            error: the reason of a failure, shown to the other side.
            now: seconds.

        Raises:
            LocalProtocolError: that id awaits no completion, or not this one; nothing was sent.
        """
        self._check_connected("complete")
        streaming = self._callee.is_stream(invocation_id)
        check_reason(error)
        if result is not msgspec.UNSET and (streaming or error is not None):
            raise LocalProtocolError(
                "expected a completion with a result or an error, and none with a result for a stream"
            )
        payload = result if result is msgspec.UNSET else self._codec.encode_payload(result, "the result")
        self._queue(Completion(invocation_id=invocation_id, result=payload, error=error))
        self._callee.answered(invocation_id)
        self._sent(now)

    # --------------------------------------------------------------------------------------------- sending

    def _call(
        self,
        target: str,
        arguments: Sequence[Any],
        decode: Callable[[msgspec.Raw], Any],
        headers: Mapping[str, str] | None,
        *,
        streaming: bool = False,
        reader: ItemReader | None = None,
        uploads: int = 0,
        now: float,
    ) -> Call:
        """Call a method; for the arguments and errors see the commands of the roles."""
        self._check_connected("stream" if streaming else "invoke")
        self._caller.check_room(calls=1, uploads=uploads)
        *stream_ids, invocation_id = self._caller.ids.peek(uploads + 1)
        kind = StreamInvocation if streaming else Invocation
        message = kind(
            invocation_id=invocation_id,
            target=target,
            arguments=encode_arguments(self._codec, target, arguments),
            stream_ids=stream_ids,
            headers=hub_headers(headers),
        )
        self._queue(message)
        streams = tuple(Upload(stream_id, target) for stream_id in stream_ids)
        call = Call(
            invocation_id,
            target,
            streaming=streaming,
            decode=decode,
            reader=reader,
            number=self._numbered,
            uploads=streams,
        )
        self._caller.enter_uploads(streams)
        self._caller.enter(call)
        self._sent(now)
        return call

    def _tell(
        self,
        target: str,
        arguments: Sequence[Any],
        headers: Mapping[str, str] | None,
        *,
        uploads: int = 0,
        now: float,
    ) -> tuple[Upload, ...]:
        """Call a method without asking for an answer."""
        self._check_connected("send")
        stream_ids: list[str] = []
        if uploads != 0:
            self._caller.check_room(calls=0, uploads=uploads)
            stream_ids = self._caller.ids.peek(uploads)
        checked = encode_arguments(self._codec, target, arguments)
        self._queue(Invocation(target=target, arguments=checked, stream_ids=stream_ids, headers=hub_headers(headers)))
        self._sent(now)
        if not stream_ids:
            return ()
        streams = tuple(Upload(stream_id, target) for stream_id in stream_ids)
        self._caller.enter_uploads(streams)
        return streams

    def _post(self, now: float, *, is_answer: bool = True) -> None:
        """Send what `Caller` and `Callee` have to say, by default because of what the other side has sent."""
        if self._outbox:
            for message in self._outbox:
                self._write_counted(self._codec.encode(message), is_answer=is_answer)
            self._outbox.clear()
            self._sent(now)

    # --------------------------------------------------------------------------------------------- the end

    def _settle(self, reason: ConnectionFailed | None, *, still_flushed: bool) -> None:
        self._caller.lose(reason, lambda call: call.number > self._handed_out and not still_flushed)
        self._callee.clear()
