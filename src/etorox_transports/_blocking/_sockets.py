"""Byte streams over blocking sockets, with and without TLS.

`ByteStream` is the seam: anything with its three methods can carry a connection, so a proxy, a tunnel or a test gives
`open=` a function of its own.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
import weakref
from typing import Protocol, final

from etorox_proto import Dial
from etorox_transports._attempt import dial_failed, new_tls_context
from etorox_transports._tls import TlsMemory

__all__ = ["ByteStream", "SocketStream", "TlsStream", "open_socket"]

# As much as one TLS record or a few hundred market events.
_READ_SIZE = 65_536
# How long a peer that does not read may hold up what TLS itself has to say, in seconds.
_ANSWER_TIMEOUT = 1.0


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
        _close_when_forgotten(self, sock)

    def send_all(self, data: bytes, timeout: float) -> None:
        """See `ByteStream.send_all`."""
        _send(self._sock, data, time.monotonic() + timeout)

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


@final
class TlsStream:
    """A connected socket with TLS over memory, as a `ByteStream`, from its handshake on.

    Args:
        sock: connected; it belongs to this object from now on.
        context: how to verify and what to present.
        server_name: what to verify.
        timeout: seconds for the handshake.

    Raises:
        OSError: the handshake failed (`TimeoutError` included), as with `ssl.SSLContext.wrap_socket`. The socket is
            left open.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str, timeout: float) -> None:
        self._sock = sock
        self._tls = TlsMemory(context, server_name)
        self._shake_hands(time.monotonic() + timeout)
        _close_when_forgotten(self, sock)

    def send_all(self, data: bytes, timeout: float) -> None:
        """See `ByteStream.send_all`."""
        self._tls.encrypt(data)
        self._flush(time.monotonic() + timeout)

    def receive(self, timeout: float) -> bytes:
        """See `ByteStream.receive`."""
        until = time.monotonic() + timeout
        while not (data := self._decrypt()):
            if (end := self._tls.end) is not None:
                if isinstance(end, OSError):
                    raise end
                return end
            self._read(until)
        return data

    def close(self) -> None:
        """See `ByteStream.close`."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        self._sock.close()

    def _shake_hands(self, until: float) -> None:
        try:
            while not self._tls.shake_hands():
                self._flush(until)
                self._read(until)
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                self._flush(until)  # the peer is told what was wrong
            raise
        self._flush(until)

    def _decrypt(self) -> bytes:
        data = self._tls.decrypt(_READ_SIZE)
        if self._tls.has_to_send:  # TLS itself has something to say, such as a new key or what is wrong
            try:
                self._flush(time.monotonic() + _ANSWER_TIMEOUT)
            except OSError as error:
                self._tls.end = self._tls.end or error
        return data

    def _read(self, until: float) -> None:
        """Wait for bytes of the stream, or its end."""
        self._sock.settimeout(max(until - time.monotonic(), 0.0))
        try:
            data = self._sock.recv(_READ_SIZE)
        except BlockingIOError:
            raise TimeoutError from None
        self._tls.receive_data(data)

    def _flush(self, until: float) -> None:
        _send(self._sock, self._tls.data_to_send(), until)


def _close_when_forgotten(stream: object, sock: socket.socket) -> None:
    """Close it with its stream. In a cycle that is given up the socket might be finalised first, with a warning."""
    weakref.finalize(stream, sock.close).atexit = False


def _send(sock: socket.socket, data: bytes, until: float) -> None:
    unsent = memoryview(data)
    while unsent:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")  # also if it was sent drop by drop
        sock.settimeout(left)
        unsent = unsent[sock.send(unsent) :]


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
            context = ssl_context or new_tls_context()
            return TlsStream(sock, context, dial.server_name, max(until - time.monotonic(), 0.001))
    except OSError as error:
        sock.close()
        raise dial_failed(dial, error) from error
    except BaseException:
        sock.close()
        raise
    return SocketStream(sock)
