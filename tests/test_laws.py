"""The laws of the machines, each as a property over random programs; see docs/explanation/design.md.

Law 7 (chunking) is in `test_laws_chunking.py`, law 9 (memory) in `test_laws_memory.py`.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etorox_proto import EventReceived, ExchangeConnection, Subscription, SubscriptionEnded
from etorox_proto.signalr import (
    Call,
    CallLost,
    Closed,
    Completed,
    ConnectionClosed,
    Dial,
    HubConnection,
    ItemReceived,
    LocalProtocolError,
    ServerConnection,
    State,
)
from machines import (
    chunks,
    connected_peer,
    exchange,
    frame,
    hub_frame,
    ready_peer,
)
from programs import (
    ARGUMENTS,
    HEADERS,
    PACKED_ARGUMENTS,
    ROLES,
    SMALL,
    SOBER_TIMES,
    SUBSCRIPTIONS,
    TARGETS,
    Run,
    data_operations,
    is_server,
    operations,
    prefix,
    programs,
)

roles = pytest.mark.parametrize("role", ROLES)
seeds = st.integers(0, 2**32)


def ready(role: str, **config: Any) -> Run:
    """A machine of this role that accepts commands, everything flushed."""
    run = Run(role, **config)
    run.carry_out(prefix(role))
    run.flush()
    assert run.machine.state.name in {"CONNECTED", "READY"}
    return run


def snapshot(run: Run) -> Any:
    """All that anyone can see of a machine, except what it takes to look."""
    machine = run.machine
    seen: list[Any] = [machine.state, machine.queued_bytes, machine.deadline]
    if not isinstance(machine, ExchangeConnection):
        seen += [machine.is_stateful, machine.unacknowledged_bytes]
    if isinstance(machine, HubConnection):
        seen += [machine.pending_calls, machine.connection_id, dict(machine.ignored)]
    if isinstance(machine, ServerConnection):
        seen += [machine.pending_calls, machine.connection_id]
    if isinstance(machine, ExchangeConnection):
        seen += [machine.subscriptions]
    return seen


# ---------------------------------------------------------------------------------------------------------- law 1


@roles
@given(data=st.data())
def test_law_1_drain_before_you_feed(role: str, data: st.DataObject) -> None:
    """Once drained, a machine has nothing more to say until it is told something: looking is free."""
    run = Run(role)
    for operation in data.draw(programs(role)):
        run.do(operation)
        run.flush()
        seen = repr(snapshot(run))
        assert run.machine.data_to_send() == b""
        assert run.machine.next_event() is None
        assert repr(snapshot(run)) == seen


# ---------------------------------------------------------------------------------------------------------- law 2


@roles
@given(data=st.data())
def test_law_2_input_never_raises(role: str, data: st.DataObject) -> None:
    """Whatever comes, whenever: inputs return, and failures are in `Closed`."""
    run = Run(role)
    run.carry_out(data.draw(programs(role)))
    run.end()
    assert run.is_closed


@roles
@settings(max_examples=50)
@given(noise=st.binary(max_size=200), data=st.data())
def test_law_2_holds_for_noise_in_every_state(role: str, noise: bytes, data: st.DataObject) -> None:
    steps = prefix(role)
    run = Run(role)
    run.carry_out(steps[: data.draw(st.integers(0, len(steps)))])
    run.do(("data", noise))
    run.do(("data", frame(noise, masked=is_server(role))))
    run.do(("data", frame(noise + b"\x1e", masked=is_server(role))))
    run.do(("deadline",))
    run.end()
    assert run.is_closed


@roles
@pytest.mark.parametrize("now", [math.inf, -math.inf, math.nan, 1.7e308, -1e300])
def test_law_2_holds_for_any_clock(role: str, now: float) -> None:
    run = Run(role, now=now)
    for operation in prefix(role):
        run.do(operation)
        run.do(("time", now))
    run.end()
    assert run.is_closed


# ---------------------------------------------------------------------------------------------------------- law 3

COMMANDS = st.tuples(
    st.sampled_from(["invoke", "stream", "send", "cancel", "close", "answer", "withdraw"]), st.integers(0, 400)
)


@roles
@given(data=st.data())
def test_law_3_commands_check_then_act(role: str, data: st.DataObject) -> None:
    """A refused command says so with `LocalProtocolError`, and leaves no trace."""
    run = Run(role)
    run.carry_out(data.draw(programs(role, SOBER_TIMES, max_size=4)))
    for name, variant in data.draw(st.lists(COMMANDS, min_size=1, max_size=8)):
        before, waiting = snapshot(run), len(run.calls)
        try:
            run.command(name, variant)
        except LocalProtocolError as error:
            assert snapshot(run) == before
            assert len(run.calls) == waiting
            assert run.machine.next_event() is None
            is_over = isinstance(error, ConnectionClosed)
        else:
            is_over = name in {"close", "cancel", "withdraw"} and before[0].name in {"CLOSING", "CLOSED"}
        assert is_over == (before[0].name in {"CLOSING", "CLOSED"})
        run.observe()


@pytest.mark.parametrize("argument", range(len(ARGUMENTS)))
@pytest.mark.parametrize("target", range(len(TARGETS)))
@pytest.mark.parametrize("headers", range(len(HEADERS)))
@pytest.mark.parametrize(
    ("encoding", "values"), [("json", ARGUMENTS), ("messagepack", PACKED_ARGUMENTS)], ids=["json", "messagepack"]
)
def test_law_3_holds_for_every_argument(
    encoding: str, values: list[Any], argument: int, target: int, headers: int
) -> None:
    """A refusal does not spend an invocation id, a place among the pending calls, or a byte of the queue."""
    peer = connected_peer(limits=SMALL, encoding=encoding)
    client = peer.client
    assert isinstance(client, HubConnection)
    try:
        client.invoke(TARGETS[target], [values[argument]], headers=HEADERS[headers], now=0.0)
    except LocalProtocolError:
        assert client.queued_bytes == 0
        assert client.pending_calls == 0
        client.invoke("next", now=0.0)
    peer.settle()
    assert [message["invocationId"] for message in peer.said()] == ["1"]


@pytest.mark.parametrize("variant", range(len(SUBSCRIPTIONS)))
def test_law_3_holds_for_every_subscription(variant: int) -> None:
    peer = ready_peer(client=exchange(limits=SMALL))
    client = peer.client
    assert isinstance(client, ExchangeConnection)
    channels, event, fields = SUBSCRIPTIONS[variant]
    if variant < 2:
        subscription = client.subscribe(channels, event=event, fields=fields, now=0.0)
        assert client.subscriptions == [subscription]
        return
    with pytest.raises(LocalProtocolError):
        client.subscribe(channels, event=event, fields=fields, now=0.0)
    assert client.queued_bytes == 0
    assert client.subscriptions == []
    client.subscribe(["ltcusd"], now=0.0)


# ---------------------------------------------------------------------------------------------------------- law 4


@roles
@given(data=st.data())
def test_law_4_closed_comes_once_last_always(role: str, data: st.DataObject) -> None:
    run = Run(role)
    for operation in data.draw(programs(role)):
        run.do(operation)
        assert len(run.closings) == run.is_closed
    run.end()
    assert len(run.closings) == 1
    assert isinstance(run.events[-1], Closed)


ENDINGS: dict[str, bytes] = {
    "end of the stream": b"",
    "hub close": hub_frame({"type": 7}),
    "malformed": hub_frame(b"{"),
    "too long a record": hub_frame(b"x" * 600),
    "too long a message": frame(b"x" * 1_100),
    "close frame": frame(b"\x03\xe9", 8),
    "bad frame": frame(b"", 3),
    "not UTF-8": frame(b"\xff"),
}


@pytest.mark.parametrize("same_message", [False, True], ids=["apart", "in one message"])
@pytest.mark.parametrize("ending", [*ENDINGS, "own close"])
@settings(max_examples=20)
@given(count=st.integers(0, 4), seed=seeds)
def test_law_4_what_came_before_is_delivered_before(ending: str, same_message: bool, count: int, seed: int) -> None:
    """Items that preceded the end, be it in the very same WebSocket message, come before `Closed`."""
    peer = connected_peer(chunks(seed), limits=SMALL)
    client = peer.client
    assert isinstance(client, HubConnection)
    client.stream("numbers", now=0.0)
    items = [{"type": 2, "invocationId": "1", "item": n} for n in range(count)]
    record_endings = {"hub close": {"type": 7}, "malformed": b"{", "too long a record": b"x" * 600}
    if same_message and ending in record_endings:
        peer.feed(hub_frame(*items, record_endings[ending]))
    else:
        peer.feed(b"".join(map(hub_frame, items)) + ENDINGS.get(ending, b""))
    if ending == "end of the stream":
        peer.end()
    if ending == "own close":
        client.close(wait=False, now=0.0)
        peer.settle()
    *before, completed, closed = peer.events
    assert [event.item for event in before] == list(range(count))
    assert isinstance(completed, Completed)
    assert isinstance(closed, Closed)


# ---------------------------------------------------------------------------------------------------------- law 5


@roles
@given(data=st.data())
def test_law_5_after_close_the_object_is_inert(role: str, data: st.DataObject) -> None:
    run = Run(role)
    run.carry_out(data.draw(programs(role, SOBER_TIMES, max_size=5)))
    run.end()
    if is_server(role):
        run.do(("end",))
    run.flush()
    seen, told = snapshot(run), len(run.events)
    assert run.machine.deadline == math.inf
    for operation in data.draw(st.lists(operations(role), max_size=8)):
        refused = run.refusals
        run.do(operation)
        assert snapshot(run) == seen
        assert len(run.events) == told
        assert run.flush() == b""
        quiet = {"close", "withdraw"} if is_server(role) else {"close", "cancel"}
        if role == "exchange" or (not is_server(role) and not run.uploads):
            quiet |= {"upload", "end"}
        asks = operation[0] == "command" and operation[1] not in quiet
        assert run.refusals == refused + asks


def test_law_5_the_last_bytes_are_still_flushable() -> None:
    for close in (hub_frame({"type": 7}), frame(b"\x03\xe8", 8), frame(b"", 3)):
        peer = connected_peer()
        peer.client.receive_data(close, 0.0)
        assert peer.client.state is State.CLOSED
        peer.settle()
        assert [kind for kind, *_ in peer.said()] == ["close"]


# ---------------------------------------------------------------------------------------------------------- law 6


@roles
@given(
    data=st.data(),
    now=st.floats(0, 1e6) | st.sampled_from([1e12, 1e18, 1e300, -1e18]),
    interval=st.sampled_from([1e-9, 0.001, 15.0]),
)
def test_law_6_deadline_is_a_level(role: str, data: st.DataObject, now: float, interval: float) -> None:
    """Early calls do nothing, the due one moves the deadline forward or closes, and waiting comes to an end."""
    run = Run(role, now=now, ping_interval=interval)
    program = data.draw(programs(role, SOBER_TIMES, max_size=5))
    run.carry_out([operation for operation in program if operation[0] != "time"])
    for _ in range(10):
        run.flush()
        due, seen, told = run.machine.deadline, snapshot(run), len(run.events)
        assert due == run.machine.deadline
        assert (due == math.inf) == run.is_closed
        early = math.nextafter(due, -math.inf)
        for moment in (early, early, -math.inf):
            run.machine.handle_timeout(moment)
        run.observe()
        assert (snapshot(run), len(run.events), run.flush()) == (seen, told, b"")
        if run.is_closed:
            return
        run.do(("time", due))
        assert run.machine.deadline > due


@roles
def test_law_6_a_silent_peer_is_given_up(role: str) -> None:
    """From any state on, a peer that says nothing is waited for until a deadline and no longer."""
    for steps in range(len(prefix(role)) + 1):
        run = Run(role)
        run.carry_out(prefix(role)[:steps])
        if is_server(role) and run.machine.state is State.CONNECTED:
            run.do(("data", "hub ping"))
        for _ in range(10):
            run.do(("deadline",))
        assert run.is_closed
        assert run.now <= 60


# ---------------------------------------------------------------------------------------------------------- law 8


@pytest.mark.parametrize(
    "role",
    ["hub", "strict hub", "hub without negotiation", "exchange", "hub in MessagePack", "hub that resumes"],
)
@settings(max_examples=150)
@given(data=st.data())
def test_law_8_every_call_settles_exactly_once(role: str, data: st.DataObject) -> None:
    """With a result, an error, cancelled or lost; items come before that, and never after it."""
    run = ready(role)
    told = 0
    steps = st.one_of(data_operations(role), operations(role, SOBER_TIMES))
    for operation in data.draw(st.lists(steps, max_size=15)):
        bytes_wait = run.machine.queued_bytes > 0
        run.do(operation)
        for event in run.events[told:]:
            error = getattr(event, "error", None)
            if isinstance(error, CallLost):
                # Bytes that our own close leaves to be flushed may arrive.
                may_arrive = operation[:2] == ("command", "close") and bytes_wait
                assert (error.delivery == "not_sent") == (_call(event) in run.unflushed and not may_arrive)
        told = len(run.events)
    run.end()
    settled = [_call(event) for event in run.events if isinstance(event, Completed | SubscriptionEnded)]
    assert len(settled) == len(set(settled))
    assert set(settled) == set(run.calls)
    over: set[Any] = set()
    for event in run.events:
        if isinstance(event, ItemReceived | EventReceived):
            assert _call(event) in run.calls
            assert _call(event) not in over
        if isinstance(event, Completed | SubscriptionEnded):
            over.add(_call(event))


def _call(event: Completed | ItemReceived | SubscriptionEnded | EventReceived) -> Call | Subscription:
    return event.call if isinstance(event, Completed | ItemReceived) else event.subscription


# --------------------------------------------------------------------------------------------------------- law 10


@roles
@settings(max_examples=60)
@given(data=st.data())
@example(data=None)
def test_law_10_same_inputs_same_run(role: str, data: st.DataObject | None) -> None:
    """The same program gives the same events and the same bytes; a client's masks and key are drawn by wsproto."""
    program = prefix(role) if data is None else data.draw(programs(role))
    runs = [Run(role), Run(role)]
    for run in runs:
        run.carry_out(program)
        run.end()
        run.flush()
    first, second = runs
    assert first.picture() == second.picture()
    assert first.flushed == second.flushed
    assert first.said() == second.said()
    assert any(isinstance(event, Dial) for event in first.events) == (not is_server(role))


def test_law_10_no_state_is_shared() -> None:
    """Runs that take turns do not touch one another."""
    alone = ready("exchange")
    one, two = Run("exchange"), Run("exchange")
    for operation in prefix("exchange"):
        one.do(operation)
        two.do(operation)
    for run in (one, two):
        run.flush()
        assert run.picture() == alone.picture()
        assert run.said() == alone.said()
