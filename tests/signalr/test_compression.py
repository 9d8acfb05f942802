"""Compressed WebSocket messages (RFC 7692), in both roles.

The other end is wsproto's own extension, which shares no code with ours, or frames made by hand; the last tests join
our two roles. The sections are those of the RFC.
"""

from __future__ import annotations

import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Ping, Pong, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

from etorox_proto.signalr import (
    Closed,
    Completed,
    HubConnection,
    InvocationReceived,
    LimitExceeded,
    Limits,
    RemoteProtocolError,
    ServerConnection,
    State,
    UpgradeFailed,
)
from machines import (
    HANDSHAKE,
    RawPeer,
    bytewise,
    chunks,
    frame,
    hub,
    joined,
    negotiated,
    obliging,
    picture,
    records,
    server,
    take,
    whole,
)

TAIL = b"\x00\x00\xff\xff"
EXTENSION = "Sec-WebSocket-Extensions: permessage-deflate"
ROOMY = Limits(record=3_000, websocket_message=1_500)
SMALL = Limits(record=500, websocket_message=1_000, http_head=1_500, http_body=1_500)

UPGRADE = (
    "GET /hub HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
SHAKES_HANDS = frame(records({"protocol": "json", "version": 1}), masked=True)


def deflated(data: bytes, *, window: bytes = b"") -> bytes:
    """The payload of a compressed message; `window` is what the messages before it held."""
    deflater = zlib.compressobj(wbits=-15, zdict=window)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def told(target: str) -> bytes:
    """The record of an invocation."""
    return records({"type": 1, "target": target, "arguments": []})


def client_with(*headers: str, limits: Limits = SMALL, **config: Any) -> RawPeer:
    """A connected client that asked for compression, and was answered with these headers."""
    peer = RawPeer(hub(skip_negotiation=True, compression=True, limits=limits, **config))
    peer.upgrade(HANDSHAKE, *headers)
    peer.sent = peer.sent.partition(b"\r\n\r\n")[2]
    return peer


def is_compressed(peer: RawPeer) -> bool:
    """What the client says about it."""
    assert isinstance(peer.client, HubConnection)
    return peer.client.is_compressed


def server_asked(*offers: str, limits: Limits = SMALL, compression: bool = True) -> tuple[ServerConnection, str | None]:
    """A server of which a client asked for these extensions; what it answered to that."""
    machine = server(limits=limits, compression=compression)
    head = UPGRADE + "".join(f"Sec-WebSocket-Extensions: {offer}\r\n" for offer in offers) + "\r\n"
    machine.receive_data(head.encode() + SHAKES_HANDS, 0.0)
    assert machine.state is State.CONNECTED
    head = machine.data_to_send().partition(b"\r\n\r\n")[0].decode() + "\r\n"
    _, found, rest = head.partition("Sec-WebSocket-Extensions: ")
    return machine, rest.partition("\r\n")[0] if found else None


# ------------------------------------------------------------------------------------------------- negotiation


def test_nobody_asks_unless_told_to() -> None:
    assert b"Extensions" not in RawPeer(hub(skip_negotiation=True)).open()
    asking = RawPeer(hub(skip_negotiation=True, compression=True)).open()
    assert b"\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" in asking


def test_a_server_that_declines_leaves_the_connection_without() -> None:
    peer = client_with()
    assert peer.client.state is State.CONNECTED
    assert not is_compressed(peer)
    assert peer.said()[-1:] == [{"type": 6}]
    peer.feed(frame(deflated(told("x")), reserved=4))
    assert isinstance(peer.error, RemoteProtocolError)
    assert "Reserved bit" in str(peer.error)


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        "; client_no_context_takeover",
        "; server_no_context_takeover; client_no_context_takeover",
        "; server_max_window_bits=8",
        '; client_max_window_bits="12" ;server_max_window_bits = 15',
        "; client_max_window_bits=8",
    ],
)
def test_a_client_takes_every_answer_that_may_come(parameters: str) -> None:
    peer = client_with(EXTENSION + parameters)
    assert peer.client.state is State.CONNECTED
    assert is_compressed(peer)


@pytest.mark.parametrize(
    "answer",
    [
        "permessage-deflate; unknown",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        'permessage-deflate; server_max_window_bits="10',
        "permessage-deflate;",
        "permessage-deflate, permessage-deflate",
        "permessage-bzip2",
    ],
)
def test_any_other_answer_ends_the_connection(answer: str) -> None:
    peer = client_with(f"Sec-WebSocket-Extensions: {answer}")
    assert isinstance(peer.error, UpgradeFailed)
    assert "permessage-" in str(peer.error)


def test_an_answer_that_was_not_asked_for_ends_the_connection() -> None:
    peer = RawPeer(hub(skip_negotiation=True))
    peer.upgrade(HANDSHAKE, EXTENSION)
    assert isinstance(peer.error, UpgradeFailed)


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        (["permessage-deflate"], "permessage-deflate"),
        (["permessage-deflate; client_max_window_bits"], "permessage-deflate"),
        (["permessage-deflate; client_max_window_bits=9"], "permessage-deflate"),
        (["permessage-deflate; server_max_window_bits=9"], "permessage-deflate; server_max_window_bits=9"),
        (
            ["permessage-deflate; server_no_context_takeover; client_no_context_takeover"],
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        (["permessage-deflate; unknown, permessage-deflate; server_max_window_bits=8, permessage-deflate"], "8"),
        (["permessage-deflate; server_max_window_bits"], None),
        (["permessage-deflate; server_max_window_bits=16"], None),
        (["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], None),
        (["something-else", "permessage-deflate"], "permessage-deflate"),
        (["something-else"], None),
        ([], None),
    ],
)
def test_a_server_takes_the_first_offer_that_it_can(offers: list[str], answer: str | None) -> None:
    expected = "permessage-deflate; server_max_window_bits=8" if answer == "8" else answer
    machine, got = server_asked(*offers)
    assert (got, machine.is_compressed) == (expected, expected is not None)


def test_a_server_compresses_nothing_unless_told_to() -> None:
    machine, got = server_asked("permessage-deflate", compression=False)
    assert (got, machine.is_compressed) == (None, False)


@pytest.mark.parametrize("role", ["client", "server"])
def test_with_the_smallest_window_messages_are_sent_as_they_are(role: str) -> None:
    if role == "client":
        peer = client_with(EXTENSION + "; client_max_window_bits=8")
        peer.sent = b""
        peer.client.close(now=0.0)
        peer.settle()
        assert peer.said()[0] == {"type": 7}
    else:
        machine, _ = server_asked("permessage-deflate; server_max_window_bits=8")
        machine.send("told", now=0.0)
        assert machine.data_to_send() == frame(
            records({"type": 1, "target": "told", "arguments": []}).replace(b" ", b"")
        )


# ------------------------------------------------------------------------- against wsproto's own extension

BITS = st.none() | st.integers(9, 15)
PARAMETERS = st.fixed_dictionaries(
    {
        "client_no_context_takeover": st.booleans(),
        "server_no_context_takeover": st.booleans(),
        "client_max_window_bits": BITS,
        "server_max_window_bits": BITS,
    }
)
# Repeated and not, short and long, and longer than the smallest windows.
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["x" * 3_000, "buy the dip " * 500, "é€😀" * 100]),
    st.integers(0, 2**64).map(lambda seed: "".join(str(seed * n**7) for n in range(500))),
)
CUTS = st.sampled_from([whole, bytewise, chunks(1), chunks(2)])
Cut = Callable[[bytes], Iterable[bytes]]


class Independent:
    """A WebSocket of wsproto's with its own extension, as the partner of a machine."""

    def __init__(self, kind: ConnectionType, parameters: dict[str, Any], cut: Cut) -> None:
        self.ws = WSConnection(kind)
        self.deflate = PerMessageDeflate(**parameters)
        self.cut = cut
        self.heard = ""
        self.pongs = 0
        self.is_open = False

    def hear(self, data: bytes) -> bytes:
        """Take bytes from the machine; what they are answered with."""
        answer = b""
        for piece in self.cut(data):
            self.ws.receive_data(piece)
            for event in self.ws.events():
                match event:
                    case Request():
                        answer += self.ws.send(AcceptConnection(extensions=[self.deflate]))
                    case AcceptConnection():
                        self.is_open = True
                    case TextMessage():
                        self.heard += event.data
                    case Pong():
                        self.pongs += 1
                    case _:
                        raise AssertionError(event)
        return answer

    def say(self, text: str, pieces: int = 1) -> bytes:
        """A message in so many frames, with a ping between any two."""
        size = max(1, -(-len(text) // pieces))
        parts = [text[i : i + size] for i in range(0, len(text), size)] or [""]
        said = b""
        for part in parts[:-1]:
            said += self.ws.send(TextMessage(data=part, message_finished=False)) + self.ws.send(Ping(payload=b"still?"))
        return said + self.ws.send(TextMessage(data=parts[-1]))


EXCHANGES = st.lists(st.tuples(TEXTS, TEXTS, st.integers(1, 4)), max_size=4)


@settings(max_examples=60, deadline=None)
@given(parameters=PARAMETERS, cut=CUTS, exchanges=EXCHANGES)
def test_a_client_understands_an_independent_server(
    parameters: dict[str, Any], cut: Cut, exchanges: list[tuple[str, str, int]]
) -> None:
    partner = Independent(ConnectionType.SERVER, parameters, whole)
    peer = RawPeer(hub(skip_negotiation=True, compression=True), cut)
    peer.feed(partner.hear(peer.open()) + partner.say("{}\x1e"))
    assert is_compressed(peer)
    peer.sent = peer.sent.partition(b"\r\n\r\n")[2]
    told_us, told_them = [], []
    for ours, theirs, pieces in exchanges:
        assert isinstance(peer.client, HubConnection)
        peer.client.send("they", [ours], now=0.0)
        told_them.append(ours)
        peer.settle()
        message = partner.say(records({"type": 1, "target": "we", "arguments": [theirs]}).decode(), pieces)
        told_us.append(theirs)
        peer.feed(message)
    partner.cut = cut
    assert partner.hear(peer.sent) == b""
    assert [event.arguments[0] for event in peer.events if isinstance(event, InvocationReceived)] == told_us
    assert heard_arguments(partner) == told_them
    assert (partner.pongs > 0) == any(pieces > 1 for _, _, pieces in exchanges)


@settings(max_examples=60, deadline=None)
@given(parameters=PARAMETERS, cut=CUTS, exchanges=EXCHANGES)
def test_a_server_understands_an_independent_client(
    parameters: dict[str, Any], cut: Cut, exchanges: list[tuple[str, str, int]]
) -> None:
    partner = Independent(ConnectionType.CLIENT, parameters, cut)
    machine = server(compression=True)
    events: list[Any] = []

    def tell(data: bytes) -> None:
        for piece in cut(data):
            machine.receive_data(piece, 0.0)
            events.extend(take(machine))

    tell(partner.ws.send(Request(host="h", target="/hub", extensions=[partner.deflate])))
    partner.hear(machine.data_to_send())
    assert partner.is_open
    assert machine.is_compressed
    tell(partner.say('{"protocol":"json","version":1}\x1e'))
    for theirs, ours, pieces in exchanges:
        tell(partner.say(records({"type": 1, "target": "we", "arguments": [theirs]}).decode(), pieces))
        machine.send("they", [ours], now=0.0)
    partner.hear(machine.data_to_send())
    received = [event.arguments[0] for event in events if isinstance(event, InvocationReceived)]
    assert received == [theirs for theirs, _, _ in exchanges]
    assert heard_arguments(partner) == [ours for _, ours, _ in exchanges]


def heard_arguments(partner: Independent) -> list[str]:
    messages = [json.loads(record) for record in partner.heard.split("\x1e")[:-1]]
    return [message["arguments"][0] for message in messages if message.get("type") == 1]


# -------------------------------------------------------------------------------- what may be compressed, by hand

HELLO = {
    "7.2.3.1, one block": frame(b"\xf2\x48\xcd\xc9\xc9\x07\x00", reserved=4),
    "7.2.3.1, two frames": frame(b"\xf2\x48\xcd", reserved=4, fin=False) + frame(b"\xc9\xc9\x07\x00", 0),
    "7.2.3.3, not compressed": frame(b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", reserved=4),
    "7.2.3.4, a final block": frame(b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", reserved=4),
    "7.2.3.5, two blocks": frame(b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", reserved=4),
    "a ping between": frame(b"\xf2\x48", reserved=4, fin=False)
    + frame(b"p", 9)
    + frame(b"\xcd\xc9", 0, fin=False)
    + frame(b"", 0, fin=False)
    + frame(b"p", 9)
    + frame(b"\xc9\x07\x00", 0),
    "nothing, in two ways": frame(b"\x00", reserved=4) + frame(b"", reserved=4) * 2 + frame(b"Hello"),
    "nothing, then something": frame(b"", reserved=4, fin=False) + frame(b"\xf2\x48\xcd\xc9\xc9\x07\x00", 0),
    "a message that is not compressed": frame(b"Hel", fin=False) + frame(b"lo", 0),
}


@pytest.mark.parametrize("cut", [whole, bytewise], ids=["whole", "bytewise"])
@pytest.mark.parametrize("parameters", ["", "; server_no_context_takeover"])
@pytest.mark.parametrize("name", HELLO)
def test_the_examples_of_the_rfc_are_read(name: str, parameters: str, cut: Cut) -> None:
    """A record that goes on over several WebSocket messages, as it may, has the word of the RFC in the middle."""
    peer = client_with(EXTENSION + parameters)
    peer.chunking = cut
    begin, end = told("Hello").split(b"Hello")
    for _ in range(2):
        peer.feed(frame(begin) + HELLO[name] + frame(deflated(end), reserved=4))
    assert [event.target for event in peer.events if isinstance(event, InvocationReceived)] == ["Hello", "Hello"]


def test_a_message_may_refer_to_those_before_it() -> None:
    peer = client_with(EXTENSION)
    again = b"\xf2\x00\x11\x00\x00"  # section 7.2.3.2: "Hello" once more
    begin, end = told("Hello").split(b"Hello")
    peer.feed(frame(begin) + HELLO["7.2.3.1, one block"] + frame(end))
    for _ in range(2):
        peer.feed(frame(begin) + frame(again, reserved=4) + frame(end))
    assert [event.target for event in peer.events if isinstance(event, InvocationReceived)] == ["Hello"] * 3


def test_a_message_may_refer_over_final_blocks() -> None:
    """They end the stream for zlib, and neither the message nor the window."""
    peer = client_with(EXTENSION)
    words = [told(word) for word in ("first", "second", "third")]
    payload = b""
    for i, word in enumerate(words):
        deflater = zlib.compressobj(wbits=-15, zdict=b"".join(words[:i]))
        payload += deflater.compress(word) + deflater.flush(zlib.Z_FINISH)
    peer.feed(frame(payload + b"\x00", reserved=4))
    peer.feed(frame(deflated(words[0], window=b"".join(words)), reserved=4))
    targets = [event.target for event in peer.events if isinstance(event, InvocationReceived)]
    assert targets == ["first", "second", "third", "first"]


def test_a_message_may_refer_over_a_final_block_to_one_without() -> None:
    peer = client_with(EXTENSION)
    first, second = told("first"), told("second")
    peer.feed(frame(deflated(first), reserved=4))
    peer.feed(frame(deflated(second, window=first), reserved=4))
    # A final block with nothing in it comes first, and what follows refers to what was before it.
    peer.feed(frame(b"\x03\x00" + deflated(first + second, window=first + second), reserved=4))
    targets = [event.target for event in peer.events if isinstance(event, InvocationReceived)]
    assert targets == ["first", "second", "first", "second"]


def test_a_message_must_not_refer_to_those_before_it_where_that_was_agreed() -> None:
    peer = client_with(EXTENSION + "; server_no_context_takeover")
    word = told("first")
    peer.feed(frame(deflated(word), reserved=4))
    peer.feed(frame(deflated(word, window=word), reserved=4))
    assert isinstance(peer.error, RemoteProtocolError)


# ------------------------------------------------------------------------------------------- what may not come

BAD = {
    "corrupt": (frame(b"\xff" * 20, reserved=4), "compressed data that is corrupt", 1007),
    "not UTF-8": (frame(deflated(b"\xff"), reserved=4), "text that is not UTF-8", 1007),
    "a compressed ping": (frame(b"", 9, reserved=4), "a compressed frame that does not begin a message", 1002),
    "a compressed continuation": (
        frame(deflated(b" "), reserved=4, fin=False) + frame(b"", 0, reserved=4),
        "a compressed frame that does not begin a message",
        1002,
    ),
    "a message inside another": (
        frame(deflated(b" "), reserved=4, fin=False) + frame(b" "),
        "a message inside another, or the rest of none",
        1002,
    ),
    "the rest of none": (frame(b"", 0), "a message inside another, or the rest of none", 1002),
    "another reserved bit": (frame(b"", reserved=2), "Reserved bit set unexpectedly", 1002),
}


@pytest.mark.parametrize("cut", [whole, bytewise], ids=["whole", "bytewise"])
@pytest.mark.parametrize("name", BAD)
def test_what_may_not_come_ends_the_connection(name: str, cut: Cut) -> None:
    data, got, code = BAD[name]
    peer = client_with(EXTENSION)
    peer.sent = b""
    peer.chunking = cut
    peer.feed(data)
    assert isinstance(peer.error, RemoteProtocolError)
    assert (peer.error.expected, peer.error.got) == ("a WebSocket frame as in RFC 6455", got)
    assert [each[:2] for each in peer.said()] == [("close", code)]


@pytest.mark.parametrize("cut", [whole, bytewise], ids=["whole", "bytewise"])
@pytest.mark.parametrize("size", [999, 1_000, 1_001, 5_000, 100_000])
@pytest.mark.parametrize("opcode", [1, 2])
def test_the_limit_counts_what_was_inflated(size: int, opcode: int, cut: Cut) -> None:
    peer = client_with(EXTENSION, limits=Limits(websocket_message=1_000))
    peer.sent = b""
    peer.chunking = cut
    payload = deflated(b" " * (size - 11) + b'{"type":6}\x1e')
    assert len(payload) < 500
    peer.feed(frame(payload, opcode, reserved=4))
    if size <= 1_000:
        assert peer.client.state is State.CONNECTED
    else:
        assert isinstance(peer.error, LimitExceeded)
        assert (peer.error.limit, peer.error.allowed) == ("websocket_message", 1_000)
        assert peer.said()[0][:2] == ("close", 1_009)


def payloads() -> st.SearchStrategy[bytes]:
    """What stands in compressed messages: sense, faults of every kind, and these one behind the other."""
    text = st.one_of(
        st.lists(st.sampled_from(["x", "first", "é😀"]), max_size=3).map(lambda words: b"".join(map(told, words))),
        st.integers(1_300, 1_600).map(lambda size: b" " * (size - 11) + b'{"type":6}\x1e'),
        st.integers(1_300, 1_600).map(lambda size: b"\xff" + b" " * size),
        st.integers(1_300, 1_600).map(lambda size: b" " * size + b"\xff"),
        st.integers(1_498, 1_503).map(lambda size: b" " * size),
        st.binary(max_size=30),
        # Longer than what zlib reads at once, compressed or not.
        st.integers(0, 2**32).map(lambda seed: b"".join((seed * n**5).to_bytes(32) for n in range(40))),
    )
    block = st.one_of(
        text.map(deflated),
        text.map(lambda data: zlib.compress(data, wbits=-15)),  # a final block
        st.binary(max_size=30),
        st.just(b"\x00\x00\x00\xff\xff" * 300),
    )
    return st.lists(block, min_size=1, max_size=3).map(b"".join)


def frames() -> st.SearchStrategy[list[tuple[bytes, int, bool, int]]]:
    """Payload, opcode, end and reserved bits of each frame; most of them make messages."""
    message = st.tuples(payloads(), st.sampled_from([1, 2]), st.sampled_from([4, 4, 4, 0]), st.integers(1, 3)).map(
        in_frames
    )
    stray = st.tuples(st.binary(max_size=5), st.sampled_from([0, 1, 9]), st.booleans(), st.sampled_from([0, 4, 2]))
    return st.lists(message | stray.map(lambda one: [one]), max_size=5).map(
        lambda each: [one for several in each for one in several]
    )


def in_frames(message: tuple[bytes, int, int, int]) -> list[tuple[bytes, int, bool, int]]:
    payload, opcode, reserved, pieces = message
    size = max(1, -(-len(payload) // pieces))
    parts = [payload[i : i + size] for i in range(0, len(payload), size)] or [b""]
    made: list[tuple[bytes, int, bool, int]] = []
    for i, part in enumerate(parts):
        begins, ends = i == 0, i == len(parts) - 1
        made.append((part, opcode if begins else 0, ends, reserved if begins else 0))
        made.append((b"p", 9, True, 0))
    return made


@pytest.mark.parametrize("parameters", ["", "; server_no_context_takeover; client_no_context_takeover"])
@pytest.mark.parametrize("role", ["client", "server"])
@settings(max_examples=400, deadline=None)
@given(said=frames(), seed=st.integers(0, 2**32))
def test_chunking_does_not_matter(
    role: str, parameters: str, said: list[tuple[bytes, int, bool, int]], seed: int
) -> None:
    def run(cut: Cut) -> Any:
        machine: HubConnection | ServerConnection
        if role == "client":
            peer = client_with(EXTENSION + parameters, limits=ROOMY)
            assert isinstance(peer.client, HubConnection)
            machine = peer.client
        else:
            machine, _ = server_asked("permessage-deflate" + parameters, limits=ROOMY)
        events = []
        for piece in cut(
            b"".join(
                frame(payload, opcode, fin=fin, reserved=reserved, masked=role == "server")
                for payload, opcode, fin, reserved in said
            )
        ):
            machine.receive_data(piece, 0.0)
            events += take(machine)
        return [picture(event) for event in events], machine.state

    expected = run(whole)
    assert run(bytewise) == expected
    assert run(chunks(seed)) == expected


@pytest.mark.parametrize("size", [1_499, 1_500, 1_501, 1_502])
@pytest.mark.parametrize("bad", [b"\x07", b"\xff\xff\xff"])
def test_chunking_does_not_matter_where_a_message_is_too_long_and_corrupt_in_one(size: int, bad: bytes) -> None:
    """There zlib finds the one or the other first, after how much it is given at once."""
    payload = deflated(b" " * size) + TAIL + bad
    outcomes = []
    for cut in (whole, bytewise, chunks(1)):
        peer = client_with(EXTENSION, limits=ROOMY)
        peer.chunking = cut
        peer.feed(frame(payload, reserved=4))
        outcomes.append(picture(peer.error))
    assert outcomes == outcomes[:1] * 3
    if size != 1_501:  # just there it depends on the version of zlib
        assert (outcomes[0][0] == "LimitExceeded") == (size > 1_501)


# ------------------------------------------------------------------------------------------------------ memory

MEGABYTE = 1_048_576


def bombs() -> dict[str, bytes]:
    """The payloads of messages that are small, and inflate to a lot; or to nothing, at some length."""
    deflater = zlib.compressobj(wbits=-15)
    flat = b"".join(deflater.compress(b" " * MEGABYTE) for _ in range(256)) + deflater.flush(zlib.Z_SYNC_FLUSH)
    final = zlib.compress(b" " * MEGABYTE, wbits=-15)
    return {
        "a quarter of a gigabyte": flat,
        "final blocks": final * 64,
        "empty blocks": b"\x00\x00\x00\xff\xff" * 50_000,
        "empty final blocks": b"\x03\x00" * 50_000,
    }


BOMBS = bombs()


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("piece", [1_000, 8_192, 1 << 30], ids=["pieces of 1000", "pieces of 8192", "whole"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_small_message_takes_little_memory(name: str, piece: int, role: str) -> None:
    limits = Limits(record=50_000, websocket_message=50_000)
    machine: Any
    if role == "client":
        machine = client_with(EXTENSION, limits=limits).client
    else:
        machine, _ = server_asked("permessage-deflate", limits=limits)
    sent = frame(BOMBS[name], reserved=4, masked=role == "server")
    pieces = [sent[i : i + piece] for i in range(0, len(sent), piece)]
    tracemalloc.start()
    try:
        for each in pieces:
            machine.receive_data(each, 0.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Copies of what is read at once, and of a message; and what zlib holds.
    assert peak < 6 * min(piece, 50_000) + 4 * 50_000 + 100_000 + (2 * len(sent) if piece > len(sent) else 0)
    if "empty" in name:
        assert machine.state is State.CONNECTED
    else:
        (closed,) = (event for event in take(machine) if isinstance(event, Closed))
        assert isinstance(closed.error, LimitExceeded)


# --------------------------------------------------------------------------------------------- our two roles


@pytest.mark.parametrize("again", [True, False])
def test_a_stream_that_takes_the_place_of_another_begins_afresh(again: bool) -> None:
    """What one stream agreed on, and what its messages held, is nothing to the next."""
    peer = RawPeer(hub(stateful_reconnect=True, compression=True))
    peer.negotiate(negotiated(useStatefulReconnect=True))
    peer.upgrade(HANDSHAKE, EXTENSION)
    word = told("first")
    peer.feed(frame(deflated(word), reserved=4))
    peer.end()
    assert not is_compressed(peer), "there is no stream"
    peer.upgrade(b"", *([EXTENSION] if again else []))
    assert is_compressed(peer) == again
    goes_on = records({"type": 9, "sequenceId": 2}) + word
    peer.feed(frame(deflated(goes_on), reserved=4) if again else frame(goes_on))
    assert peer.client.state is State.CONNECTED
    peer.feed(frame(deflated(word, window=goes_on), reserved=4) if again else frame(word))
    assert [event.target for event in peer.events if isinstance(event, InvocationReceived)] == ["first"] * 3


@pytest.mark.parametrize("encoding", ["json", "messagepack"])
@pytest.mark.parametrize("cut", [whole, bytewise, chunks(3)], ids=["whole", "bytewise", "chunks"])
@pytest.mark.parametrize("server_does", [True, False])
@pytest.mark.parametrize("client_does", [True, False])
def test_both_roles_agree(client_does: bool, server_does: bool, cut: Cut, encoding: Any) -> None:
    client = hub(compression=client_does, encoding=encoding)
    pair = joined(client, answer=obliging, chunking=cut, compression=server_does)
    assert client.state is State.CONNECTED
    assert client.is_compressed == pair.partner.is_compressed == (client_does and server_does)
    argument = "buy the dip " * 50
    calls = [client.invoke("echo", [argument, i], now=0.0) for i in range(10)]
    asked = client.queued_bytes
    pair.drive()
    results = {event.call: event.result for event in pair.events if isinstance(event, Completed)}
    assert [results[call] for call in calls] == [[argument, i] for i in range(10)]
    assert (asked < 1_000) == client.is_compressed
    pair.advance(100)
    assert client.state is State.CONNECTED, "pings kept it alive"
    client.close(now=pair.now)
    pair.drive()
    assert [event.error for event in (pair.events[-1], pair.server_events[-1])] == [None, None]
