"""`Driver` and `SessionDriver`: adapters in virtual time, for one machine and for a session.

They are what `etorox_transports` is in real time: they run the one loop, and give what a machine tells to whoever wants
it. Made by `VirtualNetwork.drive` and `drive_session`; what goes on below is in `_attempt`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, final

from etorox_proto import (
    Closed,
    ConnectionFailed,
    ExchangeConnection,
    ExchangeEvent,
    LocalProtocolError,
    Session,
    SessionEvent,
    StartAttempt,
)
from etorox_proto.testing._attempt import Attempt, ClientMachine
from etorox_proto.testing._clock import Rank
from etorox_proto.testing._stream import Stream
from etorox_proto.testing._world import World

__all__ = ["Driver", "SessionDriver"]

EventT = TypeVar("EventT")


class _Inbox(Generic[EventT]):
    """Where events go: into a list, to a function, or both."""

    def __init__(self, world: World, deliver: Callable[[EventT], object] | None, keep: int | None) -> None:
        if keep is not None and keep < 0:
            raise LocalProtocolError(f"expected to keep 0 events or more, got {keep!r}")
        self._world = world
        self._deliver = deliver
        self._keep = 0 if keep is None and deliver is not None else keep
        self.events: list[EventT] = []
        self.delivered = 0
        self.end: Closed | None = None

    def put(self, event: EventT) -> None:
        self.delivered += 1
        if isinstance(event, Closed):
            self.end = event
        self.events.append(event)
        if self._keep is not None and len(self.events) > self._keep:
            del self.events[0]
        if self._deliver is not None:
            self._world.touch()
            self._deliver(event)


@final
class Driver(Generic[EventT]):
    """Drives one client machine; made by `VirtualNetwork.drive`.

    Commands are given to the machine itself, from a test between two runs, from `deliver` or from an action of `at`;
    what they have to send is noticed.
    """

    def __init__(
        self,
        world: World,
        machine: ClientMachine[EventT],
        deliver: Callable[[EventT | Closed], object] | None,
        keep: int | None,
    ) -> None:
        self._world = world
        self._inbox: _Inbox[EventT | Closed] = _Inbox(world, deliver, keep)
        self._attempt = Attempt(world, machine, self.settle)
        world.add(self)

    def __repr__(self) -> str:
        return f"<Driver of {self.machine!r}: {self.delivered} events>"

    @property
    def machine(self) -> ClientMachine[EventT]:
        """What it drives."""
        return self._attempt.machine

    @property
    def events(self) -> list[EventT | Closed]:
        """The events so far, or the last of them if `keep` says so. Yours to empty."""
        return self._inbox.events

    @property
    def delivered(self) -> int:
        """How many events there have been, kept or not."""
        return self._inbox.delivered

    @property
    def is_closed(self) -> bool:
        """Whether the machine has said `Closed`."""
        return self._inbox.end is not None

    @property
    def error(self) -> ConnectionFailed | None:
        """Why it ended: `Closed.error`; None before the end, and after our own close."""
        return None if self._inbox.end is None else self._inbox.end.error

    @property
    def stream(self) -> Stream | None:
        """The stream in use, None between two of them and after the end."""
        return self._attempt.stream

    @property
    def dials(self) -> int:
        """How often it has dialled."""
        return self._attempt.dials

    def pause_reading(self) -> None:
        """Stop reading, as an adapter does whose application is behind; the machine is told."""
        self._attempt.pause()

    def resume_reading(self) -> None:
        """Read again."""
        self._attempt.resume()

    def settle(self) -> None:
        """Flush and take events until there is nothing to do but wait. The network calls it when it must."""
        while (event := self._attempt.next_event()) is not None:
            self._inbox.put(event)
        if self._attempt.is_closed:
            self._world.remove(self)


@final
class SessionDriver:
    """Drives a session and all its connections; made by `VirtualNetwork.drive_session`.

    Commands are given to the session itself, as with a `Driver`.

    Attributes:
        session: what it drives.
    """

    def __init__(
        self,
        world: World,
        session: Session,
        deliver: Callable[[SessionEvent], object] | None,
        keep: int | None,
        clock_skew: Callable[[], float | None] | None,
    ) -> None:
        self.session = session
        self._world = world
        self._inbox: _Inbox[SessionEvent] = _Inbox(world, deliver, keep)
        self._clock_skew = clock_skew
        self._attempts: dict[ExchangeConnection, Attempt[ExchangeEvent]] = {}
        self._is_paused = False
        self._wakeup = world.clock.wakeup(self._time_out, Rank.DEADLINE)
        world.add(self)

    def __repr__(self) -> str:
        return f"<SessionDriver of {self.session!r}: {self.delivered} events>"

    @property
    def events(self) -> list[SessionEvent]:
        """The events so far, or the last of them if `keep` says so. Yours to empty."""
        return self._inbox.events

    @property
    def delivered(self) -> int:
        """How many events there have been, kept or not."""
        return self._inbox.delivered

    @property
    def is_closed(self) -> bool:
        """Whether the session has said `Closed` and every connection of it as well."""
        return self._inbox.end is not None and not self._attempts

    @property
    def error(self) -> ConnectionFailed | None:
        """Why it ended: `Closed.error`; None before the end, and after our own close."""
        return None if self._inbox.end is None else self._inbox.end.error

    @property
    def streams(self) -> list[Stream]:
        """The streams in use, oldest attempt first."""
        return [attempt.stream for attempt in self._attempts.values() if attempt.stream is not None]

    def pause_reading(self) -> None:
        """Stop reading on every connection, those to come included."""
        self._is_paused = True
        for attempt in list(self._attempts.values()):
            attempt.pause()

    def resume_reading(self) -> None:
        """Read again."""
        self._is_paused = False
        for attempt in list(self._attempts.values()):
            attempt.resume()

    def settle(self) -> None:
        """Take actions and events, flush and drain every connection, until there is nothing to do but wait."""
        while self._move():
            pass
        self._wakeup.set(self.session.deadline)
        if self.is_closed:
            self._world.remove(self)

    def _move(self) -> bool:
        """One turn; whether anything happened. The session is looked after before the next thing is told it."""
        session, moved = self.session, False
        while (action := session.next_action()) is not None:
            moved = True
            if isinstance(action, StartAttempt):
                self._start(action.connection)
            else:
                self._check_clock()
        while (event := session.next_event()) is not None:
            moved = True
            self._inbox.put(event)
        if moved:
            return True
        for connection, attempt in list(self._attempts.items()):
            # Flushes as well; the first that tells something ends the turn, and all are asked again.
            told = attempt.next_event()
            if attempt.is_closed:
                del self._attempts[connection]
            if told is not None:
                session.handle_event(connection, told, self._world.clock.now)
                return True
        return False

    def _start(self, connection: ExchangeConnection) -> None:
        self._attempts[connection] = Attempt(self._world, connection, self.settle, is_paused=self._is_paused)

    def _check_clock(self) -> None:
        skew = None
        if self._clock_skew is not None:
            self._world.touch()
            skew = self._clock_skew()
        self.session.clock_checked(skew, self._world.clock.now)

    def _time_out(self) -> None:
        self.session.handle_timeout(self._world.clock.now)
        self.settle()
