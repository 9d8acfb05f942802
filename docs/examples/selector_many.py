"""Many connections in one thread: non-blocking sockets, plain or TLS, one selector, one heap of deadlines.

Knows sockets and time; everything about the protocol is in the machines. It connects and shakes hands without blocking,
but `getaddrinfo` blocks: give addresses, or resolve names beforehand, if the other connections cannot wait for that.
See docs/howto/embed.md.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import math
import os
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterator

from etorox_proto import Closed, Dial, ExchangeConnection, ExchangeEvent

SEND_TIMEOUT = 5.0
"""How long a peer that does not read may hold up what we send, in seconds."""

READ_SIZE = 65_536
"""More than a TLS record, so that nothing stays behind in the TLS layer, where the selector would not see it."""


class _Peer:
    """One connection and its socket; what it knows of time is in `alarm`, the entry of the heap that counts."""

    def __init__(self, connection: ExchangeConnection, deliver: Callable[[ExchangeEvent], None]) -> None:
        self.connection = connection
        self.deliver = deliver
        self.sock: socket.socket | None = None
        self.watched: tuple[socket.socket, int] | None = None
        self.opening: Iterator[int] | None = None
        self.unsent = b""
        self.send_by = math.inf
        self.alarm = math.inf
        self.broken: Exception | None = None


class ManyConnections:
    """Drives any number of connections; all calls come from one thread.

    Args:
        tls: how to verify the exchange; by default the system's authorities.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls or ssl.create_default_context()
        self._selector = selectors.DefaultSelector()
        self._peers: dict[ExchangeConnection, _Peer] = {}
        self._woken: dict[ExchangeConnection, None] = {}  # a set that keeps its order
        self._alarms: list[tuple[float, int, _Peer]] = []
        self._numbers = itertools.count()

    def add(self, connection: ExchangeConnection, deliver: Callable[[ExchangeEvent], None]) -> None:
        """Drive this connection too, from the next turn of `run` on.

        Args:
            connection: a new one, made with `time.monotonic()` as its clock.
            deliver: gets every event but `Dial`; `Closed` is the last, with the socket's own error as its cause. It
                may give commands to its connection, and to another one if it calls `wake` for that.
        """
        self._peers[connection] = _Peer(connection, deliver)
        self.wake(connection)

    def wake(self, connection: ExchangeConnection) -> None:
        """Call it after a command that was not given by the connection's own `deliver`; it is sent on the next turn."""
        self._woken[connection] = None

    def run(self) -> None:
        """Run until every connection has ended. What a `deliver` raises comes out here, and closes all sockets."""
        try:
            while True:
                while self._woken:
                    woken = self._peers.get(self._woken.popitem()[0])
                    if woken is not None:
                        self._drain(woken)
                if not self._peers:
                    return
                self._turn()
        finally:
            for peer in self._peers.values():
                self._drop(peer)
            self._peers.clear()
            self._selector.close()

    def _turn(self) -> None:
        """Wait for sockets until the earliest alarm; read and write, once each, and then see to the alarms."""
        patience = self._alarms[0][0] - time.monotonic() if self._alarms else math.inf
        ready = self._selector.select(min(max(patience, 0.0), 3600.0))
        # Who is due by now has been looked at. Who falls due while callbacks run has not, and waits for the next turn.
        now = time.monotonic()
        for key, mask in ready:
            peer: _Peer = key.data
            if peer.watched is None or peer.watched[0] is not key.fileobj:
                continue  # dropped earlier in this turn
            if peer.opening is not None:
                self._go_on_opening(peer)
            elif mask & selectors.EVENT_READ:
                self._read(peer)
            self._drain(peer)
        while self._alarms and self._alarms[0][0] <= now:
            when, _, peer = heapq.heappop(self._alarms)
            if when != peer.alarm:
                continue  # an earlier alarm took its place
            peer.alarm = math.inf
            if peer.send_by <= now:
                self._ended(peer, TimeoutError("the peer does not read"))
            peer.connection.handle_timeout(now)  # too early does nothing: the deadline may have moved meanwhile
            self._drain(peer)

    def _drain(self, peer: _Peer) -> None:
        """Flush and take events until there are none, then say what to wait for."""
        while True:
            self._flush(peer)
            match peer.connection.next_event():
                case None:
                    break
                case Dial() as dial:
                    self._drop(peer)
                    peer.opening = self._open(peer, dial)
                    self._go_on_opening(peer)
                case Closed(error) as closed:
                    self._drop(peer)
                    del self._peers[peer.connection]
                    if error is not None:
                        error.__cause__ = peer.broken
                    peer.deliver(closed)
                    return
                case event:
                    peer.deliver(event)
        if peer.opening is None:
            self._watch(peer, selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.unsent else 0))
        # Only an earlier alarm is a new one. Deadlines mostly move away, and then the old alarm finds nothing to do.
        when = min(peer.connection.deadline, peer.send_by)
        if when < peer.alarm:
            peer.alarm = when
            heapq.heappush(self._alarms, (when, next(self._numbers), peer))

    def _open(self, peer: _Peer, dial: Dial) -> Iterator[int]:
        """Open what was asked for; yields what to wait for on the way."""
        failed = OSError(f"{dial.host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(dial.host, dial.port, type=socket.SOCK_STREAM):
            peer.sock = sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            code = sock.connect_ex(address)
            if code in {errno.EINPROGRESS, errno.EWOULDBLOCK}:
                yield selectors.EVENT_WRITE
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not code:
                break
            failed = OSError(code, os.strerror(code))
            sock.close()
        else:
            raise failed
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if dial.tls:
            peer.sock = secure = self._tls.wrap_socket(
                sock, server_hostname=dial.server_name, do_handshake_on_connect=False
            )
            while True:
                try:
                    secure.do_handshake()
                    return
                except ssl.SSLWantReadError:
                    yield selectors.EVENT_READ
                except ssl.SSLWantWriteError:
                    yield selectors.EVENT_WRITE

    def _go_on_opening(self, peer: _Peer) -> None:
        assert peer.opening is not None, "only while it is being opened"
        self._watch(peer, 0)
        try:
            mask = next(peer.opening, None)
        except (OSError, UnicodeError) as error:  # a name that no resolver can be asked for is a UnicodeError
            self._ended(peer, error)
            return
        if mask is None:
            peer.opening = None
            peer.connection.stream_opened(time.monotonic())
        else:
            self._watch(peer, mask)

    def _flush(self, peer: _Peer) -> None:
        """Send what the socket takes now. What comes behind that stays in the machine, which knows its limits."""
        if peer.sock is None or peer.opening is not None:
            return
        try:
            while data := peer.unsent or peer.connection.data_to_send():
                peer.unsent, peer.send_by = data, min(peer.send_by, time.monotonic() + SEND_TIMEOUT)
                peer.unsent = data[peer.sock.send(data) :]
            peer.send_by = math.inf
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            self._ended(peer, error)

    def _read(self, peer: _Peer) -> None:
        assert peer.sock is not None, "only a socket becomes readable"
        try:
            data = peer.sock.recv(READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self._ended(peer, error)
            return
        if data:
            peer.connection.receive_data(data, time.monotonic())
        else:
            self._ended(peer, None)

    def _ended(self, peer: _Peer, error: Exception | None) -> None:
        """The stream has ended, or could not be opened: say so once."""
        self._drop(peer)
        peer.broken = error
        peer.connection.receive_data(b"", time.monotonic())

    def _watch(self, peer: _Peer, mask: int) -> None:
        """Wait for these on the peer's socket from now on; 0 for nothing."""
        wanted = (peer.sock, mask) if peer.sock is not None and mask else None
        if wanted == peer.watched:
            return
        if peer.watched is not None:
            self._selector.unregister(peer.watched[0])
        if wanted is not None:
            self._selector.register(*wanted, peer)
        peer.watched = wanted

    def _drop(self, peer: _Peer) -> None:
        self._watch(peer, 0)
        peer.opening, peer.unsent, peer.send_by = None, b"", math.inf
        if peer.sock is not None:
            peer.sock.close()
            peer.sock = None
