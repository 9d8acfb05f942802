"""What can happen to a machine, one step at a time: the words of which histories and programs are made.

A history is a list of steps. It prints as Python that makes it again, so a failure can be pasted into a test. What a
step does to a machine is in `laws`; nothing here needs Hypothesis.
"""

from __future__ import annotations

import msgspec

__all__ = ["Again", "Ask", "AtDeadline", "Clock", "End", "Flush", "Hear", "Open", "Step", "Wait"]


class Open(msgspec.Struct, frozen=True):
    """The stream that was dialled is open: `stream_opened(now)`."""


class Hear(msgspec.Struct, frozen=True, omit_defaults=True, repr_omit_defaults=True):
    """The peer says something: `receive_data(data, now)`.

    Attributes:
        data: bytes, or the name of something in `Subject.says`.
        keep: only so many of the bytes come.
        flip: where a byte comes changed (modulo the length), and the bits that are changed.
    """

    data: bytes | str
    keep: int | None = None
    flip: tuple[int, int] | None = None


class End(msgspec.Struct, frozen=True):
    """The stream ends, or cannot be opened: `receive_data(b"", now)`."""


class Wait(msgspec.Struct, frozen=True):
    """So many seconds pass: `handle_timeout(now)`."""

    seconds: float


class AtDeadline(msgspec.Struct, frozen=True):
    """Time passes until the deadline, if there is one: `handle_timeout(deadline)`."""


class Clock(msgspec.Struct, frozen=True):
    """The clock shows any time at all, sane or not: `handle_timeout(now)`."""

    now: float


class Flush(msgspec.Struct, frozen=True):
    """What waits is sent: `data_to_send()`."""


class Ask(msgspec.Struct, frozen=True):
    """The application gives a command.

    Attributes:
        command: its name in `Subject.commands`.
        number: which of its arguments; each command makes of it what it likes.
    """

    command: str
    number: int = 0


class Again(msgspec.Struct, frozen=True, omit_defaults=True, repr_omit_defaults=True):
    """The same again and again.

    Attributes:
        step: what.
        times: how often.
        flushed: whether what the machine wants to send leaves it between times.
    """

    step: Hear | Ask
    times: int
    flushed: bool = True


Step = Open | Hear | End | Wait | AtDeadline | Clock | Flush | Ask | Again
"""Anything that can happen to a machine."""
