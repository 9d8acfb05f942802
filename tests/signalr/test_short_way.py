"""Which items take the short way, as a reader of one's own sees it, and what must not be taken for a frame or an item.

That both ways end the same is held to in `test_shortcut`; here that the short one is taken wherever it may be.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from etorox_proto.signalr import ItemReceived, JsonCodec, Limits, RemoteProtocolError
from machines import RawPeer, bytewise, connected_peer, frame, packed, packed_frame, take, whole

RECORD = b'{"type":2,"invocationId":"%d","item":%s}\x1e'
AROUND = len(RECORD % (1, b""))
# A frame's length is told in its second byte up to 125, then in two bytes more, then in eight.
SHORT, LONG, LONGER = 125, 65_535, 65_536


class Ways:
    """A client with streams whose items are counted by the way that they take."""

    def __init__(self, *, streams: int = 1, chunking: Any = whole, **limits: int) -> None:
        self.long = 0
        self.short = 0
        self._plain = JsonCodec().payload_decoder(Any)
        self.peer = connected_peer(chunking, limits=Limits(**limits))
        for _ in range(streams):
            self.peer.client.stream(  # type: ignore[union-attr]
                "rates", item_decoder=self._read_long, item_reader=self._read_short, now=0.0
            )
        self.peer.settle()

    def _read_long(self, payload: msgspec.Raw) -> Any:
        self.long += 1
        return self._plain(payload)

    def _read_short(self, text: bytes) -> Any:
        self.short += 1
        return msgspec.json.decode(text)

    def feed(self, data: bytes) -> list[Any]:
        """The items of these bytes."""
        self.peer.events.clear()
        self.peer.feed(data)
        assert all(isinstance(event, ItemReceived) for event in self.peer.events)
        return [event.item for event in self.peer.events]


def items(size: int, count: int = 40, invocation_id: int = 1) -> list[bytes]:
    """Records of so many bytes each."""
    return [RECORD % (invocation_id, b'"%s"' % (b"x" * (size - AROUND - 2))) for _ in range(count)]


@pytest.mark.parametrize("size", [50, SHORT - 1, SHORT, SHORT + 1, 200, LONG - 1, LONG])
def test_frames_with_an_item_each_are_read_together(size: int) -> None:
    ways = Ways()
    assert len(ways.feed(b"".join(map(frame, items(size, 1))))) == 1
    assert len(ways.feed(b"".join(map(frame, items(size))))) == 40
    assert (ways.long, ways.short) == (1, 40)


def test_frames_of_various_lengths_are_read_together() -> None:
    ways = Ways()
    ways.feed(frame(items(50, 1)[0]))
    data = b"".join(frame(record) for size in range(50, SHORT + 1) for record in items(size, 1))
    assert len(ways.feed(data)) == SHORT - 49
    assert (ways.long, ways.short) == (1, SHORT - 49)


def test_frames_longer_than_two_bytes_can_tell_hold_records_in_the_short_way() -> None:
    ways = Ways()
    ways.feed(frame(items(50, 1)[0]))
    assert len(ways.feed(b"".join(map(frame, items(LONGER, 3))))) == 3
    assert (ways.long, ways.short) == (1, 3)


@pytest.mark.parametrize("chunking", [whole, bytewise])
def test_records_in_one_message_are_read_together(chunking: Any) -> None:
    ways = Ways(chunking=chunking)
    ways.feed(frame(items(50, 1)[0]))
    assert len(ways.feed(frame(b"".join(items(50))))) == 40
    assert (ways.long, ways.short) == (1, 40)


def test_few_frames_are_read_one_by_one() -> None:
    ways = Ways()
    ways.feed(frame(items(50, 1)[0]))
    assert len(ways.feed(b"".join(map(frame, items(50, 5))))) == 5
    assert (ways.long, ways.short) == (1, 5)


def test_two_streams_by_turns_are_read_in_the_short_way() -> None:
    ways = Ways(streams=2)
    both = [record for pair in zip(items(60), items(70, invocation_id=2), strict=True) for record in pair]
    assert len(ways.feed(frame(both[0]) + frame(both[1]))) == 2
    assert len(ways.feed(b"".join(map(frame, both)))) == 80
    assert (ways.long, ways.short) == (2, 80)


def test_frames_in_pieces_are_read_in_the_short_way_where_they_are_whole() -> None:
    ways = Ways()
    ways.feed(frame(items(50, 1)[0]))
    data = b"".join(map(frame, items(50)))
    assert len(ways.feed(data[:1_500]) + ways.feed(data[1_500:])) == 40
    assert ways.long == 1


@pytest.mark.parametrize("size", [60, 200])
@pytest.mark.parametrize("name", ["record", "websocket_message"])
def test_items_as_long_as_the_limit_take_the_short_way(size: int, name: str) -> None:
    """A message counts its separator, a record does not."""
    ways = Ways(**{name: size if name == "websocket_message" else size - 1})
    assert len(ways.feed(frame(items(size, 1)[0]))) == 1
    assert len(ways.feed(b"".join(map(frame, items(size))))) == 40
    assert (ways.long, ways.short) == (1, 40)


def test_short_and_long_frames_by_turns_are_read_in_the_short_way() -> None:
    ways = Ways()
    mixed = [record for pair in zip(items(60), items(300), strict=True) for record in pair]
    assert len(ways.feed(frame(mixed[0]))) == 1
    assert len(ways.feed(b"".join(map(frame, mixed)))) == 80
    assert (ways.long, ways.short) == (1, 80)


# ---------------------------------------------------------------------------------------------------- look-alikes


def streaming_peer() -> RawPeer:
    peer = connected_peer()
    peer.client.stream("rates", item_type=Any, now=0.0)  # type: ignore[union-attr]
    peer.settle()
    return peer


@pytest.mark.parametrize(
    "look_alike",
    [
        b'{"type":2,"invocationId":"1","item":7,"x":%d}\x1e',
        b'{"type":2,"item":7,"invocationId":"1","x":%d}\x1e',
        b'{"type":2,"invocationId":"1","item":7,"headers":{},"x":%d}\x1e',
    ],
)
def test_another_property_with_the_same_value_is_not_taken_for_the_item(look_alike: bytes) -> None:
    peer = streaming_peer()
    peer.feed(frame(look_alike % 7) + b"".join(frame(look_alike % (number % 10)) for number in range(100)))
    assert [event.item for event in peer.events] == [7] * 101


def test_what_follows_half_a_record_is_no_item() -> None:
    peer = streaming_peer()
    peer.feed(frame(RECORD % (1, b"7")) + frame(b"[") + frame(RECORD % (1, b"8")))
    assert [event.item for event in peer.events if isinstance(event, ItemReceived)] == [7]
    assert isinstance(peer.error, RemoteProtocolError)


INSIDE = b"\x82\x00" * 15 + frame(RECORD % (1, b"8"), 2)


@pytest.mark.parametrize(
    "outer",
    [
        frame(INSIDE, 9),
        frame(INSIDE, 10),
        frame(b" ", 1, fin=False) + frame(INSIDE, 9) + frame(b'{"type":6}\x1e', 0),
        frame(b'{"type":6}\x1e', 1, fin=False) + frame(INSIDE, 9) + frame(b"", 0),
        frame(b'{"type":6}\x1e', 2, fin=False) + frame(b'{"type":6}\x1e', 0, fin=False) + frame(b"", 0),
        b"\x81\x7f" + (70_011).to_bytes(8, "big") + b" " * 70_000 + b'{"type":6}\x1e',
        b"\x82\x7e" + (311).to_bytes(2, "big") + b" " * 300 + b'{"type":6}\x1e',
    ],
)
def test_what_is_inside_a_frame_is_not_taken_for_one(outer: bytes) -> None:
    peer = streaming_peer()
    peer.feed(frame(RECORD % (1, b"7")))
    data = outer + frame(RECORD % (1, b"9")) + frame(RECORD % (1, b"10"))
    cuts = {*range(1, min(90, len(data))), *range(max(1, len(data) - 110), len(data))}
    for cut in cuts:
        for behind in (1, 2, 3, 5, len(data)):
            for piece in (data[:cut], data[cut : cut + behind], data[cut + behind :]):
                if piece:
                    peer.client.receive_data(piece, 0.0)
            peer.client.data_to_send()
            assert [event.item for event in take(peer.client)] == [9, 10], (cut, behind)


def test_a_message_goes_on_behind_a_ping_inside_it() -> None:
    peer = streaming_peer()
    peer.feed(frame(RECORD % (1, b"7")) + frame(b" ", fin=False) + frame(b"", 9) + frame(RECORD % (1, b"8")))
    assert [event.item for event in peer.events if isinstance(event, ItemReceived)] == [7]
    assert str(peer.error).startswith("expected a WebSocket frame as in RFC 6455")


def test_a_length_in_eight_bytes_is_no_text() -> None:
    """A frame of 127 bytes could be read where one begins whose length follows."""
    peer = streaming_peer()
    (record,) = items(127, 1)
    peer.feed(frame(RECORD % (1, b"7")) + b"\x81\x7f" + record)
    assert [event.item for event in peer.events] == [7]


@pytest.mark.parametrize("size", [100, 200, 400, 70_000])
def test_what_is_inside_a_long_fragment_is_not_taken_for_a_frame(size: int) -> None:
    told = packed_frame({"type": 1, "target": "inside", "arguments": []})
    filler = b"\x82\x00" * (size // 2) + told
    message = packed({"type": 1, "target": "outside", "arguments": [filler]})
    for cut in range(1, 20):
        for piece in (1, 2, 3, len(message) // 2):
            peer = connected_peer(encoding="messagepack")
            data = frame(message[:cut], 2, fin=False) + frame(message[cut:], 0)
            peer.client.receive_data(data[:piece], 0.0)
            peer.client.receive_data(data[piece:], 0.0)
            assert [event.target for event in take(peer.client)] == ["outside"]
