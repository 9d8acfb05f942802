"""What a SignalR server does, case by case: `probe` talks to it as clients do, and as no client should.

For the authors and keepers of servers. Seventy named cases say what was sent, what the specification wants, and what
came. It is polite: one byte stream at a time, nothing invoked but a method that cannot exist, and nothing that is large
or takes long unless `thorough` asks for it. `etorox probe` is the same on the command line.

A server that differs makes no exception, only a `ServerResult` that says so; see docs/howto/probe-a-server.md.
"""

from __future__ import annotations

from etorox_transports.probe import (  # isort: skip - they are entered in this order
    _cases_negotiate,
    _cases_upgrade,
    _cases_handshake,
    _cases_messages,
    _cases_end,
)
from etorox_transports.probe._case import SERVER_CASES, ServerCase
from etorox_transports.probe._finding import Finding, Outcome
from etorox_transports.probe._page import as_html
from etorox_transports.probe._run import ServerReport, ServerResult, probe

__all__ = ["SERVER_CASES", "ServerCase", "Finding", "Outcome", "ServerReport", "ServerResult", "as_html", "probe"]

del _cases_negotiate, _cases_upgrade, _cases_handshake, _cases_messages, _cases_end
