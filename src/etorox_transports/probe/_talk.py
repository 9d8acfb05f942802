"""`Talk`: a connection past the SignalR handshake, and the ways in which cases see that it goes on or ends.

Messages are what JSON or MessagePack make of them, not types: a probe sees what a codec would refuse.

Source: SignalR's Hub Protocol.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any, final

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
        """Send a handshake request, by default a right one, and give what came for it, as `hear`.

        Raises:
            Unlike: by default, if it was not accepted.
        """
        wanted = f'{{"protocol":"{self._encoding}","version":1}}{_SEPARATOR}'
        self.socket.text(wanted if request is None else request)
        answer = self.hear_handshake()
        if request is None:
            self._check(answer)
        return answer

    def hear_handshake(self, seconds: float | None = None) -> Any:
        """The handshake response: a value out of JSON, an `End`, or None."""
        answer = self._next(seconds, gives_pings=True)
        self._shakes_hands = False
        return answer

    def _check(self, answer: Any) -> None:
        if answer is None:
            raise Unlike(unanswered(f"no handshake response within {self.socket.timeout:g} s"))
        if isinstance(answer, End) or not isinstance(answer, dict) or answer.get("error") is not None:
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
        return self._next(seconds, gives_pings=False)

    def _next(self, seconds: float | None, *, gives_pings: bool) -> Any:
        until = self.socket.now + (self.socket.timeout if seconds is None else seconds)
        while True:
            while self._heard:
                message = self._heard.popleft()
                if gives_pings or message not in ({"type": 6}, [6]):
                    return message
                self.pings.append(self.socket.now)
            data = self.socket.hear(until - self.socket.now)
            if data is None or isinstance(data, End):
                return data
            self._read(data.payload)

    def _read(self, payload: bytes) -> None:
        try:
            while payload:
                if self._encoding == "json" or self._shakes_hands:
                    head, found, payload = payload.partition(b"\x1e")
                    for record in self._records.feed(head + found):
                        self._heard.append(msgspec.json.decode(record))
                        if self._shakes_hands:
                            self._shakes_hands = False
                            break
                else:
                    self._heard.extend(msgspec.msgpack.decode(body) for body in self._bodies.feed(payload))
                    payload = b""
        except (msgspec.MsgspecError, ValueError, RemoteProtocolError) as error:
            text = payload.decode(errors="replace")
            raise Unlike(differs(f"what is no message ({error}): {shown(text)}")) from None

    # ----------------------------------------------------------------------------------------------------- how it is

    def answer(self, call: str) -> dict[str, Any]:
        """The Completion of this call, whatever comes before it.

        Raises:
            Unlike: it does not come.
        """
        while True:
            message = self.hear(_MOMENT if self.is_mute else None)
            match message:
                case None if self.is_mute:
                    raise Unlike(
                        tolerated("the connection goes on, as far as one can tell: calls are not answered here")
                    )
                case None:
                    raise Unlike(unanswered(f"the call was not answered within {self.socket.timeout:g} s"))
                case End():
                    raise Unlike(differs(f"the connection ended: {message.how}"))
                case {"type": 7}:
                    raise Unlike(differs(f"the server closed the connection: {shown(message)}"))
                case {"type": 3, "invocationId": identifier} if identifier == call:
                    completion: dict[str, Any] = message
                    return completion
                case _:
                    pass  # a hub may greet its clients as it likes

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
        message = self.hear(_BREATH)
        if isinstance(message, End) or _close_of(message) is not None:
            raise Unlike(differs(f"the connection ended: {shown(message)}"))
        self.call()
        return conforms(text)

    def ends(self, *, seconds: float | None = None) -> Finding:
        """See that the server ends the connection with an error, as for what is malformed.

        Raises:
            Unlike: it does not.
        """
        self.is_settled = False
        close: dict[str, Any] | None = None
        while True:
            message = self.hear(seconds)
            match message:
                case None:
                    came = "nothing" if close is None else shown(close)
                    raise Unlike(differs(f"{came} came, and the connection goes on"))
                case End():
                    break
                case _:
                    # Something else may be the answer to what was asked before.
                    close = close or _close_of(message)
        if close is None:
            return tolerated(f"{message.how}, without a Close message that says why")
        if not close.get("error"):
            return tolerated(f"{shown(close)}, which names no error; then {message.how}")
        return conforms(f"{shown(close)}, then {message.how}")

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


def shown(message: object) -> str:
    """A message, an end or nothing, in a line."""
    match message:
        case None:
            return "nothing"
        case End():
            return message.how
        case str():
            return message
        case _:
            return msgspec.json.encode(message).decode()
