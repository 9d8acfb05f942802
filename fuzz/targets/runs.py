"""How one machine is led through bytes, and what of it is compared. It knows no target and no engine."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from etorox_proto.signalr import (
    CallLost,
    Closed,
    Completed,
    ConnectionFailed,
    Dial,
    HubConfig,
    HubConnection,
    HubEvent,
    InvocationReceived,
    ItemReceived,
    Limits,
    LocalProtocolError,
    NegotiationFailed,
    RemoteProtocolError,
    Resumed,
    ServerConnection,
    ServerEvent,
    State,
    UpgradeFailed,
    Upload,
    UploadItemReceived,
)

__all__ = ["ACCEPT", "LIMITS", "LONGEST", "NOW", "Chunking", "Run", "check_cuts", "chunkings", "connected", "play"]
__all__ += ["frame", "is_text", "messages", "upgrading", "whole"]

ACCEPT = b"{accept}"
"""In an upgrade response it stands for the Sec-WebSocket-Accept that fits the request, which no fuzzer can guess."""

LIMITS = Limits(record=400, websocket_message=800, http_head=800, http_body=400)
"""Small, so that inputs of a few hundred bytes reach them."""

LONGEST = 4_096
NOW = 100.0

Chunking = Callable[[bytes], Iterable[bytes]]

_ACCEPT_HEADER = re.compile(rb"(sec-websocket-accept: )" + re.escape(ACCEPT), re.IGNORECASE)


def _same(piece: bytes) -> bytes:
    return piece


@dataclass
class Run:
    """One machine on its way through the bytes, drained after every input as its contract demands.

    Attributes:
        machine: at its beginning.
        wrap: what is done to a piece before it is fed.
        request: what a client said when its latest stream was opened.
        output: what the machine has said since.
        events: all of them, in order.
        uploads: to which `act` gives items.
        compares_delivery: whether a lost call that was sent, and one that was not, are two outcomes. Not so where calls
            are made from inside an input: they are sent behind it, and what follows in the same piece comes first.
    """

    machine: HubConnection | ServerConnection
    wrap: Callable[[bytes], bytes] = _same
    request: bytes = b""
    output: bytes = b""
    events: list[HubEvent | ServerEvent] = field(default_factory=list)
    uploads: list[Upload] = field(default_factory=list)
    compares_delivery: bool = True
    _opened: int = 0
    _answered: int = 0
    _has_filled_in: bool = False

    def __post_init__(self) -> None:
        self.drain()

    @property
    def is_dialling(self) -> bool:
        """Whether a client waits for a stream to be opened."""
        return self.machine.state is not State.CLOSED and self._opened < sum(
            isinstance(event, Dial) for event in self.events
        )

    def open(self) -> None:
        """Open the stream that a client asked for last."""
        assert isinstance(self.machine, HubConnection), "a server's stream is open"
        self._opened = sum(isinstance(event, Dial) for event in self.events)
        self.machine.stream_opened(NOW)
        self.output = b""
        self.drain()
        self.request, self.output = self.output, b""

    def filled(self, data: bytes) -> bytes:
        """The bytes of a stream, with the right answer to the key of the request on it."""
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", self.request)
        if key is None:
            return data
        accept = base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
        # The key is another in each run: what is filled in must not get into an item, which is compared.
        data, count = _ACCEPT_HEADER.subn(rb"\g<1>" + accept, data, count=1)
        self._has_filled_in = self._has_filled_in or count > 0
        return data

    def drain(self) -> None:
        """Take what the machine has to say."""
        self.output += self.machine.data_to_send()
        while (event := self.machine.next_event()) is not None:
            assert not any(isinstance(before, Closed) for before in self.events), "an event behind Closed"
            self.events.append(event)
        assert (self.machine.state is State.CLOSED) == any(isinstance(event, Closed) for event in self.events)

    def feed(self, data: bytes) -> None:
        """Bytes for the machine; `b""` is the end of its stream."""
        self.machine.receive_data(data, NOW)
        self.drain()

    def act(self) -> None:
        """What an application does: answer each call once, give an item to each stream and upload."""
        machine = self.machine
        if machine.state not in {State.CONNECTED, State.RESUMING}:
            return
        calls = [event for event in self.events if isinstance(event, InvocationReceived)]
        for call in calls[self._answered :]:
            if call.invocation_id is not None:
                with contextlib.suppress(LocalProtocolError):
                    if isinstance(machine, ServerConnection) and call.streaming:
                        machine.send_item(call.invocation_id, [1], now=NOW)
                    machine.complete(call.invocation_id, now=NOW)
                self.drain()
        self._answered = len(calls)
        for upload in self.uploads:
            if isinstance(machine, HubConnection):
                with contextlib.suppress(LocalProtocolError):
                    machine.send_item(upload, [2], now=NOW)
        self.drain()

    def finish(self) -> None:
        """Answer what waits, meet two deadlines, end the stream, and see that nothing moves afterwards."""
        machine = self.machine
        self.act()
        for _ in range(2):
            self._meet_deadline()
        for _ in range(2):
            if isinstance(machine, HubConnection):
                machine.stream_opened(NOW)
            self.feed(b"")
        if machine.state is State.RESUMING:  # a server, which waits for its client
            self._meet_deadline()
        assert machine.state is State.CLOSED
        assert machine.deadline == math.inf
        if isinstance(machine, HubConnection):
            assert machine.pending_calls == 0

    def _meet_deadline(self) -> None:
        before = self.machine.deadline
        if before < math.inf:
            self.machine.handle_timeout(before)
            self.drain()
            assert self.machine.deadline > before, "a deadline that was met did not move"

    def outcome(self) -> object:
        """What must not depend on how the bytes were cut."""
        settled = [event.call for event in self.events if isinstance(event, Completed)]
        assert len(settled) == len(set(settled)), "a call settled twice"
        seen = [self._show(event) for event in self.events]
        # A client's frames are masked with entropy of wsproto's, and a stream that broke takes what waited with it.
        return seen, self.output if isinstance(self.machine, ServerConnection) else b""

    def _show(self, event: HubEvent | ServerEvent) -> tuple[Any, ...]:
        match event:
            case Closed(error):
                return "closed", self._kind(error)
            case Completed(call, _, CallLost()) if not self.compares_delivery:
                return "lost", call.invocation_id
            case Completed(call, result, error):
                return "completed", call.invocation_id, _comparable(result), type(error), str(error)
            case ItemReceived(call, item):
                return "item", call.invocation_id, _comparable(item)
            case InvocationReceived():
                told = event.invocation_id, event.streaming, event.uploads, event.headers
                return "invocation", event.target, _comparable(event.arguments), *told
            case UploadItemReceived(stream_id, item):
                return "upload", stream_id, _comparable(item)
            case Resumed(connection):
                return "resumed", connection.connection_id
            case _:
                return "event", event

    def _kind(self, error: ConnectionFailed | None) -> tuple[Any, ...]:
        """What of an error must not depend on the cuts. Its words may, where they are those of h11 or wsproto."""
        status = error.status if isinstance(error, NegotiationFailed | UpgradeFailed) else None
        borrowed = isinstance(error, RemoteProtocolError) or (
            isinstance(error, UpgradeFailed) and (status is None or self._has_filled_in)
        )
        return type(error), status, error is not None and error.may_retry, "" if borrowed else str(error)


def _comparable(value: object) -> object:
    """The value, but that every number which is none is one and the same."""
    match value:
        case dict():
            return [(_comparable(key), _comparable(each)) for key, each in value.items()]
        case list() | tuple():
            return [_comparable(each) for each in value]
        case msgspec.Struct():
            return type(value), _comparable(msgspec.structs.astuple(value))
        case float() if math.isnan(value):
            return "not a number"
        case _:
            return value


# -------------------------------------------------------------------------------------------------------- cuts


def whole(data: bytes) -> Iterable[bytes]:
    """All at once."""
    return [data] if data else []


def chunkings(places: Iterable[int]) -> Iterator[Chunking]:
    """Whole, in two at each of these places, and byte by byte. No piece is empty."""

    def at(place: int) -> Chunking:
        return lambda data: [piece for piece in (data[:place], data[place:]) if piece]

    yield whole
    yield from map(at, places)
    yield lambda data: [bytes([byte]) for byte in data]


def check_cuts(data: bytes, played: Callable[[Chunking], object]) -> None:
    """Whatever `played` returns is the same for every chunking."""
    expected = played(whole)
    for chunking in chunkings([len(data) // 2, sum(data) % max(len(data), 1)]):
        assert chunking is whole or played(chunking) == expected


def play(run: Run, data: bytes, chunking: Chunking) -> object:
    """What comes of these bytes on the one stream that is open."""
    for piece in chunking(run.filled(data[:LONGEST])):
        run.feed(run.wrap(piece))
    run.finish()
    return run.outcome()


# ----------------------------------------------------------------------------------------------------- clients


def frame(payload: bytes, kind: int = 0x81) -> bytes:
    """A frame of a server's, by default one whole text message."""
    length = len(payload)
    head = bytes([kind, length]) if length < 126 else bytes([kind, 126]) + length.to_bytes(2, "big")
    return head + payload


def is_text(piece: bytes) -> bool:
    """Whether it is UTF-8."""
    try:
        piece.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def messages(lines: Iterable[bytes], record: Callable[[bytes, int], bytes], kind: int = 0x81) -> bytes:
    """Frames of a server's that hold a record for each line.

    Args:
        lines: `>` and `>>` before one mean that it is of the second or third stream; `+` before that, that it is in one
            message with the line before.
        record: makes a record of the rest of a line and the number of its stream, from 0.
        kind: of the frames.
    """
    found: list[bytes] = []
    for line in lines:
        rest = line.removeprefix(b"+")
        turns = min(len(rest) - len(rest.lstrip(b">")), 2)
        one = record(rest[turns:], turns)
        if line.startswith(b"+") and found:
            found[-1] += one
        else:
            found.append(one)
    return b"".join(frame(message, kind) for message in found)


def upgrading(
    limits: Limits = LIMITS, encoding: Literal["json", "messagepack"] = "json", *, compression: bool = False
) -> Run:
    """A client that has asked for its WebSocket."""
    config = HubConfig(
        url="http://localhost/hub",
        encoding=encoding,
        compression=compression,
        handles=["t"],
        skip_negotiation=True,
        limits=limits,
    )
    run = Run(HubConnection(config, now=NOW))
    run.open()
    return run


def connected(
    limits: Limits = LIMITS,
    encoding: Literal["json", "messagepack"] = "json",
    *,
    compression: bool = False,
    item_types: Iterable[Any] = (Any,),
    decoder: Callable[[Any], Callable[[Any], Any]] | None = None,
) -> Run:
    """A connected client: call "2" with upload "1", then streams "3" and so on.

    Args:
        limits: of the client.
        encoding: of the hub.
        compression: whether both sides agreed to it.
        item_types: of the streams, one for each.
        decoder: makes decoders of these types that are given to the streams instead, so that nothing is read in short.
    """
    run = upgrading(limits, encoding, compression=compression)
    extension = b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if compression else b""
    accepted = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + extension
    run.feed(run.filled(accepted + b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n\x81\x03{}\x1e"))
    run.request = b""
    machine = run.machine
    assert isinstance(machine, HubConnection), "a client is what was made"
    (upload,) = machine.invoke("call", uploads=1, now=NOW).uploads
    machine.send_item(upload, None, now=NOW)
    for item_type in item_types:
        item_decoder = None if decoder is None else decoder(item_type)
        machine.stream("stream", item_type=item_type, item_decoder=item_decoder, now=NOW)
    run.drain()
    return run
