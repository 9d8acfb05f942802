"""`Line`: one machine and its byte streams, one after the other. `_loop` drives one or several."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, final

from etorox_proto import Closed, ConnectionFailed, Dial
from etorox_proto.signalr import State
from etorox_transports._attempt import dial_failed
from etorox_transports._blocking._sockets import ByteStream

__all__ = ["Line", "Opener"]

Opener = Callable[[Dial, float], ByteStream]
"""Opens the stream that a `Dial` asks for, within so many seconds; raises OSError or `DialFailed`."""

# So many bytes are sent at a time.
_CHUNK = 65_536


@final
class Line:
    """One connection and the byte stream that it has at the moment.

    Attributes:
        machine: the connection.
    """

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self._stream: ByteStream | None = None
        self._broken: Exception | None = None

    @property
    def deadline(self) -> float:
        """When the machine wants to hear of the time."""
        deadline: float = self.machine.deadline
        return deadline

    def open(self, dial: Dial, opener: Opener, timeout: float) -> Closed | None:
        """Open another stream; the end of the connection if that fails, unless the machine tells of the end itself."""
        self.drop()
        self._broken = None
        try:
            self._stream = opener(dial, timeout)
        except (OSError, ConnectionFailed) as error:
            failed = dial_failed(dial, error) if isinstance(error, OSError) else error
            if self.machine.state is State.RESUMING:
                # The connection was there, and is lost; so are its calls.
                self._broken = failed
                self.machine.receive_data(b"", time.monotonic())
                return None
            self.machine.close(wait=False, now=time.monotonic())
            return Closed(failed)
        self.machine.stream_opened(time.monotonic())
        return None

    def flush(self, patience: float, until: float = math.inf) -> None:
        """Send what the machine has to say; a stream that does not take it is finished.

        Args:
            patience: how long the stream may take for each 64 KiB, in seconds. Who reads slowly is given the time.
            until: when all of it must have been sent, in seconds of `time.monotonic()`.
        """
        data = self.machine.data_to_send()
        for start in range(0, len(data), _CHUNK):
            if self._stream is None:
                break
            try:
                left = min(patience, max(until - time.monotonic(), 0.0))
                self._stream.send_all(data[start : start + _CHUNK], left)
            except OSError as error:
                self._broken = error
                self.feed(b"", time.monotonic())

    def receive(self, timeout: float) -> bytes | None:
        """Wait for bytes; None: none came."""
        assert self._stream is not None, "a machine with nothing to say waits on a stream"
        try:
            return self._stream.receive(max(timeout, 0.0))
        except TimeoutError:
            return None
        except OSError as error:
            self._broken = error
            return b""

    def feed(self, data: bytes, now: float) -> None:
        """Tell the machine what came; the end of the stream if it is nothing."""
        if not data:
            self.drop()
        self.machine.receive_data(data, now)

    def explain(self, end: Closed) -> None:
        """Let the end name the operating system's reason, if that was it."""
        if end.error is not None and end.error.__cause__ is None:
            end.error.__cause__ = self._broken

    def drop(self) -> None:
        """Close the stream as it is, without a goodbye."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
