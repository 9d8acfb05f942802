"""HTTP/1.1, as little as negotiation needs: h11 in quarantine.

The only module that imports h11. `HttpExchange` is the client's side of one request and its bounded response,
`HttpServer` the server's side of a stream of requests without bodies worth reading. What the requests mean is decided
in `_negotiation`, `_client` and `_server`.

h11 judges the size of a head by what happens to be in its buffer, so that the same bytes pass whole and fail in
pieces; `HeadGate` holds a head back until it is complete and counts it exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import h11
import msgspec

from etorox_proto.signalr._errors import (
    ConnectionLost,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
)

__all__ = ["HeadGate", "HttpExchange", "HttpRequest", "HttpResponse", "HttpServer", "check_headers"]

Headers = Iterable[tuple[str, str]]

# What a request can begin with; and the first bytes of TLS's alert and handshake records.
_METHOD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TLS = b"\x15\x16"
_END_OF_HEAD = re.compile(rb"\n\r?\n")
# A response that only announces the one that counts (RFC 9110 section 15.2); wsproto takes it for a refusal.
_INTERIM = re.compile(rb"HTTP/[0-9]\.[0-9] 1(?!01)[0-9]{2}[ \r\n]")

# A name of RFC 6265 section 4.1.1, and a value of whatever a header can carry back.
_COOKIE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+=[ -:<-~]*")
_NO_LIFE = re.compile(r"max-age\s*=\s*(0+|-[0-9]+)", re.IGNORECASE)


class HttpResponse(msgspec.Struct, frozen=True):
    """A whole response; of the cookies that it sets, `name=value`."""

    status: int
    headers: dict[str, str]
    body: bytes
    cookies: list[str]

    def __repr__(self) -> str:
        return f"<HttpResponse {self.status}>"


class HttpRequest(msgspec.Struct, frozen=True):
    """A whole request; its body has been read and dropped. Header names are in lower case."""

    method: str
    target: str
    headers: list[tuple[str, str]]

    def __repr__(self) -> str:
        return f"<HttpRequest {self.method}>"

    def header(self, name: str) -> str | None:
        """The first header of that (lower-case) name."""
        return next((value for key, value in self.headers if key == name), None)


class HeadGate:
    """Holds bytes back until the head of an HTTP message is complete; counts it exactly, whatever the chunks.

    Interim responses, such as 100 Continue, are dropped.

    Args:
        max_head: the longest head to accept, in bytes.
        request: whether the head of a request is expected; else that of a response.
    """

    def __init__(self, max_head: int, *, request: bool = False) -> None:
        self._max_head = max_head
        self._expected, self._begin = ("request", _METHOD) if request else ("response", b"H")
        self._held = bytearray()
        self._searched = 0
        self._open = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take bytes in.

        Returns:
            The head, once, as soon as it is complete, and what came behind it.

        Raises:
            LimitExceeded: the head is too long.
            RemoteProtocolError: it cannot be HTTP from its first byte on, which is no reason to wait for more.
        """
        if self._open:
            return b"", data
        self._held += data
        while self._held:
            if self._held[0] not in self._begin:
                got = "TLS; does one side use https and the other http?" if self._held[0] in _TLS else "something else"
                raise RemoteProtocolError(f"an HTTP/1.1 {self._expected}", got)
            end = _END_OF_HEAD.search(self._held, max(0, self._searched - 2))
            self._searched = len(self._held)
            if (len(self._held) if end is None else end.end()) > self._max_head:
                raise LimitExceeded("http_head", self._max_head, "an HTTP head")
            if end is None:
                break
            if _INTERIM.match(self._held) is None:
                self._open = True
                return bytes(self._held[: end.end()]), bytes(self._held[end.end() :])
            del self._held[: end.end()]
            self._searched = 0
        return b"", b""

    def close(self) -> None:
        """Expect the next head."""
        self._held.clear()
        self._searched = 0
        self._open = False


class HttpExchange:
    """One request and the response to it, on a byte stream of its own.

    Args:
        method: `POST` or `GET`.
        target: path and query.
        host: the Host header.
        headers: further headers, checked before with `check_headers`.
        max_head: the longest response head, in bytes.
        max_body: the longest response body, in bytes.
    """

    def __init__(self, method: str, target: str, host: str, headers: Headers, *, max_head: int, max_body: int) -> None:
        self._gate = HeadGate(max_head)
        self._max_body = max_body
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=max_head + max_body)
        self._answered = False
        self._head: h11.Response | None = None
        self._body = bytearray()
        request = h11.Request(method=method, target=target, headers=[("Host", host), *headers, ("Content-Length", "0")])
        self.request = (self._h11.send(request) or b"") + (self._h11.send(h11.EndOfMessage()) or b"")

    def receive_data(self, data: bytes) -> HttpResponse | None:
        """Take bytes of the response; `b""` is the end of the stream.

        Returns:
            The response as soon as it is complete; what follows it is dropped.

        Raises:
            RemoteProtocolError: this is no HTTP/1.1 response.
            LimitExceeded: its head or body is too long.
            ConnectionLost: the stream ended before the response did.
        """
        if not data and not self._answered:
            raise ConnectionLost("the server closed the stream without an HTTP response; does it want https?")
        self._answered = True
        pieces = _pieces(*self._gate.feed(data)) if data else [b""]
        try:
            for piece in pieces:
                self._h11.receive_data(piece)
                if (response := self._read()) is not None:
                    return response
        except h11.RemoteProtocolError as error:
            if not data:
                break_off = "the server closed the stream in the middle of its HTTP response"
                raise ConnectionLost(break_off) from None
            raise RemoteProtocolError("an HTTP/1.1 response", _shorten(str(error))) from None
        return None

    def _read(self) -> HttpResponse | None:
        while True:
            event = self._h11.next_event()
            match event:
                case h11.Response():
                    self._head = event
                case h11.Data():
                    self._body += event.data
                    if len(self._body) > self._max_body:
                        raise LimitExceeded("http_body", self._max_body, "an HTTP body")
                case h11.EndOfMessage():
                    assert self._head is not None, "h11 ends only what has begun"
                    headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in self._head.headers]
                    return HttpResponse(self._head.status_code, dict(headers), bytes(self._body), _cookies(headers))
                case _:
                    return None


class HttpServer:
    """The requests on one byte stream, one after the other.

    Args:
        max_head: the longest request head, in bytes.
        max_body: the longest request body, in bytes; bodies are dropped.
    """

    def __init__(self, *, max_head: int, max_body: int) -> None:
        self._gate = HeadGate(max_head, request=True)
        self._max_body = max_body
        self._max_event = max_head + max_body
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=self._max_event)
        self._behind = b""
        self._request: h11.Request | None = None
        self._body_size = 0

    def receive_data(self, data: bytes) -> HttpRequest | None:
        """Take bytes of requests.

        Returns:
            The next request once it is complete. Answer it with `respond`, or take the stream over with
            `trailing_data`; then call again, with `b""` if there is nothing new.

        Raises:
            RemoteProtocolError: this is no HTTP/1.1 request.
            LimitExceeded: its head or body is too long.
        """
        data, self._behind = self._behind + data, b""
        head, rest = self._gate.feed(data)
        consumed = 0
        try:
            for piece in _pieces(head, rest):
                self._h11.receive_data(piece)
                consumed += len(piece)
                if (request := self._read()) is not None:
                    self._behind = (head + rest)[consumed:]
                    return request
        except h11.RemoteProtocolError as error:
            raise RemoteProtocolError("an HTTP/1.1 request", _shorten(str(error))) from None
        return None

    def _read(self) -> HttpRequest | None:
        while True:
            event = self._h11.next_event()
            match event:
                case h11.Request():
                    self._request = event
                    self._body_size = 0
                case h11.Data():
                    self._body_size += len(event.data)
                    if self._body_size > self._max_body:
                        raise LimitExceeded("http_body", self._max_body, "an HTTP body")
                case h11.EndOfMessage():
                    assert self._request is not None, "h11 ends only what has begun"
                    headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in self._request.headers]
                    return HttpRequest(
                        self._request.method.decode("ascii"), self._request.target.decode("latin-1"), headers
                    )
                case _:
                    return None

    def respond(self, status: int, body: bytes, headers: Headers = ()) -> bytes:
        """The bytes of the response to the request just read, or to one that is none (400, and then close the stream).

        Afterwards the next request is expected, where `expects_request` says so.
        """
        response = h11.Response(
            status_code=status,
            headers=[*headers, ("Content-Length", str(len(body)))],
            reason=_REASONS.get(status, ""),
        )
        if self._request is not None and self._request.method == b"HEAD":
            body = b""
        sent = [self._h11.send(event) for event in (response, h11.Data(data=body), h11.EndOfMessage())]
        if self._h11.states == {h11.SERVER: h11.DONE, h11.CLIENT: h11.DONE}:
            self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=self._max_event)
            self._gate.close()
        return b"".join(part or b"" for part in sent)

    @property
    def expects_request(self) -> bool:
        """Whether another request may follow on this stream."""
        return self._h11.their_state is h11.IDLE

    @property
    def trailing_data(self) -> bytes:
        """What was received behind the last request."""
        return self._behind


def _pieces(head: bytes, rest: bytes) -> Iterator[bytes]:
    """The head, and then every byte by itself: what h11 makes of a byte may depend on what is in its buffer already."""
    if head:
        yield head
    for index in range(len(rest)):
        yield rest[index : index + 1]


_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


_RESERVED = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def check_headers(headers: Headers) -> None:
    """Refuse headers that HTTP cannot carry, before anything is sent.

    Raises:
        LocalProtocolError: a name or value is no text or holds characters that HTTP does not allow, or the header is
            one that says how this connection is used, which is the library's to set. Values are not repeated.
    """
    for name, value in headers:
        if not isinstance(name, str) or not isinstance(value, str):
            raise LocalProtocolError(f"expected headers as texts by texts, got something else: {name!r}")
        if name.lower() in _RESERVED or name.lower().startswith("sec-websocket-"):
            raise LocalProtocolError(f"expected headers of your own, got {name!r}, which this library sets itself")
        try:
            h11.Request(method="GET", target="/", headers=[("Host", "h"), (name, value)])
        except (h11.LocalProtocolError, UnicodeEncodeError):
            raise LocalProtocolError(
                f"expected a header that HTTP can carry, got one with a forbidden character: {name!r}"
            ) from None


def _cookies(headers: Headers) -> list[str]:
    """The cookies that a response sets; without those that cannot be sent, or have no time to live."""
    cookies: dict[str, str] = {}
    for header, value in headers:
        cookie, *attributes = [part.strip() for part in value.split(";")]
        if header == "set-cookie" and _COOKIE.fullmatch(cookie) and not any(map(_NO_LIFE.fullmatch, attributes)):
            cookies[cookie.partition("=")[0]] = cookie
    return [*cookies.values()]


def _shorten(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
