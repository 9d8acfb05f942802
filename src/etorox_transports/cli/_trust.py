"""What `--ca-file` means: which authorities the command trusts."""

from __future__ import annotations

import ssl

from etorox_proto import LocalProtocolError
from etorox_transports import new_tls_context

__all__ = ["trusting"]


def trusting(ca_file: str | None) -> ssl.SSLContext:
    """TLS that trusts the authorities in this file, or the system's.

    Raises:
        LocalProtocolError: there are none in it.
    """
    if ca_file is None:
        return new_tls_context()
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        reason = "it holds none" if isinstance(error, ssl.SSLError) else error.strerror
        raise LocalProtocolError(
            f"expected --ca-file to name a file of certificates (PEM): {ca_file}: {reason}"
        ) from None
