"""The adapters' contract: how the server's bytes are cut or joined does not matter, and streams can be one's own."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest

from contract import QUICK, Adapter, case, first, where
from cutting import Scissors, Sizes, cut_at, one_by_one
from etorox_proto import ConnectionFailed, Dial, ExchangeConfig, ServerClosed, encode_event
from etorox_transports import DialFailed
from loopback_exchange import LoopbackExchange, number_of, numbered
from machines import HANDSHAKE, accept, hub_frame, negotiated, said
from scripted import scripted

# More than the first exchange has bytes: head and body of two HTTP responses, four hub messages.
LONGEST = 2_000
STEP = 23


async def first_exchange(adapter: Adapter, server: LoopbackExchange, sizes: Sizes) -> int:
    """Connect, subscribe, and read three events, with the bytes in these pieces; how many bytes there were."""
    scissors = Scissors(sizes)
    opener = scissors.open_blocking if adapter.backend is None else scissors.open
    async with adapter.connect(where(server), open=opener, session=None) as exchange:
        feed = exchange.subscribe(["btcusd"])
        await adapter.until(lambda: server.streams, server)
        server.publish(count=3)
        numbers = [number_of(await feed.next(5.0)) for _ in range(3)]
        assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]
        return scissors.position


@case
async def test_one_byte_at_a_time(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        assert 500 < await first_exchange(adapter, server, one_by_one) < LONGEST


@case
async def test_a_cut_at_every_offset(adapter: Adapter) -> None:
    with LoopbackExchange() as server:
        for offset in range(STEP):
            await first_exchange(adapter, server, cut_at(offset, STEP))


@case
async def test_replies_that_come_in_one_piece(adapter: Adapter) -> None:
    """The WebSocket's head, the handshake and the answer to `setup`; then fifty events and the goodbye."""

    def negotiate(sock: socket.socket) -> None:
        sock.recv(65_536)
        sock.sendall(negotiated())

    def stream(sock: socket.socket) -> None:
        request = sock.recv(65_536)
        done = {"type": 3, "invocationId": "1", "result": {"status": "success"}}
        sock.sendall(accept(request) + HANDSHAKE + hub_frame(done))
        heard = b""
        while not any(isinstance(message, dict) and message.get("type") == 4 for message in said(heard)):
            heard += sock.recv(65_536)
        items = [b'{"type":2,"invocationId":"2","item":%b}' % encode_event(numbered("btcusd", n)) for n in range(50)]
        sock.sendall(hub_frame(*items, {"type": 7, "error": "bye"}))
        with contextlib.suppress(OSError):
            while sock.recv(65_536):
                pass

    with scripted(negotiate, stream) as url:
        async with adapter.connect(ExchangeConfig(url)) as exchange:
            feed = exchange.subscribe(["btcusd"])
            assert [number_of(event) for event in await first(feed, 50)] == list(range(50))
            with pytest.raises(ServerClosed, match="bye"):
                await feed.next(5.0)


# ------------------------------------------------------------------------------------------ streams of one's own


def opener_that_raises(adapter: Adapter, error: Exception, seen: list[Dial]) -> Any:
    def refuse(dial: Dial, _timeout: float) -> Any:
        seen.append(dial)
        raise error

    async def refuse_async(dial: Dial) -> Any:
        seen.append(dial)
        raise error

    return refuse if adapter.backend is None else refuse_async


@case
async def test_an_opener_is_told_where_to_and_its_error_is_the_cause(adapter: Adapter) -> None:
    seen: list[Dial] = []
    error = ConnectionRefusedError("no way through the proxy")
    with pytest.raises(DialFailed, match="no way through the proxy") as caught:
        async with adapter.connect("streams.example.com", open=opener_that_raises(adapter, error, seen)):
            raise AssertionError("expected no connection")
    assert seen == [Dial("streams.example.com", 443, tls=True, server_name="streams.example.com")]
    assert caught.value.__cause__ is error


@case
async def test_an_openers_own_verdict_is_kept(adapter: Adapter) -> None:
    error = DialFailed("the proxy wants a password", may_retry=False)
    seen: list[Dial] = []
    opener = opener_that_raises(adapter, error, seen)
    async with adapter.connect("streams.example.com", open=opener, session=QUICK, wait=False) as exchange:
        feed = exchange.subscribe(["btcusd"])
        with pytest.raises(ConnectionFailed, match="wants a password"):
            await feed.next(5.0)
    assert len(seen) == 1


@case
async def test_whatever_an_opener_raises_is_told_and_leaves_nothing(adapter: Adapter) -> None:
    error = ZeroDivisionError("a mistake in the opener")
    with pytest.raises(Exception, match="a mistake in the opener") as caught:
        async with adapter.connect("streams.example.com", open=opener_that_raises(adapter, error, []), session=QUICK):
            raise AssertionError("expected no connection")
    assert error in {caught.value, caught.value.__cause__}
