"""For testing programs, transports and protocol code: a network in virtual time, and an exchange that obeys the test.

`VirtualNetwork` carries bytes between client machines and hosts, with a clock that jumps to the next wake-up and faults
of every kind; `FakeExchange` is a host that publishes what it is told and goes wrong when it is told, and `HubHost` is
any other SignalR hub. Everything is seeded: the same seed gives the same run. Nothing in this package opens a socket or
reads a clock.

Two modules need Hypothesis, and are imported by their own names: `etorox_proto.testing.strategies` draws what travels
and what happens, `etorox_proto.testing.laws` tests a machine, ours or yours, against the laws.
"""

from __future__ import annotations

from etorox_proto.testing._attempt import ClientMachine
from etorox_proto.testing._clock import ManualClock, TimeSource
from etorox_proto.testing._drivers import Driver, SessionDriver
from etorox_proto.testing._errors import DialFault, VirtualDialFailed
from etorox_proto.testing._fake_connection import FakeExchangeConnection
from etorox_proto.testing._fake_exchange import FakeExchange, Item
from etorox_proto.testing._faults import Fault, FaultKind, RandomFaults
from etorox_proto.testing._hosts import Host, HostConnection, HowToStop, Listener
from etorox_proto.testing._hub_host import HubHost
from etorox_proto.testing._ledger import ExchangeCounts, SetupAnswer
from etorox_proto.testing._link import Chunking, Link, bytewise, pieces, whole
from etorox_proto.testing._network import FakeSigner, VirtualNetwork
from etorox_proto.testing._rules import ExchangeRules
from etorox_proto.testing._stream import Side, Stream, Toward
from etorox_proto.testing._wire import accept_websocket, http_reply, websocket_frame

__all__ = [
    "Chunking",
    "ClientMachine",
    "DialFault",
    "Driver",
    "ExchangeCounts",
    "ExchangeRules",
    "FakeExchange",
    "FakeExchangeConnection",
    "FakeSigner",
    "Fault",
    "FaultKind",
    "Host",
    "HostConnection",
    "HowToStop",
    "HubHost",
    "Item",
    "Link",
    "Listener",
    "ManualClock",
    "RandomFaults",
    "SessionDriver",
    "SetupAnswer",
    "Side",
    "Stream",
    "TimeSource",
    "Toward",
    "VirtualDialFailed",
    "VirtualNetwork",
    "accept_websocket",
    "bytewise",
    "http_reply",
    "pieces",
    "websocket_frame",
    "whole",
]
