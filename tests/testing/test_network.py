"""The virtual network: what bytes, time and dials do, seen with ends that speak no protocol."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etorox_proto import Closed, ConnectionLost, Dial, LocalProtocolError
from etorox_proto.testing import (
    Chunking,
    Link,
    ManualClock,
    VirtualDialFailed,
    VirtualNetwork,
    bytewise,
    pieces,
    whole,
)
from testing.rawends import Heard, Line, RawClient, RawHost

INSTANT = Link(latency=0.0)


# ------------------------------------------------------------------------------------------------------- time


def test_time_jumps_from_wake_up_to_wake_up() -> None:
    network = VirtualNetwork(now=5.0, unix_time=1_000.0)
    seen: list[float] = []
    for time in (9.0, 7.0, 1e9):
        network.at(time, lambda: seen.append(network.now))
    assert network.step()
    assert (network.now, network.unix_time) == (7.0, 1_002.0)
    network.run_until(8.5)
    assert (network.now, seen) == (8.5, [7.0])
    network.run_for(0.5)
    assert (network.now, seen) == (9.0, [7.0, 9.0])
    network.run_until(math.inf)
    assert (network.now, seen) == (1e9, [7.0, 9.0, 1e9])
    assert not network.step()
    assert network.now == 1e9
    assert repr(network) == "<VirtualNetwork at 1e+09 s: 0 streams>"


def test_time_does_not_go_back() -> None:
    network = VirtualNetwork(now=5.0)
    ways: list[Callable[[], object]] = [
        lambda: network.run_until(4.9),
        lambda: network.run_for(-0.1),
        lambda: network.at(4.9, list),
        lambda: network.at(math.nan, list),
    ]
    for go_back in ways:
        with pytest.raises(LocalProtocolError, match="expected a time from 5 s on"):
            go_back()
    assert not network.step()


def test_actions_of_one_moment_happen_in_the_order_in_which_they_were_asked_for() -> None:
    network = VirtualNetwork()
    seen: list[int] = []
    for number in range(20):
        network.at(1.0, partial(seen.append, number))
    network.at(1.0, lambda: network.at(1.0, lambda: seen.append(99)))
    network.run_until(1.0)
    assert seen == [*range(20), 99]


def test_in_one_moment_actions_come_first_then_bytes_then_deadlines() -> None:
    order: list[str] = []
    line = Line(deliver=lambda _event: order.append("bytes"))
    due = line.network.now + 1.0
    line.client.deadline = due
    line.connection.say(b"x")
    line.network.run_for(0.5)
    line.network.at(due, lambda: order.append(f"action, {line.client.timeouts} timeouts"))
    line.network.run_until(due)
    assert order == ["action, 0 timeouts", "bytes"]
    assert line.client.timeouts == 1


def test_waiting_for_a_condition_takes_no_longer_than_it_must() -> None:
    line = Line()
    line.connection.say(b"x")
    line.network.wait_for(lambda: line.arrivals)
    assert line.since_opened(line.arrivals) == [(1.0, b"x")]
    assert line.network.now == line.opened_at + 1.0
    line.network.wait_for(lambda: line.arrivals)
    assert line.network.now == line.opened_at + 1.0, "it was so already"
    with pytest.raises(TimeoutError, match="expected the condition to hold within 7 s"):
        line.network.wait_for(lambda: False, within=7.0)
    assert line.network.now == line.opened_at + 8.0


def test_a_deadline_that_moves_is_kept_where_it_is_now() -> None:
    line = Line()
    start = line.network.now
    line.client.deadline = start + 10.0
    line.network.run_for(1.0)
    line.client.deadline = start + 20.0
    line.network.run_for(1.0)
    line.client.deadline = start + 5.0
    line.network.run_until(start + 30.0)
    assert line.client.told[1:] == [f"timeout at {start + 5.0:g}"]
    line.client.deadline = start + 40.0
    line.network.run_for(5.0)
    line.client.deadline = math.inf
    line.network.run_for(100.0)
    assert line.client.timeouts == 1


def test_a_network_says_when_something_happens_next() -> None:
    network = VirtualNetwork()
    assert network.deadline == math.inf
    network.at(7.0, lambda: None)
    network.at(5.0, lambda: None)
    assert network.deadline == 5.0
    network.run_until(network.deadline)
    assert (network.now, network.deadline) == (5.0, 7.0)


def test_a_deadline_that_moves_is_the_networks_where_it_is_now() -> None:
    line = Line()
    start = line.network.now
    for due in (start + 10.0, start + 20.0, start + 5.0, math.inf, start + 15.0):
        line.client.deadline = due
        line.network.run_until(start)
        assert line.network.deadline == due
    line.network.run_until(start + 15.0)
    assert line.client.told[1:] == [f"timeout at {start + 15.0:g}"]


def test_a_deadline_that_has_passed_is_handled_now() -> None:
    line = Line()
    line.network.run_for(10.0)
    now = line.network.now
    line.client.deadline = now - 5.0
    assert line.network.step()
    assert line.client.told[1:] == [f"timeout at {now:g}"]
    assert line.network.now == now


def test_a_machine_that_does_not_move_its_deadline_is_found_out() -> None:
    class Stuck(RawClient):
        def handle_timeout(self, now: float) -> None:
            self.timeouts += 1

    network = VirtualNetwork()
    network.listen(RawHost(), "raw.test")
    machine = Stuck()
    machine.deadline = 3.0
    network.drive(machine)
    with pytest.raises(AssertionError, match=r"expected handle_timeout to move the deadline on .* at 3.0"):
        network.run_for(10.0)
    assert machine.timeouts == 1_000


def test_a_machine_that_moves_its_deadline_by_a_hair_is_found_out_too() -> None:
    class Creeping(RawClient):
        def handle_timeout(self, now: float) -> None:
            self.deadline = math.nextafter(now, math.inf)

    network = VirtualNetwork()
    network.listen(RawHost(), "raw.test")
    machine = Creeping()
    machine.deadline = 3.0
    network.drive(machine)
    with pytest.raises(AssertionError, match="expected handle_timeout to move the deadline"):
        network.run_for(10.0)


def test_a_machine_may_be_busy() -> None:
    class Busy(RawClient):
        def handle_timeout(self, now: float) -> None:
            self.timeouts += 1
            self.deadline = now + 0.001

    network = VirtualNetwork()
    network.listen(RawHost(), "raw.test")
    machine = Busy()
    machine.deadline = 3.0
    network.drive(machine)
    network.run_for(10.0)
    assert machine.timeouts == pytest.approx(7_000, abs=2)


def test_hosts_and_their_connections_have_deadlines_too() -> None:
    line = Line()
    now = line.network.now
    line.host.deadline = now + 5.0
    line.connection.deadline = now + 3.0
    line.network.run_for(10.0)
    assert line.host.advanced == [now + 5.0]
    assert line.since_opened(line.arrivals) == [(4.0, f"timeout at {now + 3.0:g}".encode())]


def test_a_host_that_is_due_may_write_on_all_its_connections() -> None:
    def tell_everybody(_speaker: object, data: bytes) -> None:
        for connection in host.connections:
            connection.say(data)
        host.deadline = network.now

    network = VirtualNetwork(link=INSTANT)
    host = RawHost(tell_everybody)
    network.listen(host, "raw.test")
    network.listen(host, "raw.test", 444)
    clients = [RawClient(), RawClient(port=444)]
    drivers = [network.drive(client) for client in clients]
    network.run_for(1.0)
    clients[0].say(b"hello")
    network.run_for(1.0)
    assert [driver.events for driver in drivers] == [[Heard(b"hello")]] * 2


# -------------------------------------------------------------------------------------------- code of the user


def test_commands_are_noticed_wherever_they_are_given() -> None:
    def answer(event: Heard | Closed) -> None:
        if event == Heard(b"question"):
            line.client.say(b"in a delivery;")
            line.connection.say(b"to the other one")

    line = Line(INSTANT, deliver=answer)
    line.client.say(b"between runs;")
    line.connection.say(b"question")
    line.network.run_for(1.0)
    line.network.at(line.network.now + 1.0, lambda: line.client.say(b"in an action"))
    line.network.run_for(1.0)
    assert line.connection.text == b"between runs;in a delivery;in an action"
    assert line.arrivals[-1][1] == b"to the other one"


def test_time_passes_on_one_level_only() -> None:
    network = VirtualNetwork()
    network.at(1.0, network.step)
    with pytest.raises(LocalProtocolError, match="expected time to pass on one level"):
        network.run_for(2.0)


def test_what_user_code_raises_reaches_the_run_and_the_network_goes_on() -> None:
    def refuse(event: Heard | Closed) -> None:
        raise ValueError(event)

    line = Line(INSTANT, deliver=refuse)
    line.connection.say(b"one")
    with pytest.raises(ValueError, match="one"):
        line.network.run_for(1.0)
    line.connection.say(b"two")
    with pytest.raises(ValueError, match="two"):
        line.network.run_for(1.0)
    line.network.run_for(1.0)
    assert [data for _, data in line.arrivals] == [b"one", b"two"]


# ----------------------------------------------------------------------------------------------- bytes and links


def test_bytes_take_as_long_as_the_link_says() -> None:
    line = Line(Link(latency=0.25))
    line.connection.say(b"down")
    line.client.say(b"up")
    line.network.run_for(0.1)
    line.client.say(b" and up")
    line.network.run_for(1.0)
    assert line.since_opened(line.arrivals) == [(0.25, b"down")]
    assert line.since_opened(line.connection.heard) == [(0.25, b"up"), (0.35, b" and up")]


def test_bytes_pass_one_after_the_other_where_bandwidth_is_limited() -> None:
    line = Line(Link(latency=1.0, bandwidth=100.0, chunking=lambda data, _source: (data[:50], data[50:])))
    line.connection.say(b"a" * 150)
    line.network.run_for(0.5)
    line.connection.say(b"b" * 100)
    line.network.run_for(10.0)
    arrivals = [(time, len(data)) for time, data in line.since_opened(line.arrivals)]
    assert arrivals == [(1.5, 50), (2.5, 100), (3.0, 50), (3.5, 50)]
    line.network.run_for(10.0)
    line.connection.say(b"c" * 50)
    before = line.network.now
    line.network.run_for(10.0)
    assert line.arrivals[-1][0] == before + 1.5, "the line was free"


def cut_into_three(data: bytes, _source: random.Random) -> Iterable[bytes]:
    return [data[:3], b"", data[3:6], data[6:]]


@pytest.mark.parametrize(
    ("chunking", "lengths"), [(whole, [8]), (bytewise, [1] * 8), (cut_into_three, [3, 3, 2])], ids=lambda x: str(x)[:20]
)
def test_bytes_are_cut_as_the_link_says(chunking: Chunking, lengths: list[int]) -> None:
    line = Line(Link(chunking=chunking))
    line.connection.say(b"12345678")
    line.network.run_for(1.0)
    assert [len(data) for _, data in line.arrivals] == lengths
    assert b"".join(data for _, data in line.arrivals) == b"12345678"


def test_a_whole_write_is_one_piece() -> None:
    assert list(whole(b"1234", random.Random(0))) == [b"1234"]


def test_random_pieces_come_from_the_networks_seed() -> None:
    def lengths(seed: int) -> list[int]:
        line = Line(Link(chunking=pieces), seed=seed)
        line.connection.say(b"x" * 500)
        line.network.run_for(1.0)
        assert sum(len(data) for _, data in line.arrivals) == 500
        return [len(data) for _, data in line.arrivals]

    assert lengths(1) == lengths(1)
    assert len({tuple(lengths(seed)) for seed in range(5)}) > 1


def test_a_chunking_that_changes_the_bytes_is_found_out() -> None:
    line = Line(Link(chunking=lambda data, _source: [data, b"!"]))
    line.connection.say(b"12345")
    with pytest.raises(LocalProtocolError, match="expected the chunking to keep all 5 bytes in order"):
        line.network.run_for(1.0)


@pytest.mark.parametrize(
    "numbers",
    [
        {"latency": -1.0},
        {"latency": math.inf},
        {"jitter": -0.1},
        {"bandwidth": 0.0},
        {"window": 0},
        {"latency": math.nan},
    ],
    ids=str,
)
def test_a_link_that_cannot_be_is_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(LocalProtocolError, match=f"expected {next(iter(numbers))} to be"):
        Link(**numbers)  # type: ignore[arg-type]


links = st.builds(
    Link,
    latency=st.floats(0, 2),
    jitter=st.just(0.0) | st.floats(0, 5),
    bandwidth=st.just(math.inf) | st.floats(10, 1_000),
    chunking=st.sampled_from([whole, bytewise, pieces]),
    window=st.integers(1, 200),
)
writes = st.lists(st.tuples(st.floats(0, 10), st.binary(min_size=1, max_size=300)), min_size=1, max_size=8)


@given(link=links, written=writes, seed=st.integers(0, 9))
def test_bytes_arrive_in_order_and_once_whatever_the_link(
    link: Link, written: list[tuple[float, bytes]], seed: int
) -> None:
    line = Line(link, seed=seed)
    start = line.network.now
    for delay, data in sorted(written, key=lambda each: each[0]):
        line.network.at(start + delay, partial(line.connection.say, data))
        line.network.at(start + delay, partial(line.client.say, data))
    line.network.run_until(math.inf)
    sent = b"".join(data for _, data in sorted(written, key=lambda each: each[0]))
    for heard in (line.arrivals, line.connection.heard):
        assert b"".join(data for _, data in heard) == sent
        assert all(data for _, data in heard)
        times = [time for time, _ in heard]
        assert times == sorted(times)
        assert times[0] >= start + min(delay for delay, _ in written) + link.latency
    assert line.stream.waiting("client") == line.stream.waiting("server") == 0


@given(link=links, written=writes, seed=st.integers(0, 9), cut_at=st.floats(0, 10), softly=st.booleans())
def test_what_arrives_before_an_end_is_a_beginning_of_what_was_sent(
    link: Link, written: list[tuple[float, bytes]], seed: int, cut_at: float, softly: bool
) -> None:
    line = Line(link, seed=seed)
    start, stream = line.network.now, line.stream
    ordered = sorted(written, key=lambda each: each[0])
    for delay, data in ordered:
        line.network.at(start + delay, partial(line.connection.say, data))
    line.network.at(start + cut_at, stream.end if softly else stream.reset)
    line.network.run_until(math.inf)
    sent = b"".join(data for delay, data in ordered if start + delay <= start + cut_at)
    arrived = b"".join(data for _, data in line.arrivals)
    assert sent.startswith(arrived)
    assert line.arrivals[-1][1] == b""
    assert line.driver.is_closed
    assert line.connection.closed
    assert line.network.streams == []
    assert stream.is_over
    assert stream.was_reset is not softly
    if not softly:
        assert line.arrivals[-1][0] == start + cut_at


# ---------------------------------------------------------------------------------------- what happens to streams


def test_a_reset_loses_what_is_under_way_and_tells_both_ends_at_once() -> None:
    line = Line()
    line.connection.say(b"lost")
    line.client.say(b"lost")
    line.network.run_for(0.5)
    stream = line.stream
    stream.reset()
    line.network.run_for(0.0)
    assert line.since_opened(line.arrivals) == [(0.5, b"")]
    assert line.since_opened(line.connection.heard) == [(0.5, b"")]
    assert isinstance(line.driver.error, ConnectionLost)
    assert stream.was_reset
    stream.reset()
    line.network.run_for(5.0)
    assert len(line.arrivals) == len(line.connection.heard) == 1


def test_a_stream_that_is_over_cannot_be_reset() -> None:
    line = Line()
    stream = line.stream
    stream.end()
    line.network.run_for(5.0)
    stream.reset()
    line.network.run_for(5.0)
    assert not stream.was_reset
    assert len(line.arrivals) == len(line.connection.heard) == 1


def test_an_end_comes_behind_what_is_under_way() -> None:
    line = Line()
    line.connection.say(b"last words")
    line.network.run_for(0.5)
    line.stream.end()
    line.connection.say(b"too late")
    line.client.say(b"too late")
    line.network.run_for(5.0)
    assert line.since_opened(line.arrivals) == [(1.0, b"last words"), (1.5, b"")]
    assert line.since_opened(line.connection.heard) == [(1.5, b"")]


def test_a_half_closed_stream_goes_on_in_the_other_direction() -> None:
    line = Line()
    line.connection.hears_end = False
    line.stream.end("server")
    line.network.run_for(5.0)
    line.connection.say(b"still there?")
    line.client.say(b"into the void")
    line.network.run_for(5.0)
    assert line.since_opened(line.connection.heard) == [(1.0, b"")]
    assert line.since_opened(line.arrivals) == [(6.0, b"still there?")]
    line.connection.closed = True
    line.network.run_for(5.0)
    assert line.arrivals[-1][1] == b""


def test_a_client_may_go_on_writing_when_the_server_has_ended() -> None:
    line = Line()
    line.client.ignores_end = True
    line.stream.end("client")
    line.network.run_for(5.0)
    line.client.say(b"one more thing")
    line.network.run_for(5.0)
    assert line.connection.text == b"one more thing"


@pytest.mark.parametrize(
    ("toward", "heard"), [("client", (False, True)), ("server", (True, False)), ("both", (False, False))]
)
def test_nothing_comes_out_of_a_black_hole(toward: str, heard: tuple[bool, bool]) -> None:
    line = Line()
    line.connection.say(b"under way")
    line.client.say(b"under way")
    line.network.run_for(0.5)
    line.stream.black_hole(toward)  # type: ignore[arg-type]
    line.network.run_for(1_000.0)
    assert (bool(line.arrivals), bool(line.connection.heard)) == heard
    assert line.stream.waiting("client") == (0 if heard[0] else 9)


def test_what_fell_into_a_passing_black_hole_is_sent_again() -> None:
    line = Line()
    line.stream.black_hole(seconds=10.0)
    line.connection.say(b"early")
    line.network.at(line.network.now + 9.5, lambda: line.connection.say(b"late"))
    line.network.run_for(20.0)
    assert line.since_opened(line.arrivals) == [(10.0, b"early"), (10.5, b"late")]
    line.stream.black_hole()
    line.connection.say(b"stuck")
    line.network.run_for(20.0)
    line.stream.black_hole(seconds=0)
    line.network.run_for(0.0)
    assert line.since_opened(line.arrivals)[-1] == (40.0, b"stuck")


def test_a_reset_reaches_into_a_black_hole() -> None:
    line = Line()
    line.stream.black_hole()
    line.stream.reset()
    line.network.run_for(0.0)
    assert line.driver.is_closed
    assert line.connection.closed


def test_corruption_changes_as_many_bytes_as_it_is_told() -> None:
    line = Line(Link(chunking=bytewise))
    line.stream.corrupt("client", count=3)
    line.stream.corrupt("server", count=100)
    line.connection.say(b"\0" * 10)
    line.client.say(b"\0" * 10)
    line.network.run_for(1.0)
    arrived = b"".join(data for _, data in line.arrivals)
    assert len(arrived) == 10
    assert [bool(byte) for byte in arrived] == [True] * 3 + [False] * 7
    assert all(line.connection.text)
    with pytest.raises(LocalProtocolError, match="expected at least 1 byte"):
        line.stream.corrupt(count=0)


def test_corruption_is_drawn_from_the_seed() -> None:
    def damage(seed: int) -> bytes:
        line = Line(seed=seed)
        line.stream.corrupt(count=2)
        line.connection.say(b"\0" * 50)
        line.network.run_for(5.0)
        ((_, arrived),) = line.arrivals
        assert sum(map(bool, arrived)) == 2
        return arrived

    assert damage(1) == damage(1)
    assert damage(1) != damage(2)


def test_a_slow_reader_takes_so_many_bytes_a_second() -> None:
    line = Line()
    line.stream.limit_reading("client", 100.0)
    line.connection.say(b"x" * 250)
    line.network.run_for(20.0)
    assert [(time, len(data)) for time, data in line.since_opened(line.arrivals)] == [(1.0, 100), (2.0, 100), (3.0, 50)]
    line.stream.limit_reading("client", 0.5)
    line.connection.say(b"yz")
    line.network.run_for(20.0)
    assert line.since_opened(line.arrivals)[3:] == [(21.0, b"y"), (23.0, b"z")]
    with pytest.raises(LocalProtocolError, match="expected a rate of 0 bytes a second or more"):
        line.stream.limit_reading("client", -1.0)


def test_a_reader_that_takes_nothing_holds_the_sender_back() -> None:
    line = Line(Link(latency=0.0, window=100))
    line.stream.limit_reading("client", 0)
    line.connection.say(b"a" * 250)
    line.network.run_for(1.0)
    line.connection.say(b"b" * 50)
    line.network.run_for(1.0)
    assert line.arrivals == []
    assert line.stream.waiting("client") == 250, "what the server had handed out"
    assert line.connection.queued == b"b" * 50, "what the server keeps"
    line.stream.limit_reading("client", math.inf)
    line.network.run_for(1.0)
    assert b"".join(data for _, data in line.arrivals) == b"a" * 250 + b"b" * 50
    assert line.connection.queued == b""


def test_a_client_is_held_back_as_well() -> None:
    line = Line(Link(latency=0.0, window=100))
    line.stream.limit_reading("server", 0)
    line.client.say(b"a" * 250)
    line.network.run_for(1.0)
    line.client.say(b"b" * 50)
    line.network.run_for(1.0)
    assert line.client.data_to_send() == b"b" * 50
    line.client.say(b"b" * 50)
    line.stream.limit_reading("server", 1_000)
    line.network.run_for(1.0)
    assert line.connection.text == b"a" * 250 + b"b" * 50


def test_bytes_in_a_black_hole_fill_the_window() -> None:
    line = Line(Link(latency=0.0, window=100))
    line.stream.black_hole("client")
    for _ in range(3):
        line.connection.say(b"x" * 100)
        line.network.run_for(1.0)
    assert (line.stream.waiting("client"), len(line.connection.queued)) == (200, 100)


def test_a_stream_says_what_it_is() -> None:
    line = Line()
    stream = line.stream
    assert (stream.number, stream.host, stream.port, stream.opened_at) == (1, "raw.test", 443, 2.0)
    assert repr(stream) == "<Stream 1 to raw.test port 443>"
    assert line.network.streams == line.listener.streams == [stream]
    assert repr(line.listener) == "<Listener at raw.test port 443: 1 streams>"
    line.connection.close(allow_reconnect=False, now=line.network.now)
    line.network.run_for(0.5)
    assert line.listener.streams == []
    assert line.network.streams == [stream], "the client does not know yet"
    line.network.run_for(5.0)
    assert [data for _, data in line.arrivals] == [b"farewell", b""]
    assert line.network.streams == []
    assert line.driver.stream is None


# ------------------------------------------------------------------------------------------------------- dials


def test_dialling_takes_a_round_trip_and_another_one_for_tls() -> None:
    network = VirtualNetwork(link=Link(latency=0.5))
    network.listen(RawHost(), "raw.test")
    clients = [RawClient(), RawClient(tls=True)]
    drivers = [network.drive(client) for client in clients]
    network.run_for(10.0)
    assert [client.told for client in clients] == [["opened at 1"], ["opened at 2"]]
    assert [driver.dials for driver in drivers] == [1, 1]


def dial_error(client: RawClient, network: VirtualNetwork) -> VirtualDialFailed:
    driver = network.drive(client)
    network.wait_for(lambda: driver.is_closed)
    assert isinstance(driver.error, VirtualDialFailed)
    assert str(driver.error.__cause__) == f"the stream ended at {network.now:g}", "the machine was told"
    assert driver.events == [Closed(driver.error)]
    return driver.error


def test_where_nobody_listens_there_is_no_stream() -> None:
    network = VirtualNetwork(link=Link(latency=0.5))
    network.listen(RawHost(), "raw.test", 80)
    error = dial_error(RawClient(), network)
    assert str(error) == "could not connect to raw.test port 443: unknown host"
    assert (error.reason, error.may_retry, network.now) == ("unknown host", True, 1.0)


def test_a_host_refuses_for_a_while() -> None:
    network = VirtualNetwork(link=Link(latency=0.5))
    listener = network.listen(RawHost(), "raw.test")
    listener.refuse_dials(60.0)
    error = dial_error(RawClient(tls=True), network)
    assert (error.reason, error.may_retry, network.now) == ("refused", True, 2.0)
    network.run_until(60.0)
    driver = network.drive(RawClient())
    network.wait_for(lambda: driver.stream)


@pytest.mark.parametrize("may_retry", [True, False])
def test_tls_fails_for_those_who_use_it(may_retry: bool) -> None:
    network = VirtualNetwork()
    listener = network.listen(RawHost(), "raw.test")
    listener.fail_tls(may_retry=may_retry)
    error = dial_error(RawClient(tls=True), network)
    assert (error.reason, error.may_retry) == ("tls", may_retry)
    plain = network.drive(RawClient())
    network.wait_for(lambda: plain.stream)
    listener.accept_dials()
    encrypted = network.drive(RawClient(tls=True))
    network.wait_for(lambda: encrypted.stream)


def test_a_dial_that_is_never_answered_waits_for_the_machines_deadline() -> None:
    class Impatient(RawClient):
        def handle_timeout(self, now: float) -> None:
            super().handle_timeout(now)
            super().receive_data(b"", now)

    network = VirtualNetwork()
    listener = network.listen(RawHost(), "raw.test")
    listener.ignore_dials()
    machine = Impatient()
    machine.deadline = 30.0
    driver = network.drive(machine)
    network.run_for(29.9)
    assert not driver.is_closed
    network.run_for(0.1)
    assert str(driver.error) == "the stream ended at 30"
    assert listener.streams == []


def test_a_dial_that_is_not_answered_for_a_while_is_answered_then() -> None:
    network = VirtualNetwork()
    host = RawHost()
    network.listen(host, "raw.test").ignore_dials(20.0)
    client = RawClient()
    network.drive(client)
    given_up = RawClient()
    given_up.deadline = 10.0
    given_up_driver = network.drive(given_up)
    network.at(10.0, lambda: given_up.receive_data(b"", 10.0))
    network.run_for(60.0)
    assert client.told == ["opened at 20"]
    assert given_up_driver.is_closed
    assert len(host.connections) == 1


def test_a_second_dial_drops_the_first_stream() -> None:
    class Redialling(RawClient):
        def receive_data(self, data: bytes, now: float) -> None:
            super().receive_data(data, now)
            if data == b"go elsewhere":
                self._events.append(Dial("raw.test", 444, tls=False, server_name="raw.test"))

    network = VirtualNetwork()
    first, second = RawHost(), RawHost()
    network.listen(first, "raw.test")
    network.listen(second, "RAW.test", 444, link=Link(latency=2.0))
    client = Redialling()
    driver = network.drive(client)
    network.wait_for(lambda: driver.stream)
    first.connections[0].say(b"go elsewhere")
    network.run_for(1.0)
    assert first.connections[0].closed, "it saw the end"
    assert driver.stream is None
    first.connections[0].say(b"nobody hears this")
    network.wait_for(lambda: driver.stream)
    assert driver.dials == 2
    client.say(b"hello")
    network.run_for(10.0)
    assert second.connections[0].text == b"hello"


def test_a_machine_may_dial_elsewhere_when_a_dial_has_failed() -> None:
    class Persistent(RawClient):
        def receive_data(self, data: bytes, now: float) -> None:
            if not data and not self.told:
                self._events.append(Dial("raw.test", 443, tls=False, server_name="raw.test"))
            else:
                super().receive_data(data, now)

    network = VirtualNetwork()
    network.listen(RawHost(), "raw.test")
    driver = network.drive(Persistent("elsewhere.test"))
    network.wait_for(lambda: driver.stream)
    assert driver.dials == 2
    assert driver.stream is not None
    driver.stream.end()
    network.run_for(1.0)
    assert isinstance(driver.error, ConnectionLost), "the first dial is forgotten"


@pytest.mark.parametrize(("how", "said"), [("reset", b""), ("end", b""), ("goodbye", b"goodbye")])
def test_a_server_that_restarts_is_away_for_a_while(how: str, said: bytes) -> None:
    line = Line()
    line.listener.restart(30.0, how=how)  # type: ignore[arg-type]
    line.network.run_for(5.0)
    assert b"".join(data for _, data in line.arrivals) == said
    assert line.driver.is_closed
    assert line.connection.closed
    assert line.listener.streams == line.network.streams == []
    early = line.network.drive(RawClient())
    line.network.run_until(line.opened_at + 30.0)
    assert isinstance(early.error, VirtualDialFailed)
    late = line.network.drive(RawClient())
    line.network.wait_for(lambda: late.stream)


@pytest.mark.parametrize(("host", "port"), [("", 443), ("raw.test", 0), ("raw.test", 65_536), ("raw.test", 443)])
def test_an_address_that_is_none_or_taken_is_refused(host: str, port: int) -> None:
    network = VirtualNetwork()
    network.listen(RawHost(), "Raw.Test")
    with pytest.raises(LocalProtocolError, match=r"expected an? (address|host)"):
        network.listen(RawHost(), host, port)


def test_a_new_link_counts_for_new_streams() -> None:
    line = Line(Link(latency=1.0))
    line.listener.link = Link(latency=5.0)
    line.connection.say(b"x")
    line.network.run_for(1.0)
    assert len(line.arrivals) == 1
    now = line.network.now
    late = RawClient()
    line.network.drive(late)
    line.network.run_for(20.0)
    assert late.told == [f"opened at {now + 10.0:g}"]


# ----------------------------------------------------------------------------------------------------- drivers


def test_a_driver_collects_everything_unless_it_is_told_otherwise() -> None:
    heard: list[object] = []
    network = VirtualNetwork(link=INSTANT)
    host = RawHost()
    network.listen(host, "raw.test")
    drivers = [
        network.drive(RawClient()),
        network.drive(RawClient(), keep=2),
        network.drive(RawClient(), deliver=heard.append),
        network.drive(RawClient(), deliver=heard.append, keep=1),
    ]
    network.run_for(1.0)
    for data in (b"1", b"2", b"3"):
        for connection in host.connections:
            connection.say(data)
        network.run_for(1.0)
    one, two, three = Heard(b"1"), Heard(b"2"), Heard(b"3")
    assert [driver.events for driver in drivers] == [[one, two, three], [two, three], [], [three]]
    assert [driver.delivered for driver in drivers] == [3] * 4
    assert heard == [one, one, two, two, three, three]
    with pytest.raises(LocalProtocolError, match="expected to keep 0 events or more"):
        network.drive(RawClient(), keep=-1)


def test_a_driver_says_how_it_stands() -> None:
    line = Line(INSTANT)
    driver = line.driver
    assert driver.machine is line.client
    assert (driver.is_closed, driver.error, driver.stream is None) == (False, None, False)
    assert repr(driver).endswith(": 0 events>")
    line.connection.closed = True
    line.network.run_for(0.0)
    assert driver.is_closed
    assert isinstance(driver.error, ConnectionLost)
    assert driver.stream is None
    line.client.say(b"too late")
    driver.pause_reading()
    driver.resume_reading()
    line.network.run_for(1.0)
    assert line.connection.text == b""
    assert line.client.told == ["opened at 0"]


def test_a_driver_that_does_not_read_holds_the_server_back_and_says_so() -> None:
    line = Line(Link(latency=0.0, window=100))
    line.driver.pause_reading()
    line.driver.pause_reading()
    line.connection.say(b"x" * 150)
    line.network.run_for(2.0)
    line.connection.say(b"y")
    line.client.say(b"I can still write")
    line.network.run_for(8.0)
    assert line.arrivals == []
    assert line.connection.text == b"I can still write"
    assert line.connection.queued == b"y"
    line.driver.resume_reading()
    line.driver.resume_reading()
    line.network.run_for(1.0)
    assert b"".join(data for _, data in line.arrivals) == b"x" * 150 + b"y"
    assert line.client.told == ["opened at 0", "paused at 0", "resumed at 10"]


def test_a_pause_outlasts_a_dial() -> None:
    network = VirtualNetwork(link=INSTANT)
    host = RawHost()
    network.listen(host, "raw.test")
    client = RawClient()
    driver = network.drive(client)
    driver.pause_reading()
    driver.resume_reading()
    driver.pause_reading()
    network.run_for(1.0)
    host.connections[0].say(b"x")
    network.run_for(1.0)
    assert driver.events == []
    driver.resume_reading()
    network.run_for(0.0)
    assert driver.events == [Heard(b"x")]


def test_a_driver_may_be_paused_from_within_a_delivery() -> None:
    line = Line(Link(latency=0.0, chunking=bytewise), deliver=lambda _event: line.driver.pause_reading())
    line.connection.say(b"abc")
    line.network.run_for(1.0)
    assert [data for _, data in line.arrivals] == [b"a"]
    line.driver.resume_reading()
    line.network.run_for(1.0)
    assert [data for _, data in line.arrivals] == [b"a", b"b"]


def test_a_reset_is_noticed_by_a_driver_that_does_not_read_and_an_end_is_not() -> None:
    line = Line(INSTANT)
    line.driver.pause_reading()
    line.stream.end("client")
    line.network.run_for(1.0)
    assert not line.driver.is_closed
    line.stream.reset()
    line.network.run_for(1.0)
    assert line.driver.is_closed


def test_a_manual_clock_stands_until_it_is_set() -> None:
    clock = ManualClock(now=2.0, epoch=100.0)
    assert clock.unix_time == 102.0
    clock.now = 5.0
    assert clock.unix_time == 105.0


# ----------------------------------------------------------------------------------------------------- the law


class Pedantic(RawClient):
    """A machine that insists on being flushed and drained before it is told anything more."""

    def __init__(self) -> None:
        super().__init__()
        self.is_flushed = self.is_drained = True
        self.inputs = 0

    def _input(self) -> None:
        assert self.is_flushed, "flush before you feed"
        assert self.is_drained, "drain before you feed"
        self.is_flushed = self.is_drained = False
        self.inputs += 1

    def stream_opened(self, now: float) -> None:
        self._input()
        super().stream_opened(now)
        self.deadline = now + 0.5

    def receive_data(self, data: bytes, now: float) -> None:
        self._input()
        super().receive_data(data, now)
        self.say(data)

    def handle_timeout(self, now: float) -> None:
        self._input()
        assert now >= self.deadline
        super().handle_timeout(now)
        self.deadline = now + 0.5

    def data_to_send(self) -> bytes:
        self.is_flushed = True
        return super().data_to_send()

    def next_event(self) -> Heard | Dial | Closed | None:
        assert self.is_flushed, "flush before you take an event"
        event = super().next_event()
        self.is_drained = event is None
        return event


@pytest.mark.parametrize("chunking", [whole, bytewise, pieces])
def test_a_driver_drains_before_it_feeds(chunking: Chunking) -> None:
    network = VirtualNetwork(link=Link(latency=0.1, jitter=0.1, chunking=chunking))
    host = RawHost(lambda connection, data: connection.say(data[:-1]))
    network.listen(host, "raw.test")
    client = Pedantic()
    network.drive(client)
    network.run_for(1.0)
    client.say(b"x" * 50)
    host.connections[0].say(b"y" * 50)
    network.run_for(60.0)
    assert client.inputs > 120
    assert len(host.connections[0].text) >= 100
