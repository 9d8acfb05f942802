"""An attempt of a `Session`, where a session can be, and what it asks of the adapter that drives it."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable

import msgspec

from etorox_proto._exchange import ExchangeConnection

__all__ = ["Attempt", "CheckClock", "NewConnection", "SessionAction", "SessionState", "StartAttempt"]

NewConnection = Callable[[float, float], ExchangeConnection]
"""Makes a fresh connection: with the time at which it begins, and the seconds to add to our wall clock."""


class SessionState(enum.Enum):
    """Where the session is."""

    CONNECTING = "connecting"
    WAITING = "waiting for the next attempt"
    READY = "ready"
    CLOSING = "closing"
    CLOSED = "closed"


class StartAttempt(msgspec.Struct, frozen=True):
    """Run the loop on this connection until it says `Closed`, beside the one that may be running already."""

    connection: ExchangeConnection


class CheckClock(msgspec.Struct, frozen=True):
    """How far is the exchange's wall clock ahead of ours? The answer is `Session.clock_checked`."""


SessionAction = StartAttempt | CheckClock


class Attempt:
    """One connection of a session and its times, in seconds; infinite while they are not known."""

    def __init__(self, connection: ExchangeConnection, began: float) -> None:
        self.connection = connection
        self.began = began
        self.ready_at = math.inf

    @property
    def is_ready(self) -> bool:
        """Whether subscriptions can be asked for on it."""
        return self.ready_at != math.inf
