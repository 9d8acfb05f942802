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
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self, assert_never, final

from etorox_proto import PublicKey
from etorox_proto.simulator import INSTRUMENTS, Instrument, SimulatedMarket, Simulator, SimulatorConnection
from etorox_transports.cli._chaos import Chaos, FaultKind, Valve

__all__ = ["SimulatorHost"]

# More than a TLS record, so that nothing stays behind in the TLS layer, where the selector would not see it.
_READ_SIZE = 65_536
# At full speed: how many market changes to make between two looks at the sockets, and how much may wait for a client.
_BURST = 200
_FULL = 262_144
# Public events for each instrument before anybody looks, so that the books have depth and orders meet; and the longest
# time, in seconds, that they may be thought to have taken.
_WARM_UP = 300
_LONGEST_WARM_UP = 86_400.0


class _Client:
    """One client's socket and its machine.

    Attributes:
        number: of its stream, for people.
        unsent: bytes that the socket has not taken yet.
        watched: what the selector waits for.
        valve: what may pass; only chaos turns it down.
        is_mute: nothing can be sent any more, because our half of the stream was closed.
    """

    def __init__(self, sock: socket.socket, machine: SimulatorConnection, number: int) -> None:
        self.sock = sock
        self.machine = machine
        self.number = number
        self.unsent = b""
        self.watched = 0
        self.valve = Valve()
        self.is_mute = False


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
        chaos: makes things go wrong for the clients; None for fair weather.
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
        chaos: Chaos | None = None,
    ) -> None:
        now, unix_time = time.monotonic(), time.time()
        self._at_full_speed = math.isinf(rate)
        # At full speed the market has no pace of its own: it is stepped, and its time is that of the last look.
        pace = 0.0 if self._at_full_speed else rate
        age = min(_WARM_UP * len(instruments) / pace, _LONGEST_WARM_UP) if pace else 0.0
        market = SimulatedMarket(
            seed=seed, instruments=instruments, rate=pace, now=now - age, unix_time=unix_time - age
        )
        for _ in range(0 if pace else _WARM_UP * len(instruments)):
            market.step()
        while market.deadline <= now:
            market.advance(now)
        names = iter(partial(secrets.token_urlsafe, 16), None)
        self.simulator = Simulator(market, accounts=accounts, names=names, now=now, unix_time=unix_time)
        self.events = 0
        self._ssl_context = ssl_context
        self._chaos = chaos
        self._refusing_until = -math.inf
        self._accepted = 0
        self._clients: dict[socket.socket, _Client] = {}
        self._listener = socket.create_server(address, backlog=64)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
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

    def refuse_until(self, until: float) -> None:
        """Reset whoever connects, until that time of `time.monotonic()`."""
        self._refusing_until = until

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
                elif key.fileobj is not self._woken and mask & selectors.EVENT_READ:
                    self._read(key.data)
            self._trade()
            now = time.monotonic()
            if self._chaos is not None:
                self._go_wrong(self._chaos, now)
            for client in list(self._clients.values()):
                if client.machine.deadline <= now:
                    client.machine.handle_timeout(now)
                self._flush(client)

    def _patience(self) -> float:
        """How long to wait for sockets."""
        if self._at_full_speed and self._has_room():
            return 0.0
        deadlines = [min(client.machine.deadline, client.valve.deadline) for client in self._clients.values()]
        earliest = min([self.simulator.deadline, *deadlines])
        if self._chaos is not None:
            earliest = min(earliest, self._chaos.deadline)
        # Nothing is further away than an hour, which also spares the selector an infinite wait.
        return min(max(earliest - time.monotonic(), 0.0), 3600.0)

    def _has_room(self) -> bool:
        subscribed = [client for client in self._clients.values() if client.machine.is_subscribed]
        return bool(subscribed) and all(len(c.unsent) + c.machine.queued_bytes < _FULL for c in subscribed)

    def _trade(self) -> None:
        now = time.monotonic()
        self.events += self.simulator.advance(now)
        for _ in range(_BURST if self._at_full_speed and self._has_room() else 0):
            self.events += self.simulator.step(now)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # it went away before we came
        if time.monotonic() < self._refusing_until:
            _reset(sock)
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._ssl_context is not None:
            try:
                sock.getpeername()  # raises if the client has gone; so would wrap_socket, and leave the socket open
                sock = self._ssl_context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            except OSError:
                sock.close()
                return
        self._accepted += 1
        client = _Client(sock, self.simulator.accept(time.monotonic()), self._accepted)
        self._clients[sock] = client
        self._watch(client)

    def _read(self, client: _Client) -> None:
        try:
            data = client.sock.recv(_READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            data = b""
        client.machine.receive_data(data, time.monotonic())
        if not data:
            self._drop(client)

    def _flush(self, client: _Client) -> None:
        now = time.monotonic()
        client.valve.look(now)
        try:
            # No more is taken out of the machine than the socket accepts: the machine drops those who do not read.
            while data := client.unsent or client.machine.data_to_send():
                client.unsent = data
                if not (passing := data if client.is_mute else client.valve.take(data, now)):
                    break
                client.unsent = data[len(passing) if client.is_mute else client.sock.send(passing) :]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            client.machine.receive_data(b"", now)
            self._drop(client)
            return
        if client.machine.closed and not (client.unsent and client.valve.deadline < math.inf):
            self._drop(client)  # even if something is left: whoever reads has it all by now
        else:
            self._watch(client)

    def _watch(self, client: _Client) -> None:
        """Have the selector wait for what this client needs now."""
        now = time.monotonic()
        watched = 0
        if not client.valve.is_shut(now):
            watched = selectors.EVENT_READ
            if client.unsent and client.valve.deadline == math.inf:
                watched |= selectors.EVENT_WRITE
        if watched == client.watched:
            return
        if not client.watched:
            self._selector.register(client.sock, watched, client)
        elif not watched:
            self._selector.unregister(client.sock)
        else:
            self._selector.modify(client.sock, watched, client)
        client.watched = watched

    def _drop(self, client: _Client, *, reset: bool = False) -> None:
        if self._clients.pop(client.sock, None) is not None:
            if client.watched:
                self._selector.unregister(client.sock)
            if reset:
                _reset(client.sock)
                return
            with contextlib.suppress(OSError):
                client.sock.shutdown(socket.SHUT_WR)
            client.sock.close()

    # ------------------------------------------------------------------------------------------------- chaos

    def _go_wrong(self, chaos: Chaos, now: float) -> None:
        clients = {client.number: client for client in self._clients.values()}
        fault = chaos.next_fault(list(clients), now)
        if fault is None:
            return
        client = clients[fault.stream]
        match fault.kind:
            case FaultKind.RESET:
                client.machine.receive_data(b"", now)
                self._drop(client, reset=True)
            case FaultKind.HALF_CLOSE:
                client.is_mute = True
                with contextlib.suppress(OSError):
                    # Of the socket below TLS, which would otherwise be stripped of its encryption.
                    socket.socket.shutdown(client.sock, socket.SHUT_WR)
            case FaultKind.BLACK_HOLE | FaultKind.SLOW:
                rate = fault.rate if fault.kind is FaultKind.SLOW else 0
                client.valve.turn_down(rate, now=now, until=now + fault.seconds)
            case FaultKind.REFUSE:
                self.refuse_until(now + fault.seconds)
            case FaultKind.GOODBYE | FaultKind.LAST_GOODBYE:
                client.machine.close(allow_reconnect=fault.kind is FaultKind.GOODBYE, now=now)
            case _:
                assert_never(fault.kind)


def _reset(sock: socket.socket) -> None:
    """Close it so that the other side is told that this is no ordinary end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
