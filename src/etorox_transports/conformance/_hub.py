"""Servers for the network in memory: `Hub`, of a `ServerConnection`; `Scripted`, which says bytes; and `Cut`.

`Cut` stands before another server and breaks off what that says at any byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, final

from etorox_proto.signalr import InvocationReceived, ServerConfig, ServerConnection, ServerEvent
from etorox_proto.testing import Host, HostConnection, HubHost
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
    """

    def __init__(self, **options: Any) -> None:
        self.heard: list[Any] = []
        self._host = HubHost(self._answer, ServerConfig(**options))
        self.accept = self._host.accept
        self.advance = self._host.advance

    @property
    def deadline(self) -> float:
        """See `Host.deadline`."""
        return self._host.deadline

    def note(self, network: MemoryNetwork, *arguments: Any) -> None:
        """Invoke `note` on every client that is there."""
        network.act(lambda: self._note(network.now, arguments))

    def _note(self, now: float, arguments: tuple[Any, ...]) -> None:
        for connection in self._host.connections:
            connection.send("note", arguments, now=now)

    def _answer(self, connection: ServerConnection, event: ServerEvent, now: float) -> None:
        match event:
            case InvocationReceived(target="say"):
                connection.send("note", event.arguments, now=now)
            case InvocationReceived(target="take"):
                self.heard.append(event.arguments[0])
            case InvocationReceived(target="part"):
                for number in range(event.arguments[0]):
                    connection.send("note", [number], now=now)
                connection.close(error="closed for the night", now=now)
            case _:
                pass


@final
class Scripted:
    """A server that says bytes.

    Args:
        says: given all that a client has said on its stream, what to say now; called when something came.
        ends: whether it then ends the stream, if it said something.
    """

    deadline = math.inf

    def __init__(self, says: Callable[[bytes], bytes] = lambda _heard: b"", *, ends: bool = False) -> None:
        self.says = says
        self.ends = ends

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
        del now
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
