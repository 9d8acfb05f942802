"""A stranger's machine with events of another shape, and ten that each break one law.

`Lines` asks questions of a server that answers in lines. Its events are tuples, its states are words, its refusals are
`ValueError`, and its calls are numbers; only the four families of methods are like ours.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, ClassVar

from etorox_proto.testing.laws import Application, Hear, Law, Open, Subject


class Lines:
    """Dials, says HELLO, waits for READY, and asks. PING is answered; BYE and lines of over 100 bytes end it."""

    def __init__(self, now: float) -> None:
        self.state = "dialling"
        self.deadline = now + 10.0
        self.pending: list[int] = []
        self._numbers = 0
        self._buffer = b""
        self._out = b""
        self._events: deque[tuple[Any, ...]] = deque([("dial", "lines.test")])

    # ------------------------------------------------------------------------------------------------ the world

    def stream_opened(self, now: float) -> None:
        if self.state == "dialling":
            self.state = "greeting"
            self._out += b"HELLO\n"
            self.deadline = now + 10.0

    def receive_data(self, data: bytes, now: float) -> None:
        if self.state == "over":
            return
        if not data:
            self.finish("the stream ended")
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            if len(line) > 100:
                self.finish("a line too long")
            elif self.state != "over":
                self.hear(line, now)
        if len(self._buffer) > 100 and self.state != "over":
            self.finish("a line too long")

    def hear(self, line: bytes, now: float) -> None:
        word, _, rest = line.partition(b" ")
        if word == b"READY" and self.state == "greeting":
            self.state = "ready"
            self._events.append(("ready",))
        elif word == b"PING":
            self._out += b"PONG\n"
            if len(self._out) > 1_000:
                self.finish("a peer that does not read")
        elif word == b"BYE":
            self.finish("goodbye")
        elif word == b"ANS" and rest[:1].isdigit() and int(rest[:1]) in self.pending:
            self.settle(int(rest[:1]), rest[2:].decode("latin-1"))
        self.deadline = now + 10.0 if self.state != "over" else math.inf

    def handle_timeout(self, now: float) -> None:
        if now >= self.deadline:
            self.finish("silence")

    # ------------------------------------------------------------------------------------------------ what it says

    def data_to_send(self) -> bytes:
        data, self._out = self._out, b""
        return data

    def next_event(self) -> tuple[Any, ...] | None:
        return self._events.popleft() if self._events else None

    # -------------------------------------------------------------------------------------------------- commands

    def ask(self, question: str) -> int:
        if self.state != "ready" or not question or len(self.pending) >= 5:
            raise ValueError("not now, or not that")
        return self.begin(question)

    def begin(self, question: str) -> int:
        self._numbers += 1
        self.pending.append(self._numbers)
        self._out += b"ASK %d %s\n" % (self._numbers, question.encode())
        return self._numbers

    def settle(self, number: int, answer: str | None) -> None:
        self.pending.remove(number)
        self._events.append(("answer", number, answer))

    def finish(self, why: str) -> None:
        for number in list(self.pending):
            self.settle(number, None)
        self.state, self.deadline, self._buffer = "over", math.inf, b""
        self._events.append(("over", why))


# ------------------------------------------------------------------------------------------- one broken for each law


class SaysItTwice(Lines):
    """1: bytes are handed out again and again."""

    def data_to_send(self) -> bytes:
        return self._out


class Raises(Lines):
    """2: a line that is no ASCII raises."""

    def hear(self, line: bytes, now: float) -> None:
        super().hear(line.decode("ascii").encode(), now)


class ActsThenChecks(Lines):
    """3: a question that is refused for being empty is pending all the same."""

    def ask(self, question: str) -> int:
        if self.state == "ready" and not question:
            self.begin("?")
        return super().ask(question)


class EndsTwice(Lines):
    """4: the end of the stream is told even behind BYE."""

    def receive_data(self, data: bytes, now: float) -> None:
        if not data and self.state == "over":
            self._events.append(("over", "the stream ended"))
        super().receive_data(data, now)


class LivesOn(Lines):
    """5: it answers pings when all is over."""

    def receive_data(self, data: bytes, now: float) -> None:
        if data == b"PING\n" and self.state == "over":
            self._out += b"PONG\n"
        super().receive_data(data, now)


class StandsStill(Lines):
    """6: once it is ready, a deadline that came stays."""

    def handle_timeout(self, now: float) -> None:
        if now >= self.deadline and self.state == "ready":
            self._out += b"PING\n"
        else:
            super().handle_timeout(now)


class ForgetsTails(Lines):
    """7: what was incomplete is lost when more comes."""

    def receive_data(self, data: bytes, now: float) -> None:
        self._buffer = b""
        super().receive_data(data, now)


class LeavesCalls(Lines):
    """8: at the end nobody hears what became of the questions."""

    def finish(self, why: str) -> None:
        self.pending.clear()
        super().finish(why)


class Hoards(Lines):
    """9: it remembers all that it heard."""

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self._heard: list[bytes] = []

    def receive_data(self, data: bytes, now: float) -> None:
        if self.state != "over":
            self._heard.append(data)
        super().receive_data(data, now)


class SharesNumbers(Lines):
    """10: all machines draw their numbers from one source."""

    source: ClassVar[list[int]] = [0]

    def begin(self, question: str) -> int:
        self.source[0] += 1
        self._numbers = self.source[0]
        return super().begin(question)


BROKEN: dict[Law, type[Lines]] = dict(
    zip(
        Law,
        (
            *(SaysItTwice, Raises, ActsThenChecks, EndsTwice, LivesOn),
            *(StandsStill, ForgetsTails, LeavesCalls, Hoards, SharesNumbers),
        ),
        strict=True,
    )
)


def ask(application: Application, number: int) -> int:
    """A question, an empty one now and then."""
    question: int = application.machine.ask("why" if number % 3 else "")
    return question


def lines(machine: type[Lines] = Lines, **options: Any) -> Subject:
    """How to test such a machine."""
    said = {
        "ready": b"READY\n",
        "ping": b"PING\n",
        "bye": b"BYE\n",
        "answers": b"".join(b"ANS %d yes\n" % number for number in range(1, 4)),
        "nonsense": b"\x80\xff\n",
        "too long": b"x" * 101,
    }
    return Subject(
        **{
            "factory": machine,
            "says": said,
            "opening": [Open(), Hear("ready")],
            "commands": {"ask": ask},
            "refusals": (ValueError,),
            "is_dial": lambda event: event[0] == "dial",
            "is_closed": lambda event: event[0] == "over",
            "is_over": lambda machine: machine.state == "over",
            "about": lambda event: (event[1], True) if event[0] == "answer" else None,
            "memory": 20_000,
            **options,
        }
    )
