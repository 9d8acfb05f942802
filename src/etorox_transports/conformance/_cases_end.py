"""Cases about the end: whose it is, what still counts before it, and that it comes once."""

from __future__ import annotations

import socket
import time

from etorox_transports.conformance._case import Stage, case, fails, takes
from etorox_transports.conformance._peer import Peer, frames, invocation

__all__: list[str] = []


@case("end")
async def close_says_goodbye(stage: Stage) -> None:
    """Our `close` sends a SignalR Close and a WebSocket close frame, and then ends the stream."""
    heard: list[object] = []
    peers: list[Peer] = []

    def script(peer: Peer) -> None:
        peers.append(peer)
        peer.connect()
        peer.note("here")
        heard.extend(peer.rest())

    async with stage.serving(script) as server, stage.connect(server, close_timeout=0.3) as connection:
        await stage.expect(connection, ["here"])
        await connection.close()
    assert heard == [{"type": 7}], f"expected a SignalR Close, got {heard}"
    assert peers[0].has_closed, "expected a WebSocket close frame"


@case("end")
async def what_was_sent_goes_before_the_goodbye(stage: Stage) -> None:
    """What was sent before `close` arrives before it, however short the time between."""
    heard: list[object] = []

    def script(peer: Peer) -> None:
        peer.connect()
        heard.extend(peer.rest())

    async with stage.serving(script) as server, stage.connect(server, close_timeout=0.3) as connection:
        for number in range(20):
            await connection.send("take", number)
        await connection.close()
    assert heard == [*(invocation("take", number) for number in range(20)), {"type": 7}]


@case("end")
async def receive_ends_after_our_close(stage: Stage) -> None:
    """After our own `close` there is nothing to receive any more, and no error."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.rest()

    async with stage.serving(script) as server, stage.connect(server, close_timeout=0.3) as connection:
        await connection.close()
        for _ in range(2):
            message = await connection.receive()
            assert message is None, f"expected None after a close of our own, got {message}"


@case("end")
async def close_twice(stage: Stage) -> None:
    """Closing what is closed does nothing, and nothing is said twice."""
    heard: list[object] = []

    def script(peer: Peer) -> None:
        peer.connect()
        heard.extend(peer.rest())

    async with stage.serving(script) as server, stage.connect(server, close_timeout=0.3) as connection:
        await connection.close()
        with takes(0.0, 0.2, "closing again"):
            await connection.close()
    assert heard == [{"type": 7}], f"expected one goodbye, got {heard}"
    assert stage.machine.closed_taken == 1, "expected `Closed` to be taken"


@case("end")
async def close_after_the_server_left(stage: Stage) -> None:
    """Closing what has ended by itself neither fails nor takes long."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.note("here")
        peer.expect("ready")

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await stage.expect(connection, ["here"])
        await connection.send("ready")
        await stage.loop.sleep(0.1)
        with takes(0.0, 0.5, "closing"):
            await connection.close()


@case("end")
async def close_after_a_reset(stage: Stage) -> None:
    """So with a stream that the server has reset."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.note("here")
        peer.expect("done")
        peer.reset()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await stage.expect(connection, ["here"])
        await connection.send("done")
        await stage.loop.sleep(0.1)
        with takes(0.0, 0.5, "closing"):
            await connection.close()


@case("end")
async def leaving_drops_the_stream(stage: Stage) -> None:
    """Leaving without `close` ends the stream at once; the server need not guess."""
    took: list[float] = []

    def script(peer: Peer) -> None:
        peer.connect()
        peer.note("here")
        began = time.monotonic()
        peer.ignore()
        took.append(time.monotonic() - began)

    async with stage.serving(script) as server:
        async with stage.connect(server, close_timeout=0.3) as connection:
            await stage.expect(connection, ["here"])
        await stage.loop.sleep(0.05)
    assert took, "expected the stream to be closed"
    assert took[0] < 1.5, f"expected the stream to be closed at once, it took {took[0]:.2f} s"


class _Mine(Exception):
    """What the application raises."""


@case("end")
async def exception_of_the_application_gets_out(stage: Stage) -> None:
    """An exception of the application's gets out as it is, and the stream is closed all the same."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.note("here")
        peer.until_end()

    async with stage.serving(script) as server:
        try:
            async with stage.connect(server, close_timeout=0.3) as connection:
                await stage.expect(connection, ["here"])
                raise _Mine  # noqa: TRY301 - it is to get out of the context
        except _Mine:
            return
    raise AssertionError("expected the application's exception to get out, it did not")


@case("end")
async def goodbye_of_the_server(stage: Stage) -> None:
    """A SignalR Close with an error is raised, in the server's words, and does not wait for anything else."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.expect("ready")
        peer.say({"type": 7, "error": "closed for the night"})
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await connection.send("ready")
        with takes(0.0, 1.5, "the server's goodbye to be told"):
            try:
                message = await connection.receive()
            except Exception as error:  # noqa: BLE001 - the transport's own
                assert "closed for the night" in str(error), f"expected the server's words, got {error}"  # noqa: PT017
            else:
                raise AssertionError(f"expected the server's goodbye to be raised, got {message}")


@case("end")
async def half_close(stage: Stage) -> None:
    """A server that sends no more has ended the stream: that is told at once, and our side is closed too."""
    took: list[float] = []

    def script(peer: Peer) -> None:
        peer.connect()
        peer.expect("ready")
        peer.sock.shutdown(socket.SHUT_WR)
        began = time.monotonic()
        peer.ignore()
        took.append(time.monotonic() - began)

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await connection.send("ready")
        with takes(0.0, 1.0, "the end of the stream to be told"), fails("the end of the stream"):
            await connection.receive()
        await stage.loop.sleep(0.2)
    assert took, "expected our side of the stream to be closed"
    assert took[0] < 1.5, f"expected our side of the stream to be closed at once, it took {took[0]:.2f} s"


@case("end")
async def reset(stage: Stage) -> None:
    """A reset is told at once."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.expect("done")
        peer.reset()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await connection.send("done")
        with takes(0.0, 1.0, "the reset to be told"), fails("a reset"):
            await connection.receive()


@case("end")
async def what_came_before_the_end_counts(stage: Stage) -> None:
    """What came in one piece with the end of the stream is delivered before it; law 4."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.expect("ready")
        peer.sock.sendall(frames(*(invocation("note", number) for number in range(100))))

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await connection.send("ready")
        await stage.loop.sleep(0.1)
        await stage.expect(connection, [*range(100)])
        with fails("the end of the stream"):
            await connection.receive()


@case("end")
async def what_came_before_a_goodbye_counts(stage: Stage) -> None:
    """So with what came before a SignalR Close."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.expect("ready")
        peer.say(*(invocation("note", number) for number in range(100)), {"type": 7, "error": "enough"})
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await connection.send("ready")
        await stage.expect(connection, [*range(100)])
        with fails("the server's goodbye"):
            await connection.receive()


@case("end")
async def end_is_raised_again(stage: Stage) -> None:
    """Who asks again is told the same again, at once."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.expect("ready")
        peer.say({"type": 7, "error": "closed for the night"})
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await connection.send("ready")
        seen = []
        for _ in range(3):
            with takes(0.0, 1.5, "the end to be told"), fails("the end of the connection"):
                try:
                    await connection.receive()
                except Exception as error:
                    seen.append((type(error), str(error)))
                    raise
    assert len(set(seen)) == 1, f"expected the same each time, got {seen}"


@case("end")
async def command_after_the_end_is_refused(stage: Stage) -> None:
    """A command on a connection that is over is refused, and not swallowed; law 5."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.expect("ready")
        peer.say({"type": 7, "error": "enough"})
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await connection.send("ready")
        with fails("the server's goodbye"):
            await connection.receive()
        with fails("a command on a connection that is over"):
            await connection.send("take", 1)


@case("end")
async def command_that_is_refused_reaches_its_caller(stage: Stage) -> None:
    """A command that the machine refuses raises where it was given, and the connection lives on; law 3."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.expect("take", 2)
        peer.note("on")
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        with fails("an argument that cannot be sent"):
            await connection.send("take", object())
        await connection.send("take", 2)
        await stage.expect(connection, ["on"])
