"""`ExchangeConfig`: how to reach the exchange; `SessionConfig`: how to stay connected.

Both are checked when made, frozen afterwards, and free of secrets.

The hub's URL follows from the first, the API key, and the correlation id of the attempt.

Source: the exchange's streaming documentation, "Connect" and "Staying connected".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from etorox_proto.signalr import HubConfig, Limits, LocalProtocolError, check_seconds

__all__ = ["ExchangeConfig", "SessionConfig"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """How a session stays connected. Times are seconds.

    Attributes:
        reconnect: whether to connect again at all. Without it a session is one attempt, is not rotated, and asks for
            no subscription twice.
        backoff_base: the longest pause after a first failure; it doubles with each further one, and the actual pause is
            anything below it.
        backoff_cap: the longest pause at all.
        attempts_per_minute: how many attempts may begin within any sixty seconds, whatever the pauses.
        stable_after: how long a connection must have been ready for the next failure to count as a first one.
        rotate_after: how old a connection may become before it is replaced; the exchange cuts it after 24 hours.
            `math.inf` for never.
        rotate_spread: it is replaced up to so much earlier (but not before half of `rotate_after`), at random, so that
            many clients do not do it at once.
        overlap: how long two silent connections are watched before the new one takes over, and how long a place for
            taking over is looked for.
        handover_limit: how many events of a subscription may wait for that.
        resubscribe_timeout: how long a subscription that was accepted once is asked for again when the exchange refuses
            it: it may take a while to notice that the connection which had it is gone.
        stale_after: after how much silence of a subscription `Stale` comes; `math.inf` for never.
        check_clock: whether to ask for the exchange's time, with `CheckClock`, when it refuses `setup`, and try once
            more with that.
    """

    reconnect: bool = True
    backoff_base: float = 1.0
    backoff_cap: float = 60.0
    attempts_per_minute: int = 10
    stable_after: float = 60.0
    rotate_after: float = 82_800.0
    rotate_spread: float = 1_800.0
    overlap: float = 30.0
    handover_limit: int = 10_000
    resubscribe_timeout: float = 90.0
    stale_after: float = 300.0
    check_clock: bool = False

    def __post_init__(self) -> None:
        check_seconds(self, "backoff_base", "backoff_cap", "stable_after", "overlap", "resubscribe_timeout")
        for name in ("rotate_after", "stale_after"):
            if getattr(self, name) != math.inf:
                check_seconds(self, name)
        for name in ("attempts_per_minute", "handover_limit"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise LocalProtocolError(f"expected {name} to be an integer from 1 upwards, got {value!r}")
        if not (isinstance(self.rotate_spread, int | float) and 0 <= self.rotate_spread < math.inf):
            raise LocalProtocolError(f"expected rotate_spread to be seconds from 0 upwards, got {self.rotate_spread!r}")
