"""A server for one client, that lets a script talk behind TLS's handshake or instead of it.

For tests of how streams are opened, read and broken; it knows nothing of what the adapters send.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import trustme

from etorox_proto import Dial

AUTHORITY = trustme.CA()
PATIENCE = 10.0


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


@contextlib.contextmanager
def talking(
    script: Callable[[Any], Any], *, raw: Callable[[socket.socket], Any] | None = None, tls: bool = True
) -> Iterator[Dial]:
    """A server on a port that lets a script talk to one client, behind TLS's handshake; `raw` instead of both."""
    listener = socket.create_server(("127.0.0.1", 0))
    context = server_context()

    def serve() -> None:
        sock = listener.accept()[0]
        sock.settimeout(PATIENCE)
        with contextlib.suppress(OSError):
            if raw is not None:
                raw(sock)
            elif not tls:
                script(sock)
            else:
                with context.wrap_socket(sock, server_side=True) as secured:
                    script(secured)
        sock.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Dial("127.0.0.1", listener.getsockname()[1], tls=tls, server_name="localhost")
    finally:
        thread.join(PATIENCE)
        listener.close()


def break_off(tls: ssl.SSLSocket, last: bytes, *, reset: bool) -> None:
    """Say something, then bytes that are no TLS."""
    tls.sendall(b"good words")
    plain = socket.socket(fileno=tls.detach())
    plain.sendall(last)
    if reset:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        plain.settimeout(PATIENCE)
        with contextlib.suppress(OSError):
            while plain.recv(1_000):
                pass
    plain.close()


def nothing(_: object) -> None:
    """A script that says nothing."""
