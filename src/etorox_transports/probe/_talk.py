"""`Talk`: a connection past the SignalR handshake, and the ways in which cases see that it goes on or ends.

Messages are what JSON or MessagePack make of them, not types: a probe sees what a codec would refuse.

Source: SignalR's Hub Protocol.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Self, final

import msgspec

from etorox_proto.signalr import LengthPrefixReader, RecordReader, RemoteProtocolError, length_prefixed
from etorox_transports.probe._finding import Finding, Unlike, conforms, differs, tolerated, unanswered
from etorox_transports.probe._socket import End, Socket

__all__ = ["NO_SUCH_METHOD", "Talk", "shown"]

NO_SUCH_METHOD = "EtoroxProbeNoSuchMethod"
"""No hub has it; it is all that a probe invokes."""

_SEPARATOR = "\x1e"
_LARGEST_RECORD = 16_777_216
# How long to wait for what a server that answers no such call may say of its own accord.
_MOMENT = 1.0
# Between a message and the next: the official server may leave what comes together with an unknown type unread.
_BREATH = 0.2


@final
class Talk:
    """A connection that begins with the handshake.

    Args:
        socket: its WebSocket, just open.
        encoding: `"json"` or `"messagepack"`.

    Attributes:
        socket: as given.
        pings: when the server's pings came, in seconds.
        is_settled: whether all that was asked has been answered, so that somebody else may ask.
        is_mute: whether it is known that calls are not answered here.
    """

    def __init__(self, socket: Socket, encoding: str = "json") -> None:
        self.socket = socket
        self.pings: list[float] = []
        self.is_settled = False
        self.is_mute = False
        self._encoding = encoding
        self._records = RecordReader(_LARGEST_RECORD)
        self._bodies = LengthPrefixReader(_LARGEST_RECORD)
        self._heard: deque[Any] = deque()
        self._ids = (f"probe-{number}" for number in itertools.count(1))
        self._shakes_hands = True

    # ---------------------------------------------------------------------------------------------------- handshake

    def shake_hands(self, request: str | None = None) -> Any:
        """Send a handshake request, by default a right one, and give what came for it, as `hear_first`."""
        self.socket.text(request or f'{{"protocol":"{self._encoding}","version":1}}{_SEPARATOR}')
        return self.hear_first()

    def hear_first(self, seconds: float | None = None) -> Any:
        """The first message, even a ping: a handshake response, or a Sequence; an `End`; None if nothing came."""
        first = self._next(self._until(seconds), gives_pings=True)
        self._shakes_hands = False
        return first

    def check(self, answer: Any) -> None:
        """See that this accepts the handshake.

        Raises:
            Unlike: it does not.
        """
        if answer is None:
            raise Unlike(unanswered(f"no handshake response within {self.socket.timeout:g} s"))
        if not isinstance(answer, dict) or answer.get("error") is not None:
            raise Unlike(differs(shown(answer)))
        if "type" in answer:
            raise Unlike(differs(f"{shown(answer)} before the handshake response"))

    # ----------------------------------------------------------------------------------------------------- messages

    def send(self, *messages: dict[str, Any]) -> None:
        """Send JSON messages in one WebSocket message."""
        self.is_settled = False
        self.socket.text("".join(msgspec.json.encode(each).decode() + _SEPARATOR for each in messages))

    def send_packed(self, *messages: list[Any]) -> None:
        """Send MessagePack messages in one WebSocket message."""
        self.is_settled = False
        self.socket.binary(b"".join(length_prefixed(msgspec.msgpack.encode(each)) for each in messages))

    def new_id(self) -> str:
        """An invocation id that was not used before."""
        return next(self._ids)

    def hear(self, seconds: float | None = None) -> Any:
        """The server's next message, pings left out; an `End`; or None if nothing came for so long.

        Raises:
            Unlike: what came can be read by nobody.
        """
        return self._next(self._until(seconds), gives_pings=False)

    def messages(self, seconds: float | None = None) -> Iterator[Any]:
        """What comes within so long in all, as `hear` gives it; last of all an `End`, or None when the time is up."""
        until = self._until(seconds)
        while True:
            message = self._next(until, gives_pings=False)
            yield message
            if message is None or isinstance(message, End):
                return

    def _until(self, seconds: float | None) -> float:
        return self.socket.now + (self.socket.timeout if seconds is None else seconds)

    def _next(self, until: float, *, gives_pings: bool) -> Any:
        while True:
            while self._heard and self.socket.now <= until:
                message = self._heard.popleft()
                if gives_pings or message not in ({"type": 6}, [6]):
                    return message
                self.pings.append(self.socket.now)
            payload = self.socket.hear(until - self.socket.now)
            if payload is None or isinstance(payload, End):
                return payload
            self._read(payload)

    def _read(self, payload: bytes) -> None:
        try:
            while payload:
                if self._encoding == "json" or self._shakes_hands:
                    head, found, payload = payload.partition(b"\x1e")
                    for record in self._records.feed(head + found):
                        self._heard.append(_decoded(record, msgspec.json.decode))
                        self._shakes_hands = False
                else:
                    self._heard.extend(_decoded(body, msgspec.msgpack.decode) for body in self._bodies.feed(payload))
                    payload = b""
        except RemoteProtocolError as error:
            raise Unlike(differs(f"what is no message: {error}")) from None

    # ----------------------------------------------------------------------------------------------------- how it is

    def answer(self, call: str) -> dict[str, Any]:
        """The Completion of this call, whatever comes before it; a hub may greet its clients as it likes.

        Raises:
            Unlike: it does not come.
        """
        for message in self.messages(_MOMENT if self.is_mute else None):
            match message:
                case End():
                    raise Unlike(differs(f"the connection ended: {message.how}"))
                case {"type": 7}:
                    raise Unlike(differs(f"the server closed the connection: {shown(message)}"))
                case {"type": 3, "invocationId": identifier} if identifier == call:
                    completion: dict[str, Any] = message
                    return completion
                case _:
                    pass
        if self.is_mute:
            raise Unlike(tolerated("the connection goes on, as far as one can tell: calls are not answered here"))
        raise Unlike(unanswered(f"the call was not answered within {self.socket.timeout:g} s"))

    def call(self, kind: int = 1, **more: Any) -> dict[str, Any]:
        """Call a method that does not exist; the Completion that came.

        Raises:
            Unlike: none came.
        """
        call = self.new_id()
        self.send({"type": kind, "invocationId": call, "target": NO_SUCH_METHOD, "arguments": [], **more})
        completion = self.answer(call)
        self.is_settled = True
        return completion

    def goes_on(self, text: str = "ignored; the connection goes on") -> Finding:
        """See that the connection goes on: a call is answered.

        Raises:
            Unlike: it does not.
        """
        self.breathe()
        self.call()
        return conforms(text)

    def breathe(self) -> None:
        """Let what was sent arrive by itself.

        Raises:
            Unlike: it ended the connection.
        """
        for message in self.messages(_BREATH):
            if isinstance(message, End) or _close_of(message) is not None:
                raise Unlike(differs(f"the connection ended: {shown(message)}"))

    def ends(self) -> Finding:
        """See that the server ends the connection with an error, as for what is malformed.

        Raises:
            Unlike: it does not.
        """
        self.is_settled = False
        close: dict[str, Any] | None = None
        for message in self.messages():
            close = close or _close_of(message)
            if not isinstance(message, End):
                continue
            if close is None:
                return tolerated(f"{message.how}, without a Close message that says why")
            if not close.get("error"):
                return tolerated(f"{shown(close)}, which names no error; then {message.how}")
            return conforms(f"{shown(close)}, then {message.how}")
        came = "nothing" if close is None else shown(close)
        raise Unlike(differs(f"{came} came, and the connection goes on"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Say goodbye and hang up."""
        self.socket.leave()

    def drop(self) -> None:
        """Hang up without a word."""
        self.socket.drop()


def _close_of(message: Any) -> dict[str, Any] | None:
    """The Close message that this is, if it is one."""
    match message:
        case {"type": 7}:
            close: dict[str, Any] = message
            return close
        case [7, error, *_]:
            return {"type": 7, "error": error}
        case _:
            return None


def _decoded(record: bytes, decode: Callable[[bytes], Any]) -> Any:
    """The message in this: an object or an array.

    Raises:
        Unlike: there is none.
    """
    try:
        message = decode(record)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        reason = f" ({error})"
    else:
        if isinstance(message, dict | list):
            return message
        reason = ""
    raise Unlike(differs(f"what is no message{reason}: {record.decode(errors='replace')}"))


def shown(message: object) -> str:
    """A message, an end or nothing, in a line."""
    match message:
        case None:
            return "nothing"
        case End():
            return message.how
        case _:
            try:
                return msgspec.json.encode(message).decode()
            except (TypeError, ValueError, RecursionError):
                return str(message)  # what only MessagePack knows
