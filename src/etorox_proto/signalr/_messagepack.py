"""The MessagePack encoding of hub messages, and of the payloads inside them.

The binary counterpart of `_json`, with the same face: reads one record into one `HubMessage`, and writes one message
with its length before it. A message is an array whose first element is its type. Reading takes integers of any width,
ignores elements behind those that it knows, unless the codec is strict, and refuses an array that is shorter than it
says before anything of that size is made. Knows no state; both roles use it.

Numbers: an integer is an `int` (of at most 64 bits, which is what MessagePack has); a float is a `float`, for it is one
on the wire; text stays text. Where `Decimal` is asked for, text and integers give it digit for digit, and a float the
shortest digits that are read back as the same float of 64 bits. `Decimal` is written as text, as .NET does.

Source: SignalR hub protocol, "MessagePack encoding".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Union

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from etorox_proto.signalr._decoding import MALFORMED, describe, strict_types, unknown_type
from etorox_proto.signalr._errors import LocalProtocolError, RemoteProtocolError
from etorox_proto.signalr._framing import LengthPrefixReader, length_prefixed
from etorox_proto.signalr._messages import (
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HubMessage,
    Invocation,
    Ping,
    Sequence,
    StreamInvocation,
    StreamItem,
    UnknownMessage,
)

__all__ = ["MessagePackCodec"]

# What kind of outcome a Completion tells.
_ERROR, _VOID, _RESULT = 1, 2, 3


class _Array(Struct, frozen=True, array_like=True):
    """A message as it stands on the wire; the type comes first, as the tag."""


class _Invocation(_Array, frozen=True, tag=1):
    headers: dict[str, str]
    invocation_id: str | None
    target: str
    arguments: list[Any]
    stream_ids: list[str] = []


class _StreamItem(_Array, frozen=True, tag=2):
    headers: dict[str, str]
    invocation_id: str
    item: Raw


class _Completion(_Array, frozen=True, tag=3):
    headers: dict[str, str]
    invocation_id: str
    kind: int
    value: Raw | UnsetType = UNSET


class _StreamInvocation(_Array, frozen=True, tag=4):
    headers: dict[str, str]
    invocation_id: str
    target: str
    arguments: list[Any]
    stream_ids: list[str] = []


class _CancelInvocation(_Array, frozen=True, tag=5):
    headers: dict[str, str]
    invocation_id: str


class _Ping(_Array, frozen=True, tag=6):
    pass


class _Close(_Array, frozen=True, tag=7):
    error: str | None
    allow_reconnect: bool = False


class _Ack(_Array, frozen=True, tag=8):
    sequence_id: int


class _Sequence(_Array, frozen=True, tag=9):
    sequence_id: int


class _TypeOnly(Struct, array_like=True):
    type: int


_TYPES = (
    _Invocation,
    _StreamItem,
    _Completion,
    _StreamInvocation,
    _CancelInvocation,
    _Ping,
    _Close,
    _Ack,
    _Sequence,
)
_STRICT_TYPES = strict_types(_TYPES)
_KNOWN = frozenset(t.__struct_config__.tag for t in _TYPES)

_encoder = msgspec.msgpack.Encoder()
_plain = msgspec.msgpack.Decoder()
_text = msgspec.msgpack.Decoder(str)
_type_only = msgspec.msgpack.Decoder(_TypeOnly)


class MessagePackCodec:
    """Reads and writes hub messages as MessagePack.

    Args:
        strict: refuse unknown message types and surplus elements instead of ignoring them.
    """

    name = "messagepack"
    transfer_format = "Binary"
    binary = True
    null = b"\xc0"

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        # A union built at run time is beyond a static checker, hence the annotation.
        union: Any = Union[_STRICT_TYPES if strict else _TYPES]  # noqa: UP007
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(union)

    def reader(self, max_record: int) -> LengthPrefixReader:
        """A reader that finds the records of this encoding, of at most so many bytes."""
        return LengthPrefixReader(max_record)

    def encode(self, message: HubMessage) -> bytes:
        """The message with its length prefix."""
        return length_prefixed(_encoder.encode(_elements(message)))

    def decode(self, record: bytes) -> HubMessage:
        """Read one record, without its prefix.

        Raises:
            RemoteProtocolError: the record is no hub message.
        """
        try:
            _check_lengths(record)
            message = self._decoder.decode(record)
        except MALFORMED as error:
            return UnknownMessage(
                unknown_type(record, error, _type_only.decode, _KNOWN, encoding="MessagePack", strict=self._strict)
            )
        if self._strict and isinstance(message, _Completion) and message.kind == _VOID and message.value is not UNSET:
            raise RemoteProtocolError("a void Completion without a value", "one with a value")
        return _checked(message)

    def encode_payload(self, value: Any, what: str) -> Raw:
        """An argument, item or result as MessagePack.

        Args:
            value: anything that msgspec can encode; a `msgspec.Raw` holds one value in MessagePack and is sent as it
                is.
            what: what the value is, for the error.

        Raises:
            LocalProtocolError: it cannot be encoded.
        """
        try:
            payload = _encoder.encode(value)
            if isinstance(value, Raw):
                # Whatever is wrong in there would spoil the message around it.
                _check_lengths(payload)
                _plain.decode(payload)
        except (TypeError, *MALFORMED) as error:
            raise LocalProtocolError(f"{what} cannot be written as MessagePack: {describe(error)}") from None
        return Raw(payload)

    def payload_decoder(self, result_type: Any) -> Callable[[Raw], Any]:
        """A function from a payload to a value of this type.

        Args:
            result_type: any type that msgspec can decode. `Any` gives plain values: dict, list, str, bytes, int, float,
                bool, None, `datetime` for timestamps (to the microsecond), `msgspec.msgpack.Ext` for other extensions.

        Raises:
            LocalProtocolError: msgspec cannot decode that type.
        """
        try:
            return msgspec.msgpack.Decoder(result_type).decode
        except (TypeError, ValueError) as error:
            raise LocalProtocolError(f"expected a type that msgspec can decode: {error}") from error


def _elements(message: HubMessage) -> list[Any]:
    match message:
        case Invocation():
            head = [1, message.headers, message.invocation_id, message.target]
            return [*head, message.arguments, message.stream_ids]
        case StreamItem():
            return [2, message.headers, message.invocation_id, message.item]
        case Completion(error=str() as error):
            return [3, message.headers, message.invocation_id, _ERROR, error]
        case Completion(result=Raw() as result):
            return [3, message.headers, message.invocation_id, _RESULT, result]
        case Completion():
            return [3, message.headers, message.invocation_id, _VOID]
        case StreamInvocation():
            head = [4, message.headers, message.invocation_id, message.target]
            return [*head, message.arguments, message.stream_ids]
        case CancelInvocation():
            return [5, message.headers, message.invocation_id]
        case Ping():
            return [6]
        case Close():
            return [7, message.error, message.allow_reconnect]
        case Ack():
            return [8, message.sequence_id]
        case Sequence():
            return [9, message.sequence_id]
        case UnknownMessage():
            return [message.type]


def _checked(message: Any) -> HubMessage:
    """The message behind the elements, once what msgspec cannot check is checked."""
    match message:
        case _Invocation(headers, invocation_id, target, arguments, stream_ids):
            return Invocation(
                # To .NET an empty id is no id.
                invocation_id=invocation_id or None,
                target=target,
                arguments=arguments,
                stream_ids=stream_ids,
                headers=headers,
            )
        case _Close(error, allow_reconnect):
            return Close(error=error, allow_reconnect=allow_reconnect)
        case _Ping():
            return Ping()
        case _Ack(sequence_id):
            return Ack(sequence_id=sequence_id)
        case _Sequence(sequence_id):
            return Sequence(sequence_id=sequence_id)
        case _:
            return _checked_with_id(message)


def _checked_with_id(message: Any) -> HubMessage:
    if not message.invocation_id:
        raise RemoteProtocolError("an invocationId that is not empty", "an empty one")
    match message:
        case _StreamItem(headers, invocation_id, item):
            return StreamItem(invocation_id=invocation_id, item=item, headers=headers)
        case _StreamInvocation(headers, invocation_id, target, arguments, stream_ids):
            return StreamInvocation(
                invocation_id=invocation_id, target=target, arguments=arguments, stream_ids=stream_ids, headers=headers
            )
        case _CancelInvocation(headers, invocation_id):
            return CancelInvocation(invocation_id=invocation_id, headers=headers)
        case _Completion():
            return _completion(message)
        case _:
            raise AssertionError("every type of message has its case")


def _completion(message: _Completion) -> Completion:
    invocation_id, headers = message.invocation_id, message.headers
    match message.kind, message.value:
        case 2, _:
            return Completion(invocation_id=invocation_id, headers=headers)
        case 3, Raw() as result:
            return Completion(invocation_id=invocation_id, result=result, headers=headers)
        case 1, Raw() as value:
            try:
                return Completion(invocation_id=invocation_id, error=_text.decode(value), headers=headers)
            except MALFORMED as error:
                raise RemoteProtocolError("a Completion whose error is text", describe(error)) from None
        case 1 | 3, _:
            raise RemoteProtocolError("a Completion with the result or error that it announces", "one without")
        case kind, _:
            raise RemoteProtocolError("a Completion of kind 1 (error), 2 (void) or 3 (result)", f"kind {kind}")


# How many bytes stand between the first byte of a value and the next value, for those of one size.
_FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_FIXED |= {0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
# The same for those that tell their length: how many bytes tell it, and how many follow besides.
_SIZED = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)}
_SIZED |= {0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)}
# How many bytes tell the number of elements, and how many values one element is.
_NESTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def _check_lengths(data: bytes) -> None:
    """Refuse arrays that announce more elements than there can be: a decoder makes room for them at once.

    Only arrays of 16 elements and more matter; where no byte can begin one, there is nothing to look at.

    Raises:
        ValueError: taken together, there are more values announced than bytes left for them.
    """
    if b"\xdc" not in data and b"\xdd" not in data:
        return
    at, expected, length = 0, 1, len(data)
    while expected:
        if expected > length - at:
            raise ValueError("an array longer than its message")
        first = data[at]
        at += 1
        expected -= 1
        if first in _FIXED:
            at += _FIXED[first]
        elif 0xA0 <= first <= 0xBF:
            at += first & 0x1F
        elif 0x80 <= first <= 0x9F:
            expected += (first & 0x0F) * (1 if first & 0x10 else 2)
        elif first in _SIZED:
            size, more = _SIZED[first]
            at += size + more + int.from_bytes(data[at : at + size])
        elif first in _NESTED:
            size, values = _NESTED[first]
            expected += values * int.from_bytes(data[at : at + size])
            at += size
