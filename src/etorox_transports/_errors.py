"""What can go wrong outside the machines; leaves of the one tree in `etorox_proto.signalr`."""

from __future__ import annotations

from etorox_proto.signalr import ConnectionFailed, SignalRError

__all__ = ["DialFailed", "FeedOverflow", "UploadFailed"]


class DialFailed(ConnectionFailed):
    """The byte stream could not be opened: name not found, refused, or a certificate that is not trusted.

    The exception of the operating system or of TLS is `__cause__`.
    """

    def __init__(self, message: str, *, may_retry: bool) -> None:
        super().__init__(message)
        self.may_retry = may_retry


class FeedOverflow(SignalRError):
    """Events came for a feed that nobody read, more than it holds; the newest were dropped.

    Attributes:
        dropped: how many so far.
    """

    def __init__(self, dropped: int, capacity: int) -> None:
        super().__init__(
            f"expected a feed to be read before {capacity} events wait in it, {dropped} more came and were dropped; "
            "read it more often, or all feeds together with events()"
        )
        self.dropped = dropped


class UploadFailed(SignalRError):
    """A client ended the stream that it uploads with an error, or sent an item that cannot be read.

    The message is the client's own text, or says what was wrong with the item.
    """
