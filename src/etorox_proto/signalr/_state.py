"""States and timers: everything that says *where* a connection is and *when* it must act.

Two rules keep this file small. All transitions are in one table, and `Lifecycle.enter` is the only way to take one.
All clocks are absolute floats in seconds of a monotonic clock that the caller owns; nothing here reads a clock.

A client's life:

    NEGOTIATING -> UPGRADING -> HANDSHAKING -> CONNECTED -> CLOSING -> CLOSED

NEGOTIATING repeats at a redirect and is left out when negotiation is skipped; every state may fall to CLOSED. Where
both sides agreed on stateful reconnect, CONNECTED turns into RESUMING when the stream is lost, and back once the other
side has said on a new one where it goes on. A server's life begins at NEGOTIATING as well: there it means "reads HTTP
requests". `HubConnection` and `ServerConnection` call this module; it knows neither of them.
"""

from __future__ import annotations

import enum
import math

__all__ = ["TRANSITIONS", "Lifecycle", "State", "Timer", "TimerTable"]


class State(enum.Enum):
    """Where a connection is. It reflects all bytes received, so events still waiting may be older."""

    NEGOTIATING = "negotiating"
    UPGRADING = "upgrading to WebSocket"
    HANDSHAKING = "waiting for the SignalR handshake"
    CONNECTED = "connected"
    RESUMING = "resuming on another stream"
    CLOSING = "closing"
    CLOSED = "closed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.NEGOTIATING: frozenset({State.NEGOTIATING, State.UPGRADING, State.CLOSED}),
    State.UPGRADING: frozenset({State.HANDSHAKING, State.CLOSED}),
    State.HANDSHAKING: frozenset({State.CONNECTED, State.CLOSED}),
    State.CONNECTED: frozenset({State.RESUMING, State.CLOSING, State.CLOSED}),
    State.RESUMING: frozenset({State.CONNECTED, State.CLOSED}),
    State.CLOSING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}


class Lifecycle:
    """The current state; moves along `TRANSITIONS` and nowhere else."""

    def __init__(self, state: State) -> None:
        self.state = state

    def enter(self, state: State) -> None:
        """Move on. An unlisted move is our own fault, so it is an assertion."""
        assert state in TRANSITIONS[self.state], f"no transition from {self.state} to {state}"
        self.state = state


class Timer(enum.Enum):
    """What a deadline is for. The order is that in which timers due at the same moment are handled."""

    OPENING = "opening"
    HANDSHAKE = "handshake"
    RESUMING = "resuming"
    SILENCE = "silence"
    CLOSING = "closing"
    ACK = "ack"
    PING = "ping"

    __hash__ = object.__hash__  # each is there once; that of `Enum` is as slow as the rest of a timer


class TimerTable:
    """At most one deadline for each purpose."""

    def __init__(self) -> None:
        self._deadlines: dict[Timer, float] = {}

    def __contains__(self, timer: object) -> bool:
        return timer in self._deadlines

    @property
    def next(self) -> float:
        """The earliest deadline, `math.inf` if none is set."""
        return min(self._deadlines.values(), default=math.inf)

    def set(self, timer: Timer, deadline: float) -> None:
        """Set or move one deadline."""
        self._deadlines[timer] = deadline

    def stop(self, *timers: Timer) -> None:
        """Forget these deadlines, set or not."""
        for timer in timers:
            self._deadlines.pop(timer, None)

    def clear(self) -> None:
        """Forget all deadlines."""
        self._deadlines.clear()

    def expired(self, now: float) -> list[Timer]:
        """The timers that are due at `now`, in the order of `Timer`."""
        return [timer for timer in Timer if timer in self._deadlines and self._deadlines[timer] <= now]
