"""The arithmetic of stateful reconnect by itself: two sides joined by pipes that break, against a model of none."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from etorox_proto.signalr import RemoteProtocolError
from etorox_proto.signalr._replay import Replay


class Counted(NamedTuple):
    record: bytes


class Ack(NamedTuple):
    number: int


class Sequence(NamedTuple):
    number: int


class Side:
    """One end: its arithmetic, the pipe towards it, and what it has sent and got."""

    def __init__(self) -> None:
        self.replay = Replay()
        self.pipe: deque[Counted | Ack | Sequence] = deque()
        self.sent: list[bytes] = []
        self.got: list[bytes] = []


class Resuming(RuleBasedStateMachine):
    """Two sides. A cut loses any part of what is under way; what is sent while there is no line is kept."""

    @initialize()
    def begin(self) -> None:
        self.sides = (Side(), Side())
        self.is_joined = True

    def other(self, side: Side) -> Side:
        return self.sides[self.sides[0] is side]

    def say(self, side: Side, *what: Counted | Ack | Sequence) -> None:
        if self.is_joined:
            self.other(side).pipe.extend(what)

    @rule(who=st.integers(0, 1), size=st.integers(1, 40), is_answer=st.booleans())
    def send(self, who: int, size: int, is_answer: bool) -> None:
        side = self.sides[who]
        record = b"%d:" % len(side.sent) + b"x" * size
        side.sent.append(record)
        side.replay.keep(record, is_answer=is_answer)
        self.say(side, Counted(record))

    @rule(who=st.integers(0, 1), count=st.integers(1, 5) | st.just(1_000))
    def deliver(self, who: int, count: int) -> None:
        side = self.sides[who]
        for _ in range(min(count, len(side.pipe))):
            match side.pipe.popleft():
                case Counted(record):
                    if side.replay.receive():
                        side.got.append(record)
                case Ack(number):
                    side.replay.receive_ack(number)
                case Sequence(number):
                    side.replay.receive_sequence(number)

    @rule(who=st.integers(0, 1))
    def acknowledge(self, who: int) -> None:
        side = self.sides[who]
        if self.is_joined and side.replay.owes_ack:
            self.say(side, Ack(side.replay.acknowledge()))
            assert not side.replay.owes_ack

    @rule(arrives=st.tuples(st.integers(0, 6), st.integers(0, 6)))
    def cut(self, arrives: tuple[int, int]) -> None:
        for who, count in enumerate(arrives):
            self.deliver(who, count)
            self.sides[who].pipe.clear()
        self.is_joined = False

    @rule()
    def join(self) -> None:
        if self.is_joined:
            return
        self.is_joined = True
        for side in self.sides:
            number, records = side.replay.begin_again()
            self.say(side, Sequence(number), *map(Counted, records))

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        for side in self.sides:
            sent = self.other(side).sent
            assert side.got == sent[: len(side.got)], "exactly once, in order"
            held, answers = side.replay.held_bytes, side.replay.answer_bytes
            assert 0 <= answers <= held <= sum(map(len, side.sent))

    def teardown(self) -> None:
        """With a line that holds everything arrives, and with acknowledgements nothing is held any more."""
        if not hasattr(self, "sides"):
            return
        self.join()
        for _ in range(2):
            for who in (0, 1):
                self.deliver(who, 100_000)
                self.acknowledge(who)
        self.deliver(0, 1)
        for side in self.sides:
            assert side.replay.is_aligned
            assert side.got == self.other(side).sent
            assert (side.replay.held_bytes, side.replay.answer_bytes) == (0, 0)
            assert side.replay.begin_again() == (len(side.sent) + 1, [])


TestResuming = Resuming.TestCase
TestResuming.settings = settings(max_examples=300, stateful_step_count=50)


def test_numbers_begin_at_one() -> None:
    replay = Replay()
    assert replay.begin_again() == (1, [])
    replay.receive_sequence(1)
    assert replay.receive()
    assert replay.acknowledge() == 1


def test_the_oldest_that_is_not_acknowledged_comes_first() -> None:
    replay = Replay()
    for record in (b"one", b"two", b"three"):
        replay.keep(record)
    replay.receive_ack(1)
    assert replay.begin_again() == (2, [b"two", b"three"])
    replay.receive_ack(0)  # no news
    assert replay.held_bytes == 8


def test_an_ack_of_what_was_never_sent_is_refused() -> None:
    replay = Replay()
    replay.keep(b"one")
    with pytest.raises(RemoteProtocolError, match="an Ack of at most 1, the number of the last message, got 2"):
        replay.receive_ack(2)


@pytest.mark.parametrize("number", [-1, 0, 3, 2**70])
def test_a_sequence_must_not_leave_anything_out(number: int) -> None:
    replay = Replay()
    assert replay.receive()
    with pytest.raises(RemoteProtocolError, match=f"a Sequence from 1 to 2, the first not received, got {number}"):
        replay.receive_sequence(number)


def test_what_was_received_already_is_dropped_and_what_comes_too_early_too() -> None:
    replay = Replay()
    assert [replay.receive(), replay.receive()] == [True, True]
    replay.begin_again()
    assert not replay.receive()
    replay.receive_sequence(2)
    assert [replay.receive(), replay.receive()] == [False, True]
    assert replay.acknowledge() == 3
