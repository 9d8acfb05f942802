"""The eToroX streaming API as a sans-IO state machine, on top of `etorox_proto.signalr`.

`ExchangeConnection` is one authenticated connection: bytes and time go in, bytes and typed market events come out.
`Session` makes one stream of many connections: it connects again, rotates, and says where something may be missing.
Drive them with `etorox_transports` or with a loop of your own. Nothing in this package opens a socket or reads a clock.
"""

from __future__ import annotations

from etorox_proto._attempt import CheckClock, NewConnection, SessionAction, SessionState, StartAttempt
from etorox_proto._auth import (
    Credentials,
    PrivateKey,
    PublicKey,
    Signer,
    generate_private_key,
    load_private_key,
    setup_argument,
)
from etorox_proto._config import ExchangeConfig, SessionConfig
from etorox_proto._errors import (
    CredentialsError,
    HandoverUnproven,
    SetupRefused,
    SigningFailed,
    SubscriptionFailed,
)
from etorox_proto._events import (
    EventReceived,
    ExchangeEvent,
    Gap,
    Ready,
    Reconnecting,
    SessionEvent,
    Stale,
    SubscriptionEnded,
)
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
from etorox_proto._session import Session
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
    "CheckClock",
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
    "Gap",
    "HandoverUnproven",
    "HandshakeRefused",
    "LimitExceeded",
    "Limits",
    "LocalProtocolError",
    "MarketEvent",
    "NegotiationFailed",
    "NewConnection",
    "OrderCanceled",
    "OrderCompleted",
    "OrderCreated",
    "OrderUpdated",
    "PrivateKey",
    "PublicKey",
    "Ready",
    "Reconnecting",
    "RemoteProtocolError",
    "Row",
    "ServerClosed",
    "Session",
    "SessionAction",
    "SessionConfig",
    "SessionEvent",
    "SessionState",
    "SetupRefused",
    "SignalRError",
    "Signer",
    "SigningFailed",
    "Stale",
    "StartAttempt",
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
