"""What can go wrong when a driver of the virtual network dials; a leaf of the one tree in `etorox_proto.signalr`."""

from __future__ import annotations

from typing import Literal

from etorox_proto.signalr import ConnectionFailed

__all__ = ["DialFault", "VirtualDialFailed"]

DialFault = Literal["unknown host", "refused", "tls"]


class VirtualDialFailed(ConnectionFailed):
    """The byte stream could not be opened; what adapters of real networks say with an error of their own.

    Attributes:
        reason: `"unknown host"` (nobody listens there), `"refused"`, or `"tls"`.
    """

    def __init__(self, host: str, port: int, reason: DialFault, *, may_retry: bool) -> None:
        super().__init__(f"could not connect to {host} port {port}: {reason}")
        self.reason: DialFault = reason
        self.may_retry = may_retry
