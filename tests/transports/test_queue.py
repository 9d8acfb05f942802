"""What waits for a reader, and what becomes of it when the reader is slow; the queue behind every feed."""

from __future__ import annotations

from typing import Any

import pytest

from etorox_proto import ConnectionLost, Gap, LocalProtocolError, Stale, Subscription
from etorox_transports import FeedOverflow, LatestBy, Overload
from etorox_transports._queue import EventQueue, new_queue

SUBSCRIPTION = Subscription(["btcusd"])
GAP = Gap(SUBSCRIPTION, 0.0, 1.0, ConnectionLost("gone"))


def drained(queue: EventQueue) -> list[Any]:
    taken = []
    while queue:
        taken.append(queue.take())
    return taken


def test_fail_drops_the_newest_and_says_so_behind_what_waited() -> None:
    queue = new_queue(2, "fail")
    for number in range(5):
        queue.put(number)
    assert (len(queue), queue.received, queue.dropped) == (2, 5, 3)
    assert [queue.take(), queue.take()] == [0, 1]
    queue.put(5)
    with pytest.raises(FeedOverflow) as caught:
        queue.take()
    assert caught.value.dropped == 4
    assert not queue
    queue.put(6)
    assert drained(queue) == [6]


def test_wait_asks_to_wait_and_keeps_what_comes_all_the_same() -> None:
    queue = new_queue(2, "wait")
    for number in range(3):
        assert queue.must_wait == (number == 2)
        queue.put(number)
    assert drained(queue) == [0, 1, 2]
    assert (queue.must_wait, queue.dropped) == (False, 0)


def test_drop_oldest_keeps_the_newest_and_never_a_gaps_message_less() -> None:
    queue = new_queue(3, "drop_oldest")
    for event in (GAP, 1, 2, 3, 4):
        queue.put(event)
    assert queue.dropped == 2
    assert drained(queue) == [GAP, 3, 4]
    alone = new_queue(1, "drop_oldest")
    alone.put(GAP)
    alone.put(1)
    assert drained(alone) == [1]


def test_latest_keeps_one_of_each_key_in_the_place_of_the_first() -> None:
    queue = new_queue(2, LatestBy(lambda event: event[0]))
    for event in ("a1", "b1", "a2", "b2", "a3"):
        queue.put(event)
    assert (len(queue), queue.dropped) == (2, 3)
    assert drained(queue) == ["a3", "b2"]


def test_latest_keeps_gaps_and_silences_apart_and_drops_the_oldest_key() -> None:
    queue = new_queue(3, LatestBy(lambda event: event[0]))
    stale = Stale(SUBSCRIPTION, 5.0)
    for event in ("a1", GAP, stale, "b1"):
        queue.put(event)
    assert drained(queue) == [GAP, stale, "b1"]


@pytest.mark.parametrize("key", [lambda event: event.nothing, lambda event: [event]])
def test_a_key_function_that_fails_is_told_where_the_reader_reads(key: Any) -> None:
    queue = new_queue(3, LatestBy(key))
    queue.put("a")
    with pytest.raises((AttributeError, TypeError)):
        queue.take()
    assert drained(queue) == ["a"]


@pytest.mark.parametrize("overload", ["fail", "wait", "drop_oldest", LatestBy(str)])
def test_what_is_forgotten_is_gone(overload: Overload) -> None:
    queue = new_queue(1, overload)
    queue.put(1)
    queue.put(2)
    queue.clear()
    assert not queue
    assert len(queue) == 0
    queue.put(3)
    assert drained(queue) == [3]


@pytest.mark.parametrize(
    ("capacity", "overload"), [(0, "fail"), (1.5, "fail"), (1, "block"), (1, None), (1, lambda event: event)]
)
def test_nonsense_is_refused(capacity: Any, overload: Any) -> None:
    with pytest.raises(LocalProtocolError, match="expected"):
        new_queue(capacity, overload)


def test_a_policy_can_be_shown() -> None:
    assert repr(LatestBy(str)) == "LatestBy(...)"
