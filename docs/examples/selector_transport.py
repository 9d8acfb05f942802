"""A complete transport: non-blocking sockets, plain or TLS, and a selector. See docs/howto/write-a-transport.md."""

from __future__ import annotations

import math
import selectors
import socket
import ssl
import time
from collections.abc import Callable

from etorox_proto import Closed, ConnectionFailed, Dial, ExchangeConnection, ExchangeEvent

SEND_TIMEOUT = 5.0
"""How long a peer that does not read may hold up what we send, in seconds."""


class SelectorTransport:
    """Drives one connection to its end."""

    def __init__(self, connection: ExchangeConnection, tls: ssl.SSLContext | None = None) -> None:
        self._connection = connection
        self._tls = tls or ssl.create_default_context()
        self._socket: socket.socket | None = None
        self._unsent = b""
        self._send_by = math.inf  # finite while something waits to be sent
        self._broken: OSError | None = None

    def run(self, deliver: Callable[[ExchangeEvent], None]) -> ConnectionFailed | None:
        """Run until the connection ends.

        Args:
            deliver: gets every event but `Dial` and `Closed`. It may call commands of the connection.

        Returns:
            Why it ended, with the socket's own error as its cause; None if our own `close` ended it.
        """
        try:
            while True:
                self._flush()
                match self._connection.next_event():
                    case None:
                        self._wait()
                    case Dial() as dial:
                        self._open(dial)
                    case Closed(error):
                        self._flush()
                        if error is not None:
                            error.__cause__ = self._broken
                        return error
                    case event:
                        deliver(event)
        finally:
            self._drop()

    def _open(self, dial: Dial) -> None:
        self._drop()
        timeout = self._connection.deadline - time.monotonic()
        try:
            sock = socket.create_connection((dial.host, dial.port), timeout=max(timeout, 0.001))
            self._socket = sock
            if dial.tls:
                self._socket = self._tls.wrap_socket(sock, server_hostname=dial.server_name)
        except OSError as error:
            self._broken = error
            self._connection.handle_timeout(time.monotonic())  # it knows what was too late, if that was the reason
            self._ended()
        else:
            self._socket.setblocking(False)
            self._connection.stream_opened(time.monotonic())

    def _flush(self) -> None:
        """Send what the socket takes now; the rest waits for it to become writable, but not for ever."""
        if not self._unsent:
            # No more is taken out of the machine than the socket accepts: the machine has a limit on what waits.
            self._unsent = self._connection.data_to_send()
            self._send_by = time.monotonic() + SEND_TIMEOUT if self._unsent else math.inf
        if self._socket is None or not self._unsent:
            return
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError as error:
            self._broken = error
            self._ended()
        else:
            self._send_by = math.inf

    def _wait(self) -> None:
        """Wait for the socket until the deadline, and tell the machine what happened."""
        if self._socket is None:
            return  # `_ended` has told the machine, whose events come first
        patience = min(min(self._connection.deadline, self._send_by) - time.monotonic(), 3600.0)
        # TLS may hold decrypted bytes that no selector knows of.
        has_bytes = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0
        if not has_bytes:
            with selectors.DefaultSelector() as selector:
                writable = selectors.EVENT_WRITE if self._unsent else 0
                selector.register(self._socket, selectors.EVENT_READ | writable)
                ready = selector.select(max(patience, 0.0))
            has_bytes = any(mask & selectors.EVENT_READ for _, mask in ready)
        if has_bytes:
            self._read()
        elif self._send_by <= time.monotonic():
            self._broken = TimeoutError("the peer does not read")
            self._ended()
        elif self._connection.deadline <= time.monotonic():
            self._connection.handle_timeout(time.monotonic())

    def _read(self) -> None:
        assert self._socket is not None, "only a socket becomes readable"
        try:
            data = self._socket.recv(65_536)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self._broken = error
            data = b""
        if data:
            self._connection.receive_data(data, time.monotonic())
        else:
            self._ended()

    def _ended(self) -> None:
        """The stream has ended, however: say so once."""
        self._drop()
        self._connection.receive_data(b"", time.monotonic())

    def _drop(self) -> None:
        self._unsent, self._send_by = b"", math.inf
        if self._socket is not None:
            self._socket.close()
            self._socket = None
