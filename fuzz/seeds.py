"""Seeds made of what others have written: the captures and the vectors in `tests/data`.

They are made anew at each run, since the data lies beside them; what is in `corpus/` was written by hand, or found.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["CORPUS", "seeds"]

CORPUS = Path(__file__).parent / "corpus"
_DATA = Path(__file__).parent.parent / "tests" / "data"
_LONGEST = 4_096

_TEXT_RECORDS = ("json_message", "records", "items", "json_as_library")
_PACKED_RECORDS = ("messagepack_message", "packed_records", "messagepack_as_msgpack")


def seeds(target: str) -> dict[str, bytes]:
    """All seeds of a target by name: those of its folder, and those that are made."""
    folder = CORPUS / target
    written = {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.is_dir() else {}
    return written | _made().get(target, {})


@cache
def _made() -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    for target, name, data in (*_of_vectors(), *_of_captures()):
        seen = found.setdefault(target, {})
        if 0 < len(data) <= _LONGEST and data not in seen.values():
            seen[name] = data
    return found


def _of_vectors() -> Iterator[tuple[str, str, bytes]]:
    for path in sorted((_DATA / "vectors").glob("*.json")):
        for case in json.loads(path.read_bytes()):
            wire: Any = case.get("wire", "")
            data = base64.b64decode(wire) if case.get("wire_format") == "base64" else str(wire).encode()
            for target, seed in _from_vector(path.stem, data):
                yield target, case["id"], seed


def _from_vector(file: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    match file:
        case "framing":
            yield "framing", data
        case "handshake":
            yield "handshake", data.rstrip(b"\x1e")
        case "json_hub":
            yield "records", data
            yield "json_message", data.rstrip(b"\x1e")
            yield "json_as_library", data.rstrip(b"\x1e")
            yield "items", data.rstrip(b"\x1e").replace(b"\n", b" ")
            yield "frames_as_wsproto", _frame(data)
        case "messagepack_hub":
            yield "packed_records", data
            yield "messagepack_message", data[1:]
            yield "messagepack_as_msgpack", data[1:]
            yield "packed_items", b"!" + data
            yield "compressed_frames", _frame(data, 0x82)
        case "negotiate":
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data)
            yield "negotiation", head + data
            yield "client", b"@" + head + data + b"{next}"
        case _:
            pass


def _of_captures() -> Iterator[tuple[str, str, bytes]]:
    for path in sorted((_DATA / "captures").glob("*.jsonl")):
        streams: dict[tuple[int, str], bytes] = {}
        for line in map(json.loads, path.read_text().splitlines()):
            key = (line["conn"], line["dir"])
            streams[key] = streams.get(key, b"") + base64.b64decode(line["bytes_b64"])
        said = {number: _fitting(data) for (number, direction), data in streams.items() if direction == "s2c"}
        asked = {number: data for (number, direction), data in streams.items() if direction == "c2s"}
        for number, data in asked.items():
            yield "server", f"{path.stem}.{number}", data[:_LONGEST]
        for number, data in said.items():
            for target in ("negotiation", "upgrade"):
                if target == "upgrade" or asked.get(number, b"").startswith(b"POST"):
                    yield target, f"{path.stem}.{number}", data[:_LONGEST]
            if b" 101 " in data[:16]:
                yield "frames", f"{path.stem}.{number}", data.partition(b"\r\n\r\n")[2][:_LONGEST]
                yield "frames_as_wsproto", f"{path.stem}.{number}", data.partition(b"\r\n\r\n")[2][:_LONGEST]
        flags = b"A" if "_msgpack_" in path.stem else b"@"
        yield "client", path.stem, flags + b"{next}".join(said.values())
        yield "returning_clients", path.stem, b"{next}".join(asked.values())


def _fitting(data: bytes) -> bytes:
    """What a server said, with the place for the answer to another key."""
    return re.sub(rb"(?i)(sec-websocket-accept): \S+", rb"\1: {accept}", data, count=1)


def _frame(payload: bytes, kind: int = 0x81) -> bytes:
    length = len(payload)
    return bytes([kind, length]) + payload if length < 126 else bytes([kind, 126]) + length.to_bytes(2) + payload
