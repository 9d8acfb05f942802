"""`Fault`: one piece of trouble. `RandomFaults`: many, at random times and places; all from one seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Literal, final, get_args

import msgspec

from etorox_proto.signalr import LocalProtocolError
from etorox_proto.testing._hosts import HowToStop, Listener
from etorox_proto.testing._network import VirtualNetwork
from etorox_proto.testing._stream import Side, Stream, Toward

__all__ = ["Fault", "FaultKind", "RandomFaults"]

FaultKind = Literal[
    "reset", "end", "stall", "black hole", "corrupt", "slow reader", "refuse", "ignore", "tls", "restart"
]
"""What can happen: to one stream (the first six), or to one listener."""

_DIRECTIONS: tuple[Toward, ...] = ("client", "server", "both")
_SIDES: tuple[Side, ...] = ("client", "server")
_STOPS: tuple[HowToStop, ...] = ("reset", "end", "goodbye")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault: what happens, when, to what. Only what its kind needs of it counts.

    Attributes:
        kind: what happens.
        after: how many seconds after it is scheduled.
        seconds: how long it lasts, if it passes by itself.
        which: which of the listener's streams, the oldest is 0; modulo their number.
        toward: in which direction, for `"end"`, `"stall"` and `"black hole"`.
        side: at which end, for `"corrupt"` and `"slow reader"`.
        how: for `"restart"`.
    """

    kind: FaultKind
    after: float = 0.0
    seconds: float = 1.0
    which: int = 0
    toward: Toward = "both"
    side: Side = "client"
    how: HowToStop = "reset"

    def schedule(self, network: VirtualNetwork, listener: Listener) -> None:
        """Let it happen in time to come. A fault of a stream finds nothing to do if there is none by then."""
        network.at(network.now + self.after, lambda: self.strike(network, listener))

    def strike(self, network: VirtualNetwork, listener: Listener) -> Stream | Listener | None:
        """Let it happen now.

        Returns:
            What it happened to; None if there is no such stream.
        """
        if self._strike_listener(listener):
            return listener
        if not (streams := listener.streams):
            return None
        stream = streams[self.which % len(streams)]
        self._strike_stream(network, stream)
        return stream

    def _strike_listener(self, listener: Listener) -> bool:
        match self.kind:
            case "refuse":
                listener.refuse_dials(self.seconds)
            case "ignore":
                listener.ignore_dials(self.seconds)
            case "tls":
                listener.fail_tls(self.seconds, may_retry=True)
            case "restart":
                listener.restart(self.seconds, how=self.how)
            case _:
                return False
        return True

    def _strike_stream(self, network: VirtualNetwork, stream: Stream) -> None:
        match self.kind:
            case "reset":
                stream.reset()
            case "end":
                stream.end(self.toward)
            case "stall":
                stream.black_hole(self.toward, seconds=self.seconds)
            case "black hole":
                stream.black_hole(self.toward)
            case "corrupt":
                stream.corrupt(self.side)
            case _:
                stream.limit_reading(self.side, 100.0)
                network.at(network.now + self.seconds, lambda: stream.limit_reading(self.side, float("inf")))


@final
class RandomFaults:
    """Does something bad to the network now and then, beginning at once; `stop` ends it.

    Args:
        network: which.
        listeners: whose streams and dials are concerned.
        rate: faults a second on average, such as `1 / 3600`; the times between them are exponentially distributed.
        kinds: what may happen; by default everything. `"corrupt"` makes runs that do not repeat to the letter, see
            `Stream.corrupt`.
        spell: how long a fault lasts that passes by itself, on average, in seconds.
        seed: the faults are drawn from it, apart from the network's own seed.

    Attributes:
        log: what happened: the time, the kind, and the name of what it happened to, which itself need not be kept.

    Raises:
        LocalProtocolError: no listener, no kind, or a number that is not positive.
    """

    def __init__(
        self,
        network: VirtualNetwork,
        listeners: Iterable[Listener],
        *,
        rate: float,
        kinds: Iterable[FaultKind] = get_args(FaultKind),
        spell: float = 30.0,
        seed: int = 0,
    ) -> None:
        self._network = network
        self._listeners = list(listeners)
        self._kinds = list(kinds)
        if not self._listeners or not self._kinds or not rate > 0 or not spell > 0:
            raise LocalProtocolError("expected at least one listener, one kind, a rate and a spell of more than 0")
        self._rate = rate
        self._spell = spell
        self._random = random.Random(f"faults {seed}")  # noqa: S311 - seeded on purpose
        self._is_stopped = False
        self.log: list[tuple[float, FaultKind, str]] = []
        self._wait()

    @property
    def counts(self) -> Counter[str]:
        """How often each kind of fault has happened."""
        return Counter(kind for _, kind, _ in self.log)

    def stop(self) -> None:
        """Let nothing more happen; what lasts goes on."""
        self._is_stopped = True

    def _wait(self) -> None:
        self._network.at(self._network.now + self._random.expovariate(self._rate), self._strike)

    def _strike(self) -> None:
        if self._is_stopped:
            return
        self._wait()
        listener = self._random.choice(self._listeners)
        fault = Fault(
            kind=self._random.choice(self._kinds),
            seconds=self._random.expovariate(1 / self._spell),
            which=self._random.randrange(1_000_000),
            toward=self._random.choice(_DIRECTIONS),
            side=self._random.choice(_SIDES),
            how=self._random.choice(_STOPS),
        )
        if (struck := fault.strike(self._network, listener)) is not None:
            self.log.append((self._network.now, fault.kind, repr(struck)))
