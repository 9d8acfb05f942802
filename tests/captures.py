"""Reads the captured sessions of foreign implementations; see `data/captures/README.md`.

Knows HTTP heads, RFC 6455 frames and permessage-deflate, written down here once more so that nothing of the library or
of wsproto vouches for itself. What hub messages mean it does not know.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from peers import DATA

__all__ = [
    "BINARY",
    "CLOSE",
    "TEXT",
    "Capture",
    "Chunk",
    "Frame",
    "FrameReader",
    "Head",
    "Turn",
    "captures",
    "plain_frame",
    "split_head",
]

TEXT, BINARY, CLOSE = 1, 2, 8


@dataclass(frozen=True)
class Chunk:
    """What one `recv` returned: at which second, on which stream, from whom; empty bytes are the end."""

    time: float
    stream: int
    from_client: bool
    data: bytes


@dataclass(frozen=True)
class Frame:
    """One WebSocket frame, unmasked and inflated; `compressed` tells that it travelled deflated."""

    opcode: int
    payload: bytes
    compressed: bool = False

    @property
    def close_code(self) -> int:
        """The code of a close frame, 1005 if it has none."""
        return int.from_bytes(self.payload[:2]) if self.payload else 1005


@dataclass(frozen=True)
class Head:
    """An HTTP head: its first line, its headers by lower-case name, and all of it as bytes."""

    first: str
    headers: dict[str, str]
    raw: bytes

    @property
    def target(self) -> str:
        """Path and query of a request."""
        return self.first.split(" ")[1]


@dataclass(frozen=True)
class Turn:
    """One chunk on the WebSocket's stream, heads aside.

    Attributes:
        time: seconds.
        from_client: who sent it.
        data: the bytes to replay: as captured, or framed anew without compression if the sender used it.
        frames: the frames that these bytes complete.
        end: whether the sender ended the stream.
    """

    time: float
    from_client: bool
    data: bytes
    frames: tuple[Frame, ...]
    end: bool


class FrameReader:
    """Takes one direction of a WebSocket apart. All captured messages are one frame each."""

    def __init__(self) -> None:
        self._held = b""
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete."""
        self._held += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        held = self._held
        if len(held) < 2:
            return None
        first, length, masked, start = held[0], held[1] & 0x7F, held[1] & 0x80, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, start = int.from_bytes(held[2 : 2 + size]), 2 + size
        key = held[start : start + 4] if masked else bytes(4)
        start += 4 if masked else 0
        if len(held) < start + length:
            return None
        payload = bytes(byte ^ key[index % 4] for index, byte in enumerate(held[start : start + length]))
        self._held = held[start + length :]
        assert first & 0x80, "no message was sent in pieces"
        compressed = bool(first & 0x40)
        if compressed:
            payload = self._inflate.decompress(payload + b"\x00\x00\xff\xff")
        return Frame(first & 0x0F, payload, compressed)


def _uncompressed(turn: Turn) -> Turn:
    """The same frames, not deflated."""
    return replace(turn, data=b"".join(plain_frame(frame, masked=turn.from_client) for frame in turn.frames))


def plain_frame(frame: Frame, *, masked: bool) -> bytes:
    """A frame as it travels uncompressed; a client's is masked, with zeros."""
    length = len(frame.payload)
    if length < 126:
        head = bytes([length])
    else:
        head = b"\x7e" + length.to_bytes(2) if length < 65_536 else b"\x7f" + length.to_bytes(8)
    if masked:
        head = bytes([head[0] | 0x80]) + head[1:] + bytes(4)
    return bytes([0x80 | frame.opcode]) + head + frame.payload


def split_head(data: bytes) -> tuple[Head, bytes]:
    """The HTTP head at the beginning, and what follows it."""
    raw, separator, rest = data.partition(b"\r\n\r\n")
    assert separator, "the head is whole"
    first, *lines = raw.decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    return Head(first, {name.lower(): value.strip() for name, value in pairs}, raw + separator), rest


class Capture:
    """One captured session; `encoding` is that of its hub messages."""

    def __init__(self, name: str, chunks: list[Chunk]) -> None:
        self.name = name
        self.encoding: Literal["json", "messagepack"] = "messagepack" if "_msgpack_" in name else "json"
        self.chunks = chunks
        self.streams = sorted({chunk.stream for chunk in chunks})

    @classmethod
    def read(cls, name: str) -> Capture:
        """The capture of that name."""
        ended: set[tuple[int, str]] = set()
        chunks = []
        for line in map(json.loads, (DATA / "captures" / f"{name}.jsonl").read_text().splitlines()):
            direction = (line["conn"], line["dir"])
            if direction in ended:
                continue  # an error on a direction that had ended
            if line.get("eof"):
                ended.add(direction)
            chunks.append(Chunk(line["t"], line["conn"], line["dir"] == "c2s", base64.b64decode(line["bytes_b64"])))
        return cls(name, chunks)

    def of(self, stream: int) -> list[Chunk]:
        """The chunks of one stream, both directions, in order."""
        return [chunk for chunk in self.chunks if chunk.stream == stream]

    def sent(self, stream: int, *, from_client: bool) -> bytes:
        """All bytes of one direction of a stream."""
        return b"".join(chunk.data for chunk in self.of(stream) if chunk.from_client is from_client)

    def websocket_stream(self) -> int:
        """The stream that carries the WebSocket."""
        (stream,) = [each for each in self.streams if b"\r\nupgrade: websocket" in self._first(each).lower()]
        return stream

    def negotiate_stream(self) -> int | None:
        """The stream that carries the negotiate request, None where negotiation was skipped."""
        found = [each for each in self.streams if self._first(each).startswith(b"POST ")]
        return found[0] if found else None

    @property
    def is_compressed(self) -> bool:
        """Whether the server agreed to compress messages; not all of them were."""
        _, response, _ = self.websocket()
        return "sec-websocket-extensions" in response.headers

    def websocket(self, *, as_it_travelled: bool = False) -> tuple[Head, Head, list[Turn]]:
        """The WebSocket's stream: the two heads of its opening, and what followed them; compressed if asked for."""
        readers = {True: FrameReader(), False: FrameReader()}
        heads: dict[bool, Head] = {}
        raw: list[Turn] = []
        for chunk in self.of(self.websocket_stream()):
            data = chunk.data
            if chunk.from_client not in heads:
                heads[chunk.from_client], data = split_head(data)
            frames = tuple(readers[chunk.from_client].feed(data))
            raw.append(Turn(chunk.time, chunk.from_client, data, frames, end=not chunk.data))
        for from_client in () if as_it_travelled else (True, False):
            if any(frame.compressed for turn in raw if turn.from_client is from_client for frame in turn.frames):
                raw = [_uncompressed(turn) if turn.from_client is from_client else turn for turn in raw]
        return heads[True], heads[False], raw

    def _first(self, stream: int) -> bytes:
        return next(chunk.data for chunk in self.of(stream) if chunk.from_client)


@cache
def captures() -> dict[str, Capture]:
    """All captures by name."""
    return {path.stem: Capture.read(path.stem) for path in sorted((DATA / "captures").glob("*.jsonl"))}
