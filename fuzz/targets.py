"""What is fuzzed: plain functions of bytes that return nothing and fail by raising.

The first line of each docstring is the invariant, in words. No fuzzing engine is imported here, so the same functions
serve Atheris (`run.py --atheris`), Hypothesis and the replay of seeds (`tests/test_fuzz_targets.py`), and anything else
that has bytes. Limits are small, so that inputs of a few hundred bytes reach them.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import msgspec
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, TextMessage

from etorox_proto import CredentialsError, event_decoder, load_private_key, row_decoder, row_type
from etorox_proto.signalr import (
    Closed,
    Completed,
    ConnectionFailed,
    ConnectionTokens,
    HandshakeRefused,
    HubConfig,
    HubConnection,
    HubEvent,
    InvocationReceived,
    ItemReceived,
    JsonCodec,
    LengthPrefixReader,
    LimitExceeded,
    Limits,
    MessagePackCodec,
    NegotiationFailed,
    RecordReader,
    RemoteProtocolError,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    State,
    UpgradeFailed,
    UploadItemReceived,
    encode_handshake_request,
    parse_handshake_request,
    parse_handshake_response,
)

__all__ = ["ACCEPT", "TARGETS"]

ACCEPT = b"{accept}"
"""In the bytes of `upgrade` it stands for the Sec-WebSocket-Accept that fits the request, which no fuzzer can guess."""

_LIMITS = Limits(record=400, websocket_message=800, http_head=800, http_body=400)
_LONGEST = 4_096
_NOW = 100.0

Outcome = list[tuple[Any, ...]]


# ------------------------------------------------------------------------------------------------ layers


def framing(data: bytes) -> None:
    """Both readers find the records that a naive splitter finds, or fail where it fails, however the bytes are cut."""
    data = data[:_LONGEST]
    for limit in (8, 64):
        for cuts in _in_pieces(len(data), range(1, min(len(data), 24))):
            pieces = [data[cut] for cut in cuts]
            assert _read_all(RecordReader(limit), pieces) == _split_records(data, limit)
            assert _read_all(LengthPrefixReader(limit), pieces) == _split_prefixed(data, limit)


def json_message(data: bytes) -> None:
    """Any record decodes or is a RemoteProtocolError; what decodes survives encoding; strict accepts no more."""
    tolerant, strict = JsonCodec(), JsonCodec(strict=True)
    try:
        message = tolerant.decode(data)
    except RemoteProtocolError:
        message = None
    try:
        strict_message = strict.decode(data)
    except RemoteProtocolError:
        strict_message = None
    if message is not None:
        record = tolerant.encode(message)
        assert record.endswith(b"\x1e")
        assert b"\x1e" not in record[:-1]
        assert tolerant.decode(record[:-1]) == message
    if strict_message is not None:
        assert message is not None, "the tolerant codec refuses what the strict one takes"
        assert strict.encode(strict_message) == tolerant.encode(message)


def messagepack_message(data: bytes) -> None:
    """Any record decodes or is a RemoteProtocolError; what decodes survives encoding; strict accepts no more."""
    tolerant, strict = MessagePackCodec(), MessagePackCodec(strict=True)
    try:
        message = tolerant.decode(data)
    except RemoteProtocolError:
        message = None
    try:
        strict_message = strict.decode(data)
    except RemoteProtocolError:
        strict_message = None
    if message is not None:
        (record,) = LengthPrefixReader().feed(tolerant.encode(message))
        again = tolerant.decode(record)
        # Not a number is not equal to itself, and the map keys of a payload may be of any kind: their bytes tell.
        assert tolerant.encode(again) == tolerant.encode(message)
        assert type(again) is type(message)
    if strict_message is not None:
        assert message is not None, "the tolerant codec refuses what the strict one takes"
        assert strict.encode(strict_message) == tolerant.encode(message)


def handshake(data: bytes) -> None:
    """Any record is a handshake or refused with one of the two documented errors; a request survives encoding."""
    try:
        request = parse_handshake_request(data)
    except RemoteProtocolError:
        pass
    else:
        assert parse_handshake_request(encode_handshake_request(request.protocol, request.version)[:-1]) == request
    with contextlib.suppress(RemoteProtocolError, HandshakeRefused):
        parse_handshake_response(data)


def private_key(data: bytes) -> None:
    """Any source gives a key that signs, or a CredentialsError and nothing else, as bytes and as text."""
    for source in (data, data.decode("latin-1")):
        try:
            key = load_private_key(source)
        except CredentialsError:
            continue
        assert len(key.sign(b"payload")) == (key.bits + 7) // 8


def market(data: bytes) -> None:
    """No item that is JSON, with numbers that Python can hold, makes a decoder raise; the rest raises as JSON does."""
    try:
        _plain.decode(data)
    except _NOT_JSON:
        well_formed = False
    else:
        well_formed = True
    for decode in _ITEM_DECODERS:
        try:
            decode(data)
        except _NOT_JSON:
            assert not well_formed, "an item of well-formed JSON was refused"


# ----------------------------------------------------------------------------------------- whole connections


def negotiation(data: bytes) -> None:
    """Any bytes after the negotiate request: nothing raises, one `Closed` comes last, and cuts change nothing."""

    def start() -> _Run:
        return _Run(HubConnection(HubConfig(url="http://localhost/hub", limits=_LIMITS), now=_NOW))

    _check_cuts(start, data)


def upgrade(data: bytes) -> None:
    """Any bytes after the upgrade request: nothing raises, one `Closed` comes last, and cuts change nothing."""
    _check_cuts(_upgrading, data)


def frames(data: bytes) -> None:
    """Any bytes to a connected client: nothing raises, its call and stream settle once, and cuts change nothing."""
    _check_cuts(_connected, data)


def compressed_frames(data: bytes) -> None:
    """Any bytes to a connected client that agreed to compress: as for `frames`."""
    _check_cuts(lambda: _connected(compression=True), data)


def records(data: bytes) -> None:
    """Any bytes in WebSocket messages, so that all reach the hub: nothing raises, and cuts change nothing."""

    def start() -> _Run:
        # Cuts make several messages of one here, so the limit on a message must be out of reach.
        run = _connected(Limits(record=_LIMITS.record, websocket_message=_LONGEST))
        server = WSConnection(ConnectionType.SERVER)
        server.receive_data(run.request)
        server.send(AcceptConnection())

        def wrap(piece: bytes) -> bytes:
            try:
                return server.send(TextMessage(data=piece.decode("utf-8")))
            except UnicodeDecodeError:
                return server.send(BytesMessage(data=piece))

        run.wrap = wrap
        return run

    _check_cuts(start, data)


def items(data: bytes) -> None:
    """Any bytes as items of one stream, or as records, in a frame each: nothing raises, and no way of reading differs.

    A line is an item, or a record if it begins with `{"type"`. A stream with a decoder of its own is read in the
    ordinary way, one without in a shorter one where that can be.
    """
    lines = [b"{}", *data[:_LONGEST].split(b"\n")]
    records = [line if line.startswith(b'{"type"') else _ITEM % line for line in lines]
    framed = b"".join(_text_frame(record + b"\x1e") for record in records)
    _check_cuts(_connected, framed)
    ordinary = JsonCodec().payload_decoder(Any)
    at_once = [slice(None)]
    assert _play(_connected(), framed, at_once) == _play(_connected(item_decoder=ordinary), framed, at_once)


def packed_records(data: bytes) -> None:
    """Any bytes in binary messages to a client that speaks MessagePack: nothing raises, and cuts change nothing."""

    def start() -> _Run:
        run = _connected(Limits(record=_LIMITS.record, websocket_message=_LONGEST), encoding="messagepack")
        server = WSConnection(ConnectionType.SERVER)
        server.receive_data(run.request)
        server.send(AcceptConnection())
        run.wrap = lambda piece: server.send(BytesMessage(data=piece))
        return run

    _check_cuts(start, data)


def server(data: bytes) -> None:
    """Any bytes to a server: nothing raises, one `Closed` comes last, and cuts change neither events nor answers."""

    def start() -> _Run:
        tokens = ConnectionTokens(f"name{number}" for number in itertools.count())
        return _Run(ServerConnection(ServerConfig(limits=_LIMITS), tokens=tokens, now=_NOW))

    _check_cuts(start, data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        framing,
        json_message,
        messagepack_message,
        handshake,
        negotiation,
        upgrade,
        frames,
        compressed_frames,
        records,
        items,
        packed_records,
        server,
        private_key,
        market,
    )
}


# ------------------------------------------------------------------------------------ the naive counterparts


def _split_records(data: bytes, limit: int) -> object:
    *whole, rest = data.split(b"\x1e")
    return "limit" if any(len(record) > limit for record in (*whole, rest)) else (whole, rest)


def _split_prefixed(data: bytes, limit: int) -> object:
    whole: list[bytes] = []
    while prefix := re.match(rb"[\x80-\xff]{0,4}[\x00-\x7f]|[\x80-\xff]{5}", data):
        digits = prefix[0]
        if len(digits) == 5 and digits[4] > 7:
            return "malformed"
        length = sum((digit & 0x7F) << 7 * place for place, digit in enumerate(digits))
        if length > limit:
            return "limit"
        if len(data) < len(digits) + length:
            break
        whole.append(data[len(digits) : len(digits) + length])
        data = data[len(digits) + length :]
    return whole, data


def _read_all(reader: RecordReader | LengthPrefixReader, pieces: Iterable[bytes]) -> object:
    found: list[bytes] = []
    try:
        for piece in pieces:
            found += reader.feed(piece)
    except LimitExceeded:
        return "limit"
    except RemoteProtocolError:
        return "malformed"
    return found, reader.incomplete


# ----------------------------------------------------------------------------------------- how runs are made


_plain = msgspec.json.Decoder(float_hook=Decimal)
_NOT_JSON = (msgspec.MsgspecError, UnicodeError, RecursionError, InvalidOperation)
_ITEM_DECODERS: tuple[Callable[[bytes], object], ...] = (
    event_decoder(),
    row_decoder(row_type(["id", "market", "price", "snapshot_id", "something_new", "updated_at"])),
)


_ITEM = b'{"type":2,"invocationId":"3","item":%s}'


def _text_frame(payload: bytes) -> bytes:
    length = len(payload)
    head = bytes([0x81, length]) if length < 126 else b"\x81\x7e" + length.to_bytes(2, "big")
    return head + payload


def _same(piece: bytes) -> bytes:
    return piece


@dataclass
class _Run:
    """One machine on its way through the bytes, drained after every input as its contract demands."""

    machine: HubConnection | ServerConnection
    fill_in: Callable[[bytes], bytes] = _same
    wrap: Callable[[bytes], bytes] = _same
    request: bytes = b""
    output: bytes = b""
    events: list[HubEvent | ServerEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.drain()
        if isinstance(self.machine, HubConnection):
            self.machine.stream_opened(_NOW)
        self.drain()
        self.request, self.output = self.output, b""

    def drain(self) -> None:
        self.output += self.machine.data_to_send()
        while (event := self.machine.next_event()) is not None:
            assert not any(isinstance(before, Closed) for before in self.events), "an event behind Closed"
            self.events.append(event)
        assert (self.machine.state is State.CLOSED) == any(isinstance(event, Closed) for event in self.events)

    def feed(self, data: bytes) -> None:
        self.machine.receive_data(data, _NOW)
        self.drain()

    def finish(self) -> None:
        """Answer what waits, meet two deadlines, end the stream, and see that nothing moves afterwards."""
        machine = self.machine
        if machine.state is State.CONNECTED:
            for event in self.events.copy():
                if isinstance(event, InvocationReceived) and event.invocation_id is not None:
                    machine.complete(event.invocation_id, now=_NOW)
                    self.drain()
        for _ in range(2):
            before = machine.deadline
            if before < math.inf:
                machine.handle_timeout(before)
                self.drain()
                assert machine.deadline > before, "a deadline that was met did not move"
        for _ in range(2):
            if isinstance(machine, HubConnection):
                machine.stream_opened(_NOW)
            self.feed(b"")
        assert machine.state is State.CLOSED
        assert machine.deadline == math.inf
        if isinstance(machine, HubConnection):
            assert machine.pending_calls == 0


def _upgrading(
    limits: Limits = _LIMITS, encoding: Literal["json", "messagepack"] = "json", *, compression: bool = False
) -> _Run:
    config = HubConfig(
        url="http://localhost/hub",
        encoding=encoding,
        compression=compression,
        handles=["t"],
        skip_negotiation=True,
        limits=limits,
    )
    run = _Run(HubConnection(config, now=_NOW))
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", run.request)
    assert key is not None, "an upgrade request has a key"
    accept = base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
    run.fill_in = lambda data: data.replace(ACCEPT, accept)
    return run


def _connected(
    limits: Limits = _LIMITS,
    encoding: Literal["json", "messagepack"] = "json",
    *,
    compression: bool = False,
    item_decoder: Callable[[Any], Any] | None = None,
) -> _Run:
    run = _upgrading(limits, encoding, compression=compression)
    extension = b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if compression else b""
    run.feed(
        run.fill_in(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + extension
            + b"Sec-WebSocket-Accept: "
            + ACCEPT
            + b"\r\n\r\n\x81\x03{}\x1e"
        )
    )
    run.fill_in = _same
    assert isinstance(run.machine, HubConnection), "a client is what was made"
    (upload,) = run.machine.invoke("call", uploads=1, now=_NOW).uploads
    run.machine.send_item(upload, None, now=_NOW)
    run.machine.stream("stream", item_decoder=item_decoder, now=_NOW)
    run.drain()
    return run


def _check_cuts(start: Callable[[], _Run], data: bytes) -> None:
    # The key of a request differs from run to run, its length does not.
    length = min(len(start().fill_in(data)), _LONGEST)
    whole, *others = _in_pieces(length, [length // 2, sum(data) % max(length, 1)])
    expected = _play(start(), data, whole)
    for cuts in others:
        assert _play(start(), data, cuts) == expected


def _play(run: _Run, data: bytes, cuts: Iterable[slice]) -> object:
    filled = run.fill_in(data)
    for cut in cuts:
        run.feed(run.wrap(filled[cut]))
    run.finish()
    settled = [event.call for event in run.events if isinstance(event, Completed)]
    assert len(settled) == len(set(settled)), "a call settled twice"
    seen = [_show(event) for event in run.events]
    # A client's frames are masked with entropy of wsproto's, and a stream that broke takes what waited with it.
    return seen, run.output if isinstance(run.machine, ServerConnection) else b""


def _show(event: HubEvent | ServerEvent) -> tuple[Any, ...]:
    match event:
        case Closed(error):
            return "closed", _kind(error)
        case Completed(call, result, error):
            return "completed", call.invocation_id, _comparable(result), type(error), str(error)
        case ItemReceived(call, item):
            return "item", call.invocation_id, _comparable(item)
        case InvocationReceived():
            told = event.invocation_id, event.streaming, event.uploads, event.headers
            return "invocation", event.target, _comparable(event.arguments), *told
        case UploadItemReceived(stream_id, item):
            return "upload", stream_id, _comparable(item)
        case _:
            return "event", event


def _comparable(value: object) -> object:
    """The value, but that every number which is none is one and the same."""
    match value:
        case dict():
            return [(_comparable(key), _comparable(each)) for key, each in value.items()]
        case list() | tuple():
            return [_comparable(each) for each in value]
        case float() if math.isnan(value):
            return "not a number"
        case _:
            return value


def _kind(error: ConnectionFailed | None) -> tuple[Any, ...]:
    """What of an error must not depend on the cuts. Its words may, where they are those of h11 or wsproto."""
    status = error.status if isinstance(error, NegotiationFailed | UpgradeFailed) else None
    borrowed = isinstance(error, RemoteProtocolError) or (isinstance(error, UpgradeFailed) and status is None)
    return type(error), status, error is not None and error.may_retry, "" if borrowed else str(error)


def _in_pieces(length: int, places: Iterable[int]) -> Iterator[list[slice]]:
    """So many bytes whole, cut in two at each of these places, and one by one."""
    yield [slice(0, length)] if length else []
    for place in places:
        if 0 < place < length:
            yield [slice(0, place), slice(place, length)]
    yield [slice(place, place + 1) for place in range(length)]
