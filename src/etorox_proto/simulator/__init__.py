"""The embedded exchange: a pure, seeded market, and the protocol half that serves it to real clients.

`SimulatedMarket` makes order flow, matching and the documented events; `Simulator` speaks SignalR to clients through
`etorox_proto.signalr.ServerConnection`. It exists so that everything can be tried and tested without the exchange.
"""

from __future__ import annotations

from etorox_proto.simulator._market import INSTRUMENTS, BookSnapshot, Instrument, Published, SimulatedMarket
from etorox_proto.simulator._service import PRIVATE_EVENT, PUBLIC_EVENT, Simulator, SimulatorConnection

__all__ = [
    "INSTRUMENTS",
    "PRIVATE_EVENT",
    "PUBLIC_EVENT",
    "BookSnapshot",
    "Instrument",
    "Published",
    "SimulatedMarket",
    "Simulator",
    "SimulatorConnection",
]
