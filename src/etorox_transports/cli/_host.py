"""Serves the embedded exchange on a TCP port: one thread, a selector, any number of clients.

`Simulator` on the loop that serves SignalR, `_blocking._streams`; what is added is the pace of the market, and what
goes wrong. `etorox simulate` runs it in the foreground, `etorox stream` without a host in a thread beside the client.
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
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self, assert_never, final

from etorox_proto import PublicKey
from etorox_proto.simulator import INSTRUMENTS, Instrument, SimulatedMarket, Simulator, SimulatorConnection
from etorox_transports._blocking._streams import Stream, StreamLoop
from etorox_transports._serving import ServeLimits, open_listener
from etorox_transports.cli._chaos import Chaos, FaultKind, Valve

__all__ = ["SimulatorHost"]

# The exchange drops those who do not read by itself, and chaos holds bytes back for longer than sending may take.
_LIMITS = ServeLimits(send_timeout=math.inf)
# How long a stream whose machine has ended is kept for what was held back, in seconds.
_LAST_BYTES = 1.0
# At full speed: how many market changes to make between two looks at the sockets, and how much may wait for a client.
_BURST = 200
_FULL = 262_144
# Public events for each instrument before anybody looks, so that the books have depth and orders meet; and the longest
# time, in seconds, that they may be thought to have taken.
_WARM_UP = 300
_LONGEST_WARM_UP = 86_400.0


class _Client(Stream[SimulatorConnection]):
    """One client's stream, on which things may go wrong.

    Attributes:
        number: of its stream, for people.
        valve: what may pass; only chaos turns it down.
        is_mute: nothing can be sent any more, because our half of the stream was closed.
    """

    def __init__(self, sock: socket.socket, machine: SimulatorConnection, now: float, number: int) -> None:
        super().__init__(sock, machine, now)
        self.number = number
        self.valve = Valve()
        self.is_mute = False

    @property
    def deadline(self) -> float:
        """When something is due on it."""
        return min(super().deadline, self.valve.deadline)

    def wants(self, now: float) -> int:
        """Nothing while the valve is shut; and who lets bytes drop does so in time, not when the socket has room."""
        if self.valve.deadline <= now:
            self.valve.look(now)
        if self.unsent and self.valve.deadline < math.inf:
            # What is held back is so to the last byte, even if its machine has ended.
            self.leaves_by = max(self.leaves_by, self.valve.deadline + _LAST_BYTES)
        if self.valve.is_shut(now):
            return 0
        return super().wants(now) if self.valve.deadline == math.inf else selectors.EVENT_READ

    def send(self, data: bytes, now: float) -> int:
        """Send what may pass."""
        self.valve.look(now)
        if self.is_mute:
            return len(data)
        passing = self.valve.take(data, now)
        return super().send(passing, now) if passing else 0


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
        allowed_origins: where web pages that use it may come from; None if nobody asks.
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
        allowed_origins: Collection[str] | None = None,
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
        self.simulator = Simulator(
            market,
            accounts=accounts,
            names=names,
            now=now,
            unix_time=unix_time,
            allowed_origins=allowed_origins,
        )
        self.events = 0
        self._chaos = chaos
        self._refusing_until = -math.inf
        self._accepted = 0
        self._stopping = False
        self._thread: threading.Thread | None = None
        listener = open_listener(*address)
        self._port: int = listener.getsockname()[1]
        self._loop: StreamLoop[_Client] = StreamLoop(
            listener, self._welcome, lambda _client: None, limits=_LIMITS, ssl_context=ssl_context
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def clients(self) -> int:
        """How many byte streams are open."""
        return len(self._loop.streams)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End its thread; say goodbye to the clients, as far as their sockets take it at once, and close everything."""
        if self._thread is not None:
            self.stop()
            self._thread.join()
        for client in self._loop.streams:
            client.machine.close(now=time.monotonic())
            self._loop.touch(client)
        self._loop.flush()
        self._loop.close()

    def stop(self) -> None:
        """Make `run` return; may be called from another thread."""
        self._stopping = True
        self._loop.wake()

    def refuse_until(self, until: float) -> None:
        """Reset whoever connects, until that time of `time.monotonic()`."""
        self._refusing_until = until

    def run_in_thread(self) -> threading.Thread:
        """Run in a daemon thread until `stop` or `close`."""
        self._thread = threading.Thread(target=self.run, name="embedded exchange", daemon=True)
        self._thread.start()
        return self._thread

    def run(self) -> None:
        """Serve until `stop` is called."""
        while not self._stopping:
            self._loop.turn(self._due())
            self._trade()
            if self._chaos is not None:
                self._go_wrong(self._chaos, time.monotonic())
            for client in self._loop.streams:
                self._loop.touch(client)  # what happens on the market concerns them all

    def _due(self) -> float:
        """When something is due that no stream knows of."""
        if self._at_full_speed and self._has_room():
            return -math.inf
        return min(self.simulator.deadline, math.inf if self._chaos is None else self._chaos.deadline)

    def _has_room(self) -> bool:
        subscribed = [client for client in self._loop.streams if client.machine.is_subscribed]
        return bool(subscribed) and all(client.waiting_bytes < _FULL for client in subscribed)

    def _trade(self) -> None:
        now = time.monotonic()
        self.events += self.simulator.advance(now)
        for _ in range(_BURST if self._at_full_speed and self._has_room() else 0):
            self.events += self.simulator.step(now)

    def _welcome(self, sock: socket.socket, now: float) -> _Client | None:
        if now < self._refusing_until:
            return None
        self._accepted += 1
        return _Client(sock, self.simulator.accept(now), now, self._accepted)

    # ------------------------------------------------------------------------------------------------- chaos

    def _go_wrong(self, chaos: Chaos, now: float) -> None:
        clients = {client.number: client for client in self._loop.streams}
        fault = chaos.next_fault(list(clients), now)
        if fault is None:
            return
        client = clients[fault.stream]
        match fault.kind:
            case FaultKind.RESET:
                client.machine.receive_data(b"", now)
                self._loop.drop(client, reset=True)
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
