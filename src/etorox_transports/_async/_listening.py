"""What the asynchronous servers need of a library beside what clients need: accepting streams.

`etorox_transports.trio` and `etorox_transports.anyio` have one `ServerBackend` each. `Acceptance` is the task that
accepts; it knows sockets and how they fail, and nothing of what is said on them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol, final

from etorox_transports._async._backend import AsyncByteStream, Backend, Event, reason
from etorox_transports._async._lane import wait_until
from etorox_transports._serving import LOGGER, is_shortage

__all__ = ["Acceptance", "Acceptor", "ServerBackend", "SocketStream"]

# How long to leave the listener alone after it failed, as it does while there are no files left, in seconds.
_PAUSE = 0.1


class SocketStream(AsyncByteStream, Protocol):
    """A byte stream over a socket, plain or TLS."""

    async def send_eof(self) -> None:
        """End our side of it; reading goes on."""
        ...


class Acceptor(Protocol):
    """A listening socket; of trio or anyio."""

    async def accept(self) -> SocketStream:
        """Wait for a client."""
        ...

    async def aclose(self) -> None:
        """Listen no longer."""
        ...


class ServerBackend(Backend, Protocol):
    """One library, for a server."""

    async def listen(self, sock: socket.socket) -> Acceptor:
        """Accept from this socket, which listens already."""
        ...


@final
class Acceptance:
    """Accepts clients, while there are not too many.

    Args:
        backend: the library.
        has_room: whether there may be one more.
        welcome: gets each.
    """

    def __init__(
        self, backend: ServerBackend, has_room: Callable[[], bool], welcome: Callable[[SocketStream], None]
    ) -> None:
        self._backend = backend
        self._has_room = has_room
        self._welcome = welcome
        self._room: Event | None = None

    def look_for_room(self) -> None:
        """A client has left."""
        if self._room is not None and self._has_room():
            self._room.set()

    async def run(self, acceptor: Acceptor) -> None:
        """Accept, for ever. Nothing that goes wrong ends it, or makes it spin."""
        backend = self._backend
        while True:
            while not self._has_room():
                self._room = backend.new_event()
                await self._room.wait()
            try:
                stream = await acceptor.accept()
            except Exception as error:  # noqa: BLE001 - such as a client that went away before we came
                if is_shortage(below := reason(error)):
                    LOGGER.warning("could not accept a client: %s", below)
                await wait_until(backend, backend.new_event(), backend.now() + _PAUSE)
            else:
                self._welcome(stream)
