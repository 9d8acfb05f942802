"""The embedded exchange in memory and virtual time: real clients, bad clients, and what each is told."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from etorox_proto import (
    Closed,
    Credentials,
    EventReceived,
    ExchangeConfig,
    ExchangeConnection,
    OrderCreated,
    Ready,
    SetupRefused,
    Subscription,
    SubscriptionEnded,
    SubscriptionFailed,
    UnknownEvent,
    load_private_key,
    setup_argument,
)
from etorox_proto.signalr import (
    Completed,
    Connected,
    ConnectionLost,
    Dial,
    HubConfig,
    HubConnection,
    NegotiationFailed,
    ServerClosed,
    State,
    TimedOut,
    UpgradeFailed,
)
from etorox_proto.simulator import (
    INSTRUMENTS,
    PRIVATE_EVENT,
    PUBLIC_EVENT,
    SimulatedMarket,
    Simulator,
    SimulatorConnection,
)
from etorox_proto.simulator._service import MAX_QUEUED_BYTES, MAX_TIMESTAMP_AGE, SETUP_TIMEOUT
from machines import frame, hub_frame, names, records

KEYS = Path(__file__).parents[1] / "data" / "keys"
KEY = load_private_key(KEYS / "rsa1024-pkcs8.pem")
OTHER_KEY = load_private_key(KEYS / "rsa2048-pkcs8.pem")
ALICE = Credentials("0f8fad5b-d9cb-469f-a165-70867728950e", KEY)
BOB = Credentials("16fd2706-8baf-433b-82eb-8c7fada847da", OTHER_KEY)
UNIX_TIME = 1_600_000_000.0
ORDINARY = {"channels": ["btcusd"], "event": PUBLIC_EVENT}


class World:
    """The exchange, its clients, and one virtual time for all; whatever happens to the exchange is written down."""

    def __init__(self, seed: int = 1, rate: float = 0.0) -> None:
        self.now = 0.0
        self.nonces = 0
        self.clients: list[Client] = []
        self.simulator = new_simulator(seed, rate)
        self.log: list[tuple[str, float, int, bytes]] = []
        self.streams = 0

    def note(self, what: str, stream: int = -1, data: bytes = b"") -> None:
        self.log.append((what, self.now, stream, data))

    def join(self, machine: Any) -> Client:
        client = Client(self, machine)
        self.clients.append(client)
        self.drive()
        return client

    def exchange(self, who: Credentials = ALICE, *, nonce: str = "", late: float = 0.0, **config: Any) -> Client:
        """A client that behaves; `late` is by how many seconds its clock is wrong."""
        self.nonces += 1
        machine = ExchangeConnection(
            ExchangeConfig("http://127.0.0.1", **config),
            who,
            now=self.now,
            unix_time=UNIX_TIME + self.now - late,
            nonce=nonce or f"nonce-{self.nonces}",
            correlation_id=f"correlation-{self.nonces}",
        )
        return self.join(machine)

    def hub(self, path: str = f"/streams/v1/{ALICE.api_key}/signalr", **config: Any) -> Client:
        """A client that may say anything."""
        config = {"skip_negotiation": True, **config}
        return self.join(HubConnection(HubConfig(url=f"http://127.0.0.1{path}", **config), now=self.now))

    def drive(self) -> None:
        while any(client.step() for client in self.clients):
            pass

    def advance(self, seconds: float) -> None:
        """Let time pass, deadline by deadline, for both sides."""
        until = self.now + seconds
        while True:
            due = min([self.simulator.deadline, *(client.deadline for client in self.clients)])
            if due > until:
                break
            now = self.now = max(self.now, due)
            self.simulator.advance(now)
            self.note("advance")
            for client in self.clients:
                client.handle_timeout()
            self.drive()
        self.now = until

    def trade(self, steps: int = 100) -> int:
        """Make that many market actions happen."""
        changes = 0
        for _ in range(steps):
            changes += self.simulator.step(self.now)
            self.note("step")
            self.drive()
        return changes


class Client:
    """One client machine and its end of the exchange."""

    def __init__(self, world: World, machine: Any) -> None:
        self.world = world
        self.machine = machine
        self.server: Any = None  # a SimulatorConnection, once there is a stream
        self.number = 0
        self.is_reading = True
        self.is_silent = False
        self.is_cut = False
        self.received = b""
        self.events: list[Any] = []

    @property
    def deadline(self) -> float:
        mine = float("inf") if self.is_silent else self.machine.deadline
        return float(min(mine, float("inf") if self.server is None else self.server.deadline))

    def step(self) -> bool:
        moved = False
        now = self.world.now
        while (event := self.machine.next_event()) is not None:
            moved = True
            self.events.append(event)
            if isinstance(event, Dial):
                self.server = self.world.simulator.accept(now)
                self.number = self.world.streams
                self.world.streams += 1
                self.world.note("accept")
                self.machine.stream_opened(now)
        if self.is_cut:
            self.machine.data_to_send()
            return moved
        if data := self.machine.data_to_send():
            moved = True
            self.say(data)
        if self.is_reading and (data := self.server.data_to_send()):
            moved = True
            self.received += data
            self.machine.receive_data(data, now)
        if not moved and self.server.closed and self.is_reading:
            self.is_cut = True
            self.machine.receive_data(b"", now)
            return True
        return moved

    def say(self, data: bytes) -> None:
        """Bytes for the exchange, past the client's machine."""
        self.server.receive_data(data, self.world.now)
        self.world.note("data", self.number, data)

    def handle_timeout(self) -> None:
        now = self.world.now
        if self.server.deadline <= now:
            self.server.handle_timeout(now)
            self.world.note("timeout", self.number)
        if not self.is_silent:
            self.machine.handle_timeout(now)

    def cut(self) -> None:
        self.is_cut = True
        self.server.receive_data(b"", self.world.now)
        self.machine.receive_data(b"", self.world.now)
        self.world.drive()

    # ---------------------------------------------------------------------------------------- what it is told

    @property
    def market_events(self) -> list[Any]:
        return [each.event for each in self.events if isinstance(each, EventReceived)]

    @property
    def error(self) -> Any:
        assert isinstance(self.events[-1], Closed)
        return self.events[-1].error

    def subscribe(self, *channels: str, **options: Any) -> Subscription:
        subscription: Subscription = self.machine.subscribe(channels, now=self.world.now, **options)
        self.world.drive()
        return subscription

    def failure(self) -> str:
        ended = self.events[-1]
        assert isinstance(ended, SubscriptionEnded)
        assert isinstance(ended.error, SubscriptionFailed)
        return str(ended.error)

    def invoke(self, target: str, *arguments: Any) -> Any:
        """The result of a call to the hub, or the text of its failure."""
        return self._call(self.machine.invoke(target, arguments, now=self.world.now))

    def stream(self, target: str, *arguments: Any) -> Any:
        """The failure of a stream, None while it goes on."""
        return self._call(self.machine.stream(target, arguments, now=self.world.now))

    def _call(self, call: Any) -> Any:
        self.world.drive()
        for event in self.events:
            if isinstance(event, Completed) and event.call is call:
                return event.result if event.error is None else f"{type(event.error).__name__}: {event.error}"
        return None

    def authenticate(self, **changes: Any) -> Any:
        self.world.nonces += 1
        return self.invoke("setup", argument(nonce=f"nonce-{self.world.nonces}", now=self.world.now, **changes))


def new_simulator(seed: int, rate: float) -> Simulator:
    market = SimulatedMarket(seed=seed, instruments=INSTRUMENTS[:2], rate=rate, now=0.0, unix_time=UNIX_TIME)
    accounts = {ALICE.api_key: KEY.public_key, BOB.api_key: OTHER_KEY.public_key}
    return Simulator(market, accounts=accounts, names=names(), now=0.0, unix_time=UNIX_TIME)


def argument(*, nonce: str, now: float = 0.0, late: float = 0.0, **changes: Any) -> dict[str, Any]:
    timestamp = int((UNIX_TIME + now - late) * 1000)
    return {**setup_argument(ALICE, nonce=nonce, timestamp=timestamp), **changes}


@pytest.fixture
def world() -> World:
    return World()


class TestSetup:
    @pytest.mark.parametrize("skip", [False, True])
    def test_a_client_that_behaves_is_ready(self, world: World, skip: bool) -> None:
        client = world.exchange(skip_negotiation=skip)
        assert isinstance(client.events[-1], Ready)
        world.advance(600.0)
        assert isinstance(client.events[-1], Ready), "pings keep it alive"

    def test_negotiation_and_websocket_may_share_one_stream(self, world: World) -> None:
        server = world.simulator.accept(0.0)
        path = f"/streams/v1/{ALICE.api_key}/signalr"
        server.receive_data(f"POST {path}/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: h\r\n\r\n".encode(), 0.0)
        assert b'"connectionToken":"name-2"' in server.data_to_send()
        assert not server.closed
        key = base64.b64encode(bytes(16)).decode()
        upgrade = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13"
        server.receive_data(f"GET {path}?id=name-2 HTTP/1.1\r\nHost: h\r\n{upgrade}\r\n\r\n".encode(), 0.0)
        assert server.data_to_send().startswith(b"HTTP/1.1 101")

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"who": Credentials("unknown", KEY)}, "the API key is not known"),
            ({"who": Credentials(ALICE.api_key, OTHER_KEY)}, "the signature does not fit"),
            ({"late": MAX_TIMESTAMP_AGE + 1.0}, "the timestamp is more than 60 s off"),
            ({"late": -MAX_TIMESTAMP_AGE - 1.0}, "the timestamp is more than 60 s off"),
        ],
    )
    def test_a_wrong_setup_is_refused(self, world: World, options: dict[str, Any], reason: str) -> None:
        client = world.exchange(**options)
        assert isinstance(client.error, SetupRefused)
        assert client.error.result == {"status": "failure", "message": reason}
        assert client.server.closed

    @pytest.mark.parametrize("late", [MAX_TIMESTAMP_AGE - 1.0, 1.0 - MAX_TIMESTAMP_AGE])
    def test_a_clock_may_be_a_little_off(self, world: World, late: float) -> None:
        assert isinstance(world.exchange(late=late).events[-1], Ready)

    def test_a_nonce_counts_once(self, world: World) -> None:
        world.exchange(nonce="once")
        second = world.exchange(nonce="once")
        assert second.error.result["message"] == "the nonce was used before"
        assert isinstance(world.exchange(nonce="twice").events[-1], Ready)

    def test_a_nonce_of_a_refused_setup_is_not_spent(self, world: World) -> None:
        assert isinstance(world.exchange(Credentials(ALICE.api_key, OTHER_KEY), nonce="mine").error, SetupRefused)
        assert isinstance(world.exchange(nonce="mine").events[-1], Ready)

    def test_nonces_are_remembered_as_long_as_a_timestamp_could_be_repeated(self, world: World) -> None:
        world.exchange(nonce="old")
        world.advance(2 * MAX_TIMESTAMP_AGE)
        assert isinstance(world.exchange(nonce="old").error, SetupRefused)
        world.advance(1.0)
        # Forgotten, so that memory stays bounded: whatever was signed with it is too old by now.
        assert isinstance(world.exchange(nonce="old").events[-1], Ready)

    def test_the_key_in_the_url_must_be_that_of_the_argument(self, world: World) -> None:
        client = world.hub(f"/streams/v1/{BOB.api_key}/signalr")
        assert client.authenticate() == {"status": "failure", "message": "the API key is not known"}
        assert isinstance(client.error, ServerClosed)
        assert not client.error.may_retry

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            [None],
            ["setup"],
            [{}],
            [argument(nonce="n"), argument(nonce="n")],
            [argument(nonce="n", timestamp="1600000000000")],
            [argument(nonce="n", timestamp=None)],
            [argument(nonce="n", nonsense=1, nonce_="n", apiKey=7)],
            [{**argument(nonce="n"), "nonce": 1}],
            [{**argument(nonce="n"), "signature": ["x"]}],
        ],
    )
    def test_a_malformed_argument_is_refused(self, world: World, arguments: list[Any]) -> None:
        client = world.hub()
        answer = client.invoke("setup", *arguments)
        assert answer == {"status": "failure", "message": "expected apiKey, nonce, timestamp and signature"}
        assert isinstance(client.error, ServerClosed)

    @pytest.mark.parametrize("signature", ["", "not base64!", "é", "AAAA"])
    def test_a_signature_that_is_none_is_refused(self, world: World, signature: str) -> None:
        assert world.hub().authenticate(signature=signature)["message"] == "the signature does not fit"

    @pytest.mark.parametrize("timestamp", [10**400, -(10**400), 0, True])
    def test_an_absurd_timestamp_is_refused(self, world: World, timestamp: int) -> None:
        assert "s off" in world.hub().authenticate(timestamp=timestamp)["message"]

    def test_further_fields_do_not_matter(self, world: World) -> None:
        assert world.hub().authenticate(version=2) == {"status": "success"}

    def test_setup_must_follow_soon(self, world: World) -> None:
        client = world.hub()
        world.advance(SETUP_TIMEOUT - 0.1)
        assert client.machine.state is State.CONNECTED
        world.advance(0.2)
        assert isinstance(client.error, ServerClosed)
        assert client.error.reason == "setup did not follow the handshake in time"

    def test_other_calls_do_not_put_setup_off(self, world: World) -> None:
        client = world.hub()
        world.advance(SETUP_TIMEOUT - 0.1)
        client.invoke("nothing")
        client.stream("setup", argument(nonce="n"))
        world.advance(0.2)
        assert isinstance(client.error, ServerClosed)

    def test_setup_is_no_stream(self, world: World) -> None:
        failure = world.hub().stream("setup", argument(nonce="n"))
        assert failure == "HubError: The client attempted to invoke the method 'setup' in the wrong mode."

    def test_a_later_setup_that_fails_ends_what_was_subscribed(self, world: World) -> None:
        client = world.hub()
        client.authenticate()
        client.stream("subscribe", ORDINARY)
        client.is_reading = False
        assert client.authenticate(signature="AAAA") is None
        world.trade()
        assert world.simulator.subscribers == 0
        client.is_reading = True
        world.drive()
        assert isinstance(client.error, ServerClosed)

    def test_setup_may_be_repeated(self, world: World) -> None:
        client = world.hub()
        assert client.authenticate() == client.authenticate() == {"status": "success"}


class TestSubscribe:
    @pytest.fixture
    def client(self, world: World) -> Client:
        client = world.hub()
        client.authenticate()
        return client

    def test_setup_is_needed_first(self, world: World) -> None:
        assert world.hub().stream("subscribe", ORDINARY) == "HubError: setup is needed first"

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            [None],
            [ORDINARY, ORDINARY],
            [{"channels": ["btcusd"]}],
            [{"event": PUBLIC_EVENT}],
            [{"channels": [], "event": PUBLIC_EVENT}],
            [{"channels": "btcusd", "event": PUBLIC_EVENT}],
            [{"channels": ["btcusd", 1], "event": PUBLIC_EVENT}],
            [{"channels": [1, "btcusd"], "event": PUBLIC_EVENT}],
            [{"channels": ["btcusd"], "event": 1}],
        ],
    )
    def test_a_malformed_argument_is_refused(self, client: Client, arguments: list[Any]) -> None:
        assert client.stream("subscribe", *arguments) == "HubError: expected channels and event"
        assert client.machine.state is State.CONNECTED

    @pytest.mark.parametrize("fields", [[], ["price", "name"], "name", {"name": 1}, [1, 2], ["name", None], 7])
    def test_fields_must_be_names_in_order(self, client: Client, fields: Any) -> None:
        failure = client.stream("subscribe", {**ORDINARY, "fields": fields})
        assert failure == "HubError: fields must be strings in alphanumeric order"

    def test_fields_may_be_null(self, client: Client) -> None:
        assert client.stream("subscribe", {**ORDINARY, "fields": None}) is None

    @pytest.mark.parametrize(
        ("channel", "event"), [("nothing", PUBLIC_EVENT), ("ltcusd", PUBLIC_EVENT), ("btcusd", "orderbook")]
    )
    def test_a_topic_must_be_listed(self, client: Client, channel: str, event: str) -> None:
        failure = client.stream("subscribe", {"channels": ["ethusd", channel], "event": event})
        assert failure.startswith("HubError: the topic ")
        assert failure.endswith(f" {event} is not listed")
        assert client.stream("subscribe", {"channels": ["ethusd"], "event": PUBLIC_EVENT}) is None

    def test_a_topic_is_subscribed_once(self, client: Client) -> None:
        assert client.stream("subscribe", ORDINARY) is None
        failure = client.stream("subscribe", {**ORDINARY, "channels": ["ethusd", "btcusd"]})
        assert failure == "HubError: the topic btcusd marketData is already subscribed"
        assert client.stream("subscribe", {**ORDINARY, "event": PRIVATE_EVENT}) is None, (
            "another event is another topic"
        )

    def test_two_connections_may_subscribe_the_same(self, world: World, client: Client) -> None:
        assert client.stream("subscribe", ORDINARY) is None
        world.exchange().subscribe("btcusd")
        assert world.simulator.subscribers == 2

    def test_subscribe_is_a_stream(self, client: Client) -> None:
        failure = client.invoke("subscribe", ORDINARY)
        assert failure == "HubError: The client attempted to invoke the method 'subscribe' in the wrong mode."

    @pytest.mark.parametrize("call", ["invoke", "stream"])
    def test_unknown_methods_are_refused(self, client: Client, call: str) -> None:
        assert getattr(client, call)("unsubscribe") == "HubError: Unknown hub method 'unsubscribe'"

    def test_a_call_without_an_answer_does_nothing(self, client: Client) -> None:
        client.machine.send("subscribe", [ORDINARY], now=0.0)
        client.world.drive()
        assert client.world.simulator.subscribers == 0

    def test_a_refusal_reaches_the_real_client(self, world: World) -> None:
        client = world.exchange()
        client.subscribe("nothing")
        assert client.failure().endswith("the topic nothing marketData is not listed")

    def test_a_topic_may_be_subscribed_again_after_its_end(self, world: World) -> None:
        client = world.exchange()
        subscription = client.subscribe("btcusd")
        world.trade()
        assert client.market_events
        client.machine.unsubscribe(subscription, now=world.now)
        world.drive()
        assert world.simulator.subscribers == 0
        client.events.clear()
        world.trade()
        assert client.events == []
        again = client.subscribe("btcusd")
        world.trade()
        assert {each.subscription for each in client.events} == {again}

    def test_the_end_of_one_stream_leaves_the_others(self, world: World) -> None:
        client = world.exchange()
        first, second = client.subscribe("btcusd"), client.subscribe("ethusd")
        client.machine.unsubscribe(first, now=world.now)
        world.drive()
        client.events.clear()
        world.trade()
        assert {each.subscription for each in client.events} == {second}

    def test_the_cancellation_of_a_refused_call_does_nothing(self, client: Client) -> None:
        client.stream("subscribe", {})
        client.say(frame(records({"type": 5, "invocationId": "2"}), masked=True))
        client.world.drive()
        assert client.machine.state is State.CONNECTED


class TestPublishing:
    def test_every_subscriber_gets_its_topics_and_nothing_else(self, world: World) -> None:
        both, bitcoin, none = world.exchange(), world.exchange(BOB), world.exchange()
        both.subscribe("btcusd", "ethusd")
        bitcoin.subscribe("btcusd")
        changes = world.trade(300)
        assert len(both.market_events) == changes
        assert {event.market for event in both.market_events} == {"btcusd", "ethusd"}
        expected = [event for event in both.market_events if event.market == "btcusd"]
        assert bitcoin.market_events == expected
        assert none.market_events == []

    def test_events_decode_to_their_types(self, world: World) -> None:
        client = world.exchange()
        client.subscribe("btcusd", "ethusd")
        world.trade(300)
        kinds = {type(event) for event in client.market_events}
        assert len(kinds) == 5
        assert UnknownEvent not in kinds
        assert not any(event.is_private for event in client.market_events)

    def test_fields_make_rows(self, world: World) -> None:
        rows, whole = world.exchange(), world.exchange(BOB)
        rows.subscribe("btcusd", fields=["id", "name", "price"])
        whole.subscribe("btcusd")
        world.trade()
        expected = [(getattr(event, "id", None), event.name, event.price) for event in whole.market_events]
        assert [(row.id, row.name, row.price) for row in rows.market_events] == expected

    def test_private_events_reach_their_own_customer_only(self, world: World) -> None:
        alice, bob = world.exchange(), world.exchange(BOB)
        for client in (alice, bob):
            client.subscribe("btcusd", "ethusd", event=PRIVATE_EVENT)
        world.trade(400)
        assert alice.market_events
        assert bob.market_events
        assert all(event.is_private for event in alice.market_events + bob.market_events)
        mine, theirs = (
            {event.id for event in client.market_events if isinstance(event, OrderCreated)} for client in (alice, bob)
        )
        assert mine
        assert theirs
        assert not mine & theirs

    def test_private_rows(self, world: World) -> None:
        client = world.exchange()
        client.subscribe("btcusd", event=PRIVATE_EVENT, fields=["name", "strategy"])
        world.trade(400)
        assert {row.name for row in client.market_events} >= {"order_created"}

    def test_time_makes_the_market_move(self) -> None:
        world = World(rate=10.0)
        client = world.exchange()
        client.subscribe("btcusd", "ethusd")
        world.advance(60.0)
        assert 300 < len(client.market_events) < 1200
        assert world.simulator.market.deadline == world.simulator.deadline > world.now

    def test_the_same_inputs_give_the_same_bytes(self) -> None:
        world = World(seed=7, rate=20.0)
        client, other = world.exchange(), world.exchange(BOB)
        client.subscribe("btcusd")
        other.subscribe("btcusd", "ethusd", fields=["name", "price"])
        world.advance(20.0)
        first, second = replay(world, seed=7), replay(world, seed=7)
        assert first == second
        assert len(first) > 5_000
        assert client.received in first
        assert replay(world, seed=8) != first


def replay(world: World, seed: int) -> bytes:
    """Do to a new exchange what was done to this one; all that it says, stream by stream."""
    simulator = new_simulator(seed, 20.0)
    servers: list[SimulatorConnection] = []
    said: list[bytes] = []
    for what, now, stream, data in world.log:
        match what:
            case "accept":
                servers.append(simulator.accept(now))
                said.append(b"")
            case "data":
                servers[stream].receive_data(data, now)
            case "timeout":
                servers[stream].handle_timeout(now)
            case "step":
                simulator.step(now)
            case _:
                simulator.advance(now)
        for number, server in enumerate(servers):
            said[number] += server.data_to_send()
    return b"".join(said)


class TestTheEnd:
    def test_a_slow_consumer_is_dropped_and_may_come_back(self, world: World) -> None:
        slow, quick = world.exchange(), world.exchange(BOB)
        slow.subscribe("btcusd", "ethusd")
        quick.subscribe("btcusd")
        slow.is_reading = False
        most = 0
        while slow.server.is_subscribed:
            world.trade(1)
            most = max(most, slow.server.queued_bytes)
        assert MAX_QUEUED_BYTES // 2 < most < MAX_QUEUED_BYTES
        assert world.simulator.subscribers == 1
        slow.is_reading = True
        world.drive()
        assert isinstance(slow.error, ServerClosed)
        assert slow.error.reason == "the client does not read fast enough"
        assert slow.error.may_retry
        seen = len(quick.market_events)
        world.trade()
        assert len(quick.market_events) > seen

    def test_a_slow_consumer_that_never_reads_is_cut_off(self, world: World) -> None:
        slow = world.exchange()
        slow.subscribe("btcusd", "ethusd")
        slow.is_reading = False
        while slow.server.is_subscribed:
            world.trade(1)
        slow.is_silent = True
        world.advance(5.0)
        assert slow.server.closed

    def test_a_client_that_does_not_read_its_answers_is_dropped_too(self, world: World) -> None:
        client = world.hub()
        client.authenticate()
        client.is_reading = False
        call = {"type": 1, "invocationId": "", "target": "x" * 30_000, "arguments": []}
        # Many calls in each piece, so that their answers pile up while they are being read.
        for batch in range(3):
            calls = [{**call, "invocationId": f"{batch}.{number}"} for number in range(60)]
            client.say(frame(records(*calls), masked=True))
            assert client.server.queued_bytes < MAX_QUEUED_BYTES
        client.is_reading = True
        world.drive()
        assert isinstance(client.error, ServerClosed)
        assert client.error.reason == "the client does not read fast enough"

    def test_a_client_that_falls_silent_is_dropped(self, world: World) -> None:
        client = world.exchange()
        client.subscribe("btcusd")
        world.advance(20.0)
        client.is_silent = True
        world.advance(40.0)
        assert client.server.closed
        assert world.simulator.subscribers == 0
        assert isinstance(client.error, ServerClosed)

    def test_an_exchange_that_falls_silent_is_given_up(self, world: World) -> None:
        client = world.exchange()
        client.is_reading = False
        world.advance(40.0)
        assert isinstance(client.error, TimedOut)

    def test_closing_says_goodbye(self, world: World) -> None:
        client = world.exchange()
        client.subscribe("btcusd")
        client.server.close(now=world.now)
        assert world.simulator.subscribers == 0
        world.trade()
        assert isinstance(client.error, ServerClosed)
        assert client.error.may_retry
        client.server.close(now=world.now)
        assert client.server.data_to_send() == b""
        assert client.server.deadline == float("inf")

    def test_closing_for_good(self, world: World) -> None:
        client = world.exchange()
        client.server.close(allow_reconnect=False, now=world.now)
        world.drive()
        assert not client.error.may_retry

    def test_closing_before_the_websocket_just_ends(self, world: World) -> None:
        server = world.simulator.accept(0.0)
        server.close(now=0.0)
        assert server.closed

    def test_the_clients_goodbye(self, world: World) -> None:
        client = world.exchange()
        client.subscribe("btcusd")
        client.machine.close(now=world.now)
        world.drive()
        assert client.error is None
        assert client.server.closed
        assert world.simulator.subscribers == 0
        world.trade()

    def test_a_cut_stream(self, world: World) -> None:
        client = world.exchange()
        client.subscribe("btcusd")
        client.cut()
        assert isinstance(client.error, ConnectionLost)
        assert client.server.closed
        world.trade()

    def test_what_comes_with_the_clients_goodbye_is_not_answered(self, world: World) -> None:
        client = world.hub()
        setup = {"type": 1, "invocationId": "9", "target": "setup", "arguments": [argument(nonce="n")]}
        subscribe = {"type": 4, "invocationId": "10", "target": "subscribe", "arguments": [ORDINARY]}
        client.server.data_to_send()
        client.say(frame(records(setup, subscribe, {"type": 5, "invocationId": "10"}, {"type": 7}), masked=True))
        assert client.server.closed
        assert b'"type":3' not in client.server.data_to_send()
        assert isinstance(world.exchange(nonce="n").events[-1], Ready), "it was not even judged"

    def test_handshake_and_goodbye_in_one_piece(self, world: World) -> None:
        server = world.simulator.accept(0.0)
        key = base64.b64encode(bytes(16)).decode()
        upgrade = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13"
        head = f"GET /streams/v1/x/signalr HTTP/1.1\r\nHost: h\r\n{upgrade}\r\n\r\n".encode()
        greeting = frame(records({"protocol": "json", "version": 1}, {"type": 7}), masked=True)
        server.receive_data(head + greeting, 0.0)
        assert server.closed
        assert server.deadline == float("inf")

    def test_what_follows_a_refused_setup_is_not_answered(self, world: World) -> None:
        client = world.hub()
        bad = {"type": 1, "invocationId": "1", "target": "setup", "arguments": [{}]}
        good = {"type": 1, "invocationId": "2", "target": "setup", "arguments": [argument(nonce="n")]}
        client.server.data_to_send()
        client.say(frame(records(bad, good), masked=True))
        said = client.server.data_to_send()
        assert said.count(b'"type":3') == 1
        assert b"success" not in said

    def test_a_stream_cancelled_twice_in_one_piece(self, world: World) -> None:
        client = world.hub()
        client.authenticate()
        subscribe = {"type": 4, "invocationId": "s", "target": "subscribe", "arguments": [ORDINARY]}
        cancel = {"type": 5, "invocationId": "s"}
        client.say(frame(records(subscribe, cancel, cancel), masked=True))
        said = client.server.data_to_send()
        assert hub_frame({"type": 3, "invocationId": "s"}).replace(b" ", b"")[2:] in said
        assert said.count(b'"invocationId":"s"') == 1
        assert world.simulator.subscribers == 0


class TestPaths:
    @pytest.mark.parametrize(
        "path", ["/", "/streams/v1/signalr", "/streams/v1//signalr", "/streams/v2/k/signalr", "/x"]
    )
    def test_other_paths_do_not_exist(self, world: World, path: str) -> None:
        refused = world.hub(path)
        assert isinstance(refused.error, UpgradeFailed)
        assert refused.error.status == 404
        refused = world.hub(path, skip_negotiation=False)
        assert isinstance(refused.error, NegotiationFailed)
        assert refused.error.status == 404

    def test_a_hub_exists_for_any_key(self, world: World) -> None:
        assert isinstance(world.hub("/streams/v1/anything/signalr").events[-1], Connected)
