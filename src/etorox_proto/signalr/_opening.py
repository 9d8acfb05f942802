"""Opening: from an endpoint to an open byte stream that carries a WebSocket.

Negotiation, redirects, the choice of URL and the upgrade request are decided here: which stream to dial next, and what
to send on it. `HubConnection` owns one `Opening` and hands it the bytes that arrive before the upgrade. Timers and
states are the connection's business.

Source: SignalR specification, sections 3 to 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etorox_proto.signalr._config import HubConfig, check_secure
from etorox_proto.signalr._errors import AccessTokenFailed, LocalProtocolError, NegotiationFailed
from etorox_proto.signalr._events import Dial
from etorox_proto.signalr._http import HttpExchange, check_headers
from etorox_proto.signalr._negotiation import MAX_REDIRECTS, read_negotiation
from etorox_proto.signalr._url import parse_endpoint

if TYPE_CHECKING:
    from etorox_proto.signalr._websocket import WebSocket

__all__ = ["Opening"]


class Opening:
    """The way to one WebSocket.

    Args:
        config: where to connect and how.
        transfer_format: what the hub protocol needs from the transport, `Text` or `Binary`.

    Attributes:
        negotiating: whether the next stream carries a negotiate request; if not, the WebSocket.
        connection_id: the public name of the connection, None before or without negotiation.
        is_stateful: whether the server has granted stateful reconnect. Then, after the first WebSocket, `dial` and
            `upgrade` lead to another one for the same connection.
    """

    def __init__(self, config: HubConfig, transfer_format: str) -> None:
        self._config = config
        self._transfer_format = transfer_format
        self._endpoint = config.endpoint
        token = config.access_token
        self._token_source = token if callable(token) else None
        self._access_token = None if callable(token) else token
        # Everything that was ever sent as a credential, for `secrets`; of a header without its scheme.
        self._tokens = [self._access_token]
        self._tokens += [v.partition(" ")[2] or v for k, v in config.headers.items() if k.lower() == "authorization"]
        self._connect_id: str | None = None
        # Of the response that gave the connection; they go where it came from and nowhere else.
        self._cookies: list[str] = []
        self._redirects = 0
        self._exchange: HttpExchange | None = None
        self.negotiating = not config.skip_negotiation
        self.connection_id: str | None = None
        self.is_stateful = False

    @property
    def _asks_stateful(self) -> bool:
        return self._config.stateful_reconnect or self._endpoint.asks_stateful_reconnect

    @property
    def origin(self) -> str:
        """Scheme, host and port of the stream in use; safe to show."""
        return self._endpoint.origin

    @property
    def secrets(self) -> list[str]:
        """What no error may repeat: the access tokens, and the secret name of the connection."""
        connect_id = None if self._connect_id == self.connection_id else self._connect_id
        return [secret for secret in (*self._tokens, connect_id) if secret]

    def redact(self, text: str) -> str:
        """The text without these secrets; a server's text may quote what it knows."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text

    def dial(self) -> Dial:
        """The stream that is needed now."""
        endpoint = self._endpoint
        return Dial(endpoint.host, endpoint.port, endpoint.tls, endpoint.host)

    def negotiate(self) -> bytes:
        """Begin to negotiate on a fresh stream; the request to send.

        Raises:
            AccessTokenFailed: there is no token to be had.
        """
        self._ask_for_token()
        limits = self._config.limits
        self._exchange = HttpExchange(
            "POST",
            self._endpoint.negotiate_target(stateful_reconnect=self._config.stateful_reconnect),
            self._endpoint.authority,
            self._headers(with_token=True),
            max_head=limits.http_head,
            max_body=limits.http_body,
        )
        return self._exchange.request

    def upgrade(self) -> WebSocket:
        """Begin the WebSocket on a fresh stream; its request is in `output`.

        Raises:
            AccessTokenFailed: negotiation was skipped, and there is no token to be had.
        """
        # Here and not above: importing wsproto takes its time, and only a program that connects needs it.
        from etorox_proto.signalr._websocket import WebSocket

        if self._config.skip_negotiation:
            self._ask_for_token()
        limits, in_query = self._config.limits, self._config.access_token_in_query
        return WebSocket.client(
            self._endpoint.authority,
            self._endpoint.websocket_target(
                self._connect_id, query_access_token=self._access_token if in_query else None
            ),
            self._headers(with_token=not in_query),
            max_head=limits.http_head,
            max_message=limits.websocket_message,
            compression=self._config.compression,
        )

    def receive_data(self, data: bytes) -> bool:
        """Take bytes of the negotiate response; `b""` is the end of the stream.

        Returns:
            Whether the response is complete; then `dial` a new stream.

        Raises:
            ConnectionFailed: in one of its forms; there is no connection to be had in this attempt.
        """
        assert self._exchange is not None, "only a stream that carries a negotiate request receives here"
        response = self._exchange.receive_data(data)
        if response is None:
            return False
        self._exchange = None
        negotiated = read_negotiation(response, self._transfer_format)
        if negotiated.url is not None:
            self._redirect(negotiated.url, negotiated.access_token)
        elif negotiated.use_stateful_reconnect and not self._asks_stateful:
            raise NegotiationFailed(
                "expected a response without useStatefulReconnect, which was not asked for, got one that grants it",
                status=200,
            )
        else:
            self.is_stateful = negotiated.use_stateful_reconnect
            self.connection_id = negotiated.connection_id
            self._connect_id = negotiated.connect_id
            self._cookies = response.cookies
            self.negotiating = False
        return True

    def _redirect(self, url: str, access_token: str | None) -> None:
        self._redirects += 1
        if self._redirects >= MAX_REDIRECTS:
            raise NegotiationFailed(
                f"expected a connection after fewer than {MAX_REDIRECTS} redirects, got another one"
            )
        try:
            endpoint = parse_endpoint(url)
            check_secure(endpoint, allow_insecure=self._config.allow_insecure)
            if access_token:
                check_headers([("Authorization", f"Bearer {access_token}")])
        except LocalProtocolError as error:
            # What would be the user's mistake in a configuration is the server's in a redirect.
            raise NegotiationFailed(f"the server redirects to where this client does not go: {error}") from None
        self._endpoint = endpoint
        if access_token:
            self._token_source = None
            self._access_token = access_token
            self._tokens.append(access_token)

    def _ask_for_token(self) -> None:
        if self._token_source is None:
            return
        try:
            token = self._token_source()
        except Exception as error:
            raise AccessTokenFailed(
                f"expected an access token from the application, its callable raised {type(error).__name__}"
            ) from error
        if token is not None and not _is_token(token):
            raise AccessTokenFailed("expected an access token that a header can carry, or None, got something else")
        self._access_token = token
        self._tokens.append(token)

    def _headers(self, *, with_token: bool) -> list[tuple[str, str]]:
        headers = [*self._config.headers.items()]
        if self._cookies:
            # One header, as RFC 6265 section 5.4 demands, with those of the user's.
            own = [value for name, value in headers if name.lower() == "cookie"]
            headers = [(name, value) for name, value in headers if name.lower() != "cookie"]
            headers.append(("Cookie", "; ".join([*own, *self._cookies])))
        if all(name.lower() != "x-requested-with" for name, _ in headers):
            headers.insert(0, ("X-Requested-With", "XMLHttpRequest"))
        if self._access_token is not None:
            # Only a redirect brings one where the user has set the header.
            headers = [(name, value) for name, value in headers if name.lower() != "authorization"]
            if with_token:
                headers.append(("Authorization", f"Bearer {self._access_token}"))
        return headers


def _is_token(token: object) -> bool:
    if not isinstance(token, str) or not token:
        return False
    try:
        check_headers([("Authorization", f"Bearer {token}")])
    except LocalProtocolError:
        return False
    return True
