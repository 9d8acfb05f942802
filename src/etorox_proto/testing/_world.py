"""`World`: what the parts of one virtual network share: the clock, the random source, and who is to be looked after.

Hosts and drivers register here; whoever runs user code says so with `touch`, because that code may have given commands
to any machine of the network, and everybody is then asked once what there is to send. `Dialing` is a stream that is
about to be opened.
"""

from __future__ import annotations

import random
from typing import Protocol

from etorox_proto.signalr import Dial
from etorox_proto.testing._clock import Clock, Rank
from etorox_proto.testing._errors import DialFault, VirtualDialFailed
from etorox_proto.testing._link import Link
from etorox_proto.testing._pipe import Pipe
from etorox_proto.testing._stream import Stream

__all__ = ["Caller", "Dialing", "Place", "Settling", "World"]


class Settling(Protocol):
    """An end of streams, or something else that acts for a machine."""

    def settle(self) -> None:
        """Carry on until there is nothing to do but wait: flush, take events, arm the wake-up."""
        ...


class Caller(Protocol):
    """Who dials."""

    def stream_opened(self, stream: Stream, *, incoming: Pipe, outgoing: Pipe) -> None:
        """There it is."""
        ...

    def dial_failed(self, error: VirtualDialFailed) -> None:
        """It could not be opened."""
        ...

    def receive(self, data: bytes) -> None:
        """Bytes have arrived on the stream; `b""` at its end."""
        ...

    def settle(self) -> None:
        """The stream was full and has room again."""
        ...


class Place(Protocol):
    """Where streams can be opened to."""

    link: Link

    def answer(self, dialing: Dialing) -> None:
        """A client's first packet has come and gone: open the stream, fail, or leave it unanswered."""
        ...


class World:
    """The shared part of a network.

    Args:
        now: the time to begin at.
        source: everything random that happens to bytes is drawn from it.
        link: what lies between clients and hosts that nobody knows.

    Attributes:
        places: who listens, by host and port.
        streams: those that are not over, oldest first.
        touched: whether user code has run since everybody was asked.
    """

    def __init__(self, now: float, source: random.Random, link: Link) -> None:
        self.clock = Clock(now)
        self.random = source
        self.link = link
        self.places: dict[tuple[str, int], Place] = {}
        self.streams: dict[Stream, None] = {}
        self.opened = 0
        self.touched = False
        self._settling: dict[Settling, None] = {}

    def add(self, end: Settling) -> None:
        """Look after it from now on."""
        self._settling[end] = None

    def remove(self, end: Settling) -> None:
        """It needs nothing any more."""
        self._settling.pop(end, None)

    def closed(self, stream: Stream) -> None:
        """One end has closed that stream."""
        if stream.is_over:
            self.streams.pop(stream, None)

    def touch(self) -> None:
        """User code runs, or has run."""
        self.touched = True

    def settle(self) -> None:
        """Ask everybody, until nothing comes of it."""
        self.touched = True
        while self.touched:
            self.touched = False
            for end in list(self._settling):
                end.settle()

    def pipe(self, link: Link) -> Pipe:
        """A fresh direction of a stream."""
        return Pipe(self.clock, self.random, link)


class Dialing:
    """A stream that is about to be opened: one round trip for TCP, and another for TLS.

    Args:
        world: the network's.
        dial: what is wanted.
        caller: who wants it.
    """

    def __init__(self, world: World, dial: Dial, caller: Caller) -> None:
        self.dial = dial
        self.caller = caller
        self._place = world.places.get((dial.host, dial.port))
        self._wakeup = world.clock.wakeup(self._arrive, Rank.ARRIVAL)
        link = world.link if self._place is None else self._place.link
        trips = 4 if dial.tls else 2
        self._wakeup.set(world.clock.now + sum(link.delay(world.random) for _ in range(trips)))

    def try_again_at(self, time: float) -> None:
        """Nobody has answered; TCP asks again."""
        self._wakeup.set(time)

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._wakeup.set(float("inf"))

    def fail(self, reason: DialFault, *, may_retry: bool) -> None:
        """The caller learns why there is no stream."""
        self.caller.dial_failed(VirtualDialFailed(self.dial.host, self.dial.port, reason, may_retry=may_retry))

    def _arrive(self) -> None:
        if self._place is None:
            self.fail("unknown host", may_retry=True)
        else:
            self._place.answer(self)
