"""One connection on one stream: any bytes from some point of its life on."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec

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
from targets.runs import (
    LIMITS,
    LONGEST,
    NOW,
    Chunking,
    Run,
    check_cuts,
    connected,
    frame,
    is_text,
    messages,
    play,
    upgrading,
    whole,
)

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
        return frame(piece, _TEXT if is_text(piece) else _BINARY)

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
    being in one message with the line before. The second stream has a type. A stream with a decoder of its own is read
    in the ordinary way, one without in a shorter one where that can be.
    """

    def record(line: bytes, stream: int) -> bytes:
        is_item = not line.startswith(b'{"type"')
        return (b'{"type":2,"invocationId":"%d","item":%s}' % (3 + stream, line) if is_item else line) + b"\x1e"

    framed = messages((b"{}\n" + data[:LONGEST]).split(b"\n"), record)
    check_cuts(framed, lambda chunking: play(connected(item_types=_TYPES), framed, chunking))
    ordinary = connected(item_types=_TYPES, decoder=JsonCodec().payload_decoder)
    assert play(connected(item_types=_TYPES), framed, whole) == play(ordinary, framed, whole)


def packed_items(data: bytes) -> None:
    """As `items`, in MessagePack; there a line is a record behind `!`."""

    def record(line: bytes, stream: int) -> bytes:
        is_item = not line.startswith(b"!")
        return length_prefixed(b"\x94\x02\x80\xa1%d%s" % (3 + stream, line) if is_item else line[1:])

    framed = messages((b"\x80\n" + data[:LONGEST]).split(b"\n"), record, _BINARY)
    check_cuts(framed, lambda chunking: play(connected(encoding="messagepack", item_types=_TYPES), framed, chunking))
    ordinary = connected(encoding="messagepack", item_types=_TYPES, decoder=MessagePackCodec().payload_decoder)
    assert play(connected(encoding="messagepack", item_types=_TYPES), framed, whole) == play(ordinary, framed, whole)


def server(data: bytes) -> None:
    """Any bytes to a server: nothing raises, one `Closed` comes last, and cuts change neither events nor answers."""

    def played(chunking: Chunking) -> object:
        tokens = ConnectionTokens(f"name{number}" for number in itertools.count())
        return play(Run(ServerConnection(ServerConfig(limits=LIMITS), tokens=tokens, now=NOW)), data, chunking)

    check_cuts(data, played)


class _Point(msgspec.Struct):
    """An item with a type; what else is in it is skipped."""

    a: Any = None
    b: int = 0


_TYPES = (Any, _Point, Any)
_TEXT, _BINARY = 0x81, 0x82
