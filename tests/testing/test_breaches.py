"""The many ways to break a law: each is found, and told in words that say what was wrong."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import math
import re
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import pytest

from etorox_proto.testing.laws import Ask, End, Hear, Law, LawBroken, Open, Step, check_history
from lines import Lines, lines

READY: list[Step] = [Open(), Hear("ready")]
BREACHES: list[tuple[Law, type[Lines], list[Step], str]] = []


def breaks(law: Law, history: list[Step], what: str) -> Callable[[type[Lines]], type[Lines]]:
    """The machine breaks this law with this history, and this is said of it."""

    def note(machine: type[Lines]) -> type[Lines]:
        BREACHES.append((law, machine, history, what))
        return machine

    return note


# ------------------------------------------------------------------------------------------------------------ law 1


@breaks(Law.DRAIN_BEFORE_YOU_FEED, [], "next_event() gave ('line', 'more') after it had given None")
class GoesOnBehindNone(Lines):
    was_none = False

    def next_event(self) -> tuple[Any, ...] | None:
        event = super().next_event()
        if event is None and self.was_none:
            event = ("line", "more")
        self.was_none = event is None
        return event


@breaks(Law.DRAIN_BEFORE_YOU_FEED, [], "looking changed something: looks was 1 and is 2")
class CountsLooks(Lines):
    _looks = 0

    @property
    def looks(self) -> int:
        self._looks += 1
        return self._looks


# ------------------------------------------------------------------------------------------------------------ law 3


@breaks(Law.COMMANDS_CHECK_THEN_ACT, [*READY, Ask("ask")], "was refused, and ('line', 'no') came of it")
class TellsOfRefusals(Lines):
    def ask(self, question: str) -> int:
        if not question:
            self._events.append(("line", "no"))
        return super().ask(question)


@breaks(Law.COMMANDS_CHECK_THEN_ACT, [*READY, Ask("ask")], "was refused, and something changed: asked was 0 and is 1")
class CountsRefusals(Lines):
    asked = 0

    def ask(self, question: str) -> int:
        self.asked += 1
        return super().ask(question)


# ------------------------------------------------------------------------------------------------------------ law 4


@breaks(Law.CLOSED_COMES_ONCE_LAST_ALWAYS, [], "the stream has ended, again and again, and Closed has not come")
class NeverEnds(Lines):
    def finish(self, why: str) -> None:
        pass


@breaks(Law.CLOSED_COMES_ONCE_LAST_ALWAYS, [End()], "('line', 'by the way') came behind Closed")
class SpeaksOn(Lines):
    def finish(self, why: str) -> None:
        super().finish(why)
        self._events.append(("line", "by the way"))


@breaks(Law.CLOSED_COMES_ONCE_LAST_ALWAYS, [End()], "state says over, and Closed has not come")
class LeavesSilently(Lines):
    def finish(self, why: str) -> None:
        self.state, self.deadline = "over", math.inf


@breaks(Law.CLOSED_COMES_ONCE_LAST_ALWAYS, [End()], "state says dialling, and Closed has come")
class KeepsItsState(Lines):
    def finish(self, why: str) -> None:
        state = self.state
        super().finish(why)
        self.state = state


# ------------------------------------------------------------------------------------------------------------ law 5


@breaks(Law.INERT_AFTER_CLOSE, [End()], "deadline is 99.0 after Closed")
class KeepsAnAppointment(Lines):
    def finish(self, why: str) -> None:
        super().finish(why)
        self.deadline = 99.0


@breaks(Law.INERT_AFTER_CLOSE, [End(), Hear("ping")], "('line', 'late') came after Closed")
class HearsTheLate(Lines):
    def receive_data(self, data: bytes, now: float) -> None:
        if self.state == "over":
            self._events.append(("line", "late"))
        super().receive_data(data, now)


@breaks(Law.INERT_AFTER_CLOSE, [End(), Hear("ping")], "after Closed changed something: late was 0 and is 1")
class CountsTheLate(Lines):
    late = 0

    def receive_data(self, data: bytes, now: float) -> None:
        self.late += self.state == "over"
        super().receive_data(data, now)


# ------------------------------------------------------------------------------------------------------------ law 6


@breaks(Law.DEADLINE_IS_A_LEVEL, [], "deadline was nan, and then nan")
class HasNoTime(Lines):
    def __init__(self, now: float) -> None:
        super().__init__(now)
        self.deadline = math.nan


class Hasty(Lines):
    """Does something when it is woken too early."""

    def handle_timeout(self, now: float) -> None:
        if now < self.deadline:
            self.wake()
        super().handle_timeout(now)

    def wake(self) -> None:
        raise NotImplementedError


@breaks(Law.DEADLINE_IS_A_LEVEL, [], "came before the deadline, and ('line', 'early') came of it")
class TellsOfEarlyTimeouts(Hasty):
    def wake(self) -> None:
        self._events.append(("line", "early"))


@breaks(Law.DEADLINE_IS_A_LEVEL, [], "came before the deadline, and made 6 bytes to send")
class AnswersEarlyTimeouts(Hasty):
    def wake(self) -> None:
        self._out += b"EARLY\n"


@breaks(Law.DEADLINE_IS_A_LEVEL, [], "came before the deadline: wakes was 0 and is 1")
class CountsEarlyTimeouts(Hasty):
    wakes = 0

    def wake(self) -> None:
        self.wakes += 1


# ------------------------------------------------------------------------------------------------------------ law 8


@breaks(Law.EVERY_CALL_SETTLES_ONCE, [*READY, Hear("ping")], "('answer', 9, 'yes') is about a call that was never made")
class AnswersNobody(Lines):
    def hear(self, line: bytes, now: float) -> None:
        super().hear(line, now)
        if line == b"PING":
            self._events.append(("answer", 9, "yes"))


@breaks(
    Law.EVERY_CALL_SETTLES_ONCE,
    [*READY, Ask("ask", 1), Hear("answers")],
    "('answer', 1, 'yes') came after its call was settled",
)
class AnswersTwice(Lines):
    def settle(self, number: int, answer: str | None) -> None:
        super().settle(number, answer)
        self._events.append(self._events[-1])


# ------------------------------------------------------------------------------------------------------------ law 9


@breaks(Law.MEMORY_IS_BOUNDED, [*READY, *[Hear("ping")] * 500], "the machine holds ")
class RemembersInAClosure(Lines):
    def __init__(self, now: float) -> None:
        super().__init__(now)
        heard: list[bytes] = []
        self._remember: Callable[[bytes], object] = lambda data, kept=heard: kept.append(data)  # type: ignore[misc]

    def hear(self, line: bytes, now: float) -> None:
        self._remember(bytes(line) + b"!")
        super().hear(line, now)


# ----------------------------------------------------------------------------------------------------------- law 10


@breaks(Law.SAME_INPUTS_SAME_RUN, [*READY, Ask("ask", 1)], "other bytes were sent than alone")
class SharesAClock(Lines):
    ticks: ClassVar[list[int]] = [0]

    def begin(self, question: str) -> int:
        self.ticks[0] += 1
        return super().begin(f"{question} at {self.ticks[0]}")


# -------------------------------------------------------------------------------------------------------- the tests


@pytest.mark.parametrize(
    ("law", "machine", "history", "what"), BREACHES, ids=[machine.__name__ for _, machine, _, _ in BREACHES]
)
def test_a_breach_is_told(law: Law, machine: type[Lines], history: list[Step], what: str) -> None:
    with pytest.raises(LawBroken, match=re.escape(what)):
        check_history(history, lines(machine), law)
    check_history(history, lines(), law)


def test_a_look_of_ones_own_is_compared_as_it_is() -> None:
    subject = lines(CountsLooks, look=lambda machine: machine.looks)
    with pytest.raises(LawBroken, match="looking changed something: 1 became 2"):
        check_history([], subject, Law.DRAIN_BEFORE_YOU_FEED)
    subject = lines(CountsLooks, look=lambda machine: [("look", 1)] * machine.looks)
    with pytest.raises(LawBroken, match=r"looking changed something: .* became "):
        check_history([], subject, Law.DRAIN_BEFORE_YOU_FEED)


def test_a_deadline_that_moves_on_for_ever_is_a_level() -> None:
    class Pings(Lines):
        def handle_timeout(self, now: float) -> None:
            if now >= self.deadline:
                self._out += b"PING\n"
                self.deadline = now + 10.0

    check_history(READY, lines(Pings), Law.DEADLINE_IS_A_LEVEL)


def test_a_call_may_have_several_answers_before_the_last() -> None:
    class Streams(Lines):
        def settle(self, number: int, answer: str | None) -> None:
            self._events.extend([("item", number)] * 3)
            super().settle(number, answer)

    def about(event: tuple[Any, ...]) -> tuple[int, bool] | None:
        return (event[1], event[0] == "answer") if event[0] in {"item", "answer"} else None

    check_history([*READY, Ask("ask", 1), Hear("answers")], lines(Streams, about=about), Law.EVERY_CALL_SETTLES_ONCE)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Point:
    x: int


class Plain:
    def __init__(self, x: int) -> None:
        self.x = x


class Record(msgspec.Struct):
    x: int


VALUES: dict[str, Callable[[int], Any]] = {
    "mapping": lambda number: {"x": [number]},
    "list": lambda number: [number],
    "deque": lambda number: deque([number]),
    "enum": lambda number: list(Colour)[number % 2],
    "error": ValueError,
    "dataclass": Point,
    "struct": Record,
    "object": Plain,
    "extension": lambda number: msgspec.msgpack.Ext(5, b"%d" % number),
}


@pytest.mark.parametrize("kind", VALUES)
def test_events_are_compared_by_what_they_hold(kind: str) -> None:
    """Whichever objects they are; and an extension's repr, for one, tells nothing but where it is."""
    numbers = itertools.count()

    class Same(Lines):
        def next_event(self) -> tuple[Any, ...] | None:
            event = super().next_event()
            return None if event is None else (*event, VALUES[kind](self.number()))

        def number(self) -> int:
            return 7

    class Other(Same):
        def number(self) -> int:
            return next(numbers)

    check_history(READY, lines(Same), Law.SAME_INPUTS_SAME_RUN)
    with pytest.raises(LawBroken, match=r"event \d is "):
        check_history(READY, lines(Other), Law.SAME_INPUTS_SAME_RUN)


def test_what_is_nested_without_end_is_compared_as_far_as_anyone_would_look() -> None:
    class Ring(Lines):
        def next_event(self) -> tuple[Any, ...] | None:
            event = super().next_event()
            ring: list[Any] = []
            ring.append(ring)
            return None if event is None else (*event, ring)

    check_history(READY, lines(Ring), Law.SAME_INPUTS_SAME_RUN)
