"""A server made of h11 and wsproto alone, to play against a client connection in virtual time.

`ScriptedHub` shares no code with the server role of the library, so that a mistake made on both sides of it does not
cancel out. It knows HTTP requests and WebSocket messages, and nothing of what hub messages mean.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import h11
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request, TextMessage

from etorox_proto.signalr import Dial, HubConnection, HubEvent, State

__all__ = ["DATA", "HttpSeen", "ScriptedHub", "read_json"]

DATA = Path(__file__).parent / "data"

Event = TypeVar("Event")


def read_json(text: str | bytes) -> Any:
    """JSON as the standard library reads it, numbers with a fraction as `Decimal`."""
    return json.loads(text, parse_float=Decimal)


@dataclass(frozen=True)
class HttpSeen:
    """A request that the client made; `url` has the scheme of the stream, `authorization` is the header or None."""

    method: str
    url: str
    authorization: str | None
    upgrade: bool


class ScriptedHub:
    """One client connection and the other end of its byte streams.

    Attributes:
        now: virtual seconds.
        events: what the connection reported so far, in order.
        requests: HTTP requests that nobody took with `take_request` yet.
        texts: WebSocket messages from the client, as text; whoever drives the hub takes them from there.
    """

    def __init__(self, connection: HubConnection, *, now: float = 0.0) -> None:
        self.connection = connection
        self.now = now
        self.events: list[HubEvent] = []
        self.requests: list[HttpSeen] = []
        self.texts: list[str] = []
        self._dial: Dial | None = None
        self._replies: list[bytes] = []
        self._http = h11.Connection(h11.SERVER)
        self._head = b""
        self._websocket: WSConnection | None = None
        self.pump()

    def pump(self) -> None:
        """Flush, take events, answer what WebSocket demands, until nothing moves."""
        while True:
            if data := self.connection.data_to_send():
                self._receive(data)
            event = self.connection.next_event()
            if event is not None:
                self.events.append(event)
                if isinstance(event, Dial):
                    self._dial = event
            elif self._replies:
                self.connection.receive_data(self._replies.pop(0), self.now)
            elif not data:
                return

    def found(self, kind: type[Event]) -> list[Event]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    # ------------------------------------------------------------------------------------------- the network

    def open(self) -> None:
        """The byte stream of the last `Dial` is there."""
        self._http = h11.Connection(h11.SERVER)
        self._head = b""
        self._websocket = None
        self.connection.stream_opened(self.now)
        self.pump()

    def drop(self) -> None:
        """The byte stream breaks."""
        self.connection.receive_data(b"", self.now)
        self.pump()

    def advance(self, seconds: float) -> None:
        """Time passes; every deadline on the way is met."""
        until = self.now + seconds
        while self.connection.deadline <= until:
            self.now = self.connection.deadline
            self.connection.handle_timeout(self.now)
            self.pump()
        self.now = until

    # ---------------------------------------------------------------------------------------------- the server

    def take_request(self) -> HttpSeen:
        """The oldest HTTP request not taken yet; the stream is opened if the client waits for one."""
        if not self.requests:
            self.open()
        return self.requests.pop(0)

    def respond(self, status: int, body: bytes) -> None:
        """Answer the negotiate request and end the stream's use."""
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        parts = [h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()]
        self._feed(b"".join(self._http.send(part) or b"" for part in parts))

    def accept(self) -> None:
        """Accept the WebSocket that the client asked for."""
        self._websocket = WSConnection(ConnectionType.SERVER)
        self._websocket.receive_data(self._head)
        assert any(isinstance(event, Request) for event in self._websocket.events())
        self._feed(self._websocket.send(AcceptConnection()))

    def send(self, *records: str | dict[str, Any]) -> None:
        """Send these in one WebSocket message: text as it is, a dict as one hub message in JSON."""
        assert self._websocket is not None
        text = "".join(r if isinstance(r, str) else json.dumps(r, default=_as_number) + "\x1e" for r in records)
        self._feed(self._websocket.send(TextMessage(data=text)))

    def connect(self) -> None:
        """Go all the way from a fresh connection that skips negotiation to a connected hub."""
        self.open()
        self.accept()
        self.texts.clear()
        self.send("{}\x1e")
        assert self.connection.state is State.CONNECTED

    def _feed(self, data: bytes) -> None:
        self.connection.receive_data(data, self.now)
        self.pump()

    def _receive(self, data: bytes) -> None:
        if self._websocket is None:
            self._receive_http(data)
            return
        self._websocket.receive_data(data)
        for event in self._websocket.events():
            match event:
                case TextMessage():
                    self.texts.append(event.data)
                case CloseConnection():
                    self._replies += [self._websocket.send(event.response()), b""]
                case BytesMessage():
                    raise AssertionError("the JSON protocol travels in text messages")
                case _:
                    raise AssertionError(f"unexpected {event}")

    def _receive_http(self, data: bytes) -> None:
        self._head += data
        self._http.receive_data(data)
        request = self._http.next_event()
        assert isinstance(request, h11.Request), "a request leaves in one piece"
        assert self._dial is not None
        headers = {name: value.decode() for name, value in request.headers}
        host, port = self._dial.host, self._dial.port
        usual = 443 if self._dial.tls else 80
        assert headers[b"host"] == (host if port == usual else f"{host}:{port}")
        upgrade = b"upgrade" in headers
        scheme = ("ws" if upgrade else "http") + ("s" if self._dial.tls else "")
        url = f"{scheme}://{headers[b'host']}{request.target.decode()}"
        self.requests.append(HttpSeen(request.method.decode(), url, headers.get(b"authorization"), upgrade))
        if not upgrade:
            assert isinstance(self._http.next_event(), h11.EndOfMessage), "the request has no body"


def _as_number(value: object) -> float:
    assert isinstance(value, Decimal)
    return float(value)
