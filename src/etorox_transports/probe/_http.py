"""`Http`: requests of a client, one after the other on one stream for as long as the server keeps it.

Source: RFC 9112; RFC 6265 for cookies, of which a load balancer's have to come back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import final

import h11
import msgspec

from etorox_transports.probe._finding import Unlike, differs, unanswered
from etorox_transports.probe._line import Line

__all__ = ["Http", "Reply"]

_LARGEST_BODY = 65_536
_COOKIE = re.compile(r"[!#-+\--:<-\[\]-~]*")
_COOKIE_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@final
class Reply(msgspec.Struct, frozen=True):
    """What came for an HTTP request.

    Attributes:
        status: the status code.
        body: its first 64 KiB.
        content_type: without parameters, in lower case; empty if there is none.
        location: where it redirects to; empty if nowhere.
    """

    status: int
    body: bytes
    content_type: str = ""
    location: str = ""

    def __str__(self) -> str:
        body = " ".join(self.body.decode(errors="replace").split())
        return f"status {self.status}" + (f": {body}" if body else "")


@final
class Http:
    """HTTP with one server.

    Args:
        open_line: opens a byte stream to it.
        clock: the time, in seconds.
        timeout: how long to wait for a whole response, in seconds.

    Attributes:
        cookies: those that the server has set.
    """

    def __init__(self, open_line: Callable[[], Line], *, clock: Callable[[], float], timeout: float) -> None:
        self.cookies: dict[str, str] = {}
        self._open_line = open_line
        self._clock = clock
        self._timeout = timeout
        self._kept: tuple[Line, h11.Connection] | None = None

    def ask(self, method: str, target: str, headers: list[tuple[str, str]]) -> Reply:
        """Send a request and wait for the response.

        Raises:
            Unlike: none came, or something else did.
        """
        had_one = self._kept is not None
        reply = self._ask(method, target, headers)
        if reply is None and had_one:
            reply = self._ask(method, target, headers)  # the server did not keep the stream for so long
        if reply is None:
            raise Unlike(differs("the end of the stream and no HTTP response"))
        return reply

    def hang_up(self) -> None:
        """Close the stream, if there is one."""
        if self._kept is not None:
            self._kept[0].close()
            self._kept = None

    def _ask(self, method: str, target: str, headers: list[tuple[str, str]]) -> Reply | None:
        """The response; None if the stream ended before one began."""
        line, http = self._kept or (self._open_line(), h11.Connection(h11.CLIENT))
        self._kept = None
        length = [] if method == "GET" else [("Content-Length", "0")]
        try:
            line.send(http.send(h11.Request(method=method, target=target, headers=headers + length)) or b"")
            line.send(http.send(h11.EndOfMessage()) or b"")
            reply = self._reply(line, http, line.heard)
            if http.our_state is http.their_state is h11.DONE:
                http.start_next_cycle()
                self._kept = line, http
            return reply
        finally:
            if self._kept is None:
                line.close()

    def _reply(self, line: Line, http: h11.Connection, before: int) -> Reply | None:
        status, body, until = 0, b"", self._clock() + self._timeout
        fields: dict[bytes, str] = {}
        while True:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError as error:
                if line.heard == before:
                    return None
                raise Unlike(differs(f"no HTTP response: {error}")) from None
            match event:
                case h11.Response():
                    status = event.status_code
                    fields = {name: value.decode("latin-1") for name, value in event.headers}
                    for name, value in event.headers:
                        if name == b"set-cookie":
                            self._keep(value.decode("latin-1"))
                case h11.Data():
                    body = (body + event.data)[:_LARGEST_BODY]
                case h11.EndOfMessage():
                    content_type = fields.get(b"content-type", "").partition(";")[0].strip().lower()
                    return Reply(status, body, content_type, fields.get(b"location", ""))
                case h11.NEED_DATA:
                    data = line.receive(until)
                    if data is None:
                        what = "no end of the HTTP response" if status else "no HTTP response"
                        raise Unlike(unanswered(f"{what} within {self._timeout:g} s"))
                    http.receive_data(data)
                case _:
                    pass  # such as 100 Continue

    def _keep(self, text: str) -> None:
        name, found, value = text.partition(";")[0].partition("=")
        if found and _COOKIE_NAME.fullmatch(name.strip()) and _COOKIE.fullmatch(value.strip()):
            self.cookies[name.strip()] = value.strip()
