"""`HubHost`: any SignalR hub on a virtual network; a function of the test says what the hub does.

It drives a `ServerConnection` for each byte stream, and hands those over whose clients come back on another one. It
knows no methods of a hub, and no clock.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable
from typing import final

from etorox_proto.signalr import (
    Closed,
    Connected,
    ConnectionClosed,
    ConnectionTokens,
    Detached,
    Resumed,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    State,
)
from etorox_proto.testing._hosts import HostConnection

__all__ = ["HubHost"]


@final
class HubHost:
    """A SignalR hub; give it to `VirtualNetwork.listen`.

    Args:
        handle: called with the machine of a client, an event of it, and the time in seconds: `Connected` first,
            `Closed` last. It answers with commands to that machine, or to any other of `connections`. `Detached` and
            `Resumed` are seen to and not shown. `ConnectionClosed` from it is ignored, as the client has left; anything
            else ends the run of the network, and so the test.
        config: of the machines.
    """

    def __init__(
        self, handle: Callable[[ServerConnection, ServerEvent, float], object], config: ServerConfig | None = None
    ) -> None:
        self._handle = handle
        self._config = ServerConfig() if config is None else config
        self._tokens = ConnectionTokens(f"connection-{number}" for number in itertools.count(1))
        # On which stream a client is that has connected; None while it may come back on another one.
        self._streams: dict[ServerConnection, _HubStream | None] = {}
        self._is_due = False

    def __repr__(self) -> str:
        return f"<HubHost: {len(self.connections)} connections>"

    @property
    def connections(self) -> list[ServerConnection]:
        """The machines of the clients that are there, or may come back, oldest first."""
        return [server for server in self._streams if server.state in {State.CONNECTED, State.RESUMING}]

    # ----------------------------------------------------------------------------------------- for the network

    @property
    def deadline(self) -> float:
        """When `advance` must be called next; `math.inf` for never."""
        if self._is_due or any(server.state is State.CLOSED for server in self._streams):
            return -math.inf
        return min((server.deadline for server, stream in self._streams.items() if stream is None), default=math.inf)

    def advance(self, now: float) -> None:
        """See to those that wait for their clients, and to what was done to others."""
        self._is_due = False
        for server, stream in list(self._streams.items()):
            server.handle_timeout(now)
            self._settle(server, stream, now)

    def accept(self, now: float) -> HostConnection:
        """A client has opened a byte stream."""
        return _HubStream(ServerConnection(self._config, tokens=self._tokens, now=now), self._settle)

    def _settle(self, server: ServerConnection, stream: _HubStream | None, now: float) -> None:
        """Take what a machine has to say, on its stream if it has one."""
        while (event := server.next_event()) is not None:
            self._is_due = True  # what comes of it may concern any stream
            match event:
                case Resumed(earlier) if stream is not None:
                    self._hand_over(earlier, server, stream, now)
                case Detached() if stream is not None:
                    stream.server = self._streams[server] = None
                case Connected():
                    self._streams[server] = stream
                    self._show(server, event, now)
                case Closed() if server in self._streams:
                    del self._streams[server]
                    self._show(server, event, now)
                case _ if server in self._streams:
                    self._show(server, event, now)
                case _:
                    pass  # it negotiated and no more, or came to nothing

    def _show(self, server: ServerConnection, event: ServerEvent, now: float) -> None:
        with contextlib.suppress(ConnectionClosed):
            self._handle(server, event, now)

    def _hand_over(self, earlier: ServerConnection, arrival: ServerConnection, stream: _HubStream, now: float) -> None:
        earlier.receive_data(b"", now)  # it may have its old stream still
        self._settle(earlier, self._streams.get(earlier), now)
        with contextlib.suppress(ConnectionClosed):  # which would end this stream as well
            earlier.resume(arrival, now=now)
            stream.server, self._streams[earlier] = earlier, stream
            self._settle(earlier, stream, now)


@final
class _HubStream:
    """One byte stream of a `HubHost`: a `HostConnection`.

    Args:
        server: the machine that talks on it.
        settle: called with a machine that was told something, this stream, and the time.

    Attributes:
        server: the same, or the one whose client has come back on this stream; None once that is elsewhere.
    """

    def __init__(
        self, server: ServerConnection, settle: Callable[[ServerConnection, _HubStream, float], object]
    ) -> None:
        self.server: ServerConnection | None = server
        self._settle = settle

    @property
    def closed(self) -> bool:
        """See `HostConnection.closed`."""
        return self.server is None or self.server.state is State.CLOSED

    @property
    def deadline(self) -> float:
        """See `HostConnection.deadline`."""
        return math.inf if self.server is None else self.server.deadline

    def receive_data(self, data: bytes, now: float) -> None:
        """See `HostConnection.receive_data`."""
        if self.server is not None:
            self.server.receive_data(data, now)
            self._settle(self.server, self, now)

    def handle_timeout(self, now: float) -> None:
        """See `HostConnection.handle_timeout`."""
        if self.server is not None:
            self.server.handle_timeout(now)
            self._settle(self.server, self, now)

    def data_to_send(self) -> bytes:
        """See `HostConnection.data_to_send`."""
        return b"" if self.server is None else self.server.data_to_send()

    def close(self, *, allow_reconnect: bool, now: float) -> None:
        """See `HostConnection.close`."""
        if self.server is not None:
            self.server.close(allow_reconnect=allow_reconnect, now=now)
