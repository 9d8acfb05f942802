"""The short way from MessagePack to items is not to be told from the long one, which a decoder of one's own goes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etorox_proto.signalr import (
    Closed,
    ItemReceived,
    ItemsByTurns,
    ItemsReceived,
    LimitExceeded,
    Limits,
    MessagePackCodec,
)
from machines import Chunking, RawPeer, bytewise, chunks, connected_peer, frame, picture, whole


class Trade(msgspec.Struct):
    """An item with a type that does not know all fields."""

    price: int
    name: str = ""


ITEM_TYPES = (Any, Trade, dict[str, int], msgspec.Raw)
seeds = st.integers(0, 2**32)


def packed_item(call: int, item: bytes) -> bytes:
    """The body of a StreamItem."""
    return b"\x94\x02\x80\xa1%d%s" % (call, item)


def prefixed(body: bytes) -> bytes:
    """A record with the shortest length that there is for it."""
    size, digits = len(body), []
    while size > 0x7F:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*digits, size]) + body


def outcome(chunking: Chunking, data: bytes, item_type: Any, *, is_long: bool = False, **config: Any) -> list[Any]:
    """What a client with two streams, of the ids 1 and 2, tells of these bytes."""
    peer = connected_peer(chunking, encoding="messagepack", **config)
    options = {"item_decoder": MessagePackCodec().payload_decoder(item_type)} if is_long else {"item_type": item_type}
    for _ in range(2):
        peer.client.stream("rates", now=0.0, **options)  # type: ignore[union-attr]
    peer.settle()
    peer.feed(data)
    peer.end()
    events = [
        ("raw", event.call.invocation_id, bytes(event.item))
        if isinstance(event, ItemReceived) and isinstance(event.item, msgspec.Raw)
        else picture(event)
        for event in peer.events
    ]
    return [*events, peer.client.ignored]  # type: ignore[union-attr]


def framed(bodies: list[bytes], sizes: list[int]) -> bytes:
    """Records in binary frames, so many in each by turns; 0: half a record."""
    records = [prefixed(body) for body in bodies]
    data, messages = b"".join(records), []
    for number, record in enumerate(records):
        size = sizes[number % len(sizes)]
        length = len(record) // 2 if size == 0 else len(record) * size
        messages.append(data[:length])
        data = data[length:]
    return b"".join(frame(message, 2) for message in [*messages, data])


items = st.one_of(
    st.sampled_from(
        [
            msgspec.msgpack.encode({"price": 1, "name": "x"}),
            msgspec.msgpack.encode({"price": 1, "other": "x" * 200}),
            msgspec.msgpack.encode({"price": 1.5}),
            b"\x81\xa5price\xcd\x00\x01",
            b"\x82\xa5price\x01\xa4name\xa1\xff",
            b"\x82\xa5price\x01\xa5other\xa1\xff",
            b"\x82\xa5price\x01\xa5price\x02",
            b"\x81\xa5price",
            b"\x01\x02",
            b"\xc1",
            b"\xa1\xff",
            b"\x91\xc0",
            b"\xd4\x01\x00",
            b"",
        ]
    ),
    st.recursive(st.none() | st.integers(-(2**40), 2**40) | st.text(max_size=3), st.lists, max_leaves=3).map(
        msgspec.msgpack.encode
    ),
    st.binary(max_size=5),
)
spelled = st.sampled_from(
    [
        packed_item,
        packed_item,
        packed_item,
        lambda call, item: b"\xdc\x00\x04\x02\x80\xa1%d%s" % (call, item),
        lambda call, item: b"\x94\x02\x80\xd9\x01%d%s" % (call, item),
        lambda call, item: b"\x94\x02\x81\xa1a\xa1b\xa1%d%s" % (call, item),
        lambda call, item: b"\x95\x02\x80\xa1%d%s\xc0" % (call, item),
        lambda call, item: b"\x95\x02\x80\xa1%d\x07%s" % (call, item),
        lambda call, item: b"\x93\x02\x80\xa1%d" % call,
        lambda call, item: b"\x95\x03\x80\xa1%d\x03%s" % (call, item),
        lambda _call, item: b"\x91\x06" + item,
    ]
)
bodies = st.one_of(
    st.builds(
        lambda numbers: [
            packed_item(1 + number % 2, b"\x81\xa5price\xcd%s" % number.to_bytes(2)) for number in numbers
        ],
        st.lists(st.integers(256, 2**16 - 1), min_size=1, max_size=40),
    ),
    st.builds(lambda form, call, item: [form(call, item)], spelled, st.sampled_from([1, 1, 2, 3]), items),
)
streams = st.lists(bodies, min_size=1, max_size=6).map(lambda parts: [body for part in parts for body in part])


@settings(max_examples=300)
@given(streams, st.sampled_from(ITEM_TYPES), st.lists(st.integers(0, 3), min_size=1, max_size=4), seeds, st.booleans())
@example([packed_item(1, b"\x01")] * 3, Any, [1], 0, False)
@example([packed_item(1, b"\xd4\x01\x00")] * 3, Any, [1], 0, False)  # an extension
def test_items_are_the_same_however_they_are_read(
    records: list[bytes], item_type: Any, sizes: list[int], seed: int, strict: bool
) -> None:
    data = framed(records, sizes)
    expected = outcome(bytewise, data, item_type, is_long=True, strict=strict)
    for chunking in (whole, bytewise, chunks(seed)):
        assert outcome(chunking, data, item_type, strict=strict) == expected


@pytest.mark.parametrize(
    "odd",
    [
        b"\x86\x00" + packed_item(1, b"\x07"),
        b"\x86\x80\x00" + packed_item(1, b"\x07"),
        b"\x05" + packed_item(1, b"\x07"),
        b"\x07" + packed_item(1, b"\x07"),
        b"\x03" + packed_item(1, b"\x07"),
        b"\x00",
        b"\x80",
        b"\x80\x80\x80\x80\x08",
    ],
)
def test_a_length_is_read_as_ever(odd: bytes) -> None:
    good = prefixed(packed_item(1, b"\x01")) * 5
    data = frame(good, 2) + frame(good + odd, 2) + frame(good, 2)
    assert outcome(whole, data, int) == outcome(bytewise, data, int, is_long=True)


@pytest.mark.parametrize("size", [1, 118, 119, 120, 16_375, 16_376, 16_377, 40_000])
def test_a_record_may_be_as_long_as_the_limit_and_no_longer(size: int) -> None:
    body = packed_item(1, msgspec.msgpack.encode("x" * size))
    data = frame(prefixed(body), 2) * 20
    for limit, is_good in ((len(body), True), (len(body) - 1, False)):
        peer = connected_peer(whole, encoding="messagepack", limits=Limits(record=limit))
        peer.client.stream("rates", item_type=str, now=0.0)  # type: ignore[union-attr]
        peer.feed(data)
        assert (len(peer.events) == 20) is is_good
        assert is_good or isinstance(peer.error, LimitExceeded)


def known_streams(count: int) -> RawPeer:
    """A client whose streams have brought an item each."""
    peer = connected_peer(whole, encoding="messagepack")
    for call in range(1, count + 1):
        peer.client.stream("rates", item_type=int, now=0.0)  # type: ignore[union-attr]
        peer.feed(frame(prefixed(packed_item(call, b"\x00")), 2))
    return peer


@pytest.mark.parametrize("per_frame", [1, 8])
def test_what_comes_together_is_told_together(per_frame: int) -> None:
    peer = known_streams(2)
    packed = [prefixed(packed_item(1, b"%c" % number)) for number in range(64)]
    frames = [frame(b"".join(packed[at : at + per_frame]), 2) for at in range(0, 64, per_frame)]
    peer.client.receive_data(b"".join(frames), 0.0)
    batch = peer.client.next_batch()
    assert isinstance(batch, ItemsReceived)
    assert batch.items == list(range(64))
    assert peer.client.next_batch() is None


def test_what_comes_by_turns_is_told_together() -> None:
    peer = known_streams(2)
    packed = [prefixed(packed_item(1 + number % 2, b"%c" % number)) for number in range(64)]
    peer.client.receive_data(frame(b"".join(packed), 2), 0.0)
    batch = peer.client.next_batch()
    assert isinstance(batch, ItemsByTurns)
    assert batch.items == list(range(64))
    assert [call.invocation_id for call in batch.calls] == ["1", "2"] * 32


def test_items_of_a_stream_that_is_over_are_dropped() -> None:
    peer = known_streams(2)
    data = b"".join(frame(prefixed(packed_item(1 + place % 2, b"%c" % place)), 2) for place in range(20))
    peer.client.cancel(peer.events[0].call, now=0.0)  # type: ignore[union-attr]
    peer.settle()
    peer.events.clear()
    peer.feed(data)
    assert [event.item for event in peer.events] == list(range(1, 20, 2))
    peer.end()
    assert isinstance(peer.events[-1], Closed)
