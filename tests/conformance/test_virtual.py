"""The conformance cases without sockets: the kit itself, and transports that use their streams as they must not."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from conformance import broken
from conformance.ours import OURS, asynchronous, new_blocking, streams
from etorox_proto.testing import Link
from etorox_transports.conformance import CASES, Case, Report, Transport, VirtualEventLoop, run

VIRTUAL = {case.name for case in CASES if case.in_memory}
OFFERED = ["anyio-asyncio", "anyio-trio", "trio", "streams"]
# In these no stream is ever opened.
NEVER_OPENED = {"virtual/dial_that_is_refused", "virtual/dial_that_is_not_answered"}


# ------------------------------------------------------------------------------------------------ broken transports


def failed(wrap: Any) -> dict[str, str]:
    """The virtual cases in which an adapter fails whose streams are wrapped like this, and why."""
    report = run(asynchronous("anyio", "wrapped", "asyncio", wrap), cases=["virtual"])
    return {result.case.name: result.reason for result in report.failed}


def test_streams_that_only_pass_on_what_they_get_change_nothing() -> None:
    assert failed(broken.Passing) == {}


@pytest.mark.parametrize(
    ("wrap", "reason"),
    [
        (broken.SendsTwoAtOnce, "expected that two tasks never send at once"),
        (broken.SendsAfterTheEnd, "expected that nothing is sent on a stream that was closed"),
        (broken.ReadsAfterTheEnd, "expected that nothing is read from a stream that was closed"),
    ],
)
def test_a_stream_notices_what_must_never_be_done_to_it(wrap: Any, reason: str) -> None:
    reasons = failed(wrap)
    assert set(reasons) == VIRTUAL - NEVER_OPENED
    assert set(reasons.values()) == {reason}


def test_a_stream_that_is_not_closed_is_noticed_wherever_one_is_opened() -> None:
    assert set(failed(broken.StaysOpen)) == VIRTUAL - NEVER_OPENED


def test_sending_after_a_part_is_noticed_wherever_a_send_takes_long() -> None:
    after_a_part = "expected that nothing is sent after a part of something"
    never_given_up = "expected a send to be given up, it did not come within 20000 virtual seconds"
    assert failed(broken.SendsAfterAPart) == {
        "virtual/both_directions_through_a_needles_eye": after_a_part,
        "virtual/reset_while_sending": after_a_part,
        "virtual/server_that_takes_nothing": after_a_part,
        "virtual/server_that_speaks_and_takes_nothing": never_given_up,
        "virtual/what_waits_has_a_limit": after_a_part,
        "virtual/server_that_reads_slowly": after_a_part,
    }


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        (broken.SendsWhenItIsWoken, "closed_by_two_at_once", "expected closing after 0.5 s, to the moment, it took "),
        (broken.SendsWhenItIsWoken, "both_directions_to_the_moment", "expected the answer to what was sent, it did "),
        (broken.OpensUnasked, "ten_streams_that_are_lost", "expected 12 streams to be told as opened, got 24"),
        (broken.HasTwoClocks, "an_hour_without_a_word", "expected the machine to be told the time of the loop's clock"),
        (broken.KeepsTimeBadly, "pings_to_the_moment", "expected 40 pings in 610 s, got 36"),
        (broken.KeepsTimeBadly, "silence_to_the_moment", "expected the silence of the server after 30 s, to the mom"),
        (broken.SwallowsCommands, "what_waits_has_a_limit", "expected at most 50000 bytes to wait, and as many to"),
        (broken.MumblesAndGivesUp, "half_close", "expected the end of the stream to be raised, nothing was"),
        (broken.MumblesAndGivesUp, "silence_to_the_moment", "expected the silence of the server to be told in words"),
    ],
)
def test_a_fault_is_told_in_words(kind: Any, name: str, reason: str) -> None:
    (result,) = run(streams(kind), cases=[f"virtual/{name}"]).results
    assert result.outcome == "failed"
    assert result.reason.startswith(reason), result.reason


# ---------------------------------------------------------------------------------------------------------- the kit


def test_who_does_not_say_that_sockets_can_be_done_without_is_not_asked() -> None:
    with_sockets = Transport(streams().connect)
    for transport in (with_sockets, new_blocking(), dataclasses.replace(new_blocking(), in_memory=True)):
        report = run(transport, cases=["virtual"])
        assert {result.outcome for result in report.results} == {"not offered"}
        assert str(report).splitlines()[1] == "  virtual  not offered"


@pytest.mark.parametrize("name", OFFERED)
def test_a_run_is_the_same_every_time(name: str) -> None:
    """What the machines were told, to the last bit."""
    seen: list[list[tuple[int, int, float, float]]] = []

    async def body(stage: Any) -> None:
        case = next(case for case in CASES if case.name == "virtual/any_way_there")
        await case.run(stage)
        told = [(each.timeouts, each.dials, each.latest, each.largest_drift) for each in stage.machines]
        seen.append(told)

    for _ in range(2):
        assert not of_case(body, OURS[name]()).failed
    assert seen[0] == seen[1]


def test_hours_take_a_moment() -> None:
    async def main() -> tuple[float, float]:
        before = asyncio.get_running_loop().time()
        await asyncio.gather(asyncio.sleep(3_600.0), asyncio.sleep(7_200.0))
        return before, asyncio.get_running_loop().time()

    began = time.monotonic()
    with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
        before, after = runner.run(main())
    assert after - before == 7_200.0
    assert time.monotonic() - began < 5.0


def test_time_may_pass_in_which_nothing_is_done() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualEventLoop)
        before, fired = loop.time(), loop.create_future()
        loop.call_later(10.0, lambda: fired.set_result(loop.time()))
        loop.jump(25.0)
        return [await fired - before]

    with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
        assert runner.run(main()) == [25.0]


def test_a_loop_for_which_nothing_will_ever_happen_says_so() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(AssertionError, match="nothing will ever happen any more"):  # noqa: SIM117
        with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
            runner.run(main())


def test_a_case_that_gets_stuck_ends_in_virtual_time() -> None:
    async def body(stage: Any) -> None:
        async with stage.virtual(Echo()):
            await asyncio.get_running_loop().create_future()

    (result,) = of_case(body).failed
    assert result.reason == "expected the end of the conversation, it did not come within 20000 virtual seconds"
    assert result.seconds < 5.0


# ------------------------------------------------------------------------------------- streams of asyncio's own kind


class Echo:
    """A server that says what it hears."""

    deadline = math.inf

    def __init__(self) -> None:
        self.heard = b""
        self.closed = False
        self.to_say = b""

    def advance(self, now: float) -> None:
        pass

    def accept(self, now: float) -> Echo:
        return self

    def receive_data(self, data: bytes, now: float) -> None:
        self.heard += data
        self.to_say += data
        self.closed = not data

    def handle_timeout(self, now: float) -> None:
        pass

    def data_to_send(self) -> bytes:
        said, self.to_say = self.to_say, b""
        return said

    def close(self, *, allow_reconnect: bool, now: float) -> None:
        self.closed = True


def of_case(body: Callable[[Any], Coroutine[Any, Any, None]], transport: Transport | None = None) -> Report:
    """What becomes of a case with this body."""
    case = Case("test/body", "what is demanded", body, 10.0, needs_tasks=False, in_memory=True)
    return run(transport or streams(), cases=[case])


def passes(body: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    (result,) = of_case(body).results
    assert result.outcome == "passed", result.details


def test_connections_that_are_opened_through_the_loop_lead_into_the_network() -> None:
    async def body(stage: Any) -> None:
        async with stage.virtual(Echo(), Link(latency=0.25)) as network:
            began = stage.loop.now()
            reader, writer = await asyncio.open_connection("127.0.0.1", 80)
            assert stage.loop.now() - began == 0.5
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            assert stage.loop.now() - began == 1.0
            network.act(network.stream.end)
            assert await reader.read() == b""
            assert not writer.is_closing()
            assert not writer.can_write_eof()
            writer.close()
            await writer.wait_closed()
            assert stage.loop.now() - began == 1.25

    passes(body)


def test_what_nobody_reads_stays_with_the_server() -> None:
    async def body(stage: Any) -> None:
        server = Echo()
        async with stage.virtual(server, Link(latency=0.25, window=10_000)):
            reader, writer = await asyncio.open_connection("127.0.0.1", 80)
            writer.write(b"x" * 500_000)
            await stage.loop.sleep(60.0)
            assert len(server.to_say) > 200_000
            assert len(await reader.readexactly(500_000)) == 500_000
            assert server.to_say == b""
            writer.close()
            await writer.wait_closed()

    passes(body)


def test_a_reset_reaches_the_reader_behind_what_came_before() -> None:
    async def body(stage: Any) -> None:
        async with stage.virtual(Echo()) as network:
            reader, writer = await asyncio.open_connection("127.0.0.1", 80)
            writer.write(b"hello")
            await stage.loop.sleep(1.0)
            network.act(network.stream.reset)
            assert await reader.readexactly(5) == b"hello"
            with pytest.raises(ConnectionResetError):
                await reader.read()
            assert writer.is_closing()

    passes(body)


@pytest.mark.parametrize("way", ["nobody there", "refused", "no answer"])
def test_a_connection_that_cannot_be_opened_is_an_os_error(way: str) -> None:
    async def body(stage: Any) -> None:
        async with stage.virtual(Echo()) as network:
            if way == "nobody there":
                with pytest.raises(OSError, match="Name or service not known"):
                    await asyncio.open_connection("elsewhere.test", 80)
            elif way == "refused":
                network.listener.refuse_dials()
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection("127.0.0.1", 80)
            else:
                network.listener.ignore_dials()
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.open_connection("127.0.0.1", 80), 5.0)

    passes(body)


class Noting(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def data_received(self, data: bytes) -> None:
        self.told.append(data)

    def eof_received(self) -> bool:
        self.told.append("end")
        return False

    def pause_writing(self) -> None:
        self.told.append("full")

    def resume_writing(self) -> None:
        self.told.append("room")

    def connection_lost(self, error: Exception | None) -> None:
        self.told.append(error)


def test_a_protocol_is_told_of_room_pauses_and_the_end() -> None:
    async def body(stage: Any) -> None:
        async with stage.virtual(Echo(), Link(latency=0.25, window=100)) as network:
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.create_connection(Noting, "127.0.0.1", 80)
            assert transport.get_protocol() is protocol
            transport.set_write_buffer_limits(high=50, low=0)
            assert transport.get_write_buffer_limits() == (0, 50)
            network.act(partial(network.stream.limit_reading, "server", 0))
            transport.pause_reading()
            transport.write(b"x" * 140)
            assert (transport.get_write_buffer_size(), protocol.told) == (40, [])
            transport.write(b"x" * 20)
            assert (transport.get_write_buffer_size(), protocol.told) == (60, ["full"])
            network.act(partial(network.stream.limit_reading, "server", math.inf))
            await stage.loop.sleep(5.0)
            assert (transport.get_write_buffer_size(), protocol.told) == (0, ["full", "room"])
            assert not transport.is_reading()
            transport.resume_reading()
            await stage.loop.sleep(5.0)
            assert transport.is_reading()
            assert b"".join(protocol.told[2:]) == b"x" * 160
            del protocol.told[:]
            network.act(network.stream.end)
            await stage.loop.sleep(5.0)
            assert protocol.told == ["end", None]
            assert transport.is_closing()

    passes(body)


def test_closing_sends_what_waits_and_aborting_waits_for_nobody() -> None:
    async def body(stage: Any) -> None:
        for way in ("close", "abort"):
            async with stage.virtual(Echo(), Link(latency=0.25, window=100)) as network:
                loop = asyncio.get_running_loop()
                transport, protocol = await loop.create_connection(Noting, "127.0.0.1", 80)
                transport.write(b"x" * 250)
                getattr(transport, way)()
                await stage.loop.sleep(1 / 64)
                assert protocol.told == ([None] if way == "abort" else [])
                await stage.loop.sleep(5.0)
                assert protocol.told == [None]
                assert network.sockets == []

    passes(body)


def test_writing_on_a_connection_that_was_closed_fails_the_case() -> None:
    async def body(stage: Any) -> None:
        async with stage.virtual(Echo()):
            transport, _ = await asyncio.get_running_loop().create_connection(Noting, "127.0.0.1", 80)
            transport.close()
            transport.write(b"x")

    (result,) = of_case(body).failed
    assert result.reason == "expected that nothing is sent on a stream that was closed"


def test_a_connection_that_nobody_closed_fails_the_case() -> None:
    async def body(stage: Any) -> None:
        async with stage.virtual(Echo()):
            kept.append(await asyncio.get_running_loop().create_connection(Noting, "127.0.0.1", 80))

    kept: list[Any] = []
    (result,) = of_case(body).failed
    assert result.reason == "expected no stream to be left open, there are 1"
