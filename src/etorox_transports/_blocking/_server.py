"""`Server`: a SignalR server on a TCP port, for programs that block; made by `blocking.serve`.

All its clients live in one thread, the one that calls `run` or iterates: a handler that takes its time keeps everybody
waiting. It gives what its connections say to the handler and sees that what that raises ends nothing but the call
concerned. Sockets are the business of `_streams`, one client that of `_connection`.
"""

from __future__ import annotations

import math
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar, final

from etorox_proto import LocalProtocolError
from etorox_proto.signalr import Closed, Connected, Detached, Resumed, ServerConfig, ServerConnection
from etorox_transports._blocking._connection import Connection, ConnectionEvent
from etorox_transports._blocking._streams import Stream, StreamLoop
from etorox_transports._serving import ServeLimits, new_tokens, open_listener

__all__ = ["Handler", "Server"]

Handler = Callable[[Connection, ConnectionEvent], object]
"""What a blocking server calls with each event of each connection: `Connected` first, `Closed` last."""

T = TypeVar("T")


class _ClientStream(Stream[ServerConnection]):
    """A byte stream; `connection` is the client on it, once it has come as far."""

    def __init__(self, sock: socket.socket, machine: ServerConnection, now: float, room: int) -> None:
        super().__init__(sock, machine, now)
        self.connection: Connection | None = None
        self._room = room

    def wants(self, now: float) -> int:
        """A client that does not take our answers is not asked for more."""
        has_room = self.waiting_bytes <= self._room
        if has_room != self.is_read and not self.machine.closed:
            self.is_read = has_room
            (self.machine.reading_resumed if has_room else self.machine.reading_paused)(now)
        return super().wants(now)


@final
class Server:
    """A SignalR server. A context manager that says goodbye to the clients and closes.

    Run it with `run`, or iterate it: `for connection, event in server`. Both belong to one thread. `start` runs it in
    one of its own. `stop` and `call` may be used by any thread.
    """

    def __init__(
        self,
        handler: Handler | None,
        *,
        host: str,
        port: int,
        config: ServerConfig,
        ssl_context: ssl.SSLContext | None,
        limits: ServeLimits,
        detailed_errors: bool,
    ) -> None:
        self._handler = handler
        self._config = config
        self._limits = limits
        self._detailed_errors = detailed_errors
        self._tokens = new_tokens()
        self._streams: dict[Connection, _ClientStream | None] = {}  # None: it waits for another one
        self._producing: dict[Connection, None] = {}
        self._events: deque[tuple[Connection, ConnectionEvent]] = deque()
        self._asked: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._is_closed = False
        listener = open_listener(host, port)
        self._port: int = listener.getsockname()[1]
        self._loop: StreamLoop[_ClientStream] = StreamLoop(
            listener, self._new_stream, self._settle, limits=limits, ssl_context=ssl_context
        )

    def __repr__(self) -> str:
        return f"<Server at port {self._port}: {len(self._streams)} connections>"

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._port

    @property
    def connections(self) -> list[Connection]:
        """The clients that are connected, oldest first; for a broadcast, say."""
        return list(self._streams)

    # -------------------------------------------------------------------------------------------------- running

    def run(self) -> None:
        """Serve until `stop` is called. The handler gets every event.

        Raises:
            LocalProtocolError: `serve` was given no handler.
        """
        if self._handler is None:
            raise LocalProtocolError("expected a handler to run the server with; give one to serve(), or iterate it")
        for connection, event in self:
            self._tell(self._handler, connection, event)

    def start(self) -> None:
        """Run it in a thread of its own, until `stop` or `close`."""
        if self._thread is not None:
            raise LocalProtocolError("expected a server that has no thread yet, got one that was started")
        self._thread = threading.Thread(target=self.run, name="etorox server", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Make `run` return, or the iteration end; any thread may call it, the handler, and that of a signal."""
        self._is_stopping = True
        self._loop.wake()

    def call(self, function: Callable[[], T]) -> T:
        """Have the thread that runs the server call this, between two events; returns or raises what that did."""
        if self._is_closed or self._is_stopping:
            raise LocalProtocolError("expected a server that runs, got one that was stopped")
        done: Future[T] = Future()
        self._asked.append((function, done))
        self._loop.wake()
        return done.result()

    def __iter__(self) -> Iterator[tuple[Connection, ConnectionEvent]]:
        return self

    def __next__(self) -> tuple[Connection, ConnectionEvent]:
        return self.next()

    def next(self, timeout: float = math.inf) -> tuple[Connection, ConnectionEvent]:
        """The next event of any connection, and which one's.

        Args:
            timeout: how many seconds to wait for it; the connections live meanwhile.

        Raises:
            TimeoutError: none came.
            StopIteration: the server was stopped.
        """
        until = time.monotonic() + timeout
        while not self._is_stopping:
            self._do_what_was_asked()
            if self._events:
                return self._events.popleft()
            self._turn(until)
            if not self._events and until <= time.monotonic():
                raise TimeoutError(f"no event came within {timeout:g} s")
        raise StopIteration

    # ------------------------------------------------------------------------------------------- entering, leaving

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Accept nobody any more, invite the clients to come back later, and wait for their goodbyes; then close.

        It takes `shutdown_timeout` at most. The handler gets the last events. Calling it again does nothing.
        """
        self.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._say_goodbye()
        finally:
            self._loop.close()
            self._tell_all()
            for _, done in self._asked:
                done.set_exception(LocalProtocolError("expected a server that runs, got one that was closed"))

    def _say_goodbye(self) -> None:
        self._loop.stop_listening()
        now = time.monotonic()
        for stream in self._loop.streams:
            stream.machine.close(allow_reconnect=True, now=now)
            self._loop.touch(stream)
        for connection in self._detached():
            connection.close(allow_reconnect=True)
        until = now + self._limits.shutdown_timeout
        while self._loop.streams and time.monotonic() < until:
            self._tell_all()
            self._turn(until)

    # -------------------------------------------------------------------------------------------------- one turn

    def _turn(self, until: float) -> None:
        for connection in list(self._producing):
            if self._may_produce(connection):
                connection.produce()
            if not connection.has_streams:
                del self._producing[connection]
        self._loop.flush()
        detached = self._detached()
        until = min([until, *(connection.machine.deadline for connection in detached)])
        is_busy = self._events or any(map(self._may_produce, self._producing))
        self._loop.turn(0.0 if is_busy else until)
        now = time.monotonic()
        for connection in detached:
            if connection.machine.deadline <= now and self._streams.get(connection) is None:
                connection.machine.handle_timeout(now)
                self._take(connection)

    def _may_produce(self, connection: Connection) -> bool:
        """Whether there is a stream of `send_items`, and room for its next item."""
        stream = self._streams.get(connection)
        return connection.is_producing and stream is not None and not stream.unsent

    def _changed(self, connection: Connection) -> None:
        """It was given a command."""
        stream = self._streams.get(connection)
        if stream is not None:
            self._loop.touch(stream)
        else:
            self._take(connection)
        if connection.has_streams:
            self._producing[connection] = None

    def _do_what_was_asked(self) -> None:
        while self._asked:
            function, done = self._asked.popleft()
            try:
                done.set_result(function())
            except BaseException as error:  # noqa: BLE001 - raised where it was asked
                done.set_exception(error)

    def _tell_all(self) -> None:
        while self._events:
            connection, event = self._events.popleft()
            if self._handler is not None:
                self._tell(self._handler, connection, event)

    def _tell(self, handler: Handler, connection: Connection, event: ConnectionEvent) -> None:
        try:
            handler(connection, event)
        except Exception as error:  # noqa: BLE001 - it ends what it concerns, and nothing else
            connection.fail(event, error)

    def _new_stream(self, sock: socket.socket, now: float) -> _ClientStream:
        machine = ServerConnection(self._config, tokens=self._tokens, now=now)
        return _ClientStream(sock, machine, now, self._limits.room)

    # ------------------------------------------------------------------------------------------- what they say

    def _settle(self, stream: _ClientStream) -> None:
        """Take what its machine has to say."""
        while (event := stream.machine.next_event()) is not None:
            match event:
                case Connected():
                    stream.connection = connection = Connection(
                        stream.machine,
                        self._changed,
                        room=self._limits.room,
                        detailed_errors=self._detailed_errors,
                    )
                    self._streams[connection] = stream
                    self._note(connection, event)
                case Detached():
                    self._loop.drop(stream)
                    assert stream.connection is not None, "what is lost was there"
                    self._streams[stream.connection] = None
                    self._give_up_too_many()
                case Resumed(machine):
                    self._hand_over(stream, machine)
                case _ if stream.connection is not None:
                    self._note(stream.connection, event)
                case _:
                    pass  # it negotiated and no more, or came to nothing

    def _take(self, connection: Connection) -> None:
        """Take what the machine of a connection without a stream has to say."""
        while (event := connection.machine.next_event()) is not None:
            if not isinstance(event, Detached | Resumed):
                self._note(connection, event)

    def _note(self, connection: Connection, event: ConnectionEvent) -> None:
        if isinstance(event, Closed):
            self._streams.pop(connection, None)
        if connection.take(event):
            self._events.append((connection, event))

    def _detached(self) -> list[Connection]:
        return [connection for connection, stream in self._streams.items() if stream is None]

    def _give_up_too_many(self) -> None:
        """Those who wait for a stream hold no place, but there must not be any number of them."""
        detached = self._detached()
        if len(detached) > self._limits.connections:
            detached[0].close(allow_reconnect=True)

    def _hand_over(self, stream: _ClientStream, machine: ServerConnection) -> None:
        """A client has come back on this stream. If its connection is over meanwhile, the stream is closed."""
        connection = next((each for each in self._streams if each.machine is machine), None)
        if connection is None:
            return
        now = time.monotonic()
        machine.receive_data(b"", now)  # it may have its old stream still
        if (old := self._streams[connection]) is not None:
            self._settle(old)
        self._take(connection)
        try:
            machine.resume(stream.machine, now=now)
        except LocalProtocolError:
            return
        self._streams[connection] = stream
        # If the old one was not read, because its client did not read either, `wants` will see that this one is.
        stream.machine, stream.connection, stream.is_read = machine, connection, machine.is_reading
        self._loop.touch(stream)
