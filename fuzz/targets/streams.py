"""One connection on one stream: any bytes from some point of its life on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from etorox_proto.signalr import (
    ConnectionTokens,
    HubConfig,
    HubConnection,
    JsonCodec,
    Limits,
    MessagePackCodec,
    ServerConfig,
    ServerConnection,
    length_prefixed,
)
from targets.runs import LIMITS, LONGEST, NOW, Chunking, Run, check_cuts, connected, frame, play, upgrading, whole

__all__ = ["compressed_frames", "frames", "items", "negotiation", "packed_items", "packed_records", "records"]
__all__ += ["server", "upgrade"]

# Cuts make several messages of one where each piece becomes one, so the limit on a message must be out of reach.
_ONE_BY_ONE = Limits(record=LIMITS.record, websocket_message=LONGEST)


def negotiation(data: bytes) -> None:
    """Any bytes after the negotiate request: nothing raises, one `Closed` comes last, and cuts change nothing."""

    def played(chunking: Chunking) -> object:
        run = Run(HubConnection(HubConfig(url="http://localhost/hub", limits=LIMITS), now=NOW))
        run.open()
        return play(run, data, chunking)

    check_cuts(data, played)


def upgrade(data: bytes) -> None:
    """Any bytes after the upgrade request: nothing raises, one `Closed` comes last, and cuts change nothing."""
    check_cuts(data, lambda chunking: play(upgrading(), data, chunking))


def frames(data: bytes) -> None:
    """Any bytes to a connected client: nothing raises, its call and stream settle once, and cuts change nothing."""
    check_cuts(data, lambda chunking: play(connected(), data, chunking))


def compressed_frames(data: bytes) -> None:
    """Any bytes to a connected client that agreed to compress: as for `frames`."""
    check_cuts(data, lambda chunking: play(connected(compression=True), data, chunking))


def records(data: bytes) -> None:
    """Any bytes in WebSocket messages, so that all reach the hub: nothing raises, and cuts change nothing."""

    def wrap(piece: bytes) -> bytes:
        return frame(piece, _TEXT if _is_text(piece) else _BINARY)

    def played(chunking: Chunking) -> object:
        run = connected(_ONE_BY_ONE)
        run.wrap = wrap
        return play(run, data, chunking)

    check_cuts(data, played)


def packed_records(data: bytes) -> None:
    """Any bytes in binary messages to a client that speaks MessagePack: nothing raises, and cuts change nothing."""

    def played(chunking: Chunking) -> object:
        run = connected(_ONE_BY_ONE, encoding="messagepack")
        run.wrap = lambda piece: frame(piece, _BINARY)
        return play(run, data, chunking)

    check_cuts(data, played)


def items(data: bytes) -> None:
    """Any bytes as items of three streams, or as records: nothing raises, and no way of reading differs.

    A line is an item, or a record if it begins with `{"type"`. Before that, `>` stands for the next stream, and `+` for
    being in one message with the line before. A stream with a decoder of its own is read in the ordinary way, one
    without in a shorter one where that can be.
    """

    def record(line: bytes, stream: bytes) -> bytes:
        is_item = not line.startswith(b'{"type"')
        return (b'{"type":2,"invocationId":"%s","item":%s}' % (stream, line) if is_item else line) + b"\x1e"

    framed = _messages(b"{}\n" + data[:LONGEST], record, _TEXT)
    check_cuts(framed, lambda chunking: play(connected(streams=3), framed, chunking))
    ordinary = connected(streams=3, item_decoder=JsonCodec().payload_decoder(Any))
    assert play(connected(streams=3), framed, whole) == play(ordinary, framed, whole)


def packed_items(data: bytes) -> None:
    """As `items`, in MessagePack; there a line is a record behind `!`."""

    def record(line: bytes, stream: bytes) -> bytes:
        is_item = not line.startswith(b"!")
        return length_prefixed(b"\x94\x02\x80\xa1" + stream + line if is_item else line[1:])

    framed = _messages(b"\x80\n" + data[:LONGEST], record, _BINARY)
    check_cuts(framed, lambda chunking: play(connected(encoding="messagepack", streams=3), framed, chunking))
    decode = MessagePackCodec().payload_decoder(Any)
    ordinary = connected(encoding="messagepack", streams=3, item_decoder=decode)
    assert play(connected(encoding="messagepack", streams=3), framed, whole) == play(ordinary, framed, whole)


def _messages(lines: bytes, record: Callable[[bytes, bytes], bytes], kind: int) -> bytes:
    """Frames that hold the records of these lines."""
    messages: list[bytes] = []
    for line in lines.split(b"\n"):
        rest = line.removeprefix(b"+")
        turns = min(len(rest) - len(rest.lstrip(b">")), 2)
        one = record(rest[turns:], b"%d" % (3 + turns))
        if line.startswith(b"+") and messages:
            messages[-1] += one
        else:
            messages.append(one)
    return b"".join(frame(message, kind) for message in messages)


def server(data: bytes) -> None:
    """Any bytes to a server: nothing raises, one `Closed` comes last, and cuts change neither events nor answers."""

    def played(chunking: Chunking) -> object:
        tokens = ConnectionTokens(f"name{number}" for number in itertools.count())
        return play(Run(ServerConnection(ServerConfig(limits=LIMITS), tokens=tokens, now=NOW)), data, chunking)

    check_cuts(data, played)


_TEXT, _BINARY = 0x81, 0x82


def _is_text(piece: bytes) -> bool:
    try:
        piece.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
