"""`open_stream` of the asynchronous adapters, plain and with TLS: each kind of end, nothing lost, no flood."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import pytest
import trio

from contract import Adapter, case, open_files
from etorox_proto import Dial
from etorox_transports.anyio import open_stream
from tls_server import PATIENCE, break_off, client_context, nothing, server_context, talking

BROKEN = (OSError, anyio.BrokenResourceError, trio.BrokenResourceError)
BOTH = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


@contextlib.asynccontextmanager
async def opened(adapter: Adapter, dial: Dial) -> AsyncIterator[Any]:
    stream = await adapter.library.open_stream(dial, client_context())
    try:
        yield stream
    finally:
        with anyio.CancelScope() as scope:  # as the adapters do it
            scope.cancel()
            await stream.aclose()
        await anyio.lowlevel.checkpoint()


async def receive(stream: Any, length: float = math.inf) -> bytes:
    """So many bytes, or all there are before the end."""
    data = b""
    while len(data) < length and (more := await stream.receive_some(100_000)):
        data += more
    return data


def named(dial: Dial, host: str) -> Dial:
    """The same with a name for the host."""
    return Dial(host, dial.port, tls=dial.tls, server_name=dial.server_name)


def texts(error: BaseException | None) -> str:
    """What an error and its causes say."""
    return "" if error is None else f"{error!r} {texts(error.__cause__)}"


@case
async def test_many_records_come_at_once(async_adapter: Adapter) -> None:
    sent = threading.Event()

    def script(tls: ssl.SSLSocket) -> None:
        for number in range(200):
            tls.sendall(b"%03d" % number)
        sent.set()
        tls.recv(1)

    with talking(script) as dial:
        async with opened(async_adapter, dial) as stream:
            assert sent.wait(PATIENCE)
            pieces = [await stream.receive_some(100_000)]
            while sum(map(len, pieces)) < 600:
                pieces.append(await stream.receive_some(100_000))
            assert b"".join(pieces) == b"".join(b"%03d" % number for number in range(200))
            assert len(pieces) < 20
            await stream.send_all(b"x")


@BOTH
@case
async def test_large_messages_go_both_ways(async_adapter: Adapter, tls: bool) -> None:
    message = bytes(range(256)) * 8_000

    def script(sock: socket.socket) -> None:
        heard = b""
        while len(heard) < len(message):
            heard += sock.recv(100_000)
        sock.sendall(heard)

    with talking(script, tls=tls) as dial:
        async with opened(async_adapter, dial) as stream:
            await stream.send_all(message)
            assert await receive(stream) == message
            assert await stream.receive_some(1) == b""


@BOTH
@case
async def test_a_read_brings_no_more_than_it_asks_for_by_much(async_adapter: Adapter, tls: bool) -> None:
    with talking(lambda sock: sock.sendall(bytes(100_000)), tls=tls) as dial:
        async with opened(async_adapter, dial) as stream:
            while data := await stream.receive_some(1_000):
                assert len(data) <= (17_384 if tls else 1_000)


@BOTH
@case
async def test_an_end_without_a_goodbye_is_the_end(async_adapter: Adapter, tls: bool) -> None:
    def hang_up(sock: socket.socket) -> None:
        sock.sendall(b"last words")
        socket.socket(fileno=sock.detach()).close()

    with talking(hang_up, tls=tls) as dial:
        async with opened(async_adapter, dial) as stream:
            assert await receive(stream) == b"last words"
            assert await stream.receive_some(1_000) == b""


@case
async def test_a_goodbye_is_the_end_and_what_came_before_it_comes_first(async_adapter: Adapter) -> None:
    def script(tls: ssl.SSLSocket) -> None:
        tls.sendall(b"last words")
        tls.unwrap()

    with talking(script) as dial:
        async with opened(async_adapter, dial) as stream:
            assert await receive(stream) == b"last words"
            assert await stream.receive_some(1_000) == b""


@case
async def test_what_is_no_tls_breaks_the_stream_behind_what_was(async_adapter: Adapter) -> None:
    def script(tls: ssl.SSLSocket) -> None:
        break_off(tls, b"\x17\x03\x03\x00\x20" + b"x" * 32, reset=False)

    with talking(script) as dial:
        async with opened(async_adapter, dial) as stream:
            assert await receive(stream, 10) == b"good words"
            for _ in range(2):
                with pytest.raises(ssl.SSLError):
                    await stream.receive_some(1_000)


@BOTH
@case
async def test_a_reset_breaks_the_stream(async_adapter: Adapter, tls: bool) -> None:
    def script(sock: Any) -> None:
        sock.recv(1)
        break_off(sock, b"", reset=True)

    with talking(script, tls=tls) as dial:
        async with opened(async_adapter, dial) as stream:
            await stream.send_all(b"x")
            with pytest.raises(BROKEN) as caught:
                await receive(stream)
            assert "Connection reset by peer" in texts(caught.value)
            with pytest.raises(BROKEN):
                await stream.send_all(bytes(1_000))


@BOTH
@case
async def test_a_peer_that_does_not_read_is_waited_for(async_adapter: Adapter, tls: bool) -> None:
    done = threading.Event()
    with talking(lambda _: done.wait(PATIENCE), tls=tls) as dial:
        async with opened(async_adapter, dial) as stream:
            with anyio.move_on_after(0.1) as scope:
                await stream.send_all(bytes(20_000_000))
            assert scope.cancelled_caught
            done.set()


@BOTH
@case
async def test_a_peer_is_not_read_faster_than_we_ask(async_adapter: Adapter, tls: bool) -> None:
    """What the system keeps aside, a few hundred KiB wait."""
    sent, done = 0, threading.Event()

    def flood(sock: socket.socket) -> None:
        nonlocal sent
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        while not done.is_set():
            sock.settimeout(0.2)
            sock.sendall(bytes(10_000))
            sent += 10_000

    with talking(flood, tls=tls) as dial:
        async with opened(async_adapter, dial) as stream:
            assert await stream.receive_some(1) != b""
            await anyio.sleep(0.5)
            assert sent < 20_000_000
            done.set()


@BOTH
@case
async def test_a_read_that_is_cancelled_takes_nothing(async_adapter: Adapter, tls: bool) -> None:
    message = bytes(range(250)) * 400

    def drip(sock: socket.socket) -> None:
        for start in range(0, len(message), 1_000):
            sock.sendall(message[start : start + 1_000])
            threading.Event().wait(0.001)

    with talking(drip, tls=tls) as dial:
        async with opened(async_adapter, dial) as stream:
            heard, attempt = b"", 0
            while len(heard) < len(message):
                attempt += 1
                with anyio.move_on_after(0.0003 * (attempt % 10)):
                    heard += await stream.receive_some(5_000)
            assert heard == message


@case
async def test_a_peer_that_hangs_up_in_the_handshake_fails_it(async_adapter: Adapter) -> None:
    with talking(nothing, raw=lambda sock: sock.recv(10_000)) as dial, pytest.raises(ssl.SSLError):
        await async_adapter.library.open_stream(dial, client_context())


@case
async def test_a_handshake_that_is_not_answered_can_be_cancelled(async_adapter: Adapter) -> None:
    done, context = threading.Event(), client_context()
    with talking(nothing, raw=lambda _: done.wait(PATIENCE)) as dial:
        with anyio.move_on_after(0.2) as scope:
            await async_adapter.library.open_stream(dial, context)
        assert scope.cancelled_caught
        done.set()


@case
async def test_a_peer_is_told_why_it_is_refused(async_adapter: Adapter) -> None:
    heard: list[ssl.SSLError] = []

    def greet(sock: socket.socket) -> None:
        try:
            server_context().wrap_socket(sock, server_side=True).recv(1)
        except ssl.SSLError as error:
            heard.append(error)

    with talking(nothing, raw=greet) as dial, pytest.raises(ssl.SSLCertVerificationError):
        await async_adapter.library.open_stream(dial, ssl.create_default_context())
    assert "ALERT_UNKNOWN_CA" in str(heard[0].reason)


@case
async def test_a_name_is_looked_up(async_adapter: Adapter) -> None:
    with talking(lambda sock: sock.sendall(b"here"), tls=False) as dial:
        async with opened(async_adapter, named(dial, "localhost")) as stream:
            assert await receive(stream) == b"here"


# ------------------------------------------------------------------------------------------- names on asyncio's loop


class Naming(asyncio.SelectorEventLoop):
    """asyncio's loop, which knows one name more."""

    addresses: ClassVar[list[str]] = []

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> list[Any]:
        if host != "several.example":
            return await super().getaddrinfo(host, port, **options)
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in self.addresses
        ]


async def dialled(dial: Dial) -> bytes:
    stream = await open_stream(named(dial, "several.example"))
    try:
        return await receive(stream)
    finally:
        await stream.aclose()


def on_loop_with(addresses: list[str], dial: Dial) -> bytes:
    Naming.addresses = addresses
    before = open_files()
    heard: bytes = anyio.run(dialled, dial, backend_options={"loop_factory": Naming})
    gc.collect()
    assert open_files() == before
    return heard


@pytest.mark.parametrize("addresses", [["127.0.0.1", "::1"], ["::1", "127.0.0.1"], ["127.0.0.2", "::1", "127.0.0.1"]])
def test_the_first_address_that_answers_counts(addresses: list[str]) -> None:
    with talking(lambda sock: sock.sendall(b"here"), tls=False) as dial:
        assert on_loop_with(addresses, dial) == b"here"


def test_an_address_that_does_not_answer_does_not_hold_up_the_next() -> None:
    with talking(lambda sock: sock.sendall(b"here"), tls=False) as dial, contextlib.ExitStack() as stack:
        silent = stack.enter_context(contextlib.closing(socket.socket()))
        silent.bind(("127.0.0.2", dial.port))
        silent.listen(0)
        for _ in range(4):  # its queue is full then
            waiting = stack.enter_context(contextlib.closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.2", dial.port))
        began = time.monotonic()
        assert on_loop_with(["127.0.0.2", "127.0.0.1"], dial) == b"here"
        assert 0.2 <= time.monotonic() - began < PATIENCE


def test_if_no_address_answers_the_first_error_is_told() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    dial = Dial("127.0.0.1", port, tls=False, server_name="localhost")
    with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.2"):
        on_loop_with(["127.0.0.2", "127.0.0.1"], dial)
