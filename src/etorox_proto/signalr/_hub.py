"""The rules of hub messages on a client: calls, items, completions, and what to do with the rest.

Takes one message after the other and appends to two queues: `events` for the application and `output` for the server.
Every call settles exactly once, because its `Completed` is made in the moment it leaves the `CallTable`. Knows no bytes
of the wire, no timers and no states; `HubConnection` owns one `Hub` and hands it messages once it is connected.

Source: SignalR specification, sections 9 and 12.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, assert_never

import msgspec

from etorox_proto.signalr._call import Call, CallTable
from etorox_proto.signalr._codec import Codec
from etorox_proto.signalr._errors import (
    CallCancelled,
    CallError,
    CallLost,
    ConnectionFailed,
    HubError,
    LocalProtocolError,
    RemoteProtocolError,
    ServerClosed,
    UnexpectedResult,
)
from etorox_proto.signalr._events import Completed, HubEvent, InvocationReceived, ItemReceived
from etorox_proto.signalr._json import describe
from etorox_proto.signalr._messages import (
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HubMessage,
    Invocation,
    Ping,
    StreamInvocation,
    StreamItem,
    UnknownMessage,
)
from etorox_proto.signalr._messages import Sequence as SequenceMessage

__all__ = ["Hub", "encode_arguments", "hub_headers"]


class Hub:
    """The calls of one connection.

    Args:
        events: where events for the application go.
        max_calls: how many calls may be unsettled.
        codec: the connection's encoding.
        strict: treat what a tolerant client ignores as the server's error.
        redact: takes this connection's secrets out of a text of the server.

    Attributes:
        output: messages for the server, in order; whoever drives the hub takes them from there.
        ignored: how many messages were ignored, by reason.
        calls: the unsettled calls.
    """

    def __init__(
        self, events: deque[HubEvent], *, max_calls: int, codec: Codec, strict: bool, redact: Callable[[str], str]
    ) -> None:
        self._codec = codec
        self._redact = redact
        self._events = events
        self._strict = strict
        self.calls = CallTable(max_calls)
        self.output: list[HubMessage] = []
        self.ignored: Counter[str] = Counter()

    def call(
        self,
        invocation_id: str | None,
        target: str,
        arguments: Sequence[Any],
        headers: Mapping[str, str] | None,
        *,
        streaming: bool,
    ) -> HubMessage:
        """The message of a new call, all checked; the call itself is entered with `calls.add` once it is queued.

        Raises:
            LocalProtocolError: the id is missing or in use, or target, arguments or headers cannot be sent.
        """
        if not invocation_id or invocation_id in self.calls:
            raise LocalProtocolError(f"expected a fresh invocation id from `ids`, got {invocation_id!r}")
        kind = StreamInvocation if streaming else Invocation
        return kind(
            invocation_id=invocation_id,
            target=target,
            arguments=encode_arguments(self._codec, target, arguments),
            headers=hub_headers(headers),
        )

    def cancel(self, call: Call) -> None:
        """Settle a call as cancelled and tell the server."""
        self._abandon(call, CallCancelled(f"{call.target} was cancelled by the application"))

    def lose(self, reason: ConnectionFailed | None, call_is_unsent: Callable[[Call], bool]) -> None:
        """Settle all calls because the connection ends."""
        for call in self.calls.clear():
            lost = CallLost("not_sent" if call_is_unsent(call) else "maybe_sent")
            lost.__cause__ = reason
            self._events.append(Completed(call, None, lost))

    def receive(self, message: HubMessage) -> None:
        """Take the next message of the server.

        Raises:
            ServerClosed: it was a Close.
            RemoteProtocolError: in strict mode, it is of no use here.
        """
        match message:
            case StreamItem():
                self._receive_item(message)
            case Completion():
                self._receive_completion(message)
            case Invocation():
                self._receive_invocation(message)
            case Ping():
                pass
            case Close():
                raise ServerClosed(message.error, allow_reconnect=message.allow_reconnect)
            case UnknownMessage():
                self.ignored["unknown_type"] += 1
            case StreamInvocation() | CancelInvocation() | Ack() | SequenceMessage():
                self._ignore("unsupported", f"a {type(message).__name__}, which no server sends here")
            case _:
                assert_never(message)

    def _receive_item(self, message: StreamItem) -> None:
        call = self.calls.find(message.invocation_id)
        if call is None:
            self._receive_unknown(message.invocation_id, "StreamItem", last=False)
        elif not call.streaming:
            text = f"expected one result of {call.target}, got a stream item; use stream() for streaming methods"
            self._abandon(call, UnexpectedResult(text))
        else:
            try:
                item = call.decode(message.item)
            except Exception as error:  # noqa: BLE001 - the type is the user's, and so is whatever it raises
                text = f"expected items of {call.target} to fit their type, got one that does not: {describe(error)}"
                self._abandon(call, UnexpectedResult(text))
            else:
                self._events.append(ItemReceived(call, item))

    def _receive_completion(self, message: Completion) -> None:
        call = self.calls.find(message.invocation_id)
        if call is None:
            self._receive_unknown(message.invocation_id, "Completion", last=True)
            return
        result: Any = None
        error: CallError | None = None
        if message.error is not None:
            error = HubError(self._redact(message.error))
        elif isinstance(message.result, msgspec.Raw) and bytes(message.result) != self._codec.null:
            if call.streaming:
                error = UnexpectedResult(f"expected the stream of {call.target} to end without a result, got one")
            else:
                try:
                    result = call.decode(message.result)
                except Exception as failure:  # noqa: BLE001 - see _receive_item
                    text = f"expected the result of {call.target} to fit its type, got one that does not"
                    error = UnexpectedResult(f"{text}: {describe(failure)}")
        self.calls.settle(call)
        self._events.append(Completed(call, result, error))

    def _receive_invocation(self, message: Invocation) -> None:
        self._events.append(InvocationReceived(message.target, message.arguments, None, streaming=False))
        if message.invocation_id is not None:
            # The server waits for an answer, and an invocation must never stay without one.
            refusal = "This client does not offer results for invocations."
            self.output.append(Completion(invocation_id=message.invocation_id, error=refusal))

    def _receive_unknown(self, invocation_id: str, what: str, *, last: bool) -> None:
        if not self.calls.drain(invocation_id, last=last):
            self._ignore("unknown_id", f"a {what} for an id that is not in use")

    def _abandon(self, call: Call, error: CallError) -> None:
        """Settle a call that the server still works at, and tell it to stop."""
        self.output.append(CancelInvocation(invocation_id=call.invocation_id))
        self.calls.settle_early(call)
        self._events.append(Completed(call, None, error))

    def _ignore(self, reason: str, got: str) -> None:
        if self._strict:
            raise RemoteProtocolError("a message that this connection can use", got)
        self.ignored[reason] += 1


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
