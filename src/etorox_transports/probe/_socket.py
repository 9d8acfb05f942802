"""`Socket`: a WebSocket of a client that also says what no client should, and judges nothing of what it hears.

Source: RFC 6455.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Self, final

import msgspec
import wsproto
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from etorox_transports.probe._finding import Unlike, differs, unanswered
from etorox_transports.probe._line import Line

__all__ = ["End", "Socket"]


@final
class End(msgspec.Struct, frozen=True):
    """The server says no more.

    Attributes:
        how: in words.
        code: of its close frame; None if it sent none.
    """

    how: str
    code: int | None = None


@final
class Socket:
    """One WebSocket.

    Args:
        line: its byte stream, which belongs to this object from now on.
        clock: the time, in seconds.
        timeout: how long to wait for what must come, in seconds.
        compression: offer to compress messages.

    Attributes:
        timeout: as given.
        compresses: whether the server wants to, too.
        end: how it ended; None while it has not.
    """

    def __init__(self, line: Line, *, clock: Callable[[], float], timeout: float, compression: bool = False) -> None:
        self.timeout = timeout
        self.compresses = False
        self._pong: bytes | None = None
        self.end: End | None = None
        self._line = line
        self._clock = clock
        self._offers: list[Extension] = [PerMessageDeflate()] if compression else []
        self._wsproto = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._parts: list[bytes] = []

    @property
    def now(self) -> float:
        """The time."""
        return self._clock()

    def ask(self, host: str, target: str, headers: list[tuple[str, str]]) -> tuple[int, bytes] | None:
        """Ask for the WebSocket; None if the server wants it too, else the status and body of its refusal.

        Raises:
            Unlike: something else came, or nothing.
        """
        encoded = [(name.encode(), value.encode()) for name, value in headers]
        self.send(Request(host=host, target=target, extra_headers=encoded, extensions=self._offers))
        until, status, body = self.now + self.timeout, 0, b""
        while True:
            for event in self._events():
                match event:
                    case AcceptConnection():
                        self.compresses = bool(event.extensions)
                        return None
                    case RejectConnection():
                        status = event.status_code
                        if not event.has_body:
                            return status, b""
                    case RejectData():
                        body += event.data
                        if event.body_finished:
                            return status, body
                    case _:
                        pass
            if self.end is not None:
                if status:
                    return status, body
                raise Unlike(differs(f"{self.end.how} and no answer to the WebSocket request"))
            if not self._read(until):
                raise Unlike(unanswered(f"no answer to the WebSocket request within {self.timeout:g} s"))

    def send(self, *events: Event) -> None:
        """Send these, each as it is; nothing after a goodbye of either side, which is what wsproto refuses."""
        with contextlib.suppress(LocalProtocolError):
            self._line.send(b"".join(self._wsproto.send(event) for event in events))

    def text(self, *messages: str) -> None:
        """Send text messages, all at once."""
        self.send(*(TextMessage(data=message) for message in messages))

    def fragments(self, *parts: str) -> None:
        """Send one text message in so many frames."""
        last = len(parts) - 1
        self.send(*(TextMessage(data=part, message_finished=n == last) for n, part in enumerate(parts)))

    def binary(self, message: bytes) -> None:
        """Send a binary message."""
        self.send(BytesMessage(data=message))

    def ping(self, payload: bytes) -> None:
        """Send a WebSocket ping."""
        self.send(Ping(payload=payload))

    def close(self) -> None:
        """Send a close frame with code 1000, and stay to hear what comes."""
        self.send(CloseConnection(CloseReason.NORMAL_CLOSURE))

    def hear(self, seconds: float | None = None) -> bytes | End | None:
        """The server's next message, whole; None if none comes for so long (by default, what must come)."""
        until = self.now + (self.timeout if seconds is None else seconds)
        while True:
            for event in self._events():
                message = self._take(event)
                if message is not None:
                    return message
            if self.end is not None:
                return self.end
            if not self._read(until):
                return None

    def hear_pong(self) -> bytes | End | None:
        """What the server's pong holds; messages before it are passed over."""
        until = self.now + self.timeout
        while self._pong is None:
            heard = self.hear(min(until - self.now, 0.05))
            if isinstance(heard, End):
                return heard
            if self.now >= until:
                break
        return self._pong

    def how_it_ends(self, seconds: float | None = None) -> End | None:
        """What comes after the end of the talk: whether the stream ends, too. None if it does not."""
        until = self.now + (self.timeout if seconds is None else seconds)
        while (data := self._line.receive(until)) is not None:
            if not data:
                return End(self._line.how_it_ended)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Say goodbye and hang up."""
        if self.end is None and self._wsproto.state is ConnectionState.OPEN:
            self.close()
        self.drop()

    def drop(self) -> None:
        """Hang up without a word."""
        self._line.close()
        self.end = self.end or End("our own end")

    def _events(self) -> Iterator[Event]:
        """What has come; a breach of the WebSocket protocol is an end that differs."""
        try:
            yield from self._wsproto.events()
        except RemoteProtocolError as error:
            raise Unlike(differs(f"a breach of the WebSocket protocol: {error}")) from None

    def _take(self, event: Event) -> bytes | End | None:
        match event:
            case Message():
                self._parts.append(event.data.encode() if isinstance(event.data, str) else bytes(event.data))
                if event.message_finished:
                    payload, self._parts = b"".join(self._parts), []
                    return payload
            case Ping():
                self.send(event.response())
            case Pong():
                self._pong = bytes(event.payload)
            case CloseConnection() if self._wsproto.state is ConnectionState.OPEN:
                # What wsproto has to say to a peer that breaks the protocol; a close frame changes the state.
                raise Unlike(differs(f"a breach of the WebSocket protocol: {event.reason}"))
            case CloseConnection():
                reason = f" ({event.reason})" if event.reason else ""
                had_asked = self._wsproto.state is ConnectionState.CLOSED
                self.end = End(f"a WebSocket close frame, code {int(event.code)}{reason}", int(event.code))
                if not had_asked:
                    self.send(event.response())
                return self.end
            case _:
                pass
        return None

    def _read(self, until: float) -> bool:
        data = self._line.receive(until)
        if data is None:
            return False
        if not data:
            self.end = self.end or End(self._line.how_it_ended)
            return True
        try:
            self._wsproto.receive_data(data)
        except (RemoteProtocolError, ValueError) as error:
            # The latter for a head that is not ASCII, or parameters of an extension that are no numbers.
            raise Unlike(differs(f"a breach of the WebSocket protocol: {error}")) from None
        return True
