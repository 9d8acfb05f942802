"""Cases about the WebSocket request and what follows from it.

Source: SignalR's Transport Protocols; RFC 6455; what they leave open is what ASP.NET Core's server does.
"""

from __future__ import annotations

from etorox_transports.probe._case import case
from etorox_transports.probe._finding import Finding, Outcome, Unlike, conforms, differs, tolerated, unanswered
from etorox_transports.probe._http import Reply
from etorox_transports.probe._server import Server
from etorox_transports.probe._socket import End, Socket

_SPEC, _OFFICIAL, _RFC = "Transport Protocols", "ASP.NET Core", "RFC 6455"
_UNKNOWN_ID = "etorox-probe-unknown-id"


def _refused(opened: Socket | Reply, status: int) -> Finding:
    """Judge a refusal."""
    if isinstance(opened, Socket):
        opened.leave()
        return differs("status 101: the WebSocket was opened")
    if opened.status == status:
        return conforms(str(opened))
    return (tolerated if 400 <= opened.status < 500 else differs)(str(opened))


def _opened(opened: Socket | Reply) -> Socket:
    if isinstance(opened, Reply):
        raise Unlike(differs(str(opened)))
    return opened


def _needs_id(server: Server, query: str = "negotiateVersion=1") -> str:
    connect_id = server.connect_id(query)
    if connect_id is None:
        raise Unlike(Finding(Outcome.SKIPPED, "it needs an id, and negotiation gives none"))
    return connect_id


@case("upgrade", sends="a WebSocket request with the negotiated id", expects="status 101", source=_SPEC)
def with_id(server: Server) -> Finding:
    """The way of every client."""
    _opened(server.open(_needs_id(server))).leave()
    return conforms("status 101")


@case(
    "upgrade",
    sends="a WebSocket request with the connectionId of a version 0 negotiation",
    expects="status 101",
    source=_SPEC,
)
def with_id_of_version_0(server: Server) -> Finding:
    """The way of clients before 3.1."""
    _opened(server.open(_needs_id(server, ""))).leave()
    return conforms("status 101")


@case(
    "upgrade",
    sends="a WebSocket request without an id",
    expects="status 101: a new connection, for clients that skip negotiation",
    source=_SPEC,
)
def without_id(server: Server) -> Finding:
    """Skipping negotiation."""
    opened = server.open(None)
    if isinstance(opened, Reply):
        return (tolerated if 400 <= opened.status < 500 else differs)(f"{opened}: negotiation cannot be skipped")
    opened.leave()
    return conforms("status 101")


@case("upgrade", sends="a WebSocket request with an id that nobody gave", expects="status 404", source=_OFFICIAL)
def with_unknown_id(server: Server) -> Finding:
    """Nobody makes up a connection."""
    return _refused(server.open(_UNKNOWN_ID), 404)


@case(
    "upgrade",
    sends="a second WebSocket request with an id whose WebSocket is open",
    expects="status 409",
    source=_OFFICIAL,
)
def with_id_in_use(server: Server) -> Finding:
    """Nobody takes a connection over."""
    connect_id = _needs_id(server)
    with _opened(server.open(connect_id)):
        return _refused(server.open(connect_id), 409)


@case(
    "upgrade",
    sends="a WebSocket request with an id whose WebSocket has been closed",
    expects="status 404",
    source=_OFFICIAL,
)
def with_spent_id(server: Server) -> Finding:
    """An id is good for one connection."""
    connect_id = _needs_id(server)
    with _opened(server.open(connect_id)) as first:
        first.close()
        first.how_it_ends()
    return _refused(server.open(connect_id), 404)


@case(
    "upgrade",
    sends="a GET for the hub that asks for nothing",
    expects="status 400, or 404 where it would need long polling",
    source=_OFFICIAL,
)
def plain_get(server: Server) -> Finding:
    """Such as a browser that was given the URL."""
    reply = server.ask("GET", server.endpoint.websocket_target(None))
    if reply.status in {400, 404}:
        return conforms(str(reply))
    return (tolerated if 400 <= reply.status < 500 else differs)(str(reply))


@case(
    "upgrade",
    sends="a WebSocket request that offers permessage-deflate, and a call over it",
    expects="that it is agreed on or not, and that the call is answered either way",
    source="RFC 7692",
)
def compression(server: Server) -> Finding:
    """Offers may be declined, but not forgotten."""
    with server.talk(compression=True) as talk:
        talk.call()
        return conforms("agreed on" if talk.socket.compresses else "declined")


@case("upgrade", sends="a WebSocket ping", expects="a pong with the same bytes", source=f"{_RFC}, 5.5.3")
def websocket_ping(server: Server) -> Finding:
    """Proxies and browsers send them."""
    with server.socket() as socket:
        socket.ping(b"etorox-probe")
        pong = socket.hear_pong()
        match pong:
            case None:
                return unanswered("no pong")
            case End():
                return differs(pong.how)
            case _:
                return (conforms if pong == b"etorox-probe" else differs)(f"a pong with {pong!r}")
