"""`ExchangeRules`: how a `FakeExchange` treats its clients: every switch, with what the real one is known to do."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

from etorox_proto import PublicKey

__all__ = ["ExchangeRules"]


@dataclass(kw_only=True)
class ExchangeRules:
    """The switches of a `FakeExchange`; each may be changed at any time. Times are seconds.

    Attributes:
        public_key: checks the signature of `setup`; None accepts every one.
        api_keys: who is a customer; None for everybody.
        max_timestamp_age: how far the timestamp of `setup` may be off; `math.inf` for any.
        clock_skew: how far the exchange's wall clock is ahead of the true time.
        checks_nonces: whether a nonce is refused that was used before.
        channels: which channels are listed; None for all. Others are refused.
        exclusive_topics: whether a topic is refused that the same API key has on another connection, so that a client
            must give up the old subscription before it asks for the new one.
        topic_release: how long a topic stays taken after its connection has gone, for an exchange that notices late;
            counts with `exclusive_topics` only. A cancelled subscription is free at once.
        lifetime: after how long a connection is cut. Counts for connections that are opened from then on, as do the
            timers below.
        lifetime_ends: `"goodbye"` with an invitation to come back, or `"cut"`: the stream just ends.
        handshake_timeout: how long the exchange waits for the SignalR handshake, from the beginning of the stream.
        setup_timeout: how long it waits for `setup`, from the handshake on.
        client_timeout: how long a client may be silent, from its first ping on.
        ping_interval: how often the exchange pings.
        max_queued: a client that lets so many bytes pile up is told goodbye.
    """

    public_key: PublicKey | None = None
    api_keys: Container[str] | None = None
    max_timestamp_age: float = 60.0
    clock_skew: float = 0.0
    checks_nonces: bool = True
    channels: Container[str] | None = None
    exclusive_topics: bool = False
    topic_release: float = 0.0
    lifetime: float = 86_400.0
    lifetime_ends: Literal["goodbye", "cut"] = "goodbye"
    handshake_timeout: float = 15.0
    setup_timeout: float = 5.0
    client_timeout: float = 30.0
    ping_interval: float = 15.0
    max_queued: int = 2_097_152
