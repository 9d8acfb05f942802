"""Cases about TLS: whom to trust, and records that do not end where messages do."""

from __future__ import annotations

import socket
import ssl
import time

from etorox_transports.conformance._case import Stage, authority, case, certificate, fails, stranger, takes
from etorox_transports.conformance._peer import Peer, frames, invocation

__all__: list[str] = []


def _talk(peer: Peer) -> None:
    peer.connect()
    peer.note("here")
    peer.until_end()


def _hear_nothing(peer: Peer) -> None:
    peer.ignore()
    assert not peer.heard, "expected nothing to be said to a server that is not trusted"


def _trusted() -> bytes:
    return authority().certificate


@case("tls")
async def server_that_is_trusted(stage: Stage) -> None:
    """A certificate of a trusted authority for the right address is accepted."""
    async with (
        stage.serving(_talk, ssl_context=certificate("127.0.0.1")) as server,
        stage.connect(server, trust=_trusted()) as connection,
    ):
        await stage.expect(connection, ["here"])


@case("tls")
async def name_is_sent(stage: Stage) -> None:
    """`Dial.server_name` is what the certificate is for, and what is sent as SNI."""
    names: list[str | None] = []
    context = certificate("localhost", "another.example")
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    async with (
        stage.serving(_talk, ssl_context=context) as server,
        stage.connect(server.url("localhost"), trust=_trusted()) as connection,
    ):
        await stage.expect(connection, ["here"])
    assert names == ["localhost"], f"expected the name localhost in SNI, got {names}"


async def _not_trusted(stage: Stage, context: ssl.SSLContext, what: str) -> None:
    async with stage.serving(_hear_nothing, ssl_context=context) as server:
        with fails(what):
            async with stage.connect(server, trust=_trusted(), opening_timeout=3.0):
                pass


@case("tls")
async def authority_that_nobody_knows(stage: Stage) -> None:
    """A certificate of an unknown authority is refused, and nothing is said to that server."""
    await _not_trusted(stage, stranger(), "a certificate of an unknown authority")


@case("tls")
async def certificate_for_another_name(stage: Stage) -> None:
    """A certificate for another name is refused."""
    await _not_trusted(stage, certificate("another.example"), "a certificate for another name")


@case("tls")
async def certificate_that_has_expired(stage: Stage) -> None:
    """A certificate that has expired is refused."""
    await _not_trusted(stage, certificate("127.0.0.1", is_expired=True), "a certificate that has expired")


@case("tls")
async def server_without_tls(stage: Stage) -> None:
    """A server that answers TLS with something else is a failure, told at once."""

    def script(peer: Peer) -> None:
        peer.sock.recv(65_536)
        peer.sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        peer.ignore()

    async with stage.serving(script) as server:
        with takes(0.0, 2.0, "an answer that is not TLS to be told"), fails("an answer that is not TLS"):
            async with stage.connect(server.url().replace("http:", "https:"), trust=_trusted()):
                pass


@case("tls")
async def handshake_that_stalls(stage: Stage) -> None:
    """The handshake of TLS belongs to `Dial`: it is bounded by the machine's deadline."""
    async with stage.serving(lambda peer: peer.ignore()) as server:
        with takes(0.6, 0.6, "the opening timeout"), fails("a handshake of TLS that stalls"):
            async with stage.connect(server.url().replace("http:", "https:"), trust=_trusted(), opening_timeout=0.6):
                pass


@case("tls")
async def many_messages_in_one_record(stage: Stage) -> None:
    """What one record brings is read to its end, also when nothing comes behind it; no selector sees the rest."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.sock.sendall(frames(*(invocation("note", number) for number in range(250))))
        peer.until_end()

    async with (
        stage.serving(script, ssl_context=certificate("127.0.0.1")) as server,
        stage.connect(server, trust=_trusted()) as connection,
    ):
        await stage.expect(connection, [*range(250)])


@case("tls")
async def large_messages_both_ways(stage: Stage) -> None:
    """Messages of many records come whole, in both directions."""
    text = "x" * 300_000

    def script(peer: Peer) -> None:
        peer.connect()
        peer.note(text)
        peer.expect("take", text)
        peer.note("all")
        peer.until_end()

    async with (
        stage.serving(script, ssl_context=certificate("127.0.0.1")) as server,
        stage.connect(server, trust=_trusted()) as connection,
    ):
        await stage.expect(connection, [text])
        await connection.send("take", text)
        await stage.expect(connection, ["all"])


@case("tls")
async def end_without_a_goodbye(stage: Stage) -> None:
    """A server that ends TCP without ending TLS has ended the stream, and what came before counts."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.expect("ready")
        peer.note("last")
        socket.socket.shutdown(peer.sock, socket.SHUT_WR)
        time.sleep(0.2)

    async with (
        stage.serving(script, ssl_context=certificate("127.0.0.1")) as server,
        stage.connect(server, trust=_trusted()) as connection,
    ):
        await connection.send("ready")
        await stage.expect(connection, ["last"])
        with takes(0.0, 1.0, "the end of the stream to be told"), fails("the end of the stream"):
            await connection.receive()


@case("tls")
async def close_does_not_wait_for_ever(stage: Stage) -> None:
    """Closing is bounded although the peer does not take part in the end of TLS; "ten things", closing can wait."""

    def script(peer: Peer) -> None:
        peer.connect()
        peer.note("here")
        time.sleep(2.3)

    async with (
        stage.serving(script, ssl_context=certificate("127.0.0.1")) as server,
        stage.connect(server, trust=_trusted(), close_timeout=0.3) as connection,
    ):
        await stage.expect(connection, ["here"])
        with takes(0.0, 1.5, "closing"):
            await connection.close()
