"""Law 7, chunking does not matter: any split of the bytes gives the same events, down to the texts of errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etorox_proto import ExchangeConnection
from etorox_proto.signalr import (
    ConnectionTokens,
    HubConnection,
    Resumed,
    State,
)
from machines import (
    HANDSHAKE,
    RawPeer,
    accept,
    chunks,
    exchange,
    frame,
    http,
    hub,
    names,
    negotiated,
    packed,
    packed_frame,
    picture,
    records,
    server,
    take,
    whole,
)
from programs import (
    SAID_BY_CLIENT,
    SAID_BY_SERVER,
    SMALL,
    is_packed,
    is_resuming,
    said_to,
)

seeds = st.integers(0, 2**32)


def after_upgrade(role: str) -> st.SearchStrategy[bytes]:
    """What a server says on a WebSocket: mostly sense, with messages cut into frames and faults between."""
    table = said_to(role)
    join, opcode = (packed, 2) if is_packed(role) else (records, 1)
    symbols = sorted(set(table) - {"accept"})
    message = st.sampled_from(
        [
            {"type": 2, "invocationId": "2", "item": {"name": "x", "é": "€😀"}},
            {"type": 2, "invocationId": "2", "item": 5},
            {"type": 3, "invocationId": "2"},
            {"type": 3, "invocationId": "1", "result": {"status": "success"}},
            {"type": 3, "invocationId": "1", "error": "no"},
            {"type": 6},
            {"type": 7},
            {"type": 1, "target": "t", "arguments": [1]},
            b"{",
            b"x" * 600,
        ]
    )
    batch = st.lists(message, min_size=1, max_size=4).map(lambda messages: join(*messages))
    utf8 = st.integers(900, 1_100).flatmap(
        lambda n: st.sampled_from([b"x" * n + b"\xff", b"x" * n + "😀".encode(), "é".encode() * (n // 2) + b"\xff"])
    )
    framed = st.one_of(
        batch.map(lambda data: frame(data, opcode)),
        batch.map(lambda data: frame(data, 2)),
        st.tuples(batch, st.integers(1, 40), st.just(opcode)).map(fragmented),
        utf8.map(frame),
        utf8.map(lambda data: frame(data[:950], fin=False) + frame(b"!", 9) + frame(data[950:], 0)),
        st.sampled_from(symbols).map(table.__getitem__),
        st.binary(max_size=20),
    )
    return st.lists(framed, max_size=8).map(b"".join)


def fragmented(parts: tuple[bytes, int, int]) -> bytes:
    """A message in frames of that many bytes, the first with that opcode, with pings between them."""
    data, size, opcode = parts
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    frames = [
        frame(piece, opcode if i == 0 else 0, fin=i == len(pieces) - 1) + frame(b"", 9)
        for i, piece in enumerate(pieces)
    ]
    return b"".join(frames)


Cut = Callable[[bytes], Any]


def converse(
    client: HubConnection | ExchangeConnection,
    cut: Cut,
    answers: list[bytes],
    upgrade: bytes | None,
    first: bytes,
    second: bytes,
) -> Any:
    """A whole conversation; everything between two actions of the application comes in one go, then cut."""
    peer = RawPeer(client, cut)
    for answer in answers:
        peer.open()
        peer.feed(answer)
    request = peer.open()
    peer.feed((accept(request) if upgrade is None else upgrade) + first)
    for _ in range(2):
        if isinstance(client, HubConnection) and client.state is State.CONNECTED:
            client.stream("numbers", now=0.0)
    if isinstance(client, ExchangeConnection) and client.state.name == "READY":
        client.subscribe(["btcusd"], now=0.0)
    peer.settle()
    peer.feed(second)
    peer.end()
    if client.state is State.RESUMING:
        peer.feed(accept(peer.open()) + second)
        peer.end()
    # The masks differ from run to run, so what was sent is compared elsewhere.
    return [picture(event) for event in peer.events]


HTTP_ANSWERS = st.one_of(
    st.just(negotiated()),
    st.just(SAID_BY_SERVER["redirect"]),
    st.just(http(503, b"busy " * 100)),
    st.just(http(200, b"x" * 1_400)),
    st.just(http(200, b"x" * 1_600)),
    st.just(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"x" * 3_000 + b"\r\nhello\r\n0\r\n\r\n"),
    st.just(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 600 + b"\r\n"),
    st.just(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n"),
    st.just(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX: " + b"x" * 4_000 + b"\r\n\r\n"),
    st.just(b"HTTP/1.1 100 Continue\r\n\r\n" + negotiated()),
    st.just(b"HTTP/1.1 200 OK\r\n\r\n{}"),
    st.just(b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}trailing"),
    st.just(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2_000),
    st.just(b"nonsense\r\n\r\n"),
    st.binary(max_size=100),
)

REFUSALS = st.one_of(
    st.none(),
    st.none(),
    st.none(),
    st.just(http(403, b"go away " * 200)),
    st.just(http(404, b"short")),
    st.just(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n1f4\r\n" + b"x" * 500 + b"\r\nBAD"),
    st.just(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello" + b"\r\nBAD\r\n"),
    st.just(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"x" * 9_000 + b"\r\nhello\r\n0\r\n\r\n"),
    st.just(b"HTTP/1.1 103 Early Hints\r\n\r\n" + http(200)),
    st.just(b"HTTP/1.1 101 Switching\r\n\r\n" + b"\x81\x00" * 10),
    st.just(b"HTTP/1.0 404 no\r\n\r\nuntil the end"),
    st.just(b"HTTP/1.1 404 no\r\nX: " + b"x" * 1_600 + b"\r\n\r\n"),
    st.binary(max_size=100),
)


@pytest.mark.parametrize(
    "role",
    [
        *("hub", "strict hub", "exchange", "hub in MessagePack", "strict hub in MessagePack"),
        *("hub that resumes", "hub that resumes in MessagePack"),
    ],
)
@settings(max_examples=100)
@given(answers=st.lists(HTTP_ANSWERS, max_size=1), upgrade=REFUSALS, data=st.data(), seed=seeds)
def test_law_7_chunking_does_not_matter(
    role: str, answers: list[bytes], upgrade: bytes | None, data: st.DataObject, seed: int
) -> None:
    """Any split of a server's bytes gives the same events, down to the texts of the errors."""
    first, second = data.draw(after_upgrade(role)), data.draw(after_upgrade(role))
    say = said_to(role)
    greetings = [b"", HANDSHAKE, HANDSHAKE + say["setup succeeds"], say["handshake and more"]]
    greeting = data.draw(st.sampled_from(greetings))

    def run(cut: Cut) -> Any:
        encoding = "messagepack" if is_packed(role) else "json"
        strict = role.startswith("strict")
        client = (
            exchange(limits=SMALL)
            if role == "exchange"
            else hub(limits=SMALL, strict=strict, encoding=encoding, stateful_reconnect=is_resuming(role))
        )
        answer = negotiated(useStatefulReconnect=is_resuming(role))
        return converse(client, cut, answers or [answer], upgrade, greeting + first, second)

    expected = run(whole)
    assert run(lambda data: [data[i : i + 1] for i in range(len(data))]) == expected
    assert run(chunks(seed)) == expected


@pytest.mark.parametrize("strict", [False, True])
def test_law_7_holds_for_the_length_of_every_limit(strict: bool) -> None:
    """At the edge of a limit too, it does not matter how the bytes come."""
    for length in (498, 499, 500, 501, 502):
        for opcode in (1, 2):
            data = HANDSHAKE + frame(b" " * (length - 10) + b'{"type":6}\x1e', opcode)
            runs = [
                converse(hub(limits=SMALL, strict=strict), cut, [negotiated()], None, data, b"")
                for cut in (whole, chunks(1), chunks(2), lambda data: [data[i : i + 1] for i in range(len(data))])
            ]
            assert runs.count(runs[0]) == len(runs)
            assert ("LimitExceeded" in repr(runs[0])) == (length > 500)


def test_law_7_holds_for_the_length_of_a_record_in_messagepack() -> None:
    for length in (498, 499, 500, 501, 502):
        body = b"\x95\x02\x80\xa12\xc0\xda" + (length - 9).to_bytes(2) + b" " * (length - 9)
        assert len(body) == length
        runs = [
            converse(
                hub(limits=SMALL, encoding="messagepack"), cut, [negotiated()], None, HANDSHAKE, packed_frame(body)
            )
            for cut in (whole, chunks(1), chunks(2), lambda data: [data[i : i + 1] for i in range(len(data))])
        ]
        assert runs.count(runs[0]) == len(runs)
        assert ("LimitExceeded" in repr(runs[0])) == (length > 500)
        assert ("ItemReceived" in repr(runs[0])) == (length <= 500)


@pytest.mark.parametrize("role", ["hub that resumes", "hub that resumes in MessagePack"])
@settings(max_examples=100)
@given(first=st.data(), seed=seeds)
def test_law_7_holds_on_the_second_stream_too(role: str, first: st.DataObject, seed: int) -> None:
    say = said_to(role)
    calls = [say[f"invocation {n} that waits"] for n in (1, 2, 3)]
    before = b"".join(calls[: first.draw(st.integers(0, 3))])
    again = say[f"sequence {first.draw(st.integers(1, 2))}"]
    behind = first.draw(st.lists(st.sampled_from([*calls, say["hub ping"], say["item 1"], say["ack 1"]]), max_size=6))

    def run(cut: Cut) -> Any:
        encoding = "messagepack" if is_packed(role) else "json"
        peer = RawPeer(hub(limits=SMALL, encoding=encoding, stateful_reconnect=True, handles=["t"]), cut)
        peer.negotiate(negotiated(useStatefulReconnect=True))
        peer.upgrade(HANDSHAKE + before)
        peer.end()
        peer.upgrade(again + b"".join(behind))
        peer.end()
        return [picture(event) for event in peer.events]

    expected = run(whole)
    assert run(lambda data: [data[i : i + 1] for i in range(len(data))]) == expected
    assert run(chunks(seed)) == expected


REQUESTS = st.one_of(
    st.sampled_from(sorted(SAID_BY_CLIENT)).map(SAID_BY_CLIENT.__getitem__),
    st.just(SAID_BY_CLIENT["negotiate"]),
    st.just(SAID_BY_CLIENT["negotiate"]),
    st.just(b"POST /negotiate HTTP/1.1\r\nHost: h\r\nContent-Length: 1600\r\n\r\n" + b"x" * 1_600),
    st.just(b"POST /negotiate HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"),
    st.just(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 1_600 + b"\r\n\r\n"),
    st.just(
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"x" * 4_000 + b"\r\nhello\r\n0\r\n\r\n"
    ),
    st.just(b"POST / HTTP/1.1\nHost: h\nContent-Length: 0\n\n"),
    st.just(b"\r\n"),
)


@pytest.mark.parametrize("role", ["server that resumes", "server that resumes in MessagePack"])
@settings(max_examples=100)
@given(data=st.data(), seed=seeds)
def test_law_7_holds_when_a_client_comes_back(role: str, data: st.DataObject, seed: int) -> None:
    """The second stream may be cut anywhere, also between its request and what follows."""
    say = said_to(role)
    begin = say["negotiate to resume"] + say["upgrade by id"] + say["handshake to resume"]
    symbols = st.sampled_from([*(f"call {n}" for n in (1, 2, 3, 4)), "sequence 1", "sequence 2", "hub ping", "ack 1"])
    before, behind = (b"".join(map(say.__getitem__, data.draw(st.lists(symbols, max_size=4)))) for _ in range(2))
    again = say["upgrade by id"] + say[f"sequence {data.draw(st.integers(1, 2))}"]

    def run(cut: Cut) -> Any:
        tokens = ConnectionTokens(names())
        first = server(limits=SMALL, tokens=tokens, stateful_reconnect=True)
        events: list[Any] = []
        sent = b""
        for opens, stream in ((first, begin + before), (None, again + behind)):
            machine = opens or server(limits=SMALL, tokens=tokens, stateful_reconnect=True)
            for piece in cut(stream):
                machine.receive_data(piece, 0.0)
                told = take(machine)
                if told and isinstance(told[0], Resumed):
                    first.resume(machine, now=0.0)
                    machine, told = first, take(first)
                events += told
                sent += machine.data_to_send()
            machine.receive_data(b"", 0.0)
            events += take(machine)
        return [picture(event) for event in events], sent

    expected = run(whole)
    assert run(lambda data: [data[i : i + 1] for i in range(len(data))]) == expected
    assert run(chunks(seed)) == expected


@pytest.mark.parametrize("role", ["server", "server in MessagePack"])
@settings(max_examples=150)
@given(
    requests=st.lists(REQUESTS, max_size=4),
    begun=st.integers(0, 2),
    symbols=st.lists(st.sampled_from(sorted(SAID_BY_CLIENT)), max_size=6),
    noise=st.binary(max_size=20),
    seed=seeds,
)
def test_law_7_holds_for_servers(
    role: str, requests: list[bytes], begun: int, symbols: list[str], noise: bytes, seed: int
) -> None:
    """A server gives the same events and the same bytes."""
    say = said_to(role)
    greeting = b"".join([say["upgrade"], say["handshake"]][:begun])
    messages = [say[symbol] for symbol in symbols]

    def run(cut: Cut) -> Any:
        machine = server(limits=SMALL)
        events: list[Any] = []
        sent = b""
        for piece in cut(b"".join(requests) + greeting + b"".join(messages) + noise):
            machine.receive_data(piece, 0.0)
            events += take(machine)
            sent += machine.data_to_send()
        machine.receive_data(b"", 0.0)
        return [picture(event) for event in events + take(machine)], sent

    expected = run(whole)
    assert run(lambda data: [data[i : i + 1] for i in range(len(data))]) == expected
    assert run(chunks(seed)) == expected
