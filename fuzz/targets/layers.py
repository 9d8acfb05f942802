"""The layers by themselves: framing, messages, handshake, keys and market data, against naive counterparts."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation

import msgspec

from etorox_proto import CredentialsError, event_decoder, load_private_key, row_decoder, row_type
from etorox_proto.signalr import (
    HandshakeRefused,
    JsonCodec,
    LengthPrefixReader,
    LimitExceeded,
    MessagePackCodec,
    RecordReader,
    RemoteProtocolError,
    encode_handshake_request,
    parse_handshake_request,
    parse_handshake_response,
)
from targets.runs import LONGEST, chunkings

__all__ = ["framing", "handshake", "json_message", "market", "messagepack_message", "private_key"]


def framing(data: bytes) -> None:
    """Both readers find the records that a naive splitter finds, or fail where it fails, however the bytes are cut."""
    data = data[:LONGEST]
    for limit in (8, 64):
        for chunking in chunkings(range(1, min(len(data), 24))):
            pieces = list(chunking(data))
            assert _read_all(RecordReader(limit), pieces) == _split_records(data, limit)
            assert _read_all(LengthPrefixReader(limit), pieces) == _split_prefixed(data, limit)


def json_message(data: bytes) -> None:
    """Any record decodes or is a RemoteProtocolError; what decodes survives encoding; strict accepts no more."""
    tolerant, strict = JsonCodec(), JsonCodec(strict=True)
    try:
        message = tolerant.decode(data)
    except RemoteProtocolError:
        message = None
    try:
        strict_message = strict.decode(data)
    except RemoteProtocolError:
        strict_message = None
    if message is not None:
        record = tolerant.encode(message)
        assert record.endswith(b"\x1e")
        assert b"\x1e" not in record[:-1]
        assert tolerant.decode(record[:-1]) == message
    if strict_message is not None:
        assert message is not None, "the tolerant codec refuses what the strict one takes"
        assert strict.encode(strict_message) == tolerant.encode(message)


def messagepack_message(data: bytes) -> None:
    """Any record decodes or is a RemoteProtocolError; what decodes survives encoding; strict accepts no more."""
    tolerant, strict = MessagePackCodec(), MessagePackCodec(strict=True)
    try:
        message = tolerant.decode(data)
    except RemoteProtocolError:
        message = None
    try:
        strict_message = strict.decode(data)
    except RemoteProtocolError:
        strict_message = None
    if message is not None:
        (record,) = LengthPrefixReader().feed(tolerant.encode(message))
        again = tolerant.decode(record)
        # Not a number is not equal to itself, and the map keys of a payload may be of any kind: their bytes tell.
        assert tolerant.encode(again) == tolerant.encode(message)
        assert type(again) is type(message)
    if strict_message is not None:
        assert message is not None, "the tolerant codec refuses what the strict one takes"
        assert strict.encode(strict_message) == tolerant.encode(message)


def handshake(data: bytes) -> None:
    """Any record is a handshake or refused with one of the two documented errors; a request survives encoding."""
    try:
        request = parse_handshake_request(data)
    except RemoteProtocolError:
        pass
    else:
        assert parse_handshake_request(encode_handshake_request(request.protocol, request.version)[:-1]) == request
    with contextlib.suppress(RemoteProtocolError, HandshakeRefused):
        parse_handshake_response(data)


def private_key(data: bytes) -> None:
    """Any source gives a key that signs, or a CredentialsError and nothing else, as bytes and as text."""
    for source in (data, data.decode("latin-1")):
        try:
            key = load_private_key(source)
        except CredentialsError:
            continue
        assert len(key.sign(b"payload")) == (key.bits + 7) // 8


def market(data: bytes) -> None:
    """No item that is JSON, with numbers that Python can hold, makes a decoder raise; the rest raises as JSON does."""
    try:
        _plain.decode(data)
    except _NOT_JSON:
        well_formed = False
    else:
        well_formed = True
    for decode in _ITEM_DECODERS:
        try:
            decode(data)
        except _NOT_JSON:
            assert not well_formed, "an item of well-formed JSON was refused"


# ------------------------------------------------------------------------------------ the naive counterparts


def _split_records(data: bytes, limit: int) -> object:
    *whole, rest = data.split(b"\x1e")
    return "limit" if any(len(record) > limit for record in (*whole, rest)) else (whole, rest)


def _split_prefixed(data: bytes, limit: int) -> object:
    whole: list[bytes] = []
    while prefix := re.match(rb"[\x80-\xff]{0,4}[\x00-\x7f]|[\x80-\xff]{5}", data):
        digits = prefix[0]
        if len(digits) == 5 and digits[4] > 7:
            return "malformed"
        length = sum((digit & 0x7F) << 7 * place for place, digit in enumerate(digits))
        if length > limit:
            return "limit"
        if len(data) < len(digits) + length:
            break
        whole.append(data[len(digits) : len(digits) + length])
        data = data[len(digits) + length :]
    return whole, data


def _read_all(reader: RecordReader | LengthPrefixReader, pieces: Iterable[bytes]) -> object:
    found: list[bytes] = []
    try:
        for piece in pieces:
            found += reader.feed(piece)
    except LimitExceeded:
        return "limit"
    except RemoteProtocolError:
        return "malformed"
    return found, reader.incomplete


_plain = msgspec.json.Decoder(float_hook=Decimal)
_NOT_JSON = (msgspec.MsgspecError, UnicodeError, RecursionError, InvalidOperation)
_ITEM_DECODERS: tuple[Callable[[bytes], object], ...] = (
    event_decoder(),
    row_decoder(row_type(["id", "market", "price", "snapshot_id", "something_new", "updated_at"])),
)
