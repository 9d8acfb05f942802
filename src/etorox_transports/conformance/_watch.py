"""`WatchedHub`: a machine that notes how it is driven.

It does what a `HubConnection` does. What it notes are faults of a transport that no peer can see: input before what
there was has been taken, streams that nobody asked for, a clock that is none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from etorox_proto.signalr import Closed, Dial, HubConfig, HubConnection, HubEvent

__all__ = ["WatchedHub"]

# How far the machine's time may be from that of the world, in seconds, measured between two inputs.
_DRIFT = 0.5


class WatchedHub(HubConnection):
    """The machine of one case.

    Attributes:
        undrained: inputs that came while events waited, or bytes that nobody had asked for.
        unasked: streams that were said to be open although no `Dial` wanted one.
        dials: how many `Dial`s were taken.
        opened: how many streams were said to be open.
        ends: how often a stream was said to be over.
        inputs: all inputs.
        timeouts: how often `handle_timeout` came.
        latest: how late `handle_timeout` came at most, in seconds.
        closed_taken: how often `Closed` was taken.
        clock_faults: what was wrong with the times that were given.
        largest_drift: how far they were from the world's at most, in seconds, measured between two inputs.
    """

    def __init__(self, config: HubConfig, *, now: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(config, now=now)
        self.undrained = 0
        self.unasked = 0
        self.dials = 0
        self.opened = 0
        self.ends = 0
        self.inputs = 0
        self.timeouts = 0
        self.latest = 0.0
        self.closed_taken = 0
        self.clock_faults: list[str] = []
        self.largest_drift = 0.0
        self._is_drained = False
        self._clock = clock
        self._latest_now = now
        self._latest_real = clock()

    def stream_opened(self, now: float) -> None:
        """See `HubConnection.stream_opened`."""
        self.opened += 1
        if self.opened > self.dials:
            self.unasked += 1
        self._is_drained = True  # the loop that everybody writes says so when it has taken `Dial`
        self._note_input(now)
        super().stream_opened(now)

    def receive_data(self, data: bytes, now: float) -> None:
        """See `HubConnection.receive_data`."""
        self.ends += not data
        self._note_input(now)
        super().receive_data(data, now)

    def handle_timeout(self, now: float) -> None:
        """See `HubConnection.handle_timeout`."""
        self.timeouts += 1
        if self.deadline < math.inf:
            self.latest = max(self.latest, now - self.deadline)
        self._note_input(now)
        super().handle_timeout(now)

    def next_event(self) -> HubEvent | Closed | None:
        """See `HubConnection.next_event`."""
        event = super().next_event()
        self._note_event(event)
        return event

    def next_batch(self) -> Any:
        """See `HubConnection.next_batch`."""
        batch = super().next_batch()
        self._note_event(batch)
        return batch

    def _note_event(self, event: Any) -> None:
        self._is_drained = event is None
        self.dials += isinstance(event, Dial)
        self.closed_taken += isinstance(event, Closed)

    def _note_input(self, now: float) -> None:
        self.inputs += 1
        if not self._is_drained and not self.closed_taken:
            self.undrained += 1
        self._is_drained = False
        real = self._clock()
        passed, meant = real - self._latest_real, now - self._latest_now
        self.largest_drift = max(self.largest_drift, abs(meant - passed))
        if meant < 0:
            self.clock_faults.append(f"it went back by {-meant:g} s")
        elif abs(meant - passed) > _DRIFT:
            self.clock_faults.append(f"{passed:.3f} s passed, and it was told {meant:.3f} s")
        self._latest_now, self._latest_real = now, real
