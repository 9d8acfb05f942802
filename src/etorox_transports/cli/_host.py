"""Serves the embedded exchange on a TCP port: one thread, a selector, any number of clients.

A thin adapter over `Simulator`; it knows sockets and time, and nothing of the protocol. `etorox simulate` runs it in
the foreground, `etorox stream` without a host in a thread beside the client.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self, final

from etorox_proto import PublicKey
from etorox_proto.simulator import INSTRUMENTS, Instrument, SimulatedMarket, Simulator, SimulatorConnection

__all__ = ["SimulatorHost"]

_READ_SIZE = 65_536
# At full speed: how many market changes to make between two looks at the sockets, and how much may wait for a client.
_BURST = 200
_FULL = 262_144


class _Client:
    """One client's socket and its machine."""

    def __init__(self, sock: socket.socket, machine: SimulatorConnection) -> None:
        self.sock = sock
        self.machine = machine
        self.unsent = b""
        self.wants_to_write = False


@final
class SimulatorHost:
    """The embedded exchange on a port of this machine; a context manager that closes.

    Args:
        accounts: the API keys and the public halves of their private keys.
        address: host and port to listen on; port 0 takes a free one.
        seed: of the market.
        rate: public events a second over all instruments; `math.inf` for as many as the machine gives.
        instruments: what is traded.
        ssl_context: the server's side of TLS, None for plain TCP.
    """

    def __init__(
        self,
        accounts: Mapping[str, PublicKey],
        *,
        address: tuple[str, int] = ("127.0.0.1", 0),
        seed: int = 0,
        rate: float = 10.0,
        instruments: Sequence[Instrument] = INSTRUMENTS,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        now, unix_time = time.monotonic(), time.time()
        self._at_full_speed = math.isinf(rate)
        market = SimulatedMarket(
            seed=seed,
            instruments=instruments,
            rate=0.0 if self._at_full_speed else rate,
            now=now,
            unix_time=unix_time,
        )
        names = iter(partial(secrets.token_urlsafe, 16), None)
        self.simulator = Simulator(market, accounts=accounts, names=names, now=now, unix_time=unix_time)
        self.events = 0
        self._ssl_context = ssl_context
        self._clients: dict[socket.socket, _Client] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(address, backlog=64)
        self._listener.setblocking(False)
        self._wake_up, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._stopping = False
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def clients(self) -> int:
        """How many byte streams are open."""
        return len(self._clients)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye to the clients, as far as their sockets take it at once, and close everything."""
        for client in list(self._clients.values()):
            client.machine.close(now=time.monotonic())
            self._flush(client)
            self._drop(client)
        self._selector.close()
        for sock in (self._listener, self._wake_up, self._woken):
            sock.close()

    def stop(self) -> None:
        """Make `run` return; may be called from another thread."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._wake_up.send(b"\0")

    def run_in_thread(self) -> threading.Thread:
        """Run in a daemon thread until `stop`."""
        thread = threading.Thread(target=self.run, name="embedded exchange", daemon=True)
        thread.start()
        return thread

    def run(self) -> None:
        """Serve until `stop` is called."""
        while not self._stopping:
            for key, mask in self._selector.select(self._patience()):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is not self._woken:
                    client = key.data
                    if mask & selectors.EVENT_READ:
                        self._read(client)
                    elif mask & selectors.EVENT_WRITE:
                        self._flush(client)
            self._trade()
            now = time.monotonic()
            for client in list(self._clients.values()):
                if client.machine.deadline <= now:
                    client.machine.handle_timeout(now)
                self._flush(client)

    def _patience(self) -> float:
        """How long to wait for sockets."""
        if self._at_full_speed and self._has_room():
            return 0.0
        deadlines = [client.machine.deadline for client in self._clients.values()]
        earliest = min([self.simulator.deadline, *deadlines])
        # Nothing is further away than an hour, which also spares the selector an infinite wait.
        return min(max(earliest - time.monotonic(), 0.0), 3600.0)

    def _has_room(self) -> bool:
        subscribed = [client for client in self._clients.values() if client.machine.is_subscribed]
        return bool(subscribed) and all(len(c.unsent) + c.machine.queued_bytes < _FULL for c in subscribed)

    def _trade(self) -> None:
        now = time.monotonic()
        if not self._at_full_speed:
            self.events += self.simulator.advance(now)
            return
        for _ in range(_BURST if self._has_room() else 0):
            self.events += self.simulator.step(now)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # it went away before we came
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._ssl_context is not None:
            try:
                sock = self._ssl_context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            except OSError:
                sock.close()
                return
        client = _Client(sock, self.simulator.accept(time.monotonic()))
        self._clients[sock] = client
        self._selector.register(sock, selectors.EVENT_READ, client)

    def _read(self, client: _Client) -> None:
        try:
            data = client.sock.recv(_READ_SIZE)
            while isinstance(client.sock, ssl.SSLSocket) and client.sock.pending():
                data += client.sock.recv(_READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            data = b""
        client.machine.receive_data(data, time.monotonic())
        if not data:
            self._drop(client)

    def _flush(self, client: _Client) -> None:
        if client.sock not in self._clients:
            return
        client.unsent += client.machine.data_to_send()
        try:
            while client.unsent:
                client.unsent = client.unsent[client.sock.send(client.unsent) :]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            client.machine.receive_data(b"", time.monotonic())
            self._drop(client)
            return
        if client.machine.closed and not client.unsent:
            self._drop(client)
        elif bool(client.unsent) != client.wants_to_write:
            client.wants_to_write = bool(client.unsent)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0)
            self._selector.modify(client.sock, events, client)

    def _drop(self, client: _Client) -> None:
        if self._clients.pop(client.sock, None) is not None:
            self._selector.unregister(client.sock)
            with contextlib.suppress(OSError):
                client.sock.shutdown(socket.SHUT_WR)
            client.sock.close()
