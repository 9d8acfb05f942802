"""`Stream`: one byte stream between a client and a host, as a test sees it: what can be done to it.

It holds the two pipes and nothing else. Streams are found in `VirtualNetwork.streams`, `Listener.streams` and
`Driver.stream`. Every fault acts at once; `VirtualNetwork.at` puts it off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, final

from etorox_proto.signalr import LocalProtocolError
from etorox_proto.testing._pipe import Pipe

__all__ = ["Side", "Stream", "Toward"]

Side = Literal["client", "server"]
"""One end of a stream."""

Toward = Literal["client", "server", "both"]
"""A direction, named for the end at which the bytes arrive."""


@final
class Stream:
    """One byte stream; made by the network when a client has dialled.

    Attributes:
        number: the network's streams are numbered from 1, in the order in which they were opened.
        host: which host it leads to.
        port: and which port.
        opened_at: when, in seconds of the network's clock.
        was_reset: whether it was reset.
    """

    def __init__(
        self, number: int, host: str, port: int, opened_at: float, *, to_client: Pipe, to_server: Pipe
    ) -> None:
        self.number = number
        self.host = host
        self.port = port
        self.opened_at = opened_at
        self.was_reset = False
        self._pipes = {"client": to_client, "server": to_server}

    def __repr__(self) -> str:
        return f"<Stream {self.number} to {self.host} port {self.port}>"

    @property
    def is_over(self) -> bool:
        """Whether both ends have closed it."""
        return all(pipe.is_abandoned for pipe in self._pipes.values())

    def waiting(self, toward: Side) -> int:
        """How many bytes were sent in that direction and have not been read."""
        return self._pipes[toward].waiting

    def reset(self) -> None:
        """Break it off: what is under way is lost, and both ends learn at once that it is over.

        An end that has closed the stream already learns nothing, so for a stream that is over this does nothing.
        """
        self.was_reset = self.was_reset or not self.is_over
        for pipe in self._pipes.values():
            pipe.break_off()

    def end(self, toward: Toward = "both") -> None:
        """End it in good order, behind what is under way; in one direction only, that is a half-close."""
        for pipe in self._toward(toward):
            pipe.end()

    def black_hole(self, toward: Toward = "both", *, seconds: float = math.inf) -> None:
        """Let nothing arrive any more, and nobody know.

        Args:
            toward: in which direction.
            seconds: what was sent arrives after that time, as TCP sends it again; `math.inf` for never, 0 to end an
                earlier black hole now.
        """
        for pipe in self._toward(toward):
            pipe.fall_silent(seconds)

    def corrupt(self, toward: Side = "client", *, count: int = 1) -> None:
        """Change so many bytes of what arrives next, at places drawn from the network's seed.

        What a server makes of it may differ from run to run all the same: clients mask what they send, and wsproto
        draws the masks itself.
        """
        if count < 1:
            raise LocalProtocolError(f"expected at least 1 byte to corrupt, got {count!r}")
        self._pipes[toward].damage(count)

    def limit_reading(self, side: Side, rate: float) -> None:
        """Let one end read slowly, so that the other is held back once the link's window is full.

        Args:
            side: who reads slowly.
            rate: bytes a second; 0 for none at all, `math.inf` to end the limit.
        """
        if not rate >= 0:
            raise LocalProtocolError(f"expected a rate of 0 bytes a second or more, got {rate!r}")
        self._pipes[side].limit_reading(rate)

    def _toward(self, toward: Toward) -> Iterable[Pipe]:
        return self._pipes.values() if toward == "both" else (self._pipes[toward],)
