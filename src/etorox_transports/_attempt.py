"""What every adapter does the same way: fresh values for one attempt, and TLS that verifies.

The machines take clocks, ids and nonces as values; here they are drawn, once for each attempt.
"""

from __future__ import annotations

import ssl
import time
import uuid

from etorox_proto import Credentials, Dial, ExchangeConfig, ExchangeConnection
from etorox_transports._errors import DialFailed

__all__ = ["dial_failed", "new_exchange_connection", "new_tls_context"]


def new_exchange_connection(config: ExchangeConfig, credentials: Credentials) -> ExchangeConnection:
    """A new attempt, with `time.monotonic()` as its clock, a fresh nonce and a fresh correlation id."""
    return ExchangeConnection(
        config,
        credentials,
        now=time.monotonic(),
        unix_time=time.time(),
        nonce=str(uuid.uuid4()),
        correlation_id=str(uuid.uuid4()),
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
    failed = DialFailed(
        f"could not connect to {dial.host} port {dial.port}: {what}", may_retry=not isinstance(error, ssl.SSLError)
    )
    failed.__cause__ = error
    return failed
