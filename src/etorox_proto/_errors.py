"""The exchange's leaves of the error tree; its trunk is `etorox_proto.signalr._errors`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etorox_proto.signalr import CallError, ConnectionFailed, LocalProtocolError, SignalRError

__all__ = ["CredentialsError", "HandoverUnproven", "SetupRefused", "SigningFailed", "SubscriptionFailed"]


class CredentialsError(LocalProtocolError):
    """A private key or API key cannot be used; the message says why and shows no part of it."""


class SigningFailed(ConnectionFailed):
    """The `Signer` raised or returned something that is not a signature. Its exception is `__cause__`."""

    may_retry = False


class SetupRefused(ConnectionFailed):
    """The exchange refused `setup`: wrong key, clock too far off, nonce used before. In `Closed.error`.

    Attributes:
        result: the whole result object that the exchange sent, `{}` if it answered with an error text.
    """

    may_retry = False

    def __init__(self, message: str, *, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.result: Mapping[str, Any] = result or {}


class SubscriptionFailed(CallError):
    """The exchange refused or ended a subscription. In `SubscriptionEnded.error`; the connection goes on."""


class HandoverUnproven(SignalRError):
    """Two connections that carried the same subscription could not be aligned. In `Gap.cause`.

    It happens to rows that are all alike: nothing tells which of them both connections have brought.
    """

    def __init__(self) -> None:
        super().__init__("the events of the old and the new connection could not be aligned")
