"""Servers on a loopback port that follow a script, byte by byte; for what no real server would say."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from loopback import PATIENCE


@contextlib.contextmanager
def scripted(*scripts: Callable[[socket.socket], object]) -> Iterator[str]:
    """A listener that lets each script talk to one byte stream, in turn, and closes it afterwards; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)

        def serve() -> None:
            for script in scripts:
                with listener.accept()[0] as sock:
                    sock.settimeout(PATIENCE)
                    script(sock)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join(2 * PATIENCE)
            assert not thread.is_alive()
