"""Cases about opening: negotiation, redirects, and everything that is not there or is something else."""

from __future__ import annotations

import socket
import time
from typing import Any

from etorox_proto.testing import http_reply
from etorox_transports.conformance._case import Stage, case, fails, takes
from etorox_transports.conformance._peer import Peer, Server, invocation

__all__: list[str] = []


def _talk(peer: Peer) -> None:
    peer.connect()
    peer.note("here")
    peer.until_end()


def _negotiate(peer: Peer) -> None:
    peer.negotiate()
    peer.ignore()


def _listen(peer: Peer) -> None:
    peer.ignore()


@case("open")
async def without_negotiation(stage: Stage) -> None:
    """One `Dial`, one stream."""
    async with stage.serving(_talk) as server, stage.connect(server) as connection:
        await stage.expect(connection, ["here"])
    opened = stage.machine.opened
    assert opened == 1, f"expected one stream, {opened} were opened"


@case("open")
async def negotiation_has_a_stream_of_its_own(stage: Stage) -> None:
    """Each `Dial` is a new stream: one for negotiation, one for the WebSocket."""
    async with (
        stage.serving(_negotiate, _talk) as server,
        stage.connect(server, skip_negotiation=False) as connection,
    ):
        await stage.expect(connection, ["here"])
    assert server.peers[1].requests[0].startswith(b"GET /hub?id=a-token"), "expected the connection's token in the URL"


@case("open")
async def second_dial_closes_the_first_stream(stage: Stage) -> None:
    """`Dial` closes the stream that there was, before or while the next one is opened."""
    ended_at: list[float] = []

    def first(peer: Peer) -> None:
        peer.negotiate()
        peer.ignore()
        ended_at.append(time.monotonic())

    def second(peer: Peer) -> None:
        peer.connect()
        assert ended_at, "expected the first stream to be closed by now"
        peer.note("here")
        peer.until_end()

    async with stage.serving(first, second) as server, stage.connect(server, skip_negotiation=False) as connection:
        await stage.expect(connection, ["here"])
        await stage.loop.sleep(0.05)


@case("open")
async def redirect_to_another_port(stage: Stage) -> None:
    """A redirect leads to another port, with a stream of its own to negotiate there."""
    async with stage.serving(_negotiate, _talk) as target:

        def refer(peer: Peer) -> None:
            peer.negotiate(url=target.url())
            peer.ignore()

        async with stage.serving(refer) as server, stage.connect(server, skip_negotiation=False) as connection:
            await stage.expect(connection, ["here"])
    opened = stage.machine.opened
    assert opened == 3, f"expected three streams, {opened} were opened"


@case("open")
async def redirect_to_another_host(stage: Stage) -> None:
    """A redirect leads to another host; the name is looked up, and told to the server."""
    async with stage.serving(_negotiate, _talk) as target:

        def refer(peer: Peer) -> None:
            peer.negotiate(url=target.url("localhost"))
            peer.ignore()

        async with stage.serving(refer) as server, stage.connect(server, skip_negotiation=False) as connection:
            await stage.expect(connection, ["here"])
    host = f"Host: localhost:{target.port}".encode()
    assert all(host.lower() in peer.requests[0].lower() for peer in target.peers), "expected the new name in Host"


@case("open")
async def stream_that_is_lost_is_dialled_again(stage: Stage) -> None:
    """With stateful reconnect `Dial` also comes in the middle; the transport opens another stream and goes on."""

    def negotiate(peer: Peer) -> None:
        peer.negotiate(
            negotiateVersion=1,
            connectionId="an-id",
            connectionToken="a-token",
            useStatefulReconnect=True,
            availableTransports=[{"transport": "WebSockets", "transferFormats": ["Text"]}],
        )
        peer.ignore()

    def first(peer: Peer) -> None:
        peer.connect()
        peer.note("one")
        peer.expect("took", "one")
        peer.reset()

    def second(peer: Peer) -> None:
        peer.sock.sendall(peer.accept())
        heard = peer.hear()
        assert heard is not None, "expected the client to begin with Sequence"
        assert heard["type"] == 9, f"expected the client to begin with Sequence, got {heard}"
        peer.say({"type": 9, "sequenceId": 2}, invocation("note", "two"))
        peer.until_end()

    async with (
        stage.serving(negotiate, first, second) as server,
        stage.connect(server, skip_negotiation=False, stateful_reconnect=True) as connection,
    ):
        await stage.expect(connection, ["one"])
        await connection.send("took", "one")
        await stage.expect(connection, ["two"])


async def _refused(stage: Stage, where: Server | str, what: str, **options: Any) -> None:
    with fails(what):
        async with stage.connect(where, **options):
            pass


@case("open")
async def port_where_nobody_listens(stage: Stage) -> None:
    """A refused connection is raised at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with takes(0.0, 2.0, "a refused connection to be told"):
        await _refused(stage, f"http://127.0.0.1:{port}/hub", "a refused connection")


@case("open")
async def host_that_does_not_exist(stage: Stage) -> None:
    """A name that cannot be looked up is raised."""
    await _refused(stage, "http://no-such-host.invalid/hub", "a name without an address", opening_timeout=3.0)


@case("open")
async def server_that_says_nothing(stage: Stage) -> None:
    """An opening that takes too long ends when the machine's deadline comes, not before and not much later."""
    async with stage.serving(_listen) as server:
        with takes(0.6, 0.6, "the opening timeout"):
            await _refused(stage, server, "an opening that takes too long", opening_timeout=0.6)


@case("open")
async def handshake_that_is_not_answered(stage: Stage) -> None:
    """The same where the WebSocket is accepted, and the SignalR handshake is not answered."""

    def script(peer: Peer) -> None:
        peer.sock.sendall(peer.accept())
        peer.handshake()
        peer.until_end()

    async with stage.serving(script) as server:
        with takes(0.6, 0.6, "the handshake timeout"):
            await _refused(stage, server, "a handshake that is not answered", handshake_timeout=0.6)


@case("open")
async def negotiation_that_is_not_answered(stage: Stage) -> None:
    """The same for the first of two streams."""
    async with stage.serving(_listen) as server:
        with takes(0.6, 0.6, "the opening timeout"):
            await _refused(
                stage, server, "a negotiation that is not answered", opening_timeout=0.6, skip_negotiation=False
            )


@case("open")
async def server_that_hangs_up(stage: Stage) -> None:
    """A server that hangs up before it has answered is told, and not waited for."""
    async with stage.serving(lambda peer: peer.request()) as server:
        with takes(0.0, 1.0, "the end of the stream to be told"):
            await _refused(stage, server, "a stream that ends early")


@case("open")
async def server_that_resets(stage: Stage) -> None:
    """So is one that resets the stream."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.reset()

    async with stage.serving(script) as server:
        with takes(0.0, 1.0, "the reset to be told"):
            await _refused(stage, server, "a stream that is reset")


@case("open")
async def reply_that_ends_in_the_middle(stage: Stage) -> None:
    """A reply that ends in the middle, with the end of the stream, is a failure and not a wait."""

    def script(peer: Peer) -> None:
        peer.sock.sendall(peer.accept()[:40])

    async with stage.serving(script) as server:
        with takes(0.0, 1.0, "the end of the stream to be told"):
            await _refused(stage, server, "half a reply")


@case("open")
async def server_of_another_kind(stage: Stage) -> None:
    """What the machine says about a server that is none is raised as it is."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.sock.sendall(http_reply(404, b"there is no hub here"))
        peer.ignore()

    async with stage.serving(script) as server:
        await _refused(stage, server, "a reply with the status 404")


@case("open")
async def server_that_talks_nonsense(stage: Stage) -> None:
    """A server that does not even speak HTTP is a failure, told at once."""

    def script(peer: Peer) -> None:
        peer.sock.sendall(b"220 mail.example.com ESMTP\r\n" * 3)
        peer.ignore()

    async with stage.serving(script) as server:
        with takes(0.0, 1.0, "nonsense to be told"):
            await _refused(stage, server, "what is not HTTP")


@case("open")
async def handshake_that_is_refused(stage: Stage) -> None:
    """The server's reason for refusing the handshake is raised."""

    def script(peer: Peer) -> None:
        peer.sock.sendall(peer.accept())
        peer.handshake()
        peer.say({"error": "this protocol is not spoken here"})
        peer.until_end()

    async with stage.serving(script) as server:
        await _refused(stage, server, "a refused handshake")


@case("open")
async def failed_opening_leaves_nothing(stage: Stage) -> None:
    """After a failed opening the stream is closed: the server sees its end at once."""
    seen: list[float] = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.sock.sendall(http_reply(503, b"later"))
        began = time.monotonic()
        peer.ignore()
        seen.append(time.monotonic() - began)

    async with stage.serving(script) as server:
        await _refused(stage, server, "a reply with the status 503")
        await stage.loop.sleep(0.05)
    assert seen, "expected the stream to be closed"
    assert seen[0] < 1.0, f"expected the stream to be closed at once, it took {seen[0]:.2f} s"
