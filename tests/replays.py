"""Replays a captured session against `HubConnection`, and tells independently what must come of it.

`Replay` feeds the server's captured bytes and does what the captured client did. `story` reads the same capture with
the standard library alone and says which events a client must report. Both take a client's message for a command of
its application; those that this library cannot send are left out in one place, `commands`.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import plain_msgpack
from captures import BINARY, CLOSE, TEXT, Capture, Frame, FrameReader, Head, Turn, split_head
from etorox_proto.signalr import (
    Call,
    CallLost,
    Closed,
    Completed,
    Connected,
    ConnectionLost,
    Dial,
    HandshakeRefused,
    HubConfig,
    HubConnection,
    HubEvent,
    InvocationReceived,
    ItemReceived,
    ServerClosed,
    State,
    Upload,
)
from peers import read_json

__all__ = ["Message", "Replay", "Told", "commands", "fitting", "hub_messages", "negotiated", "story"]

Message = dict[str, Any]
Told = tuple[Any, ...]

INVOCATION, ITEM, COMPLETION, STREAM, CANCEL, PING, GOODBYE = range(1, 8)
FAREWELL: Message = {"type": GOODBYE}


def hub_messages(frames: Iterable[Frame]) -> list[Message]:
    """The messages in these frames, in the shape of JSON; no captured one is spread over two frames.

    What is not JSON is an empty message. The handshake is always in JSON, and may come in frames of either
    kind.
    """
    return [message for frame in frames if frame.opcode in {TEXT, BINARY} for message in _messages(frame)]


def _messages(frame: Frame) -> Iterator[Message]:
    rest = frame.payload
    if rest[:2] in {b'{"', b"{}"} or frame.opcode == TEXT:
        *records, rest = rest.split(b"\x1e") if frame.opcode == TEXT else rest.split(b"\x1e", 1)
        for record in records:
            try:
                message = read_json(record)
            except ValueError:
                message = {}
            yield message
    assert frame.opcode == BINARY or not rest
    for body in plain_msgpack.split(rest):
        yield plain_msgpack.as_json(plain_msgpack.unpack(body))


def commands(turns: list[Turn]) -> dict[int, list[Message]]:
    """What the client's application did, by the index of the turn, each as the hub message that tells of it.

    Left out are the handshake, pings, cancels of unknown ids, items and ends of what is no upload, unknown types, and
    what is not JSON. A close frame of the client's stands for a goodbye.
    """
    found: dict[int, list[Message]] = {}
    calls: set[str] = set()
    uploads: set[str] = set()
    for index, turn in enumerate(turns):
        if not turn.from_client:
            continue
        said: list[Message] = []
        for message in hub_messages(turn.frames):
            match message:
                case {"type": 2 | 3, "invocationId": stream_id} if stream_id in uploads:
                    said.append(message)
                case {"type": 1 | 4, "invocationId": invocation_id}:
                    uploads.update(message.get("streamIds", []))
                    calls.add(invocation_id)
                    said.append(message)
                case {"type": 5, "invocationId": invocation_id} if invocation_id in calls:
                    said.append(message)
                case {"type": 1 | 7}:
                    said.append(message)
                case _:
                    pass
        if any(frame.opcode == CLOSE for frame in turn.frames):
            said.append(FAREWELL)
        found[index] = said
    return found


def story(capture: Capture) -> tuple[list[Told], Counter[str]]:
    """The events that a client must report after its dials, and how many messages it must ignore, by reason."""
    _, _, turns = capture.websocket()
    asked = commands(turns)
    told: list[Told] = []
    waiting: list[Message] = []
    live: dict[str, Message] = {}
    cancelled: set[str] = set()
    ignored: Counter[str] = Counter()
    connected = closing = False

    def lose() -> None:
        told.extend(("completed", invocation_id, None, "CallLost", "maybe_sent") for invocation_id in live)
        live.clear()

    def closed(*how: Any) -> tuple[list[Told], Counter[str]]:
        lose()
        told.append(("closed", None) if closing else ("closed", *how))
        return told, ignored

    for index, turn in enumerate(turns):
        waiting += asked.get(index, [])
        for frame in () if turn.from_client else turn.frames:
            if frame.opcode == CLOSE:
                return closed("ConnectionLost", frame.close_code)
            for message in hub_messages([frame]):
                invocation_id = message.get("invocationId")
                if not connected and "error" in message:
                    return closed("HandshakeRefused", message["error"])
                if not connected:
                    connected = True
                    told.append(("connected", negotiated(capture).get("connectionId")))
                elif closing or message["type"] == PING:
                    pass
                elif message["type"] == GOODBYE:
                    return closed("ServerClosed", message.get("error"), message.get("allowReconnect", False))
                elif message["type"] == INVOCATION:
                    told.append(("invocation", message["target"], message["arguments"]))
                elif invocation_id in live and message["type"] == ITEM:
                    told.append(("item", invocation_id, message["item"]))
                elif invocation_id in live:
                    assert message["type"] == COMPLETION
                    del live[invocation_id]
                    error = message.get("error")
                    kind = None if error is None else "HubError"
                    told.append(("completed", invocation_id, message.get("result"), kind, error))
                elif invocation_id not in cancelled:
                    ignored["unknown_id"] += 1
        if turn.end and not turn.from_client:
            return closed("ConnectionLost", None)
        for message in waiting if connected else []:
            invocation_id = message.get("invocationId")
            if message["type"] == GOODBYE:
                lose()
                closing = True
            elif message["type"] == CANCEL and invocation_id in live:
                del live[invocation_id]
                cancelled.add(invocation_id)
                told.append(("completed", invocation_id, None, "CallCancelled", None))
            elif invocation_id is not None and message["type"] not in {CANCEL, ITEM, COMPLETION}:
                live[invocation_id] = message
        if connected:
            waiting.clear()
    assert closing, "a session that nobody ended"
    return closed()


def negotiated(capture: Capture) -> Message:
    """The captured negotiate response, empty if negotiation was skipped."""
    stream = capture.negotiate_stream()
    if stream is None:
        return {}
    _, body = split_head(capture.sent(stream, from_client=False))
    response: Message = read_json(body)
    return response


def fitting(acceptance: bytes, request: Head, *, compressed: bool = False) -> bytes:
    """A captured answer to a WebSocket request, but for this one's key; without the extension unless asked for."""
    digest = hashlib.sha1(
        request.headers["sec-websocket-key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    ).digest()
    fits = b"Sec-WebSocket-Accept: " + base64.b64encode(digest)
    head, separator, rest = acceptance.partition(b"\r\n\r\n")
    lines = [
        fits if line.lower().startswith(b"sec-websocket-accept:") else line
        for line in head.split(b"\r\n")
        if compressed or not line.lower().startswith(b"sec-websocket-extensions:")
    ]
    return b"\r\n".join(lines) + separator + rest


class Replay:
    """One capture replayed; everything happens in the constructor.

    Args:
        capture: the session.
        pieces: how the bytes of one turn are cut.
        bursts: whether the server's turns between two of the client's come as one, at a clock that stands still.
        compressed: whether compression is asked for, and the server's frames come as they travelled.

    Attributes:
        connection: after its end.
        dials: what it asked to open.
        calls: the calls that the application made, by id.
        told: its other events, in the form of `story`.
        requests: the HTTP requests that left.
        sent: the hub messages that left, each with its time; the handshake is the first.
        close_codes: of the WebSocket close frames that left.
    """

    def __init__(
        self,
        capture: Capture,
        *,
        pieces: Callable[[bytes], list[bytes]],
        bursts: bool = False,
        compressed: bool = False,
    ) -> None:
        _, response, turns = capture.websocket(as_it_travelled=compressed)
        asked = commands(turns)
        ids = [
            # Every client draws the ids of a call's uploads before its own.
            each
            for said in asked.values()
            for m in said
            if m["type"] in {INVOCATION, STREAM} and "invocationId" in m
            for each in (*m.get("streamIds", []), m["invocationId"])
        ]
        self._pieces = pieces
        self._now = 0.0
        self._frames: FrameReader | None = None
        self.calls: dict[str, Call] = {}
        self._uploads: dict[str, Upload] = {}
        self.dials: list[Dial] = []
        self.told: list[Told] = []
        self.requests: list[Head] = []
        self.sent: list[tuple[float, Message]] = []
        self.close_codes: list[int] = []
        config = replace(self._config(capture), compression=compressed)
        self.connection = HubConnection(config, now=0, ids=ids)
        self._drain()
        self._open(capture, bursts=bursts)
        head = fitting(response.raw, self.requests[-1], compressed=compressed)
        waiting: list[Message] = []
        burst = b""
        for index, turn in enumerate(turns):
            if not bursts:
                self._advance(turn.time)
            if turn.from_client:
                waiting += asked[index]
            elif turn.end:
                self._feed_end()
            else:
                burst += head + turn.data
                head = b""
                following = turns[index + 1 : index + 2]
                # A command that waits for the handshake goes between the answer to that and what comes next.
                if not bursts or waiting or not following or following[0].from_client or following[0].end:
                    self._feed(burst)
                    burst = b""
            if self.connection.state in {State.CONNECTED, State.CLOSING}:
                for message in waiting:
                    self._do(message)
                waiting.clear()
        while self.connection.state is not State.CLOSED:
            self._advance(self.connection.deadline)

    def _config(self, capture: Capture) -> HubConfig:
        request, _, _ = capture.websocket()
        host, _ = split_head(capture.sent(0, from_client=True))
        path, _, query = request.target.partition("?")
        kept = "&".join(part for part in query.split("&") if not part.startswith("id="))
        authorization = request.headers.get("authorization")
        return HubConfig(
            url=f"http://{host.headers['host']}{path}?{kept}",
            access_token=authorization and authorization.removeprefix("Bearer "),
            encoding=capture.encoding,
            skip_negotiation=capture.negotiate_stream() is None,
            # One captured server takes 15 s to refuse, which is just as long as this client would wait.
            handshake_timeout=20.0,
        )

    def _open(self, capture: Capture, *, bursts: bool) -> None:
        stream = capture.negotiate_stream()
        if stream is not None:
            self.connection.stream_opened(self._now)
            self._drain()
            for chunk in capture.of(stream):
                if chunk.data and not chunk.from_client:
                    if not bursts:
                        self._advance(chunk.time)
                    self._feed(chunk.data)
        self.connection.stream_opened(self._now)
        self._drain()

    def _advance(self, until: float) -> None:
        while self.connection.deadline <= until:
            self._now = self.connection.deadline
            self.connection.handle_timeout(self._now)
            self._drain()
        self._now = max(self._now, until)

    def _feed(self, data: bytes) -> None:
        for piece in self._pieces(data):
            self.connection.receive_data(piece, self._now)
            self._drain()

    def _feed_end(self) -> None:
        self.connection.receive_data(b"", self._now)
        self._drain()

    def _do(self, message: Message) -> None:
        connection, now = self.connection, self._now
        headers, uploads = message.get("headers"), len(message.get("streamIds", []))
        match message:
            case {"type": 2, "invocationId": stream_id, "item": item}:
                assert connection.send_item(self._uploads[stream_id], item, now=now)
            case {"type": 3, "invocationId": stream_id}:
                connection.end_upload(self._uploads[stream_id], error=message.get("error"), now=now)
            case {"type": 7}:
                connection.close(now=now)
            case {"type": 5, "invocationId": invocation_id}:
                connection.cancel(self.calls[invocation_id], now=now)
            case {"type": 4, "target": target, "arguments": arguments}:
                call = connection.stream(target, arguments, uploads=uploads, headers=headers, now=now)
                self.calls[call.invocation_id] = call
            case {"type": 1, "invocationId": _, "target": target, "arguments": arguments}:
                call = connection.invoke(target, arguments, uploads=uploads, headers=headers, now=now)
                self.calls[call.invocation_id] = call
                self._uploads |= {upload.stream_id: upload for upload in call.uploads}
            case {"type": 1, "target": target, "arguments": arguments}:
                connection.send(target, arguments, headers=headers, now=now)
            case _:
                raise AssertionError(f"no command: {message}")
        self._drain()

    def _drain(self) -> None:
        while True:
            data = self.connection.data_to_send()
            if data:
                self._receive(data)
            event = self.connection.next_event()
            if isinstance(event, Dial):
                self.dials.append(event)
            elif event is not None:
                self.told.append(tell(event))
            elif not data:
                return

    def _receive(self, data: bytes) -> None:
        """What the connection sends, as a server would see it."""
        if self._frames is None:
            head, rest = split_head(data)
            assert rest == b""
            self.requests.append(head)
            self._frames = FrameReader() if "upgrade" in head.headers else None
            return
        for frame in self._frames.feed(data):
            self.sent += [(self._now, message) for message in hub_messages([frame])]
            if frame.opcode == CLOSE:
                self.close_codes.append(frame.close_code)


def tell(event: HubEvent) -> Told:
    """An event in the form of `story`."""
    match event:
        case Connected():
            return ("connected", event.connection_id)
        case ItemReceived():
            return ("item", event.call.invocation_id, event.item)
        case InvocationReceived():
            assert (event.invocation_id, event.streaming) == (None, False)
            return ("invocation", event.target, event.arguments)
        case Completed(error=None):
            return ("completed", event.call.invocation_id, event.result, None, None)
        case Completed(error=error):
            detail = error.delivery if isinstance(error, CallLost) else str(error)
            kind = type(error).__name__
            return (
                "completed",
                event.call.invocation_id,
                event.result,
                kind,
                detail if kind != "CallCancelled" else None,
            )
        case Closed(error=None):
            return ("closed", None)
        case Closed(error=ServerClosed() as error):
            return ("closed", "ServerClosed", error.reason, error.allow_reconnect)
        case Closed(error=ConnectionLost() as error):
            return ("closed", "ConnectionLost", error.code)
        case Closed(error=HandshakeRefused() as error):
            return ("closed", "HandshakeRefused", str(error).partition(": ")[2])
        case _:
            raise AssertionError(f"no captured session leads to {event}")
