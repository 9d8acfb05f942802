"""`ExchangeConnection`: the wire on the way to `Ready`, the end in every state, rhythm, hosts and redirects."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from etorox_proto import (
    CallLost,
    Closed,
    ConnectionLost,
    Dial,
    ExchangeConfig,
    ExchangeConnection,
    ExchangeState,
    LocalProtocolError,
    NegotiationFailed,
    Ready,
    SetupRefused,
    SubscriptionEnded,
    SubscriptionFailed,
    TimedOut,
)
from etorox_proto.signalr import CancelReceived, InvocationReceived, ServerConnection, ServerEvent
from machines import (
    API_KEY,
    CORRELATION_ID,
    HANDSHAKE,
    Pair,
    RawPeer,
    accept,
    exchange,
    http,
    hub_frame,
    joined,
    obliging,
    ready_peer,
)

HUB = f"/streams/v1/{API_KEY}/signalr?correlationId={CORRELATION_ID}"
SUCCESS = hub_frame({"type": 3, "invocationId": "1", "result": {"status": "success"}})


def client_of(peer: RawPeer | Pair) -> ExchangeConnection:
    assert isinstance(peer.client, ExchangeConnection)
    return peer.client


def first_line(request: bytes) -> str:
    return request.partition(b"\r\n")[0].decode()


# ------------------------------------------------------------------------------------------------- the way there


def test_the_requests_on_the_wire() -> None:
    peer = RawPeer(exchange())
    negotiate = peer.open()
    assert first_line(negotiate) == f"POST {HUB}&negotiateVersion=1 HTTP/1.1".replace("signalr?", "signalr/negotiate?")
    peer.feed(
        http(
            200,
            b'{"negotiateVersion":1,"connectionId":"c","connectionToken":"t/+ ","availableTransports":'
            b'[{"transport":"WebSockets","transferFormats":["Text"]}]}',
        )
    )
    assert first_line(peer.open()) == f"GET {HUB}&id=t%2F%2B%20 HTTP/1.1"


def test_without_negotiation_the_connection_has_no_name() -> None:
    peer = RawPeer(exchange(skip_negotiation=True))
    request = peer.open()
    assert first_line(request) == f"GET {HUB} HTTP/1.1"
    peer.feed(accept(request) + HANDSHAKE + SUCCESS)
    assert peer.events == [Dial("ex.test", 443, True, "ex.test"), Ready(None)]


def test_headers_go_with_both_requests() -> None:
    peer = RawPeer(exchange(headers={"X-Own": "1"}))
    assert b"X-Own: 1\r\n" in peer.open()
    peer = RawPeer(exchange(headers={"X-Own": "1"}, skip_negotiation=True))
    assert b"X-Own: 1\r\n" in peer.open()


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"status": "failure", "message": "clock", "code": 7}, "failure: clock"),
        ({"message": "clock"}, "clock"),
        ({"code": 7}, "no status"),
        ("success", "no status"),
    ],
)
def test_a_refusal_shows_status_and_message(result: Any, said: str) -> None:
    peer = RawPeer(exchange())
    peer.connect()
    peer.feed(hub_frame({"type": 3, "invocationId": "1", "result": result}))
    assert isinstance(peer.error, SetupRefused)
    assert str(peer.error) == f"the exchange refused setup: {said}"
    assert peer.error.result == (result if isinstance(result, dict) else {"result": result})


def test_the_connection_is_lost_before_setup_is_answered() -> None:
    peer = RawPeer(exchange())
    peer.connect()
    peer.end()
    assert isinstance(peer.error, ConnectionLost)
    assert not any(isinstance(event, Ready | SubscriptionEnded) for event in peer.events)
    assert client_of(peer).deadline == math.inf


def test_setup_is_timed_out_at_its_deadline_by_a_real_server() -> None:
    pair = joined(exchange(setup_timeout=4.0))
    pair.advance(3.999)
    assert client_of(pair).state is ExchangeState.AUTHENTICATING
    pair.advance(0.001)
    error = pair.events[-1].error
    assert isinstance(error, TimedOut)
    assert (error.timer, pair.now) == ("setup", 4.0)


def test_setup_answered_after_its_deadline_changes_nothing() -> None:
    peer = RawPeer(exchange(setup_timeout=4.0))
    peer.connect()
    peer.wait_until_deadline()
    count = len(peer.events)
    peer.feed(SUCCESS)
    client_of(peer).handle_timeout(math.inf)
    peer.settle()
    assert len(peer.events) == count
    assert client_of(peer).state is ExchangeState.CLOSED


# ----------------------------------------------------------------------------------------------- the end, anywhere


def dialled(_: RawPeer) -> None:
    pass


def negotiating(peer: RawPeer) -> None:
    peer.open()


def upgrading(peer: RawPeer) -> None:
    peer.negotiate()


def shaking_hands(peer: RawPeer) -> None:
    peer.negotiate()
    peer.upgrade()


def authenticating(peer: RawPeer) -> None:
    peer.connect()


def ready(peer: RawPeer) -> None:
    peer.connect()
    peer.feed(SUCCESS)


ANYWHERE = [dialled, negotiating, upgrading, shaking_hands, authenticating, ready]


@pytest.mark.parametrize("bring", ANYWHERE)
@pytest.mark.parametrize("wait", [True, False])
def test_close_ends_any_state_without_an_error(bring: Callable[[RawPeer], None], wait: bool) -> None:
    peer = RawPeer(exchange())
    bring(peer)
    client = client_of(peer)
    client.close(wait=wait, now=0.0)
    peer.settle()
    if wait and bring in {authenticating, ready}:
        assert client.state is ExchangeState.CLOSING
        assert client.deadline == 5.0
        peer.wait_until_deadline()
    assert client.state is ExchangeState.CLOSED
    assert client.deadline == math.inf
    assert peer.error is None
    count = len(peer.events)
    client.close(now=9.0)
    peer.feed(SUCCESS)
    peer.end()
    client.stream_opened(9.0)
    client.handle_timeout(99.0)
    peer.settle()
    assert len(peer.events) == count
    assert client.data_to_send() == b""


@pytest.mark.parametrize("bring", ANYWHERE)
def test_the_stream_may_end_in_any_state(bring: Callable[[RawPeer], None]) -> None:
    peer = RawPeer(exchange())
    bring(peer)
    peer.end()
    assert peer.error is not None
    assert peer.error.may_retry
    assert client_of(peer).state is ExchangeState.CLOSED


@pytest.mark.parametrize("end", [b"", hub_frame({"type": 7}), hub_frame({"type": 7, "error": "e"}), hub_frame(b"{")])
def test_every_subscription_ends_exactly_once_and_before_closed(end: bytes) -> None:
    peer = ready_peer()
    client = client_of(peer)
    subscriptions = [client.subscribe([name], now=0.0) for name in ("a", "b", "c")]
    client.unsubscribe(subscriptions[1], now=0.0)
    peer.settle()
    client.receive_data(end, 0.0)
    peer.settle()
    ended = [event for event in peer.events if isinstance(event, SubscriptionEnded)]
    assert [event.subscription for event in ended] == [subscriptions[1], subscriptions[0], subscriptions[2]]
    assert ended[0].error is None
    assert all(isinstance(event.error, CallLost) for event in ended[1:])
    assert isinstance(peer.events[-1], Closed)
    assert client.subscriptions == []


# --------------------------------------------------------------------------------------------------- subscriptions


def test_unsubscribe_finds_the_right_one_and_passes_over_a_foreign_one() -> None:
    peer = ready_peer()
    client, other = client_of(peer), client_of(ready_peer())
    first = client.subscribe(["a"], now=0.0)
    second = client.subscribe(["b"], now=0.0)
    foreign = other.subscribe(["a"], now=0.0)
    peer.settle()
    peer.said()
    client.unsubscribe(foreign, now=0.0)
    assert client.queued_bytes == 0
    assert client.subscriptions == [first, second]
    client.unsubscribe(second, now=0.0)
    peer.settle()
    assert peer.events == [SubscriptionEnded(second, None)]
    assert peer.said() == [{"type": 5, "invocationId": "3"}]
    assert other.subscriptions == [foreign]


def test_topics_are_free_again_however_the_subscription_ended() -> None:
    completions: list[dict[str, Any]] = [{}, {"error": "no"}]
    for number, completion in enumerate(completions, 2):
        peer = ready_peer()
        client = client_of(peer)
        client.subscribe(["a", "b"], now=0.0)
        with pytest.raises(LocalProtocolError, match=r"got b \(marketData\), which is"):
            client.subscribe(["c", "b"], now=0.0)
        peer.feed(hub_frame({"type": 3, "invocationId": "2", **completion}))
        client.subscribe(["c", "b"], now=0.0)
        assert client.subscriptions[0].channels == ("c", "b"), number


def test_the_same_channel_under_another_event_is_another_topic() -> None:
    client = client_of(ready_peer())
    client.subscribe(["a"], now=0.0)
    assert client.subscribe(["a"], event="trades", now=0.0).topics == [("a", "trades")]


def test_invocations_of_the_exchange_are_answered_but_not_told() -> None:
    for bring in (authenticating, ready):
        peer = RawPeer(exchange())
        bring(peer)
        peer.sent = b""
        count = len(peer.events)
        peer.feed(hub_frame({"type": 1, "target": "news", "arguments": [1], "invocationId": "7"}))
        assert len(peer.events) == count
        (answer,) = peer.said()
        assert (answer["type"], answer["invocationId"]) == (3, "7")
        assert "error" in answer


def test_a_real_server_and_the_whole_life_of_a_subscription() -> None:
    heard: list[str] = []

    def answer(server: ServerConnection, event: ServerEvent, now: float) -> None:
        obliging(server, event, now)
        match event:
            case InvocationReceived(target="subscribe", invocation_id=str() as call):
                (argument,) = event.arguments
                heard.append(argument["channels"][0])
                if argument["channels"] == ["nosuch"]:
                    server.complete(call, error="topic is not listed", now=now)
                else:
                    server.send_item(call, {"name": "invented", "market": "m"}, now=now)
            case CancelReceived(invocation_id=call):
                heard.append("cancelled")
                server.complete(call, now=now)
            case _:
                pass

    pair = joined(exchange(), answer=answer)
    client = client_of(pair)
    good = client.subscribe(["btcusd"], now=pair.now)
    bad = client.subscribe(["nosuch"], now=pair.now)
    pair.drive()
    ended = [event for event in pair.events if isinstance(event, SubscriptionEnded)]
    assert [event.subscription for event in ended] == [bad]
    assert isinstance(ended[0].error, SubscriptionFailed)
    assert str(ended[0].error) == "the subscription to nosuch (marketData) failed: topic is not listed"
    client.unsubscribe(good, now=pair.now)
    pair.drive()
    assert pair.events[-1] == SubscriptionEnded(good, None)
    assert heard == ["btcusd", "nosuch", "cancelled"]


# --------------------------------------------------------------------------------------------------------- rhythm


def test_pings_come_every_15_seconds_whatever_else_is_sent() -> None:
    peer = ready_peer()
    client = client_of(peer)
    pings = []
    for second in range(1, 61):
        peer.now = float(second)
        client.handle_timeout(peer.now)
        subscription = client.subscribe([f"c{second}"], now=peer.now)
        client.unsubscribe(subscription, now=peer.now)
        peer.settle()
        pings += [second for message in peer.said() if message == {"type": 6}]
        peer.feed(hub_frame({"type": 6}))
    assert pings == [15, 30, 45, 60]


def test_thirty_seconds_of_silence_are_too_long() -> None:
    peer = ready_peer()
    subscription = client_of(peer).subscribe(["a"], now=0.0)
    peer.now = 10.0
    peer.feed(hub_frame({"type": 6}))
    times = []
    while client_of(peer).state is ExchangeState.READY:
        times.append(peer.wait_until_deadline())
    assert times == [15.0, 30.0, 40.0]
    assert (peer.error.timer, peer.error.seconds) == ("silence", 30.0)
    assert peer.events[0].subscription is subscription
    assert isinstance(peer.events[0].error, CallLost)


# ----------------------------------------------------------------------------------------------------------- hosts


@pytest.mark.parametrize(
    ("host", "dial"),
    [
        ("ex.test", ("ex.test", 443, True)),
        ("EX.test:8443", ("ex.test", 8443, True)),
        ("https://ex.test", ("ex.test", 443, True)),
        ("https://ex.test:444", ("ex.test", 444, True)),
        ("http://localhost:8080", ("localhost", 8080, False)),
        ("http://127.0.0.1", ("127.0.0.1", 80, False)),
        ("http://[::1]:81", ("::1", 81, False)),
    ],
)
def test_forms_of_a_host(host: str, dial: tuple[str, int, bool]) -> None:
    peer = RawPeer(exchange(host))
    assert peer.events == [Dial(*dial, dial[0])]


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("http://ex.test", "expected an encrypted connection, got http://ex.test"),
        ("ex.test/hush", "expected a host, host:port or URL without a path"),
        ("ex.test?hush", "expected a host, host:port or URL without a path"),
        ("https://ex.test/hush", "expected a host, host:port or URL without a path"),
        ("", "got no host"),
        ("ex.test:port", "expected an http or https URL, got one that cannot be read"),
        ("ex.test:99999", "expected an http or https URL, got one that cannot be read"),
        ("ws://ex.test", "got the scheme 'ws'"),
        ("me:hush@ex.test", "expected a URL without user and password"),
    ],
)
def test_hosts_that_are_refused(host: str, text: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        ExchangeConfig(host)
    assert text in str(caught.value)
    assert "hush" not in f"{caught.value}{caught.value!r}" + traceback.format_exception_only(caught.value)[0]


TIMES = ["opening", "handshake", "setup", "server", "close"]


@pytest.mark.parametrize("name", [*(f"{time}_timeout" for time in TIMES), "ping_interval"])
@pytest.mark.parametrize("value", [-1.0, 0, math.inf, math.nan, "5", None])
def test_times_that_are_none(name: str, value: Any) -> None:
    with pytest.raises(LocalProtocolError, match=f"expected {name} to be a positive number of seconds"):
        ExchangeConfig("ex.test", **{name: value})


@pytest.mark.parametrize("where", ["http://other.test/x", "ftp://other.test", "https://a:b@other.test"])
def test_redirects_that_are_refused(where: str) -> None:
    peer = RawPeer(exchange())
    peer.negotiate(http(200, b'{"url":"%s","accessToken":"hush"}' % where.encode()))
    assert isinstance(peer.error, NegotiationFailed)
    assert "the server redirects to where this client does not go" in str(peer.error)
    assert "hush" not in f"{peer.error}{peer.error!r}"
    assert len([event for event in peer.events if isinstance(event, Dial)]) == 1


def test_redirects_to_insecure_hosts_can_be_permitted() -> None:
    peer = RawPeer(exchange(allow_insecure=True))
    peer.negotiate(http(200, b'{"url":"http://other.test/x"}'))
    assert peer.events[-1] == Dial("other.test", 80, False, "other.test")


def test_credentials_must_be_credentials() -> None:
    not_credentials: Any = "an api key"
    with pytest.raises(LocalProtocolError, match=r"Credentials\.load\(api_key, path\), got str"):
        ExchangeConnection(
            ExchangeConfig("localhost"), not_credentials, now=0.0, unix_time=0.0, nonce="n", correlation_id="c"
        )
