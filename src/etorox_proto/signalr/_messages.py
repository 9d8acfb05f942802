"""The nine hub messages, whatever their encoding.

Each message is a Struct whose fields carry the names of the specification. `_json` reads and writes them as they are,
`_messagepack` as arrays. Payloads (`StreamItem.item`, `Completion.result`) stay undecoded, as `msgspec.Raw`, because
only the caller of the stream knows their type: an item is decoded once, straight into it.

Source: SignalR hub protocol, "Message types".
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

__all__ = [
    "Ack",
    "CancelInvocation",
    "Close",
    "Completion",
    "Counted",
    "HubMessage",
    "Invocation",
    "Ping",
    "Sequence",
    "StreamInvocation",
    "StreamItem",
    "UnknownMessage",
]


class _Message(Struct, frozen=True, kw_only=True, tag_field="type", rename="camel", omit_defaults=True):
    """What all messages share: on the wire, `type` tells them apart."""


class Counted(_Message, frozen=True, kw_only=True):
    """What calls consist of: the messages that stateful reconnect numbers and sends again; no others."""

    headers: dict[str, str] = {}


class _Targeted(Counted, frozen=True, kw_only=True):
    target: str
    arguments: list[Any]
    stream_ids: list[str] = []

    def __repr__(self) -> str:
        # Arguments may be credentials.
        return f"<{type(self).__name__} of {self.target!r}>"


class Invocation(_Targeted, frozen=True, kw_only=True, tag=1):
    """Asks the callee to run a method. Without `invocation_id` it is non-blocking and must never be answered."""

    invocation_id: str | None = None


class StreamItem(Counted, frozen=True, kw_only=True, tag=2):
    """One item of a stream; `item` is undecoded."""

    invocation_id: str
    item: Raw


class Completion(Counted, frozen=True, kw_only=True, tag=3):
    """The last message of an id: `error`, or `result` (undecoded), or neither. A result of null is a result."""

    invocation_id: str
    result: Raw | UnsetType = UNSET
    error: str | None = None


class StreamInvocation(_Targeted, frozen=True, kw_only=True, tag=4):
    """Asks the callee to run a method that answers with a stream of items."""

    invocation_id: str


class CancelInvocation(Counted, frozen=True, kw_only=True, tag=5):
    """Asks the callee to stop a call or stream."""

    invocation_id: str


class Ping(_Message, frozen=True, kw_only=True, tag=6):
    """Says that the sender is alive; never answered."""


class Close(_Message, frozen=True, kw_only=True, tag=7):
    """Says that the sender is about to close. `error` may be `""`, which is still an error text."""

    error: str | None = None
    allow_reconnect: bool = False


class Ack(_Message, frozen=True, kw_only=True, tag=8):
    """Stateful reconnect: the number of the last message received."""

    sequence_id: int


class Sequence(_Message, frozen=True, kw_only=True, tag=9):
    """Stateful reconnect: the number of the message that follows."""

    sequence_id: int


class UnknownMessage(msgspec.Struct, frozen=True):
    """A message of a type that this version of the protocol does not have; it is to be ignored."""

    type: int


HubMessage = (
    Invocation
    | StreamItem
    | Completion
    | StreamInvocation
    | CancelInvocation
    | Ping
    | Close
    | Ack
    | Sequence
    | UnknownMessage
)
