"""Adapters that give the machines of `etorox_proto` their bytes and their time.

`etorox_transports.blocking`, `.trio` and `.anyio` offer the same verbs; the `etorox` command is in
`etorox_transports.cli`. This module imports none of them, so that no extra is needed by accident.
"""

from __future__ import annotations

from etorox_transports._attempt import NewHub, new_exchange_connection, new_session, new_tls_context
from etorox_transports._errors import DialFailed, FeedOverflow, UploadFailed
from etorox_transports._queue import LatestBy, Overload
from etorox_transports._serving import ServeLimits

__all__ = [
    "DialFailed",
    "FeedOverflow",
    "LatestBy",
    "NewHub",
    "Overload",
    "ServeLimits",
    "UploadFailed",
    "new_exchange_connection",
    "new_session",
    "new_tls_context",
]
