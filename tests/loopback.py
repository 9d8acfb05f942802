"""Servers on loopback ports that do what a test says: the other side of the adapters' contract suite.

`LoopbackServer` runs any number of real `ServerConnection`s in one thread. It knows sockets and time, can be deaf, cut
its clients off, stop, and start again on the same port; what calls mean is the business of its application, such as
`loopback_exchange`. A test calls it from its own thread: what it asks for has been done when the call returns.
"""

from __future__ import annotations

import contextlib
import platform
import secrets
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Self, TypeVar

from etorox_proto.signalr import (
    Closed,
    Connected,
    ConnectionTokens,
    Detached,
    Resumed,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    State,
)
from machines import said

T = TypeVar("T")

# What a test may wait for that is sure to come, in seconds.
PATIENCE = 5.0


class Client:
    """One byte stream of a client, as its server sees it.

    Attributes:
        machine: the server's end.
        is_deaf: neither read nor write on it any more.
        is_open: whether the socket is open.
        is_hub: whether it came as far as the SignalR handshake.
        is_waiting: whether it has lost its stream, and its machine waits for the client to come back on another.
        end: how it ended: None before the end, `Closed(None)` if the client said goodbye.
        unsent: bytes that the socket does not take now.
    """

    def __init__(self, sock: socket.socket, machine: ServerConnection) -> None:
        self.sock = sock
        self.machine = machine
        self.is_deaf = False
        self.is_open = True
        self.is_hub = False
        self.is_waiting = False
        self.end: Closed | None = None
        self.unsent = b""
        self._heard = bytearray()

    def hear(self, data: bytes) -> None:
        """Keep what came, for `messages`."""
        self._heard += data

    @property
    def heard(self) -> bytes:
        """All bytes that came."""
        return bytes(self._heard)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The hub messages that the client sent."""
        heard = said(bytes(self._heard).partition(b"\r\n\r\n")[2])
        return [message for message in heard if isinstance(message, dict)]

    @property
    def pings(self) -> int:
        """How many SignalR pings came."""
        return self.messages.count({"type": 6})

    @property
    def said_goodbye(self) -> bool:
        """Whether the client ended it with a SignalR Close."""
        return {"type": 7} in self.messages


class LoopbackServer:
    """A SignalR server on a port of this machine, in a thread of its own; a context manager that closes.

    Args:
        answer: the application: called with each client and each of its events, in the server's thread.
        config: how it treats its clients.
        send_buffer: bytes that the system may hold for a client that does not read; by default as many as it likes.

    Attributes:
        port: stays the same through `stop` and `start`.
        clients: all byte streams so far, oldest first.
        greet: called with each new stream, before anything is read from it.
    """

    def __init__(
        self,
        answer: Callable[[Client, ServerEvent], None],
        *,
        config: ServerConfig | None = None,
        send_buffer: int | None = None,
    ) -> None:
        self._answer = answer
        self._config = config or ServerConfig()
        self._send_buffer = send_buffer
        self._tokens = ConnectionTokens(iter(partial(secrets.token_hex, 8), None))
        self._held = contextlib.ExitStack()
        self.port = held_port(self._held)
        self.clients: list[Client] = []
        self.greet: Callable[[Client], None] = lambda _client: None
        self._listener: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._wake_up, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._asked: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._tick: tuple[float, Callable[[], None]] | None = None
        self._tick_at = 0.0
        self._failure: BaseException | None = None
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="loopback server", daemon=True)
        self._thread.start()
        self.start()

    # ------------------------------------------------------------------------------------- for the test's thread

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def hubs(self) -> list[Client]:
        """The streams that came as far as the SignalR handshake, oldest first."""
        return [client for client in list(self.clients) if client.is_hub]

    @property
    def open(self) -> int:
        """How many sockets of clients are open."""
        return sum(client.is_open for client in list(self.clients))

    def do(self, action: Callable[[], T]) -> T:
        """Have the server's thread do this, and return what it returned."""
        done: Future[T] = Future()
        self._asked.append((action, done))
        self._wake_up.send(b"\0")
        return done.result(PATIENCE)

    def wait(self, predicate: Callable[[], object]) -> None:
        """Block until this holds."""
        with self._changed:
            assert self._changed.wait_for(predicate, PATIENCE), "expected something that did not happen"

    def start(self) -> None:
        """Listen."""
        self.do(self._listen)

    def stop(self) -> None:
        """Listen no longer, and cut everybody off."""
        self.do(self._cut_off)

    def cut(self) -> None:
        """Cut everybody off without a word, and go on listening."""
        self.do(self._drop_all)

    def deafen(self) -> None:
        """Neither read nor write any more, on any stream so far."""

        def deafen_here() -> None:
            for client in self.clients:
                client.is_deaf = True

        self.do(deafen_here)

    def hang_up(self, client: Client) -> None:
        """Close this stream without a word; for the server's thread, such as in `greet`."""
        self._drop(client)

    def every(self, seconds: float, action: Callable[[], None]) -> None:
        """Do this again and again, in the server's thread."""

        def begin() -> None:
            self._tick, self._tick_at = (seconds, action), time.monotonic() + seconds

        self.do(begin)

    def close(self) -> None:
        """Close everything; raises what went wrong in the server's thread."""
        self._is_over = True
        self._wake_up.send(b"\0")
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._cut_off()
        self._selector.close()
        self._held.close()
        for sock in (self._wake_up, self._woken):
            sock.close()
        if self._failure is not None:
            raise self._failure

    # ------------------------------------------------------------------------------------- in the server's thread

    def _run(self) -> None:
        while not self._is_over:
            try:
                self._turn()
            except BaseException as failure:
                self._failure = self._failure or failure
            with self._changed:
                self._changed.notify_all()

    def _turn(self) -> None:
        for key, mask in self._selector.select(self._patience()):
            if key.fileobj is self._woken:
                self._woken.recv(4_096)
            elif key.fileobj is self._listener:
                self._accept(self._listener)
            elif mask & selectors.EVENT_READ:
                self._read(key.data)
        while self._asked:
            action, done = self._asked.popleft()
            try:
                done.set_result(action())
            except BaseException as failure:
                done.set_exception(failure)
        now = time.monotonic()
        if self._tick is not None and self._tick_at <= now:
            self._tick_at = max(self._tick_at + self._tick[0], now)
            self._tick[1]()
        for client in self.clients:
            if client.is_waiting and client.machine.deadline <= now:
                client.machine.handle_timeout(now)
                self._take_events(client)
            if client.is_open and not client.is_deaf:
                if client.machine.deadline <= now:
                    client.machine.handle_timeout(now)
                self._settle(client)

    def _patience(self) -> float:
        deadlines = [c.machine.deadline for c in self.clients if (c.is_open and not c.is_deaf) or c.is_waiting]
        if self._tick is not None:
            deadlines.append(self._tick_at)
        return min(max(min(deadlines, default=60.0) - time.monotonic(), 0.0), 60.0)

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
            self._listener.setblocking(False)
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _cut_off(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(KeyError, ValueError, RuntimeError):
                self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
        self._drop_all()

    def _drop_all(self) -> None:
        for client in self.clients:
            self._drop(client)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return  # it went away before we came
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._send_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
        client = Client(sock, ServerConnection(self._config, tokens=self._tokens, now=time.monotonic()))
        self.clients.append(client)
        self._selector.register(sock, selectors.EVENT_READ, client)
        self.greet(client)

    def _read(self, client: Client) -> None:
        if client.is_deaf:
            self._selector.unregister(client.sock)
            return
        try:
            data = client.sock.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.hear(data)
        client.machine.receive_data(data, time.monotonic())
        self._take_events(client)
        if not data:
            self._drop(client)

    def _take_events(self, client: Client) -> None:
        while (event := client.machine.next_event()) is not None:
            client.is_hub = client.is_hub or isinstance(event, Connected)
            if isinstance(event, Closed):
                client.end = event
            if isinstance(event, Closed | Detached):
                client.is_waiting = isinstance(event, Detached)
            if isinstance(event, Resumed):
                self._resume(client, event.connection)
            else:
                self._answer(client, event)

    def _resume(self, client: Client, machine: ServerConnection) -> None:
        """The client of this machine, which may have its stream still, has come back on another one."""
        for other in self.clients:
            if other.machine is machine:
                self._drop(other)
                other.is_waiting = False
        machine.resume(client.machine, now=time.monotonic())
        client.machine = machine
        client.is_hub = True

    def _settle(self, client: Client) -> None:
        self._take_events(client)
        try:
            while data := client.unsent or client.machine.data_to_send():
                client.unsent = data
                client.unsent = data[client.sock.send(data) :]
        except BlockingIOError:
            pass
        except OSError:
            client.machine.receive_data(b"", time.monotonic())
            self._take_events(client)
            self._drop(client)
            return
        if client.machine.state is State.CLOSED:
            self._drop(client)
            return
        writable = selectors.EVENT_WRITE if client.unsent else 0
        self._selector.modify(client.sock, selectors.EVENT_READ | writable, client)

    def _drop(self, client: Client) -> None:
        if client.is_open:
            client.is_open = False
            with contextlib.suppress(KeyError, ValueError, RuntimeError):
                self._selector.unregister(client.sock)
            client.sock.close()
            client.machine.receive_data(b"", time.monotonic())
            self._take_events(client)


def held_port(stack: contextlib.ExitStack) -> int:
    """A free port, which nobody else takes while nobody listens there, where the system allows that."""
    sock = stack.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    port: int = sock.getsockname()[1]
    if platform.system() != "Linux":
        sock.close()
    return port
