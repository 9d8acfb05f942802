"""Cases about the contract between a transport and its machine, which no peer can see; `WatchedHub` has noted them."""

from __future__ import annotations

from etorox_transports.conformance._case import Stage, case, fails
from etorox_transports.conformance._peer import Peer, frames, invocation

__all__: list[str] = []


def _bursts(peer: Peer) -> None:
    peer.connect()
    for start in range(0, 200, 20):
        peer.sock.sendall(frames(*(invocation("note", number) for number in range(start, start + 20))))
        peer.listen(0.01)
    peer.until_end()


@case("law")
async def drain_before_feed(stage: Stage) -> None:
    """After each input all events are taken before the next one, so that queues hold one read at most; law 1."""
    async with stage.serving(_bursts) as server, stage.connect(server, ping_interval=0.02) as connection:
        await stage.expect(connection, [*range(200)])
    undrained = stage.machine.undrained
    assert not undrained, f"expected events to be taken until None after each input, {undrained} inputs came before"


@case("law")
async def streams_that_were_asked_for(stage: Stage) -> None:
    """`stream_opened` follows a `Dial`, once for each."""

    def negotiate(peer: Peer) -> None:
        peer.negotiate()
        peer.ignore()

    async with (
        stage.serving(negotiate, _bursts) as server,
        stage.connect(server, skip_negotiation=False) as connection,
    ):
        await stage.expect(connection, [*range(200)])
    machine = stage.machine
    assert (machine.dials, machine.opened) == (2, 2), f"{machine.dials} streams were wanted, {machine.opened} opened"
    assert not machine.unasked, "expected `stream_opened` only when a `Dial` has been taken"


@case("law")
async def end_of_a_stream_is_told_once(stage: Stage) -> None:
    """The end of the stream is one `receive_data(b"")`, however many ways there are to notice it."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.expect("done")
        peer.reset()

    async with stage.serving(script) as server, stage.connect(server) as connection:
        await connection.send("done")
        with fails("a reset"):
            await connection.receive()
        await stage.loop.sleep(0.1)
    assert stage.machine.ends == 1, f"expected the end of the stream to be told once, it was {stage.machine.ends} times"


@case("law")
async def closed_is_taken(stage: Stage) -> None:
    """Events are taken until `Closed` has come; it is the last, and comes once; law 4."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.note("here")
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server, close_timeout=0.3) as connection:
        await stage.expect(connection, ["here"])
        await connection.close()
    assert stage.machine.closed_taken == 1, "expected `Closed` to be taken"
