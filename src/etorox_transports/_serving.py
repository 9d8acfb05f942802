"""What every server does the same way: its limits, its socket, its names, and what it says of a handler that failed.

The servers themselves are in `_blocking` and `_async`; nothing here waits.
"""

from __future__ import annotations

import errno
import logging
import math
import secrets
import socket
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from etorox_proto import LocalProtocolError
from etorox_proto.signalr import ConnectionTokens, State

__all__ = [
    "IS_UP",
    "LOGGER",
    "ServeLimits",
    "ServedMachine",
    "failure_text",
    "is_shortage",
    "new_tokens",
    "open_listener",
]

LOGGER = logging.getLogger("etorox_transports.server")
"""Where failures of handlers and of accepting are told; they end nothing but what they concern."""

IS_UP = frozenset({State.CONNECTED, State.RESUMING})
"""While a client takes calls and answers; while it is resuming they wait for its next stream."""

# Of files, buffers or memory: it passes, and until then every attempt to accept fails at once.
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_BACKLOG = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeLimits:
    """How much a server takes on. Times are seconds. What one message may hold is in `ServerConfig.limits`.

    Attributes:
        connections: byte streams at once, those that only negotiate included. More are not accepted before one has
            ended; they wait in the system's queue.
            With stateful reconnect as many clients may wait for their next stream besides; of more, the oldest
            is given up.
        idle_timeout: the longest silence of a client, whatever it is doing. By default none counts but that of
            `ServerConfig`, which never gives up a client that does not ping, as old ones do not.
        send_timeout: how long a client that does not read may hold up what is sent to it; it is then dropped.
        shutdown_timeout: how long leaving waits for the clients' goodbyes; `ServerConfig.close_timeout` may be shorter.
        room: bytes that may wait for a client. While there are more, it is not read, and who sends to it waits where
            waiting is possible.
        waiting_calls: calls and upload items that may wait for the handler of one connection, which is not read while
            there are more. The blocking server has no such queue.
        handler_grace: how long a handler may go on when its connection has ended; it is then cancelled. The blocking
            server waits for none.
    """

    connections: int = 1_000
    idle_timeout: float = math.inf
    send_timeout: float = 30.0
    shutdown_timeout: float = 5.0
    room: int = 262_144
    waiting_calls: int = 100
    handler_grace: float = 1.0

    def __post_init__(self) -> None:
        for name in ("connections", "room", "waiting_calls"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise LocalProtocolError(f"expected ServeLimits.{name} to be an integer from 1 upwards, got {value!r}")
        for name in ("idle_timeout", "send_timeout", "shutdown_timeout", "handler_grace"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and value > 0):
                raise LocalProtocolError(f"expected ServeLimits.{name} to be more than 0 seconds, got {value!r}")


class ServedMachine(Protocol):
    """The server's side of one byte stream, open from the start, as the loops here drive it. Its inputs never raise.

    `ServerConnection` is one, and so is the `SimulatorConnection` of the embedded exchange.
    """

    @property
    def closed(self) -> bool:
        """Whether the stream is to be closed, once what waits in `data_to_send` is flushed."""
        ...

    @property
    def deadline(self) -> float:
        """When `handle_timeout` must be called next."""
        ...

    @property
    def queued_bytes(self) -> int:
        """How many bytes wait in `data_to_send`."""
        ...

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes came from the stream; `b""` means that it ended."""
        ...

    def handle_timeout(self, now: float) -> None:
        """`deadline` has come."""
        ...

    def data_to_send(self) -> bytes:
        """All bytes that wait to be sent; they are handed out once."""
        ...

    def close(self, *, allow_reconnect: bool, now: float) -> None:
        """Say goodbye, as a server does that is being stopped."""
        ...


def open_listener(host: str, port: int) -> socket.socket:
    """A socket that listens, and does not block.

    Raises:
        OSError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    listener.setblocking(False)
    return listener


def is_shortage(error: BaseException) -> bool:
    """Whether accepting failed for want of something, and so will the next attempt; else one client has gone."""
    return isinstance(error, OSError) and error.errno in _SHORTAGES


def new_tokens() -> ConnectionTokens:
    """A table for the streams of one server, whose names nobody can guess."""
    return ConnectionTokens(iter(partial(secrets.token_urlsafe, 16), None))


def failure_text(target: str, error: Exception, *, detailed: bool) -> str:
    """What a client is told of a method that failed, in the words of the official server.

    Args:
        target: the method.
        error: what it raised.
        detailed: whether the client may know.
    """
    text = f"An unexpected error occurred invoking '{target}' on the server."
    return f"{text} {type(error).__name__}: {error}" if detailed else text
