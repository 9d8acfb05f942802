"""Cases about bytes: pieces of every size, order, room, and both directions at once."""

from __future__ import annotations

import functools
import time

from etorox_proto.testing import websocket_frame
from etorox_transports.conformance._case import Stage, case
from etorox_transports.conformance._peer import Peer, frames, invocation, record, wait_until

__all__: list[str] = []

# How long to wait between two pieces, so that they are read one by one if the transport keeps up, in seconds.
_PAUSE = 0.0005
_MANY = 3_000


def _cut(data: bytes, at: int, peer: Peer) -> None:
    for piece in (data[:at], data[at:]):
        if piece:
            peer.sock.sendall(piece)
            time.sleep(_PAUSE)


@case("bytes")
async def one_byte_at_a_time(stage: Stage) -> None:
    """What the server says may come byte by byte; law 7."""

    def script(peer: Peer) -> None:
        accepted = peer.accept()
        for place in range(len(accepted)):
            peer.sock.sendall(accepted[place : place + 1])
        peer.handshake()
        data = frames({}, invocation("note", "é" * 20))
        for place in range(len(data)):
            peer.sock.sendall(data[place : place + 1])
            time.sleep(_PAUSE / 10)
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await stage.expect(connection, ["é" * 20])


@case("bytes", limit=20.0)
async def upgrade_reply_cut_anywhere(stage: Stage) -> None:
    """The reply to the WebSocket request may come in two pieces, cut at any byte; law 7."""

    def script(at: int, peer: Peer) -> None:
        _cut(peer.accept(), at, peer)
        peer.handshake()
        peer.say({}, invocation("note", at))
        peer.until_end()

    for at in range(1, 129, 4):
        async with stage.serving(functools.partial(script, at)) as server, stage.connect(server) as connection:
            await stage.expect(connection, [at])


@case("bytes", limit=20.0)
async def handshake_reply_cut_anywhere(stage: Stage) -> None:
    """The reply to the SignalR handshake may come in two pieces, and with messages behind it in the second; law 7."""

    def script(at: int, peer: Peer) -> None:
        peer.sock.sendall(peer.accept())
        peer.handshake()
        _cut(frames({}, invocation("note", at)), at, peer)
        peer.until_end()

    for at in range(1, len(frames({}, invocation("note", 10))), 2):
        async with stage.serving(functools.partial(script, at)) as server, stage.connect(server) as connection:
            await stage.expect(connection, [at])


@case("bytes", limit=20.0)
async def messages_cut_anywhere(stage: Stage) -> None:
    """Messages may come in two pieces, cut at any byte; law 7."""
    data = frames(invocation("note", "one"), invocation("note", "two" * 50))

    def script(peer: Peer) -> None:
        peer.connect()
        for at in range(1, len(data)):
            _cut(data, at, peer)
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        for _ in range(1, len(data)):
            await stage.expect(connection, ["one", "two" * 50])


@case("bytes")
async def all_replies_in_one_piece(stage: Stage) -> None:
    """What the server says early may come in one piece with the reply before it; nothing of it is lost."""

    def script(peer: Peer) -> None:
        peer.sock.sendall(peer.accept() + frames({}, *(invocation("note", number) for number in range(50))))
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await stage.expect(connection, [*range(50)])


@case("bytes")
async def many_messages_at_once(stage: Stage) -> None:
    """Thousands of messages in one go come whole and in order."""

    def script(peer: Peer) -> None:
        peer.connect()
        for start in range(0, _MANY, 500):
            peer.say(*(invocation("note", number) for number in range(start, start + 500)))
            peer.expect("took", start)
        peer.note("all")
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        for start in range(0, _MANY, 500):
            await stage.expect(connection, [*range(start, start + 500)])
            await connection.send("took", start)
        await stage.expect(connection, ["all"])


@case("bytes")
async def fragments_of_one_message(stage: Stage) -> None:
    """A message may come in several frames, with a WebSocket ping between them, which is answered."""
    text = record(invocation("note", "in three pieces"))

    def script(peer: Peer) -> None:
        peer.connect()
        peer.sock.sendall(websocket_frame(text[:7], 1, fin=False))
        peer.sock.sendall(websocket_frame(b"are you there", 9))
        peer.sock.sendall(websocket_frame(text[7:20], 0, fin=False) + websocket_frame(text[20:], 0))
        peer.expect("done")
        assert peer.pongs == [b"are you there"], f"expected the ping to be answered, got the pongs {peer.pongs}"
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await stage.expect(connection, ["in three pieces"])
        await connection.send("done")
        await stage.loop.sleep(0.05)


@case("bytes")
async def large_message(stage: Stage) -> None:
    """A message that no single read brings comes whole."""
    text = "x" * 500_000

    def script(peer: Peer) -> None:
        peer.connect()
        peer.note(text)
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await stage.expect(connection, [text])


@case("bytes")
async def sent_in_order(stage: Stage) -> None:
    """What the application sends arrives whole, once, and in order."""
    heard: list[object] = []

    def script(peer: Peer) -> None:
        peer.connect()
        for _ in range(1_000):
            message = peer.hear()
            assert message is not None, f"expected 1,000 messages, got {len(heard)}"
            heard.extend(message["arguments"])
        peer.note("all")
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        for number in range(1_000):
            await connection.send("take", number)
        await stage.expect(connection, ["all"])
    assert heard == [*range(1_000)], "expected what was sent in the order in which it was sent"


@case("bytes", limit=15.0)
async def both_directions_at_once(stage: Stage) -> None:
    """Sending does not keep from reading: a server that sends while the client sends is read, and nobody hangs.

    Of what both have under way there is more than the system holds.
    """
    text = "x" * 20_000

    def script(peer: Peer) -> None:
        peer.connect()
        peer.expect("begin")
        for number in range(300):
            peer.note([number, text])
        heard = [message["arguments"][0] for message in (peer.hear() for _ in range(40)) if message is not None]
        assert heard == [*range(40)], "expected what the client sent meanwhile"
        peer.note("all")
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await connection.send("begin")
        for number in range(40):
            await connection.send("take", number, text)
        await stage.expect(connection, [[number, text] for number in range(300)])
        await stage.expect(connection, ["all"])


@case("bytes")
async def server_that_reads_late(stage: Stage) -> None:
    """A server that does not read for a while loses nothing: what waits is sent when it reads again, in order."""
    text = "x" * 20_000
    heard: list[object] = []

    def script(peer: Peer) -> None:
        peer.connect()
        time.sleep(0.5)
        for _ in range(40):
            message = peer.hear()
            assert message is not None, f"expected 40 messages, got {len(heard)}"
            heard.append(message["arguments"][0])
        peer.note("all")
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        for number in range(40):
            await connection.send("take", number, text)
        await stage.expect(connection, ["all"])
    assert heard == [*range(40)], "expected what was sent in the order in which it was sent"


@case("bytes")
async def application_that_reads_late(stage: Stage) -> None:
    """An application that does not read for a while loses nothing of what comes meanwhile."""

    def script(peer: Peer) -> None:
        peer.connect()
        for number in range(500):
            peer.note(number, "x" * 2_000)
        peer.expect("done")
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await stage.loop.sleep(0.4)
        await stage.expect(connection, [*range(500)])
        await connection.send("done")
        await stage.loop.sleep(0.05)


@case("bytes")
async def commands_are_sent_at_once(stage: Stage) -> None:
    """A command is sent when it is given, although no deadline is near and nothing comes; "ten things", the first."""
    heard: list[float] = []

    def script(peer: Peer) -> None:
        peer.connect()
        peer.expect("now")
        heard.append(time.monotonic())
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server, ping_interval=60.0) as connection:
        await stage.loop.sleep(0.2)  # so that it waits
        given = time.monotonic()
        await connection.send("now")
        await stage.loop.sleep(0.3)
        wait_until(lambda: heard, "the command to arrive")
    assert heard[0] - given < 0.25, f"expected the command at once, it came after {heard[0] - given:.2f} s"


@case("bytes")
async def two_connections_side_by_side(stage: Stage) -> None:
    """Two connections in one program know nothing of each other."""

    def script(peer: Peer) -> None:
        peer.connect()
        message = peer.hear()
        assert message is not None, "expected a message"
        peer.note(message["arguments"][0])
        peer.until_end()

    async with (
        stage.serving(script) as one,
        stage.serving(script) as other,
        stage.connect(one) as first,
        stage.connect(other) as second,
    ):
        await second.send("say", "second")
        await first.send("say", "first")
        await stage.expect(first, ["first"])
        await stage.expect(second, ["second"])
