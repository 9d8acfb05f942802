"""`Trial`: one machine living through a history, driven as a transport drives it; what it said and did is kept.

Knows what a step does. Does not judge: that is for the laws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from etorox_proto.testing._steps import Again, Ask, AtDeadline, Clock, End, Flush, Hear, Open, Step, Wait
from etorox_proto.testing.laws._subject import Subject

__all__ = ["Endless", "Raised", "Trial", "Unrefused"]

_MOST_EVENTS = 10_000
_PIECE = 8_192
_MOST_CALLS = 200


class Raised(Exception):
    """A call into the machine raised what it must not; the cause says what."""


class Unrefused(Exception):
    """A command raised what is no refusal."""


class Endless(Exception):
    """The machine gives events without end."""


class Trial:
    """One machine under a history, drained of its events after every step.

    Args:
        subject: what is tested.
        size: bytes for the machine come in pieces of at most this length; None for whole.
        careful: bytes that come while no stream is open are withheld, as a good transport does.

    Attributes:
        subject: what is tested.
        machine: the machine.
        now: the time, in seconds.
        events: all events so far.
        calls: all calls so far, in order.
        sent: the bytes that were flushed since the last stream was opened.
        flushed: all bytes that were flushed, as they left.
        refusals: how many commands were refused.
    """

    def __init__(self, subject: Subject, *, size: int | None = None, careful: bool = False) -> None:
        self.subject = subject
        self.now = 0.0
        self.machine: Any = subject.factory(self.now)
        self.events: list[Any] = []
        self.calls: list[Hashable] = []
        self.sent = b""
        self.flushed = b""
        self.refusals = 0
        self._size = size
        self._careful = careful
        self._dialled = False
        self.drain()

    @property
    def is_closed(self) -> bool:
        """Whether the last event has been seen."""
        return any(map(self.subject.is_closed, self.events))

    def carry_out(self, history: Iterable[Step]) -> Trial:
        """Do all steps.

        Returns:
            This trial.
        """
        for step in history:
            self.do(step)
        return self

    def do(self, step: Step) -> None:
        """Do one step, then take all events."""
        match step:
            case Open():
                self._open()
            case Hear():
                self.flush()
                self._hear(self.bytes_of(step))
            case End():
                self._tell(self.machine.receive_data, b"", self.now)
            case Wait(seconds):
                self.now += seconds
                self._tell(self.machine.handle_timeout, self.now)
            case AtDeadline():
                if math.isfinite(self.machine.deadline):
                    self.now = max(self.now, self.machine.deadline)
                    self._tell(self.machine.handle_timeout, self.now)
            case Clock(now):
                self.now = now
                self._tell(self.machine.handle_timeout, now)
            case Flush():
                self.flush()
            case Ask():
                self._ask(step)
            case Again():
                self._repeat(step)
        self.drain()

    def flush(self) -> bytes:
        """Send what waits.

        Returns:
            The bytes.
        """
        data: bytes = self._tell(self.machine.data_to_send)
        self.sent += data
        self.flushed += data
        return data

    def drain(self) -> list[Any]:
        """Take all events that wait.

        Returns:
            They.

        Raises:
            Endless: there is no end of them.
        """
        taken: list[Any] = []
        while (event := self._tell(self.machine.next_event)) is not None:
            taken.append(event)
            self._dialled = self.subject.is_dial(event) or self._dialled
            if len(taken) > _MOST_EVENTS:
                raise Endless(f"next_event() has given {_MOST_EVENTS} events and still more")
        self.events += taken
        return taken

    def finish(self) -> None:
        """End the stream, and the next ones if the machine dials again."""
        for _ in range(10):
            if not self.is_closed:
                self.do(End())

    def ask(self, step: Ask) -> Hashable | None:
        """Give a command; a call that it makes is remembered.

        Raises:
            Exception: what the machine raised.
            KeyError: the subject has no such command.
        """
        call = self.subject.commands[step.command](self, step.number)
        if call is not None:
            self.calls.append(call)
        return call

    def bytes_of(self, step: Hear) -> bytes:
        """The bytes that this step stands for here.

        Raises:
            KeyError: it names what the subject does not say.
        """
        said = step.data if isinstance(step.data, bytes) else self.subject.says[step.data]
        data = said(self.sent) if callable(said) else said
        if step.flip is not None and data:
            place, bits = step.flip[0] % len(data), step.flip[1]
            data = data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]
        return data if step.keep is None else data[: step.keep]

    def _tell(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            raise Raised(f"{function.__name__}() raised {error!r}") from error

    def _open(self) -> None:
        self.flush()
        if not hasattr(self.machine, "stream_opened"):
            return
        self._dialled = False
        self._tell(self.machine.stream_opened, self.now)
        before, self.sent = self.sent, b""
        if not self.flush():
            self.sent = before

    def _hear(self, data: bytes) -> None:
        size = self._size or max(1, len(data))
        for start in range(0, len(data), size):
            if self._careful and self._dialled:
                return
            self._tell(self.machine.receive_data, data[start : start + size], self.now)
            self.drain()

    def _ask(self, step: Ask) -> None:
        try:
            self.ask(step)
        except self.subject.refusals:
            self.refusals += 1
        except Exception as error:
            raise Unrefused(f"the command {step.command!r} raised {error!r}") from error

    def _repeat(self, again: Again) -> None:
        data = self.bytes_of(again.step) if isinstance(again.step, Hear) else b""
        together = max(1, _PIECE // len(data)) if data else 1
        for _ in range(0, again.times, together):
            if again.flushed:
                self.flush()
            if isinstance(again.step, Ask):
                self._ask(again.step)
            elif data:
                self._tell(self.machine.receive_data, data * together, self.now)
            taken = len(self.drain())
            if self.is_closed:
                return
            # Only the machine is to remember them.
            del self.events[len(self.events) - taken :]
            del self.calls[_MOST_CALLS:]
            self.sent = self.flushed = b""
