"""`Retries`: when to connect to a hub again, as the official clients do where automatic reconnect is asked for.

One `HubConnection` is one attempt; this tells when the next one is due. It sees the events of each attempt and knows
nothing else of it, and no clock. What a call or a stream means on another connection only the application knows: all
have settled with the old one. (`Session` does all this and more for the exchange, with pauses drawn at random.)

Source: SignalR specification, section 15.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import final

from etorox_proto.signalr._errors import ConnectionFailed, LocalProtocolError
from etorox_proto.signalr._events import Closed, Connected, Dial, HubEvent

__all__ = ["DEFAULT_DELAYS", "Retries"]

# Seconds before the first attempt after a loss, the second, and so on; those of the official clients.
DEFAULT_DELAYS = (0.0, 2.0, 10.0, 30.0)

Policy = Callable[[int, float, ConnectionFailed], float | None]


@final
class Retries:
    """The time of the next attempt.

    A connection that had been up is made again, unless our own `close` ended it, or the server's Close without an
    invitation to come back, or an error that says `may_retry` is False. A first attempt that fails is the application's
    business. Once a connection had been up, every failure of a later attempt counts, whatever it was; one that succeeds
    makes the count start over.

    Args:
        delays: the pauses, in seconds, before the first attempt after a loss, the second, and so on; behind the last
            one there is no further attempt. Or a function that is given how many attempts have failed since the loss,
            how many seconds ago that was, and the last error, and gives the pause, or None to give up.

    Attributes:
        deadline: when to make the next `HubConnection`; `math.inf` while none is due, and for good once the last
            attempt is over.
        failed: how many attempts have failed since the loss.

    Raises:
        LocalProtocolError: a delay is no number of seconds.
    """

    def __init__(self, delays: Iterable[float] | Policy = DEFAULT_DELAYS) -> None:
        self._policy: Policy | None = delays if callable(delays) else None
        self._delays = () if callable(delays) else tuple(map(_checked, delays))
        self._is_up = False
        self._lost_at: float | None = None
        self._is_stopped = False
        self.deadline = math.inf
        self.failed = 0

    def handle_event(self, event: HubEvent, now: float) -> None:
        """Take an event of the attempt that is under way, each in its order; most are nothing to it.

        Raises:
            LocalProtocolError: the application's function gave what is no number of seconds; there is no further
                attempt.
        """
        match event:
            case Dial():
                self.deadline = math.inf
            case Connected():
                self._is_up, self._lost_at, self.failed = True, None, 0
            case Closed(error):
                self._closed(error, now)
            case _:
                pass

    def stop(self) -> None:
        """Make no further attempt."""
        self._is_stopped = True
        self.deadline = math.inf

    def _closed(self, error: ConnectionFailed | None, now: float) -> None:
        was_up, self._is_up = self._is_up, False
        self.deadline = math.inf
        if self._is_stopped or error is None or not (error.may_retry if was_up else self._lost_at is not None):
            self.stop()
            return
        if self._lost_at is None:
            self._lost_at = now
        else:
            self.failed += 1
        pause = self._pause(now - self._lost_at, error)
        if pause is None:
            self.stop()
        else:
            self.deadline = now + pause

    def _pause(self, elapsed: float, error: ConnectionFailed) -> float | None:
        if self._policy is None:
            return self._delays[self.failed] if self.failed < len(self._delays) else None
        pause = self._policy(self.failed, elapsed, error)
        return None if pause is None else _checked(pause)


def _checked(delay: object) -> float:
    if not isinstance(delay, int | float) or not 0 <= delay < math.inf:
        raise LocalProtocolError(f"expected a delay in seconds, from 0 upwards, got {delay!r}")
    return float(delay)
