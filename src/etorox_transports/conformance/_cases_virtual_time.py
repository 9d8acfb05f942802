"""Cases in virtual time: deadlines to the moment, cancellation at each wait, streams that are lost and replaced."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from etorox_proto.testing import Link, accept_websocket
from etorox_transports.conformance._case import Stage, fails
from etorox_transports.conformance._hub import Hub, Scripted
from etorox_transports.conformance._memory import MemoryNetwork
from etorox_transports.conformance._virtual import (
    LATENCY,
    NEVER,
    QUIET,
    ROUND_TRIP,
    connected,
    converse,
    exactly,
    talk,
    virtual,
)

__all__: list[str] = []

# Further than a case goes through waits; if there are more than these, something spins.
_MOST_WAITS = 400

# ---------------------------------------------------------------------------------------------------------------- time


@virtual
async def pings_to_the_moment(stage: Stage) -> None:
    """Pings are sent when they are due, to the moment."""
    async with connected(stage, Hub(**QUIET), server_timeout=NEVER, ping_interval=15.0) as (network, _):
        network.sent.clear()
        await stage.loop.sleep(610.0)
        gaps = {after - before for before, after in itertools.pairwise(network.sent)}
        assert len(network.sent) == 40, f"expected 40 pings in 610 s, got {len(network.sent)}"
        assert gaps == {15.0}, f"expected a ping every 15 s, to the moment, got gaps of {sorted(gaps)[:5]}"
    assert stage.machine.latest == 0, f"expected deadlines to be kept, one was missed by {stage.machine.latest!r} s"


@virtual
async def pings_to_the_moment_while_messages_come(stage: Stage) -> None:
    """So while the server sends without end; "ten things", the fifth."""
    hub = Hub(**QUIET)
    async with connected(stage, hub, server_timeout=NEVER, ping_interval=5.0) as (network, connection):
        network.sent.clear()
        for number in range(500):
            hub.note(network, number)
            await stage.expect(connection, [number])
        gaps = {after - before for before, after in itertools.pairwise(network.sent)}
        assert len(network.sent) == 25, f"expected 25 pings in 125 s, got {len(network.sent)}"
        assert gaps == {5.0}, f"expected a ping every 5 s, to the moment, got gaps of {sorted(gaps)[:5]}"


@virtual
async def silence_to_the_moment(stage: Stage) -> None:
    """A server that falls silent is given up when the deadline comes, neither sooner nor later."""
    async with connected(stage, Hub(**QUIET), server_timeout=30.0, ping_interval=15.0) as (network, connection):
        with fails("the silence of the server"), exactly(stage, 30.0, "the silence of the server"):
            await connection.receive()
        await stage.loop.sleep(1 / 64)
        assert not network.sockets, "expected the stream to be closed at once"


@virtual
async def an_hour_without_a_word(stage: Stage) -> None:
    """An hour in which nothing but pings passes takes no more than the deadlines of the pings, and one clock."""
    hub = Hub()
    async with connected(stage, hub, server_timeout=30.0) as (network, connection):
        before = stage.machine.timeouts
        await stage.loop.sleep(3_600.0)
        timeouts = stage.machine.timeouts - before
        assert timeouts <= 500, (
            f"expected some 240 deadlines in an hour of pings, `handle_timeout` came {timeouts} times"
        )
        hub.note(network, "still here")
        with exactly(stage, LATENCY, "what the server says"):
            await stage.expect(connection, ["still here"])
    drift = stage.machine.largest_drift
    assert drift == 0, f"expected the machine to be told the time of the loop's clock, it was {drift!r} s off"


@virtual
async def both_directions_to_the_moment(stage: Stage) -> None:
    """A command is sent when it is given, and what comes is given when it comes, although no deadline is near."""
    hub = Hub(**QUIET)
    async with connected(stage, hub, server_timeout=NEVER, ping_interval=NEVER) as (_, connection):
        for number in range(10):
            await stage.loop.sleep(100.0 + number)
            with exactly(stage, ROUND_TRIP, "the answer to what was sent"):
                await connection.send("say", number)
                await stage.expect(connection, [number])


@virtual
async def application_that_is_away_for_minutes(stage: Stage) -> None:
    """While nobody receives, pings are sent and deadlines are kept, and what comes meanwhile is not lost."""
    hub = Hub(ping_interval=NEVER)
    async with connected(stage, hub, server_timeout=30.0) as (network, connection):
        for number in range(400):
            hub.note(network, number)
            await stage.loop.sleep(1.0)
        await stage.expect(connection, [*range(400)])
    assert stage.machine.latest == 0, f"expected deadlines to be kept, one was missed by {stage.machine.latest!r} s"


async def _not_opened(stage: Stage, network: MemoryNetwork, seconds: float, what: str, **options: Any) -> None:
    with fails(what), exactly(stage, seconds, what):
        async with stage.connect(network, **options):
            pass
    assert not network.sockets, "expected no stream to be left by an opening that failed"


@virtual
async def dial_that_is_refused(stage: Stage) -> None:
    """A refused connection is told at once."""
    async with stage.virtual(Hub()) as network:
        network.listener.refuse_dials()
        await _not_opened(stage, network, ROUND_TRIP, "a refused connection")


@virtual
async def dial_that_is_not_answered(stage: Stage) -> None:
    """Opening a stream is bounded by the machine's deadline, to the moment."""
    async with stage.virtual(Hub()) as network:
        network.listener.ignore_dials()
        await _not_opened(stage, network, 20.0, "the opening timeout", opening_timeout=20.0)


@virtual
async def server_that_says_nothing(stage: Stage) -> None:
    """So is waiting for a reply, to negotiation and to the WebSocket request."""
    for skip in (True, False):
        async with stage.virtual(Scripted()) as network:
            options = {"opening_timeout": 20.0, "skip_negotiation": skip}
            await _not_opened(stage, network, 20.0, "the opening timeout", **options)


@virtual
async def handshake_that_is_not_answered(stage: Stage) -> None:
    """So is waiting for the reply to the SignalR handshake, from when it was sent."""
    server = Scripted(lambda heard: accept_websocket(heard) if heard.endswith(b"\r\n\r\n") else b"")
    async with stage.virtual(server) as network:
        waiting = 2 * ROUND_TRIP  # for the stream and for the WebSocket
        await _not_opened(stage, network, waiting + 7.0, "the handshake timeout", handshake_timeout=7.0)


@virtual
async def goodbye_that_is_answered(stage: Stage) -> None:
    """`close` takes until the server's goodbye is there, and no longer."""
    async with connected(stage, Hub(), close_timeout=3.0) as (network, connection):
        with exactly(stage, ROUND_TRIP, "closing"):
            await connection.close()
        await stage.loop.sleep(1 / 64)
        assert not network.sockets, "expected the stream to be closed at once"


@virtual
async def goodbye_that_is_not_answered(stage: Stage) -> None:
    """`close` waits for the server's goodbye for `close_timeout`, to the moment."""
    async with connected(stage, Hub(), close_timeout=3.0) as (network, connection):
        network.act(partial(network.stream.black_hole, "client"))
        with exactly(stage, 3.0, "closing"):
            await connection.close()


@virtual
async def closed_by_two_at_once(stage: Stage) -> None:
    """Two tasks that close at once wait for the same goodbye, which is said once."""
    async with connected(stage, Hub(), close_timeout=3.0) as (_, connection):
        with exactly(stage, ROUND_TRIP, "closing"):
            async with stage.loop.beside(connection.close):
                await stage.loop.sleep(1 / 64)
                await connection.close()
    assert stage.machine.closed_taken == 1, "expected `Closed` to be taken"


# -------------------------------------------------------------------------------------------------------- cancellation


async def _cancelled_at_each_wait(network: MemoryNetwork, attempt: Callable[[int], Coroutine[Any, Any, bool]]) -> None:
    for steps in range(1, _MOST_WAITS):
        was_cancelled = await attempt(steps)
        left = len(network.sockets)
        assert not left, f"expected no stream to be left when cancelled at wait {steps}, there are {left}"
        if not was_cancelled:
            return
    raise AssertionError(f"expected fewer than {_MOST_WAITS} waits")


@virtual
async def cancelled_while_connecting(stage: Stage) -> None:
    """Cancelled at any wait from negotiation to the end, a transport leaves no stream, and takes no time for that."""
    async with stage.virtual(Hub()) as network:

        async def attempt(steps: int) -> bool:
            return await stage.loop.cancelled_after(
                steps, lambda: converse(stage, network, skip_negotiation=False, close_timeout=3.0)
            )

        await _cancelled_at_each_wait(network, attempt)


@virtual
async def cancelled_while_closing(stage: Stage) -> None:
    """Cancelled at any wait while it says goodbye to a server that does not answer, a transport leaves no stream."""
    async with stage.virtual(Hub(client_timeout=NEVER)) as network:

        async def attempt(steps: int) -> bool:
            async with stage.connect(network, close_timeout=3.0) as connection:
                network.act(partial(network.stream.black_hole, "client"))
                return await stage.loop.cancelled_after(steps, connection.close)

        await _cancelled_at_each_wait(network, attempt)


@virtual
async def cancelled_while_sending(stage: Stage) -> None:
    """Cancelling `send` tears no message, also where it has to wait; each goes out whole or not at all; law 8."""
    hub = Hub()
    async with connected(stage, hub, Link(latency=1 / 64, window=1_024)) as (_, connection):
        for number, steps in enumerate([1, 2, 3, 4] * 5):

            async def send(number: int = number) -> None:
                await connection.send("take", [number, "x" * 500])

            await stage.loop.cancelled_after(steps, send)
        await connection.send("say", "all")
        await stage.expect(connection, ["all"])
    heard = [number for number, _ in hub.heard]
    assert heard == sorted(set(heard)), f"expected each message once at most and in order, got {heard}"


@virtual
async def cancelled_while_receiving(stage: Stage) -> None:
    """A `receive` that is cancelled at any time takes nothing with it."""
    hub = Hub()
    async with connected(stage, hub) as (network, connection):
        for number in range(20):
            hub.note(network, number)
            due = stage.loop.now() + number / 64

            received: list[Any] = []

            async def receive(received: list[Any] = received) -> None:
                received.append(await stage.receive(connection))

            if await stage.loop.cancelled_at(due, receive) and not received:
                await receive()
            assert received == [[number]], f"expected message {number}, got {received}"


# -------------------------------------------------------------------------------------------------- stateful reconnect


@virtual
async def ten_streams_that_are_lost(stage: Stage) -> None:
    """With stateful reconnect a lost stream is dialled again, each time, and nothing is lost or doubled."""
    hub = Hub(stateful_reconnect=True)
    options: dict[str, Any] = {"skip_negotiation": False, "stateful_reconnect": True}
    async with stage.virtual(hub) as network, stage.connect(network, **options) as connection:
        for number in range(10):
            await connection.send("say", number)
            await stage.loop.sleep(number / 32)
            network.act(network.stream.reset)
            await stage.expect(connection, [number])
        assert network.dials == 12, f"expected 12 streams to be asked for, got {network.dials}"
        opened, unasked = stage.machine.opened, stage.machine.unasked
        assert (opened, unasked) == (12, 0), f"expected 12 streams to be told as opened, got {opened}"
        assert len(network.sockets) == 1, f"expected each lost stream to be closed, there are {len(network.sockets)}"
        await connection.close()


@virtual
async def lost_stream_whose_dial_is_not_answered(stage: Stage) -> None:
    """Dialling again is bounded by the machine's deadline, to the moment."""
    options: dict[str, Any] = {"skip_negotiation": False, "stateful_reconnect": True, "opening_timeout": 20.0}
    async with stage.virtual(Hub(stateful_reconnect=True)) as network, stage.connect(network, **options) as connection:
        await talk(stage, connection)
        network.listener.ignore_dials()
        network.act(network.stream.reset)
        with fails("a stream that is lost"), exactly(stage, 20.0, "the opening timeout"):
            await connection.receive()
