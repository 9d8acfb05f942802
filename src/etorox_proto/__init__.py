"""The eToroX streaming API as a sans-IO state machine, on top of `etorox_proto.signalr`.

`ExchangeConnection` is one authenticated connection: bytes and time go in, bytes and typed market events come out.
Drive it with `etorox_transports` or with a loop of your own. Nothing in this package opens a socket or reads a clock.
"""

from __future__ import annotations

from etorox_proto._auth import (
    Credentials,
    PrivateKey,
    PublicKey,
    Signer,
    generate_private_key,
    load_private_key,
    setup_argument,
)
from etorox_proto._config import ExchangeConfig
from etorox_proto._errors import CredentialsError, SetupRefused, SigningFailed, SubscriptionFailed
from etorox_proto._events import EventReceived, ExchangeEvent, Ready, SubscriptionEnded
from etorox_proto._exchange import ExchangeConnection, ExchangeState
from etorox_proto._market import (
    MarketEvent,
    OrderCanceled,
    OrderCompleted,
    OrderCreated,
    OrderUpdated,
    Row,
    TradeCompleted,
    UnknownEvent,
    encode_event,
    event_decoder,
    event_fields,
    row_decoder,
    row_type,
)
from etorox_proto._subscription import Subscription
from etorox_proto.signalr import (
    CallError,
    CallLost,
    Closed,
    ConnectionClosed,
    ConnectionFailed,
    ConnectionLost,
    Dial,
    HandshakeRefused,
    LimitExceeded,
    Limits,
    LocalProtocolError,
    NegotiationFailed,
    RemoteProtocolError,
    ServerClosed,
    SignalRError,
    TimedOut,
    UpgradeFailed,
)

__all__ = [
    "CallError",
    "CallLost",
    "Closed",
    "ConnectionClosed",
    "ConnectionFailed",
    "ConnectionLost",
    "Credentials",
    "CredentialsError",
    "Dial",
    "EventReceived",
    "ExchangeConfig",
    "ExchangeConnection",
    "ExchangeEvent",
    "ExchangeState",
    "HandshakeRefused",
    "LimitExceeded",
    "Limits",
    "LocalProtocolError",
    "MarketEvent",
    "NegotiationFailed",
    "OrderCanceled",
    "OrderCompleted",
    "OrderCreated",
    "OrderUpdated",
    "PrivateKey",
    "PublicKey",
    "Ready",
    "RemoteProtocolError",
    "Row",
    "ServerClosed",
    "SetupRefused",
    "SignalRError",
    "Signer",
    "SigningFailed",
    "Subscription",
    "SubscriptionEnded",
    "SubscriptionFailed",
    "TimedOut",
    "TradeCompleted",
    "UnknownEvent",
    "UpgradeFailed",
    "encode_event",
    "event_decoder",
    "event_fields",
    "generate_private_key",
    "load_private_key",
    "row_decoder",
    "row_type",
    "setup_argument",
]
