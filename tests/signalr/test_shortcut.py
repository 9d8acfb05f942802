"""The short ways from bytes to items are not to be told from the long one, which a decoder of one's own always goes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from etorox_proto._market import event_decoder
from etorox_proto.signalr import (
    Closed,
    ConnectionLost,
    ItemReceived,
    ItemsByTurns,
    ItemsReceived,
    JsonCodec,
    LimitExceeded,
    Limits,
    RemoteProtocolError,
)
from machines import Chunking, RawPeer, bytewise, connected_peer, frame, picture, ready_peer, whole


class Trade(msgspec.Struct):
    """An item with a type that does not know all fields."""

    price: Decimal
    name: str = ""


ITEM_TYPES = (Any, Trade, dict[str, Decimal], msgspec.Raw)
PREFIX = b'{"type":2,"invocationId":"%d","item":%s}'
seeds = st.integers(0, 2**32)


def large_chunks(seed: int) -> Chunking:
    """Pieces that hold parts of a frame, or many frames."""

    def cut(data: bytes) -> Iterable[bytes]:
        start, state = 0, seed
        while start < len(data):
            state = (state * 1_103_515_245 + 12_345) % 2**31
            end = start + (1, 5, 90, 1_500, 6_000, 40_000)[state >> 16 & 7 if (state >> 16 & 7) < 6 else 3]
            yield data[start:end]
            start = end

    return cut


def streaming_peer(chunking: Chunking, item_type: Any, *, is_long: bool = False, **config: Any) -> RawPeer:
    """A client with two streams, of the ids 1 and 2, which may have to go the long way."""
    peer = connected_peer(chunking, **config)
    options = {"item_decoder": JsonCodec().payload_decoder(item_type)} if is_long else {"item_type": item_type}
    for _ in range(2):
        peer.client.stream("rates", now=0.0, **options)  # type: ignore[union-attr]
    peer.settle()
    return peer


def outcome(chunking: Chunking, data: bytes, item_type: Any = Any, **config: Any) -> list[Any]:
    """What a client tells of these bytes."""
    peer = streaming_peer(chunking, item_type, **config)
    peer.feed(data)
    peer.end()
    events = [
        ("raw", event.call.invocation_id, bytes(event.item))
        if isinstance(event, ItemReceived) and isinstance(event.item, msgspec.Raw)
        else picture(event)
        for event in peer.events
    ]
    return [*events, peer.client.ignored]  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------------- strategies

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.decimals(allow_nan=False, places=3) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
items = st.one_of(
    st.sampled_from(
        [
            b'{"price":1.5,"name":"x"}',
            b'{"price":1.5,"name":"\xc3\xa9"}',
            b'{"price":1.5,"name":"\xff"}',
            b'{"price":1.5,"other":"\xff"}',
            b'{"price":1.5,"price":2}',
            b'{"price":1.5,"name":"}"}',
            b'{"price":1.5,"name":"\\"item\\":"}',
            b'{"price":1.5,"name":"a\x1eb"}',
            b'{"price":"1.5"}',
            b'{"price":1.5}}',
            b'{"price":1.5},"x":{}',
            b'{"price":1.5},"item":{"price":2}',
            b'{"price":1.5},"type":3',
            b'{"price":1.5},"invocationId":"1"',
            b' {"price":1.5} ',
            b"\n7\t",
            b"[]",
            b"1 2",
            b"1,2",
            b"01",
            b"1e999999999999999999",
            b"",
            b" ",
            b"nul",
            b'"',
            b"{",
            b"}",
        ]
    ),
    values.map(msgspec.json.encode),
    st.binary(max_size=6),
)
spelled = st.sampled_from(
    [
        PREFIX,
        PREFIX,
        PREFIX,
        b'{"type":2,"invocationId":"%d","item":%s }',
        b'{"type": 2, "invocationId": "%d", "item": %s}',
        b'{"type":2,"headers":{"a":"b"},"invocationId":"%d","item":%s}',
        b'{"invocationId":"%d","item":%s,"type":2}',
        b'{"type":2,"invocationId":"%d","item":7,"item":%s}',
        b'{"type":2,"invocationId":"%d","item":7,"x":%s}',
        b'{"type":2,"invocationId":"%d","x":{"item":7},"item":%s}',
        b'{"type":2,"invocationId":"%d","headers":{"[]":"[]"},"item":%s}',
        b'{"type":2,"invocationId":"%d","item":%s',
        b'{"type":3,"invocationId":"%d","result":%s}',
        b'x{"type":2,"invocationId":"%d","item":%s}',
    ]
)
item_records = st.builds(
    lambda form, number, item: form % (number, item), spelled, st.sampled_from([1, 1, 1, 2, 3]), items
)
plain_records = st.builds(lambda number: PREFIX % (1, b'{"price":%d.50}' % number), st.integers(0, 10**30))
plain_turns = st.builds(
    lambda number, order: [PREFIX % (call, b'{"price":%d.50}' % (number + call)) for call in order],
    st.integers(0, 10**30),
    st.lists(st.sampled_from([1, 2]), min_size=30, max_size=90),
)
other_records = st.sampled_from(
    [b'{"type":6}', b'{"type":7}', b'{"type":42}', b'{"type":3,"invocationId":"1"}', b'{"type":3,"invocationId":"2"}']
)
streams = st.lists(
    st.one_of(
        st.lists(plain_records, min_size=1, max_size=60),
        plain_turns,
        item_records.map(lambda record: [record]),
        other_records.map(lambda record: [record]),
    ),
    min_size=1,
    max_size=6,
).map(lambda parts: [record for part in parts for record in part])


def framed(records: list[bytes], sizes: list[int]) -> bytes:
    """Records in frames, so many in each by turns; 0: half a record."""
    data, messages = b"".join(record + b"\x1e" for record in records), []
    for number, record in enumerate(records):
        size = sizes[number % len(sizes)] or len(record) // 2
        messages.append(data[: size if size > 5 else (len(record) + 1) * size])
        data = data[len(messages[-1]) :]
    return b"".join(map(frame, [*messages, data]))


# ------------------------------------------------------------------------------------------------------------ items


@settings(max_examples=300)
@given(streams, st.sampled_from(ITEM_TYPES), st.lists(st.integers(0, 3), min_size=1, max_size=4), seeds, st.booleans())
def test_items_are_the_same_however_they_are_read(
    records: list[bytes], item_type: Any, sizes: list[int], seed: int, strict: bool
) -> None:
    data = framed(records, sizes)
    expected = outcome(bytewise, data, item_type, is_long=True, strict=strict)
    for chunking in (whole, bytewise, large_chunks(seed)):
        assert outcome(chunking, data, item_type, strict=strict) == expected


@settings(max_examples=60)
@given(streams, st.integers(60, 120), st.integers(60, 120), seeds)
def test_limits_are_the_same_however_items_are_read(records: list[bytes], record: int, message: int, seed: int) -> None:
    data = framed(records, [1])
    limits = Limits(record=record, websocket_message=message)
    expected = outcome(bytewise, data, is_long=True, limits=limits)
    for chunking in (whole, bytewise, large_chunks(seed)):
        assert outcome(chunking, data, limits=limits) == expected


@pytest.mark.parametrize("per_frame", [1, 7])
@pytest.mark.parametrize("size", [10, 124 - 37, 125 - 37, 126 - 37, 300, 70_000])
def test_a_record_may_be_as_long_as_the_limit_and_no_longer(size: int, per_frame: int) -> None:
    record = PREFIX % (1, b'"%s"' % (b"x" * size))
    data = b"".join(frame((record + b"\x1e") * per_frame) for _ in range(20))
    for limit, is_good in ((len(record), True), (len(record) - 1, False)):
        peer = streaming_peer(whole, str, limits=Limits(record=limit))
        peer.feed(data)
        assert (len(peer.events) == 20 * per_frame) is is_good
        assert is_good or isinstance(peer.error, LimitExceeded)


def test_what_comes_together_is_told_together() -> None:
    peer = streaming_peer(whole, int)
    client = peer.client
    numbers = [PREFIX % (1, b"%d" % number) + b"\x1e" for number in range(100)]
    client.receive_data(b"".join(map(frame, numbers)), 0.0)
    batch = client.next_batch()
    assert isinstance(batch, ItemsReceived)
    assert batch.items == list(range(100))
    assert client.next_batch() is None


def test_a_batch_can_be_begun_one_by_one() -> None:
    peer = streaming_peer(whole, int)
    client = peer.client
    client.receive_data(b"".join(frame(PREFIX % (1, b"%d" % number) + b"\x1e") for number in range(3)), 0.0)
    first, second = client.next_event(), client.next_batch()
    assert isinstance(first, ItemReceived)
    assert first.item == 0
    assert isinstance(second, ItemsReceived)
    assert second.items == [1]


@pytest.mark.parametrize("per_frame", [1, 7])
def test_what_comes_by_turns_is_told_together(per_frame: int) -> None:
    peer = streaming_peer(whole, int)
    client = peer.client
    numbers = [PREFIX % (1 + number % 2, b"%d" % number) + b"\x1e" for number in range(140)]
    data = [frame(b"".join(numbers[start : start + per_frame])) for start in range(0, 140, per_frame)]
    peer.feed(b"".join(data[: 14 // per_frame]))  # both streams are known from here on
    client.receive_data(b"".join(data[14 // per_frame :]), 0.0)
    batch = client.next_batch()
    assert isinstance(batch, ItemsByTurns)
    assert batch.items == list(range(14, 140))
    assert [call.invocation_id for call in batch.calls] == ["1", "2"] * 63
    assert client.next_batch() is None
    apart = list(batch.apart())
    assert [(each.call, each.items) for each in apart] == [
        (call, [item]) for call, item in zip(batch.calls, batch.items, strict=True)
    ]


def test_turns_can_be_begun_one_by_one() -> None:
    peer = streaming_peer(whole, int)
    client = peer.client
    numbers = [frame(PREFIX % (1 + number % 2, b"%d" % number) + b"\x1e") for number in range(60)]
    peer.feed(b"".join(numbers[:2]))
    client.receive_data(b"".join(numbers[2:]), 0.0)
    first, second = client.next_event(), client.next_batch()
    assert isinstance(first, ItemReceived)
    assert (first.call.invocation_id, first.item) == ("1", 2)
    assert isinstance(second, ItemsReceived)
    assert (second.call.invocation_id, second.items) == ("2", [3])


def test_one_of_many_streams_is_told_as_one() -> None:
    peer = streaming_peer(whole, int)
    peer.feed(b"".join(frame(PREFIX % (call, b"0") + b"\x1e") for call in (1, 2)))
    peer.client.receive_data(b"".join(frame(PREFIX % (1, b"%d" % number) + b"\x1e") for number in range(60)), 0.0)
    batch = peer.client.next_batch()
    assert isinstance(batch, ItemsReceived)
    assert batch.items == list(range(60))


@pytest.mark.parametrize("lengths", [(5, 50), (5, 200), (89, 88, 87, 86), (300, 40_000, 20)])
def test_each_stream_has_a_type_of_its_own_and_items_of_any_length(lengths: tuple[int, ...]) -> None:
    peer = connected_peer(whole)
    for item_type in (list[str], list[Any], msgspec.Raw):
        peer.client.stream("rates", item_type=item_type, now=0.0)  # type: ignore[union-attr]
    items = [b'["%s"]' % (b"x" * lengths[number % len(lengths)]) for number in range(90)]
    records = [PREFIX % (1 + number % 3, item) + b"\x1e" for number, item in enumerate(items)]
    peer.feed(b"".join(map(frame, records * 2)))
    expected: list[Any] = [bytes(item) if number % 3 == 2 else json.loads(item) for number, item in enumerate(items)]
    got = [bytes(event.item) if isinstance(event.item, msgspec.Raw) else event.item for event in peer.events]
    assert got == expected * 2
    assert [event.call.invocation_id for event in peer.events] == ["1", "2", "3"] * 60


@pytest.mark.parametrize(
    "odd",
    [
        frame(b'{"type":6}\x1e'),
        frame(PREFIX % (3, b"7") + b"\x1e"),
        frame(PREFIX % (1, b"7") + b"}\x1e"),
        frame(PREFIX % (1, b"1,2") + b"\x1e"),
        frame(PREFIX % (1, b"") + b"\x1e"),
        frame(b'{"type":2,"invocationId":"1"\x1e'),
        frame(b'{"type":2,"invocationId":"1"}\x1e'),
        frame(PREFIX % (1, b"7") + b"\x1e" + PREFIX % (2, b"8") + b"\x1e"),
        b"\x81\x7e" + struct.pack("!H", 38) + PREFIX % (1, b"7") + b"\x1e",
        b"\x81\x7e" + struct.pack("!H", 40) + PREFIX % (1, b"7") + b"\x1e",
        b"\x81\x26" + PREFIX % (1, b"77") + b"\x1e",
        b"\x81\x28" + PREFIX % (1, b"77") + b"\x1e",
        frame(b"?", 9),
        frame(b""),
        frame(PREFIX % (1, b'"\xff"') + b"\x1e"),
        frame(PREFIX % (1, b'"\xc3') + b"\x1e") + frame(PREFIX % (2, b'\xa9"') + b"\x1e"),
        frame(b'{"type":3,"invocationId":"2"}\x1e'),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2, 30, 58, 59, 60])
def test_something_else_between_turns_is_read_as_ever(odd: bytes, place: int) -> None:
    turns = [frame(PREFIX % (1 + number % 2, b"%d" % number) + b"\x1e") for number in range(60)]
    data = b"".join([*turns, *turns[:place], odd, *turns[place:], *turns])
    for item_type in (int, Any):
        assert outcome(whole, data, item_type) == outcome(bytewise, data, item_type, is_long=True)


def test_a_stream_that_is_over_is_not_read_beside_others() -> None:
    peer = streaming_peer(whole, int)
    data = b"".join(frame(PREFIX % (1 + number % 2, b"%d" % number) + b"\x1e") for number in range(100))
    peer.feed(data)
    peer.client.cancel(peer.events[1].call, now=0.0)  # type: ignore[union-attr]
    peer.settle()
    peer.events.clear()
    for _ in range(2):
        peer.feed(data)
    assert [event.item for event in peer.events] == [*range(0, 100, 2)] * 2


def test_more_streams_and_lengths_than_are_remembered_are_read() -> None:
    peer = connected_peer(whole)
    for _ in range(120):
        peer.client.stream("rates", item_type=str, now=0.0)  # type: ignore[union-attr]
    records = [PREFIX % (1 + number % 120, b'"%s"' % (b"x" * (number % 97))) for number in range(120 * 97)]
    for _ in range(2):
        peer.events.clear()
        peer.feed(b"".join(frame(record + b"\x1e") for record in records))
        assert [len(event.item) for event in peer.events] == [number % 97 for number in range(120 * 97)]
        assert [int(event.call.invocation_id) for event in peer.events] == [*range(1, 121)] * 97


def test_market_events_come_in_batches_as_one_by_one() -> None:
    decode, together = event_decoder(), ready_peer(whole)
    alone: list[Any] = []
    order = (
        b'{"name":"%s","id":"%d","market":"btcusd","side":"bid","volume":0.1,"price":2,"state":"open",'
        b'"delta":"-1","updated_at":"2020-07-28T00:00:00.000Z"%s}'
    )
    kinds = [(b"order_updated", b""), (b"order_completed", b""), (b"order_updated", b',"new":1'), (b"unheard_of", b"")]
    for pattern in ([0], [0, 1], [0] * 30 + [2] + [0] * 30 + [3] + [1] * 30):
        items = [
            order % (kinds[kind][0], number, kinds[kind][1])
            for number, kind in enumerate(pattern * (180 // len(pattern)))
        ]
        if not together.client.subscriptions:  # type: ignore[union-attr]
            together.client.subscribe(["btcusd"], now=0.0)  # type: ignore[union-attr]
        together.feed(b"".join(frame(PREFIX % (2, item) + b"\x1e") for item in items))
        alone += map(decode, items)
    assert len(alone) > 200
    assert picture([event.event for event in together.events]) == picture(alone)


@pytest.mark.parametrize(
    "look_alike",
    [
        b'{"type":2,"invocationId":"1","item":7,"x":17}',
        b'{"type":2,"invocationId":"1","item":7,"x":7}',
        b'{"type":2,"invocationId":"1","item":7,"x":{"item":7}}',
        b'{"invocationId":"1","item":2,"type":2}',
        b'{"type":2,"invocationId":"1","item":7 }',
        b'{"type":2,"invocationId":"1","x":[],"item":7}',
    ],
)
def test_what_only_looks_like_the_beginning_of_items_teaches_nothing(look_alike: bytes) -> None:
    data = b"".join(frame(record + b"\x1e") for record in [look_alike] * 60 + [PREFIX % (1, b"8")] * 60)
    assert outcome(whole, data, int) == outcome(bytewise, data, int, is_long=True)
    peer = streaming_peer(whole, int)
    peer.feed(data)
    assert [event.item for event in peer.events] == [2 if look_alike.endswith(b'"type":2}') else 7] * 60 + [8] * 60


def test_items_of_a_thousand_lengths_are_read() -> None:
    lengths = [*range(2_500), *range(2_500)]
    peer = streaming_peer(whole, str)
    peer.feed(b"".join(frame(PREFIX % (1, b'"%s"' % (b"x" * length)) + b"\x1e") for length in lengths))
    assert [len(event.item) for event in peer.events] == lengths


def test_items_of_a_stream_that_is_over_are_dropped() -> None:
    peer = streaming_peer(whole, int)
    data = b"".join(frame(PREFIX % (1, b"%d" % number) + b"\x1e") for number in range(100))
    peer.feed(data)
    call = peer.events[0].call
    peer.client.cancel(call, now=0.0)  # type: ignore[union-attr]
    peer.settle()
    peer.events.clear()
    peer.feed(data)
    assert peer.events == []


# ----------------------------------------------------------------------------------------------------------- frames


def read_by_wsproto(data: bytes, limit: int) -> tuple[list[bytes], str]:
    """The records that plain wsproto finds, and how it ends."""
    connection = Connection(ConnectionType.CLIENT)
    message, text = b"", b""
    for byte in bytewise(data):
        connection.receive_data(byte)
        for event in connection.events():
            match event:
                case TextMessage() | BytesMessage():
                    message += event.data.encode() if isinstance(event, TextMessage) else event.data
                    if len(message) > limit:
                        return text.split(b"\x1e")[:-1], "limit"
                    if event.message_finished:
                        text, message = text + message, b""
                case CloseConnection():
                    is_frame = "CLOSED" in connection.state.name or "REMOTE" in connection.state.name
                    return text.split(b"\x1e")[:-1], f"closed {event.code}" if is_frame else "fault"
                case _:
                    assert isinstance(event, Ping | Pong)
    return text.split(b"\x1e")[:-1], "open"


def read_by_client(chunking: Chunking, data: bytes, limit: int) -> tuple[list[bytes], str]:
    peer = streaming_peer(chunking, int, limits=Limits(websocket_message=limit))
    peer.feed(data)
    found = [PREFIX % (int(each.call.invocation_id), b"%d" % each.item) for each in peer.events if is_item(each)]
    if not isinstance(peer.events[-1] if peer.events else None, Closed):
        return found, "open"
    error = peer.error
    if isinstance(error, LimitExceeded):
        return found, "limit"
    if isinstance(error, ConnectionLost):
        return found, f"closed {error.code}"
    assert isinstance(error, RemoteProtocolError)
    return found, "fault"


def is_item(event: object) -> bool:
    return isinstance(event, ItemReceived)


some_records = st.lists(st.integers(0, 10**40), max_size=4).map(
    lambda numbers: b"".join(PREFIX % (1, b"%d" % number) + b"\x1e" for number in numbers)
)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """One frame or a few that belong together, well made or not."""
    payload = draw(some_records)
    kind = draw(st.integers(0, 12))
    match kind:
        case 0:
            cut = draw(st.integers(0, len(payload)))
            between = draw(st.sampled_from([b"", frame(b"?", 9), frame(b"", 10)]))
            return frame(payload[:cut], fin=False) + between + frame(payload[cut:], 0)
        case 1:
            return frame(draw(st.binary(max_size=20)), draw(st.sampled_from([8, 9, 10])))
        case 2:
            return frame(payload, draw(st.integers(0, 15)), reserved=draw(st.integers(0, 7)))
        case 3:
            return frame(payload, masked=True)
        case 4:
            return b"\x81\x7e" + struct.pack("!H", len(payload)) + payload  # not minimal, if it is short
        case 5:
            return b"\x81\x7f" + struct.pack("!Q", len(payload)) + payload
        case 6:
            return frame(draw(st.binary(max_size=200)), draw(st.sampled_from([1, 2])))
        case 7:
            return frame(b"\xc3") + frame(b"\xa9")
        case _:
            return frame(payload, draw(st.sampled_from([1, 1, 1, 2])))


@settings(max_examples=400)
@given(st.lists(frames(), max_size=12), st.integers(0, 40), st.sampled_from([100, 200, 100_000]), seeds)
@example([frame(PREFIX % (1, b"1") + b"\x1e")] * 40, 0, 100_000, 0)
@example([frame(b"")] * 3, 0, 100_000, 0)
@example([frame(b"\r"), frame(PREFIX % (1, b"0") + b"\x1e")], 0, 100_000, 0)
def test_frames_are_read_as_wsproto_reads_them(parts: list[bytes], missing: int, limit: int, seed: int) -> None:
    data = b"".join(parts)
    data = data[: len(data) - missing]
    texts, end = read_by_wsproto(data, limit)
    texts = [text.lstrip(b" \t\r\n") for text in texts]  # a frame of white space may come before a record
    wellformed = all(text.startswith(b'{"type":2,"invocationId":"1","item":') for text in texts)
    for chunking in (whole, bytewise, large_chunks(seed)):
        found, how = read_by_client(chunking, data, limit)
        if wellformed:
            assert (found, how) == (texts, end)
        else:
            assert found == texts[: len(found)]  # a record that is none ends it earlier
            assert how in {end, "fault"}
