"""A server in memory and in virtual time for the probe: `Plain`, which behaves as ASP.NET Core 3.1 does; the way there.

`Plain` is written on h11 and wsproto and shares nothing with the server that it stands in for; it is cut into pieces
that a test can replace to make it wrong in one point.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from typing import Any, ClassVar, Protocol
from urllib.parse import parse_qsl

import h11
import wsproto
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Message,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.utilities import generate_accept_token as accept_token

from etorox_proto import Dial
from etorox_proto.testing import websocket_frame

RS = "\x1e"
CLOSE = {"type": 7, "error": "Connection closed with an error.", "allowReconnect": True}


class End(Protocol):
    """The server's end of a stream."""

    @property
    def closed(self) -> bool: ...

    @property
    def deadline(self) -> float: ...

    def receive_data(self, data: bytes, now: float, /) -> None: ...

    def handle_timeout(self, now: float, /) -> None: ...

    def data_to_send(self) -> bytes: ...


class Host(Protocol):
    def accept(self, now: float, /) -> End: ...


class Memory:
    """The way to hosts, with a clock that jumps; `open`, `clock` and `sleep` are for `probe`."""

    def __init__(self, host: Host, *, others: dict[str, Host] | None = None) -> None:
        self.now = 1_000.0
        self.dials: list[tuple[float, Dial]] = []
        self.ends: list[End] = []
        self.slept = 0.0
        self.sent: list[bytes] = []
        self.streams: list[MemoryStream] = []
        self._host = host
        self._others = others or {}

    def ways(self) -> dict[str, Any]:
        return {"open": self.open, "clock": self.clock, "sleep": self.sleep}

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self._run(self.now + seconds)

    def open(self, dial: Dial, _timeout: float) -> MemoryStream:
        self.dials.append((self.now, dial))
        end = self._others.get(dial.host, self._host).accept(self.now)
        self.ends.append(end)
        self.streams.append(MemoryStream(self, end))
        return self.streams[-1]

    @property
    def left_open(self) -> list[MemoryStream]:
        """The streams that the probe has not closed."""
        return [each for each in self.streams if each.is_open]

    def wait(self, end: End, until: float) -> bytes:
        """What the server sends on this stream next; b"" if nothing until then."""
        while not (data := end.data_to_send()) and not end.closed:
            if not self._step(until):
                break
        return data

    def _run(self, until: float) -> None:
        while self._step(until):
            pass

    def _step(self, until: float) -> bool:
        due = min((each.deadline for each in self.ends if not each.closed), default=math.inf)
        if due > until:
            self.now = max(self.now, until)
            return False
        self.now = max(self.now, due)
        for each in self.ends:
            if not each.closed and each.deadline <= self.now:
                each.handle_timeout(self.now)
        return True


class MemoryStream:
    """A `ByteStream`."""

    def __init__(self, memory: Memory, end: End) -> None:
        self._memory = memory
        self._end = end
        self.is_open = True

    def send_all(self, data: bytes, _timeout: float) -> None:
        assert self.is_open, "nothing is sent on a stream that was closed"
        self._memory.sent.append(data)
        if self._end.closed:
            raise BrokenPipeError(32, "Broken pipe")
        self._end.receive_data(data, self._memory.now)

    def receive(self, timeout: float) -> bytes:
        assert self.is_open, "nothing is read from a stream that was closed"
        data = self._memory.wait(self._end, self._memory.now + timeout)
        if not data and not self._end.closed:
            raise TimeoutError("timed out")
        return data

    def close(self) -> None:
        if self.is_open and not self._end.closed:
            self._end.receive_data(b"", self._memory.now)
        self.is_open = False


class Plain:
    """A hub that has no methods; a `Host`."""

    largest = 32_768
    handshake_timeout = 15.0
    client_timeout = 30.0
    ping_interval = 15.0
    pings = True
    close_code = 1000
    keeps_http = True
    deflates = False
    leaves_after_refusal = True
    pings_are_goodbyes = False
    answers_close = True
    ends_stream = True
    chat_interval = math.inf
    pings_at_close = False
    upgrade_answer: bytes | None = None
    upgrade_ends = False
    parting: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}  # of connections, and "new", "open", "spent"
        self._names = (f"{number:022d}" for number in itertools.count(1))

    def accept(self, _now: float) -> PlainEnd:
        return PlainEnd(self)

    # --------------------------------------------------------------------------------------------------------- HTTP

    def reply(self, method: str, path: str, query: dict[str, str]) -> tuple[int, str, bytes]:
        """Status, content type and body for a request that asks for no WebSocket."""
        if path == "/hub/negotiate":
            if method != "POST":
                return 405, "text/plain", b""
            return self.negotiate({name.lower(): value for name, value in query.items()})
        if path == "/hub":
            return 400, "text/plain", b"Connection ID required"
        return 404, "", b""

    def negotiate(self, query: dict[str, str]) -> tuple[int, str, bytes]:
        asked = query.get("negotiateversion", "0")
        if not asked.isdecimal():
            text = f"The client requested an invalid protocol version '{asked}'"
            return 200, "application/json", json.dumps({"error": text}).encode()
        return 200, "application/json", json.dumps(self.negotiated(min(int(asked), 1))).encode()

    def negotiated(self, version: int) -> dict[str, Any]:
        name, token = next(self._names), next(self._names)
        self.ids[token if version else name] = "new"
        transports = [{"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}]
        response = {"negotiateVersion": version, "connectionId": name, "availableTransports": transports}
        return {**response, "connectionToken": token} if version else response

    def refusal(self, connect_id: str | None) -> int | None:
        """The status that refuses a WebSocket."""
        if connect_id is None:
            return None
        return {"new": None, "open": 409}.get(self.ids.get(connect_id, ""), 404)

    # -------------------------------------------------------------------------------------------------- hub messages

    def handshake(self, request: str) -> Any:
        try:
            asked = json.loads(request)
            protocol, version = asked["protocol"], asked["version"]
        except (ValueError, KeyError, TypeError):
            return {"error": "An unexpected error occurred during connection handshake."}
        if protocol != "json":
            return {"error": f"The protocol '{protocol}' is not supported."}
        if version > 1:
            return {"error": f"The server does not support version {version} of the '{protocol}' protocol."}
        return {}

    def take(self, text: str) -> list[dict[str, Any]]:
        """The answers to a record."""
        try:
            message = json.loads(text)
            kind = message["type"]
        except (ValueError, KeyError, TypeError):
            return [self.malformed()]
        match kind:
            case 1 | 4:
                if "target" not in message:
                    return [self.malformed()]
                return [self.unknown_method(message)] if "invocationId" in message else []
            case 7:
                return [{"type": 7}]
            case _:
                return self.other(message)

    def unknown_method(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"type": 3, "invocationId": message["invocationId"], "error": f"Unknown hub method {message['target']}"}

    def malformed(self) -> dict[str, Any]:
        return CLOSE

    def pong(self, ping: Ping) -> Any:
        return ping.response()

    def other(self, _message: dict[str, Any]) -> list[dict[str, Any]]:
        return []


class PlainEnd:
    """One stream of a `Plain`; a `HostConnection`, as far as the probe needs one."""

    def __init__(self, hub: Plain) -> None:
        self.hub = hub
        self.closed = False
        self.deadline = math.inf
        self.output = b""
        self.id: str | None = None
        self._http: h11.Connection | None = h11.Connection(h11.SERVER)
        self._raw = b""
        self._ws = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self._text = ""
        self._is_greeted = False
        self._last: float | None = None  # when the client has said something, from its first ping on
        self._ping_at = math.inf
        self._chat_at = math.inf
        self._give_up_at = math.inf

    def data_to_send(self) -> bytes:
        data, self.output = self.output, b""
        return data

    def receive_data(self, data: bytes, now: float) -> None:
        if not data:
            self.end()
        elif self._http is not None:
            self._receive_http(data, now)
        else:
            try:
                self._receive_frames(data, now)
            except ConnectionResetError:
                self.end()

    def handle_timeout(self, now: float) -> None:
        if now >= self._give_up_at:
            if not self._is_greeted:
                self.say({"error": "Handshake was canceled."})
            else:
                self.say(CLOSE)
            self.close()
        elif now >= self._chat_at:
            self.say({"type": 1, "target": "price", "arguments": [1]})
            self._chat_at = now + self.hub.chat_interval
        elif now >= self._ping_at:
            if self.hub.pings_are_goodbyes:
                self.close()
                return
            self.say({"type": 6})
            self._ping_at = now + self.hub.ping_interval
        self._plan()

    def _plan(self) -> None:
        self.deadline = min(self._ping_at, self._chat_at, self._give_up_at)

    def end(self) -> None:
        self.closed = True
        if self.id is not None:
            self.hub.ids[self.id] = "spent"

    def say(self, *messages: Any) -> None:
        for message in messages:
            text = message if isinstance(message, str) else json.dumps(message, separators=(",", ":"))
            if self._ws.state is ConnectionState.OPEN:
                self.output += self._ws.send(TextMessage(data=text + RS))
            else:
                self.output += websocket_frame((text + RS).encode())  # whatever was said before

    def close(self) -> None:
        self.output += self._ws.send(CloseConnection(self.hub.close_code))
        self.end()

    def _receive_http(self, data: bytes, now: float) -> None:
        assert self._http is not None
        self._raw += data
        self._http.receive_data(data)
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError:
            self.end()
            return
        if not isinstance(event, h11.Request):
            return
        path, _, text = event.target.decode().partition("?")
        query = dict(parse_qsl(text, keep_blank_values=True))
        if dict(event.headers).get(b"upgrade") == b"websocket" and path == "/hub":
            self._http = None
            self._upgrade(query.get("id"), now)
            return
        status, kind, body = self.hub.reply(event.method.decode(), path, query)
        headers = [("Content-Length", str(len(body))), *([("Content-Type", kind)] if kind else [])]
        if not self.hub.keeps_http:
            headers.append(("Connection", "close"))
        self.output += self._http.send(h11.Response(status_code=status, headers=headers))
        self.output += self._http.send(h11.Data(data=body)) + self._http.send(h11.EndOfMessage())
        if not self.hub.keeps_http:
            self.end()
            return
        assert isinstance(self._http.next_event(), h11.EndOfMessage)
        self._http.start_next_cycle()
        self._raw = b""

    def _upgrade(self, connect_id: str | None, now: float) -> None:
        if self.hub.upgrade_answer is not None:
            key = re.search(rb"Sec-WebSocket-Key: (\S+)", self._raw, re.IGNORECASE)
            assert key is not None
            accept = accept_token(key[1])
            self.output += self.hub.upgrade_answer.replace(b"{accept}", accept)
            self.closed = self.hub.upgrade_ends
            return
        self._ws.receive_data(self._raw)
        request = next(iter(self._ws.events()))
        assert isinstance(request, Request)
        refusal = self.hub.refusal(connect_id)
        if refusal is not None:
            self.output += self._ws.send(RejectConnection(status_code=refusal, has_body=True, headers=[]))
            self.output += self._ws.send(RejectData(data=b"No Connection with that ID"))
            self.closed = True
            return
        self.id = connect_id
        if connect_id is not None:
            self.hub.ids[connect_id] = "open"
        offers: list[Extension] = [PerMessageDeflate()] if self.hub.deflates else []
        self.output += self._ws.send(AcceptConnection(extensions=offers))
        self._give_up_at = now + self.hub.handshake_timeout
        self._plan()

    def _receive_frames(self, data: bytes, now: float) -> None:
        self._ws.receive_data(data)
        for event in self._ws.events():
            match event:
                case Message():
                    self._text += (
                        event.data if isinstance(event, TextMessage) else bytes(event.data).decode(errors="replace")
                    )
                    self._read(now)
                case Ping():
                    self.output += self._ws.send(self.hub.pong(event))
                case CloseConnection():
                    if self.hub.pings_at_close:
                        self.output += websocket_frame(b"k", 9)
                    if not self.closed and self.hub.answers_close:
                        self.output += self._ws.send(event.response())
                        if self.hub.ends_stream:
                            self.end()
                case _:
                    pass
            if self.closed:
                return
        self._plan()

    def _read(self, now: float) -> None:
        while RS in self._text and not self.closed:
            text, _, self._text = self._text.partition(RS)
            if not self._is_greeted:
                response = self.hub.handshake(text)
                if response is None:
                    return
                self.say(response)
                if "error" in response:
                    self.say(*self.hub.parting)
                    self._chat_at = now + self.hub.chat_interval
                    self._give_up_at = math.inf
                    if self.hub.leaves_after_refusal:
                        self.close()
                    return
                self._is_greeted = True
                self._give_up_at = math.inf
                self._chat_at = now + self.hub.chat_interval
                self._ping_at = now + self.hub.ping_interval if self.hub.pings else math.inf
                continue
            if text.replace(" ", "") == '{"type":6}' or self._last is not None:
                self._last = now
                self._give_up_at = now + self.hub.client_timeout
            if len(text) > self.hub.largest:
                self.say(self.hub.malformed())
                self.close()
                return
            for message in self.hub.take(text):
                self.say(message)
                if message.get("type") == 7:
                    self.close()
                    return
        if len(self._text) > self.hub.largest:
            self.say(CLOSE if self._is_greeted else {"error": "Handshake was canceled."})
            self.close()
