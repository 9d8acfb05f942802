"""Reception: from the first bytes of a client's stream to an open WebSocket; the server's counterpart of `_opening`.

Negotiate requests are answered, pages of other origins are let in or kept out, and the upgrade is judged here; also
whether it is one of a client that comes back. `ServerConnection` owns one `Reception` and hands it the bytes that
arrive before the WebSocket. Timers and states are the connection's business.

Source: SignalR specification, sections 4, 6, 16 and 18; the Fetch standard for what browsers ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from etorox_proto.signalr._codec import new_codec
from etorox_proto.signalr._config import ServerConfig
from etorox_proto.signalr._errors import LocalProtocolError, UpgradeFailed
from etorox_proto.signalr._http import HttpRequest, HttpServer
from etorox_proto.signalr._negotiation import negotiate_response, redirect_response
from etorox_proto.signalr._request import ClientRequest
from etorox_proto.signalr._tokens import ConnectionTokens
from etorox_proto.signalr._websocket import WebSocket

__all__ = ["Reception"]

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Reception:
    """The way of one byte stream to a WebSocket.

    Args:
        config: how clients are treated.
        tokens: shared by all streams of the server.

    Attributes:
        served: how many requests were answered.
        is_over: whether the last answer was the end of the stream.
        websocket: what the stream became, None before that.
        connection_id: the public name of the connection, None before the WebSocket.
        resumes: the connection whose client has come back with this WebSocket; None if it begins one of its own.
        request: the WebSocket request, None before it.
        failure: what a function of the configuration's did wrong, after the last answer; None if nothing.
    """

    def __init__(self, config: ServerConfig, tokens: ConnectionTokens) -> None:
        self._config = config
        self._tokens = tokens
        self._http = HttpServer(max_head=config.limits.http_head, max_body=config.limits.http_body)
        self._connect_id: str | None = None
        self._for_page: list[tuple[str, str]] = []
        self.served = 0
        self.is_over = False
        self.websocket: WebSocket | None = None
        self.connection_id: str | None = None
        self.resumes: Any = None
        self.request: ClientRequest | None = None
        self.failure: UpgradeFailed | None = None

    @property
    def expects_request(self) -> bool:
        """Whether another request may follow on this stream."""
        return self._http.expects_request

    @property
    def trailing_data(self) -> bytes:
        """What was received behind the last request."""
        return self._http.trailing_data

    def receive_data(self, data: bytes) -> Iterator[bytes]:
        """Take bytes and yield the answers to the requests that they complete.

        An accepted WebSocket ends it; its own answer is in the `output` of `websocket`.

        Raises:
            RemoteProtocolError: the bytes are no HTTP, or a limit is exceeded.
        """
        request = self._http.receive_data(data)
        while request is not None:
            self.served += 1
            try:
                answer = self._serve(request)
            except UpgradeFailed as failure:
                self.failure = failure
                answer = self._respond(500, b"")
            if answer is None:
                return
            yield answer
            if self.failure is not None or not self.expects_request:
                self.is_over = True
                return
            request = self._http.receive_data(b"")

    def refuse(self) -> bytes:
        """The answer to what is no HTTP request."""
        return self._respond(400, b"")

    def keep(self, connection: Any) -> bool:
        """This connection is to be found when its client comes back; whether negotiation granted that."""
        assert self._connect_id is not None, "whoever shakes hands has an id"
        return self._tokens.keep_resumable(self._connect_id, connection)

    def hand_over(self, connection: Any) -> tuple[WebSocket, bytes]:
        """The WebSocket of a client that has come back to this connection, once, and what came behind its request.

        Raises:
            LocalProtocolError: there is none, or it was handed over already.
        """
        websocket = self.websocket
        if websocket is None or self.resumes is not connection:
            raise LocalProtocolError(
                "expected the object that has just said Resumed of this connection, got another one"
            )
        self.websocket = self.resumes = None
        return websocket, self.trailing_data

    def leave(self) -> None:
        """The connection is over; its id is spent."""
        if self._connect_id is not None:
            self._tokens.detach(self._connect_id)

    def _serve(self, request: HttpRequest) -> bytes | None:
        path, _, query = request.target.partition("?")
        parameters = parse_qsl(query, keep_blank_values=True)
        hub_path = path.removesuffix("/negotiate") or "/"
        origin, allowed = request.header("origin"), self._config.allowed_origins
        self._for_page = []
        if origin is not None and allowed is not None:
            if origin not in allowed:
                return self._respond(403, b"This origin is not allowed.")
            self._for_page = _headers_for_page(origin, request)
            if request.method == "OPTIONS":
                return self._respond(200, b"")
        if path.endswith("/negotiate") and self._ask(self._config.serves, hub_path):
            if request.method != "POST":
                return self._respond(405, b"")
            asked = ClientRequest(hub_path, parameters, request.headers, negotiates=True)
            return self._authorize(asked) or self._negotiate(asked, query)
        if (
            request.method != "GET"
            or (request.header("upgrade") or "").lower() != "websocket"
            or not self._ask(self._config.serves, path)
        ):
            return self._respond(404, b"")
        asked = ClientRequest(path, parameters, request.headers, negotiates=False)
        return self._authorize(asked) or self._upgrade(asked, request)

    def _ask(self, function: Callable[[Asked], Answer], about: Asked) -> Answer:
        """Ask a function of the configuration's, which is not ours and may do anything."""
        try:
            return function(about)
        except Exception as error:
            text = f"expected an answer from a function of ServerConfig, it raised {type(error).__name__}"
            raise UpgradeFailed(text, status=500) from error

    def _authorize(self, asked: ClientRequest) -> bytes | None:
        status = self._ask(self._config.authorize, asked)
        if status is None:
            return None
        if not isinstance(status, int) or not 400 <= status <= 599:
            text = f"expected a status from 400 to 599, or None, from ServerConfig.authorize, got {status!r}"
            raise UpgradeFailed(text, status=500)
        return self._respond(status, b"")

    def _negotiate(self, asked: ClientRequest, query: str) -> bytes:
        body = self._ask(self._redirect, asked)
        if body is None:
            formats = [new_codec(encoding).transfer_format for encoding in self._config.encodings]
            body = negotiate_response(query, formats, self._tokens.issue, may_resume=self._config.stateful_reconnect)
        return self._respond(200, body, "application/json")

    def _redirect(self, asked: ClientRequest) -> bytes | None:
        redirect = self._config.redirects(asked)
        return None if redirect is None else redirect_response(redirect)

    def _upgrade(self, asked: ClientRequest, request: HttpRequest) -> bytes | None:
        connect_id = next((value for name, value in asked.query if name.lower() == "id"), None)
        try:
            websocket = WebSocket.server(
                request, max_message=self._config.limits.websocket_message, compression=self._config.compression
            )
        except UpgradeFailed as error:
            return self._respond(400, str(error).encode())
        self.resumes = self._tokens.find_resumable(connect_id)
        if self.resumes is None:
            attached = self._tokens.attach(connect_id)
            if isinstance(attached, int):
                return self._respond(attached, b"")
            self._connect_id, self.connection_id = connect_id or attached, attached
        self.request = asked
        self.websocket = websocket
        return None

    def _respond(self, status: int, body: bytes, content_type: str = "text/plain") -> bytes:
        headers = [("Content-Type", content_type)] if body else []
        if status == 401:
            headers.append(("WWW-Authenticate", "Bearer"))  # RFC 9110 section 15.5.2 demands one
        return self._http.respond(status, body, [*headers, *self._for_page])


def _headers_for_page(origin: str, request: HttpRequest) -> list[tuple[str, str]]:
    """What tells a browser that a page of this origin may ask, in answer to a preflight, and may read the answer."""
    headers = [
        ("Access-Control-Allow-Origin", origin),
        # The clients ask for cookies unless told otherwise; then a browser insists on this, and on no wildcard above.
        ("Access-Control-Allow-Credentials", "true"),
        ("Vary", "Origin"),
    ]
    for asks, grants in (("method", "Methods"), ("headers", "Headers")):
        asked = request.header(f"access-control-request-{asks}")
        if asked is not None:
            headers.append((f"Access-Control-Allow-{grants}", asked))
    return headers
