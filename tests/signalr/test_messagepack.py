"""What is peculiar to MessagePack: numbers, times, raw values, and who chooses it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from captures import BINARY, TEXT, FrameReader
from etorox_proto.signalr import (
    Closed,
    Completed,
    Completion,
    Connected,
    HandshakeRefused,
    HubConfig,
    HubConnection,
    HubError,
    Invocation,
    InvocationReceived,
    ItemReceived,
    LengthPrefixReader,
    Limits,
    LocalProtocolError,
    MessagePackCodec,
    NegotiationFailed,
    RemoteProtocolError,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    State,
    UnexpectedResult,
)
from machines import Pair, RawPeer, bytewise, connected_peer, frame, hub, joined, packed_frame, take, whole
from plain_msgpack import Extension, as_array, pack, unpack

chunkings = pytest.mark.parametrize("chunking", [whole, bytewise], ids=["whole", "bytewise"])


LARGE = Limits()


def test_a_value_that_no_completion_announces_is_surplus() -> None:
    """Behind a void completion it is one element more than there may be."""
    record = pack([3, {}, "7", 2, "a value"])
    assert MessagePackCodec().decode(record) == Completion(invocation_id="7")
    with pytest.raises(RemoteProtocolError):
        MessagePackCodec(strict=True).decode(record)


class Price(msgspec.Struct):
    price: Decimal


def echo(server: ServerConnection, event: ServerEvent, now: float) -> None:
    """Gives the first argument back, or all of them as a stream."""
    match event:
        case InvocationReceived(invocation_id=str() as call, streaming=False):
            server.complete(call, result=event.arguments[0], now=now)
        case InvocationReceived(invocation_id=str() as call):
            for item in event.arguments:
                server.send_item(call, item, now=now)
            server.complete(call, now=now)
        case _:
            pass


def echoing() -> Pair:
    return joined(hub(encoding="messagepack"), answer=echo, limits=LARGE)


def client_of(pair: Pair | RawPeer) -> HubConnection:
    assert isinstance(pair.client, HubConnection)
    return pair.client


def came_back(value: Any, result_type: Any = Any) -> Any:
    """The result of calling `echo` with this value."""
    pair = echoing()
    client_of(pair).invoke("echo", [value], result_type=result_type, now=0.0)
    pair.drive()
    completed = pair.events[-1]
    assert isinstance(completed, Completed)
    if completed.error is not None:
        raise completed.error
    return completed.result


def received(payload: bytes, result_type: Any) -> Any:
    """What the client makes of a result with this payload."""
    peer = connected_peer(encoding="messagepack")
    client_of(peer).invoke("method", result_type=result_type, now=0.0)
    peer.feed(packed_frame(b"\x95\x03\x80\xa11\x03" + payload))
    (completed,) = peer.events
    assert isinstance(completed, Completed)
    if completed.error is not None:
        raise completed.error
    return completed.result


# --------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -1, 2**64 - 1, -(2**63), 0.1, float("inf"), "é€𝄞", b"\x00\xff", [], {}),
        {"a": [1, {"b": None}]},
        {1: 2, -1: "x"},
        datetime(2017, 4, 11, tzinfo=UTC),
        datetime(2262, 4, 11, 23, 47, 16, 854775, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        list(range(70_000)),
        "x" * 70_000,
    ],
)
def test_values_come_back_as_they_went(value: Any) -> None:
    back = came_back(value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("value", "back"),
    [(Decimal("0.10"), "0.10"), ((1, 2), [1, 2]), (Price(Decimal("1e400")), {"price": "1E+400"})],
)
def test_what_messagepack_lacks_becomes_something_it_has(value: Any, back: Any) -> None:
    assert came_back(value) == back


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\xa40.10", Decimal("0.10")),
        (b"\xa61E+400", Decimal("1E+400")),
        (b"\x07", Decimal(7)),
        (b"\xcf" + b"\xff" * 8, Decimal(2**64 - 1)),
        # A float of 64 bits gives the digits that its sender most likely meant.
        (pack(0.1), Decimal("0.1")),
        (pack(1e23), Decimal("1e+23")),
        # One of 32 bits is widened first, so that what it lacked shows.
        (b"\xca\x3d\xcc\xcc\xcd", Decimal("0.10000000149011612")),
        (b"\xca\x3f\xc0\x00\x00", Decimal("1.5")),
    ],
)
def test_decimal_is_exact_from_text_and_integers_and_shortest_from_floats(payload: bytes, expected: Decimal) -> None:
    assert str(received(payload, Decimal)) == str(expected)
    assert received(b"\x81\xa5price" + payload, Price) == Price(expected)


def test_a_decimal_survives_the_way_there_and_back() -> None:
    price = Price(Decimal("12345678901234567890.0123456789"))
    assert came_back(price, Price) == price


@pytest.mark.parametrize("payload", [b"\xa3abc", b"\xc0", b"\xc3", b"\x90"])
def test_what_is_no_decimal_fails_the_call_only(payload: bytes) -> None:
    with pytest.raises(UnexpectedResult):
        received(b"\x81\xa5price" + payload, Price)


def test_a_time_that_no_datetime_can_hold_fails_the_call_only() -> None:
    with pytest.raises(UnexpectedResult):
        received(b"\xc7\x0c\xff" + bytes(4) + b"\x7f" + bytes(7), Any)


def test_other_extensions_are_handed_over() -> None:
    assert received(b"\xd5\x05ab", Any) == msgspec.msgpack.Ext(5, b"ab")
    assert came_back(msgspec.msgpack.Ext(5, b"ab")) == msgspec.msgpack.Ext(5, b"ab")


def test_items_are_decoded_into_their_type() -> None:
    pair = echoing()
    call = client_of(pair).stream("echo", [{"price": "1.5"}, {"price": 2}, {"price": "x"}, {"price": 3}], now=0.0)
    typed = client_of(pair).stream("echo", [{"price": "1.5"}, {"price": 2}, {"price": "x"}], item_type=Price, now=0.0)
    pair.drive()
    items = [event for event in pair.events if isinstance(event, ItemReceived)]
    assert [each.item for each in items if each.call is call] == [
        {"price": "1.5"},
        {"price": 2},
        {"price": "x"},
        {"price": 3},
    ]
    assert [each.item for each in items if each.call is typed] == [Price(Decimal("1.5")), Price(Decimal(2))]
    (outcome,) = [event for event in pair.events if isinstance(event, Completed) and event.call is typed]
    assert isinstance(outcome.error, UnexpectedResult)


def test_a_type_that_cannot_be_decoded_is_refused_before_anything_is_sent() -> None:
    peer = connected_peer(encoding="messagepack")
    with pytest.raises(LocalProtocolError, match="a type that msgspec can decode"):
        client_of(peer).invoke("method", result_type=dict[str, object] | list[int] | set[int], now=0.0)
    assert client_of(peer).queued_bytes == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**64, "argument 1 of m cannot be written as MessagePack"),
        (object(), "argument 1 of m cannot be written as MessagePack"),
        (msgspec.Raw(b""), "argument 1 of m cannot be written as MessagePack"),
        (msgspec.Raw(b"{}"), "argument 1 of m cannot be written as MessagePack"),
        (msgspec.Raw(b"\xdd\x7f\xff\xff\xff"), "an array longer than its message"),
    ],
)
def test_what_cannot_be_written_is_refused(value: Any, text: str) -> None:
    peer = connected_peer(encoding="messagepack")
    with pytest.raises(LocalProtocolError, match=text):
        client_of(peer).invoke("m", [value], now=0.0)
    assert client_of(peer).queued_bytes == 0


def test_a_raw_value_is_sent_as_it_is() -> None:
    peer = connected_peer(encoding="messagepack")
    client_of(peer).send("m", [msgspec.Raw(pack([1, "x"]))], now=0.0)
    peer.settle()
    assert peer.said() == [{"type": 1, "target": "m", "arguments": [[1, "x"]]}]
    payload = received(b"\x93\x01\xa1x\xc0", msgspec.Raw)
    assert bytes(payload) == b"\x93\x01\xa1x\xc0"


KINDS = [
    *(
        b"\x05",
        b"\xe0",
        b"\xc0",
        b"\xc2",
        b"\xc3",
        b"\xa0",
        b"\xa3abc",
        b"\xbf" + b"x" * 31,
        b"\x80",
        b"\x82\x01\x02\x03\x04",
    ),
    *(
        b"\x90",
        b"\x92\x01\x02",
        b"\xca" + bytes(4),
        b"\xcb" + bytes(8),
        b"\xcc\xdc",
        b"\xcd\xdc\xdc",
        b"\xce" + bytes(4),
    ),
    *(b"\xcf" + bytes(8), b"\xd0\xdd", b"\xd1" + bytes(2), b"\xd2" + bytes(4), b"\xd3" + bytes(8), b"\xd9\x02ab"),
    *(
        b"\xda\x00\x02ab",
        b"\xdb\x00\x00\x00\x02ab",
        b"\xc4\x02\xdc\xdd",
        b"\xc5\x00\x02\xdc\xdd",
        b"\xc6\x00\x00\x00\x01\xdc",
    ),
    *(
        b"\xc7\x02\x05\xdc\xdd",
        b"\xc8\x00\x02\x05\xdc\xdd",
        b"\xc9\x00\x00\x00\x02\x05\xdc\xdd",
        b"\xd4\x05\xdc",
        b"\xd5\x05ab",
    ),
    *(
        b"\xd6\x05abcd",
        b"\xd7\x05" + bytes(8),
        b"\xd8\x05" + bytes(16),
        b"\xdc\x00\x02\x01\x02",
        b"\xdd\x00\x00\x00\x02\x01\x02",
    ),
    *(b"\xde\x00\x02\x01\x02\x03\x04", b"\xdf\x00\x00\x00\x01\x01\x02", b"\x91\x81\xa1a\x91\xa1b"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", [b"\xdc\x00", b"\xdd\x00\x00\x00"])
def test_an_array_is_as_long_as_its_message_allows_whatever_stands_before_it(kind: bytes, head: bytes) -> None:
    def record(count: int) -> bytes:
        return b"\x96\x01\x80\xc0\xa1t\x92" + kind + head + bytes([count]) + b"\x07" * 20 + b"\x90"

    message = MessagePackCodec().decode(record(20))
    assert isinstance(message, Invocation)
    assert message.arguments[1] == [7] * 20
    for count in (21, 255):
        with pytest.raises(RemoteProtocolError, match=r"got an array longer than its message$"):
            MessagePackCodec().decode(record(count))


# ------------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "truncated"),
        (b"\x91\x06\x00", "trailing"),
        (b"\x96\x01\x80\xc0\xa1t\xdc\xff\xff", "longer than its message"),
        (b"\x94\x02\x80\xa0\x01", "an invocationId that is not empty"),
        (b"\x95\x03\x80\xa11\x03", "truncated"),
        (b"\x94\x03\x80\xa11\x03", "the result or error that it announces"),
        (b"\x94\x03\x80\xa11\x01", "the result or error that it announces"),
        (b"\x94\x03\x80\xa11\x05", "of kind 1"),
        (b"\x95\x03\x80\xa11\x01\xa1\xff", "whose error is text"),
        (b"\x91\xa11", "int"),
        (b"\x96\x01\x80\xc0\xa1t" + b"\x91" * 1_500, "nested too deeply"),
    ],
)
@chunkings
def test_a_broken_message_ends_the_connection(chunking: Any, body: bytes, text: str) -> None:
    peer = connected_peer(chunking, encoding="messagepack")
    client_of(peer).invoke("m", now=0.0)
    peer.feed(packed_frame(body))
    assert isinstance(peer.error, RemoteProtocolError)
    assert text in str(peer.error)


def test_a_void_completion_with_a_value_is_void() -> None:
    peer = connected_peer(encoding="messagepack")
    call = client_of(peer).invoke("m", now=0.0)
    peer.feed(packed_frame(b"\x95\x03\x80\xa11\x02\x07"))
    assert peer.events == [Completed(call, None, None)]


def test_an_error_arrives_as_the_server_worded_it() -> None:
    peer = connected_peer(encoding="messagepack")
    client_of(peer).invoke("m", now=0.0)
    peer.feed(packed_frame({"type": 3, "invocationId": "1", "error": "no €"}))
    (completed,) = peer.events
    assert isinstance(completed.error, HubError)
    assert str(completed.error) == "no €"


def test_headers_travel() -> None:
    codec = MessagePackCodec()
    message = Invocation(target="t", arguments=[], headers={"k": "v", "": "€"})
    (record,) = LengthPrefixReader().feed(codec.encode(message))
    assert unpack(record)[1] == {"k": "v", "": "€"}
    assert codec.decode(record) == message


def test_a_header_that_is_no_text_is_refused() -> None:
    peer = connected_peer(encoding="messagepack")
    peer.feed(packed_frame(pack([1, {"k": 1}, None, "t", [], []])))
    assert isinstance(peer.error, RemoteProtocolError)


@pytest.mark.parametrize("extension", [Extension(-1, bytes(4)), Extension(7, b"x")])
def test_arguments_may_be_anything(extension: Extension) -> None:
    peer = connected_peer(encoding="messagepack")
    peer.feed(packed_frame(pack([1, {}, None, "t", [extension, {2: b"x"}], []])))
    (event,) = peer.events
    assert isinstance(event, InvocationReceived)
    assert event.arguments[1] == {2: b"x"}


# --------------------------------------------------------------------------------------------------- who chooses it


def test_the_handshake_travels_as_text_and_everything_after_it_in_binary() -> None:
    peer = RawPeer(hub(encoding="messagepack"))
    peer.negotiate()
    peer.upgrade(frame(b"{}\x1e", 2) + packed_frame({"type": 6}))
    client_of(peer).invoke("m", [0.5], now=0.0)
    peer.settle()
    sent = FrameReader().feed(peer.sent.partition(b"\r\n\r\n")[2])
    assert [(each.opcode, each.payload[:1]) for each in sent] == [(TEXT, b"{"), (BINARY, b"\x02"), (BINARY, b"\x12")]
    assert sent[0].payload == b'{"protocol":"messagepack","version":1}\x1e'
    assert unpack(sent[2].payload[1:]) == as_array({"type": 1, "invocationId": "1", "target": "m", "arguments": [0.5]})


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@chunkings
def test_the_kind_of_a_message_is_not_judged(chunking: Any, opcode: int) -> None:
    """The .NET server answers the handshake in a binary message, the Go server in a text message."""
    peer = RawPeer(hub(encoding="messagepack"), chunking)
    peer.negotiate()
    peer.upgrade(frame(b"{}\x1e", opcode) + packed_frame({"type": 1, "target": "t", "arguments": []}))
    assert [type(event) for event in peer.events[-2:]] == [Connected, InvocationReceived]


def test_a_record_may_span_messages_and_a_message_hold_many() -> None:
    peer = connected_peer(encoding="messagepack")
    call = client_of(peer).stream("m", now=0.0)
    data = b"".join(packed_frame({"type": 2, "invocationId": "1", "item": n})[2:] for n in range(5))
    for size in (1, 3, len(data)):
        for start in range(0, len(data), size):
            peer.feed(frame(data[start : start + size], BINARY))
        assert peer.events == [ItemReceived(call, n) for n in range(5)]
        peer.events.clear()


def test_the_server_must_offer_it() -> None:
    pair = joined(hub(encoding="messagepack"), encodings=["json"])
    (closed,) = [event for event in pair.events if isinstance(event, Closed)]
    assert isinstance(closed.error, NegotiationFailed)
    assert "WebSockets with Binary" in str(closed.error)


def test_a_server_refuses_what_it_does_not_offer() -> None:
    pair = joined(hub(encoding="messagepack", skip_negotiation=True), encodings=["json"])
    (closed,) = [event for event in pair.events if isinstance(event, Closed)]
    assert isinstance(closed.error, HandshakeRefused)
    assert "The protocol 'messagepack' is not supported." in str(closed.error)
    pair = joined(hub(skip_negotiation=True), encodings=["messagepack"])
    (closed,) = [event for event in pair.events if isinstance(event, Closed)]
    assert isinstance(closed.error, HandshakeRefused)


@pytest.mark.parametrize("encoding", ["json", "messagepack"])
def test_a_server_knows_what_the_client_chose(encoding: str) -> None:
    pair = joined(hub(encoding=encoding))
    assert pair.client.state is State.CONNECTED
    assert pair.partner.encoding == encoding
    assert take(pair.partner) == []


def test_an_encoding_that_is_none_is_refused() -> None:
    unknown: Any = "cbor"
    with pytest.raises(LocalProtocolError, match="json, messagepack"):
        HubConfig(url="https://h/hub", encoding=unknown)
    with pytest.raises(LocalProtocolError, match="json, messagepack"):
        ServerConfig(encodings=[unknown])
    with pytest.raises(LocalProtocolError, match="json, messagepack"):
        ServerConfig(encodings=[])
