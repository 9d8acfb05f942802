"""`check_machine`: looks for histories that break a law, and makes the one that it finds as short as it gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import hypothesis
from hypothesis import strategies as st
from hypothesis.errors import Flaky, NoSuchExample

from etorox_proto.signalr import LocalProtocolError
from etorox_proto.testing._steps import Again, Ask, AtDeadline, End, Flush, Hear, Open, Step, Wait
from etorox_proto.testing._steps import Clock as ClockShows
from etorox_proto.testing.laws._laws import Law, judge
from etorox_proto.testing.laws._subject import Machine, Subject
from etorox_proto.testing.laws._trial import Trial
from etorox_proto.testing.strategies import clocks, commands, programs

__all__ = ["LawBroken", "check_history", "check_machine", "histories"]

# In this order, so that the breach of one is not taken for that of another: a machine that draws numbers of its own,
# say, seems to care about chunks as well.
ORDER = (
    Law.INPUT_NEVER_RAISES,
    Law.DRAIN_BEFORE_YOU_FEED,
    Law.SAME_INPUTS_SAME_RUN,
    Law.CLOSED_COMES_ONCE_LAST_ALWAYS,
    Law.INERT_AFTER_CLOSE,
    Law.COMMANDS_CHECK_THEN_ACT,
    Law.DEADLINE_IS_A_LEVEL,
    Law.CHUNKING_DOES_NOT_MATTER,
    Law.EVERY_CALL_SETTLES_ONCE,
    Law.MEMORY_IS_BOUNDED,
)
DEFAULT = hypothesis.settings(max_examples=200, derandomize=True, database=None, deadline=None)

_MOST_STEPS = 12
_SECONDS = (0.0, 0.001, 1.0, 4.0, 10.0, 16.0, 40.0)


class LawBroken(AssertionError):
    """A machine does not keep a law.

    Attributes:
        law: which.
        history: a history that shows it, of which no step can be left out; `check_history` repeats it.
        what: what was wrong at its end.
    """

    def __init__(self, law: Law, history: Sequence[Step], what: str) -> None:
        self.law = law
        self.history = list(history)
        self.what = what
        steps = "".join(f"    {step!r},\n" for step in history)
        super().__init__(f"{law} is broken: {what}\nafter this history:\n[\n{steps}]")


def check_machine(
    subject: Subject | Callable[[float], Machine],
    *,
    laws: Iterable[Law] = ORDER,
    settings: hypothesis.settings = DEFAULT,
) -> None:
    """Test a machine against the laws, with random histories.

    Args:
        subject: what is tested; a function that makes a machine at a time is enough, if its peer says only noise.
        laws: which laws, in which order; all ten by default, those first that others rest on.
        settings: how many histories for each law, and whether they are the same each time, as they are by default.

    Raises:
        LawBroken: the first law that is broken, with the shortest history that breaks it.
    """
    subject = subject if isinstance(subject, Subject) else Subject(factory=subject)
    for law in laws:
        history = _shortest(law, subject, settings)
        if history is not None:
            check_history(history, subject, law)


def check_history(history: Sequence[Step], subject: Subject | Callable[[float], Machine], law: Law) -> None:
    """Repeat one history, such as that of a `LawBroken`.

    Raises:
        LawBroken: it breaks this law.
        LocalProtocolError: a step names what the subject does not say, or no command of it.
    """
    subject = subject if isinstance(subject, Subject) else Subject(factory=subject)
    for step in history:
        _check_names(step.step if isinstance(step, Again) else step, subject)
    if (what := judge(law, subject, history)) is not None:
        raise LawBroken(law, history, what)


def _check_names(step: Step, subject: Subject) -> None:
    if isinstance(step, Hear) and isinstance(step.data, str) and step.data not in subject.says:
        raise LocalProtocolError(f"expected one of {sorted(subject.says)} in Subject.says, got {step.data!r}")
    if isinstance(step, Ask) and step.command not in subject.commands:
        raise LocalProtocolError(
            f"expected one of {sorted(subject.commands)} in Subject.commands, got {step.command!r}"
        )


def _shortest(law: Law, subject: Subject, settings: hypothesis.settings) -> list[Step] | None:
    suspects: list[list[Step]] = []

    def breaks(history: list[Step]) -> bool:
        is_broken = judge(law, subject, history) is not None
        if is_broken:
            suspects.append(history)
        return is_broken

    shortest: list[Step] | None = None
    most = _MOST_STEPS + len(subject.opening)
    try:
        # What Hypothesis finds is the least of its kind. There may be another kind, in fewer steps.
        while most >= 0:
            shortest = hypothesis.find(histories(subject, law, max_steps=most), breaks, settings=settings)
            most = len(shortest) - 1
    except NoSuchExample:
        pass
    except Flaky:
        words = f"it broke {law}, and not when the same was repeated"
        raise LawBroken(Law.SAME_INPUTS_SAME_RUN, suspects[-1], words) from None
    return shortest


# -------------------------------------------------------------------------------------------------- strategies


def histories(
    subject: Subject, law: Law | None = None, *, max_steps: int = _MOST_STEPS
) -> st.SearchStrategy[list[Step]]:
    """Histories of such a machine: often well begun, then anything.

    Args:
        subject: what it may hear and be asked.
        law: for which law, if for one: clocks that jump are for the second only, endings are in those for the fifth,
            floods in those for the ninth.
        max_steps: how many steps at most.
    """
    most = min(len(subject.opening), max_steps)
    begun = st.integers(0, 3 * most).map(lambda count: list(subject.opening[:count]))
    if law is Law.MEMORY_IS_BOUNDED:
        floods = _floods(subject)
        return st.tuples(begun, floods).map(lambda drawn: [*drawn[0], drawn[1]][-max_steps:] if max_steps else [])
    steps = st.lists(_steps(subject, insane=law is Law.INPUT_NEVER_RAISES), max_size=max_steps)
    parts: list[st.SearchStrategy[Any]] = [begun, steps]
    if subject.commands:
        # Something is asked before anything comes that ends the machine.
        parts.insert(1, programs(subject.commands, max_size=3))
    if law is Law.INERT_AFTER_CLOSE:
        parts += [st.just([End()]), steps]
    return st.tuples(*parts).map(lambda drawn: [step for part in drawn for step in part][:max_steps])


def _hearings(subject: Subject) -> list[st.SearchStrategy[Any]]:
    noise = st.binary(min_size=1, max_size=subject.noise).map(Hear)
    if not subject.says:
        return [noise]
    names = st.sampled_from(sorted(subject.says))
    flips = st.tuples(st.integers(0, 2_000), st.integers(1, 255))
    return [
        # Mostly whole: what is cut or changed ends most machines.
        *[names.map(Hear)] * 6,
        st.tuples(names, st.integers(0, 300)).map(lambda drawn: Hear(drawn[0], drawn[1])),
        st.tuples(names, flips).map(lambda drawn: Hear(drawn[0], None, drawn[1])),
        noise,
    ]


def _asking(subject: Subject) -> list[st.SearchStrategy[Any]]:
    if not subject.commands:
        return []
    return [commands(subject.commands)]


def _steps(subject: Subject, *, insane: bool) -> st.SearchStrategy[Any]:
    heard, asked = _hearings(subject), _asking(subject)
    plain: list[Step] = [End(), Open(), AtDeadline(), Flush()]
    time = st.sampled_from(_SECONDS).map(Wait)
    # The plainest first: to these the others shrink.
    return st.one_of(st.sampled_from(plain), time, *heard, *asked * 4, *([clocks().map(ClockShows)] if insane else []))


def _floods(subject: Subject) -> st.SearchStrategy[Again]:
    """Something said or asked so often that twice the memory would be needed to keep it."""
    twice = 2 * subject.memory

    def flood(drawn: tuple[Hear | Ask, bool]) -> Again:
        step, is_stuck = drawn
        if isinstance(step, Ask):
            # A call cannot be kept in fewer bytes than a small object has.
            return Again(step, twice // 64, not is_stuck)
        length = len(Trial(subject).bytes_of(step)) if _is_fixed(subject, step) else 100
        return Again(step, twice // max(1, length) + 1, not is_stuck)

    return st.tuples(st.one_of(*_hearings(subject), *_asking(subject)), st.booleans()).map(flood)


def _is_fixed(subject: Subject, step: Hear) -> bool:
    return isinstance(step.data, bytes) or not callable(subject.says[step.data])
