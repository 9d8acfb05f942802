"""Our calls to the peer: what is asked, what comes back, and that every call settles exactly once.

Both roles own one `Caller`: the client for its calls and streams, the server for the results that it asks of a client.
It takes the items and completions that answer them, and knows which uploads are open. Every call settles once, because
its `Completed` is made in the moment it leaves the `CallTable`. Knows no bytes of the wire, no timers and no states.

Source: SignalR specification, section 12.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from etorox_proto.signalr._call import Call, CallTable, InvocationIds, Upload
from etorox_proto.signalr._codec import Codec
from etorox_proto.signalr._decoding import describe
from etorox_proto.signalr._errors import (
    CallCancelled,
    CallError,
    CallLost,
    ConnectionFailed,
    HubError,
    LocalProtocolError,
    UnexpectedResult,
)
from etorox_proto.signalr._events import Completed
from etorox_proto.signalr._messages import CancelInvocation, Completion, HubMessage, StreamItem
from etorox_proto.signalr._shortcut import deliver_items

__all__ = ["Caller", "encode_arguments", "hub_headers"]

UPLOAD_GIVEN_UP = "The call was given up by the client."


class Caller:
    """The calls of one side of a connection.

    Args:
        events: where events for the application go.
        outbox: where messages for the peer go; whoever drives the connection takes them from there.
        ids: the invocation ids to use, in order.
        max_calls: how many calls may be unsettled, and how many uploads open.
        tells_cancel: whether the peer is told to stop; a client cannot be, for the protocol has no such message.
        redact: takes this connection's secrets out of a text of the peer.
    """

    def __init__(
        self,
        events: deque[Any],
        outbox: list[HubMessage],
        *,
        ids: Iterable[str],
        max_calls: int,
        tells_cancel: bool,
        redact: Callable[[str], str],
    ) -> None:
        self._events = events
        self._outbox = outbox
        self._max_calls = max_calls
        self._tells_cancel = tells_cancel
        self._redact = redact
        self._calls = CallTable(max_calls)
        self._uploads: dict[str, Upload] = {}
        self.ids = InvocationIds(ids, self.__contains__)

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, invocation_id: object) -> bool:
        return invocation_id in self._calls or invocation_id in self._uploads

    def find(self, invocation_id: str) -> Call | None:
        """The unsettled call of that id."""
        return self._calls.find(invocation_id)

    def count_settled(self) -> int:
        """How many calls have been settled until now."""
        return self._calls.settled

    def check_room(self, *, calls: int, uploads: int) -> None:
        """Refuse what is beyond the limits.

        Raises:
            LocalProtocolError: there are as many as may be, or that is no number of uploads.
        """
        if len(self._calls) + calls > self._max_calls:
            raise LocalProtocolError(
                f"expected at most {self._max_calls} pending calls (Limits.pending_calls), got one more"
            )
        if not isinstance(uploads, int) or uploads < 0:
            raise LocalProtocolError(f"expected a number of uploads, got {uploads!r}")
        if len(self._uploads) + uploads > self._max_calls:
            raise LocalProtocolError(
                f"expected at most {self._max_calls} open uploads (Limits.pending_calls), got more"
            )

    def enter(self, call: Call) -> None:
        """The call has been queued; it is to be settled from now on."""
        self.ids.spend(1)
        self._calls.add(call)

    def enter_uploads(self, uploads: Iterable[Upload]) -> None:
        """The call of these uploads has been queued; items may follow."""
        for upload in uploads:
            self.ids.spend(1)
            self._uploads[upload.stream_id] = upload

    def is_wanted(self, upload: Upload) -> bool:
        """Whether anyone takes what is sent for this upload; not so once its call is over.

        Raises:
            LocalProtocolError: the application has ended it, or it is another connection's.
        """
        if upload.is_ended:
            raise LocalProtocolError(f"expected an upload that is open, got one that was ended: {upload!r}")
        if upload.is_open and self._uploads.get(upload.stream_id) is not upload:
            raise LocalProtocolError(f"expected an upload of this connection, got {upload!r}")
        return upload.is_open

    def end(self, upload: Upload) -> None:
        """The end of the upload has been queued."""
        upload.is_ended = True
        self._shut(upload)

    def cancel(self, call: Call) -> None:
        """Settle a call as cancelled, unless it is settled."""
        if self._calls.holds(call):
            self._abandon(call, CallCancelled(f"{call.target} was cancelled by the application"))

    def lose(self, reason: ConnectionFailed | None, call_is_unsent: Callable[[Call], bool]) -> None:
        """Settle all calls because the connection ends."""
        for upload in [*self._uploads.values()]:
            self._shut(upload)
        for call in self._calls.clear():
            lost = CallLost("not_sent" if call_is_unsent(call) else "maybe_sent")
            lost.__cause__ = reason
            self._events.append(Completed(call, None, lost))

    def receive_item(self, message: StreamItem) -> bool:
        """Take an item of the peer's; whether it was for a call of ours, be it one settled early."""
        call = self._calls.find(message.invocation_id)
        if call is None:
            return self._calls.drain(message.invocation_id, last=False)
        if not call.streaming:
            text = f"expected one result of {call.target}, got a stream item; use stream() for streaming methods"
            self._abandon(call, UnexpectedResult(text))
            return True
        try:
            item = call.decode(message.item)
        except Exception as error:  # noqa: BLE001 - the type is the user's, and so is whatever it raises
            text = f"expected items of {call.target} to fit their type, got one that does not: {describe(error)}"
            self._abandon(call, UnexpectedResult(text))
        else:
            deliver_items(self._events, call, [item])
        return True

    def receive_completion(self, message: Completion, null: bytes) -> bool:
        """Take a completion of the peer's; whether it was for a call of ours, be it one settled early.

        Args:
            message: the completion.
            null: how the connection's encoding writes no value.
        """
        call = self._calls.find(message.invocation_id)
        if call is None:
            return self._calls.drain(message.invocation_id, last=True)
        result: Any = None
        error: CallError | None = None
        if message.error is not None:
            error = HubError(self._redact(message.error))
        elif isinstance(message.result, msgspec.Raw) and bytes(message.result) != null:
            if call.streaming:
                error = UnexpectedResult(f"expected the stream of {call.target} to end without a result, got one")
            else:
                try:
                    result = call.decode(message.result)
                except Exception as failure:  # noqa: BLE001 - see receive_item
                    text = f"expected the result of {call.target} to fit its type, got one that does not"
                    error = UnexpectedResult(f"{text}: {describe(failure)}")
        self._calls.settle(call)
        # The server takes no more, and needs not be told what it has decided itself.
        for upload in call.uploads:
            self._shut(upload)
        self._events.append(Completed(call, result, error))
        return True

    def _abandon(self, call: Call, error: CallError) -> None:
        """Settle a call that the peer still works at, and tell it to stop."""
        for upload in call.uploads:
            if upload.is_open:
                # A method that reads it would wait for ever, for not every server hands a cancel on.
                self._outbox.append(Completion(invocation_id=upload.stream_id, error=UPLOAD_GIVEN_UP))
                self._shut(upload)
        if self._tells_cancel:
            self._outbox.append(CancelInvocation(invocation_id=call.invocation_id))
        self._calls.settle_early(call)
        self._events.append(Completed(call, None, error))

    def _shut(self, upload: Upload) -> None:
        upload.is_open = False
        self._uploads.pop(upload.stream_id, None)


def encode_arguments(codec: Codec, target: object, arguments: object) -> list[Any]:
    """The arguments of a call in the connection's encoding.

    Raises:
        LocalProtocolError: there is no target, or an argument cannot be encoded.
    """
    if not isinstance(target, str) or not target:
        raise LocalProtocolError(f"expected the name of a method, got {target!r}")
    if isinstance(arguments, str | bytes) or not isinstance(arguments, Sequence):
        raise LocalProtocolError(f"expected a sequence of arguments for {target}, got {type(arguments).__name__}")
    return [
        codec.encode_payload(argument, f"argument {number} of {target}") for number, argument in enumerate(arguments, 1)
    ]


def hub_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """The headers of a hub message.

    Raises:
        LocalProtocolError: they are not strings by strings.
    """
    checked: dict[Any, Any] = dict(headers or {})
    if not all(isinstance(text, str) for pair in checked.items() for text in pair):
        raise LocalProtocolError("expected hub headers to be strings by strings")
    return checked
