"""Negotiation: what the response says, and what to do next.

Reads versions 0 and 1, redirects, server errors and refusals, and recognises classic ASP.NET SignalR. A pure function
of the response; the HTTP around it is in `_http`, the next step in `_opening`. `negotiate_response` writes what a
server answers.

Source: SignalR specification, "Negotiate response", "Redirects, errors, choice of transport".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qsl

import msgspec

from etorox_proto.signalr._decoding import MALFORMED, describe
from etorox_proto.signalr._errors import NegotiationFailed
from etorox_proto.signalr._http import HttpResponse
from etorox_proto.signalr._request import Redirect

__all__ = [
    "AvailableTransport",
    "NegotiateResponse",
    "negotiate_response",
    "parse_negotiate_response",
    "read_negotiation",
    "redirect_response",
]

# After the hundredth response that redirects, no further request is made.
MAX_REDIRECTS = 100

_HINTS = {
    401: "the access token or API key was not accepted",
    403: "the access token or API key is not allowed here",
    404: "is this the URL of a SignalR hub?",
    405: "is this the URL of a SignalR hub?",
}


class AvailableTransport(msgspec.Struct, frozen=True, rename="camel"):
    """One offer of the server."""

    transport: str
    transfer_formats: list[str]


class NegotiateResponse(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A negotiate response: an error, a redirect (`url`), or a connection. Its `repr` shows no token.

    Attributes:
        negotiate_version: 0 or 1; 0 is never written by .NET servers of the 2.x line, and absent means 0.
        connection_id: the public name of the connection.
        connection_token: the secret name; it counts from version 1 on.
        available_transports: in the server's order of preference.
    """

    negotiate_version: int = 0
    connection_id: str | None = None
    connection_token: str | None = None
    available_transports: list[AvailableTransport] | None = None
    url: str | None = None
    access_token: str | None = None
    error: str | None = None
    use_stateful_reconnect: bool = False
    classic_version: str | None = msgspec.field(default=None, name="ProtocolVersion")

    def __repr__(self) -> str:
        return f"<NegotiateResponse version {self.negotiate_version}, connection {self.connection_id!r}>"

    @property
    def connect_id(self) -> str | None:
        """The value for the `id` parameter: the token from version 1 on, else the connection id."""
        return self.connection_id if self.negotiate_version < 1 else self.connection_token

    def offers(self, transport: str, transfer_format: str) -> bool:
        """Whether the server offers this transport with this transfer format."""
        return any(
            offer.transport == transport and transfer_format in offer.transfer_formats
            for offer in self.available_transports or ()
        )


_decoder = msgspec.json.Decoder(NegotiateResponse)


def read_negotiation(response: HttpResponse, transfer_format: str) -> NegotiateResponse:
    """Judge the HTTP response to a negotiate request.

    Returns:
        A response that either redirects or can be connected to with WebSockets.

    Raises:
        NegotiationFailed: anything else; the error says what the server said.
    """
    if response.status != 200:
        raise NegotiationFailed(
            f"the server answered the negotiate request with HTTP status {response.status}"
            f"{_hint(response)}{_quote(response.body)}",
            status=response.status,
            may_retry=response.status >= 500 or response.status in {408, 429},
        )
    negotiated = parse_negotiate_response(response.body)
    if negotiated.error is not None:
        raise NegotiationFailed(f"the server refused to negotiate: {negotiated.error}", status=200)
    if negotiated.url is None and not negotiated.offers("WebSockets", transfer_format):
        offered = ", ".join(offer.transport for offer in negotiated.available_transports or ()) or "nothing"
        raise NegotiationFailed(
            f"expected the server to offer WebSockets with {transfer_format}, it offers {offered}", status=200
        )
    return negotiated


def parse_negotiate_response(body: bytes) -> NegotiateResponse:
    """Read the body of a negotiate response.

    Raises:
        NegotiationFailed: it is none, a required property is missing, or this is classic ASP.NET SignalR.
    """
    try:
        response = _decoder.decode(body)
    except MALFORMED as error:
        # The body is not quoted: it may hold a token. A proxy or a portal on the way is more likely than a broken hub.
        text = f"expected a negotiate response in JSON, got {len(body)} bytes of something else: {describe(error)}"
        raise NegotiationFailed(text, status=200, may_retry=True) from None
    if response.error is not None:
        return response
    if response.classic_version is not None:
        raise NegotiationFailed(
            "expected ASP.NET Core SignalR, got classic ASP.NET SignalR (its response has a ProtocolVersion); the two "
            "cannot talk to each other",
            status=200,
        )
    if response.url is None:
        missing = [
            name
            for name, value in (
                ("connectionId", response.connection_id),
                ("availableTransports", response.available_transports),
                (
                    "connectionToken",
                    "unused" if response.negotiate_version < 1 else response.connection_token,
                ),
            )
            if value is None or value == ""
        ]
        if missing:
            raise NegotiationFailed(
                f"expected a negotiate response with {' and '.join(missing)}, got one without", status=200
            )
    return response


def negotiate_response(
    query: str,
    transfer_formats: list[str],
    issue: Callable[..., tuple[str, str | None]],
    *,
    may_resume: bool = False,
) -> bytes:
    """What a server answers to a negotiate request, with status 200.

    Args:
        query: the request's query.
        transfer_formats: what may travel on the WebSocket, `Text` or `Binary`.
        issue: makes a connection for that version, `may_resume` or not: its id, and from version 1 on its token.
        may_resume: whether stateful reconnect is granted to who asks for it.
    """
    parameters = [(name.lower(), value) for name, value in parse_qsl(query, keep_blank_values=True)]
    asked = next((value for name, value in parameters if name == "negotiateversion"), "0")
    number = re.fullmatch(r"([+-]?)0*([0-9]{1,10})", asked)
    if number is None:
        refusal = "The client requested a non-integer protocol version."
        return msgspec.json.encode(NegotiateResponse(error=refusal))
    wanted = int(number[1] + number[2])
    if wanted < 0:
        refusal = f"The client requested version '{asked}', but the server does not support this version."
        return msgspec.json.encode(NegotiateResponse(error=refusal))
    version = min(wanted, 1)
    wish = next((value for name, value in parameters if name == "usestatefulreconnect"), "")
    # Without a secret name anybody who knows the public one could take the connection over.
    grants = may_resume and version >= 1 and wish.lower() == "true"
    connection_id, token = issue(version, may_resume=grants)
    return msgspec.json.encode(
        {
            "negotiateVersion": version,
            "connectionId": connection_id,
            **({} if token is None else {"connectionToken": token}),
            **({"useStatefulReconnect": True} if grants else {}),
            "availableTransports": [AvailableTransport("WebSockets", transfer_formats)],
        }
    )


def redirect_response(redirect: Redirect) -> bytes:
    """What a server answers to a negotiate request, with status 200, to send the client elsewhere."""
    token = {} if redirect.access_token is None else {"accessToken": redirect.access_token}
    return msgspec.json.encode({"negotiateVersion": 0, "url": redirect.url, **token, "availableTransports": []})


def _hint(response: HttpResponse) -> str:
    location = response.headers.get("location")
    if 300 <= response.status < 400 and location is not None:
        return f" and points to {location.split('?')[0]}; HTTP redirects are not followed, use that URL"
    hint = _HINTS.get(response.status)
    return f" ({hint})" if hint else ""


def _quote(body: bytes) -> str:
    text = "".join(c for c in body[:400].decode("utf-8", "replace") if c.isprintable()).strip()
    if not text:
        return ""
    return f": {text[:160]}..." if len(text) > 160 else f": {text}"
