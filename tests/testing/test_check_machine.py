"""`check_machine` passes machines that keep the laws, and names the law that one breaks with the shortest history."""

from __future__ import annotations

import math
from typing import Any

import pytest

from etorox_proto.signalr import Closed, LocalProtocolError
from etorox_proto.testing import laws
from etorox_proto.testing.laws import (
    Again,
    Ask,
    End,
    Flush,
    Hear,
    Law,
    LawBroken,
    Open,
    Step,
    Trial,
    Wait,
    check_history,
    check_machine,
)
from lines import BROKEN, Lines, lines

READY: list[Step] = [Open(), Hear("ready")]
SHORTEST: dict[Law, list[Step]] = {
    Law.DRAIN_BEFORE_YOU_FEED: [Open()],
    Law.INPUT_NEVER_RAISES: [Hear("nonsense")],
    Law.COMMANDS_CHECK_THEN_ACT: [*READY, Ask("ask")],
    Law.CLOSED_COMES_ONCE_LAST_ALWAYS: [End(), End()],
    Law.INERT_AFTER_CLOSE: [End(), Hear("ping")],
    Law.DEADLINE_IS_A_LEVEL: READY,
    Law.CHUNKING_DOES_NOT_MATTER: READY,
    Law.EVERY_CALL_SETTLES_ONCE: [*READY, Ask("ask", 1)],
    Law.MEMORY_IS_BOUNDED: [Again(Hear("answers"), 1_334)],
    Law.SAME_INPUTS_SAME_RUN: [*READY, Ask("ask", 1)],
}


def test_a_strangers_machine_passes() -> None:
    check_machine(lines())


@pytest.mark.parametrize("law", Law)
def test_a_broken_machine_is_caught_by_its_law(law: Law) -> None:
    """With the shortest history, which is printed as Python that makes it again, and fails again."""
    subject = lines(BROKEN[law])
    with pytest.raises(LawBroken) as caught:
        check_machine(subject)
    assert caught.value.law is law
    assert caught.value.history == SHORTEST[law]
    head, _, printed = str(caught.value).partition("after this history:\n")
    assert head.startswith(f"law {law.value} (")
    history: Any = eval(printed, dict(vars(laws)))
    assert history == caught.value.history
    with pytest.raises(LawBroken, match=f"law {law.value} "):
        check_history(history, subject, law)
    check_history(history, lines(), law)


@pytest.mark.parametrize("law", Law)
def test_no_step_can_be_left_out(law: Law) -> None:
    for place in range(len(SHORTEST[law])):
        check_history(SHORTEST[law][:place] + SHORTEST[law][place + 1 :], lines(BROKEN[law]), law)


def test_a_factory_is_enough() -> None:
    """Then the peer says noise only, and what can be found is found."""

    class Fragile:
        state = "open"
        deadline = math.inf

        def __init__(self, now: float) -> None:
            self._events: list[Any] = []

        def receive_data(self, data: bytes, now: float) -> None:
            if self.state == "open" and data == b"":
                self.state = "closed"
                self._events.append(Closed(None))
            data.decode()

        def handle_timeout(self, now: float) -> None:
            pass

        def data_to_send(self) -> bytes:
            return b""

        def next_event(self) -> Any:
            return self._events.pop(0) if self._events else None

    with pytest.raises(LawBroken) as caught:
        check_machine(Fragile)
    assert caught.value.history == [Hear(b"\x80")]
    assert "raised UnicodeDecodeError" in caught.value.what
    check_machine(Fragile, laws=set(Law) - {Law.INPUT_NEVER_RAISES})


def test_a_machine_that_is_moody_is_reported_as_such() -> None:
    moods = iter([*[False] * 20, True, *[False] * 100_000])

    class Moody(Lines):
        def hear(self, line: bytes, now: float) -> None:
            if next(moods):
                raise RuntimeError("a mood")
            super().hear(line, now)

    with pytest.raises(LawBroken, match="not when the same was repeated") as caught:
        check_machine(lines(Moody))
    assert caught.value.law is Law.SAME_INPUTS_SAME_RUN


def test_a_command_that_raises_anything_else_is_no_refusal() -> None:
    with pytest.raises(LawBroken, match=r"raised ValueError.*, where a refusal is KeyError") as caught:
        check_machine(lines(refusals=(KeyError,)))
    assert (caught.value.law, caught.value.history) == (Law.COMMANDS_CHECK_THEN_ACT, [Ask("ask")])


def test_events_without_end_are_found() -> None:
    class Endless(Lines):
        def next_event(self) -> tuple[Any, ...]:
            return ("line", "again")

    with pytest.raises(LawBroken, match="still more") as caught:
        check_machine(lines(Endless))
    assert (caught.value.law, caught.value.history) == (Law.DRAIN_BEFORE_YOU_FEED, [])


def test_a_step_that_means_nothing_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match=r"in Subject.says, got 'pling'"):
        check_history([Hear("pling")], lines(), Law.INPUT_NEVER_RAISES)
    with pytest.raises(LocalProtocolError, match=r"in Subject.commands, got 'beg'"):
        check_history([Ask("beg")], lines(), Law.INPUT_NEVER_RAISES)


def test_a_trial_shows_what_came_of_a_history() -> None:
    trial = Trial(lines()).carry_out([*READY, Ask("ask", 1), Flush(), Hear("answers"), Ask("ask", 0), Wait(11.0)])
    assert [event[0] for event in trial.events] == ["dial", "ready", "answer", "over"]
    assert trial.sent == b"HELLO\nASK 1 why\n"
    assert (trial.calls, trial.refusals, trial.now, trial.is_closed) == ([1], 1, 11.0, True)
