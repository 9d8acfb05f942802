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

__all__ = ["ByteStream", "SocketStream", "TlsStream", "open_socket"]

# As much as one TLS record or a few hundred market events.
_READ_SIZE = 65_536
# The most that a TLS record holds.
_RECORD_SIZE = 16_384
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
    """A connected socket with TLS, as a `ByteStream`, from its handshake on.

    `ssl.SSLSocket` asks the system for each record twice, for its head and for the rest, and servers send one record
    for each message. Here one read takes as many records as there are, and TLS finds them in memory.

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
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._end: OSError | bytes | None = None  # what comes when everything before has been received
        self._shake_hands(time.monotonic() + timeout)
        _close_when_forgotten(self, sock)

    def send_all(self, data: bytes, timeout: float) -> None:
        """See `ByteStream.send_all`."""
        self._tls.write(data)
        self._flush(time.monotonic() + timeout)

    def receive(self, timeout: float) -> bytes:
        """See `ByteStream.receive`."""
        until = time.monotonic() + timeout
        while not (data := self._decrypt()):
            if self._end is not None:
                if isinstance(self._end, OSError):
                    raise self._end
                return self._end
            self._read(until)
        return data

    def close(self) -> None:
        """See `ByteStream.close`."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        self._sock.close()

    def _shake_hands(self, until: float) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush(until)
                self._read(until)
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush(until)  # the peer is told what was wrong
                raise
            else:
                self._flush(until)
                return

    def _decrypt(self) -> bytes:
        """All that has come, as far as records are whole."""
        records: list[bytes] = []
        read, length = self._tls.read, 0
        try:
            while length < _READ_SIZE and self._end is None:
                record = read(_RECORD_SIZE)
                if not record:
                    self._end = b""
                records.append(record)
                length += len(record)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLEOFError:
            self._end = b""  # the peer hung up without TLS's goodbye, as many do; the WebSocket has one of its own
        except OSError as error:
            self._end = error
        if self._outgoing.pending:
            self._answer()
        return b"".join(records)

    def _answer(self) -> None:
        """TLS itself has something to say, such as a new key or what is wrong."""
        try:
            self._flush(time.monotonic() + _ANSWER_TIMEOUT)
        except OSError as error:
            self._end = self._end or error

    def _read(self, until: float) -> None:
        """Wait for bytes of the stream, or its end."""
        self._sock.settimeout(max(until - time.monotonic(), 0.0))
        try:
            data = self._sock.recv(_READ_SIZE)
        except BlockingIOError:
            raise TimeoutError from None
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush(self, until: float) -> None:
        _send(self._sock, self._outgoing.read(), until)


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
