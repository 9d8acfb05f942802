"""`Server`: the server that is asked, as the cases see it: HTTP requests, negotiation, WebSockets.

One byte stream is open at a time beside the one that carries HTTP, and opening them is spaced. Nothing is judged here
but what no server may do: say nothing, or no HTTP. Time and streams come from outside, so that the same cases run in
virtual time.

Source: SignalR's Transport Protocols.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any, final
from urllib.parse import parse_qsl

import msgspec

from etorox_proto.signalr import (
    ConnectionFailed,
    Dial,
    HubConfig,
    LocalProtocolError,
    NegotiateResponse,
    NegotiationFailed,
    parse_endpoint,
    parse_negotiate_response,
)
from etorox_transports._blocking._line import Opener
from etorox_transports.probe._finding import Finding, Outcome, Unlike, differs
from etorox_transports.probe._http import Http, Reply
from etorox_transports.probe._line import Line
from etorox_transports.probe._socket import Socket
from etorox_transports.probe._talk import Talk

__all__ = ["Server"]

_USER_AGENT = f"etorox-probe/{metadata.version('etorox-proto')}"
_MAX_REDIRECTS = 10
# A part of a path that is so long may be a key, as it is in the exchange's URLs.
_LONG_PART = 16
# Whatever else is wrong with a negotiate response.
_SECRET = re.compile(rb'"(?:connectionId|connectionToken|accessToken)"\s*:\s*"((?:[^"\\]|\\.)+)"')


@final
class Server:
    """The server of one probe.

    Args:
        config: where it is, and the headers and token that it wants. Timeouts in it mean nothing.
        opener: opens byte streams.
        clock: the time, in seconds.
        sleep: lets so many seconds pass.
        timeout: how long to wait for what must come, in seconds.
        pause: the least time between two streams that are opened, in seconds.

    Attributes:
        endpoint: where the hub is, behind all redirects.
        timeout: as given.
        redirects: how many there were.
        is_old: whether it knows no versions of negotiation, as before 3.1.
        is_mute: whether it was found that calls of unknown methods are not answered.
        is_gone: whether it could not be reached when it was asked last.
        stateful: whether a negotiate response has granted stateful reconnect.
    """

    def __init__(
        self,
        config: HubConfig,
        *,
        opener: Opener,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        timeout: float,
        pause: float,
    ) -> None:
        self.endpoint = config.endpoint
        self.timeout = timeout
        self.redirects = 0
        self.is_old = False
        self.is_mute = False
        self.is_gone = False
        self.stateful = False
        self._config = config
        self._opener = opener
        self._clock = clock
        self._sleep = sleep
        self._pause = pause
        self._opened_at = -pause
        self._token = config.access_token() if callable(config.access_token) else config.access_token
        self._headers = dict(config.headers)
        self._secrets: set[str] = set()
        self._http = Http(self._open, clock=clock, timeout=timeout)
        self._kept: Talk | None = None
        self._no_talk: Finding | None = None
        self._hide(self._token, *self._headers.values(), *(v.partition(" ")[2] for v in self._headers.values()))
        self._hide_endpoint()

    @property
    def now(self) -> float:
        """The time, in seconds."""
        return self._clock()

    # ------------------------------------------------------------------------------------------------------ secrets

    def without_secrets(self, text: str) -> str:
        """The text, with tokens, headers, the query and long parts of the path taken out."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "[...]")
        return text

    def _hide(self, *secrets: str | None) -> None:
        self._secrets.update(each for each in secrets if each and len(each) >= 4)

    def _hide_endpoint(self) -> None:
        path, query = self.endpoint.path, self.endpoint.query
        self._hide(query, *(value for _, value in parse_qsl(query)))
        self._hide(*(part.partition("=")[2] for part in query.split("&")))
        self._hide(*(part for part in path.split("/") if len(part) >= _LONG_PART))

    # --------------------------------------------------------------------------------------------------------- HTTP

    def arrive(self) -> None:
        """Negotiate once, and go where that leads.

        Raises:
            ConnectionFailed: there is nobody, nothing that speaks HTTP, or who asks is not let in.
        """
        while True:
            try:
                reply = self.negotiate()
            except Unlike as unlike:
                raise NegotiationFailed(
                    f"expected an HTTP server at {self.endpoint.origin}, got {self.without_secrets(str(unlike))}"
                ) from None
            if reply.status in {401, 403}:
                raise NegotiationFailed(
                    f"expected to be let in, got status {reply.status}: an access token or a header is needed",
                    status=reply.status,
                )
            if 300 <= reply.status < 400:
                raise NegotiationFailed(
                    f"expected a hub at {self.endpoint.origin}, got status {reply.status}, which leads to "
                    f"{_origin(reply.location)}: give the URL that it leads to",
                    status=reply.status,
                )
            negotiated = _read(reply)
            if negotiated is None or negotiated.url is None:
                self.is_old = negotiated is not None and negotiated.negotiate_version == 0
                return
            self.redirects += 1
            if self.redirects > _MAX_REDIRECTS:
                raise NegotiationFailed(f"expected a hub after {_MAX_REDIRECTS} redirects, got another one")
            self._follow(negotiated.url, negotiated.access_token)

    def _follow(self, url: str, access_token: str | None) -> None:
        try:
            config = HubConfig(url=url, access_token=access_token, allow_insecure=self._config.allow_insecure)
        except LocalProtocolError as error:
            raise NegotiationFailed(f"the server redirects to where no client goes: {error}") from None
        endpoint = config.endpoint
        if endpoint.origin != self.endpoint.origin:
            # They were meant for the server that was named. A client sends them on; a probe has no need to.
            self._headers, self._token = {}, None
            self._http.cookies.clear()
        self._token = access_token or self._token
        self.endpoint = endpoint
        self._hide(access_token)
        self._hide_endpoint()
        self._http.hang_up()

    def negotiate(self, query: str = "negotiateVersion=1", *, method: str = "POST") -> Reply:
        """Ask for a connection; the query is put behind the endpoint's own."""
        path = self.endpoint.path.rstrip("/") + "/negotiate"
        reply = self.ask(method, _target(path, self.endpoint.query, query))
        for match in _SECRET.finditer(reply.body):
            text = match.group(1)
            self._hide(text.decode(errors="replace"), _unescaped(text))
        negotiated = _read(reply)
        if negotiated is not None:
            self.stateful = self.stateful or negotiated.use_stateful_reconnect
        return reply

    def connect_id(self, query: str = "negotiateVersion=1") -> str | None:
        """The id of a new connection; None if negotiation gives none."""
        negotiated = _read(self.negotiate(query))
        return None if negotiated is None else negotiated.connect_id

    def ask(self, method: str, target: str) -> Reply:
        """Send an HTTP request and wait for the response.

        Raises:
            Unlike: none came, or something else did.
        """
        reply = self._http.ask(method, target, self._common_headers())
        self._hide(*self._http.cookies.values())
        return reply

    def _common_headers(self) -> list[tuple[str, str]]:
        given, cookies = {name.lower() for name in self._headers}, self._http.cookies
        headers = [
            ("Host", self.endpoint.authority),
            ("User-Agent", _USER_AGENT),
            ("X-Requested-With", "XMLHttpRequest"),
            *([("Authorization", f"Bearer {self._token}")] if self._token else []),
            *([("Cookie", "; ".join(f"{k}={v}" for k, v in cookies.items()))] if cookies else []),
        ]
        return [each for each in headers if each[0].lower() not in given] + list(self._headers.items())

    # --------------------------------------------------------------------------------------------------- WebSockets

    def open(self, connect_id: str | None, **options: Any) -> Socket | Reply:
        """Ask for a WebSocket; an HTTP response is the server's refusal.

        Args:
            connect_id: the value for `id`; None for none.
            options: those of `Socket`.

        Raises:
            Unlike: something else came, or nothing.
        """
        self._let_go()
        target = self.endpoint.websocket_target(connect_id)
        headers = [each for each in self._common_headers() if each[0] != "Host"]
        socket = Socket(self._open(), timeout=self.timeout, clock=self._clock, **options)
        try:
            refusal = socket.ask(self.endpoint.authority, target, headers)
        except BaseException:
            socket.drop()
            raise
        if refusal is None:
            return socket
        socket.drop()
        return Reply(*refusal)

    def socket(self, query: str = "negotiateVersion=1", **options: Any) -> Socket:
        """A new connection, negotiated if the server negotiates, up to the WebSocket.

        Raises:
            Unlike: there is none.
        """
        opened = self.open(self.connect_id(query), **options)
        if isinstance(opened, Reply):
            raise Unlike(differs(f"no WebSocket: {opened}"))
        return opened

    def greet(self, encoding: str = "json", **options: Any) -> Talk:
        """A new connection, past the handshake; whatever is in the way is raised as skipped."""
        if self._no_talk is not None:
            raise Unlike(self._no_talk)
        try:
            talk = Talk(self.socket(**options), encoding)
            try:
                talk.check(talk.shake_hands())
            except BaseException:
                talk.drop()
                raise
        except Unlike as unlike:
            text = f"it needs a connection, and there is none: {unlike.finding.text}"
            finding = Finding(Outcome.SKIPPED, text)
            if encoding == "json" and not options:
                self._no_talk = finding
            raise Unlike(finding) from None
        return talk

    @contextlib.contextmanager
    def talk(self, encoding: str = "json", **options: Any) -> Iterator[Talk]:
        """A connection past the handshake; a plain one that others have used or will use, if all is well with it."""
        is_plain = encoding == "json" and not options
        if not is_plain or self._kept is None:
            talk = self.greet(encoding, **options)
        else:
            talk, self._kept = self._kept, None
        talk.is_mute = self.is_mute
        try:
            yield talk
        finally:
            if is_plain and talk.is_settled:
                self._kept = talk
            else:
                talk.leave()

    def leave(self) -> None:
        """Say goodbye to everything that is open."""
        self._let_go()
        self._http.hang_up()

    def _let_go(self) -> None:
        if self._kept is not None:
            self._kept.leave()
            self._kept = None

    def _open(self) -> Line:
        wait = self._opened_at + self._pause - self._clock()
        if wait > 0:
            self._sleep(wait)
        self._opened_at = self._clock()
        at = self.endpoint
        return Line(self._opener(Dial(at.host, at.port, at.tls, at.host), self.timeout), self._clock, self.timeout)


def _target(path: str, *queries: str) -> str:
    query = "&".join(filter(None, queries))
    return f"{path}?{query}" if query else path


def _unescaped(text: bytes) -> str | None:
    try:
        decoded: str = msgspec.json.decode(b'"' + text + b'"')
    except (msgspec.MsgspecError, ValueError):
        return None
    return decoded


def _origin(url: str) -> str:
    """Where a URL leads, without path and query, which may be secret."""
    try:
        return parse_endpoint(url).origin
    except LocalProtocolError:
        return "another path of it"


def _read(reply: Reply) -> NegotiateResponse | None:
    """The negotiate response in this, if it is one."""
    try:
        return parse_negotiate_response(reply.body)
    except ConnectionFailed:
        return None
