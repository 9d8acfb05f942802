"""The published vectors for hub messages in MessagePack, case by case; see `data/vectors/README.md`."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from etorox_proto.signalr import LengthPrefixReader, MessagePackCodec, RemoteProtocolError
from normal_form import built, normal
from plain_msgpack import Extension, split, unpack
from vectors import Case, Vectors, check_mentions, ways, wire

MESSAGEPACK_HUB = Vectors("messagepack_hub")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def python(value: Any) -> Any:
    """A value of the vectors, whose timestamps and bytes are written down in JSON, as the library has it."""
    match value:
        case {"$bin": text}:
            return base64.b64decode(text)
        case {"$timestamp": {"seconds": seconds, "nanoseconds": nanoseconds}}:
            assert nanoseconds % 1_000 == 0
            return datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1_000)
        case Decimal():
            return float(value)
        case dict():
            return {key: python(each) for key, each in value.items()}
        case list():
            return [python(each) for each in value]
        case _:
            return value


def plain(payload: bytes) -> Any:
    return MessagePackCodec().payload_decoder(Any)(msgspec.Raw(payload))


@MESSAGEPACK_HUB.each("decode")
@pytest.mark.parametrize("strict", [False, True])
def test_hub_messages_are_read(case: Case, strict: bool) -> None:
    if strict and case["category"] in {"extra_elements", "unknown_type"}:
        # The officials ignore these; a strict reader refuses them.
        (record,) = LengthPrefixReader(65_536).feed(wire(case))
        with pytest.raises(RemoteProtocolError):
            MessagePackCodec(strict=True).decode(record)
        return
    expected = python(case["messages"] if "messages" in case else [case["message"]])
    for pieces in ways(case):
        reader, codec = LengthPrefixReader(65_536), MessagePackCodec(strict=strict)
        found: list[Case | None] = []
        for piece in pieces:
            found += [normal(codec.decode(record), plain) for record in reader.feed(piece)]
        assert [message for message in found if message is not None] == expected
        assert reader.incomplete == wire(case, "leftover")


@MESSAGEPACK_HUB.each("encode")
def test_hub_messages_are_written(case: Case) -> None:
    codec = MessagePackCodec()
    written = codec.encode(built(python(case["message"]), codec))
    (ours,), (theirs,) = split(written), split(wire(case))
    assert case["compare"] in {"bytes", "msgpack"}
    assert unpack(ours) == unpack(theirs)
    # The shortest form of everything: nothing that the official writers do could be shorter.
    assert len(written) <= len(wire(case))
    if case["compare"] == "bytes":
        assert written == wire(case)


@MESSAGEPACK_HUB.each("reject")
def test_broken_hub_messages_are_refused(case: Case) -> None:
    for pieces in ways(case):
        reader = LengthPrefixReader(65_536)
        (record,) = [record for piece in pieces for record in reader.feed(piece)]
        for strict in (False, True):
            with pytest.raises(RemoteProtocolError) as caught:
                MessagePackCodec(strict=strict).decode(record)
            check_mentions(case, caught.value)


def test_no_case_is_left_over() -> None:
    assert MESSAGEPACK_HUB.left_over() == set()


def test_the_plain_reader_knows_extensions() -> None:
    """The judge of what is written is itself held to a case with a timestamp."""
    assert unpack(bytes.fromhex("d6ff58ec1100")) == Extension(-1, bytes.fromhex("58ec1100"))
