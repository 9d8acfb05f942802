"""When a connection to a hub is made again; the official delays themselves are held to in `test_flows`."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etorox_proto.signalr import (
    DEFAULT_DELAYS,
    Closed,
    Connected,
    ConnectionFailed,
    ConnectionLost,
    Dial,
    HandshakeRefused,
    HubEvent,
    LimitExceeded,
    LocalProtocolError,
    Retries,
    ServerClosed,
)

DIAL = Dial("h", 80, tls=False, server_name="h")
UP = Connected("id")
LOST = Closed(ConnectionLost("the line broke"))


def after(*events: HubEvent, retries: Retries | None = None, now: float = 100.0) -> Retries:
    """What is planned after these, all at the same time."""
    retries = Retries() if retries is None else retries
    for event in events:
        retries.handle_event(event, now)
    return retries


def test_a_lost_connection_is_made_again_with_growing_pauses() -> None:
    retries = after(DIAL, UP, LOST)
    for failed, pause in enumerate(DEFAULT_DELAYS):
        assert (retries.deadline, retries.failed) == (100.0 + pause, failed)
        after(DIAL, retries=retries)
        assert retries.deadline == math.inf, "the attempt has begun"
        after(LOST, retries=retries)
    assert retries.deadline == math.inf, "given up"


def test_a_success_makes_the_count_start_over() -> None:
    retries = after(DIAL, UP, LOST, DIAL, LOST, DIAL, LOST)
    assert (retries.deadline, retries.failed) == (110.0, 2)
    after(DIAL, UP, LOST, retries=retries)
    assert (retries.deadline, retries.failed) == (100.0, 0)


def test_a_later_attempt_may_fail_in_any_way() -> None:
    refused = Closed(HandshakeRefused("The protocol 'json' is not supported."))
    assert isinstance(refused.error, ConnectionFailed)
    assert not refused.error.may_retry
    assert after(DIAL, UP, LOST, DIAL, refused).deadline == 102.0


@pytest.mark.parametrize(
    "ending",
    [
        Closed(None),
        Closed(ServerClosed("go away", allow_reconnect=False)),
        Closed(LimitExceeded("record", 10, "a hub message")),
    ],
)
def test_some_endings_are_final(ending: Closed) -> None:
    assert after(DIAL, UP, ending).deadline == math.inf
    assert after(DIAL, UP, LOST, DIAL, UP, ending).deadline == math.inf


def test_an_invitation_to_come_back_is_taken() -> None:
    assert after(DIAL, UP, Closed(ServerClosed("restarting", allow_reconnect=True))).deadline == 100.0


def test_a_first_attempt_that_fails_is_not_made_again() -> None:
    assert after(DIAL, LOST).deadline == math.inf


def test_nothing_follows_a_stop() -> None:
    retries = after(DIAL, UP, LOST)
    retries.stop()
    assert retries.deadline == math.inf
    assert after(DIAL, UP, LOST, retries=retries).deadline == math.inf


def test_a_function_may_decide() -> None:
    asked: list[tuple[int, float, ConnectionFailed]] = []

    def policy(failed: int, elapsed: float, error: ConnectionFailed) -> float | None:
        asked.append((failed, elapsed, error))
        return None if failed == 2 else 1.5

    retries = after(DIAL, UP, LOST, retries=Retries(policy), now=10.0)
    assert retries.deadline == 11.5
    after(DIAL, LOST, retries=retries, now=12.0)
    assert retries.deadline == 13.5
    after(DIAL, LOST, retries=retries, now=14.0)
    assert retries.deadline == math.inf
    assert asked == [(0, 0.0, LOST.error), (1, 2.0, LOST.error), (2, 4.0, LOST.error)]


@pytest.mark.parametrize("delay", [-1, math.nan, math.inf, "1", None])
def test_what_is_no_delay_is_refused(delay: Any) -> None:
    with pytest.raises(LocalProtocolError, match="a delay in seconds"):
        Retries([0, delay])
    if delay is not None:
        retries = after(DIAL, UP, retries=Retries(lambda *_: delay))
        with pytest.raises(LocalProtocolError, match="a delay in seconds"):
            after(LOST, retries=retries)
        assert retries.deadline == math.inf


ATTEMPTS: list[list[HubEvent]] = [[DIAL, LOST], [DIAL, DIAL, LOST], [DIAL, UP, LOST], [DIAL, UP, Closed(None)]]


@given(st.lists(st.sampled_from(ATTEMPTS)), st.lists(st.floats(0, 1e6)))
def test_an_attempt_is_planned_after_an_end_and_never_while_one_is_under_way(
    attempts: list[list[HubEvent]], delays: list[float]
) -> None:
    retries = Retries(delays)
    for now, event in enumerate(event for attempt in attempts for event in attempt):
        retries.handle_event(event, now)
        assert retries.deadline == math.inf or (isinstance(event, Closed) and retries.deadline >= now)
        assert retries.failed <= len(delays)
