"""`ExchangeConnection`: setup, subscriptions, rows, and every way in which the exchange can say no."""

from __future__ import annotations

import base64
import math
import traceback
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from etorox_proto import (
    CallLost,
    Closed,
    ConnectionClosed,
    ConnectionLost,
    Credentials,
    Dial,
    EventReceived,
    ExchangeConfig,
    ExchangeConnection,
    ExchangeState,
    Limits,
    LocalProtocolError,
    NegotiationFailed,
    OrderCreated,
    Ready,
    ServerClosed,
    SetupRefused,
    SigningFailed,
    Subscription,
    SubscriptionEnded,
    SubscriptionFailed,
    TimedOut,
    UnknownEvent,
    UpgradeFailed,
)
from etorox_proto._market import event_decoder
from etorox_proto.signalr import HubError, UnexpectedResult
from machines import (
    API_KEY,
    CORRELATION_ID,
    HANDSHAKE,
    NONCE,
    UNIX_TIME,
    Chunking,
    Pair,
    RawPeer,
    StubSigner,
    bytewise,
    exchange,
    frame,
    http,
    hub_frame,
    joined,
    obliging,
    ready_peer,
    whole,
)

ORDER = {
    "market": "btcusd",
    "side": "bid",
    "name": "order_created",
    "volume": 1,
    "price": 1.4,
    "state": "wait",
    "updated_at": "2020-08-03T10:16:17.631Z",
    "id": "466e190f-55eb-457e-b4b7-8393f7f01a7b",
}


def setup_answered(**answer: Any) -> RawPeer:
    """A client whose `setup` was answered with a Completion of these members."""
    peer = RawPeer(exchange())
    peer.connect()
    peer.feed(hub_frame({"type": 3, "invocationId": "1", **answer}))
    return peer


def client_of(peer: RawPeer | Pair) -> ExchangeConnection:
    assert isinstance(peer.client, ExchangeConnection)
    return peer.client


def item(call: int, value: Any) -> bytes:
    return hub_frame({"type": 2, "invocationId": str(call), "item": value})


def subscribed(chunking: Chunking = whole, **selector: Any) -> tuple[RawPeer, Subscription]:
    """A ready client with one subscription, of invocation id 2."""
    peer = ready_peer(chunking)
    subscription = client_of(peer).subscribe(["btcusd"], now=0.0, **selector)
    peer.settle()
    return peer, subscription


# ----------------------------------------------------------------------------------------------------------- setup


def test_the_way_to_ready() -> None:
    pair = joined(exchange(), answer=obliging)
    dial = Dial("ex.test", 443, True, "ex.test")
    assert pair.events == [dial, dial, Ready("name-1")]
    assert client_of(pair).state is ExchangeState.READY
    assert pair.partner.path == f"/streams/v1/{API_KEY}/signalr"
    assert pair.partner.query == [("correlationId", CORRELATION_ID), ("id", "name-2")]


def test_the_states_on_the_way() -> None:
    peer = RawPeer(exchange())
    client = client_of(peer)
    states = [client.state]
    peer.negotiate()
    states.append(client.state)
    peer.upgrade()
    states.append(client.state)
    peer.feed(HANDSHAKE)
    states.append(client.state)
    peer.feed(hub_frame({"type": 3, "invocationId": "1", "result": {"status": "success"}}))
    states.append(client.state)
    client.close(now=0.0)
    states.append(client.state)
    peer.end()
    states.append(client.state)
    assert [state.name for state in states] == [
        *("CONNECTING", "CONNECTING", "CONNECTING", "AUTHENTICATING", "READY", "CLOSING", "CLOSED")
    ]
    assert peer.error is None


def test_setup_is_sent_at_once_with_what_was_signed() -> None:
    signer = StubSigner()
    peer = RawPeer(exchange(signer=signer))
    peer.negotiate()
    peer.upgrade()
    peer.sent = b""
    peer.feed(HANDSHAKE)
    ping, setup = peer.said()
    assert ping == {"type": 6}
    (argument,) = setup.pop("arguments")
    assert setup == {"type": 1, "target": "setup", "invocationId": "1"}
    assert set(argument) == {"apiKey", "nonce", "timestamp", "signature"}
    assert argument["apiKey"] == API_KEY
    assert argument["nonce"] == NONCE
    assert argument["timestamp"] == int(UNIX_TIME * 1000)
    assert signer.payloads == [f"{NONCE}{argument['timestamp']}".encode()]
    assert base64.b64decode(argument["signature"], validate=True) == StubSigner().sign(signer.payloads[0])


@pytest.mark.parametrize(("origin", "elapsed"), [(0.0, 0.0), (5_000.25, 1.75), (-3.0, 29.5)])
def test_the_timestamp_is_unix_time_plus_what_has_elapsed(origin: float, elapsed: float) -> None:
    signer = StubSigner()
    peer = RawPeer(exchange(now=origin, signer=signer))
    peer.now = origin + elapsed
    peer.connect()
    (payload,) = signer.payloads
    assert payload == f"{NONCE}{round((UNIX_TIME + elapsed) * 1000)}".encode()


@pytest.mark.parametrize("unix_time", [math.inf, math.nan, 1.7e308])
def test_a_time_that_no_timestamp_can_tell(unix_time: float) -> None:
    signer = StubSigner()
    peer = RawPeer(exchange(unix_time=unix_time, signer=signer))
    peer.connect()
    assert isinstance(peer.error, SigningFailed)
    assert "expected a time that a timestamp can tell" in str(peer.error)
    assert signer.payloads == []


def test_setup_that_exceeds_our_own_limits_ends_the_attempt() -> None:
    peer = RawPeer(exchange(limits=Limits(queued_bytes=100)))
    peer.connect()
    assert isinstance(peer.error, SigningFailed)
    assert "setup cannot be sent: expected at most 100 bytes waiting" in str(peer.error)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"status": "failure", "message": "clock"}, "failure"),
        ({"status": "Success"}, "Success"),
        ({"status": None}, "None"),
        ({}, "status"),
        ("success", ""),
        ([1], ""),
        (None, ""),
    ],
)
def test_setup_refused_by_its_status(result: Any, text: str) -> None:
    peer = setup_answered(result=result)
    assert isinstance(peer.error, SetupRefused)
    assert "setup" in str(peer.error)
    assert text in str(peer.error)
    assert peer.error.result == (result if isinstance(result, dict) else {"result": result})
    assert not peer.error.may_retry
    assert peer.said()[-2:] == [{"type": 7}, ("close", 1000, "")]


def test_setup_refused_by_an_error() -> None:
    peer = setup_answered(error="nonce used before")
    assert isinstance(peer.error, SetupRefused)
    assert str(peer.error) == "the exchange refused setup: nonce used before"
    assert peer.error.result == {}


def test_setup_answered_with_an_item() -> None:
    peer = RawPeer(exchange())
    peer.connect()
    peer.feed(item(1, {}))
    assert isinstance(peer.error, SetupRefused)


def test_setup_never_answered() -> None:
    peer = RawPeer(exchange(setup_timeout=4.0))
    peer.now = 10.0
    peer.connect()
    assert client_of(peer).deadline == 14.0
    client_of(peer).handle_timeout(13.9)
    assert client_of(peer).state is ExchangeState.AUTHENTICATING
    assert peer.wait_until_deadline() == 14.0
    assert isinstance(peer.error, TimedOut)
    assert (peer.error.timer, peer.error.seconds) == ("setup", 4.0)
    assert str(peer.error) == "the exchange did not answer setup within 4 s"


def test_after_setup_its_deadline_is_gone() -> None:
    peer = ready_peer(client=exchange(setup_timeout=4.0))
    assert peer.wait_until_deadline() == 15.0
    assert peer.said() == [{"type": 6}]
    client_of(peer).handle_timeout(math.inf)
    peer.settle()
    assert peer.error.timer == "silence"


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_before_setup_the_hub_keeps_the_time(steps: int) -> None:
    peer = RawPeer(exchange(opening_timeout=9.0, handshake_timeout=5.0))
    if steps == 1:
        peer.open()
    if steps > 1:
        peer.negotiate()
    if steps == 3:
        peer.upgrade()
    assert peer.wait_until_deadline() == (5.0 if steps == 3 else 9.0)
    assert isinstance(peer.error, TimedOut)


class Broken:
    """A signer that raises, or returns what it was given."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    def sign(self, _payload: bytes, /) -> Any:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize("outcome", [OSError("the HSM is asleep"), "text", b"", None])
@pytest.mark.parametrize("behind", [b"", hub_frame({"type": 7}), hub_frame(b"{")])
def test_a_signer_that_fails_ends_the_attempt(outcome: Any, behind: bytes) -> None:
    peer = RawPeer(exchange(signer=Broken(outcome)))
    peer.negotiate()
    peer.upgrade(HANDSHAKE + behind)
    assert isinstance(peer.error, SigningFailed)
    assert not peer.error.may_retry
    assert "asleep" not in str(peer.error)
    if isinstance(outcome, Exception):
        assert peer.error.__cause__ is outcome


def test_a_close_right_behind_the_handshake() -> None:
    signer = StubSigner()
    peer = RawPeer(exchange(signer=signer))
    peer.negotiate()
    peer.upgrade(HANDSHAKE + hub_frame({"type": 7, "error": "busy", "allowReconnect": True}))
    assert isinstance(peer.error, ServerClosed)
    assert len(signer.payloads) == 1, "asked once, in the moment of the handshake"


def test_a_refusal_counts_more_than_the_hanging_up_behind_it() -> None:
    for behind in (hub_frame({"type": 7}), frame(b"\x03\xe8", 8), hub_frame(b"{")):
        peer = RawPeer(exchange())
        peer.connect()
        peer.feed(hub_frame({"type": 3, "invocationId": "1", "error": "no"}) + behind)
        assert isinstance(peer.error, SetupRefused)


def test_an_insecure_host_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(LocalProtocolError, match="expected an encrypted connection"):
        ExchangeConfig("http://ex.test")
    assert ExchangeConfig("http://localhost:8080").host == "http://localhost:8080"
    peer = RawPeer(exchange("http://ex.test:81", allow_insecure=True))
    assert peer.events == [Dial("ex.test", 81, False, "ex.test")]


@pytest.mark.parametrize("host", ["", "ex.test/path", "https://ex.test/", "https://ex.test?x", "ex.test#x", 7, "a b"])
def test_a_host_that_is_none(host: Any) -> None:
    with pytest.raises(LocalProtocolError):
        ExchangeConfig(host)


def test_a_configuration_is_checked_when_made() -> None:
    with pytest.raises(LocalProtocolError, match="setup_timeout"):
        ExchangeConfig("ex.test", setup_timeout=0)
    with pytest.raises(LocalProtocolError, match="forbidden character"):
        ExchangeConfig("ex.test", headers={"X": "a\nb"})
    headers = {"X-Own": "1"}
    config = ExchangeConfig("ex.test", headers=headers)
    headers["X-Own"] = "2"
    assert dict(config.headers) == {"X-Own": "1"}


# --------------------------------------------------------------------------------------------------- subscriptions


def test_subscribe_and_its_events() -> None:
    peer, subscription = subscribed()
    assert peer.said() == [
        {
            "type": 4,
            "invocationId": "2",
            "target": "subscribe",
            "arguments": [{"channels": ["btcusd"], "event": "marketData"}],
        }
    ]
    peer.feed(item(2, ORDER))
    (received,) = peer.events
    assert isinstance(received, EventReceived)
    assert received.subscription is subscription
    assert isinstance(received.event, OrderCreated)
    assert received.event.price == Decimal("1.4")
    assert repr(subscription) == "<Subscription to btcusd (marketData)>"


def test_rows() -> None:
    peer, subscription = subscribed(fields=["name", "new", "price"])
    assert peer.said()[0]["arguments"] == [
        {"channels": ["btcusd"], "event": "marketData", "fields": ["name", "new", "price"]}
    ]
    assert repr(subscription) == "<Subscription to btcusd (marketData, fields=['name', 'new', 'price'])>"
    values: list[Any] = [
        ["order_created", 1.5, 1.25],
        ["order_created"],
        ["a", None, None],
        [1, 2, 3],
        [1, 2, 3, 4],
        {},
    ]
    for value in values:
        peer.feed(item(2, value))
    full, short, nulls, *misfits = [event.event for event in peer.events]
    assert subscription.row_type is not None
    assert isinstance(full, subscription.row_type)
    assert msgspec.structs.astuple(full) == ("order_created", Decimal("1.5"), Decimal("1.25"))
    assert msgspec.structs.astuple(short) == ("order_created", None, None)
    assert msgspec.structs.astuple(nulls) == ("a", None, None)
    assert [event.data for event in misfits] == [[1, 2, 3], [1, 2, 3, 4], {}]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"name": "order_invented", "market": "btcusd"}, "order_invented"),
        ({"name": "order_created"}, "order_created"),
        ({"no": "name"}, None),
        ([1, 2], None),
        ("text", None),
        (None, None),
    ],
)
def test_unknown_events_reach_the_application(value: Any, name: str | None) -> None:
    peer, subscription = subscribed()
    peer.feed(item(2, value))
    assert peer.events == [EventReceived(subscription, UnknownEvent(name=name, data=value))]


def test_a_number_beyond_decimal_ends_the_subscription_only() -> None:
    peer, subscription = subscribed()
    peer.feed(hub_frame(b'{"type":2,"invocationId":"2","item":[1e99999999999999999999]}'))
    (ended,) = peer.events
    assert ended.subscription is subscription
    assert "a number out of range" in str(ended.error)
    assert client_of(peer).state is ExchangeState.READY


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"channels": []}, "expected at least one of channels, got an empty list"),
        ({"channels": "btcusd"}, 'expected a list of channels, such as ["..."], got str'),
        ({"channels": 7}, "expected a list of channels"),
        ({"channels": ["a", ""]}, "expected channels to be names, got ''"),
        ({"channels": [1]}, "expected channels to be names, got 1"),
        ({"channels": ["b", "a", "b", "a"]}, "expected each of channels once, got a, b more than once"),
        ({"channels": ["a"], "event": ""}, "expected the name of an event, got ''"),
        ({"channels": ["a"], "event": None}, "expected the name of an event, got None"),
        ({"channels": ["a"], "fields": []}, "expected at least one of fields, got an empty list"),
        ({"channels": ["a"], "fields": "name"}, "expected a list of fields"),
        ({"channels": ["a"], "fields": ["name", "name"]}, "expected each of fields once, got name more than once"),
        (
            {"channels": ["a"], "fields": ["price", "name"]},
            "expected fields in alphanumeric order, ['name', 'price'], got ['price', 'name']",
        ),
        ({"channels": ["a"], "fields": ["class"]}, "expected fields that rows can have: the field 'class'"),
        ({"channels": ["a"], "fields": ["_x"]}, "expected fields that rows can have: the field '_x'"),
        ({"channels": ["a"], "fields": ["a-b"]}, "expected fields that rows can have: the field 'a-b'"),
        ({"channels": ["btcusd"]}, "expected topics that are not subscribed, got btcusd (marketData), which is"),
        ({"channels": ["ethusd", "btcusd"]}, "got btcusd (marketData), which is"),
    ],
)
def test_what_can_be_checked_before_is_refused_with_nothing_sent(arguments: dict[str, Any], text: str) -> None:
    peer, first = subscribed()
    client = client_of(peer)
    with pytest.raises(LocalProtocolError) as caught:
        client.subscribe(now=0.0, **arguments)
    assert text in str(caught.value)
    assert client.queued_bytes == 0
    assert client.subscriptions == [first]
    client.subscribe(["ethusd"], now=0.0)
    assert client.queued_bytes > 0


def test_subscribe_before_ready_and_after_the_end() -> None:
    peer = RawPeer(exchange())
    client = client_of(peer)
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="wait for Ready") as caught:
            client.subscribe(["btcusd"], now=0.0)
        assert not isinstance(caught.value, ConnectionClosed)
        if client.state is ExchangeState.CONNECTING:
            peer.connect()
    peer.feed(hub_frame({"type": 3, "invocationId": "1", "result": {"status": "success"}}))
    client.close(now=0.0)
    with pytest.raises(ConnectionClosed, match="got one that is closing"):
        client.subscribe(["btcusd"], now=0.0)
    peer.end()
    with pytest.raises(ConnectionClosed, match="got one that is closed"):
        client.subscribe(["btcusd"], now=0.0)


@pytest.mark.parametrize("text", ["topic is not listed", ""])
def test_a_refused_subscription_is_a_value(text: str) -> None:
    peer, subscription = subscribed()
    peer.feed(hub_frame({"type": 3, "invocationId": "2", "error": text}))
    (ended,) = peer.events
    assert isinstance(ended, SubscriptionEnded)
    assert ended.subscription is subscription
    assert isinstance(ended.error, SubscriptionFailed)
    assert "btcusd" in str(ended.error)
    assert text in str(ended.error)
    assert isinstance(ended.error.__cause__, HubError)
    assert client_of(peer).state is ExchangeState.READY
    assert client_of(peer).subscriptions == []
    client_of(peer).subscribe(["btcusd"], now=0.0)


def test_a_stream_that_ends_with_a_result_has_failed() -> None:
    peer, _ = subscribed()
    peer.feed(hub_frame({"type": 3, "invocationId": "2", "result": 1}))
    (ended,) = peer.events
    assert isinstance(ended.error, SubscriptionFailed)
    assert isinstance(ended.error.__cause__, UnexpectedResult)


def test_a_subscription_ended_in_good_order() -> None:
    peer, subscription = subscribed()
    peer.feed(item(2, ORDER) + hub_frame({"type": 3, "invocationId": "2"}))
    received, ended = peer.events
    assert isinstance(received, EventReceived)
    assert ended == SubscriptionEnded(subscription, None)


def test_unsubscribe_drops_what_still_comes() -> None:
    peer, subscription = subscribed()
    client = client_of(peer)
    peer.said()
    client.unsubscribe(subscription, now=0.0)
    peer.settle()
    assert peer.events == [SubscriptionEnded(subscription, None)]
    assert peer.said() == [{"type": 5, "invocationId": "2"}]
    peer.feed(item(2, ORDER) + hub_frame({"type": 3, "invocationId": "2", "error": "canceled"}))
    assert len(peer.events) == 1
    client.unsubscribe(subscription, now=0.0)
    assert client.queued_bytes == 0
    again = client.subscribe(["btcusd"], now=0.0)
    peer.feed(item(3, ORDER))
    assert peer.events[-1].subscription is again


def test_two_subscriptions_keep_apart() -> None:
    peer, first = subscribed()
    client = client_of(peer)
    second = client.subscribe(["ethusd", "xrpusd"], fields=["name"], now=0.0)
    other = client.subscribe(["btcusd"], event="book", now=0.0)
    assert client.subscriptions == [first, second, other]
    peer.feed(item(3, ["a"]) + item(2, ORDER) + item(4, ORDER) + item(3, ["b"]))
    assert [event.subscription for event in peer.events] == [second, first, other, second]
    client.unsubscribe(first, now=0.0)
    peer.feed(item(2, ORDER) + item(3, ["c"]))
    assert peer.events[-1].event.name == "c"
    client.unsubscribe(other, now=0.0)
    assert client.subscriptions == [second]


def test_subscriptions_are_lost_with_the_connection() -> None:
    peer, sent = subscribed()
    client = client_of(peer)
    unsent = client.subscribe(["ethusd"], now=0.0)
    client.receive_data(b"", 0.0)
    peer.settle()
    first, second, closed = peer.events
    assert (first.subscription, first.error.delivery) == (sent, "maybe_sent")
    assert (second.subscription, second.error.delivery) == (unsent, "not_sent")
    assert isinstance(first.error, CallLost)
    assert isinstance(closed, Closed)
    assert isinstance(peer.error, ConnectionLost)
    client.unsubscribe(sent, now=0.0)
    assert client.subscriptions == []


@pytest.mark.parametrize("wait", [True, False])
def test_our_own_close(wait: bool) -> None:
    peer, subscription = subscribed()
    client_of(peer).close(wait=wait, now=0.0)
    client_of(peer).close(wait=wait, now=0.0)
    peer.settle()
    assert peer.events[0].subscription is subscription
    assert isinstance(peer.events[0].error, CallLost)
    assert len(peer.events) == (1 if wait else 2)
    peer.end()
    assert peer.error is None


def test_close_while_authenticating() -> None:
    peer = RawPeer(exchange())
    peer.connect()
    client_of(peer).close(now=0.0)
    assert client_of(peer).deadline == 5.0
    peer.settle()
    peer.wait_until_deadline()
    assert peer.error is None


def test_invocations_of_the_exchange_are_passed_over() -> None:
    peer = ready_peer()
    peer.feed(hub_frame({"type": 1, "target": "news", "arguments": []}))
    assert peer.events == []


def test_pings_keep_their_rhythm_whatever_else_is_sent() -> None:
    pair = joined(exchange(), answer=obliging)
    client = client_of(pair)
    for number in range(60):
        pair.advance(1.0)
        client.subscribe([f"c{number}"], now=pair.now)
    assert client.state is ExchangeState.READY
    assert client.deadline == 75.0


# --------------------------------------------------------------------------------------------------------- secrets

SIGNATURE = base64.b64encode(StubSigner().sign(f"{NONCE}{int(UNIX_TIME * 1000)}".encode())).decode()
TOKEN = "secret-connection-token"


def shown(*things: Any) -> str:
    """All that a log could hold of these things: texts, reprs, attributes, tracebacks with their causes."""
    text = ""
    for thing in things:
        text += f"{thing}\n{thing!r}\n"
        if isinstance(thing, BaseException):
            text += "".join(traceback.format_exception(thing))
            text += repr({k: v for k, v in vars(thing).items() if k != "result"})
    return text


def test_nothing_that_is_shown_holds_a_secret() -> None:
    """Neither API key, signature, nor connection token, even where the exchange repeats them to us."""
    said_to_us = f"you said {API_KEY} {SIGNATURE}"
    echo = f"{said_to_us} {TOKEN}"
    refused_by_http = RawPeer(exchange())
    refused_by_http.negotiate(http(404, f"no POST /streams/v1/{API_KEY}/signalr/negotiate".encode()))
    moved = RawPeer(exchange())
    moved.negotiate(http(301, b"", f"Location: https://other.test/streams/v1/{API_KEY}/signalr/negotiate?x"))
    not_upgraded = RawPeer(exchange())
    not_upgraded.negotiate()
    not_upgraded.open()
    not_upgraded.feed(http(403, f"{API_KEY} {TOKEN}".encode()))
    peers = [refused_by_http, moved, not_upgraded]
    answer = {"status": said_to_us, "message": said_to_us}
    peers += [setup_answered(error=said_to_us), setup_answered(result=answer)]
    for data in (hub_frame({"type": 7, "error": echo}), frame(b"\x0f\xa0" + echo[:120].encode(), 8)):
        peer, _ = subscribed()
        peer.feed(data)
        peers.append(peer)
    kinds = [
        NegotiationFailed,
        NegotiationFailed,
        UpgradeFailed,
        SetupRefused,
        SetupRefused,
        ServerClosed,
        ConnectionLost,
    ]
    assert [type(peer.error) for peer in peers] == kinds
    failed, subscription = subscribed()
    failed.feed(hub_frame({"type": 3, "invocationId": "2", "error": said_to_us}))
    things = [
        *(thing for peer in [*peers, failed] for thing in (peer.client, *peer.events)),
        *(peer.error for peer in peers),
        failed.events[0].error,
        subscription,
        ExchangeConfig("ex.test", headers={"Authorization": TOKEN}),
        Credentials(API_KEY, StubSigner()),
    ]
    text = shown(*things)
    assert "***" in text
    for secret in (API_KEY, SIGNATURE, TOKEN):
        assert secret not in text
    # The whole answer to `setup` is there for those who ask for it.
    assert peers[4].error.result == answer


def test_what_the_signer_signed_is_what_is_kept_secret() -> None:
    """The signature that the tests above look for is the one that was sent."""
    peer = RawPeer(exchange())
    peer.negotiate()
    peer.upgrade()
    peer.sent = b""
    peer.feed(HANDSHAKE)
    assert peer.said()[1]["arguments"][0]["signature"] == SIGNATURE


NAMELESS = {key: value for key, value in ORDER.items() if key != "name"}


def text(name: str, members: dict[str, Any]) -> bytes:
    return f"{{{name}{msgspec.json.encode(members).decode()[1:]}".encode()


NAME = '"name":"order_created",'


@pytest.mark.parametrize(
    "strange",
    [
        [text(NAME + NAME, NAMELESS), text("", NAMELESS)],
        [text('"(extra)":{"name":"order_created"},', NAMELESS), text(NAME, NAMELESS)],
        [text(NAME, NAMELESS), text('"name":"order_dreamt",', NAMELESS)],
    ],
    ids=["one says twice what another does not say", "one says it within", "another kind"],
)
def test_events_that_came_together_are_what_they_are_alone(strange: list[bytes]) -> None:
    """That all are of one kind is guessed by their text; a wrong guess must not show."""
    plain = text(NAME, NAMELESS)
    each_of_them = [*strange * 20, plain]  # the first of all and the last of a read go the ordinary way
    alone = [*map(event_decoder(), [plain, *each_of_them, *each_of_them])]
    records = [b'{"type":2,"invocationId":"2","item":%b}\x1e' % each for each in each_of_them]
    for chunking in (whole, bytewise):
        peer, _ = subscribed(chunking)
        peer.feed(frame(records[-1]))
        peer.feed(b"".join(map(frame, records)))
        peer.feed(frame(b"".join(records)))
        assert [event.event for event in peer.events] == alone


def test_a_strict_client_refuses_what_it_does_not_know() -> None:
    peer = ready_peer(client=exchange(strict=True))
    peer.feed(hub_frame({"type": 42}))
    assert isinstance(peer.events[-1], Closed)
    assert "expected a hub message of type 1 to 9, got type 42" in str(peer.error)
    peer = ready_peer()
    peer.feed(hub_frame({"type": 42}))
    assert peer.events == []
