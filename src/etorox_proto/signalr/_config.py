"""What a user chooses once: `HubConfig`, `ServerConfig`, and the `Limits` that bound memory.

All are checked when they are made and frozen afterwards; no `repr` shows a token, a header or a path.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

from etorox_proto.signalr._codec import ENCODINGS, Encoding
from etorox_proto.signalr._errors import LocalProtocolError
from etorox_proto.signalr._http import check_headers
from etorox_proto.signalr._request import ClientRequest, Redirect
from etorox_proto.signalr._url import Endpoint, parse_endpoint

__all__ = ["HubConfig", "Limits", "ServerConfig", "check_secure", "check_seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one connection may hold. Exceeding a limit on the peer's part closes the connection.

    Attributes:
        record: bytes of one hub message.
        websocket_message: bytes of one WebSocket message, which may hold several hub messages.
        http_head: bytes of one HTTP head.
        http_body: bytes of one HTTP body.
        pending_calls: calls and streams that are not settled; one more is refused with `LocalProtocolError`.
        queued_bytes: bytes waiting in `data_to_send`; a command that would exceed it is refused.
        unacknowledged_bytes: bytes kept for stateful reconnect until the peer acknowledges them; a command that comes
            when there are so many or more is refused. Nothing else is bound by it.
    """

    record: int = 1_048_576
    websocket_message: int = 4_194_304
    http_head: int = 16_384
    http_body: int = 65_536
    pending_calls: int = 1_000
    queued_bytes: int = 4_194_304
    unacknowledged_bytes: int = 100_000

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not isinstance(value, int) or value < 1:
                raise LocalProtocolError(f"expected Limits.{each.name} to be an integer from 1 upwards, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    """How to reach a hub.

    Times are seconds. An unencrypted connection is refused unless the host is loopback or `allow_insecure` is
    set, here and for every redirect.

    Attributes:
        url: the hub's endpoint, `https://host/path?query`.
        access_token: sent as `Authorization: Bearer`, with negotiation and with the WebSocket. A callable is asked
            for one, or for None, from inside `stream_opened`: before each negotiate request and at no other time, or
            before the WebSocket request where negotiation is skipped. The WebSocket gets the same token as the
            negotiation before it; a token that came with a redirect takes its place, and then it is not asked again.
            It must not wait. What it raises ends the connection, with `AccessTokenFailed`.
        access_token_in_query: send it with the WebSocket as the query parameter `access_token` instead.
        headers: further HTTP headers, sent with negotiation and with the WebSocket, after redirects too. Yours take
            the place of `X-Requested-With`. An `Authorization` of yours goes with no `access_token`; one that a
            redirect brings takes its place. What says how the connection is used (`Host`, `Upgrade`,
            `Sec-WebSocket-Key` and the like) is refused. Cookies that the negotiate response sets are added to yours
            on the WebSocket request, since load balancers tell by them which server it was.
        encoding: of hub messages and payloads, `"json"` or `"messagepack"`; the server must offer it.
        handles: the methods of ours, by name, whose invocations are answered with `complete`. Every other one that
            wants an answer is answered at once, with an error.
        compression: ask the server to compress WebSocket messages (permessage-deflate); it may decline. Leave it off
            where secrets and what others choose travel together: lengths betray what is repeated.
        skip_negotiation: open the WebSocket at once; the connection id then stays unknown.
        stateful_reconnect: ask the server to keep the connection when its stream is lost, and resume it on another
            one. A server that does not grant it is used without; `HubConnection.is_stateful` tells. It needs
            negotiation, so it does not go together with `skip_negotiation`.
        allow_insecure: permit `http` to hosts other than loopback.
        opening_timeout: from the constructor to the end of the WebSocket upgrade, all redirects included; and from the
            loss of a stream until the connection is resumed on another.
        handshake_timeout: from the handshake request to its response.
        server_timeout: the longest silence of the server that is accepted.
        ping_interval: how often to ping.
        ping_always: keep the pings' rhythm whatever else is sent, for servers that count nothing but pings. By
            default any message sent puts the next ping off, as the official clients do.
        close_timeout: how long our `close` waits for the server's goodbye.
        strict: treat unknown message types, properties and ids as errors, for testing servers.
        limits: bounds on memory.
    """

    url: str = field(repr=False)
    access_token: str | Callable[[], str | None] | None = field(default=None, repr=False)
    access_token_in_query: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    encoding: Encoding = "json"
    handles: Collection[str] = ()
    compression: bool = False
    skip_negotiation: bool = False
    stateful_reconnect: bool = False
    allow_insecure: bool = False
    opening_timeout: float = 30.0
    handshake_timeout: float = 15.0
    server_timeout: float = 30.0
    ping_interval: float = 15.0
    ping_always: bool = False
    close_timeout: float = 5.0
    strict: bool = False
    limits: Limits = Limits()
    endpoint: Endpoint = field(init=False)

    def __post_init__(self) -> None:
        endpoint = parse_endpoint(self.url)
        check_secure(endpoint, allow_insecure=self.allow_insecure)
        object.__setattr__(self, "endpoint", endpoint)
        if self.stateful_reconnect and self.skip_negotiation:
            raise LocalProtocolError(
                "expected stateful_reconnect or skip_negotiation, got both: what is resumed is found by the secret "
                "name that negotiation gives"
            )
        if isinstance(self.handles, str):
            raise LocalProtocolError(f"expected names of methods in handles, got the text {self.handles!r}")
        object.__setattr__(self, "handles", frozenset(self.handles))
        object.__setattr__(self, "headers", MappingProxyType(dict(self.headers)))
        check_headers(self.headers.items())
        if self.access_token is not None and any(name.lower() == "authorization" for name in self.headers):
            raise LocalProtocolError("expected either access_token or an Authorization header, got both")
        if self.encoding not in ENCODINGS:
            raise LocalProtocolError(f"expected encoding to be one of {', '.join(ENCODINGS)}, got {self.encoding!r}")
        token: object = self.access_token
        if isinstance(token, str):
            check_headers([("Authorization", f"Bearer {token}")])
        elif token is not None and not callable(token):
            raise LocalProtocolError(f"expected access_token as text, a callable or None, got {type(token).__name__}")
        check_seconds(self, "opening_timeout", "handshake_timeout", "server_timeout", "ping_interval", "close_timeout")


def _any_path(_path: str) -> bool:
    return True


def _anybody(_request: ClientRequest) -> None:
    pass


def _nowhere(_request: ClientRequest) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """How a server treats its connections. Times are seconds.

    `serves`, `authorize` and `redirects` are called in this order, from inside `receive_data`, and must not wait. If
    one raises, or answers what it cannot, the client gets status 500 and the connection ends with `UpgradeFailed`.

    Attributes:
        serves: whether there is a hub at this path (percent-encoded, without `/negotiate` and query); every other
            path is answered with 404.
        authorize: None lets the client in; an HTTP status from 400 to 599, such as 401 or 403, refuses it. It is asked
            about every request to negotiate and every WebSocket, each by itself: the one proves nothing for the other.
        redirects: where a client that asks to negotiate is to go instead, if anywhere.
        encodings: those of hub messages that clients may choose from, `"json"` and `"messagepack"`.
        allowed_origins: where web pages that use the hub may come from, such as `https://app.example.com`; the server's
            own origin is one of them if it serves pages. Those pages are told so (CORS), also that they may send
            cookies; all others are answered with 403. Programs that name no origin are not concerned. None, the
            default: origins are not looked at, so that pages can negotiate on the server's own origin only, but any
            page may open a WebSocket.
        compression: compress WebSocket messages with clients that ask for it; see `HubConfig`.
        stateful_reconnect: grant clients that ask for it that their connection outlives its stream. The driver must
            know what to do with `Detached` and `Resumed`.
        resume_timeout: how long such a connection waits without a stream, and in all until it is resumed.
        handshake_timeout: from the constructor to the handshake request.
        client_timeout: the longest silence of a client that is accepted, counted from its first ping.
        ping_interval: how often to ping.
        close_timeout: how long our `close` waits for the client's goodbye.
        limits: bounds on memory. `record` is 32 KiB by default, as in the official server.
    """

    serves: Callable[[str], bool] = _any_path
    authorize: Callable[[ClientRequest], int | None] = _anybody
    redirects: Callable[[ClientRequest], Redirect | None] = _nowhere
    encodings: Collection[Encoding] = ENCODINGS
    allowed_origins: Collection[str] | None = None
    compression: bool = False
    stateful_reconnect: bool = False
    resume_timeout: float = 15.0
    handshake_timeout: float = 15.0
    client_timeout: float = 30.0
    ping_interval: float = 15.0
    close_timeout: float = 5.0
    limits: Limits = Limits(record=32_768)

    def __post_init__(self) -> None:
        object.__setattr__(self, "encodings", tuple(self.encodings))
        if not self.encodings or not {*self.encodings} <= {*ENCODINGS}:
            raise LocalProtocolError(f"expected encodings out of {', '.join(ENCODINGS)}, got {self.encodings!r}")
        if self.allowed_origins is not None:
            object.__setattr__(self, "allowed_origins", _check_origins(self.allowed_origins))
        check_seconds(self, "resume_timeout", "handshake_timeout", "client_timeout", "ping_interval", "close_timeout")


# As browsers write it: in lower case, without a path, and without the port that is the scheme's own.
_ORIGIN = re.compile(r"(?!http:.*:80$|https:.*:443$)[a-z][a-z0-9+.-]*://[^A-Z/?#@\s]+", re.ASCII)


def _check_origins(origins: Collection[str]) -> frozenset[str]:
    for origin in [origins] if isinstance(origins, str) else origins:
        if isinstance(origins, str) or _ORIGIN.fullmatch(origin) is None:
            raise LocalProtocolError(
                "expected allowed_origins to be origins as browsers write them, such as 'https://app.example.com' or "
                f"'http://localhost:8080', got {origin!r}"
            )
    return frozenset(origins)


def check_secure(endpoint: Endpoint, *, allow_insecure: bool) -> None:
    """Refuse an unencrypted connection to another machine.

    Raises:
        LocalProtocolError: the endpoint is `http`, not loopback, and the user did not ask for it.
    """
    if not (endpoint.tls or endpoint.is_loopback or allow_insecure):
        raise LocalProtocolError(
            f"expected an encrypted connection, got {endpoint.origin}: everything sent there could be read on the "
            "way. Use https, or say allow_insecure=True"
        )


def check_seconds(config: object, *names: str) -> None:
    """Refuse times that are no positive number of seconds.

    Raises:
        LocalProtocolError: names the attribute.
    """
    for name in names:
        value = getattr(config, name)
        if not (isinstance(value, int | float) and 0 < value < math.inf):
            raise LocalProtocolError(f"expected {name} to be a positive number of seconds, got {value!r}")
