"""Does a transport keep the contract? More than a hundred named cases, and a score card.

`run` takes a `Transport`, which says how to open a connection with yours, and gives a `Report`; `plugin` does the same
for pytest. The cases use real sockets of this machine and real time against a scripted server; those of the group
`virtual` use byte streams in memory and virtual time. They know nothing of the transport but what `Transport` and
`Connection` say. docs/howto/test-your-transport.md shows how.
"""

from __future__ import annotations

# The order of the imports is that of the cases.
from etorox_transports.conformance import (  # isort: skip
    _cases_bytes,
    _cases_open,
    _cases_tls,
    _cases_time,
    _cases_end,
    _cases_law,
    _cases_tasks,
    _cases_virtual,
    _cases_virtual_time,
)
from etorox_transports.conformance._case import CASES, Case
from etorox_transports.conformance._event_loop import VirtualEventLoop
from etorox_transports.conformance._run import Report, Result, run, run_case
from etorox_transports.conformance._transport import Attempt, BlockingConnection, Connection, Transport

__all__ = [
    "CASES",
    "Attempt",
    "BlockingConnection",
    "Case",
    "Connection",
    "Report",
    "Result",
    "Transport",
    "VirtualEventLoop",
    "run",
    "run_case",
]

del (
    _cases_bytes,
    _cases_open,
    _cases_tls,
    _cases_time,
    _cases_end,
    _cases_law,
    _cases_tasks,
    _cases_virtual,
    _cases_virtual_time,
)
