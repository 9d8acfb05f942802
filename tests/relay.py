"""A relay of byte streams on loopback that can be cut: a network that fails between two programs of ours."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Self


class Relay:
    """Passes bytes on to a port, both ways, in a thread of its own; used with `with`.

    Args:
        port: where the other program listens.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake_up, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._other: dict[socket.socket, socket.socket] = {}
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="relay")
        self.accepted = 0

    @property
    def port(self) -> int:
        """Where clients connect instead."""
        return self._port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def cut(self) -> None:
        """End all streams at once, in the middle of whatever they carry."""
        for sock in list(self._other):
            with contextlib.suppress(OSError):  # it ended by itself
                sock.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Cut, and be reachable no more. Calling it again does nothing."""
        if self._thread.is_alive():
            self._is_stopping = True
            self.cut()
            self._wake_up.send(b"!")
            self._thread.join()
            for sock in (self._listener, self._wake_up, self._woken, *self._other):
                sock.close()
            self._selector.close()

    def _run(self) -> None:
        while not self._is_stopping:
            for key, _ in self._selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._listener:
                    self._accept()
                elif sock in self._other:
                    self._pass_on(sock)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        self.accepted += 1
        for sock, other in ((near, far), (far, near)):
            self._other[sock] = other
            self._selector.register(sock, selectors.EVENT_READ)

    def _pass_on(self, sock: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = sock.recv(65_536)
        try:
            if data:
                self._other[sock].sendall(data)
                return
        except OSError:
            pass
        self._end(sock)

    def _end(self, sock: socket.socket) -> None:
        other = self._other.pop(sock, None)
        if other is not None:
            self._selector.unregister(sock)
            sock.close()
            self._end(other)
