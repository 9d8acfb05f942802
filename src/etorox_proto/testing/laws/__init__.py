"""Tests any machine, ours or yours, against the ten laws: which one is broken, and the shortest history that breaks it.

`check_machine` is all that most tests need. It knows machines only by their four families of methods; a `Subject` says
how else to reach into one: what its peer may say, which commands there are, which event is the last. Needs Hypothesis
(`pip install etorox-proto[testing]`).
"""

from __future__ import annotations

try:
    import hypothesis as _hypothesis  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{__name__} needs Hypothesis: pip install 'etorox-proto[testing]'") from error

from etorox_proto.testing._steps import Again, Ask, AtDeadline, Clock, End, Flush, Hear, Open, Step, Wait
from etorox_proto.testing.laws._check import LawBroken, check_history, check_machine, histories
from etorox_proto.testing.laws._laws import Law
from etorox_proto.testing.laws._subject import Application, Machine, Subject
from etorox_proto.testing.laws._trial import Trial

__all__ = [
    "Again",
    "Ask",
    "Application",
    "AtDeadline",
    "Clock",
    "End",
    "Flush",
    "Hear",
    "Law",
    "LawBroken",
    "Machine",
    "Open",
    "Step",
    "Subject",
    "Trial",
    "Wait",
    "check_history",
    "check_machine",
    "histories",
]
