"""`StreamLoop`: a listening socket and the byte streams of its clients, in one thread, over a selector.

It accepts, reads, writes and keeps time for any kind of `ServedMachine`, and knows nothing of what they say: after
every input it calls `settle`, which takes the machine's events; whoever gives a machine a command says `touch`.
`_server` serves SignalR with it, and the command's `SimulatorHost` the embedded exchange. A stream and its machine are
two things: `Stream.machine` may be replaced. A turn costs as much as has happened, however many streams are quiet.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import selectors
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar, final

from etorox_transports._serving import LOGGER, ServedMachine, ServeLimits, is_shortage

__all__ = ["Stream", "StreamLoop"]

# More than a TLS record, so that nothing stays behind in the TLS layer, where the selector would not see it.
_READ_SIZE = 65_536
# How many clients to accept between two looks at the others.
_ACCEPT_AT_ONCE = 64
# How long to leave the listener alone when there are no files left, in seconds.
_SHORTAGE_PAUSE = 0.1
# How long the client has to take the last bytes and to close its side, in seconds. What it still sends meanwhile is
# thrown away; closing with that unread would reset the connection, and it might never see our last words.
_LINGER = 1.0
# Nothing is further away than an hour, which also spares the selector an infinite wait.
_LONGEST_WAIT = 3600.0
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

MachineT = TypeVar("MachineT", bound=ServedMachine)


class Stream(Generic[MachineT]):
    """One client's socket, and the machine that it drives.

    Attributes:
        machine: what gets its bytes.
        unsent: bytes that the socket has not taken yet.
        is_read: whether to read from it.
        heard_at: when something came last.
        stuck_at: since when the socket takes nothing although something waits; infinite if that is not so.
        leaves_by: when it is closed at the latest, once the machine has ended; infinite before that.
        watched: what the selector waits for.
        due_at: when the loop will look at it at the latest.
    """

    def __init__(self, sock: socket.socket, machine: MachineT, now: float) -> None:
        self.sock = sock
        self.machine = machine
        self.unsent = b""
        self.is_read = True
        self.heard_at = now
        self.stuck_at = math.inf
        self.leaves_by = math.inf
        self.watched = 0
        self.due_at = math.inf

    @property
    def deadline(self) -> float:
        """When something is due on it, the limits of the loop aside."""
        return min(self.machine.deadline, self.leaves_by)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes wait for the client."""
        return len(self.unsent) + self.machine.queued_bytes

    def wants(self, now: float) -> int:
        """What the selector is to wait for."""
        del now
        return (selectors.EVENT_READ if self.is_read else 0) | (selectors.EVENT_WRITE if self.unsent else 0)

    def send(self, data: bytes, now: float) -> int:
        """Send some of these bytes; how many. None for now is a `BlockingIOError`, or 0.

        Raises:
            OSError: the stream is broken.
        """
        del now
        return self.sock.send(data)


StreamT = TypeVar("StreamT", bound=Stream[Any])


@final
class StreamLoop(Generic[StreamT]):
    """Accepts streams and drives them. All of it belongs to one thread, but for `wake`.

    Args:
        listener: listens, and does not block.
        new_stream: makes the stream of a client and its machine; None: the client is reset.
        settle: called with a stream whose machine was told something.
        limits: how much it takes on.
        ssl_context: the server's side of TLS, None for plain TCP.
    """

    def __init__(
        self,
        listener: socket.socket,
        new_stream: Callable[[socket.socket, float], StreamT | None],
        settle: Callable[[StreamT], None],
        *,
        limits: ServeLimits,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self._listener = listener
        self._new_stream = new_stream
        self._settle = settle
        self._limits = limits
        self._ssl_context = ssl_context
        self._streams: dict[socket.socket, StreamT] = {}
        self._touched: dict[StreamT, None] = {}
        self._agenda: list[tuple[float, int, StreamT]] = []  # a heap; what is no longer so is found out when it is due
        self._entries = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._wake_up, self._woken = socket.socketpair()
        for sock in (self._wake_up, self._woken):
            sock.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._is_listening = True  # whether clients are wanted
        self._is_watching = False  # whether the selector looks for them
        self._short_until = -math.inf

    @property
    def streams(self) -> list[StreamT]:
        """Those that are open, oldest first."""
        return list(self._streams.values())

    # ------------------------------------------------------------------------------------------------- one turn

    def turn(self, until: float) -> None:
        """Send what waits, wait for something to happen until then, and do what is due."""
        self.flush()
        self._watch_listener()
        for key, mask in self._selector.select(self._patience(until)):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._woken:
                self._woken.recv(_READ_SIZE)
            elif key.fileobj in self._streams:
                self.touch(key.data)
                if mask & selectors.EVENT_READ:
                    self._read(key.data)
        now = time.monotonic()
        while self._agenda and self._agenda[0][0] <= now:
            *_, stream = heapq.heappop(self._agenda)
            stream.due_at = math.inf
            if stream.sock in self._streams:
                self._keep_time(stream, now)
                self.touch(stream)
        self.flush()

    def touch(self, stream: StreamT) -> None:
        """Something has changed with this stream: there may be something to send, or due earlier."""
        self._touched[stream] = None

    def flush(self) -> None:
        """On the streams that were touched, take events and send what waits, as far as the sockets take it."""
        while self._touched:
            stream, _ = self._touched.popitem()
            self._settle(stream)
            if stream.sock in self._streams:
                self._flush(stream)
            if stream.sock in self._streams and (due := self._due(stream)) < stream.due_at:
                stream.due_at = due
                heapq.heappush(self._agenda, (due, next(self._entries), stream))

    def wake(self) -> None:
        """Make a `turn` that waits return; any thread may call it, even after `close`."""
        with contextlib.suppress(OSError):  # it is full, so the loop is awake; or closed
            self._wake_up.send(b"\0")

    def stop_listening(self) -> None:
        """Accept nobody any more."""
        self._is_listening = False
        self._watch_listener()
        self._listener.close()

    def close(self) -> None:
        """Drop all streams as they are, and close everything."""
        self.stop_listening()
        for stream in self.streams:
            self._end(stream)
        self._selector.close()
        self._wake_up.close()
        self._woken.close()

    def _patience(self, until: float) -> float:
        earliest = min(until, self._agenda[0][0]) if self._agenda else until
        now = time.monotonic()
        if self._is_listening and now < self._short_until:
            earliest = min(earliest, self._short_until)
        return min(max(earliest - now, 0.0), _LONGEST_WAIT)

    def _due(self, stream: StreamT) -> float:
        limits = self._limits
        return min(stream.deadline, stream.heard_at + limits.idle_timeout, stream.stuck_at + limits.send_timeout)

    def _keep_time(self, stream: StreamT, now: float) -> None:
        machine = stream.machine
        if stream.stuck_at + self._limits.send_timeout <= now or stream.leaves_by <= now:
            self._end(stream)
            return
        if machine.closed:
            return
        if stream.heard_at + self._limits.idle_timeout <= now:
            stream.heard_at = math.inf
            machine.close(allow_reconnect=True, now=now)
            self._settle(stream)
        if machine.deadline <= now:
            machine.handle_timeout(now)
            self._settle(stream)

    # ---------------------------------------------------------------------------------------------- the listener

    def _watch_listener(self) -> None:
        wanted = (
            self._is_listening
            and len(self._streams) < self._limits.connections
            and time.monotonic() >= self._short_until
        )
        if wanted and not self._is_watching:
            self._selector.register(self._listener, selectors.EVENT_READ)
        elif self._is_watching and not wanted:
            self._selector.unregister(self._listener)
        self._is_watching = wanted

    def _accept(self) -> None:
        for _ in range(min(_ACCEPT_AT_ONCE, self._limits.connections - len(self._streams))):
            try:
                sock, _ = self._listener.accept()
            except OSError as error:
                if is_shortage(error):
                    self._short_until = time.monotonic() + _SHORTAGE_PAUSE
                    LOGGER.warning("could not accept a client: %s", error)
                return  # there is none, or it went away before we came
            self._welcome(sock)

    def _welcome(self, sock: socket.socket) -> None:
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._ssl_context is not None:
                sock.getpeername()  # raises if the client has gone; so would wrap_socket, and leave the socket open
                sock = self._ssl_context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:
            sock.close()
            return
        stream = self._new_stream(sock, time.monotonic())
        if stream is None:
            _reset(sock)
        else:
            self._streams[sock] = stream
            self.touch(stream)

    # ------------------------------------------------------------------------------------------------- a stream

    def _read(self, stream: StreamT) -> None:
        try:
            data = stream.sock.recv(_READ_SIZE)
        except _WOULD_BLOCK:
            return
        except OSError:
            data = b""
        now = time.monotonic()
        if not data:
            self._end(stream)
        elif not stream.machine.closed:
            stream.heard_at = now
            stream.machine.receive_data(data, now)
            self._settle(stream)

    def _flush(self, stream: StreamT) -> None:
        """Send what the socket takes now. No more is taken out of the machine: it has a limit on what waits."""
        now = time.monotonic()
        try:
            while data := stream.unsent or stream.machine.data_to_send():
                stream.unsent = data
                if not (sent := stream.send(data, now)):
                    break
                stream.unsent = data[sent:]
                stream.stuck_at = math.inf
        except _WOULD_BLOCK:
            pass
        except OSError:
            self._end(stream)
            return
        if stream.unsent:
            stream.stuck_at = min(stream.stuck_at, now)
        if stream.machine.closed and stream.leaves_by == math.inf:
            stream.leaves_by, stream.heard_at, stream.is_read = now + _LINGER, math.inf, True
        if stream.leaves_by < math.inf and not stream.unsent:
            _end_writing(stream.sock)
        self._watch(stream)

    def _watch(self, stream: StreamT) -> None:
        """Have the selector wait for what this stream needs now."""
        wanted = stream.wants(time.monotonic())
        if wanted == stream.watched:
            return
        if not stream.watched:
            self._selector.register(stream.sock, wanted, stream)
        elif not wanted:
            self._selector.unregister(stream.sock)
        else:
            self._selector.modify(stream.sock, wanted, stream)
        stream.watched = wanted

    def _end(self, stream: StreamT) -> None:
        """It has ended, or is given up."""
        self.drop(stream)
        if not stream.machine.closed:
            stream.machine.receive_data(b"", time.monotonic())
            self._settle(stream)

    def drop(self, stream: StreamT, *, reset: bool = False) -> None:
        """Close the socket as it is, and do not tell the machine; with `reset` the client sees no ordinary end."""
        if self._streams.pop(stream.sock, None) is None:
            return
        if stream.watched:
            self._selector.unregister(stream.sock)
        if reset:
            _reset(stream.sock)
        else:
            _end_writing(stream.sock)
            stream.sock.close()


def _end_writing(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Of the socket below TLS, which would otherwise be stripped of its encryption.
        socket.socket.shutdown(sock, socket.SHUT_WR)


def _reset(sock: socket.socket) -> None:
    """Close it so that the other side is told that this is no ordinary end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
