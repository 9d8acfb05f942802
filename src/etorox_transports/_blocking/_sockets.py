"""Byte streams over blocking sockets, with and without TLS.

`ByteStream` is the seam: anything with its three methods can carry a connection, so a proxy, a tunnel or a test gives
`open=` a function of its own.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import Protocol, final

from etorox_proto import Dial
from etorox_transports._attempt import dial_failed, new_tls_context

__all__ = ["ByteStream", "SocketStream", "open_socket"]

# As much as one TLS record or a few hundred market events.
_READ_SIZE = 65_536


class ByteStream(Protocol):
    """A blocking, ordered, reliable stream of bytes."""

    def send_all(self, data: bytes, timeout: float) -> None:
        """Send everything within `timeout` seconds.

        Raises:
            OSError: it was not all sent (`TimeoutError` included); the stream is then of no use any more.
        """
        ...

    def receive(self, timeout: float) -> bytes:
        """Wait up to `timeout` seconds (0: do not wait) for bytes; `b""` is the end of the stream.

        Raises:
            TimeoutError: nothing came; the stream can still be used.
            OSError: the stream broke.
        """
        ...

    def close(self) -> None:
        """Close it, whatever its state."""
        ...


@final
class SocketStream:
    """A connected socket, plain or TLS, as a `ByteStream`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send_all(self, data: bytes, timeout: float) -> None:
        """See `ByteStream.send_all`."""
        until = time.monotonic() + timeout
        unsent = memoryview(data)
        while unsent:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")  # also if it was sent drop by drop
            self._sock.settimeout(left)
            unsent = unsent[self._sock.send(unsent) :]

    def receive(self, timeout: float) -> bytes:
        """See `ByteStream.receive`."""
        self._sock.settimeout(max(timeout, 0.0))
        try:
            return self._sock.recv(_READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise TimeoutError from None

    def close(self) -> None:
        """See `ByteStream.close`."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        self._sock.close()


def open_socket(dial: Dial, timeout: float, ssl_context: ssl.SSLContext | None = None) -> ByteStream:
    """Open the stream that a machine asked for.

    Args:
        dial: where to, and whether with TLS.
        timeout: seconds for everything but the look-up of the name, which the system bounds. Each address of the name
            is given so long.
        ssl_context: how to verify and what to present; by default the system's authorities.

    Raises:
        DialFailed: it could not be opened; the message says why and what to do.
    """
    until = time.monotonic() + timeout
    try:
        sock = socket.create_connection((dial.host, dial.port), timeout=max(timeout, 0.001))
    except OSError as error:
        raise dial_failed(dial, error) from error
    try:
        # Pings and subscriptions are small and must not wait for an acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if dial.tls:
            sock.settimeout(max(until - time.monotonic(), 0.001))
            sock = (ssl_context or new_tls_context()).wrap_socket(sock, server_hostname=dial.server_name)
    except OSError as error:
        sock.close()
        raise dial_failed(dial, error) from error
    except BaseException:
        sock.close()
        raise
    return SocketStream(sock)
