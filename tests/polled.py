"""The sessions over long polling and server-sent events, carried over to a WebSocket.

The library has neither transport, but what they carried is the same two streams of hub messages. `bridged` takes the
bodies out of the captured HTTP exchanges and puts them into WebSocket frames, in the order and at the time they were
seen; the negotiation stays as it was captured. What those transports add (polls that return empty, answers to POSTs,
comments and line ends of an event stream) is dropped here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import h11

from captures import BINARY, CLOSE, TEXT, Capture, Chunk, Frame, plain_frame, split_head

__all__ = ["Piece", "bridged", "is_polled", "pieces"]

_ACCEPTANCE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
# The key that belongs to it is the example of RFC 6455, section 1.3.
_UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@dataclass(frozen=True)
class Piece:
    """What one HTTP exchange carried: a request's body, a response's, or one event of an event stream."""

    time: float
    method: str
    target: str
    from_client: bool
    data: bytes


def is_polled(name: str) -> bool:
    """Whether the capture of that name is one over long polling or server-sent events."""
    return name.endswith(("_lp", "_sse"))


def pieces(capture: Capture) -> list[Piece]:
    """Everything that the exchanges carried, in the order in which it was complete; negotiation is a piece as well."""
    found = [piece for stream in capture.streams for piece in _pieces(capture, stream)]
    return sorted(found, key=lambda piece: piece.time)


def _pieces(capture: Capture, stream: int) -> Iterator[Piece]:
    server, client = h11.Connection(h11.SERVER), h11.Connection(h11.CLIENT)
    method = target = ""
    body = b""
    is_event_stream = False
    for chunk in filter(lambda chunk: chunk.data, capture.of(stream)):
        reader = server if chunk.from_client else client
        reader.receive_data(chunk.data)
        while True:
            event = reader.next_event()
            match event:
                case h11.Request():
                    assert client.our_state is h11.IDLE, "no request before the answer to the one before"
                    method, target = event.method.decode(), event.target.decode()
                    client.send(h11.Request(method=event.method, target=event.target, headers=[("Host", "h")]))
                    client.send(h11.EndOfMessage())
                case h11.Data():
                    body += bytes(event.data)
                    while is_event_stream and (found := _event(body)) is not None:
                        data, body = found
                        yield Piece(chunk.time, method, target, from_client=False, data=data)
                case h11.EndOfMessage():
                    yield Piece(chunk.time, method, target, chunk.from_client, body)
                    body = b""
                    if not chunk.from_client:
                        server.send(h11.Response(status_code=204, headers=[]))
                        server.send(h11.EndOfMessage())
                        server.start_next_cycle()
                        client.start_next_cycle()
                case h11.Response():
                    is_event_stream = (b"content-type", b"text/event-stream") in event.headers
                case _:
                    break
    assert body == b"", "every event of a stream was whole"


def _event(body: bytes) -> tuple[bytes, bytes] | None:
    """The data of the first event, or comment, of an event stream and what follows it; None if none is whole."""
    lines: list[bytes] = []
    while b"\n" in body:
        # One server ends its lines with CR LF, the other with LF.
        line, _, body = body.partition(b"\n")
        line = line.removesuffix(b"\r")
        if line.startswith(b":") or not line:
            return b"\n".join(lines), body
        assert line.startswith(b"data: ")
        lines.append(line.removeprefix(b"data: "))
    return None


def bridged(capture: Capture) -> Capture:
    """The same session as it would have been over a WebSocket.

    The negotiation is as captured, on stream 0; the WebSocket is stream 1. Its request is that of the first poll. The
    client ends with a close frame, as the captured ones ended with DELETE or by closing the event stream.
    """
    negotiation, *carried = [piece for piece in pieces(capture) if piece.data or "/negotiate?" not in piece.target]
    assert "/negotiate?" in negotiation.target
    first = next(piece for piece in carried if piece.method == "GET")
    kept = "&".join(part for part in first.target.split("&") if not part.startswith("_="))
    host = split_head(capture.sent(0, from_client=True))[0].headers["host"]
    frames = [
        (piece.time, piece.from_client, Frame(TEXT if capture.encoding == "json" else BINARY, piece.data))
        for piece in carried
        if piece.data and piece.from_client is (piece.method == "POST")
    ]
    last = frames[-1][0]
    goodbye = Frame(CLOSE, (1000).to_bytes(2))
    frames += [(last, True, goodbye), (last, False, goodbye)]
    opening = [chunk for chunk in capture.of(0) if chunk.time <= negotiation.time]
    head = f"GET {kept} HTTP/1.1\r\nHost: {host}\r\n".encode() + _UPGRADE
    return Capture(
        capture.name,
        [
            *(replace(chunk, stream=0) for chunk in opening),
            Chunk(first.time, 1, from_client=True, data=head),
            Chunk(first.time, 1, from_client=False, data=_ACCEPTANCE),
            *(Chunk(time, 1, side, plain_frame(frame, masked=side)) for time, side, frame in frames),
            Chunk(last, 1, from_client=False, data=b""),
        ],
    )
