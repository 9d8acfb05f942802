"""The published vectors for hub messages, handshake and framing, case by case; see `data/vectors/README.md`."""

from __future__ import annotations

import base64

import pytest

from etorox_proto.signalr import (
    HandshakeRefused,
    JsonCodec,
    LengthPrefixReader,
    LimitExceeded,
    RecordReader,
    RemoteProtocolError,
    encode_handshake_request,
    encode_handshake_response,
    encode_length,
    length_prefixed,
    parse_handshake_request,
    parse_handshake_response,
)
from normal_form import built, normal
from peers import DATA, read_json
from vectors import COUNTS, Case, Vectors, check_mentions, ways, wire

JSON_HUB = Vectors("json_hub")
HANDSHAKE = Vectors("handshake")
FRAMING = Vectors("framing")


# ---------------------------------------------------------------------------------------------- hub messages


@JSON_HUB.each("decode")
def test_hub_messages_are_read(case: Case) -> None:
    expected = case["messages"] if "messages" in case else [case["message"]]
    for pieces in ways(case):
        reader, codec = RecordReader(65_536), JsonCodec()
        found: list[Case | None] = []
        for number, piece in enumerate(pieces, 1):
            found += [normal(codec.decode(record), read_json) for record in reader.feed(piece)]
            assert found == [] or number == len(pieces) or len(expected) != 1
        assert [message for message in found if message is not None] == expected
        assert reader.incomplete == wire(case, "leftover")


# A property, or a type, that the protocol does not have: the officials ignore it, a strict reader refuses it.
UNKNOWN = {"json-115", "json-158", "json-160", "json-162", "json-164"}


@JSON_HUB.each("decode")
def test_a_strict_reader_refuses_what_it_does_not_know_and_nothing_else(case: Case) -> None:
    records = RecordReader(65_536).feed(wire(case))
    tolerant, strict = JsonCodec(), JsonCodec(strict=True)
    if case["id"] in UNKNOWN:
        (record,) = records
        with pytest.raises(RemoteProtocolError):
            strict.decode(record)
    else:
        for record in records:
            assert normal(strict.decode(record), read_json) == normal(tolerant.decode(record), read_json)


@JSON_HUB.each("encode")
def test_hub_messages_are_written(case: Case) -> None:
    assert case["compare"] == "json"
    written = JsonCodec().encode(built(case["message"], JsonCodec()))
    assert written.endswith(b"\x1e")
    assert read_json(written[:-1]) == read_json(wire(case)[:-1])


@JSON_HUB.each("reject")
def test_broken_hub_messages_are_refused(case: Case) -> None:
    for pieces in ways(case):
        reader = RecordReader(65_536)
        (record,) = [record for piece in pieces for record in reader.feed(piece)]
        for strict in (False, True):
            with pytest.raises(RemoteProtocolError) as caught:
                JsonCodec(strict=strict).decode(record)
            check_mentions(case, caught.value)


# --------------------------------------------------------------------------------------------------- handshake


def read_handshake(record: bytes, role: str) -> Case:
    if role == "server":
        request = parse_handshake_request(record)
        return {"type": "handshake_request", "protocol": request.protocol, "version": request.version}
    try:
        parse_handshake_response(record)
    except HandshakeRefused as refusal:
        return {"type": "handshake_response", "error": str(refusal)}
    return {"type": "handshake_response", "error": None}


@HANDSHAKE.each("decode")
def test_handshakes_are_read(case: Case) -> None:
    for pieces in ways(case):
        reader = RecordReader(65_536)
        records = [record for piece in pieces for record in reader.feed(piece)]
        if "messages" in case:
            assert records == case["messages"] == []
            rest = reader.incomplete
        else:
            handshake = read_handshake(records[0], case["role"])
            expected = dict(case["message"])
            if expected.get("error") is not None:
                # The library reports a refusal as an error; what it says holds the server's text.
                assert expected.pop("error") in handshake.pop("error")
            assert handshake == expected
            rest = b"".join(record + b"\x1e" for record in records[1:]) + reader.incomplete
        assert rest == wire(case, "leftover")


@HANDSHAKE.each("encode")
def test_handshakes_are_written(case: Case) -> None:
    assert case["compare"] == "json"
    message = case["message"]
    if message["type"] == "handshake_request":
        written = encode_handshake_request(message["protocol"], message["version"])
    else:
        written = encode_handshake_response(message["error"])
    assert written.endswith(b"\x1e")
    assert read_json(written[:-1]) == read_json(wire(case)[:-1])


@HANDSHAKE.each("reject")
def test_broken_handshakes_are_refused(case: Case) -> None:
    for pieces in ways(case):
        reader = RecordReader(65_536)
        (record,) = [record for piece in pieces for record in reader.feed(piece)]
        with pytest.raises(RemoteProtocolError) as caught:
            read_handshake(record, case["role"])
        check_mentions(case, caught.value)


# ----------------------------------------------------------------------------------------------------- framing


def frame_reader(case: Case) -> RecordReader | LengthPrefixReader:
    return RecordReader(65_536) if case["format"] == "text" else LengthPrefixReader()


def frames(case: Case) -> list[bytes]:
    text: list[str] = case["frames"]
    return [frame.encode() if case["format"] == "text" else base64.b64decode(frame) for frame in text]


@FRAMING.each("decode")
def test_frames_are_read(case: Case) -> None:
    if case["format"] == "varint":
        # A reader that allows just this length waits for the body, one that allows a byte less refuses it.
        length = case["length"]
        assert LengthPrefixReader(length).feed(wire(case)) == []
        with pytest.raises(LimitExceeded):
            LengthPrefixReader(length - 1).feed(wire(case))
        return
    for pieces in ways(case):
        reader = frame_reader(case)
        assert [record for piece in pieces for record in reader.feed(piece)] == frames(case)
        assert reader.incomplete == wire(case, "leftover")


@FRAMING.each("encode")
def test_frames_are_written(case: Case) -> None:
    assert case["compare"] == "bytes"
    if case["format"] == "varint":
        assert encode_length(case["length"]) == wire(case)
    else:
        assert case["format"] == "binary"
        assert b"".join(length_prefixed(body) for body in frames(case)) == wire(case)


@FRAMING.each("reject")
def test_broken_frames_are_refused(case: Case) -> None:
    for pieces in ways(case):
        reader = frame_reader(case)
        with pytest.raises(RemoteProtocolError) as caught:
            _ = [reader.feed(piece) for piece in pieces]
        check_mentions(case, caught.value)


@pytest.mark.parametrize("vectors", [JSON_HUB, HANDSHAKE, FRAMING])
def test_no_case_is_left_over(vectors: Vectors) -> None:
    assert vectors.left_over() == set()


def test_every_file_of_vectors_is_read() -> None:
    assert {path.stem for path in (DATA / "vectors").glob("*.json")} == COUNTS.keys()
