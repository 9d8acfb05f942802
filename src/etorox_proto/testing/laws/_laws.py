"""The ten laws, each as a judgement of one history: None, or what was wrong, in words.

A history that ends early, because the machine breaks another law on the way, is not judged.

Source: "The law" in the project's documentation, `docs/explanation/design.md`.
"""

from __future__ import annotations

import contextlib
import enum
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from etorox_proto.testing._steps import Ask, Step
from etorox_proto.testing.laws._picture import held
from etorox_proto.testing.laws._subject import Subject
from etorox_proto.testing.laws._trial import Endless, Raised, Trial, Unrefused

__all__ = ["Law", "judge"]

_SIZES = (1, 2, 3, 7, 50)


class Law(enum.IntEnum):
    """The laws, by number."""

    DRAIN_BEFORE_YOU_FEED = 1
    INPUT_NEVER_RAISES = 2
    COMMANDS_CHECK_THEN_ACT = 3
    CLOSED_COMES_ONCE_LAST_ALWAYS = 4
    INERT_AFTER_CLOSE = 5
    DEADLINE_IS_A_LEVEL = 6
    CHUNKING_DOES_NOT_MATTER = 7
    EVERY_CALL_SETTLES_ONCE = 8
    MEMORY_IS_BOUNDED = 9
    SAME_INPUTS_SAME_RUN = 10

    def __str__(self) -> str:
        return f"law {self.value} ({self.name.lower().replace('_', ' ')})"


Judgement = Callable[[Subject, Sequence[Step]], str | None]


def judge(law: Law, subject: Subject, history: Sequence[Step]) -> str | None:
    """What is wrong with this machine after this history by this law; None if nothing is."""
    try:
        return _JUDGEMENTS[law](subject, history)
    except Raised as raised:
        return str(raised) if law is Law.INPUT_NEVER_RAISES else None
    except Unrefused:
        return None  # unless it is the third law, which looks for itself
    except Endless as endless:
        return str(endless) if law is Law.DRAIN_BEFORE_YOU_FEED else None


def _drained(subject: Subject, history: Sequence[Step]) -> str | None:
    trial = Trial(subject)
    for step in (None, *history):
        if step is not None:
            trial.do(step)
        trial.flush()
        trial.drain()
        seen = subject.look(trial.machine)
        for _ in range(2):
            if data := trial.machine.data_to_send():
                return f"data_to_send() gave {len(data)} more bytes after it had been drained"
            if (event := trial.machine.next_event()) is not None:
                return f"next_event() gave {_short(event)} after it had given None"
        if (difference := _difference(seen, subject.look(trial.machine))) is not None:
            return f"looking changed something: {difference}"
    return None


def _never_raises(subject: Subject, history: Sequence[Step]) -> str | None:
    Trial(subject).carry_out(history).finish()
    return None


def _checks_then_acts(subject: Subject, history: Sequence[Step]) -> str | None:
    trial = Trial(subject)
    for step in history:
        if not isinstance(step, Ask):
            trial.do(step)
            continue
        trial.flush()
        trial.drain()
        seen = subject.look(trial.machine)
        try:
            trial.ask(step)
        except subject.refusals:
            if data := trial.machine.data_to_send():
                return f"{step} was refused, and {len(data)} bytes were queued"
            if (event := trial.machine.next_event()) is not None:
                return f"{step} was refused, and {_short(event)} came of it"
            if (difference := _difference(seen, subject.look(trial.machine))) is not None:
                return f"{step} was refused, and something changed: {difference}"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            expected = " or ".join(each.__name__ for each in subject.refusals)
            return f"{step} raised {error!r}, where a refusal is {expected}"
        trial.drain()
    return None


def _closes_once(subject: Subject, history: Sequence[Step]) -> str | None:
    trial = Trial(subject)
    for step in (None, *history):
        if step is not None:
            trial.do(step)
        if (wrong := _closing(trial)) is not None:
            return wrong
    trial.finish()
    if not trial.is_closed:
        return "the stream has ended, again and again, and Closed has not come"
    return _closing(trial)


def _closing(trial: Trial) -> str | None:
    closings = [index for index, event in enumerate(trial.events) if trial.subject.is_closed(event)]
    if len(closings) > 1:
        return f"Closed came {len(closings)} times"
    if closings and closings[0] != len(trial.events) - 1:
        return f"{_short(trial.events[closings[0] + 1])} came behind Closed"
    if bool(closings) != trial.subject.is_over(trial.machine):
        return f"state says {trial.machine.state}, and Closed has {'' if closings else 'not '}come"
    return None


def _inert(subject: Subject, history: Sequence[Step]) -> str | None:
    trial = Trial(subject)
    for step in (None, *history):
        was_closed, told = trial.is_closed, len(trial.events)
        seen = subject.look(trial.machine)
        if step is not None:
            trial.do(step)
        data = trial.flush() if trial.is_closed else b""
        if trial.is_closed and trial.machine.deadline != math.inf:
            return f"deadline is {trial.machine.deadline} after Closed"
        if was_closed:
            if len(trial.events) > told:
                return f"{_short(trial.events[told])} came after Closed"
            if data:
                return f"{step} after Closed made {len(data)} bytes to send"
            if (difference := _difference(seen, subject.look(trial.machine))) is not None:
                return f"{step} after Closed changed something: {difference}"
    return None


def _is_a_level(subject: Subject, history: Sequence[Step]) -> str | None:
    trial = Trial(subject).carry_out(history)
    for _ in range(3):
        trial.flush()
        due = trial.machine.deadline
        if math.isnan(due) or due != trial.machine.deadline:
            return f"deadline was {due}, and then {trial.machine.deadline}"
        if due == math.inf or trial.is_closed:
            return None
        if (early := math.nextafter(due, -math.inf)) > trial.now and (wrong := _wakes(trial, early)) is not None:
            return wrong
        trial.now = max(due, trial.now)
        trial.machine.handle_timeout(trial.now)
        trial.drain()
        if not trial.is_closed and not trial.machine.deadline > due:
            return f"handle_timeout({trial.now}) came, and deadline went from {due} to {trial.machine.deadline}"
    return None


def _wakes(trial: Trial, early: float) -> str | None:
    seen = trial.subject.look(trial.machine)
    trial.machine.handle_timeout(early)
    if taken := trial.drain():
        return f"handle_timeout({early}) came before the deadline, and {_short(taken[0])} came of it"
    if data := trial.flush():
        return f"handle_timeout({early}) came before the deadline, and made {len(data)} bytes to send"
    difference = _difference(seen, trial.subject.look(trial.machine))
    return None if difference is None else f"handle_timeout({early}) came before the deadline: {difference}"


def _any_chunks(subject: Subject, history: Sequence[Step]) -> str | None:
    def told(size: int | None) -> list[Any]:
        trial = Trial(subject, size=size, careful=True).carry_out(history)
        trial.finish()
        return trial.events

    whole = told(None)
    for size in _SIZES:
        if (difference := _events_differ(subject, whole, told(size))) is not None:
            return f"in pieces of {size} {difference}"
    return None


def _settles(subject: Subject, history: Sequence[Step]) -> str | None:
    trial = Trial(subject).carry_out(history)
    trial.finish()
    settled: set[Hashable] = set()
    for event in trial.events:
        if (about := subject.about(event)) is None:
            continue
        call, is_last = about
        if call not in trial.calls:
            return f"{_short(event)} is about a call that was never made"
        if call in settled:
            return f"{_short(event)} came after its call was settled"
        if is_last:
            settled.add(call)
    lost = [call for call in trial.calls if call not in settled]
    return f"{_short(lost[0])} was never settled" if trial.is_closed and lost else None


def _bounded(subject: Subject, history: Sequence[Step]) -> str | None:
    trial = Trial(subject)
    before = held(trial.machine)
    trial.carry_out(history)
    growth = held(trial.machine) - before
    return f"the machine holds {growth} bytes, allowed are {subject.memory}" if growth > subject.memory else None


def _same_run(subject: Subject, history: Sequence[Step]) -> str | None:
    alone = Trial(subject).carry_out(history)
    first, second = Trial(subject), Trial(subject)
    for step in history:
        first.do(step)
        second.do(step)
    for trial in (alone, first, second):
        trial.finish()
        trial.flush()
    for other, which in ((first, "beside another machine"), (second, "behind another machine")):
        if (difference := _events_differ(subject, alone.events, other.events)) is not None:
            return f"{which} {difference}"
        if subject.sent(alone.flushed) != subject.sent(other.flushed):
            return f"{which} other bytes were sent than alone"
    return None


_JUDGEMENTS: Mapping[Law, Judgement] = {
    Law.DRAIN_BEFORE_YOU_FEED: _drained,
    Law.INPUT_NEVER_RAISES: _never_raises,
    Law.COMMANDS_CHECK_THEN_ACT: _checks_then_acts,
    Law.CLOSED_COMES_ONCE_LAST_ALWAYS: _closes_once,
    Law.INERT_AFTER_CLOSE: _inert,
    Law.DEADLINE_IS_A_LEVEL: _is_a_level,
    Law.CHUNKING_DOES_NOT_MATTER: _any_chunks,
    Law.EVERY_CALL_SETTLES_ONCE: _settles,
    Law.MEMORY_IS_BOUNDED: _bounded,
    Law.SAME_INPUTS_SAME_RUN: _same_run,
}


def _events_differ(subject: Subject, expected: list[Any], got: list[Any]) -> str | None:
    for number, (one, other) in enumerate(zip_longest(expected, got), 1):
        if subject.picture(one) != subject.picture(other):
            return f"event {number} is {_short(other)}, otherwise it is {_short(one)}"
    return None


def _difference(before: object, after: object) -> str | None:
    """Where two looks at a machine differ; None if they do not."""
    if before == after:
        return None
    with contextlib.suppress(TypeError, ValueError):
        for (name, one), (_, other) in zip(before, after, strict=True):  # type: ignore[call-overload]
            if one != other:
                return f"{name} was {_shown(one)} and is {_shown(other)}"
    return f"{_shown(before)} became {_shown(after)}"


def _shown(look: object) -> str:
    """Of most things a look is their repr."""
    return _cut(look if isinstance(look, str) else repr(look))


def _short(value: object) -> str:
    return _cut(repr(value) if value is not None else "nothing")


def _cut(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
