"""`VirtualNetwork`: hosts, clients, the byte streams between them, and a clock that jumps to the next wake-up.

It is the whole world of a test: no socket, no clock, no entropy, and a run is a function of its seed and of what the
test does. `_world` holds what is shared, `_hosts` the servers' side, `_drivers` the clients', `_stream` what can be
done to a stream; this module opens the doors and lets time pass.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterator
from typing import TypeVar, final

from etorox_proto import (
    Closed,
    Credentials,
    ExchangeConfig,
    ExchangeConnection,
    LocalProtocolError,
    Session,
    SessionEvent,
)
from etorox_proto.testing._attempt import ClientMachine
from etorox_proto.testing._clock import Rank
from etorox_proto.testing._drivers import Driver, SessionDriver
from etorox_proto.testing._hosts import Host, Listener, check_address
from etorox_proto.testing._link import Link
from etorox_proto.testing._stream import Stream
from etorox_proto.testing._world import World

__all__ = ["FakeSigner", "VirtualNetwork"]

EventT = TypeVar("EventT")

_LINK = Link()


@final
class VirtualNetwork:
    """A network in memory and virtual time.

    Args:
        seed: everything random is drawn from it.
        now: the time to begin at, in seconds.
        unix_time: seconds since the epoch at that time.
        link: what lies between clients and hosts, unless `listen` is told otherwise.

    Attributes:
        random: for what a test itself draws, such as the jitter of a session; seeded, and apart from what the network
            draws.
        link: what lies between clients and hosts, unless `listen` is told otherwise.
    """

    def __init__(
        self, *, seed: int = 0, now: float = 0.0, unix_time: float = 1_600_000_000.0, link: Link = _LINK
    ) -> None:
        self.random = random.Random(f"test {seed}")  # noqa: S311 - seeded on purpose
        self.link = link
        self._world = World(now, random.Random(f"network {seed}"), link)  # noqa: S311
        self._epoch = unix_time - now
        self._is_running = False

    def __repr__(self) -> str:
        return f"<VirtualNetwork at {self.now:g} s: {len(self._world.streams)} streams>"

    @property
    def now(self) -> float:
        """Virtual seconds; what every machine of this network is to be told."""
        return self._world.clock.now

    @property
    def unix_time(self) -> float:
        """Seconds since the epoch."""
        return self._epoch + self._world.clock.now

    @property
    def streams(self) -> list[Stream]:
        """The streams that are not closed at both ends, oldest first."""
        return list(self._world.streams)

    @property
    def deadline(self) -> float:
        """When something happens next if nobody does anything, in seconds of `now`; `math.inf` for never.

        With it and `run_until` an event loop can carry a network along, as it carries a machine.
        """
        return self._world.clock.next_due()

    # -------------------------------------------------------------------------------------------- who is there

    def listen(self, service: Host, host: str, port: int = 443, *, link: Link | None = None) -> Listener:
        """Let a server be reached.

        Args:
            service: such as a `FakeExchange`; one may listen at several addresses.
            host: the name under which it is dialled.
            port: and the port.
            link: what lies between clients and this host; by default the network's.

        Raises:
            LocalProtocolError: that is no address, or somebody listens there.
        """
        address = check_address(host, port)
        if address in self._world.places:
            raise LocalProtocolError(f"expected an address at which nobody listens, got {host} port {port}")
        listener = Listener(self._world, *address, service, link or self.link)
        self._world.places[address] = listener
        return listener

    def drive(
        self,
        machine: ClientMachine[EventT],
        *,
        deliver: Callable[[EventT | Closed], object] | None = None,
        keep: int | None = None,
    ) -> Driver[EventT]:
        """Run the one loop on a client machine from now on, until its end.

        Args:
            machine: an `ExchangeConnection`, a `HubConnection`, or one of yours; made at this network's `now`.
            deliver: called with each event, `Dial` excepted, as it comes. It may give commands to any machine.
            keep: how many events `Driver.events` holds, the oldest going first; by default all of them, and none with
                `deliver`.
        """
        return Driver(self._world, machine, deliver, keep)

    def drive_session(
        self,
        session: Session,
        *,
        deliver: Callable[[SessionEvent], object] | None = None,
        keep: int | None = None,
        clock_skew: Callable[[], float | None] | None = None,
    ) -> SessionDriver:
        """Run a session and all its connections from now on, until its end.

        Args:
            session: made at this network's `now`.
            deliver: as for `drive`.
            keep: as for `drive`.
            clock_skew: answers `CheckClock`: the exchange's wall clock minus that of the client, in seconds, or None.
                Without it the answer is None.
        """
        return SessionDriver(self._world, session, deliver, keep, clock_skew)

    def new_exchange_connection(
        self, config: ExchangeConfig, credentials: Credentials | None = None, *, skew: float = 0.0
    ) -> ExchangeConnection:
        """A new attempt by this network's clock, with a nonce and a correlation id of its seed.

        Args:
            config: where to connect.
            credentials: who we are; by default somebody whom a `FakeExchange` lets in.
            skew: seconds to add to the wall time.
        """
        return ExchangeConnection(
            config,
            credentials or Credentials("00000000-0000-4000-8000-000000000000", FakeSigner()),
            now=self.now,
            unix_time=self.unix_time + skew,
            nonce=_uuid(self.random),
            correlation_id=_uuid(self.random),
        )

    # --------------------------------------------------------------------------------------------- time passes

    def at(self, time: float, action: Callable[[], object]) -> None:
        """Do something at a time, before anything else that is due then.

        Raises:
            LocalProtocolError: that time is past.
        """
        if not time >= self.now:
            raise LocalProtocolError(f"expected a time from {self.now:g} s on, got {time!r}")

        def act() -> None:
            self._world.touch()
            action()

        self._world.clock.wakeup(act, Rank.ACTION).set(time)

    def step(self) -> bool:
        """Jump to the next wake-up and let it happen.

        Returns:
            False if nothing is ever going to happen.
        """
        with self._running():
            return self._fire_next(math.inf)

    def run_until(self, time: float) -> None:
        """Let everything happen up to and at this time, which is `now` afterwards.

        Raises:
            LocalProtocolError: that time is past.
        """
        if not time >= self.now:
            raise LocalProtocolError(f"expected a time from {self.now:g} s on, got {time!r}")
        with self._running():
            while self._fire_next(time):
                pass
            if time < math.inf:
                self._world.clock.now = time

    def run_for(self, seconds: float) -> None:
        """Let so much time pass."""
        self.run_until(self.now + seconds)

    def wait_for(self, condition: Callable[[], object], *, within: float = 60.0) -> None:
        """Let time pass until something is so, and no longer.

        Args:
            condition: looked at after every wake-up.
            within: seconds.

        Raises:
            TimeoutError: it did not become so; that much time has passed.
        """
        until = self.now + within
        with self._running():
            while not condition():
                if not self._fire_next(until):
                    self._world.clock.now = until
                    raise TimeoutError(
                        f"expected the condition to hold within {within:g} s, it does not at {until:g} s"
                    )

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        if self._is_running:
            raise LocalProtocolError("expected time to pass on one level, got a run inside of an action or a delivery")
        self._is_running = True
        try:
            # Commands may have been given since the last run.
            self._world.settle()
            yield
        finally:
            self._is_running = False

    def _fire_next(self, until: float) -> bool:
        world = self._world
        fired = world.clock.fire_next(until)
        if world.touched:
            world.settle()
        return fired


@final
class FakeSigner:
    """Signs without a key, at once and always the same; a `FakeExchange` that checks no signatures accepts it."""

    def sign(self, payload: bytes, /) -> bytes:
        """Something that looks like a signature."""
        return b"signed:" + payload


def _uuid(source: random.Random) -> str:
    """A random UUID, version 4."""
    digits = f"{source.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
