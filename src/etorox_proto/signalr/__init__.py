"""ASP.NET Core SignalR as a sans-IO state machine; knows nothing of the exchange.

`HubConnection` is the client's side, `ServerConnection` the server's. Both take bytes and time and give bytes and
events; see `HubConnection` for the contract. The layers below are public too: `RecordReader` and `LengthPrefixReader`
frame, `JsonCodec` and `MessagePackCodec` read and write hub messages, `parse_negotiate_response` reads negotiation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etorox_proto.signalr._call import Call, ItemReader, Upload
from etorox_proto.signalr._client import HubConnection
from etorox_proto.signalr._config import HubConfig, Limits, ServerConfig, check_seconds
from etorox_proto.signalr._errors import (
    AccessTokenFailed,
    CallCancelled,
    CallError,
    CallLost,
    ConnectionClosed,
    ConnectionFailed,
    ConnectionLost,
    HandshakeRefused,
    HubError,
    LimitExceeded,
    LocalProtocolError,
    NegotiationFailed,
    RemoteProtocolError,
    ServerClosed,
    SignalRError,
    TimedOut,
    UnexpectedResult,
    UpgradeFailed,
)
from etorox_proto.signalr._events import (
    CancelReceived,
    Closed,
    Completed,
    Connected,
    Detached,
    Dial,
    HubEvent,
    InvocationReceived,
    ItemReceived,
    ItemsByTurns,
    ItemsReceived,
    Resumed,
    ServerEvent,
    UploadEnded,
    UploadItemReceived,
)
from etorox_proto.signalr._framing import LengthPrefixReader, RecordReader, encode_length, length_prefixed
from etorox_proto.signalr._json import (
    HandshakeRequest,
    JsonCodec,
    encode_handshake_request,
    encode_handshake_response,
    encode_json,
    parse_handshake_request,
    parse_handshake_response,
)
from etorox_proto.signalr._messagepack import MessagePackCodec
from etorox_proto.signalr._messages import (
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HubMessage,
    Invocation,
    Ping,
    Sequence,
    StreamInvocation,
    StreamItem,
    UnknownMessage,
)
from etorox_proto.signalr._negotiation import AvailableTransport, NegotiateResponse, parse_negotiate_response
from etorox_proto.signalr._request import ClientRequest, Redirect
from etorox_proto.signalr._retries import DEFAULT_DELAYS, Retries
from etorox_proto.signalr._state import TRANSITIONS, State
from etorox_proto.signalr._tokens import ConnectionTokens
from etorox_proto.signalr._url import Endpoint, parse_endpoint

if TYPE_CHECKING:
    from etorox_proto.signalr._server import ServerConnection

__all__ = [
    "AccessTokenFailed",
    "Ack",
    "AvailableTransport",
    "Call",
    "CallCancelled",
    "CallError",
    "CallLost",
    "CancelInvocation",
    "CancelReceived",
    "ClientRequest",
    "Close",
    "Closed",
    "Completed",
    "Completion",
    "Connected",
    "ConnectionClosed",
    "ConnectionFailed",
    "ConnectionLost",
    "ConnectionTokens",
    "DEFAULT_DELAYS",
    "Detached",
    "Dial",
    "Endpoint",
    "HandshakeRefused",
    "HandshakeRequest",
    "HubConfig",
    "HubConnection",
    "HubError",
    "HubEvent",
    "HubMessage",
    "Invocation",
    "InvocationReceived",
    "ItemReader",
    "ItemReceived",
    "ItemsByTurns",
    "ItemsReceived",
    "JsonCodec",
    "LengthPrefixReader",
    "LimitExceeded",
    "Limits",
    "LocalProtocolError",
    "MessagePackCodec",
    "NegotiateResponse",
    "NegotiationFailed",
    "Ping",
    "RecordReader",
    "Redirect",
    "RemoteProtocolError",
    "Resumed",
    "Retries",
    "Sequence",
    "ServerClosed",
    "ServerConfig",
    "ServerConnection",
    "ServerEvent",
    "SignalRError",
    "State",
    "StreamInvocation",
    "StreamItem",
    "TRANSITIONS",
    "TimedOut",
    "UnexpectedResult",
    "UnknownMessage",
    "UpgradeFailed",
    "Upload",
    "UploadEnded",
    "UploadItemReceived",
    "check_seconds",
    "encode_handshake_request",
    "encode_handshake_response",
    "encode_json",
    "encode_length",
    "length_prefixed",
    "parse_endpoint",
    "parse_handshake_request",
    "parse_handshake_response",
    "parse_negotiate_response",
]


# A client does not pay for the server's side: it is imported when somebody asks for it (PEP 562).
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name != "ServerConnection":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from etorox_proto.signalr._server import ServerConnection

        globals()[name] = ServerConnection
        return ServerConnection

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
