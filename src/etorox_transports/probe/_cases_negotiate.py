"""Cases about negotiation.

Source: SignalR's Transport Protocols; what they leave open is what ASP.NET Core's server does.
"""

from __future__ import annotations

import re

import msgspec

from etorox_proto.signalr import ConnectionFailed, NegotiateResponse, parse_negotiate_response
from etorox_transports.probe._case import case
from etorox_transports.probe._finding import Finding, Unlike, conforms, differs, tolerated
from etorox_transports.probe._http import Reply
from etorox_transports.probe._server import Server

_SPEC, _OFFICIAL = "Transport Protocols", "ASP.NET Core"
# What 128 bits take in base64, without padding.
_LONG = 22
# What does not arrive as it was sent if it is put into a query as it is.
_UNSAFE = re.compile(r"""[^!-~]|["#%&+<>\\^`{}|]""")


def _negotiated(reply: Reply) -> NegotiateResponse:
    if reply.status != 200:
        raise Unlike(differs(str(reply)))
    try:
        negotiated = parse_negotiate_response(reply.body)
    except ConnectionFailed as error:
        raise Unlike(differs(str(error))) from None
    if negotiated.error is not None:
        raise Unlike(differs(f"the error {negotiated.error!r}"))
    return negotiated


@case(
    "negotiate",
    sends="POST /negotiate?negotiateVersion=1",
    expects="version 1, with connectionId, connectionToken and availableTransports",
    source=_SPEC,
)
def version_1(server: Server) -> Finding:
    """What clients ask for."""
    negotiated = _negotiated(server.negotiate())
    behind = f", behind {server.redirects} redirects" if server.redirects else ""
    if negotiated.negotiate_version == 0:
        return tolerated(f"version 0, as from servers before 3.1{behind}")
    if negotiated.negotiate_version != 1:
        return differs(f"version {negotiated.negotiate_version}")
    return conforms(f"version 1{behind}")


@case(
    "negotiate",
    sends="POST /negotiate, without a version",
    expects="version 0 or none, with connectionId and without connectionToken",
    source=_SPEC,
)
def without_version(server: Server) -> Finding:
    """What clients before 3.1 ask for."""
    return _as_version_0(server, "")


@case(
    "negotiate",
    sends="POST /negotiate?negotiateVersion=0",
    expects="version 0 or none, with connectionId and without connectionToken",
    source=_SPEC,
)
def version_0(server: Server) -> Finding:
    """The same, said."""
    return _as_version_0(server, "negotiateVersion=0")


def _as_version_0(server: Server, query: str) -> Finding:
    negotiated = _negotiated(server.negotiate(query))
    if negotiated.negotiate_version != 0:
        return differs(f"version {negotiated.negotiate_version}: an old client would connect with the wrong id")
    if negotiated.connection_token is not None:
        return tolerated("version 0, with a connectionToken that no client reads")
    return conforms("version 0")


@case(
    "negotiate",
    sends="POST /negotiate?negotiateVersion=100",
    expects="the highest version that the server knows: 1",
    source=_SPEC,
)
def version_too_high(server: Server) -> Finding:
    """A client of the future."""
    negotiated = _negotiated(server.negotiate("negotiateVersion=100"))
    version = negotiated.negotiate_version
    return (conforms if version == 1 else tolerated if version == 0 else differs)(f"version {version}")


def _refuses_version(server: Server, version: str) -> Finding:
    reply = server.negotiate(f"negotiateVersion={version}")
    try:
        error = msgspec.json.decode(reply.body).get("error")
    except (msgspec.MsgspecError, ValueError, AttributeError):
        error = None
    if reply.status == 200 and isinstance(error, str):
        return conforms(f"the error {error!r}")
    if server.is_old and _negotiated(reply).negotiate_version == 0:
        return tolerated("a connection: servers before 3.1 do not look at the version")
    return (tolerated if 400 <= reply.status < 500 else differs)(str(reply))


@case(
    "negotiate",
    sends="POST /negotiate?negotiateVersion=one",
    expects='status 200 and an "error"',
    source=_OFFICIAL,
)
def version_no_number(server: Server) -> Finding:
    """What is no version."""
    return _refuses_version(server, "one")


@case("negotiate", sends="POST /negotiate?negotiateVersion=-1", expects='status 200 and an "error"', source=_OFFICIAL)
def version_too_low(server: Server) -> Finding:
    """Below the lowest."""
    return _refuses_version(server, "-1")


@case(
    "negotiate",
    sends="POST /negotiate?NEGOTIATEVERSION=1",
    expects="version 1: names in a query are read without regard to case",
    source=_OFFICIAL,
)
def name_in_capitals(server: Server) -> Finding:
    """ASP.NET Core reads it like this."""
    version = _negotiated(server.negotiate("NEGOTIATEVERSION=1")).negotiate_version
    return (conforms if version == 1 else tolerated)(f"version {version}")


@case(
    "negotiate",
    sends="POST /negotiate, with a parameter of ours before negotiateVersion",
    expects="version 1: the endpoint's own query is carried along",
    source=_SPEC,
)
def query_of_ours(server: Server) -> Finding:
    """Applications put their own into the query."""
    version = _negotiated(server.negotiate("etoroxProbe=1&negotiateVersion=1")).negotiate_version
    return (conforms if version == 1 else tolerated if version == 0 else differs)(f"version {version}")


@case("negotiate", sends="POST /negotiate, twice", expects="two connections, with nothing in common", source=_SPEC)
def ids_differ(server: Server) -> Finding:
    """Ids are not used twice."""
    first, second = (_negotiated(server.negotiate()) for _ in range(2))
    if first.connection_id == second.connection_id:
        return differs("the same connectionId twice")
    if first.connect_id == second.connect_id:
        return differs("the same connectionToken twice")
    if first.negotiate_version > 0 and first.connection_id == first.connection_token:
        return differs("the connectionToken, which is secret, is the connectionId, which is not")
    return conforms("all of them differ")


@case(
    "negotiate",
    sends="POST /negotiate",
    expects="an id that cannot be guessed: 22 characters, which hold 128 bits",
    source=_OFFICIAL,
)
def id_is_long(server: Server) -> Finding:
    """Who knows it can take the connection over."""
    length = len(_negotiated(server.negotiate()).connect_id or "")
    return (conforms if length >= _LONG else differs)(f"{length} characters")


@case(
    "negotiate",
    sends="POST /negotiate",
    expects="an id that can stand in a URL as it is, since the official clients do not escape it",
    source="the TypeScript client",
)
def id_needs_no_escape(server: Server) -> Finding:
    """A plus would arrive as a space."""
    connect_id = _negotiated(server.negotiate()).connect_id or ""
    unsafe = sorted(set(_UNSAFE.findall(connect_id)))
    return differs(f"it holds {', '.join(map(repr, unsafe))}") if unsafe else conforms("it can")


@case(
    "negotiate",
    sends="POST /negotiate",
    expects="transports with their formats, WebSockets with Text among them",
    source=_SPEC,
)
def transports(server: Server) -> Finding:
    """What there is to choose from."""
    offered = _negotiated(server.negotiate()).available_transports or []
    text = ", ".join(f"{each.transport} ({', '.join(each.transfer_formats)})" for each in offered)
    if not any(each.transport == "WebSockets" and "Text" in each.transfer_formats for each in offered):
        return tolerated(f"{text or 'nothing'}: no WebSockets with Text")
    return conforms(text)


@case("negotiate", sends="POST /negotiate", expects="the content type application/json", source=_SPEC)
def content_type(server: Server) -> Finding:
    """No client looks at it, but proxies do."""
    reply = server.negotiate()
    _negotiated(reply)
    kind = reply.content_type or "none"
    return (conforms if kind == "application/json" else tolerated)(kind)


@case(
    "negotiate",
    sends="POST /negotiate, without asking for stateful reconnect",
    expects="no useStatefulReconnect: clients that did not ask for it give up",
    source="the TypeScript client",
)
def nothing_unasked(server: Server) -> Finding:
    """What was not asked for is not granted."""
    granted = _negotiated(server.negotiate()).use_stateful_reconnect
    return (differs if granted else conforms)("useStatefulReconnect" if granted else "none")


@case("negotiate", sends="GET /negotiate", expects="status 405", source=_OFFICIAL)
def get(server: Server) -> Finding:
    """Negotiation makes a connection, so it is a POST."""
    reply = server.negotiate(method="GET")
    if reply.status == 405:
        return conforms("status 405")
    return (tolerated if 400 <= reply.status < 500 else differs)(str(reply))


@case("negotiate", sends="POST /negotiate, for a hub that does not exist", expects="status 404", source=_OFFICIAL)
def no_such_hub(server: Server) -> Finding:
    """A client with a wrong URL should be told."""
    path = server.endpoint.path.rstrip("/") + "/etorox-probe-no-such-hub/negotiate"
    reply = server.ask("POST", f"{path}?negotiateVersion=1")
    if reply.status == 404:
        return conforms("status 404")
    if reply.status == 200 and b"connectionId" in reply.body:
        return tolerated("a connection: it has a hub at any path")
    return (tolerated if 400 <= reply.status < 500 else differs)(str(reply))
