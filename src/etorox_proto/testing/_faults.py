"""`RandomFaults`: trouble at random times, of random kinds, at random places; all from one seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal, final, get_args

from etorox_proto.signalr import LocalProtocolError
from etorox_proto.testing._hosts import HowToStop, Listener
from etorox_proto.testing._network import VirtualNetwork
from etorox_proto.testing._stream import Side, Stream, Toward

__all__ = ["FaultKind", "RandomFaults"]

FaultKind = Literal[
    "reset", "end", "stall", "black hole", "corrupt", "slow reader", "refuse", "ignore", "tls", "restart"
]
"""What can happen: to one stream (the first six), or to one listener."""

_DIRECTIONS: tuple[Toward, ...] = ("client", "server", "both")
_SIDES: tuple[Side, ...] = ("client", "server")
_STOPS: tuple[HowToStop, ...] = ("reset", "end", "goodbye")


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
        log: what happened: the time, the kind, and to what.

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
        self.log: list[tuple[float, FaultKind, Stream | Listener]] = []
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
        kind, listener = self._random.choice(self._kinds), self._random.choice(self._listeners)
        seconds = self._random.expovariate(1 / self._spell)
        if (on_listener := self._on_listener(kind, listener, seconds)) is not None:
            on_listener()
            self.log.append((self._network.now, kind, listener))
        elif streams := listener.streams:
            stream = self._random.choice(streams)
            self._hit(kind, stream, seconds)
            self.log.append((self._network.now, kind, stream))

    def _on_listener(self, kind: FaultKind, listener: Listener, seconds: float) -> Callable[[], None] | None:
        match kind:
            case "refuse":
                return lambda: listener.refuse_dials(seconds)
            case "ignore":
                return lambda: listener.ignore_dials(seconds)
            case "tls":
                return lambda: listener.fail_tls(seconds, may_retry=True)
            case "restart":
                how = self._random.choice(_STOPS)
                return lambda: listener.restart(seconds, how=how)
            case _:
                return None

    def _hit(self, kind: FaultKind, stream: Stream, seconds: float) -> None:
        toward = self._random.choice(_DIRECTIONS)
        side = self._random.choice(_SIDES)
        match kind:
            case "reset":
                stream.reset()
            case "end":
                stream.end(toward)
            case "stall":
                stream.black_hole(toward, seconds=seconds)
            case "black hole":
                stream.black_hole(toward)
            case "corrupt":
                stream.corrupt(side)
            case _:
                stream.limit_reading(side, 100.0)
                self._network.at(self._network.now + seconds, lambda: stream.limit_reading(side, float("inf")))
