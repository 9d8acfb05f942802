"""Cases about time: pings, silence, deadlines that move, and applications that are away.

The client waits in `receive` wherever time is to pass for it: a transport that blocks lives nowhere else.
"""

from __future__ import annotations

import threading
import time

from etorox_transports.conformance._case import Stage, case, fails, takes
from etorox_transports.conformance._peer import Peer

__all__: list[str] = []


@case("time")
async def pings_while_nothing_happens(stage: Stage) -> None:
    """A deadline that comes while the transport waits is kept: pings go out, and no more than are due."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.listen(0.65)
        assert 3 <= peer.pings <= 8, f"expected a ping every 0.1 s, got {peer.pings} in 0.65 s"
        peer.note("enough")
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server, ping_interval=0.1) as connection:
        await stage.expect(connection, ["enough"])


@case("time")
async def pings_while_messages_come(stage: Stage) -> None:
    """A server that sends without end does not keep the transport from its deadlines; "ten things", the fifth."""

    def script(peer: Peer) -> None:
        peer.connect()
        until = time.monotonic() + 0.6
        while time.monotonic() < until:
            peer.note("on")
            peer.listen(0.001)
        assert peer.pings >= 3, f"expected a ping every 0.1 s, got {peer.pings} in 0.6 s"
        peer.note("enough")
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server, ping_interval=0.1) as connection:
        while await stage.receive(connection) != ["enough"]:
            pass


@case("time")
async def silence_ends_it(stage: Stage) -> None:
    """A server that falls silent is given up when the machine's deadline comes, and not much later."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.note("here")
        peer.until_end()

    async with stage.serving(script) as server:
        with fails("the silence of the server"):
            async with stage.connect(server, server_timeout=0.6, ping_interval=0.2) as connection:
                await stage.expect(connection, ["here"])
                with takes(0.5, 0.6, "the silence of the server"):
                    await connection.receive()
    assert stage.machine.latest < 0.4, f"expected deadlines to be kept, one was missed by {stage.machine.latest:.2f} s"


@case("time")
async def signs_of_life_move_the_deadline(stage: Stage) -> None:
    """The deadline is read anew before each wait: a server that pings is not given up; law 6."""

    def script(peer: Peer) -> None:
        peer.connect()
        for _ in range(8):
            peer.listen(0.15)
            peer.say({"type": 6})
        peer.note("still here")
        peer.until_end()

    async with (
        stage.serving(script) as server,
        stage.connect(server, server_timeout=0.6, ping_interval=0.2) as connection,
    ):
        await stage.expect(connection, ["still here"])


@case("time")
async def application_that_is_away(stage: Stage) -> None:
    """What came while the application blocked the transport counts before the deadline that passed meanwhile.

    Otherwise a healthy server is given up for silent; "ten things", the second.
    """

    def script(peer: Peer) -> None:
        peer.connect()
        peer.note("here")
        for _ in range(8):
            peer.listen(0.15)
            peer.say({"type": 6})
        peer.note("still here")
        peer.until_end()

    async with (
        stage.serving(script) as server,
        stage.connect(server, server_timeout=0.5, ping_interval=0.2) as connection,
    ):
        await stage.expect(connection, ["here"])
        threading.Event().wait(0.8)  # nothing else runs in this thread meanwhile, which is the point
        await stage.expect(connection, ["still here"])


@case("time")
async def silence_while_the_server_does_not_read(stage: Stage) -> None:
    """A server that neither reads nor speaks is given up in time, although there is something to be sent to it."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.note("here")
        time.sleep(1.8)

    async with stage.serving(script) as server:
        with fails("the silence of the server"):
            async with stage.connect(server, server_timeout=0.8, ping_interval=0.2) as connection:
                await stage.expect(connection, ["here"])
                with takes(0.0, 1.2, "the silence of the server"):
                    for _ in range(15):
                        await connection.send("take", "x" * 60_000)
                    await connection.receive()


@case("time")
async def waiting_costs_nothing(stage: Stage) -> None:
    """A transport that waits is asleep: it does not look again and again."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.note("here")
        began = time.process_time()
        peer.listen(0.6)
        used.append(time.process_time() - began)
        peer.note("enough")
        peer.until_end()

    used: list[float] = []
    async with stage.serving(script) as server, stage.connect(server) as connection:
        await stage.expect(connection, ["here"])
        before = stage.machine.inputs
        await stage.expect(connection, ["enough"])
    inputs = stage.machine.inputs - before
    assert inputs < 30, f"expected nothing to be told to the machine while nothing happens, got {inputs} inputs"
    assert used[0] < 0.3, f"expected a wait of 0.6 s to take next to no processor time, it took {used[0]:.2f} s"


@case("time")
async def one_clock(stage: Stage) -> None:
    """The machine is told the time of one clock that goes forward and keeps pace with the world."""

    def script(peer: Peer) -> None:
        peer.connect()
        for number in range(5):
            peer.listen(0.1)
            peer.note(number)
        peer.until_end()

    async with stage.serving(script) as server, stage.connect(server, ping_interval=0.07) as connection:
        await stage.expect(connection, [*range(5)])
    faults = stage.machine.clock_faults
    assert not faults, f"expected the time of one clock, got: {faults[0]}"


@case("time")
async def close_moves_the_deadline(stage: Stage) -> None:
    """A command moves the deadline too: a server that does not answer our goodbye delays the end by `close_timeout`."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.note("here")
        peer.ignore()

    async with stage.serving(script) as server, stage.connect(server, close_timeout=0.5) as connection:
        await stage.expect(connection, ["here"])
        with takes(0.0, 1.7, "closing"):
            await connection.close()


@case("time")
async def nothing_is_due_after_the_end(stage: Stage) -> None:
    """After `Closed` no time is kept any more; law 5."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.expect("done")
        peer.say({"type": 7})

    async with stage.serving(script) as server:
        with fails("a goodbye of the server's"):
            async with stage.connect(server, ping_interval=0.05) as connection:
                await connection.send("done")
                try:
                    await connection.receive()
                finally:
                    before = stage.machine.inputs
                    await stage.loop.sleep(0.3)
                    after = stage.machine.inputs - before
                    assert after <= 1, f"expected no input after `Closed`, got {after}"
