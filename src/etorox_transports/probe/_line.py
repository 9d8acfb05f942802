"""`Line`: one byte stream to the server, with the clock. Whatever ends it is the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import final

from etorox_transports._blocking._sockets import ByteStream

__all__ = ["Line"]


@final
class Line:
    """A byte stream.

    Args:
        stream: the stream, which belongs to this object from now on.
        clock: the time, in seconds.
        timeout: how long sending may take, in seconds.

    Attributes:
        heard: how many bytes came.
        how_it_ended: in words; empty while it has not.
    """

    def __init__(self, stream: ByteStream, clock: Callable[[], float], timeout: float) -> None:
        self._stream = stream
        self._clock = clock
        self._timeout = timeout
        self.heard = 0
        self.how_it_ended = ""

    def send(self, data: bytes) -> None:
        """Send; that the server does not take it any more shows when it is read."""
        if not self.how_it_ended and data:
            with contextlib.suppress(OSError):
                self._stream.send_all(data, self._timeout)

    def receive(self, until: float) -> bytes | None:
        """What comes next until this time; `b""` is the end, None is nothing, or that the time has passed."""
        if self.how_it_ended:
            return b""
        if (left := until - self._clock()) < 0:
            return None  # also where there is always more to read
        try:
            data = self._stream.receive(left)
        except TimeoutError:
            return None
        except OSError as error:
            data = b""
            self.how_it_ended = f"a broken stream ({error.strerror or type(error).__name__})"
        self.heard += len(data)
        if not data:
            self.how_it_ended = self.how_it_ended or "the end of the stream"
        return data

    def close(self) -> None:
        """Close it at once."""
        self._stream.close()
        self.how_it_ended = self.how_it_ended or "the end of the stream"
