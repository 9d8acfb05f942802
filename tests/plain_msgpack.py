"""MessagePack read and written byte by byte, so that neither the library nor msgspec vouches for itself.

`unpack` and `pack` know values; `split` knows length prefixes; `as_json` and `as_array` turn a hub message into the
shape that it has in JSON, and back. Timestamps and other extensions become `Extension`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

__all__ = ["Extension", "as_array", "as_json", "framed", "pack", "split", "unpack"]

Message = dict[str, Any]


@dataclass(frozen=True)
class Extension:
    """A value of a type that MessagePack leaves open; -1 is a timestamp."""

    code: int
    data: bytes


_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"}
_NUMBERS |= {0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_SIZES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
_SIZES |= {0xC7: 1, 0xC8: 2, 0xC9: 4}


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, size: int) -> bytes:
        taken, self.rest = self.rest[:size], self.rest[size:]
        if len(taken) < size:
            raise ValueError("truncated")
        return taken

    def value(self) -> Any:
        first = self.take(1)[0]
        if first <= 0x7F:
            return first
        if first >= 0xE0:
            return first - 0x100
        if first in _CONSTANTS:
            return _CONSTANTS[first]
        if first in _NUMBERS:
            return struct.unpack(_NUMBERS[first], self.take(struct.calcsize(_NUMBERS[first])))[0]
        if first <= 0x8F:
            return self.map(first & 0x0F)
        if first <= 0x9F:
            return self.array(first & 0x0F)
        if first <= 0xBF:
            return self.take(first & 0x1F).decode()
        if 0xD4 <= first <= 0xD8:
            return self.extension(1 << (first - 0xD4))
        size = int.from_bytes(self.take(_SIZES[first]))
        if first <= 0xC6:
            return self.take(size)
        if first <= 0xC9:
            return self.extension(size)
        if first <= 0xDB:
            return self.take(size).decode()
        return self.array(size) if first <= 0xDD else self.map(size)

    def array(self, size: int) -> list[Any]:
        return [self.value() for _ in range(size)]

    def map(self, size: int) -> dict[Any, Any]:
        return {self.value(): self.value() for _ in range(size)}

    def extension(self, size: int) -> Extension:
        code = struct.unpack(">b", self.take(1))[0]
        return Extension(code, self.take(size))


def unpack(data: bytes) -> Any:
    """The one value that these bytes are."""
    reader = _Reader(data)
    value = reader.value()
    if reader.rest:
        raise ValueError("trailing bytes")
    return value


def pack(value: Any) -> bytes:
    """A value in the longest form that there is for it, which readers must take as well as the shortest."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return b"\xcf" + struct.pack(">Q", value) if value >= 0 else b"\xd3" + struct.pack(">q", value)
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case str():
            return b"\xdb" + struct.pack(">I", len(value.encode())) + value.encode()
        case bytes():
            return b"\xc6" + struct.pack(">I", len(value)) + value
        case list():
            return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(pack, value))
        case dict():
            pairs = b"".join(pack(key) + pack(each) for key, each in value.items())
            return b"\xdf" + struct.pack(">I", len(value)) + pairs
        case Extension(code, data):
            return b"\xc9" + struct.pack(">Ib", len(data), code) + data
        case _:
            raise TypeError(f"no MessagePack value: {value!r}")


def split(data: bytes) -> list[bytes]:
    """The bodies of whole records, each behind its length."""
    bodies = []
    while data:
        length, shift = 0, 0
        while True:
            byte, data = data[0], data[1:]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        assert len(data) >= length, "a whole record"
        bodies.append(data[:length])
        data = data[length:]
    return bodies


def framed(*bodies: bytes) -> bytes:
    """Bodies, each behind its length, written in five bytes."""
    out = b""
    for body in bodies:
        length = len(body)
        out += bytes([length >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)] + [length >> 28]) + body
    return out


def as_json(message: list[Any]) -> Message:
    """A hub message as the object that it is in JSON; what may as well be absent is."""
    kind, *rest = message
    found: Message = {"type": kind}
    if kind in {1, 2, 3, 4, 5}:
        headers, invocation_id, *rest = rest
        found |= {"headers": headers} if headers else {}
        found |= {"invocationId": invocation_id} if invocation_id is not None else {}
    match kind, rest:
        case 1 | 4, [target, arguments, *stream_ids]:
            found |= {"target": target, "arguments": arguments}
            found |= {"streamIds": stream_ids[0]} if stream_ids and stream_ids[0] else {}
        case 2, [item]:
            found["item"] = item
        case 3, [1, error]:
            found["error"] = error
        case 3, [3, result]:
            found["result"] = result
        case 7, [error, *allow_reconnect]:
            found |= {"error": error} if error is not None else {}
            found |= {"allowReconnect": True} if allow_reconnect == [True] else {}
        case ((8 | 9), [sequence_id]):
            found["sequenceId"] = sequence_id
        case (3, [2]) | (5 | 6, []):
            pass
        case _ if kind > 9:
            pass
        case _:
            raise AssertionError(f"no hub message: {message}")
    return found


def as_array(message: Message) -> list[Any]:
    """The array that stands for the object of a hub message."""
    kind, headers, invocation_id = message["type"], message.get("headers", {}), message.get("invocationId")
    match kind:
        case 1 | 4:
            called = [message["target"], message["arguments"], message.get("streamIds", [])]
            return [kind, headers, invocation_id, *called]
        case 2:
            return [kind, headers, invocation_id, message["item"]]
        case 3 if "error" in message:
            return [kind, headers, invocation_id, 1, message["error"]]
        case 3 if "result" in message:
            return [kind, headers, invocation_id, 3, message["result"]]
        case 3:
            return [kind, headers, invocation_id, 2]
        case 5:
            return [kind, headers, invocation_id]
        case 7:
            return [kind, message.get("error"), message.get("allowReconnect", False)]
        case 8 | 9:
            return [kind, message["sequenceId"]]
        case _:
            return [kind]
