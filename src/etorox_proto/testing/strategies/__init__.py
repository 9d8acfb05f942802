"""Hypothesis strategies for what travels and what happens: messages, bytes, frames, replies, market data, faults.

Needs Hypothesis (`pip install etorox-proto[testing]`), which importing `etorox_proto.testing` alone does not. All
strategies shrink towards the shortest, most ordinary value, and filter nothing that is drawn often, so that tests
built of them are fast and their failures short.
"""

from __future__ import annotations

try:
    import hypothesis as _hypothesis  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{__name__} needs Hypothesis: pip install 'etorox-proto[testing]'") from error

from etorox_proto.testing.strategies._bytes import chunkings, damaged
from etorox_proto.testing.strategies._frames import broken_frames, control_frames, frame_sequences, websocket_messages
from etorox_proto.testing.strategies._http import bad_http_replies, http_replies, negotiate_bodies, negotiate_responses
from etorox_proto.testing.strategies._market import (
    CancelOrder,
    MarketKind,
    PlaceOrder,
    instruments,
    market_events,
    order_flows,
    rows,
    selectors,
)
from etorox_proto.testing.strategies._messages import (
    CODECS,
    Encoding,
    HandshakeExchange,
    RecordStream,
    boundary_messages,
    handshake_exchanges,
    hub_messages,
    malformed_records,
    payloads,
    plain_values,
    record_streams,
)
from etorox_proto.testing.strategies._programs import commands, programs
from etorox_proto.testing.strategies._time import clocks, fault_schedules, moments

__all__ = [
    "CODECS",
    "CancelOrder",
    "Encoding",
    "HandshakeExchange",
    "MarketKind",
    "PlaceOrder",
    "RecordStream",
    "boundary_messages",
    "bad_http_replies",
    "broken_frames",
    "chunkings",
    "clocks",
    "commands",
    "control_frames",
    "damaged",
    "fault_schedules",
    "frame_sequences",
    "handshake_exchanges",
    "http_replies",
    "hub_messages",
    "instruments",
    "malformed_records",
    "market_events",
    "moments",
    "negotiate_bodies",
    "negotiate_responses",
    "order_flows",
    "payloads",
    "plain_values",
    "programs",
    "record_streams",
    "rows",
    "selectors",
    "websocket_messages",
]
