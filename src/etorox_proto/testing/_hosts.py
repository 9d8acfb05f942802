"""Hosts: what a virtual network expects of a server, and `Listener`, the address at which one is reached.

`Host` and `HostConnection` are protocols: `FakeExchange`, `simulator.Simulator` and any server of yours fit. `HostEnd`
drives one connection of a host, as an adapter of sockets would. Dialling arrives at `Listener.answer`.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol, final

from etorox_proto.signalr import LocalProtocolError
from etorox_proto.testing._clock import Rank
from etorox_proto.testing._link import Link
from etorox_proto.testing._pipe import Pipe
from etorox_proto.testing._stream import Stream
from etorox_proto.testing._world import Dialing, World

__all__ = ["Host", "HostConnection", "HowToStop", "Listener"]

HowToStop = Literal["reset", "end", "goodbye"]
"""What becomes of the open streams of a server that stops."""


class HostConnection(Protocol):
    """A server's side of one byte stream, open from the start. Its inputs never raise."""

    @property
    def closed(self) -> bool:
        """Whether the stream is to be closed, once what waits in `data_to_send` is flushed."""
        ...

    @property
    def deadline(self) -> float:
        """When `handle_timeout` must be called next; `math.inf` for never. Read anew after each call."""
        ...

    def receive_data(self, data: bytes, now: float, /) -> None:
        """Bytes came from the stream; `b""` means that it ended."""
        ...

    def handle_timeout(self, now: float, /) -> None:
        """`deadline` has come."""
        ...

    def data_to_send(self) -> bytes:
        """All bytes that wait to be sent; they are handed out once."""
        ...

    def close(self, *, allow_reconnect: bool, now: float) -> None:
        """Say goodbye, as a server does that is being stopped."""
        ...


class Host(Protocol):
    """A server: it accepts streams, and it may have things to do at times of its own."""

    @property
    def deadline(self) -> float:
        """When `advance` must be called next; `math.inf` for never.

        It is read after every call into the host or one of its connections. One that has something to send on other
        connections than the one just driven gives a time that has come, and all of them are looked at.
        """
        ...

    def advance(self, now: float, /) -> object:
        """`deadline` has come; what is returned does not matter."""
        ...

    def accept(self, now: float, /) -> HostConnection:
        """A client has opened a byte stream."""
        ...


class _HostEnd:
    """Drives one connection of a host.

    Args:
        world: the network's.
        listener: whose connection it is.
        connection: the server's machine.
        stream: what it talks on.
        incoming: what the client sends.
        outgoing: what the client receives.
    """

    def __init__(
        self,
        world: World,
        listener: Listener,
        connection: HostConnection,
        stream: Stream,
        *,
        incoming: Pipe,
        outgoing: Pipe,
    ) -> None:
        self._world = world
        self._listener = listener
        self.connection = connection
        self.stream = stream
        self._incoming = incoming
        self._outgoing = outgoing
        self._wakeup = world.clock.wakeup(self._time_out, Rank.DEADLINE)
        world.add(self)

    def receive(self, data: bytes) -> None:
        self.connection.receive_data(data, self._world.clock.now)
        self.settle()
        self._listener.settle()

    def _time_out(self) -> None:
        self.connection.handle_timeout(self._world.clock.now)
        self.settle()
        self._listener.settle()

    def settle(self) -> None:
        connection, outgoing = self.connection, self._outgoing
        if connection.closed:
            outgoing.send(connection.data_to_send())
            outgoing.end()
            self._incoming.abandon()
            self._wakeup.set(math.inf)
            self._world.remove(self)
            self._world.closed(self.stream)
            self._listener.closed(self)
            return
        # What does not fit stays with the server, which may have a limit on it.
        if not outgoing.is_full and (data := connection.data_to_send()):
            outgoing.send(data)
        self._wakeup.set(connection.deadline)


@final
class Listener:
    """A host's address; made by `VirtualNetwork.listen`. What goes wrong with a server is done here.

    Args:
        world: the network's.
        host: the name.
        port: the port.
        service: the server.
        link: what lies between clients and this host.

    Attributes:
        host: the name under which it is dialled.
        port: the port.
        service: the server.
        link: what lies between clients and this host; a new one counts for streams that are opened from then on.
    """

    def __init__(self, world: World, host: str, port: int, service: Host, link: Link) -> None:
        self._world = world
        self.host = host
        self.port = port
        self.service = service
        self.link = link
        self._ends: dict[_HostEnd, None] = {}
        self._wakeup = world.clock.wakeup(self._advance, Rank.DEADLINE)
        self.accept_dials()
        world.add(self)

    def __repr__(self) -> str:
        return f"<Listener at {self.host} port {self.port}: {len(self._ends)} streams>"

    @property
    def streams(self) -> list[Stream]:
        """The streams that the host has not closed, oldest first."""
        return [end.stream for end in self._ends]

    # ------------------------------------------------------------------------------------------------ faults

    def refuse_dials(self, seconds: float = math.inf) -> None:
        """Refuse every dial for so long; streams that are open go on."""
        self._refusing_until = self._world.clock.now + seconds

    def ignore_dials(self, seconds: float = math.inf) -> None:
        """Answer no dial for so long; those that wait until then are answered."""
        self._ignoring_until = self._world.clock.now + seconds

    def fail_tls(self, seconds: float = math.inf, *, may_retry: bool = False) -> None:
        """Fail the TLS of every encrypted dial for so long.

        Args:
            seconds: how long.
            may_retry: what the error says; adapters say False, since a certificate does not mend itself.
        """
        self._failing_tls_until = self._world.clock.now + seconds
        self._tls_may_retry = may_retry

    def accept_dials(self) -> None:
        """Accept every dial from now on."""
        self._refusing_until = self._ignoring_until = self._failing_tls_until = -math.inf
        self._tls_may_retry = False

    def restart(self, down_for: float, *, how: HowToStop = "reset") -> None:
        """Stop the server and start it again; its state is kept.

        Args:
            down_for: seconds in which dials are refused.
            how: what becomes of open streams: they are reset, as when a process is killed; they end, as when it
                exits; or each client is told goodbye and invited to come back.
        """
        self.refuse_dials(down_for)
        for end in list(self._ends):
            if how == "reset":
                end.stream.reset()
            elif how == "end":
                end.stream.end()
            else:
                end.connection.close(allow_reconnect=True, now=self._world.clock.now)
                end.settle()

    # ------------------------------------------------------------------------------------- for the network

    def settle(self) -> None:
        """See when the server has something to do."""
        self._wakeup.set(self.service.deadline)

    def closed(self, end: _HostEnd) -> None:
        """One of its connections has ended."""
        self._ends.pop(end, None)

    def answer(self, dialing: Dialing) -> None:
        """A client's first packet has come: open the stream, fail, or leave it unanswered."""
        now = self._world.clock.now
        if now < self._ignoring_until:
            dialing.try_again_at(self._ignoring_until)
        elif now < self._refusing_until:
            dialing.fail("refused", may_retry=True)
        elif dialing.dial.tls and now < self._failing_tls_until:
            dialing.fail("tls", may_retry=self._tls_may_retry)
        else:
            self._open(dialing)

    def _open(self, dialing: Dialing) -> None:
        world, caller = self._world, dialing.caller
        now = world.clock.now
        to_client, to_server = world.pipe(self.link), world.pipe(self.link)
        world.opened += 1
        stream = Stream(world.opened, self.host, self.port, now, to_client=to_client, to_server=to_server)
        world.streams[stream] = None
        connection = self.service.accept(now)
        end = _HostEnd(world, self, connection, stream, incoming=to_server, outgoing=to_client)
        self._ends[end] = None
        to_client.join(caller.receive, end.settle)
        to_server.join(end.receive, caller.settle)
        end.settle()
        self.settle()
        caller.stream_opened(stream, incoming=to_client, outgoing=to_server)

    def _advance(self) -> None:
        self.service.advance(self._world.clock.now)
        # It may have something for any of its connections, here and at other addresses.
        self._world.touch()


def check_address(host: str, port: int) -> tuple[str, int]:
    """The address in the form in which machines dial it.

    Raises:
        LocalProtocolError: that is none.
    """
    if not host or not 0 < port < 65_536:
        raise LocalProtocolError(f"expected a host and a port from 1 to 65535, got {host!r} and {port!r}")
    return host.lower(), port
