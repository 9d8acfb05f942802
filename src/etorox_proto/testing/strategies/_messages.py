"""Hub messages in both encodings: sound ones of every kind, those at the edge of a limit, and those that are none.

Source: SignalR hub protocol, "Message types", "JSON encoding", "MessagePack encoding", "Handshake".
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal

import msgspec
from hypothesis import strategies as st

from etorox_proto.signalr import (
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HubMessage,
    Invocation,
    JsonCodec,
    MessagePackCodec,
    Ping,
    Sequence,
    StreamInvocation,
    StreamItem,
    encode_handshake_request,
    encode_handshake_response,
    length_prefixed,
)

__all__ = [
    "CODECS",
    "Encoding",
    "HandshakeExchange",
    "RecordStream",
    "boundary_messages",
    "handshake_exchanges",
    "hub_messages",
    "malformed_records",
    "payloads",
    "plain_values",
    "record_streams",
]

Encoding = Literal["json", "messagepack"]
"""How hub messages travel."""

CODECS: Mapping[Encoding, JsonCodec | MessagePackCodec] = MappingProxyType(
    {"json": JsonCodec(), "messagepack": MessagePackCodec()}
)
"""The tolerant codec of each encoding."""

_SEPARATOR = b"\x1e"
_texts = st.text(max_size=8)
_ids = st.sampled_from(["1", "2", "3", "a", "é", "x" * 40])
_targets = st.sampled_from(["t", "echo", "", "€😀"])
_headers = st.dictionaries(_texts, _texts, max_size=2)
_stream_ids = st.lists(_ids, max_size=2, unique=True)
# A microsecond is the least that a timestamp can say here, as .NET and Python agree on no finer one.
_timestamps = st.datetimes(timezones=st.just(datetime.UTC))

# Where numbers change their size on the wire, and what no 64 bits hold.
_EDGES = (
    0,
    1,
    -1,
    127,
    128,
    -32,
    -33,
    255,
    256,
    65_535,
    65_536,
    2**31,
    -(2**31) - 1,
    2**53,
    -(2**63),
    2**63 - 1,
    2**64 - 1,
)


def plain_values(encoding: Encoding = "json", *, max_leaves: int = 6) -> st.SearchStrategy[Any]:
    """Values that travel in this encoding and come back equal: arguments, items, results.

    Numbers with a fraction are `Decimal` in JSON and `float` in MessagePack; bytes and times exist only in the latter.
    """
    if encoding == "json":
        own: st.SearchStrategy[Any] = st.decimals(-(10**9), 10**9, places=2) | st.sampled_from(
            [Decimal("0.10"), Decimal("1E-18"), Decimal("-0.0"), 2**64, -(10**30)]
        )
    else:
        own = st.floats(allow_nan=False) | st.binary(max_size=8) | _timestamps
    leaves = st.none() | st.booleans() | st.sampled_from(_EDGES) | st.integers(-(2**63), 2**64 - 1) | _texts | own
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
        max_leaves=max_leaves,
    )


def payloads(encoding: Encoding = "json") -> st.SearchStrategy[msgspec.Raw]:
    """The same, encoded: what `StreamItem.item` and `Completion.result` hold."""
    codec = CODECS[encoding]
    return plain_values(encoding).map(lambda value: codec.encode_payload(value, "a payload"))


def _kinds(encoding: Encoding) -> dict[type[HubMessage], st.SearchStrategy[HubMessage]]:
    arguments = st.lists(plain_values(encoding, max_leaves=3), max_size=3)
    # In JSON a result of null beside an error is allowed, but nobody sends it.
    ended = {"invocation_id": _ids, "headers": _headers}
    called = {"target": _targets, "arguments": arguments, "stream_ids": _stream_ids, "headers": _headers}
    sequence_ids = st.sampled_from([0, 1, 2**31, 2**63 - 1]) | st.integers(0, 1_000)
    return {
        Ping: st.just(Ping()),
        Invocation: st.builds(Invocation, invocation_id=st.none() | _ids, **called),
        StreamItem: st.builds(StreamItem, invocation_id=_ids, item=payloads(encoding), headers=_headers),
        Completion: st.one_of(
            st.builds(Completion, **ended),
            st.builds(Completion, result=payloads(encoding), **ended),
            st.builds(Completion, error=_texts, **ended),
        ),
        StreamInvocation: st.builds(StreamInvocation, invocation_id=_ids, **called),
        CancelInvocation: st.builds(CancelInvocation, **ended),
        Close: st.builds(Close, error=st.none() | _texts, allow_reconnect=st.booleans()),
        Ack: st.builds(Ack, sequence_id=sequence_ids),
        Sequence: st.builds(Sequence, sequence_id=sequence_ids),
    }


_STRATEGIES: Mapping[Encoding, Mapping[type[HubMessage], st.SearchStrategy[HubMessage]]] = {
    "json": _kinds("json"),
    "messagepack": _kinds("messagepack"),
}


def hub_messages(*kinds: type[HubMessage], encoding: Encoding = "json") -> st.SearchStrategy[HubMessage]:
    """Sound hub messages, their payloads in this encoding. `CODECS[encoding].encode` gives the bytes.

    Args:
        kinds: such as `Invocation, StreamItem`; by default all nine.
        encoding: of the payloads.
    """
    table = _STRATEGIES[encoding]
    return st.one_of([table[kind] for kind in kinds or table])


def boundary_messages(limit: int, encoding: Encoding = "json") -> st.SearchStrategy[tuple[HubMessage, int]]:
    """Messages around a limit of so many bytes: one byte below it, just it, one above, each with its length.

    The length is that of the record without separator or prefix, which is what `Limits.record` bounds.

    Args:
        limit: at least 100 bytes.
        encoding: in which it has that length.
    """
    codec = CODECS[encoding]
    body = _body(encoding)

    def of(length: int) -> tuple[HubMessage, int]:
        # A longer text may need a longer prefix of its own, which leaves a gap for a longer id to fill.
        for digits in range(1, 5):
            for size in range(length, max(0, length - 60), -1):
                item = codec.encode_payload("x" * size, "the item")
                message = StreamItem(invocation_id="1" * digits, item=item)
                if len(body(message)) == length:
                    return message, length
        raise AssertionError("some id and text together have any length")

    return st.sampled_from([of(length) for length in (limit, limit - 1, limit + 1)])


def malformed_records(encoding: Encoding = "json") -> st.SearchStrategy[bytes]:
    """Records that no reader may take for a hub message, without separator or prefix: each refused by the codec.

    Cut short, followed by more, without a property, with one of another type, of no type, or no message at all.
    """
    sound = hub_messages(encoding=encoding).map(_body(encoding))
    cut = st.tuples(sound, st.integers(0, 10_000)).map(lambda drawn: drawn[0][: drawn[1] % len(drawn[0])])
    if encoding == "json":
        foreign = st.sampled_from(
            [b"", b"{", b"null", b"[]", b"1", b'"x"', b"{}", b'{"type":"1"}', b'{"type":null}', b"\xff"]
        )
        longer = sound.map(lambda body: body + b"}")
        return st.one_of(foreign, cut, longer, _distorted.map(msgspec.json.encode))
    foreign = st.sampled_from([b"", b"\x80", b"\xc0", b"\x90", b"\x91\xa11", b"\x91\xc0", b"\x01", b"\xa1x", b"\xc1"])
    # An array that announces more elements than there are bytes must be refused before room is made for it.
    endless = st.just(b"\x96\x01\x80\xc0\xa1t\xdd\x7f\xff\xff\xff\x01")
    longer = sound.map(lambda body: body + b"\xc0")
    return st.one_of(
        foreign, cut, longer, endless, _distorted.map(lambda each: msgspec.msgpack.encode(list(each.values())))
    )


def _body(encoding: Encoding) -> Callable[[HubMessage], bytes]:
    codec = CODECS[encoding]

    def body(message: HubMessage) -> bytes:
        (record,) = codec.reader(1 << 40).feed(codec.encode(message))
        return record

    return body


# Of each kind that has properties: in the order of MessagePack, with values that are sound.
_SOUND: tuple[dict[str, Any], ...] = (
    {"type": 1, "headers": {}, "invocationId": "1", "target": "t", "arguments": [], "streamIds": []},
    {"type": 2, "headers": {}, "invocationId": "1", "item": 1},
    {"type": 4, "headers": {}, "invocationId": "1", "target": "t", "arguments": [], "streamIds": []},
    {"type": 5, "headers": {}, "invocationId": "1"},
    {"type": 8, "sequenceId": 1},
    {"type": 9, "sequenceId": 1},
)


@st.composite
def _distort(draw: st.DrawFn) -> dict[str, Any]:
    """A message of which one property has another type; every type but that of an item, which may be anything."""
    message = dict(draw(st.sampled_from(_SOUND)))
    name = draw(st.sampled_from([name for name in message if name not in {"type", "item"}]))
    message[name] = draw(st.sampled_from([True, 1.5, [{}]] if name != "arguments" else [True, 1.5, {}]))
    return message


_distorted = _distort()


class RecordStream(msgspec.Struct, frozen=True):
    """What one side says after its handshake, as a byte stream.

    Attributes:
        records: the records, each without its separator or prefix.
        tail: the beginning of one more, or nothing.
        data: all of it as it travels.
    """

    records: tuple[bytes, ...]
    tail: bytes
    data: bytes


@st.composite
def record_streams(
    draw: st.DrawFn, encoding: Encoding = "json", *, bodies: st.SearchStrategy[bytes] | None = None, max_size: int = 5
) -> RecordStream:
    """Records one behind the other, the last perhaps incomplete.

    Args:
        draw: given by Hypothesis.
        encoding: separators for JSON, length prefixes for MessagePack.
        bodies: what the records hold; by default sound hub messages. With JSON none may contain 0x1e.
        max_size: of how many records at most.
    """
    body = hub_messages(encoding=encoding).map(_body(encoding)) if bodies is None else bodies
    records = tuple(draw(st.lists(body, max_size=max_size)))
    frame: Callable[[bytes], bytes] = length_prefixed if encoding == "messagepack" else _separated
    tail = b""
    if draw(st.booleans()):
        whole = frame(draw(body))
        tail = whole[: draw(st.integers(0, len(whole) - 1))]
    return RecordStream(records, tail, b"".join(map(frame, records)) + tail)


def _separated(body: bytes) -> bytes:
    return body + _SEPARATOR


class HandshakeExchange(msgspec.Struct, frozen=True):
    """The first record of either side, separators included.

    Attributes:
        request: the client's.
        response: the server's.
        outcome: what the client has to make of the response.
    """

    request: bytes
    response: bytes
    outcome: Literal["accepted", "refused", "malformed"]


def handshake_exchanges(encoding: Encoding = "json") -> st.SearchStrategy[HandshakeExchange]:
    """Handshakes: accepted, refused with any text, or answered with something that is no handshake."""
    request = encode_handshake_request(encoding, 1)
    accepted = st.sampled_from([b"{}\x1e", b"{ }\x1e", b'{"new":[1]}\x1e', b'{"error":null}\x1e'])
    refused = _texts.map(encode_handshake_response)
    malformed = st.sampled_from(
        [b"\x1e", b"{\x1e", b"null\x1e", b"[]\x1e", b'{"error":1}\x1e', b'{"type":6}\x1e', b"\xff\x1e"]
    )
    return st.one_of(
        accepted.map(lambda response: HandshakeExchange(request, response, "accepted")),
        refused.map(lambda response: HandshakeExchange(request, response, "refused")),
        malformed.map(lambda response: HandshakeExchange(request, response, "malformed")),
    )
