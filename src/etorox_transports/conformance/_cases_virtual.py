"""Cases on a network in memory: every byte at which something may happen, and servers that do not read.

Nothing here depends on how busy the machine is.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from etorox_proto.signalr import Limits
from etorox_proto.testing import Link, accept_websocket, bytewise, http_reply, pieces
from etorox_transports.conformance._case import Stage, fails
from etorox_transports.conformance._hub import Cut, Cutting, Hub, Scripted
from etorox_transports.conformance._peer import frames, invocation
from etorox_transports.conformance._virtual import (
    LATENCY,
    NEVER,
    QUIET,
    connected,
    converse,
    exactly,
    virtual,
)

__all__: list[str] = []

# --------------------------------------------------------------------------------------------------------------- bytes


@virtual
async def cut_at_every_byte(stage: Stage) -> None:
    """All that both sides say may come in pieces, each later than the one before, and cut at any byte; law 7.

    Pieces have 16 bytes, but for the first, which has 1 to 16: so there is a cut behind each byte once.
    """

    def cut(first: int, data: bytes, _source: object) -> Iterator[bytes]:
        yield data[:first]
        for start in range(first, len(data), 16):
            yield data[start : start + 16]

    for first in range(1, 17):
        link = Link(latency=LATENCY, bandwidth=65_536.0, chunking=partial(cut, first))
        async with stage.virtual(Hub(), link) as network:
            await converse(stage, network, skip_negotiation=False)


@virtual
async def one_byte_at_a_time(stage: Stage) -> None:
    """All that both sides say may come byte by byte, each of them later than the one before; law 7."""
    async with stage.virtual(Hub(), Link(latency=LATENCY, bandwidth=1_024.0, chunking=bytewise)) as network:
        await converse(stage, network, skip_negotiation=False)


@virtual
async def messages_and_the_goodbye_in_one_piece(stage: Stage) -> None:
    """Messages may come in one piece with the server's goodbye behind them; all of them count."""
    async with connected(stage, Hub()) as (_, connection):
        await connection.send("part", 50)
        await stage.expect(connection, [*range(50)])
        with fails("the server's goodbye"):
            await connection.receive()


@virtual
async def messages_and_the_handshake_in_one_piece(stage: Stage) -> None:
    """Messages may come in one piece with the reply to the handshake before them; none of them is lost."""

    def says(heard: bytes) -> bytes:
        if heard.endswith(b"\r\n\r\n"):
            return accept_websocket(heard)
        return frames({}, *(invocation("note", number) for number in range(50))) if b"\r\n\r\n" in heard else b""

    async with stage.virtual(Scripted(says)) as network, stage.connect(network) as connection:
        await stage.expect(connection, [*range(50)])


@virtual
async def one_read_after_the_other(stage: Stage) -> None:
    """After each read all events are taken before the machine is told more; law 1."""
    async with connected(stage, Hub(), Link(latency=1 / 64, window=256)) as (_, connection):
        for number in range(50):
            await connection.send("say", number)
        await stage.expect(connection, [*range(50)])
    undrained = stage.machine.undrained
    assert not undrained, f"expected events to be taken until None after each input, {undrained} inputs came before"


@virtual
async def any_way_there(stage: Stage) -> None:
    """However far, narrow and bumpy the way to the server is, the conversation is the same."""
    for latency, bandwidth, jitter in itertools.product((0.0, 1.0), (math.inf, 512.0), (0.0, 0.5)):
        link = Link(latency=latency, bandwidth=bandwidth, jitter=jitter, chunking=pieces)
        async with stage.virtual(Hub(), link) as network:
            await converse(stage, network, skip_negotiation=False)


@virtual
async def both_directions_through_a_needles_eye(stage: Stage) -> None:
    """Sending does not keep from reading: where little fits into the way, nobody waits for ever."""
    async with connected(stage, Hub(), Link(latency=1 / 64, window=64)) as (_, connection):
        for number in range(20):
            await connection.send("say", [number, "x" * 500])
        await stage.expect(connection, [[number, "x" * 500] for number in range(20)])


# ----------------------------------------------------------------------------------------------------------------- end


async def _interrupted(stage: Stage, cut: Cut, **options: Any) -> None:
    """See how a conversation ends that is interrupted."""
    within = LATENCY if cut.how == "end" else 0.0  # nothing overtakes what is under way, but for a reset
    what = f"the {cut.how} after {cut.at} bytes"
    async with stage.virtual(cut) as network:
        cut.network = network
        try:
            await converse(stage, network, **options)
        except AssertionError:
            raise
        except Exception as error:
            if not str(error):
                raise AssertionError(f"expected {what} to be told in words, got {error!r}") from error
        late = stage.loop.now() - cut.struck_at - within
        assert late <= 0, f"expected {what} to be told at once, it took {late!r} s"
        assert not network.sockets, f"expected the stream to be closed at once, at {what}"


@virtual
async def end_after_every_byte(stage: Stage) -> None:
    """The stream may end behind any byte that the server says: that is told at once, and our side is closed."""
    for at in itertools.count(0):
        await _interrupted(stage, cut := Cut(Hub(), at, "end"))
        if not cut.stream:
            return


@virtual
async def reset_after_every_byte(stage: Stage) -> None:
    """So with a reset, behind any byte that the server says."""
    for at in itertools.count(0):
        await _interrupted(stage, cut := Cut(Hub(), at, "reset"))
        if not cut.stream:
            return


def _negotiate_only(heard: bytes) -> bytes:
    """Answer a negotiate request, and refuse the WebSocket."""
    if not heard.endswith(b"\r\n\r\n"):
        return b""
    if heard.startswith(b"GET "):
        return http_reply(503, b"later")
    transports = [{"transport": "WebSockets", "transferFormats": ["Text"]}]
    reply = {"negotiateVersion": 1, "connectionId": "a", "connectionToken": "b", "availableTransports": transports}
    return http_reply(200, json.dumps(reply).encode())


@virtual
async def negotiation_that_is_interrupted(stage: Stage) -> None:
    """So with the reply to a negotiate request, behind every fifth byte, by an end and a reset in turn."""
    how: tuple[Cutting, Cutting] = ("end", "reset")
    for at in itertools.count(0, 5):
        await _interrupted(stage, cut := Cut(Scripted(_negotiate_only), at, how[at % 2]), skip_negotiation=False)
        if cut.stream != 1:
            return


@virtual
async def half_close(stage: Stage) -> None:
    """A server that sends no more, and still reads, has ended the stream; our side is closed too, at once."""
    async with connected(stage, Hub()) as (network, connection):
        network.act(partial(network.stream.end, "client"))
        with fails("the end of the stream"), exactly(stage, LATENCY, "the end of the stream"):
            await connection.receive()
        await stage.loop.sleep(LATENCY)
        assert not network.sockets, "expected our side of the stream to be closed at once"
    assert stage.machine.ends == 1, f"expected the end of the stream to be told once, it was {stage.machine.ends} times"


@virtual
async def reset_while_sending(stage: Stage) -> None:
    """A reset is told at once, also while something waits to be sent."""
    async with connected(stage, Hub(**QUIET), Link(latency=LATENCY, window=1_024)) as (network, connection):
        network.act(partial(network.stream.limit_reading, "server", 0))
        for _ in range(5):
            await connection.send("take", "x" * 1_000)
        await stage.loop.sleep(1.0)
        network.act(network.stream.reset)
        with fails("a reset"), exactly(stage, 0.0, "the reset"):
            await connection.receive()
    assert stage.machine.ends == 1, f"expected the end of the stream to be told once, it was {stage.machine.ends} times"


# ------------------------------------------------------------------------------------------------------- back-pressure


@virtual
async def server_that_takes_nothing(stage: Stage) -> None:
    """A server that neither reads nor speaks is given up when the deadline comes, although something is to be sent."""
    hub, link = Hub(**QUIET), Link(latency=LATENCY, window=1_024)
    async with connected(stage, hub, link, server_timeout=4.0, ping_interval=1.0) as (network, connection):
        network.act(partial(network.stream.limit_reading, "server", 0))
        with fails("silence"), exactly(stage, 4.0, "the silence of the server", or_less=True):
            for _ in range(5):
                await connection.send("take", "x" * 1_000)
            await connection.receive()
    assert stage.machine.latest == 0, f"expected deadlines to be kept, one was missed by {stage.machine.latest!r} s"


@virtual
async def server_that_speaks_and_takes_nothing(stage: Stage) -> None:
    """A send is bounded in time: who never reads is given up, however much they say; law 8."""
    hub, link = Hub(ping_interval=1.0, client_timeout=NEVER), Link(latency=LATENCY, window=1_024)
    async with connected(stage, hub, link) as (network, connection):
        network.act(partial(network.stream.limit_reading, "server", 0))
        with fails("a server that never reads"), exactly(stage, 60.0, "a send to be given up", or_less=True):
            for _ in range(5):
                await connection.send("take", "x" * 1_000)
            await connection.receive()


@virtual
async def what_waits_has_a_limit(stage: Stage) -> None:
    """While a server does not read, no more is taken out of the machine: its limit on what waits holds; law 8."""
    link, accepted, limit = Link(latency=LATENCY, window=1_024), [0], 50_000
    async with connected(stage, Hub(**QUIET), link, limits=Limits(queued_bytes=limit)) as (network, connection):
        network.act(partial(network.stream.limit_reading, "server", 0))

        async def send() -> None:
            with contextlib.suppress(Exception):  # that it is refused
                for _ in range(1_000):
                    await connection.send("take", "x" * 1_000)
                    accepted[0] += 1_000
                    await stage.loop.sleep(0)

        await stage.loop.cancelled_at(stage.loop.now() + 1.0, send)  # or it waits for room
    assert accepted[0] <= 2 * limit + 5_000, f"expected at most {limit} bytes to wait, and as many to be sent, got more"


@virtual
async def server_that_reads_slowly(stage: Stage) -> None:
    """What a server takes its time for arrives whole, once and in order, and is not given up for that."""
    hub = Hub(client_timeout=NEVER)
    async with connected(stage, hub, Link(latency=LATENCY, window=8_192)) as (network, connection):
        network.act(partial(network.stream.limit_reading, "server", 16_384))
        for number in range(50):
            await connection.send("take", [number, "x" * 500])
        await connection.send("say", "all")
        await stage.expect(connection, ["all"])
    assert [number for number, _ in hub.heard] == [*range(50)], "expected what was sent, in the order of sending"


@virtual
async def two_who_send_at_once(stage: Stage) -> None:
    """What several tasks send at once goes out one after the other, through a single send at a time."""
    hub = Hub()
    async with connected(stage, hub, Link(latency=1 / 64, window=1_024)) as (_, connection):

        async def send(name: str) -> None:
            for number in range(20):
                await connection.send("take", [name, number, "x" * 200])

        async with stage.loop.beside(lambda: send("one")):
            await send("other")
            await stage.loop.sleep(60.0)
    for name in ("one", "other"):
        heard = [number for by, number, _ in hub.heard if by == name]
        assert heard == [*range(20)], f"expected all that a task has sent, in its order, got {heard}"
