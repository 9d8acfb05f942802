"""The strategies draw what they say, quickly, and what they draw shrinks to the smallest cause."""

from __future__ import annotations

import contextlib
import math
import typing
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Ping, Pong
from wsproto.utilities import RemoteProtocolError as WebSocketFault

from etorox_proto import Row, encode_event, event_decoder
from etorox_proto.signalr import (
    HandshakeRefused,
    HubConfig,
    HubConnection,
    HubMessage,
    JsonCodec,
    LengthPrefixReader,
    LimitExceeded,
    MessagePackCodec,
    NegotiateResponse,
    NegotiationFailed,
    RecordReader,
    RemoteProtocolError,
    State,
    parse_handshake_request,
    parse_handshake_response,
    parse_negotiate_response,
)
from etorox_proto.simulator import SimulatedMarket
from etorox_proto.testing import (
    FakeExchange,
    Fault,
    FaultKind,
    VirtualNetwork,
    accept_websocket,
    http_reply,
    websocket_frame,
)
from etorox_proto.testing import strategies as drawn
from machines import exchange
from planted import ForgetsTheTail, LimitOffByOne, LosesEmpty, OneTooFew, PrefixedReader, Reader

encodings = pytest.mark.parametrize("encoding", ["json", "messagepack"])
KINDS: tuple[type[HubMessage], ...] = typing.get_args(HubMessage)[:-1]

EVERYTHING: dict[str, st.SearchStrategy[Any]] = {
    "chunkings": st.binary(max_size=200).flatmap(drawn.chunkings),
    "damaged": drawn.damaged([b'{"type":6}', b"x" * 100]),
    "plain_values": drawn.plain_values(),
    "plain_values in MessagePack": drawn.plain_values("messagepack"),
    "payloads": drawn.payloads(),
    "hub_messages": drawn.hub_messages(),
    "hub_messages in MessagePack": drawn.hub_messages(encoding="messagepack"),
    **{f"hub_messages({kind.__name__})": drawn.hub_messages(kind) for kind in KINDS},
    "boundary_messages": drawn.boundary_messages(1_000),
    "malformed_records": drawn.malformed_records(),
    "malformed_records in MessagePack": drawn.malformed_records("messagepack"),
    "record_streams": drawn.record_streams(),
    "record_streams in MessagePack": drawn.record_streams("messagepack"),
    "handshake_exchanges": drawn.handshake_exchanges(),
    "negotiate_responses": drawn.negotiate_responses(),
    "negotiate_bodies": drawn.negotiate_bodies(),
    "http_replies": drawn.http_replies(),
    "bad_http_replies": drawn.bad_http_replies(),
    "websocket_messages": drawn.websocket_messages(st.binary(max_size=200)),
    "control_frames": drawn.control_frames(),
    "broken_frames": drawn.broken_frames(),
    "frame_sequences": drawn.frame_sequences(st.binary(max_size=50), broken=True),
    "market_events": drawn.market_events(),
    "rows": drawn.rows(),
    "instruments": drawn.instruments(),
    "order_flows": drawn.order_flows(),
    "moments": drawn.moments(),
    "clocks": drawn.clocks(),
    "fault_schedules": drawn.fault_schedules(),
    "commands": drawn.commands(["invoke", "close"]),
    "programs": drawn.programs(["invoke", "close"]),
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_no_strategy_is_slow_or_filters_much(name: str) -> None:
    """Every health check of Hypothesis is on: for slow draws, for many thrown away, for large ones."""

    @settings(max_examples=200, suppress_health_check=[], phases=[Phase.generate], database=None)
    @given(EVERYTHING[name])
    def draw(_value: Any) -> None:
        drawings.append(name)

    drawings: list[str] = []
    draw()
    assert drawings


def test_every_public_strategy_is_among_them() -> None:
    named = {name.partition("(")[0].partition(" ")[0] for name in EVERYTHING}
    strategies = {name for name in drawn.__all__ if name[0].islower()}
    assert strategies - {"selectors"} == named


# ------------------------------------------------------------------------------------------ they say what they draw


def codec(encoding: Any) -> JsonCodec | MessagePackCodec:
    return JsonCodec() if encoding == "json" else MessagePackCodec()


def body(message: HubMessage, encoding: Any) -> bytes:
    (record,) = codec(encoding).reader(1 << 30).feed(codec(encoding).encode(message))
    return record


@encodings
@given(data=st.data())
def test_sound_messages_come_back_equal(encoding: Any, data: st.DataObject) -> None:
    message = data.draw(drawn.hub_messages(encoding=encoding))
    assert codec(encoding).decode(body(message, encoding)) == message


@encodings
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(data=st.data())
def test_kinds_are_what_was_asked_for(encoding: Any, kind: type[HubMessage], data: st.DataObject) -> None:
    assert isinstance(data.draw(drawn.hub_messages(kind, encoding=encoding)), kind)


@encodings
@given(data=st.data())
def test_plain_values_come_back_equal(encoding: Any, data: st.DataObject) -> None:
    value = data.draw(drawn.plain_values(encoding))
    payload = codec(encoding).encode_payload(value, "it")
    assert codec(encoding).payload_decoder(Any)(payload) == value


@encodings
@settings(max_examples=400)
@given(data=st.data())
def test_malformed_records_are_refused(encoding: Any, data: st.DataObject) -> None:
    with pytest.raises(RemoteProtocolError):
        codec(encoding).decode(data.draw(drawn.malformed_records(encoding)))


@encodings
@given(data=st.data(), limit=st.integers(100, 300) | st.integers(65_530, 65_570))
def test_boundary_messages_are_at_the_boundary(encoding: Any, data: st.DataObject, limit: int) -> None:
    message, length = data.draw(drawn.boundary_messages(limit, encoding))
    assert len(body(message, encoding)) == length
    assert abs(length - limit) <= 1
    reader = codec(encoding).reader(limit)
    with pytest.raises(LimitExceeded) if length > limit else contextlib.nullcontext():
        reader.feed(codec(encoding).encode(message))


@encodings
@pytest.mark.parametrize("limits", [range(100, 300), range(65_530, 65_570)])
def test_every_boundary_can_be_met(encoding: Any, limits: range) -> None:
    """Also where a text needs a longer prefix."""
    for limit in limits:
        message, length = smallest(drawn.boundary_messages(limit, encoding), lambda _case: True)
        assert length == len(body(message, encoding)) == limit


@encodings
@given(data=st.data())
def test_record_streams_hold_their_records(encoding: Any, data: st.DataObject) -> None:
    stream = data.draw(drawn.record_streams(encoding))
    reader: RecordReader | LengthPrefixReader = codec(encoding).reader(1 << 20)
    found = [record for piece in data.draw(drawn.chunkings(stream.data)) for record in reader.feed(piece)]
    assert tuple(found) == stream.records
    assert reader.incomplete == stream.tail


@given(data=st.data(), original=st.binary(max_size=100))
def test_chunkings_are_the_whole_in_pieces(data: st.DataObject, original: bytes) -> None:
    pieces = data.draw(drawn.chunkings(original))
    assert b"".join(pieces) == original
    assert b"" not in pieces


@given(exchanged=drawn.handshake_exchanges("messagepack"))
def test_handshakes_end_as_they_say(exchanged: drawn.HandshakeExchange) -> None:
    assert parse_handshake_request(exchanged.request[:-1]).protocol == "messagepack"
    try:
        parse_handshake_response(exchanged.response[:-1])
    except HandshakeRefused:
        assert exchanged.outcome == "refused"
    except RemoteProtocolError:
        assert exchanged.outcome == "malformed"
    else:
        assert exchanged.outcome == "accepted"


@given(response=drawn.negotiate_responses())
def test_negotiate_responses_come_back_equal(response: NegotiateResponse) -> None:
    assert parse_negotiate_response(msgspec.json.encode(response)) == response


@given(body=drawn.negotiate_bodies())
def test_negotiate_bodies_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(NegotiationFailed):
        parse_negotiate_response(body)


NEGOTIATED = msgspec.json.encode(
    {
        "negotiateVersion": 1,
        "connectionId": "c",
        "connectionToken": "t",
        "availableTransports": [{"transport": "WebSockets", "transferFormats": ["Text"]}],
    }
)


@given(reply=drawn.http_replies(st.just(NEGOTIATED)))
def test_http_replies_are_sound(reply: bytes) -> None:
    """A client reads them to their end: it goes on, or knows the status of the refusal."""
    client = HubConnection(HubConfig(url="https://hub.test/"), now=0.0)
    client.stream_opened(0.0)
    client.receive_data(reply, 0.0)
    if client.state is State.NEGOTIATING:
        client.receive_data(b"", 0.0)
    events = list(iter(client.next_event, None))
    error = getattr(events[-1], "error", None)
    assert client.state is State.UPGRADING or (isinstance(error, NegotiationFailed) and error.status is not None)


@given(reply=drawn.bad_http_replies())
def test_bad_http_replies_end_the_attempt(reply: bytes) -> None:
    client = HubConnection(HubConfig(url="https://hub.test/"), now=0.0)
    client.stream_opened(0.0)
    client.receive_data(reply, 0.0)
    client.receive_data(b"", 0.0)
    assert client.state is State.CLOSED


def upgraded() -> WSConnection:
    """A WebSocket client of another library, connected."""
    client = WSConnection(ConnectionType.SERVER)
    headers = [(b"host", b"h"), (b"upgrade", b"websocket"), (b"connection", b"upgrade")]
    key = [(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"sec-websocket-version", b"13")]
    client.initiate_upgrade_connection([*headers, *key], "/")
    client.send(AcceptConnection())
    assert len(list(client.events())) == 1
    return client


@given(payloads=st.lists(st.text(max_size=50), max_size=3), data=st.data())
def test_websocket_messages_are_read_by_another_library(payloads: list[str], data: st.DataObject) -> None:
    heard = [""]
    peer = upgraded()
    for payload in payloads:
        wire = data.draw(drawn.websocket_messages(st.just(payload.encode()), masked=True))
        peer.receive_data(wire)
    for event in peer.events():
        match event:
            case Message():
                heard[-1] += event.data
                if event.message_finished:
                    heard.append("")
            case _:
                assert isinstance(event, Ping | Pong)
    assert heard == [*payloads, ""]


@given(wire=drawn.broken_frames(masked=True))
def test_broken_frames_are_refused_by_another_library(wire: bytes) -> None:
    peer = upgraded()
    with pytest.raises(WebSocketFault):
        _hear(peer, wire)


def _hear(peer: WSConnection, wire: bytes) -> None:
    peer.receive_data(wire)
    for event in peer.events():
        assert isinstance(event, CloseConnection)
        raise WebSocketFault(str(event.reason))


@given(row=drawn.rows())
def test_rows_have_what_they_select(row: Row) -> None:
    assert row.fields
    assert set(row.fields) <= set(type(row).__struct_fields__)


@given(data=st.data())
def test_market_events_come_back_equal(data: st.DataObject) -> None:
    event = data.draw(drawn.market_events())
    assert event_decoder()(encode_event(event)) == event


@settings(max_examples=40)
@given(traded=st.lists(drawn.instruments(), min_size=1, unique_by=lambda each: each.id))
def test_instruments_can_be_traded(traded: list[Any]) -> None:
    market = SimulatedMarket(instruments=traded, rate=math.inf, now=0.0, unix_time=0.0)
    assert {each.channel for each in market.advance(1.0)} <= {each.id for each in traded}


# ------------------------------------------------------------------------------------------------------- faults


@settings(max_examples=50)
@given(faults=drawn.fault_schedules())
def test_an_attempt_ends_whatever_goes_wrong(faults: list[Fault]) -> None:
    """No schedule of faults keeps a connection from knowing, in time, that it is at an end."""
    assert [fault.after for fault in faults] == sorted(fault.after for fault in faults)
    network = VirtualNetwork()
    listener = network.listen(FakeExchange(network), "ex.test")
    driver = network.drive(exchange())
    for fault in faults:
        fault.schedule(network, listener)
    network.run_for(300.0)
    listener.restart(1.0)
    network.run_for(300.0)
    assert driver.is_closed


@pytest.mark.parametrize("kind", typing.get_args(FaultKind))
def test_a_fault_happens_to_something(kind: FaultKind) -> None:
    network = VirtualNetwork()
    listener = network.listen(FakeExchange(network), "ex.test")
    network.drive(exchange())
    assert Fault(kind="reset").strike(network, listener) is None
    network.run_for(5.0)
    struck = Fault(kind=kind, which=7).strike(network, listener)
    assert struck is (listener if kind in {"refuse", "ignore", "tls", "restart"} else listener.streams[0])


def test_a_schedule_shrinks_to_one_early_fault() -> None:
    faults = smallest(drawn.fault_schedules(), lambda faults: any(fault.kind == "restart" for fault in faults))
    assert faults == [Fault(kind="restart", seconds=0.01, how="reset")]


# ------------------------------------------------------------------------------- what they draw shrinks to the cause


def smallest(strategy: st.SearchStrategy[Any], condition: Callable[[Any], bool]) -> Any:
    return find(strategy, condition, settings=settings(max_examples=10_000, database=None, derandomize=True))


@st.composite
def cut_streams(
    draw: st.DrawFn, encoding: Any = "json", *, bodies: Any = None
) -> tuple[drawn.RecordStream, list[bytes]]:
    stream = draw(drawn.record_streams(encoding, bodies=bodies))
    return stream, draw(drawn.chunkings(stream.data))


def differs(reader: Callable[[], Any]) -> Callable[[tuple[drawn.RecordStream, list[bytes]]], bool]:
    """Whether a reader finds other records than there are."""

    def fails(case: tuple[drawn.RecordStream, list[bytes]]) -> bool:
        stream, pieces = case
        fed = reader()
        try:
            return tuple(record for piece in pieces for record in fed.feed(piece)) != stream.records
        except LimitExceeded:
            return True

    return fails


anything = st.binary(max_size=200).map(lambda data: data.replace(b"\x1e", b""))
ping = b'{"type":6}'


def test_the_sound_copy_fails_nowhere() -> None:
    with pytest.raises(NoSuchExample):
        smallest(cut_streams(bodies=anything), differs(Reader))


def test_a_forgotten_tail_shrinks_to_one_record_in_two_pieces() -> None:
    stream, pieces = smallest(cut_streams(), differs(ForgetsTheTail))
    assert stream.records == (ping,)
    assert pieces == [ping[:1], ping[1:] + b"\x1e"]


def test_a_lost_record_shrinks_to_three_that_come_at_once() -> None:
    stream, pieces = smallest(cut_streams(), differs(OneTooFew))
    assert stream.records == (ping,) * 3
    assert pieces == [stream.data]


def test_a_limit_that_is_off_by_one_shrinks_to_one_record_of_that_length() -> None:
    at_the_edge = drawn.boundary_messages(200).map(lambda case: body(case[0], "json"))
    stream, pieces = smallest(cut_streams(bodies=at_the_edge), differs(lambda: LimitOffByOne(200)))
    assert [len(record) for record in stream.records] == [200]
    assert pieces == [stream.data]


def test_a_lost_empty_record_shrinks_to_a_separator() -> None:
    stream, pieces = smallest(cut_streams(bodies=anything), differs(LosesEmpty))
    assert (stream.records, pieces) == ((b"",), [b"\x1e"])


def test_a_prefix_that_comes_in_two_pieces_shrinks_to_one_record() -> None:
    """The least body whose length needs two bytes, cut behind the first; or a stream that ends there, which is as bad.

    From the one no shrinking leads to the other, so it depends on what was found first.
    """
    stream, pieces = smallest(
        cut_streams("messagepack", bodies=st.integers(100, 300).map(bytes)), differs(PrefixedReader)
    )
    in_two_pieces = [b"\x80", b"\x01" + bytes(128)]
    assert (stream.records, pieces) in [((bytes(128),), in_two_pieces), ((), [b"\x80"])]


def test_messages_shrink_to_the_plainest() -> None:
    for kind in KINDS:
        message = smallest(drawn.hub_messages(kind), lambda _message: True)
        assert len(codec("json").encode(message)) < 60
    assert smallest(drawn.hub_messages(), lambda message: len(getattr(message, "arguments", ())) == 1).arguments == [
        None
    ]


def test_bytes_made_by_hand_are_what_they_seem() -> None:
    assert http_reply(404, b"no", "X: y", reason="Not Found") == (
        b"HTTP/1.1 404 Not Found\r\nX: y\r\nContent-Length: 2\r\n\r\nno"
    )
    # The key and its answer are those of RFC 6455, 1.3.
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in accept_websocket(
        b"GET / HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert websocket_frame(b"Hello") == b"\x81\x05Hello"
    assert websocket_frame(bytes(300), 2)[:4] == b"\x82\x7e\x01\x2c"
    assert websocket_frame(bytes(70_000), 2)[:10] == b"\x82\x7f" + (70_000).to_bytes(8)
    assert websocket_frame(b"x", masked=True) == b"\x81\x81\x01\x02\x03\x04y"
