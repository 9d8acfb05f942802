"""Adapters that give the machines of `etorox_proto` their bytes and their time.

So far there is one, `etorox_transports.blocking`, and the `etorox` command in `etorox_transports.cli`. This module
imports neither, so that no extra is needed by accident.
"""

from __future__ import annotations

from etorox_transports._attempt import new_exchange_connection, new_tls_context
from etorox_transports._errors import DialFailed, FeedOverflow

__all__ = ["DialFailed", "FeedOverflow", "new_exchange_connection", "new_tls_context"]
