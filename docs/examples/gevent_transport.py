"""A transport for gevent: one greenlet for each connection, cooperative sockets, nothing monkey-patched.

Knows sockets, greenlets and time; everything about the protocol is in the machine. See docs/howto/embed.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
from gevent import socket, ssl

from etorox_proto import Closed, ConnectionFailed, Dial, ExchangeConnection, ExchangeEvent

SEND_TIMEOUT = 5.0
"""How long a peer that does not read may hold up what we send, in seconds."""


def new_tls_context() -> Any:
    """TLS with the system's authorities, certificate and name verified.

    `ssl.create_default_context` will not do, not even that of `gevent.ssl`: its sockets would block every greenlet.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    return context


class GeventTransport:
    """Drives one connection to its end.

    Args:
        connection: a new one, made with `time.monotonic()` as its clock.
        tls: a `gevent.ssl.SSLContext`; by default `new_tls_context`.
    """

    def __init__(self, connection: ExchangeConnection, tls: Any = None) -> None:
        self._connection = connection
        self._tls = tls or new_tls_context()
        self._socket: Any = None
        self._readable: Any = None
        self._stirred = gevent.event.Event()
        self._broken: OSError | None = None

    def run(self, deliver: Callable[[ExchangeEvent], None]) -> ConnectionFailed | None:
        """Run until the connection ends: `gevent.spawn(transport.run, deliver)`. To cancel it, kill the greenlet.

        Args:
            deliver: gets every event but `Dial` and `Closed`. It may give commands to the connection, and may switch to
                other greenlets.

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

    def wake(self) -> None:
        """Call it after a command that was not given by `deliver`: from another greenlet of the same thread."""
        self._stirred.set()

    def _open(self, dial: Dial) -> None:
        self._drop()
        patience = max(self._connection.deadline - time.monotonic(), 0.0)
        try:
            with gevent.Timeout(patience, TimeoutError("not connected in time")):  # all of it, look-up and TLS included
                self._socket = socket.create_connection((dial.host, dial.port))
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if dial.tls:
                    self._socket = self._tls.wrap_socket(
                        self._socket, server_hostname=dial.server_name, do_handshake_on_connect=False
                    )
                    self._socket.do_handshake()  # when it is ours to close, if the greenlet is killed meanwhile
        except OSError as error:
            self._connection.handle_timeout(time.monotonic())  # it knows what was too late, if that was the reason
            self._ended(error)
        else:
            self._readable = gevent.get_hub().loop.io(self._socket.fileno(), 1)  # 1: to read
            self._readable.start(self._stirred.set)
            self._connection.stream_opened(time.monotonic())

    def _flush(self) -> None:
        data = self._connection.data_to_send()
        if self._socket is None or not data:
            return
        try:
            with gevent.Timeout(SEND_TIMEOUT, TimeoutError("the peer does not read")):
                self._socket.settimeout(None)
                self._socket.sendall(data)
        except OSError as error:
            self._ended(error)  # half a message may be on its way

    def _wait(self) -> None:
        """Wait for bytes, a `wake` or the deadline, and tell the machine what happened."""
        if self._socket is None:
            return  # `_ended` has told the machine, whose events come first
        patience = self._connection.deadline - time.monotonic()
        self._stirred.wait(min(max(patience, 0.0), 3600.0))
        self._stirred.clear()
        try:
            # Whatever woke us: bytes that have arrived are signs of life and come before the deadline.
            self._socket.settimeout(0.0)
            data = self._socket.recv(65_536)
        except (BlockingIOError, ssl.SSLWantReadError):
            self._connection.handle_timeout(time.monotonic())  # too early does nothing
        except OSError as error:
            self._ended(error)
        else:
            if data:
                self._connection.receive_data(data, time.monotonic())
            else:
                self._ended(None)

    def _ended(self, error: OSError | None) -> None:
        """The stream has ended, or could not be opened: say so once."""
        self._drop()
        self._broken = error
        self._connection.receive_data(b"", time.monotonic())

    def _drop(self) -> None:
        if self._readable is not None:
            self._readable.stop()
            self._readable.close()
            self._readable = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
