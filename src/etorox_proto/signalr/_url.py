"""URLs: the endpoint that the user names, and the two that follow from it.

Knows how `/negotiate`, `negotiateVersion` and `id` are added, and when a connection is safe for credentials. Knows no
HTTP. Used by the configuration and by both roles.

Source: SignalR specification, "Negotiate request" and "WebSockets".
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec

from etorox_proto.signalr._errors import LocalProtocolError

__all__ = ["Endpoint", "parse_endpoint"]

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[0-9a-zA-Z._~%:-]+")
# What a path or query may hold as it is; everything else is percent-encoded (RFC 3986 section 3.3 and 3.4).
_SAFE = "/?:@!$&'()*+,;=-._~%"


class Endpoint(msgspec.Struct, frozen=True):
    """A hub's address. Its `repr` shows scheme, host and port only: paths and queries may hold keys and tokens.

    Attributes:
        tls: whether the scheme is `https`.
        host: name or address in lower case; an IPv6 address without brackets.
        port: the TCP port.
        path: percent-encoded, begins with `/`.
        query: percent-encoded, without `?`.
    """

    tls: bool
    host: str
    port: int
    path: str
    query: str

    def __repr__(self) -> str:
        return f"<Endpoint {self.origin}/...>"

    @property
    def origin(self) -> str:
        """Scheme, host and port; the port only where it is not the usual one."""
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port as the Host header wants them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host can only be this machine."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def asks_stateful_reconnect(self) -> bool:
        """Whether the query of the URL itself asks to be resumed; it counts as the user's wish."""
        return self._parameters().get("usestatefulreconnect") == "true"

    def negotiate_target(self, *, stateful_reconnect: bool = False) -> str:
        """Path and query of the negotiate request.

        Args:
            stateful_reconnect: whether to ask for it, unless the query speaks of it already.
        """
        path = self.path + ("negotiate" if self.path.endswith("/") else "/negotiate")
        wanted = {"negotiateVersion": "1"} | ({"useStatefulReconnect": "true"} if stateful_reconnect else {})
        names = self._parameters()
        added = [f"{name}={value}" for name, value in wanted.items() if name.lower() not in names]
        return _join(path, self.query, *added)

    def websocket_target(self, connect_id: str | None, *, query_access_token: str | None = None) -> str:
        """Path and query of the WebSocket request.

        Args:
            connect_id: the value for `id`; None without negotiation.
            query_access_token: a token for servers that look for it in the query only.
        """
        added = []
        if connect_id is not None:
            added.append(f"id={quote(connect_id, safe='')}")
        if query_access_token is not None:
            added.append(f"access_token={quote(query_access_token, safe='')}")
        return _join(self.path, self.query, *added)

    def _parameters(self) -> dict[str, str]:
        return {name.lower(): value for name, value in parse_qsl(self.query, keep_blank_values=True)}


def parse_endpoint(url: str) -> Endpoint:
    """Take an endpoint URL apart.

    Raises:
        LocalProtocolError: it is no http or https URL with a host. The error does not repeat path or query.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise LocalProtocolError(f"expected an http or https URL, got one that cannot be read: {error}") from None
    if parts.scheme not in _PORTS or not host:
        got = f"the scheme {parts.scheme!r}" if parts.scheme not in _PORTS else "no host"
        raise LocalProtocolError(f"expected a URL such as https://host/hub, got {got}")
    if parts.username is not None or parts.password is not None:
        raise LocalProtocolError("expected a URL without user and password; use an access token or headers instead")
    try:
        endpoint = Endpoint(
            tls=parts.scheme == "https",
            host=host.encode("idna").decode("ascii"),
            port=_PORTS[parts.scheme] if port is None else port,
            path=quote(parts.path, safe=_SAFE) or "/",
            query=quote(parts.query, safe=_SAFE),
        )
        endpoint.authority.encode("idna")  # as wsproto will do it for the Host header
    except UnicodeError:
        raise LocalProtocolError("expected a URL with a valid host name") from None
    if not _HOST.fullmatch(endpoint.host):
        raise LocalProtocolError("expected a URL with a valid host name")
    return endpoint


def _join(path: str, *queries: str) -> str:
    query = "&".join(part for part in queries if part)
    return f"{path}?{query}" if query else path
