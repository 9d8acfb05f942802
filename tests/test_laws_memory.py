"""Law 9, memory is bounded: however much a peer sends, a machine holds little more than `Limits` and one read."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from etorox_proto.signalr import (
    HubConnection,
    LimitExceeded,
    Limits,
    LocalProtocolError,
    State,
)
from machines import (
    HANDSHAKE,
    RawPeer,
    connected_peer,
    frame,
    hub,
    hub_frame,
    negotiated,
    packed_frame,
    server,
    take,
)
from programs import (
    SAID_BY_CLIENT,
)

FLOOD = 2_000_000
PIECE = 8_192
TIGHT = Limits(
    record=4_096,
    websocket_message=8_192,
    http_head=4_096,
    http_body=8_192,
    pending_calls=10,
    queued_bytes=25_000,
    unacknowledged_bytes=5_000,
)
# What a machine may hold beyond its limits: the piece being read, copies of it, and the odds and ends.
ROOM = 12 * PIECE


def flood(begin: bytes, repeated: bytes) -> Iterator[bytes]:
    """A beginning, and then the same again and again, in pieces such as a socket gives."""
    piece = (repeated * (PIECE // len(repeated) + 1))[: PIECE // len(repeated) * len(repeated)]
    if begin:
        yield begin
    # Frames are slow to read, so of short ones there are fewer; each that left a trace would show all the same.
    amount = FLOOD if len(repeated) == 1 else min(FLOOD, max(60_000, 6_000 * len(repeated)))
    for _ in range(1 + amount // len(piece)):
        yield piece


CLIENT_FLOODS: dict[str, tuple[str, bytes, bytes]] = {
    "head of the negotiate response": ("negotiating", b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "informational responses": ("negotiating", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body of the negotiate response": ("negotiating", b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    "chunked body": ("negotiating", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "chunk extension": ("negotiating", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
    "trailers": ("negotiating", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
    "head of the upgrade": ("upgrading", b"HTTP/1.1 101 OK\r\n", b"X: x\r\n"),
    "body of a refused upgrade": ("upgrading", b"HTTP/1.1 403 No\r\n\r\n", b"x"),
    "handshake": ("handshaking", frame(b"", length=2**62), b" "),
    "one frame": ("connected", frame(b"", length=2**62), b" "),
    "one binary frame": ("connected", frame(b"", 2, length=2**62), b" "),
    "fragments": ("connected", frame(b" ", fin=False), frame(b" ", 0, fin=False)),
    "empty fragments": ("connected", frame(b" ", fin=False), frame(b"", 0, fin=False)),
    "one record": ("connected", b"", frame(b" " * 1_000)),
    "pings": ("connected", b"", frame(b"p" * 125, 9)),
    "empty pings": ("connected", b"", frame(b"", 9)),
    "pongs": ("connected", b"", frame(b"p" * 125, 10)),
    "empty messages": ("connected", b"", frame(b"")),
    "hub pings": ("connected", b"", hub_frame({"type": 6})),
    "unknown ids": ("connected", b"", hub_frame({"type": 2, "invocationId": "x", "item": 1})),
    "invocations that wait": (
        "connected",
        b"",
        hub_frame({"type": 1, "invocationId": "x", "target": "t", "arguments": []}),
    ),
    "items": ("connected", b"", hub_frame({"type": 2, "invocationId": "1", "item": "x" * 1_000})),
    "one packed record": ("packed", frame(b"\xff\x1f", 2), frame(b"\xc0" * 1_000, 2)),
    "a packed record too long": ("packed", frame(b"\x81\x20", 2), frame(b"\xc0" * 1_000, 2)),
    "packed pings": ("packed", b"", packed_frame({"type": 6})),
    "packed items": ("packed", b"", packed_frame({"type": 2, "invocationId": "1", "item": "x" * 1_000})),
    "packed invocations that wait": (
        "packed",
        b"",
        packed_frame({"type": 1, "invocationId": "x", "target": "t", "arguments": []}),
    ),
    # Each array announces as many elements as there are bytes left.
    "arrays of arrays": ("packed", b"", packed_frame(b"\x94\x02\x80\xa11" + b"\xdc\x0e\x00" * 150 + bytes(3_600))),
    "arrays that never come": ("packed", b"", packed_frame(b"\x94\x02\x80\xa11" + b"\xdd\x7f\xff\xff\xff" * 100)),
}

ENDLESS = {
    *("pings", "empty pings", "pongs", "empty messages", "hub pings", "unknown ids", "items", "empty fragments"),
    *("packed pings", "packed items"),
}


def peak_while(feed: Callable[[bytes], bool], pieces: Iterator[bytes]) -> int:
    """The most memory that was held at any time while feeding, in bytes, until `feed` says that it is over."""
    tracemalloc.start()
    try:
        for piece in pieces:
            if feed(piece):
                break
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("reads", [True, False], ids=["we flush", "we cannot flush"])
@pytest.mark.parametrize("name", CLIENT_FLOODS)
def test_law_9_memory_is_bounded(name: str, reads: bool) -> None:
    """However much a server sends, a client holds little more than `Limits` and one read."""
    state, begin, repeated = CLIENT_FLOODS[name]
    client = hub(limits=TIGHT, encoding="messagepack" if state == "packed" else "json")
    peer = RawPeer(client)
    if state == "negotiating":
        peer.open()
    elif state == "upgrading":
        peer.negotiate()
        peer.open()
    else:
        peer.negotiate()
        peer.upgrade(HANDSHAKE if state in {"connected", "packed"} else b"")
    if state in {"connected", "packed"}:
        client.stream("numbers", now=0.0)
        peer.settle()

    most_events = 0

    def feed(piece: bytes) -> bool:
        nonlocal most_events
        client.receive_data(piece, 0.0)
        assert client.queued_bytes <= 2 * TIGHT.queued_bytes + 2 * len(piece)
        most_events = max(most_events, len(take(client)))
        if reads:
            client.data_to_send()
        return client.state is State.CLOSED

    assert peak_while(feed, flood(begin, repeated)) < ROOM + sum(
        (TIGHT.record, 2 * TIGHT.websocket_message, TIGHT.http_head, TIGHT.http_body, 2 * TIGHT.queued_bytes)
    )
    assert most_events <= PIECE // len(repeated) + 3
    answered = name.endswith("invocations that wait") or name in {"pings", "empty pings", "informational responses"}
    if name not in ENDLESS and not answered:
        assert client.state is State.CLOSED
    if answered and not reads and state in {"connected", "packed"}:
        assert client.state is State.CLOSED


SERVER_FLOODS: dict[str, tuple[bool, bytes, bytes]] = {
    "head": (False, b"GET / HTTP/1.1\r\n", b"X: x\r\n"),
    "body": (False, b"POST /negotiate HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n", b"x"),
    "requests": (False, b"", SAID_BY_CLIENT["get"]),
    "one frame": (True, frame(b"", length=2**62, masked=True), b" "),
    "one record": (True, b"", frame(b" " * 1_000, masked=True)),
    "pings": (True, b"", frame(b"p" * 125, 9, masked=True)),
    "calls": (True, b"", SAID_BY_CLIENT["call 1"]),
    "cancellations": (True, b"", SAID_BY_CLIENT["cancel"]),
}


@pytest.mark.parametrize("name", SERVER_FLOODS)
def test_law_9_memory_of_a_server_is_bounded(name: str) -> None:
    is_connected, begin, repeated = SERVER_FLOODS[name]
    machine = server(limits=TIGHT)
    if is_connected:
        machine.receive_data(SAID_BY_CLIENT["upgrade"] + SAID_BY_CLIENT["handshake"], 0.0)

    def feed(piece: bytes) -> bool:
        machine.receive_data(piece, 0.0)
        take(machine)
        if name == "requests":
            machine.data_to_send()
        return machine.state is State.CLOSED

    assert peak_while(feed, flood(begin, repeated)) < 3 * ROOM
    assert (machine.state is State.CLOSED) == (name not in {"requests", "cancellations"})


def test_law_9_pending_calls_and_queued_bytes_are_bounded_for_the_application_too() -> None:
    peer = connected_peer(limits=TIGHT)
    client = peer.client
    assert isinstance(client, HubConnection)
    for _ in range(TIGHT.pending_calls):
        client.invoke("echo", now=0.0)
    assert client.pending_calls == TIGHT.pending_calls
    with pytest.raises(LocalProtocolError, match=r"at most 10 pending calls \(Limits.pending_calls\)"):
        client.invoke("echo", now=0.0)
    while client.queued_bytes + 1_100 <= TIGHT.queued_bytes:
        client.send("echo", ["x" * 1_000], now=0.0)
    with pytest.raises(LocalProtocolError, match=r"at most 25000 bytes waiting \(Limits.queued_bytes\)"):
        client.send("echo", ["x" * 1_000], now=0.0)
    assert client.queued_bytes <= TIGHT.queued_bytes
    peer.settle()
    client.send("echo", ["x" * 1_000], now=0.0)


def test_law_9_a_server_that_does_not_read_its_pongs_is_given_up() -> None:
    peer = connected_peer(limits=TIGHT)
    while peer.client.state is State.CONNECTED:
        peer.client.receive_data(frame(b"p" * 125, 9), 0.0)
    peer.settle()
    assert isinstance(peer.error, LimitExceeded)
    assert (peer.error.limit, peer.error.allowed) == ("queued_bytes", 2 * TIGHT.queued_bytes)


RESUMABLE_FLOODS: dict[str, bytes] = {
    "acks": hub_frame({"type": 8, "sequenceId": 1}),
    "sequences": hub_frame({"type": 9, "sequenceId": 1}),
    "duplicates": hub_frame({"type": 9, "sequenceId": 1}, {"type": 1, "target": "x" * 1_000, "arguments": []}),
    "questions": hub_frame({"type": 1, "invocationId": "x" * 1_000, "target": "t", "arguments": []}),
}


@pytest.mark.parametrize("name", [*RESUMABLE_FLOODS, "questions before the Sequence"])
def test_law_9_memory_of_a_connection_that_resumes_is_bounded(name: str) -> None:
    """Flushed after every piece, so that only what waits to be acknowledged can grow."""
    client = hub(limits=TIGHT, stateful_reconnect=True)
    peer = RawPeer(client)
    peer.negotiate(negotiated(useStatefulReconnect=True))
    peer.upgrade(HANDSHAKE)
    client.send("kept", ["x" * 5_000], now=0.0)
    if name not in RESUMABLE_FLOODS:
        peer.end()
        peer.upgrade()
    repeated = RESUMABLE_FLOODS.get(name, RESUMABLE_FLOODS["questions"])
    most_events = 0

    def feed(piece: bytes) -> bool:
        nonlocal most_events
        client.receive_data(piece, 0.0)
        client.data_to_send()
        most_events = max(most_events, len(take(client)))
        assert client.unacknowledged_bytes <= 5_100 + 2 * TIGHT.unacknowledged_bytes
        return client.state is State.CLOSED

    assert peak_while(feed, flood(b"", repeated)) < ROOM + 4 * TIGHT.unacknowledged_bytes
    assert most_events <= PIECE // len(repeated) + 3
    assert (client.state is State.CLOSED) == (name == "questions")
