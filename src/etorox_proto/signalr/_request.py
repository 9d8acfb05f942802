"""`ClientRequest` and `Redirect`: what a server's application is asked before there is a connection, and may answer.

Made by `_reception` from HTTP, and handed to the functions in `ServerConfig`. Knows no HTTP beyond names and values.

Source: SignalR specification, sections 5 and 6.
"""

from __future__ import annotations

import msgspec

from etorox_proto.signalr._url import parse_endpoint

__all__ = ["ClientRequest", "Redirect"]


class ClientRequest(msgspec.Struct, frozen=True):
    """A client asks to negotiate, or for a WebSocket. Its `repr` shows no path, no query and no header.

    Attributes:
        path: of the hub, percent-encoded, without `/negotiate`. A client of `/hub/` negotiates for `/hub`.
        query: name and value pairs, decoded; those of a WebSocket request include `id`, which is secret.
        headers: name and value pairs, names in lower case, in their order.
        negotiates: whether it asks to negotiate; else for a WebSocket.
    """

    path: str
    query: list[tuple[str, str]]
    headers: list[tuple[str, str]]
    negotiates: bool

    def __repr__(self) -> str:
        return f"<ClientRequest {'to negotiate' if self.negotiates else 'for a WebSocket'}>"

    def header(self, name: str) -> str | None:
        """The first header of that name, without regard to case."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    @property
    def access_token(self) -> str | None:
        """The bearer token: from the `Authorization` header, or else from the query, where browsers put it.

        It is what the client claims; nobody has checked it.
        """
        scheme, _, token = (self.header("authorization") or "").partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
        return next((value for name, value in self.query if name.lower() == "access_token"), None)


class Redirect(msgspec.Struct, frozen=True):
    """Where a client is to negotiate instead. Its `repr` shows neither path, query nor token.

    Attributes:
        url: the other endpoint, `https://host/path?query`; the client carries over nothing of its own query.
        access_token: takes the place of the client's own, there and for all that follows.

    Raises:
        LocalProtocolError: the URL is no http or https URL with a host.
    """

    url: str
    access_token: str | None = None

    def __post_init__(self) -> None:
        parse_endpoint(self.url)

    def __repr__(self) -> str:
        return f"<Redirect to {parse_endpoint(self.url).origin}>"
