"""`Pipe`: bytes in one direction of one stream, as TCP carries them; two of them make a `Stream`.

What is written arrives in order and once, after the time that the link takes, or not at all. It knows when bytes are
due and to whom they go, and nothing of what they mean. The ends (`_attempt`, `_hosts`) write and read, `Stream` does
the damage.

Bytes that do not fit into the link's window wait here as `unsent`. As long as some do, `is_full` holds: a well-behaved
sender then leaves what it still has where it is until `writable` is called.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable

from etorox_proto.testing._clock import Clock, Rank
from etorox_proto.testing._link import Link

__all__ = ["Pipe"]


class Pipe:
    """One direction; nothing passes before `join`.

    Args:
        clock: the network's.
        source: the network's random source.
        link: what the bytes go through.
    """

    _read: Callable[[bytes], None]
    _writable: Callable[[], None]

    def __init__(self, clock: Clock, source: random.Random, link: Link) -> None:
        self._clock = clock
        self._random = source
        self._link = link
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._under_way = 0
        self._unsent = b""
        self._is_ended = False
        self._end_is_sent = False
        self._is_broken = False
        self._is_abandoned = False
        self._is_paused = False
        self._last_arrival = -math.inf
        self._line_is_free = -math.inf
        self._silent_until = -math.inf
        self._rate = math.inf
        self._next_read = -math.inf
        self._damage = 0
        self._wakeup = clock.wakeup(self._deliver, Rank.ARRIVAL)

    def join(self, read: Callable[[bytes], None], writable: Callable[[], None]) -> None:
        """Give the pipe its two ends.

        Args:
            read: takes the bytes that arrive, `b""` at the end.
            writable: called when the pipe was full and has room again.
        """
        self._read = read
        self._writable = writable

    @property
    def is_full(self) -> bool:
        """Whether the sender is held back."""
        return bool(self._unsent)

    @property
    def is_abandoned(self) -> bool:
        """Whether the reader is gone."""
        return self._is_abandoned

    @property
    def waiting(self) -> int:
        """How many bytes have been sent and not been read."""
        return self._under_way + len(self._unsent)

    # ------------------------------------------------------------------------------------------ the sender

    def send(self, data: bytes) -> None:
        """Write bytes; after the end they are dropped, as a socket drops them."""
        if not self._is_ended:
            self._unsent += data
            self._transmit()

    def end(self) -> None:
        """Write nothing more: the reader learns of it behind everything that was written."""
        self._is_ended = True
        self._transmit()

    def _transmit(self) -> None:
        room = self._link.window - self._under_way
        if self._unsent and room > 0:
            data, self._unsent = self._unsent[:room], self._unsent[room:]
            for piece in self._link.cut(data, self._random):
                self._put(piece)
        if self._is_ended and not self._unsent and not self._end_is_sent:
            self._end_is_sent = True
            self._put(b"")
        self._wakeup.set(self._due())

    def _put(self, piece: bytes) -> None:
        link = self._link
        self._line_is_free = max(self._line_is_free, self._clock.now) + len(piece) / link.bandwidth
        self._last_arrival = max(self._last_arrival, self._line_is_free + link.delay(self._random))
        self._pieces.append((self._last_arrival, piece))
        self._under_way += len(piece)

    # ------------------------------------------------------------------------------------------ the reader

    def pause(self) -> None:
        """Read nothing for now."""
        self._is_paused = True
        self._wakeup.set(self._due())

    def resume(self) -> None:
        """Read on."""
        self._is_paused = False
        self._wakeup.set(self._due())

    def abandon(self) -> None:
        """Read nothing any more; what comes is dropped."""
        self._is_abandoned = True
        self._forget_all()
        self._wakeup.set(math.inf)

    def _due(self) -> float:
        """When the next piece is to be read."""
        if not self._pieces or (self._is_paused and not self._is_broken):
            return math.inf
        return max(self._pieces[0][0], self._silent_until, self._next_read)

    def _deliver(self) -> None:
        try:
            while self._due() <= self._clock.now:
                self._read(self._take())
                if self._unsent:
                    self._transmit()
                    if not self._unsent:
                        self._writable()
        finally:
            self._wakeup.set(self._due())

    def _take(self) -> bytes:
        arrival, piece = self._pieces.popleft()
        if self._rate < math.inf and piece:
            allowed = max(1, int(self._rate))
            if len(piece) > allowed:
                self._pieces.appendleft((arrival, piece[allowed:]))
                piece = piece[:allowed]
            self._next_read = self._clock.now + len(piece) / self._rate
        self._under_way -= len(piece)
        return self._damaged(piece) if self._damage and piece else piece

    def _damaged(self, piece: bytes) -> bytes:
        hit = self._random.sample(range(len(piece)), min(self._damage, len(piece)))
        self._damage -= len(hit)
        damaged = bytearray(piece)
        for position in hit:
            # Exclusive or, because clients mask what they send: so it is the same damage under any mask.
            damaged[position] ^= self._random.randrange(1, 256)
        return bytes(damaged)

    # ---------------------------------------------------------------------------------------------- faults

    def break_off(self) -> None:
        """Lose everything that is under way, and let the reader know at once, even one that does not read."""
        if self._is_abandoned:
            return
        self._forget_all()
        self._is_broken = True
        self._silent_until = self._next_read = -math.inf
        self._pieces.append((self._clock.now, b""))
        self._wakeup.set(self._due())

    def fall_silent(self, seconds: float) -> None:
        """Let nothing arrive for so long."""
        self._silent_until = self._clock.now + seconds
        self._wakeup.set(self._due())

    def damage(self, count: int) -> None:
        """Change so many of the next bytes that arrive."""
        self._damage += count

    def limit_reading(self, rate: float) -> None:
        """Let the reader take so many bytes a second and no more; 0 for none, `math.inf` for all there are."""
        self._rate = rate
        self._next_read = -math.inf if rate else math.inf
        self._wakeup.set(self._due())

    def _forget_all(self) -> None:
        self._pieces.clear()
        self._under_way = 0
        self._unsent = b""
        self._is_ended = self._end_is_sent = True
