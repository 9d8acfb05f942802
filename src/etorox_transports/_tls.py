"""`TlsMemory`: TLS over memory, for every adapter.

`ssl.SSLSocket`, and what event loops put around it, ask the system or the loop for each record, and servers send one
record for each message. Here one read of the socket brings as many records as there are, and TLS finds them in memory.
This knows nothing of sockets and waits for nothing: ciphertext goes in and out as bytes.
"""

from __future__ import annotations

import ssl
from typing import final

__all__ = ["TlsMemory"]

# The most that a TLS record holds, in bytes.
_RECORD_SIZE = 16_384


@final
class TlsMemory:
    """One side of one TLS session. Call `shake_hands` until it says True, before anything else.

    Args:
        context: how to verify and what to present.
        server_name: what to verify; None for the server's side.

    Attributes:
        end: what comes when all that `decrypt` gave has been read: `b""` for an end, an error for a stream that broke;
            None while it goes on.
    """

    def __init__(self, context: ssl.SSLContext, server_name: str | None) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self.end: OSError | bytes | None = None

    @property
    def has_to_send(self) -> bool:
        """Whether `data_to_send` has something: after `encrypt`, or because TLS itself has something to say."""
        return self._outgoing.pending > 0

    def data_to_send(self) -> bytes:
        """Ciphertext for the peer; it is handed out once."""
        return self._outgoing.read()

    def receive_data(self, data: bytes | bytearray) -> None:
        """Ciphertext came from the peer; `b""` is the end of the stream."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def shake_hands(self) -> bool:
        """Go on with the handshake; whether it is done. Otherwise send, receive, and ask again.

        Raises:
            ssl.SSLError: it failed. What is left to send tells the peer why.
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def encrypt(self, data: bytes) -> None:
        """Put this into `data_to_send`.

        Raises:
            ssl.SSLError: the session is broken.
        """
        self._tls.write(data)

    def decrypt(self, enough: int) -> bytes:
        """What has come, as far as records are whole; more than `enough` bytes by a record at most.

        `b""` means that more has to be received, or that `end` is set.
        """
        records: list[bytes] = []
        read, length = self._tls.read, 0
        try:
            while length < enough and self.end is None:
                record = read(_RECORD_SIZE)
                if not record:
                    self.end = b""
                records.append(record)
                length += len(record)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLEOFError:
            self.end = b""  # the peer hung up without TLS's goodbye, as many do; the WebSocket has one of its own
        except OSError as error:
            self.end = error
        return b"".join(records)
