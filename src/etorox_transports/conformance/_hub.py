"""Servers for the network in memory: `Hub`, of a `ServerConnection`; `Scripted`, which says bytes; and `Cut`.

`Cut` stands before another server and breaks off what that says at any byte.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, Literal, final

from etorox_proto.signalr import (
    ConnectionTokens,
    Detached,
    InvocationReceived,
    Resumed,
    ServerConfig,
    ServerConnection,
    State,
)
from etorox_proto.testing import Host, HostConnection
from etorox_transports.conformance._memory import MemoryNetwork

__all__ = ["Cut", "Cutting", "Hub", "Scripted"]

# How long after what was said last, in seconds. Before a reset that has to arrive.
_PAUSE, _BEFORE_A_RESET = 1 / 64, 2.0


@final
class Hub:
    """A hub: `say` is answered with `note`, `take` is kept, `part` ends it all after so many `note`s.

    Args:
        options: of `ServerConfig`.

    Attributes:
        heard: the argument of each `take`.
        arrivals: when something came, in seconds, and how many bytes.
    """

    deadline = math.inf

    def __init__(self, **options: Any) -> None:
        self.heard: list[Any] = []
        self.arrivals: list[tuple[float, int]] = []
        self.at: dict[ServerConnection, _HubConnection] = {}
        self._config = ServerConfig(**options)
        self._tokens = ConnectionTokens(f"name-{number}" for number in itertools.count(1))

    def advance(self, now: float) -> None:
        """See `Host.advance`."""

    def accept(self, now: float) -> HostConnection:
        """See `Host.accept`."""
        server = ServerConnection(self._config, tokens=self._tokens, now=now)
        self.at[server] = connection = _HubConnection(self, server)
        return connection

    def note(self, network: MemoryNetwork, *arguments: Any) -> None:
        """Invoke `note` on every client that is there."""
        network.act(lambda: self._note(network.now, arguments))

    def _note(self, now: float, arguments: tuple[Any, ...]) -> None:
        for server in self.at:
            if server.state is State.CONNECTED:
                server.send("note", arguments, now=now)


@final
class _HubConnection:
    """One stream of a `Hub`."""

    def __init__(self, hub: Hub, server: ServerConnection) -> None:
        self._hub = hub
        self._server = server
        self._has_lost = False  # its stream is not the server's any more

    @property
    def closed(self) -> bool:
        return self._has_lost or self._server.state is State.CLOSED

    @property
    def deadline(self) -> float:
        return self._server.deadline

    def receive_data(self, data: bytes, now: float) -> None:
        self._hub.arrivals.append((now, len(data)))
        if not self._has_lost:
            self._server.receive_data(data, now)
            self._answer(now)

    def handle_timeout(self, now: float) -> None:
        self._server.handle_timeout(now)
        self._answer(now)

    def data_to_send(self) -> bytes:
        return b"" if self._has_lost else self._server.data_to_send()

    def close(self, *, allow_reconnect: bool, now: float) -> None:
        self._server.close(allow_reconnect=allow_reconnect, now=now)

    def _answer(self, now: float) -> None:
        while (event := self._server.next_event()) is not None:
            match event:
                case InvocationReceived(target="say"):
                    self._server.send("note", event.arguments, now=now)
                case InvocationReceived(target="take"):
                    self._hub.heard.append(event.arguments[0])
                case InvocationReceived(target="part"):
                    for number in range(event.arguments[0]):
                        self._server.send("note", [number], now=now)
                    self._server.close(error="closed for the night", now=now)
                case Resumed(connection):
                    self._hub.at[connection].receive_data(b"", now)
                    connection.resume(self._server, now=now)
                    self._server, self._hub.at[connection] = connection, self
                case Detached():
                    self._has_lost = True
                case _:
                    pass


@final
class Scripted:
    """A server that says bytes.

    Args:
        says: given all that a client has said on its stream, what to say now; called when something came.
        ends: whether it then ends the stream, if it said something.

    Attributes:
        heard_at: when something came.
    """

    deadline = math.inf

    def __init__(self, says: Callable[[bytes], bytes] = lambda _heard: b"", *, ends: bool = False) -> None:
        self.says = says
        self.ends = ends
        self.heard_at: list[float] = []

    def advance(self, now: float) -> None:
        """See `Host.advance`."""

    def accept(self, now: float) -> HostConnection:
        """See `Host.accept`."""
        del now
        return _ScriptedConnection(self)


@final
class _ScriptedConnection:
    """One stream of a `Scripted`."""

    deadline = math.inf

    def __init__(self, server: Scripted) -> None:
        self.closed = False
        self._server = server
        self._heard = b""
        self._to_say = b""

    def receive_data(self, data: bytes, now: float) -> None:
        self._server.heard_at.append(now)
        self._heard += data
        self._to_say += self._server.says(self._heard)
        self.closed = not data or (self._server.ends and bool(self._to_say))

    def handle_timeout(self, now: float) -> None:
        pass

    def data_to_send(self) -> bytes:
        said, self._to_say = self._to_say, b""
        return said

    def close(self, *, allow_reconnect: bool, now: float) -> None:
        del allow_reconnect, now
        self.closed = True


Cutting = Literal["end", "reset"]


@final
class Cut:
    """A server that is interrupted at a byte of all that it says.

    Args:
        service: the server.
        at: after how many bytes.
        how: the stream ends there, or is reset.

    Attributes:
        said: how many bytes it has said.
        stream: which stream was interrupted, counted from 1; 0 for none.
        struck_at: when the stream was ended or reset, in seconds.
        network: in which streams are reset; to be set.
    """

    def __init__(self, service: Host, at: int, how: Cutting) -> None:
        self.service = service
        self.at = at
        self.how = how
        self.said = 0
        self.stream = 0
        self._streams = 0
        self.struck_at = math.inf
        self.network: MemoryNetwork | None = None

    @property
    def deadline(self) -> float:
        """See `Host.deadline`."""
        return self.service.deadline

    def advance(self, now: float) -> None:
        """See `Host.advance`."""
        self.service.advance(now)

    def accept(self, now: float) -> HostConnection:
        """See `Host.accept`."""
        self._streams += 1
        return _CutConnection(self, self._streams, self.service.accept(now))

    def reset(self) -> None:
        """Reset all streams."""
        assert self.network is not None, "it was set"
        for stream in self.network.listener.streams:
            stream.reset()


@final
class _CutConnection:
    """One stream of a `Cut`."""

    def __init__(self, cut: Cut, number: int, connection: HostConnection) -> None:
        self._cut = cut
        self._number = number
        self._connection = connection
        self._is_cut = False
        self._due = math.inf
        self._now = -math.inf
        self._has_ended = False

    @property
    def closed(self) -> bool:
        return self._has_ended or (self._connection.closed and not self._is_cut)

    @property
    def deadline(self) -> float:
        return min(self._due, self._connection.deadline)

    def receive_data(self, data: bytes, now: float) -> None:
        self._now = now
        self._connection.receive_data(data, now)

    def handle_timeout(self, now: float) -> None:
        self._now = now
        if self._due <= now:
            self._due = math.inf
            self._cut.struck_at = now
            if self._cut.how == "reset":
                self._cut.reset()
            else:
                self._has_ended = True
        self._connection.handle_timeout(now)

    def data_to_send(self) -> bytes:
        cut, data = self._cut, self._connection.data_to_send()
        if self._is_cut:
            return b""
        left = cut.at - cut.said
        if not cut.stream and len(data) > left:
            self._is_cut, cut.stream = True, self._number
            self._due = self._now + (_BEFORE_A_RESET if cut.how == "reset" else _PAUSE)
            data = data[:left]
        cut.said += len(data)
        return data

    def close(self, *, allow_reconnect: bool, now: float) -> None:
        self._connection.close(allow_reconnect=allow_reconnect, now=now)
