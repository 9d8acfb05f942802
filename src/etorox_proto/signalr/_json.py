"""The JSON encoding of hub messages, and of the payloads inside them.

Reads one record into one `HubMessage`, and writes one message with its separator. Reading checks what the
specification demands and nothing else: unknown types become `UnknownMessage`, unknown properties are skipped; a strict
codec refuses both. Numbers stay exact: where no type is asked for, an integer is an `int` of any size and a number
with a fraction or exponent a `Decimal`. Knows no state; both roles use it.

Source: SignalR hub protocol, "JSON encoding"; the handshake, which is JSON in every encoding, is here too.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Union

import msgspec

from etorox_proto.signalr._decoding import MALFORMED, describe, strict_types, unknown_type
from etorox_proto.signalr._errors import HandshakeRefused, LocalProtocolError, RemoteProtocolError
from etorox_proto.signalr._framing import SEPARATOR, RecordReader
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

__all__ = [
    "HandshakeRequest",
    "JsonCodec",
    "decode_plain",
    "encode_handshake_request",
    "encode_handshake_response",
    "encode_json",
    "json_decoder",
    "parse_handshake_request",
    "parse_handshake_response",
]

_TYPES = (Invocation, StreamItem, Completion, StreamInvocation, CancelInvocation, Ping, Close, Ack, Sequence)
_STRICT_TYPES = strict_types(_TYPES)
_KNOWN = frozenset(t.__struct_config__.tag for t in _TYPES)

_encoder = msgspec.json.Encoder(decimal_format="number")
_plain = msgspec.json.Decoder(float_hook=Decimal)


class _TypeOnly(msgspec.Struct):
    type: int


_type_only = msgspec.json.Decoder(_TypeOnly)


class JsonCodec:
    """Reads and writes hub messages as JSON.

    Args:
        strict: refuse unknown message types and unknown properties instead of ignoring them.
    """

    name = "json"
    transfer_format = "Text"
    binary = False
    null = b"null"

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        types = _STRICT_TYPES if strict else _TYPES
        # A union built at run time is beyond a static checker, hence the annotation.
        union: Any = Union[types]  # noqa: UP007
        self._decoder: msgspec.json.Decoder[HubMessage] = msgspec.json.Decoder(union, float_hook=Decimal)

    def reader(self, max_record: int) -> RecordReader:
        """A reader that finds the records of this encoding, of at most so many bytes."""
        return RecordReader(max_record)

    def encode(self, message: HubMessage) -> bytes:
        """The message with its record separator."""
        return _encoder.encode(message) + SEPARATOR

    def decode(self, record: bytes) -> HubMessage:
        """Read one record, without its separator.

        Raises:
            RemoteProtocolError: the record is no hub message; the error names the property at fault.
        """
        try:
            message = self._decoder.decode(record)
        except MALFORMED as error:
            return UnknownMessage(
                unknown_type(record, error, _type_only.decode, _KNOWN, encoding="JSON", strict=self._strict)
            )
        match message:
            case Invocation(invocation_id=""):
                # To .NET an empty id is no id.
                return msgspec.structs.replace(message, invocation_id=None)
            case (
                StreamItem(invocation_id="")
                | Completion(invocation_id="")
                | StreamInvocation(invocation_id="")
                | CancelInvocation(invocation_id="")
            ):
                raise RemoteProtocolError("an invocationId that is not empty", "an empty one")
            case Completion(error=str(), result=msgspec.Raw() as result) if bytes(result) != b"null":
                raise RemoteProtocolError("a Completion with a result or an error", "one with both")
        return message

    def encode_payload(self, value: Any, what: str) -> msgspec.Raw:
        """An argument, item or result as JSON; see `encode_json`."""
        return encode_json(value, what)

    def payload_decoder(self, result_type: Any) -> Callable[[msgspec.Raw], Any]:
        """A function from a payload to a value of this type.

        Args:
            result_type: any type that msgspec can decode; `Any` gives plain values with exact numbers.

        Raises:
            LocalProtocolError: msgspec cannot decode that type.
        """
        return json_decoder(result_type)


class HandshakeRequest(msgspec.Struct, frozen=True):
    """The first message of a client: which hub protocol it will speak."""

    protocol: str
    version: int


class _HandshakeResponse(msgspec.Struct, omit_defaults=True):
    error: str | None = None
    type: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_handshake_request = msgspec.json.Decoder(HandshakeRequest)
_handshake_response = msgspec.json.Decoder(_HandshakeResponse)


def encode_handshake_request(protocol: str, version: int) -> bytes:
    """The client's handshake with its record separator."""
    return _encoder.encode(HandshakeRequest(protocol, version)) + SEPARATOR


def encode_handshake_response(error: str | None = None) -> bytes:
    """The server's handshake with its record separator: acceptance, or the reason of a refusal."""
    return _encoder.encode(_HandshakeResponse(error)) + SEPARATOR


def parse_handshake_request(record: bytes) -> HandshakeRequest:
    """Read a client's handshake.

    Raises:
        RemoteProtocolError: it is none; the error names the property at fault.
    """
    try:
        return _handshake_request.decode(record)
    except MALFORMED as error:
        raise RemoteProtocolError("a handshake request", describe(error)) from None


def parse_handshake_response(record: bytes) -> None:
    """Read a server's handshake; return if it accepts.

    Raises:
        HandshakeRefused: the server refused, and this is its text.
        RemoteProtocolError: the record is no handshake response, such as a hub message that came too early.
    """
    try:
        response = _handshake_response.decode(record)
    except MALFORMED as error:
        raise RemoteProtocolError("a handshake response", describe(error)) from None
    if response.type is not msgspec.UNSET:
        raise RemoteProtocolError("a handshake response", "a hub message (it has a type)")
    if response.error is not None:
        raise HandshakeRefused(f"the server refused the handshake: {response.error or '(it gave no reason)'}")


def json_decoder(result_type: Any) -> Callable[[msgspec.Raw], Any]:
    """A function from a payload to a value of this type.

    Args:
        result_type: any type that msgspec can decode; `Any` gives plain values with exact numbers.

    Raises:
        LocalProtocolError: msgspec cannot decode that type.
    """
    if result_type is Any:
        return decode_plain
    try:
        return msgspec.json.Decoder(result_type, float_hook=Decimal).decode
    except (TypeError, ValueError) as error:
        raise LocalProtocolError(f"expected a type that msgspec can decode: {error}") from error


def decode_plain(payload: msgspec.Raw | bytes) -> Any:
    """The payload as plain values: dict, list, str, int, Decimal, bool, None."""
    return _plain.decode(payload)


def encode_json(value: Any, what: str) -> msgspec.Raw:
    """A payload as JSON; `Decimal` is written as a number, digit for digit.

    Args:
        value: anything that msgspec can encode; a `msgspec.Raw` is taken as it is.
        what: what the value is, for the error.

    Raises:
        LocalProtocolError: it cannot be encoded.
    """
    try:
        payload = _encoder.encode(value)
        if b"NaN" in payload or b"Infinity" in payload:
            # Decimal has both and JSON neither; decoding finds out whether they stand outside a string.
            _plain.decode(payload)
    except (TypeError, *MALFORMED) as error:
        raise LocalProtocolError(f"{what} cannot be written as JSON: {describe(error)}") from None
    return msgspec.Raw(payload)
