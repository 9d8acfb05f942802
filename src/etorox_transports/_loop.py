"""The one loop, blocking: flush, take an event, or wait for bytes until the deadline.

Knows the contract of the machines and nothing of what their events mean; `blocking` builds its verbs on it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from etorox_proto import Closed, ConnectionFailed, Dial, ExchangeConnection
from etorox_proto.signalr import HubConnection
from etorox_transports._sockets import ByteStream

__all__ = ["Driver", "MachineT", "Opener"]

Opener = Callable[[Dial, float], ByteStream]
"""Opens the stream that a `Dial` asks for, within so many seconds; raises OSError or `DialFailed`."""

MachineT = TypeVar("MachineT", bound=ExchangeConnection | HubConnection)

# How long a peer that does not read may hold up what we send, in seconds.
_SEND_TIMEOUT = 5.0


class Driver(Generic[MachineT]):
    """Drives one machine over one byte stream after the other.

    Attributes:
        machine: what it drives.
    """

    def __init__(self, machine: MachineT, open_stream: Opener) -> None:
        self.machine: MachineT = machine
        self._open_stream = open_stream
        self._stream: ByteStream | None = None
        self._broken: OSError | None = None
        self._end: Closed | None = None

    @property
    def ended(self) -> bool:
        """Whether the machine's last event has come."""
        return self._end is not None

    def open(self, opened: type[Any]) -> None:
        """Run until the machine says that it is open.

        Args:
            opened: the event that says so.

        Raises:
            ConnectionFailed: it ended instead. Nothing is left open.
        """
        try:
            if not isinstance(self.next_event(math.inf), opened):
                self.raise_end()
        except BaseException:
            self.drop()
            raise

    def close(self) -> None:
        """Say goodbye, wait a few seconds at most for the answer, close. Calling it again does nothing."""
        self.machine.close(now=time.monotonic())
        try:
            while self.next_event(math.inf) is not None:
                pass
        finally:
            self.drop()

    def next_event(self, until: float) -> Any:
        """The machine's next event; None once it is closed.

        Raises:
            TimeoutError: `until` has come and there is none.
        """
        while self._end is None:
            self.flush()
            event = self.machine.next_event()
            match event:
                case None:
                    self._wait(until)
                case Dial():
                    self._dial(event)
                case Closed():
                    self._end = event
                    self.flush()
                    self.drop()
                case _:
                    return event
        return None

    def raise_end(self) -> None:
        """Raise the reason of the end, again and again; return if it was our own close."""
        assert self._end is not None, "only after the end"
        if self._end.error is not None:
            raise self._end.error.with_traceback(None) from self._broken

    def _dial(self, dial: Dial) -> None:
        self.drop()
        timeout = self.machine.deadline - time.monotonic()
        try:
            self._stream = self._open_stream(dial, timeout)
        except TimeoutError:
            # The machine knows what was too late; if its clock disagrees by a hair, the end of the stream will do.
            self.machine.handle_timeout(time.monotonic())
            self.machine.receive_data(b"", time.monotonic())
        except (OSError, ConnectionFailed):
            self.machine.close(wait=False, now=time.monotonic())
            raise
        else:
            self.machine.stream_opened(time.monotonic())

    def flush(self) -> None:
        """Send what the machine has to say; a stream that does not take it is finished."""
        data = self.machine.data_to_send()
        if not data or self._stream is None:
            return
        try:
            self._stream.send_all(data, _SEND_TIMEOUT)
        except OSError as error:
            # Half a message may be on its way: the stream is finished.
            self._broken = error
            self.drop()
            self.machine.receive_data(b"", time.monotonic())

    def _wait(self, until: float) -> None:
        """Wait for bytes until the earlier of `until` and the machine's deadline, and tell the machine."""
        now = time.monotonic()
        deadline = min(until, self.machine.deadline)
        assert self._stream is not None, "a machine with nothing to say waits on a stream"
        try:
            # Even if the deadline has passed: bytes that have arrived are signs of life and come first.
            data = self._stream.receive(max(deadline - now, 0.0))
        except TimeoutError:
            now = time.monotonic()
            self.machine.handle_timeout(now)
            if until <= now and math.isfinite(self.machine.deadline):
                raise
        except OSError as error:
            self._broken = error
            self.machine.receive_data(b"", time.monotonic())
        else:
            self.machine.receive_data(data, time.monotonic())

    def drop(self) -> None:
        """Close the stream as it is, without a goodbye."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
