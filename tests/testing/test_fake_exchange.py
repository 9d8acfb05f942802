"""The fake exchange: what it publishes, what it checks, and everything that it can be told to do wrong."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from etorox_proto import (
    CallLost,
    Closed,
    ConnectionLost,
    Credentials,
    ExchangeConfig,
    ExchangeConnection,
    ExchangeState,
    LocalProtocolError,
    Ready,
    RemoteProtocolError,
    ServerClosed,
    SetupRefused,
    SubscriptionEnded,
    SubscriptionFailed,
    TimedOut,
    UnknownEvent,
    UpgradeFailed,
    encode_event,
    load_private_key,
    setup_argument,
)
from etorox_proto.signalr import Completed, Connected, Dial, HubConfig, HubConnection, NegotiationFailed, State
from etorox_proto.testing import ExchangeRules, FakeExchange, FakeSigner, Link, ManualClock
from testing.markets import ALICE, BOB, Market, event, order

KEYS = Path(__file__).parents[1] / "data" / "keys"


# ----------------------------------------------------------------------------------------------- publishing


@pytest.mark.parametrize(
    "item",
    [event(7), order(7), MappingProxyType({"name": "order_created", "market": "btcusd", "id": "7"})],
    ids=["event", "bytes", "mapping"],
)
def test_every_subscriber_gets_what_is_published_in_the_form_it_asked_for(item: Any) -> None:
    market = Market()
    whole, rows, elsewhere = market.join(), market.join(), market.join(BOB)
    whole.subscribe("btcusd")
    rows.subscribe("btcusd", "ethusd", fields=["id", "market", "nothing"])
    elsewhere.subscribe("ethusd")
    assert market.exchange.publish("btcusd", item) == 2
    assert market.exchange.publish("xrpusd", item) == 0
    market.network.run_for(1.0)
    (received,) = whole.received()
    if isinstance(item, MappingProxyType):
        assert received == UnknownEvent(name="order_created", data=dict(item))
    else:
        assert received == event(7)
    (row,) = rows.received()
    assert (row.id, row.market, row.nothing) == ("7", "btcusd", None)  # type: ignore[union-attr]
    assert elsewhere.received() == []
    assert market.exchange.subscriptions == {"btcusd": 2, "ethusd": 2}
    assert market.exchange.counts.items == 2


def test_digits_arrive_as_they_were_published() -> None:
    market = Market()
    member = market.join()
    member.subscribe("btcusd", fields=["amount", "price"])
    market.exchange.publish("btcusd", b'{"price": 1.2300, "amount": "0.000000000000000001"}')
    market.exchange.publish("btcusd", {"price": Decimal("1.2300")})
    market.network.run_for(1.0)
    first, second = member.received()
    assert str(first.price) == str(second.price) == "1.2300"  # type: ignore[union-attr]
    assert str(first.amount) == "1E-18"  # type: ignore[union-attr]


def test_an_event_is_encoded_as_the_exchange_spells_it() -> None:
    market = Market()
    member = market.join()
    member.subscribe("btcusd")
    unknown = UnknownEvent(name="halted", data={"name": "halted", "until": 5})
    market.exchange.publish("btcusd", unknown)
    market.network.run_for(1.0)
    assert member.received() == [unknown]
    assert encode_event(unknown) == b'{"name":"halted","until":5}'


def test_bytes_are_sent_as_they_are_whatever_they_are() -> None:
    market = Market()
    member = market.join()
    subscription = member.subscribe("btcusd", fields=["price"])
    market.exchange.publish("btcusd", b"[5]")
    market.network.run_for(1.0)
    assert member.received(subscription)[0].price == 5  # type: ignore[union-attr]
    market.exchange.publish("btcusd", b"{nonsense")
    market.network.run_for(1.0)
    assert isinstance(member.driver.error, RemoteProtocolError)


def test_the_event_of_a_channel_is_part_of_the_topic() -> None:
    market = Market()
    member = market.join()
    public = member.subscribe("btcusd")
    private = member.subscribe("btcusd", event="privateData")
    market.exchange.publish("btcusd", event(1))
    market.exchange.publish("btcusd", event(2), event="privateData")
    market.network.run_for(1.0)
    assert (member.received(public), member.received(private)) == ([event(1)], [event(2)])
    assert market.exchange.subscriptions == {"btcusd": 2}


def test_a_frozen_feed_stays_connected() -> None:
    market = Market()
    member = market.join()
    member.subscribe("btcusd", "ethusd")
    market.exchange.freeze("btcusd")
    assert market.exchange.publish("btcusd", event(1)) == 0
    assert market.exchange.publish("ethusd", event(2, "ethusd")) == 1
    market.network.run_for(3_600.0)
    assert market.exchange.publish("btcusd", event(3)) == 0
    market.exchange.freeze()
    assert market.exchange.publish("ethusd", event(4, "ethusd")) == 0
    market.exchange.thaw()
    market.exchange.publish("btcusd", event(5))
    market.network.run_for(1.0)
    assert member.received() == [event(2, "ethusd"), event(5)]
    assert member.connection.state is ExchangeState.READY
    assert (market.exchange.counts.items, market.exchange.counts.items_withheld) == (2, 3)


@pytest.mark.parametrize("error", [None, "the instrument was delisted"])
def test_a_subscription_ends_when_the_exchange_says_so(error: str | None) -> None:
    market = Market()
    member = market.join()
    first, second = member.subscribe("btcusd", "xrpusd"), member.subscribe("ethusd")
    assert market.exchange.end_subscriptions("btcusd", error=error) == 1
    assert market.exchange.end_subscriptions("ltcusd") == 0
    market.network.run_for(1.0)
    ended = member.driver.events[-1]
    assert isinstance(ended, SubscriptionEnded)
    assert ended.subscription is first
    if error is None:
        assert ended.error is None
    else:
        assert isinstance(ended.error, SubscriptionFailed)
        assert error in str(ended.error)
    assert market.exchange.subscriptions == {"ethusd": 1}
    member.subscribe("btcusd")
    assert market.exchange.end_subscriptions() == 2
    market.network.run_for(1.0)
    assert market.exchange.subscriptions == {}
    assert SubscriptionEnded(second, None) in member.driver.events


# ---------------------------------------------------------------------------------------------------- counting


def test_it_counts_and_tells_who_is_there() -> None:
    market = Market(ExchangeRules(api_keys={ALICE.api_key}))
    alice = market.join()
    assert isinstance(market.fail(BOB), SetupRefused)
    alice.subscribe("btcusd")
    alice.subscribe("ethusd", "btcusd", event="privateData")
    market.exchange.refuse_subscriptions(times=1)
    alice.subscribe("xrpusd")
    counts = market.exchange.counts
    assert (counts.streams, counts.connections) == (4, 2), "each attempt negotiates on a stream of its own"
    assert (counts.setups, counts.setups_refused) == (1, 1)
    assert (counts.subscriptions, counts.subscriptions_refused) == (2, 1)
    (connection,) = market.exchange.connections
    assert connection.api_key == ALICE.api_key
    assert connection.channels == ["btcusd", "btcusd", "ethusd"]
    assert (connection.is_connected, connection.closed, connection.queued_bytes) == (True, False, 0)
    assert alice.driver.events[0] == Ready(connection.connection_id)
    assert repr(connection) == f"<FakeExchangeConnection {connection.connection_id!r}: connected>"
    alice.connection.close(now=market.network.now)
    market.network.run_for(1.0)
    assert connection.closed
    assert connection.deadline == float("inf")
    assert market.exchange.connections == []
    assert market.exchange.subscriptions == {}


# ------------------------------------------------------------------------------------------------------- setup


def test_a_signature_is_verified_with_the_public_key() -> None:
    key = load_private_key(KEYS / "rsa1024-pkcs8.pem")
    market = Market(ExchangeRules(public_key=key.public_key))
    market.join(Credentials(ALICE.api_key, key))
    error = market.fail(ALICE)
    assert isinstance(error, SetupRefused)
    assert error.result == {"status": "failure", "message": "the signature does not fit"}


@pytest.mark.parametrize(
    ("clock_skew", "skew", "accepted"),
    [(0.0, 59.0, True), (0.0, -61.0, False), (0.0, 61.0, False), (300.0, 0.0, False), (300.0, 290.0, True)],
)
def test_the_age_of_a_timestamp_is_judged_by_the_exchanges_clock(
    clock_skew: float, skew: float, accepted: bool
) -> None:
    market = Market(ExchangeRules(clock_skew=clock_skew))
    member = market.begin(skew=skew)
    market.network.run_for(5.0)
    if accepted:
        assert member.connection.state is ExchangeState.READY
    else:
        assert "the timestamp is more than 60 s off" in str(member.driver.error)
        market.exchange.rules.max_timestamp_age = float("inf")
        market.begin(skew=skew)
        market.network.run_for(5.0)
        assert market.exchange.counts.setups == 1


@pytest.mark.parametrize("checks", [True, False])
def test_a_nonce_is_good_for_one_setup(checks: bool) -> None:
    market = Market(ExchangeRules(checks_nonces=checks))
    network = market.network
    drivers = []
    for _ in range(2):
        connection = ExchangeConnection(
            ExchangeConfig("ex.test"),
            ALICE,
            now=network.now,
            unix_time=network.unix_time,
            nonce="the same",
            correlation_id="x",
        )
        drivers.append(network.drive(connection))
        network.run_for(5.0)
    assert not drivers[0].is_closed
    assert drivers[1].is_closed is checks
    if checks:
        assert "the nonce was used before" in str(drivers[1].error)


@pytest.mark.parametrize("answer", ["result", "error", "silence"])
def test_setup_is_refused_as_often_as_it_is_told(answer: Any) -> None:
    market = Market()
    market.exchange.refuse_setup(times=2, answer=answer, message="come back tomorrow")
    for _ in range(2):
        error = market.fail()
        if answer == "silence":
            assert isinstance(error, TimedOut)
            assert (error.timer, error.seconds) == ("setup", 15.0)
        else:
            assert isinstance(error, SetupRefused)
            assert "come back tomorrow" in str(error)
            assert bool(error.result) is (answer == "result")
    market.join()
    assert (market.exchange.counts.setups, market.exchange.counts.setups_refused) == (1, 2)
    market.exchange.refuse_setup()
    market.fail()
    market.fail()
    market.exchange.refuse_setup(times=0)
    market.join()


def hub_setup(market: Market, *arguments: Any, method: str = "setup", streaming: bool = False) -> tuple[Any, Any]:
    """The result and the error that a method gives to somebody who calls it in this way."""
    hub, driver = market.hub()
    market.network.wait_for(lambda: hub.state is State.CONNECTED)
    call = (hub.stream if streaming else hub.invoke)(method, arguments, now=market.network.now)
    market.network.run_for(1.0)
    (completed,) = [each for each in driver.events if isinstance(each, Completed) and each.call is call]
    return completed.result, completed.error


@pytest.mark.parametrize(
    "argument", [5, {}, {"apiKey": "x"}, {**setup_argument(ALICE, nonce="n", timestamp=5), "nonce": 5}]
)
def test_a_setup_of_another_form_is_refused(argument: Any) -> None:
    result, error = hub_setup(Market(), argument)
    assert result == {"status": "failure", "message": "expected apiKey, nonce, timestamp and signature"}
    assert error is None


def test_a_setup_for_another_path_is_refused() -> None:
    market = Market()
    result, _ = hub_setup(market, setup_argument(BOB, nonce="n", timestamp=int(market.network.unix_time * 1000)))
    assert result["message"] == "the API key is not known"


def test_calls_of_another_form_are_refused_and_the_connection_goes_on() -> None:
    market = Market()
    cases: list[tuple[str, bool, tuple[Any, ...], str]] = [
        ("setup", True, ({},), "invoke the method 'setup' in the wrong mode"),
        ("subscribe", False, ({},), "invoke the method 'subscribe' in the wrong mode"),
        ("subscribe", True, ({},), "setup is needed first"),
        ("order", False, (), "Unknown hub method 'order'"),
    ]
    for method, streaming, arguments, refusal in cases:
        result, error = hub_setup(market, *arguments, method=method, streaming=streaming)
        assert result is None
        assert refusal in str(error)
    assert len(market.exchange.connections) == 4


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        ((), "expected channels and event"),
        (({"channels": ["a"], "event": "e"}, 1), "expected channels and event"),
        (({"channels": [], "event": "e"},), "expected channels and event"),
        (({"channels": ["a", 5], "event": "e"},), "expected channels and event"),
        (({"channels": ["a"], "event": "e", "fields": ["b", "a"]},), "fields must be strings in alphanumeric order"),
        (({"channels": ["a"], "event": "e", "fields": []},), "fields must be strings in alphanumeric order"),
        (({"channels": ["a"], "event": "e", "fields": "a"},), "fields must be strings in alphanumeric order"),
        (({"channels": ["a"], "event": "e", "fields": ["a"]},), None),
    ],
)
def test_a_subscription_of_another_form_is_refused(arguments: tuple[Any, ...], refusal: str | None) -> None:
    market = Market()
    hub, driver = market.hub()
    market.network.wait_for(lambda: hub.state is State.CONNECTED)
    timestamp = int(market.network.unix_time * 1000)
    hub.invoke("setup", [setup_argument(ALICE, nonce="n", timestamp=timestamp)], now=market.network.now)
    hub.stream("subscribe", arguments, now=market.network.now)
    market.network.run_for(1.0)
    last = driver.events[-1]
    assert isinstance(last, Completed)
    assert refusal is None or str(last.error) == refusal
    assert len(market.exchange.subscriptions) == (refusal is None)


def test_a_client_that_wants_no_answer_gets_none() -> None:
    market = Market()
    hub, driver = market.hub()
    market.network.wait_for(lambda: hub.state is State.CONNECTED)
    hub.send("setup", [{}], now=market.network.now)
    call = hub.stream("subscribe", [{}], now=market.network.now)
    hub.cancel(call, now=market.network.now)
    market.network.run_for(1.0)
    assert hub.state is State.CONNECTED
    assert isinstance(driver.events[0], Connected)


def test_a_client_that_does_not_set_up_is_told_goodbye() -> None:
    market = Market()
    hub, driver = market.hub()
    market.network.wait_for(lambda: hub.state is State.CONNECTED)
    market.network.run_for(4.5)
    assert not driver.is_closed
    market.network.run_for(1.0)
    assert isinstance(driver.error, ServerClosed)
    assert driver.error.reason == "setup did not follow the handshake in time"
    assert driver.error.allow_reconnect


def test_there_is_no_hub_elsewhere() -> None:
    market = Market()
    for path in ("/streams/v1//signalr", "/streams/v1/x", "/x/signalr"):
        driver = market.network.drive(HubConnection(HubConfig(url=f"https://ex.test{path}"), now=market.network.now))
        market.network.run_for(5.0)
        assert isinstance(driver.error, NegotiationFailed)
        assert driver.error.status == 404


# ------------------------------------------------------------------------------------------------ subscriptions


def ended(member: Any, subscription: Any) -> str:
    """Why that subscription ended; `""` if it has not."""
    ends = [each for each in member.driver.events if isinstance(each, SubscriptionEnded)]
    return next((str(each.error) for each in ends if each.subscription is subscription), "")


def test_a_channel_that_is_not_listed_is_refused() -> None:
    market = Market(ExchangeRules(channels={"btcusd"}))
    member = market.join()
    assert "the topic ethusd marketData is not listed" in ended(member, member.subscribe("btcusd", "ethusd"))
    assert not ended(member, member.subscribe("btcusd"))


def test_subscriptions_are_refused_as_often_as_it_is_told() -> None:
    market = Market()
    member = market.join()
    market.exchange.refuse_subscriptions(times=1, message="not now")
    assert "not now" in ended(member, member.subscribe("btcusd"))
    assert not ended(member, member.subscribe("btcusd"))


def test_a_topic_is_subscribed_once_on_a_connection() -> None:
    market = Market()
    hub, driver = market.hub()
    market.network.wait_for(lambda: hub.state is State.CONNECTED)
    timestamp = int(market.network.unix_time * 1000)
    hub.invoke("setup", [setup_argument(ALICE, nonce="n", timestamp=timestamp)], now=market.network.now)
    for _ in range(2):
        hub.stream("subscribe", [{"channels": ["btcusd"], "event": "marketData"}], now=market.network.now)
    market.network.run_for(1.0)
    last = driver.events[-1]
    assert isinstance(last, Completed)
    assert str(last.error) == "the topic btcusd marketData is already subscribed"
    assert market.exchange.subscriptions == {"btcusd": 1}


def test_by_default_a_topic_may_be_had_on_two_connections() -> None:
    market = Market()
    first, second = market.join(), market.join()
    first.subscribe("btcusd")
    assert not ended(second, second.subscribe("btcusd"))
    assert market.exchange.publish("btcusd", event(1)) == 2


def test_an_exclusive_topic_must_be_given_up_first() -> None:
    market = Market(ExchangeRules(exclusive_topics=True))
    first, second, other = market.join(), market.join(), market.join(BOB)
    held = first.subscribe("btcusd")
    assert "already subscribed" in ended(second, second.subscribe("btcusd"))
    assert not ended(other, other.subscribe("btcusd")), "the rule holds for each API key"
    first.connection.unsubscribe(held, now=market.network.now)
    market.network.run_for(1.0)
    assert not ended(second, second.subscribe("btcusd"))


@pytest.mark.parametrize("release", [0.0, 20.0])
def test_an_exchange_may_notice_late_that_a_topic_is_free(release: float) -> None:
    market = Market(ExchangeRules(exclusive_topics=True, topic_release=release))
    first, second = market.join(), market.join()
    first.subscribe("btcusd")
    assert first.driver.stream is not None
    first.driver.stream.reset()
    market.network.run_for(1.0)
    assert ("still subscribed" in ended(second, second.subscribe("btcusd"))) is bool(release)
    market.network.run_for(20.0)
    if release:
        assert not ended(second, second.subscribe("btcusd"))
    assert market.exchange.subscriptions == {"btcusd": 1}


# ------------------------------------------------------------------------------------------------- connections


@pytest.mark.parametrize("ends", ["goodbye", "cut"])
@pytest.mark.parametrize("lifetime", [None, 600.0])
def test_a_connection_is_cut_after_its_lifetime(lifetime: float | None, ends: Any) -> None:
    rules = ExchangeRules(lifetime_ends=ends)
    if lifetime is not None:
        rules.lifetime = lifetime
    market = Market(rules)
    member = market.join()
    began = market.network.now
    market.network.wait_for(lambda: member.driver.is_closed, within=100_000.0)
    assert market.network.now - began == pytest.approx(lifetime or 86_400.0, abs=1.0)
    if ends == "goodbye":
        assert isinstance(member.driver.error, ServerClosed)
        assert member.driver.error.allow_reconnect
    else:
        assert isinstance(member.driver.error, ConnectionLost)
        assert member.driver.error.code is None


def test_a_lifetime_may_end_before_setup_does() -> None:
    market = Market(ExchangeRules(lifetime=5.0))
    market.exchange.refuse_setup(answer="silence")
    assert isinstance(market.fail(), ServerClosed)


@pytest.mark.parametrize(("allow_reconnect", "error"), [(True, None), (False, "maintenance")])
def test_clients_are_turned_away_right_after_their_handshake(allow_reconnect: bool, error: str | None) -> None:
    market = Market()
    market.exchange.turn_away(times=2, allow_reconnect=allow_reconnect, error=error)
    for _ in range(2):
        failure = market.fail()
        assert isinstance(failure, ServerClosed)
        assert (failure.allow_reconnect, failure.reason) == (allow_reconnect, error)
    market.join()
    assert (market.exchange.counts.connections, market.exchange.counts.setups) == (3, 1)


def test_all_clients_are_told_goodbye() -> None:
    market = Market()
    members = [market.join(), market.join(BOB)]
    subscription = members[0].subscribe("btcusd")
    market.exchange.close_all(error="maintenance", allow_reconnect=False)
    assert market.exchange.publish("btcusd", event(1)) == 0
    market.network.run_for(1.0)
    for member in members:
        assert isinstance(member.driver.error, ServerClosed)
        assert member.driver.error.reason == "maintenance"
    (*_, lost, closed) = members[0].driver.events
    assert isinstance(lost, SubscriptionEnded)
    assert lost.subscription is subscription
    assert isinstance(lost.error, CallLost)
    assert isinstance(closed, Closed)


def test_all_streams_are_cut_even_those_that_negotiate() -> None:
    market = Market()
    member = market.join()
    beginner = market.begin()
    market.network.wait_for(lambda: len(market.network.streams) == 2)
    market.exchange.cut_all()
    market.network.run_for(1.0)
    for each in (member, beginner):
        assert isinstance(each.driver.error, ConnectionLost | NegotiationFailed | UpgradeFailed)
    assert market.network.streams == []


@pytest.mark.parametrize("client", ["exchange", "hub"])
def test_a_client_whose_pings_stay_away_is_dropped(client: str) -> None:
    market = Market(ExchangeRules(setup_timeout=1e6))
    driver: Any
    if client == "exchange":
        driver = market.join().driver
    else:
        hub, driver = market.hub()
        market.network.wait_for(lambda: hub.state is State.CONNECTED)
    market.network.run_for(2.0)
    driver.stream.black_hole("server")
    began = market.network.now
    market.network.wait_for(lambda: driver.is_closed)
    assert market.network.now - began == pytest.approx(30.0, abs=3.0)
    assert isinstance(driver.error, ServerClosed)
    assert market.exchange.connections == []


def test_the_exchanges_timers_can_be_set() -> None:
    market = Market(ExchangeRules(client_timeout=5.0, ping_interval=2.0))
    member = market.join(ping_interval=1e6)
    market.network.wait_for(lambda: member.driver.is_closed)
    assert market.network.now == pytest.approx(5.0, abs=0.5)
    market = Market(ExchangeRules(ping_interval=1e6, setup_timeout=1e6))
    assert isinstance(market.fail(), TimedOut), "nothing came from the exchange"


def test_a_client_that_does_not_read_is_told_goodbye() -> None:
    market = Market(ExchangeRules(max_queued=10_000), link=Link(window=1_000))
    member = market.join()
    member.subscribe("btcusd")
    member.driver.pause_reading()
    for number in range(100):
        market.exchange.publish("btcusd", event(number))
        market.network.run_for(0.1)
    assert market.exchange.connections == []
    sent = market.exchange.counts.items
    assert sent < 100
    assert member.received() == []
    member.driver.resume_reading()
    market.network.run_for(5.0)
    assert isinstance(member.driver.error, ServerClosed)
    assert member.driver.error.reason == "the client does not read fast enough"
    assert member.received() == [event(number) for number in range(sent)]


def test_an_answer_too_many_is_the_end_as_well() -> None:
    market = Market(ExchangeRules(max_queued=500), link=Link(window=100))
    hub, driver = market.hub()
    market.network.wait_for(lambda: hub.state is State.CONNECTED)
    assert driver.stream is not None
    driver.stream.limit_reading("client", 0)
    for _ in range(50):
        hub.invoke("nothing", now=market.network.now)
    market.network.run_for(1.0)
    assert market.exchange.connections == []


def test_an_item_that_cannot_be_encoded_is_the_tests_own_fault() -> None:
    market = Market()
    member = market.join()
    member.subscribe("btcusd")
    with pytest.raises(LocalProtocolError):
        market.exchange.publish("btcusd", {"price": object()})
    assert market.exchange.counts.items == 0


# ---------------------------------------------------------------------------------------------------- by hand


def test_it_can_be_driven_by_hand() -> None:
    clock = ManualClock()
    exchange = FakeExchange(clock)
    assert exchange.deadline == float("inf")
    exchange.advance(0.0)
    client = ExchangeConnection(
        ExchangeConfig("ex.test", skip_negotiation=True),
        ALICE,
        now=clock.now,
        unix_time=clock.unix_time,
        nonce="n",
        correlation_id="c",
    )
    assert isinstance(client.next_event(), Dial)
    server = exchange.accept(clock.now)
    client.stream_opened(clock.now)

    def carry() -> None:
        while moved := client.data_to_send():
            server.receive_data(moved, clock.now)
            if answer := server.data_to_send():
                client.receive_data(answer, clock.now)

    carry()
    assert isinstance(client.next_event(), Ready)
    client.subscribe(["btcusd"], now=clock.now)
    carry()
    clock.now = 10.0
    exchange.publish("btcusd", event(1))
    client.receive_data(server.data_to_send(), clock.now)
    assert client.next_event().event == event(1)  # type: ignore[union-attr]
    clock.now = server.deadline
    server.handle_timeout(clock.now)
    assert clock.now == 15.0
    assert server.data_to_send(), "its ping"
    server.receive_data(b"", clock.now)
    assert server.closed
    server.cut(now=clock.now)
    assert exchange.connections == []


def test_the_signer_of_the_kit_signs_without_a_key() -> None:
    assert FakeSigner().sign(b"payload") == b"signed:payload"
