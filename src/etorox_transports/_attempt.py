"""What every adapter does the same way: fresh values for one attempt, and TLS that verifies.

The machines take clocks, ids and nonces as values; here they are drawn, once for each attempt.
"""

from __future__ import annotations

import random
import ssl
import time
import uuid
from typing import Protocol

from etorox_proto import Credentials, Dial, ExchangeConfig, ExchangeConnection, Session, SessionConfig
from etorox_proto.signalr import HubConfig, HubConnection
from etorox_transports._errors import DialFailed

__all__ = ["NewHub", "dial_failed", "new_exchange_connection", "new_session", "new_tls_context"]


class NewHub(Protocol):
    """Makes the machine of a connection to a hub: `HubConnection`, a class derived from it, or a function."""

    def __call__(self, config: HubConfig, /, *, now: float) -> HubConnection:
        """Make one, at this time of the clock that will drive it, in seconds."""
        ...


def new_exchange_connection(
    config: ExchangeConfig, credentials: Credentials, *, now: float | None = None, skew: float = 0.0
) -> ExchangeConnection:
    """A new attempt, with a fresh nonce, a fresh correlation id and the wall clock of this moment.

    Args:
        config: where the exchange is.
        credentials: who we are.
        now: seconds of the clock that drives the connection; by default `time.monotonic()`.
        skew: how far the exchange's wall clock is ahead of ours, in seconds.
    """
    return ExchangeConnection(
        config,
        credentials,
        now=time.monotonic() if now is None else now,
        unix_time=time.time() + skew,
        nonce=str(uuid.uuid4()),
        correlation_id=str(uuid.uuid4()),
    )


def new_session(
    config: ExchangeConfig, credentials: Credentials, session: SessionConfig | None, *, now: float
) -> Session:
    """A new session whose attempts are made by `new_exchange_connection`.

    Args:
        config: where the exchange is.
        credentials: who we are.
        session: how to stay connected; None for one attempt and no other.
        now: seconds of the clock that drives the session.
    """

    def new_connection(now: float, skew: float) -> ExchangeConnection:
        return new_exchange_connection(config, credentials, now=now, skew=skew)

    return Session(
        new_connection,
        now=now,
        random=random.random,
        config=SessionConfig(reconnect=False) if session is None else session,
    )


def new_tls_context() -> ssl.SSLContext:
    """TLS for a client: the system's authorities, certificate and name verified."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def dial_failed(dial: Dial, error: OSError) -> DialFailed:
    """The one clear error for a stream that could not be opened; `error` becomes its cause."""
    match error:
        case ssl.SSLCertVerificationError():
            what = (
                f"its certificate was not accepted ({error.verify_message}); trust its authority with an SSLContext, "
                "or --ca-file in the command"
            )
        case ssl.SSLError():
            what = f"TLS failed ({error.reason or error}); does it speak TLS at this port?"
        case _:
            what = error.strerror or str(error) or type(error).__name__
    # A certificate that is not trusted, or a server that does not speak TLS, is no passing trouble; a server that goes
    # away in the middle of TLS's handshake, because it is being restarted, is.
    may_retry = not (
        isinstance(error, ssl.SSLCertVerificationError)
        or (
            isinstance(error, ssl.SSLError)
            and error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}
        )
    )
    failed = DialFailed(f"could not connect to {dial.host} port {dial.port}: {what}", may_retry=may_retry)
    failed.__cause__ = error
    return failed
