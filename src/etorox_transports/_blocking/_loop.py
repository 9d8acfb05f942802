"""The one loop, blocking: flush, take events, or wait for bytes until the deadline; on one connection or several.

`Driver` runs the connections that a source starts, a `Session` or the `OneConnection` of a hub, and gives them bytes
and time. It knows the contract of the machines and nothing of what their events mean; `_client` builds on it.

There is one thread, the caller's. While one connection lives it blocks in `receive`; while two do, during a rotation
or a goodbye, they are asked in turn; while none does, it sleeps.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, assert_type, final

from etorox_proto import CheckClock, Closed, ConnectionLost, Dial, SessionAction, StartAttempt
from etorox_transports._blocking._line import Line, Opener

__all__ = ["Driver", "OneConnection", "Source"]

# How long a peer that does not read may hold up what we send, in seconds.
_SEND_TIMEOUT = 5.0
# While two connections live, how long to listen to one before turning to the other.
_TURN = 0.005
# What opening a stream or sending a goodbye is given, even if something else is due earlier: a ping that is a second
# late harms nobody.
_SHORTEST = 1.0
# How late an answer to the question for the time is of no use any more.
_CLOCK_PATIENCE = 10.0
# The longest sleep at a stretch; clocks may jump while a machine sleeps.
_LONGEST_SLEEP = 3600.0


class Source(Protocol):
    """What says which connections to run: a `Session`, or `OneConnection`."""

    @property
    def deadline(self) -> float:
        """When `handle_timeout` must be called next."""
        ...

    def handle_event(self, connection: Any, event: Any, now: float) -> None:
        """A connection said something."""
        ...

    def handle_timeout(self, now: float) -> None:
        """Time has passed."""
        ...

    def clock_checked(self, skew: float | None, now: float) -> None:
        """The answer to `CheckClock`."""
        ...

    def next_action(self) -> SessionAction | None:
        """What to do."""
        ...

    def next_batch(self) -> Any:
        """What to tell the application, `Closed` last; None: nothing now."""
        ...

    def close(self, *, now: float) -> None:
        """End all connections."""
        ...


@final
class OneConnection:
    """A source of one connection and no other; its events are passed on as they are."""

    deadline = math.inf

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._actions: list[SessionAction] = [StartAttempt(connection)]
        self._events: deque[Any] = deque()

    def handle_event(self, _connection: Any, event: Any, _now: float) -> None:
        """See `Source`."""
        self._events.append(event)

    def handle_timeout(self, now: float) -> None:
        """See `Source`; it has no time of its own."""

    def clock_checked(self, skew: float | None, now: float) -> None:
        """See `Source`; it never asks."""

    def next_action(self) -> SessionAction | None:
        """See `Source`."""
        return self._actions.pop() if self._actions else None

    def next_batch(self) -> Any:
        """See `Source`."""
        return self._events.popleft() if self._events else None

    def close(self, *, now: float) -> None:
        """See `Source`."""
        self._connection.close(now=now)


@final
class Driver:
    """Runs the connections of one source, in the thread of whoever asks for events.

    After an exception from its inside, such as Ctrl-C while data was being processed, the machines may stand halfway:
    all streams are then dropped at once, and the end says so. An interrupt while it waits for bytes does no harm.

    Args:
        source: says which connections to run.
        opener: opens their streams.
        time_source: the exchange's wall clock in Unix seconds, if it can be asked.

    Attributes:
        due: when `keep_alive` must be called, if nothing is read before.
        end: the last event, once it was taken.
        is_checking_clock: whether the source has just asked for the time, because an attempt was refused.
    """

    def __init__(self, source: Source, opener: Opener, time_source: Callable[[], float] | None = None) -> None:
        self._source = source
        self._next = source.next_batch
        self._opener = opener
        self._time_source = time_source
        self._lines: list[Line] = []
        self.due = math.inf
        self._has_begun = False
        self._is_paused = False
        self._is_closing = False
        self.end: Closed | None = None
        self.is_checking_clock = False

    def next_event(self, until: float) -> Any:
        """The source's next event or batch of them; None once it is closed.

        Raises:
            TimeoutError: `until` has come and there is none. Opening a stream may take longer.
        """
        event = self._next()
        while event is None:
            if self.end is not None:
                return None
            self._turn(until)
            event = self._next()
            if event is None and self.end is None and until <= time.monotonic():
                raise TimeoutError
        if type(event) is Closed:
            self.end = event
            self.drop()
            return None
        if self.due <= time.monotonic():
            self.keep_alive()  # a slow consumer has still to take what the last read brought
        return event

    def keep_alive(self) -> float:
        """Do what is due without reading; silence of the server does not count until the next read.

        Returns:
            When it must be called again, if nothing is read before.
        """
        if self.end is None and self._has_begun:
            self._carefully(self._pause)
        return self.due

    def commanded(self) -> None:
        """The source was given a command: send what follows from it. What is not begun yet need not."""
        if self.end is None and self._has_begun:
            self._carefully(self._settle)

    def close(self) -> None:
        """Say goodbye; take events until None afterwards, which is within the connections' `close_timeout`."""
        if self.end is None:
            self._is_closing = self._has_begun = True
            self._carefully(self._say_goodbye)

    def drop(self) -> None:
        """Close all streams as they are, without a goodbye, and give the source up."""
        for line in self._lines:
            line.drop()
        self._lines.clear()
        self.due = math.inf
        self.end = self.end or Closed(None)

    # -------------------------------------------------------------------------------------------------- one turn

    def _turn(self, until: float) -> None:
        """Wait for bytes until something is due, and tell the machines what came."""
        if not self._has_begun:
            self._has_begun = True
            self.commanded()
            return
        if self._is_paused:
            self._carefully(self._resume)
        received = self._listen(min(until, self.due) - time.monotonic())
        self._carefully(self._tell, received)

    def _listen(self, patience: float) -> list[tuple[Line, bytes]]:
        """Wait for bytes, once on each connection."""
        received: list[tuple[Line, bytes]] = []
        if len(self._lines) > 1:
            patience = min(patience, _TURN)
        try:
            for line in self._lines:
                if (data := line.receive(patience)) is not None:
                    received.append((line, data))  # noqa: PERF401 - what came must be known if the next one raises
        except BaseException as error:
            if received or isinstance(error, Exception):
                self._abandon()  # bytes would be lost, or the stream is not what it should be
            raise
        if not self._lines:
            time.sleep(min(max(patience, 0.0), _LONGEST_SLEEP))
        return received

    def _pause(self) -> None:
        self._is_paused = True
        now = time.monotonic()
        for line in self._lines:
            line.machine.reading_paused(now)
            line.machine.handle_timeout(now)
        self._settle()

    def _resume(self) -> None:
        self._is_paused = False
        now = time.monotonic()
        for line in self._lines:
            line.machine.reading_resumed(now)
        self.due = self._deadline()

    def _say_goodbye(self) -> None:
        self._source.close(now=time.monotonic())
        self._settle()

    def _tell(self, received: list[tuple[Line, bytes]]) -> None:
        now = time.monotonic()
        for line, data in received:
            line.feed(data, now)
        if received:
            self._settle()
        # Bytes that had arrived were signs of life, and came first.
        if self.due <= now:
            for line in self._lines:
                line.machine.handle_timeout(now)
            self._source.handle_timeout(now)
            self._settle()

    def _settle(self) -> None:
        """After any input or command: do what is to be done, until nobody has anything to say."""
        is_busy = True
        while is_busy:
            spoke = [self._drain(line) for line in tuple(self._lines)]
            is_busy = len(spoke) > 1 and any(
                spoke
            )  # one alone is quiet now; among several it may have made others speak
            while (action := self._source.next_action()) is not None:
                is_busy = True
                if isinstance(action, StartAttempt):
                    self._lines.append(Line(action.connection))
                else:
                    assert_type(action, CheckClock)
                    self.is_checking_clock = True
                    self._source.clock_checked(self._skew(), time.monotonic())
        self.due = self._deadline()

    def _drain(self, line: Line) -> bool:
        """Send what a connection has to say and pass its events on, until it is quiet; whether there were any."""
        handle_event, machine, now = self._source.handle_event, line.machine, time.monotonic()
        has_spoken = False
        while True:
            line.flush(_SEND_TIMEOUT, self._send_until(line))
            event = machine.next_batch()
            if event is None:
                return has_spoken
            has_spoken = True
            kind = type(event)
            if kind is Dial:
                if line.deadline == math.inf:
                    continue  # it was closed before its stream was opened
                if (end := line.open(event, self._opener, self._dial_timeout(line))) is not None:
                    self._finish(line, end)
                    return True
            elif kind is Closed:
                line.flush(_SEND_TIMEOUT, self._send_until(line))
                self._finish(line, event)
                return True
            else:
                handle_event(machine, event, now)

    def _finish(self, line: Line, end: Closed) -> None:
        line.drop()
        line.explain(end)
        self._lines.remove(line)
        self._source.handle_event(line.machine, end, time.monotonic())

    def _deadline(self) -> float:
        earliest = math.inf if self._is_paused else self._source.deadline
        for line in self._lines:
            earliest = min(earliest, line.deadline)
        return earliest

    def _send_until(self, line: Line) -> float:
        if not self._is_closing:
            return math.inf
        now = time.monotonic()
        return min(now + _SEND_TIMEOUT, max(line.deadline, now + _SHORTEST))

    def _dial_timeout(self, line: Line) -> float:
        now = time.monotonic()
        others = min((each.deadline for each in self._lines if each is not line), default=math.inf)
        return max(min(line.deadline, max(others, now + _SHORTEST)) - now, 0.0)

    def _skew(self) -> float | None:
        """The exchange's wall clock minus ours; None if it cannot be learned."""
        if self._time_source is None:
            return None
        began = time.monotonic()
        try:
            skew = self._time_source() - time.time()
        except Exception:  # noqa: BLE001 - the user's function; the refusal it was to cure tells more
            return None
        return skew if time.monotonic() - began <= _CLOCK_PATIENCE else None

    def _carefully(self, step: Callable[..., None], *arguments: Any) -> None:
        try:
            step(*arguments)
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """Something escaped from the inside of the loop."""
        what = "an exception interrupted the processing of data, and the connection was given up"
        self.end = self.end or Closed(ConnectionLost(what))
        self.drop()
