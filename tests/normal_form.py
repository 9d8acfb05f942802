"""Hub messages in the vectors' normal form, and back; see `data/vectors/README.md`. Used for both encodings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from etorox_proto.signalr import (
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HubMessage,
    Invocation,
    JsonCodec,
    MessagePackCodec,
    Ping,
    Sequence,
    StreamInvocation,
    StreamItem,
    UnknownMessage,
)
from vectors import Case

__all__ = ["built", "normal"]


def normal(message: HubMessage, read: Callable[[bytes], Any]) -> Case | None:
    """A message in normal form, its payloads read so; None where there is nothing to report."""

    def payload(value: msgspec.Raw | msgspec.UnsetType) -> Any:
        return None if isinstance(value, msgspec.UnsetType) else read(bytes(value))

    match message:
        case Invocation() | StreamInvocation():
            return {
                "type": "invocation" if isinstance(message, Invocation) else "stream_invocation",
                "invocation_id": message.invocation_id,
                "target": message.target,
                "arguments": message.arguments,
                "stream_ids": message.stream_ids,
                "headers": message.headers,
            }
        case StreamItem():
            item = payload(message.item)
            return {
                "type": "stream_item",
                "invocation_id": message.invocation_id,
                "item": item,
                "headers": message.headers,
            }
        case Completion():
            return {
                "type": "completion",
                "invocation_id": message.invocation_id,
                "error": message.error,
                "has_result": not isinstance(message.result, msgspec.UnsetType),
                "result": payload(message.result),
                "headers": message.headers,
            }
        case CancelInvocation():
            return {
                "type": "cancel_invocation",
                "invocation_id": message.invocation_id,
                "headers": message.headers,
            }
        case Ping():
            return {"type": "ping"}
        case Close():
            return {"type": "close", "error": message.error, "allow_reconnect": message.allow_reconnect}
        case Ack() | Sequence():
            return {"type": type(message).__name__.lower(), "sequence_id": message.sequence_id}
        case UnknownMessage():
            return None


KINDS: dict[str, type[HubMessage]] = {
    "invocation": Invocation,
    "stream_invocation": StreamInvocation,
    "stream_item": StreamItem,
    "completion": Completion,
    "cancel_invocation": CancelInvocation,
    "ping": Ping,
    "close": Close,
    "ack": Ack,
    "sequence": Sequence,
}


def built(message: Case, codec: JsonCodec | MessagePackCodec) -> HubMessage:
    """The message of a case that is in normal form, its payloads in the codec's encoding."""
    fields = {name: value for name, value in message.items() if name != "type"}
    if "item" in fields:
        fields["item"] = codec.encode_payload(fields["item"], "the item")
    if "has_result" in fields:
        result = codec.encode_payload(fields["result"], "the result")
        fields["result"] = result if fields.pop("has_result") else msgspec.UNSET
    return KINDS[message["type"]](**fields)
