"""Cases about cancellation and leaks. Cancellation needs an event loop; leaks are anybody's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from etorox_transports.conformance._case import Stage, authority, case, certificate, fails
from etorox_transports.conformance._peer import Peer, invocation

__all__: list[str] = []

# A case cancels at each wait; if there are more than these, something spins.
_MOST_WAITS = 400


def _talk(peer: Peer) -> None:
    peer.connect()
    peer.note("here")
    peer.until_end()


async def _cancel_at_each_wait(attempt: Callable[[int], Awaitable[bool]]) -> None:
    for steps in range(1, _MOST_WAITS):
        if not await attempt(steps):
            return
    raise AssertionError(f"expected fewer than {_MOST_WAITS} waits")


@case("cancel", limit=30.0, needs_tasks=True)
async def while_connecting(stage: Stage) -> None:
    """Cancelled at any wait while it connects, a transport leaves no stream open."""

    def tolerant(peer: Peer) -> None:
        try:
            _talk(peer)
        except (AssertionError, OSError):
            peer.until_end()

    async def attempt(steps: int) -> bool:
        async with stage.serving(tolerant) as server:

            async def body() -> None:
                async with stage.connect(server, close_timeout=0.2):
                    pass

            was_cancelled = await stage.loop.cancelled_after(steps, body)
            if not server.peers:
                server.give_up()
        return was_cancelled

    await _cancel_at_each_wait(attempt)


@case("cancel", limit=30.0, needs_tasks=True)
async def while_connecting_with_tls(stage: Stage) -> None:
    """So with TLS, whose end must not be waited for."""

    def tolerant(peer: Peer) -> None:
        try:
            _talk(peer)
        except (AssertionError, OSError):
            peer.until_end()

    async def attempt(steps: int) -> bool:
        async with stage.serving(tolerant, ssl_context=certificate("127.0.0.1")) as server:

            async def body() -> None:
                async with stage.connect(server, trust=authority().certificate, close_timeout=0.2):
                    pass

            was_cancelled = await stage.loop.cancelled_after(steps, body)
            if not server.peers:
                server.give_up()
        return was_cancelled

    await _cancel_at_each_wait(attempt)


@case("cancel", needs_tasks=True)
async def while_receiving(stage: Stage) -> None:
    """A cancelled `receive` takes nothing with it: the next one gets the message."""

    def script(peer: Peer) -> None:
        peer.connect()
        for number in range(5):
            message = peer.hear()
            assert message == invocation("next"), f"expected the client to go on, got {message}"
            peer.note(number)
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        for number in range(5):

            async def body() -> None:
                await connection.receive()

            assert await stage.loop.cancelled_after(1, body), "expected `receive` to wait when nothing has come"
            await connection.send("next")
            await stage.expect(connection, [number])


@case("cancel", needs_tasks=True)
async def while_sending(stage: Stage) -> None:
    """Cancelling `send` tears no message: either all of it goes out or nothing; law 8."""
    heard: list[int] = []

    def script(peer: Peer) -> None:
        peer.connect()
        while (message := peer.hear()) is not None and message != invocation("done"):
            heard.append(message["arguments"][1])
        peer.note("all")
        peer.until_end()

    text = "x" * 50_000
    async with stage.serving(script) as server, stage.connect(server) as connection:
        for number in range(10):

            async def body(number: int = number) -> None:
                await connection.send("take", text, number)

            await stage.loop.cancelled_after(1, body)
        await connection.send("done")
        await stage.expect(connection, ["all"])
    assert heard == sorted(set(heard)), f"expected each message once at most and in order, got {heard}"


@case("cancel", limit=30.0, needs_tasks=True)
async def while_closing(stage: Stage) -> None:
    """Cancelled at any wait while it closes, a transport drops the stream."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.note("here")
        peer.until_end()

    async def attempt(steps: int) -> bool:
        async with (
            stage.serving(script) as server,
            stage.connect(server, close_timeout=0.1) as connection,
        ):
            await stage.expect(connection, ["here"])
            return await stage.loop.cancelled_after(steps, connection.close)

    await _cancel_at_each_wait(attempt)


@case("leak")
async def ten_connections_one_after_the_other(stage: Stage) -> None:
    """Nothing is left of connections that ended well: no socket, task or thread."""
    for _ in range(10):
        async with stage.serving(_talk) as server, stage.connect(server, close_timeout=0.2) as connection:
            await stage.expect(connection, ["here"])


@case("leak")
async def ten_connections_that_failed(stage: Stage) -> None:
    """Nothing is left of connections that could not be made."""
    for _ in range(10):
        async with stage.serving(lambda peer: peer.request()) as server:
            with fails("a stream that ends early"):
                async with stage.connect(server):
                    pass


@case("leak")
async def ten_connections_that_were_lost(stage: Stage) -> None:
    """Nothing is left of connections that the server dropped."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.expect("ready")
        peer.reset()

    for _ in range(10):
        async with stage.serving(script) as server, stage.connect(server) as connection:
            await connection.send("ready")
            with fails("a reset"):
                await connection.receive()
