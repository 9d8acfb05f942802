"""What we read, against what others read: wsproto's frames, the standard library's JSON, msgpack's MessagePack.

Where both may rightly differ, the comment says why.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from etorox_proto.signalr import JsonCodec, LocalProtocolError, MessagePackCodec, RemoteProtocolError, UnknownMessage
from targets.runs import LIMITS, LONGEST, connected, play, whole

__all__ = ["frames_as_wsproto", "json_as_library", "messagepack_as_msgpack"]


def frames_as_wsproto(data: bytes) -> None:
    """A client makes of any frames what it makes of the messages that wsproto finds in them, byte by byte."""
    data = data[:LONGEST]
    assert play(connected(), data, whole) == play(connected(), b"".join(_reframed(data)), whole)


def _reframed(data: bytes) -> Iterator[bytes]:
    """Each message in two fragments, which are never read by index; then what ended it, in a frame of one kind."""
    limit, message = LIMITS.websocket_message, b""
    reader = Connection(ConnectionType.CLIENT)
    for byte in data:
        reader.receive_data(bytes([byte]))
        for event in reader.events():
            match event:
                case TextMessage() | BytesMessage():
                    message += event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
                    if len(message) > limit:
                        yield _fragment(0x82, bytes(limit + 1))
                        return
                    if event.message_finished:
                        middle = len(message) // 2
                        yield _fragment(0x02, message[:middle]) + _fragment(0x80, message[middle:])
                        message = b""
                case CloseConnection() if reader.state is ConnectionState.REMOTE_CLOSING:
                    told = b"" if event.code == 1005 else int(event.code).to_bytes(2) + (event.reason or "").encode()
                    yield _fragment(0x88, told)
                    return
                case CloseConnection():
                    yield _fragment(0x83, b"")  # of a kind that is reserved
                    return
                case _:
                    pass


def _fragment(kind: int, payload: bytes) -> bytes:
    if kind == 0x88 or len(payload) < 126:
        return bytes([kind, len(payload)]) + payload
    return bytes([kind, 126]) + len(payload).to_bytes(2) + payload


# -------------------------------------------------------------------------------------------------------- JSON


def json_as_library(data: bytes) -> None:
    """A payload gives what the standard library reads in it, or both refuse it; and messages have those fields."""
    data = data[:LONGEST]
    codec = JsonCodec()
    try:
        theirs: list[Any] = [_load(data)]
    except RecursionError:
        return  # each has a depth of its own
    except (ValueError, ArithmeticError):
        theirs = []
    try:
        ours = [codec.payload_decoder(Any)(msgspec.Raw(data))]
    except RecursionError:
        return
    except (msgspec.MsgspecError, ValueError, ArithmeticError):
        ours = []
    # Digits and kinds count: 1, 1.0 and True are equal to Python.
    assert repr(ours) == repr(theirs)
    if ours:
        # Here values count: 6e0 is written as 6.
        assert _load(bytes(codec.encode_payload(ours[0], "it"))) == theirs[0]
    try:
        message = codec.decode(data)
    except RemoteProtocolError:
        return
    # Of what is skipped, and of payloads, only the grammar is looked at when a message is read.
    told = theirs[0] if theirs else json.loads(data.decode("utf-8", "replace"), parse_float=str)
    if isinstance(message, UnknownMessage):
        assert told["type"] == message.type
        return
    assert told["type"] == type(message).__struct_config__.tag
    for field in msgspec.structs.fields(message):
        value = getattr(message, field.name)
        if isinstance(value, msgspec.Raw):
            value = _load(bytes(value)) if theirs else told[field.encode_name]
        expected = told.get(field.encode_name, field.default)
        if field.default_factory is not msgspec.NODEFAULT and field.encode_name not in told:
            expected = field.default_factory()
        # To .NET an empty id is no id.
        is_no_id = field.name == "invocation_id" and expected == "" and value is None
        assert is_no_id or repr(value) == repr(expected), field.name


def _load(text: bytes) -> Any:
    value = json.loads(text.decode("utf-8"), parse_float=Decimal, parse_constant=_refuse)
    # The library lets halves of pairs of surrogates pass, which no UTF-8 can carry.
    repr_of_text = json.dumps(value, ensure_ascii=False, default=str)
    repr_of_text.encode("utf-8")
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f"expected JSON, got {name}")


# ------------------------------------------------------------------------------------------------- MessagePack


try:
    msgpack: Any = importlib.import_module("msgpack")
except ImportError:  # a tool of the tests, not of the library
    msgpack = None


def messagepack_as_msgpack(data: bytes) -> None:
    """A payload gives what msgpack reads in it, or both refuse it; what we write msgpack reads."""
    data = data[:LONGEST]
    codec = MessagePackCodec()
    try:
        theirs: list[Any] = [_unpack(data)]
    except _REFUSED:
        theirs = []
    try:
        ours = [codec.payload_decoder(Any)(msgspec.Raw(data))]
    except _REFUSED:
        ours = []
    assert _plain(ours) == _plain(theirs)
    if ours:
        try:
            payload = bytes(codec.encode_payload(ours[0], "it"))
        except LocalProtocolError:
            return
        assert _plain(_unpack(payload)) == _plain(theirs[0])


def _unpack(data: bytes) -> Any:
    # An array may be a key, and an extension may have any code.
    lenient: dict[str, Any] = {"use_list": False, "strict_map_key": False, "ext_hook": msgspec.msgpack.Ext}
    return _dated(msgpack.unpackb(data, **lenient))


def _dated(value: Any) -> Any:
    """The value with its times rounded to the microsecond, where msgpack would cut them off."""
    match value:
        case dict():
            return {_dated(key): _dated(each) for key, each in value.items()}
        case tuple():
            return tuple(map(_dated, value))
        case msgpack.Timestamp():
            return _EPOCH + timedelta(seconds=value.seconds, microseconds=(value.nanoseconds + 500) // 1000)
        case _:
            return value


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REFUSED = (msgspec.MsgspecError, ValueError, TypeError, RecursionError, ArithmeticError)


def _plain(value: Any) -> object:
    """The same form for both: digits and kinds count, and a number that is none is equal to itself."""
    match value:
        case dict():
            return [(_plain(key), _plain(each)) for key, each in value.items()]
        case list() | tuple():
            return [_plain(each) for each in value]
        case msgspec.msgpack.Ext():
            return "extension", value.code, bytes(value.data)
        case _:
            return repr(value)
