"""WebSocket: wsproto in quarantine.

The only module that imports wsproto, but for `_deflate`, which extends it. Whole, bounded messages come out, and the
end comes in one form only. Cured here, because wsproto leaves them to its caller: a bad handshake raises while a bad
frame yields an event; some bad headers raise UnicodeDecodeError; there is no limit on a message; messages come in
pieces; pings and closes are not answered; data after the end raises; and it is slow, which `_frames` helps a client to
get around. After an error or `CloseReceived` it yields nothing more, and `close` says goodbye with the right code. Both
roles use it. What a message holds it does not know.

wsproto draws the key and the masks of a client from the system's entropy: the only bytes of a run that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.extensions import Extension
from wsproto.utilities import LocalProtocolError as WsLocalError
from wsproto.utilities import RemoteProtocolError as WsRemoteError

from etorox_proto.signalr._deflate import PerMessageDeflate
from etorox_proto.signalr._errors import LimitExceeded, RemoteProtocolError, UpgradeFailed
from etorox_proto.signalr._frame_events import CloseReceived, Opened
from etorox_proto.signalr._frames import Bounds, is_begun, read_frame
from etorox_proto.signalr._http import HeadGate, HttpRequest

__all__ = ["WebSocket"]

# How many common frames are read before somebody looks at what is in them.
_AT_ONCE = 16
NORMAL, NOT_UTF8, TOO_BIG = 1000, 1007, 1009


class WebSocket:
    """One WebSocket, either role; made by `client` or `server`.

    Attributes:
        output: what must be sent, in order; whoever drives it takes the bytes from there.
        shortcut: called with data and a place in it where a frame begins and a message, whenever a client comes to one;
            returns that place, or a later such one if it has itself read the whole frames between.
    """

    def __init__(self, ws: WSConnection, *, max_head: int, max_message: int, compression: bool) -> None:
        self._ws = ws
        self._deflate = PerMessageDeflate(max_message=max_message) if compression else None
        self._gate: HeadGate | None = HeadGate(max_head)
        self._max_message = max_message
        self._message = bytearray()
        self._rejection: RejectConnection | None = None
        self._rejection_body = bytearray()
        self._done = False
        self._close_code = NORMAL
        self._bounds = Bounds()
        self._begun = b""  # a common frame that is not whole
        self._reads_frames = False  # whether frames are all that can come, and read here
        self.shortcut: Callable[[bytes, int], int] = _no_shortcut
        self.output = bytearray()

    @classmethod
    def client(
        cls,
        host: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        *,
        max_head: int,
        max_message: int,
        compression: bool = False,
    ) -> WebSocket:
        """The client's end; its request is in `output`. Headers have been checked before."""
        ws = WSConnection(ConnectionType.CLIENT)
        websocket = cls(ws, max_head=max_head, max_message=max_message, compression=compression)
        extra = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
        request = Request(host=host, target=target, extensions=websocket._extensions, extra_headers=extra)
        websocket._send(request)
        return websocket

    @classmethod
    def server(cls, request: HttpRequest, *, max_message: int, compression: bool = False) -> WebSocket:
        """The server's end of an upgrade request that was read elsewhere; its acceptance is in `output`.

        Raises:
            UpgradeFailed: the request is no valid WebSocket handshake.
        """
        if request.header("host") is None:
            # HTTP/1.0 permits it; wsproto would raise an error of h11's.
            raise UpgradeFailed("expected a WebSocket handshake with a Host header, got one without", status=400)
        ws = WSConnection(ConnectionType.SERVER)
        websocket = cls(ws, max_head=1, max_message=max_message, compression=compression)
        websocket._gate = None
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
        try:
            websocket._ws.initiate_upgrade_connection(headers, request.target)
            websocket._send(AcceptConnection(extensions=websocket._extensions))
        except (WsRemoteError, WsLocalError, UnicodeError, ValueError) as error:
            raise UpgradeFailed(f"expected a WebSocket handshake: {error}", status=400) from None
        return websocket

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._ws.state is ConnectionState.OPEN and not self._done

    @property
    def is_compressed(self) -> bool:
        """Whether both sides have agreed to compress messages."""
        return self._deflate is not None and self._deflate.enabled()

    @property
    def _extensions(self) -> list[Extension]:
        return [] if self._deflate is None else [self._deflate]

    def send_message(self, payload: bytes, *, binary: bool = False) -> None:
        """Queue one message, by default a text message, whose payload is UTF-8. Only while `is_open`."""
        self._send(BytesMessage(data=payload) if binary else TextMessage(data=payload.decode("utf-8")))

    def close(self) -> None:
        """Queue our close frame, unless it was sent before or the WebSocket never opened.

        Its code answers the peer's close frame, or names the peer's fault, or is 1000.
        """
        if self._ws.state in {ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING}:
            self._send(CloseConnection(code=self._close_code))

    def receive_data(self, data: bytes) -> Iterator[Opened | bytes | CloseReceived]:
        """Take bytes from the stream and yield what they complete: messages as bytes, whatever their kind.

        What a SignalR connection carries is a stream, so a client may get several messages in one piece.

        The end of the stream is not fed here; it means nothing to a WebSocket that has not been closed.

        Raises:
            UpgradeFailed: the server did not upgrade.
            RemoteProtocolError: a frame breaks RFC 6455.
            LimitExceeded: a message is too long.
        """
        return self._receive_frames(data) if self._reads_frames else self._receive_whatever(data)

    def _receive_whatever(self, data: bytes) -> Iterator[Opened | bytes | CloseReceived]:
        if self._gate is not None:
            head, data = self._gate.feed(data)
            if head:
                yield from self._receive_piece(head)
        start = 0
        while start < len(data) and not self._is_past_handshake and not self._done:
            # What is found first, a fault or something else, must not depend on how much of it is read at once.
            yield from self._receive_piece(data[start : start + 1])
            start += 1
        self._reads_frames = self._ws.client and self._is_past_handshake
        if start < len(data):
            # The frames of a client are masked, and read by wsproto.
            yield from self._receive_frames(data[start:]) if self._ws.client else self._receive_slowly(data[start:])

    def _receive_frames(self, data: bytes) -> Iterator[bytes | CloseReceived | Opened]:
        """Read the common frames here, and give wsproto the others, one by one."""
        was_begun = len(self._begun) > 0
        data, self._begun = b"".join((self._begun, data)) if was_begun else bytes(data), b""
        start = 0
        while start < len(data) and not self._done:
            if self._bounds.are_between:
                start = self.shortcut(data, start)
                if start == len(data):
                    return
                messages: list[bytes] = []
                while len(messages) < _AT_ONCE and (frame := read_frame(data, start, self._max_message)) is not None:
                    message, start = frame
                    messages.append(message)
                if messages:
                    yield b"".join(messages)
                    continue
                # Not for ever: wsproto takes bytes one by one as they come, and here they would be joined each time.
                if (start or not was_begun) and is_begun(data, start, self._max_message):
                    self._begun = data[start:]
                    return
            stop = self._bounds.follow(data, start)
            yield from self._receive_slowly(data[start:stop])
            start = stop

    def _receive_slowly(self, data: bytes) -> Iterator[bytes | CloseReceived | Opened]:
        start = 0
        while start < len(data) and not self._done:
            # As in the handshake; and no piece of a message exceeds the limit, but for single bytes. (Three bytes of a
            # character may wait in the decoder.)
            at_once = max(1, self._max_message - len(self._message) - 3)
            yield from self._receive_piece(data[start : start + at_once])
            start += at_once

    @property
    def _is_past_handshake(self) -> bool:
        return self._ws.state not in {ConnectionState.CONNECTING, ConnectionState.REJECTING}

    def _receive_piece(self, data: bytes) -> Iterator[Opened | bytes | CloseReceived]:
        try:
            self._ws.receive_data(data)
        except (WsRemoteError, UnicodeError) as error:
            self._done = True
            detail = "a header that is not ASCII" if isinstance(error, UnicodeError) else str(error)
            raise UpgradeFailed(f"expected the server to accept the WebSocket, got {detail}") from None
        for event in self._ws.events():
            match event:
                case TextMessage() | BytesMessage():
                    message = self._gather(event)
                    if message is not None:
                        yield message
                case Ping():
                    if self.is_open:
                        self._send(event.response())
                case CloseConnection():
                    yield self._closed(event)
                case AcceptConnection():
                    yield Opened()
                case RejectConnection():
                    self._rejection = event
                case RejectData():
                    self._rejection_body += event.data[:400]
                    if event.body_finished or len(self._rejection_body) >= 400:
                        self._rejected()
                case _:
                    # A pong, which nobody asked for.
                    pass

    def receive_end(self) -> None:
        """Say that the stream has ended.

        Raises:
            UpgradeFailed: the server had begun to refuse the upgrade; this completes the refusal.
        """
        if self._rejection is not None and not self._done:
            self._rejected()

    def _gather(self, event: TextMessage | BytesMessage) -> bytes | None:
        """Join the pieces of a message; None while it is incomplete."""
        piece = event.data.encode("utf-8") if isinstance(event, TextMessage) else bytes(event.data)
        if len(self._message) + len(piece) > self._max_message:
            self._done = True
            self._close_code = TOO_BIG
            raise self._too_long()
        if not event.message_finished:
            self._message += piece
            return None
        if self._message:
            piece = bytes(self._message + piece)
            self._message.clear()
        return piece

    def _closed(self, event: CloseConnection) -> CloseReceived:
        if self._ws.state in {ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING}:
            # No close frame came: this is how wsproto reports a bad frame. Its text may depend on the chunks.
            self._done = True
            self._close_code = event.code
            if event.code == TOO_BIG:
                raise self._too_long()  # so the extension says it; wsproto by itself has no limit
            fault = None if self._deflate is None else self._deflate.fault
            detail = fault or ("text that is not UTF-8" if event.code == NOT_UTF8 else event.reason or "another")
            raise RemoteProtocolError("a WebSocket frame as in RFC 6455", detail)
        self._done = True
        self._close_code = event.code
        return CloseReceived(int(event.code), event.reason or "")

    def _too_long(self) -> LimitExceeded:
        return LimitExceeded("websocket_message", self._max_message, "a WebSocket message")

    def _rejected(self) -> None:
        assert self._rejection is not None, "a body belongs to a rejection"
        self._done = True
        status = self._rejection.status_code
        text = bytes(self._rejection_body[:160]).decode("utf-8", "replace").strip()
        shown = "".join(c for c in text if c.isprintable())
        raise UpgradeFailed(
            f"expected the server to accept the WebSocket (HTTP status 101), got status {status}"
            f"{': ' + shown if shown else ''}",
            status=status,
        )

    def _send(self, event: Event) -> None:
        self.output += self._ws.send(event)


def _no_shortcut(_data: bytes, start: int) -> int:
    return start
