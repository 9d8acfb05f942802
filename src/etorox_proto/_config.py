"""`ExchangeConfig`: how to reach the exchange. Checked when made, frozen afterwards, and free of secrets.

The hub's URL follows from it, the API key, and the correlation id of the attempt.

Source: the exchange's streaming documentation, "Connect" and "Staying connected".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from etorox_proto.signalr import HubConfig, Limits, LocalProtocolError, check_seconds

__all__ = ["ExchangeConfig"]


@dataclass(frozen=True, slots=True)
class ExchangeConfig:
    """How to reach the exchange. Times are seconds.

    Attributes:
        host: the private host name of the developer app; `name`, `name:port`, or a URL without path. `http` is refused
            unless the host is loopback or `allow_insecure` is set, because the signature travels on it.
        allow_insecure: permit `http` to other hosts.
        skip_negotiation: open the WebSocket at once.
        headers: further HTTP headers.
        opening_timeout: from the constructor to the end of the WebSocket upgrade.
        handshake_timeout: from the SignalR handshake request to its response.
        setup_timeout: from `setup` to its answer.
        server_timeout: the longest silence of the exchange that is accepted.
        ping_interval: how often to ping. The exchange drops a client whose pings stay away for 30 s.
        close_timeout: how long our `close` waits for the exchange's goodbye.
        strict: treat unknown message types, properties and ids as errors, for testing servers.
        limits: bounds on memory.
    """

    host: str
    allow_insecure: bool = field(default=False, kw_only=True)
    skip_negotiation: bool = field(default=False, kw_only=True)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, kw_only=True)
    opening_timeout: float = field(default=30.0, kw_only=True)
    handshake_timeout: float = field(default=15.0, kw_only=True)
    setup_timeout: float = field(default=15.0, kw_only=True)
    server_timeout: float = field(default=30.0, kw_only=True)
    ping_interval: float = field(default=15.0, kw_only=True)
    close_timeout: float = field(default=5.0, kw_only=True)
    strict: bool = field(default=False, kw_only=True)
    limits: Limits = field(default=Limits(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", MappingProxyType(dict(self.headers)))
        if not isinstance(self.host, str) or set(self.host.partition("://")[2] or self.host) & set("/?#"):
            raise LocalProtocolError("expected a host, host:port or URL without a path, such as https://host:443")
        check_seconds(self, "setup_timeout")
        self.hub_config("", "")

    def hub_config(self, api_key: str, correlation_id: str) -> HubConfig:
        """The hub's configuration for one attempt. Its URL holds the API key, which no `repr` shows.

        Raises:
            LocalProtocolError: something in this configuration cannot be used.
        """
        origin = self.host if "://" in self.host else f"https://{self.host}"
        return HubConfig(
            url=f"{origin}/streams/v1/{api_key}/signalr?correlationId={correlation_id}",
            headers=self.headers,
            skip_negotiation=self.skip_negotiation,
            allow_insecure=self.allow_insecure,
            opening_timeout=self.opening_timeout,
            handshake_timeout=self.handshake_timeout,
            server_timeout=self.server_timeout,
            ping_interval=self.ping_interval,
            # The exchange drops a client that it has not heard a ping from, whatever else it hears.
            ping_always=True,
            close_timeout=self.close_timeout,
            strict=self.strict,
            limits=self.limits,
        )
