"""The blocking adapter on real loopback sockets and on streams in memory, against the embedded exchange."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme

from etorox_proto import (
    CallLost,
    ConnectionClosed,
    ConnectionFailed,
    ConnectionLost,
    Credentials,
    Dial,
    ExchangeConfig,
    LocalProtocolError,
    MarketEvent,
    NegotiationFailed,
    OrderCreated,
    Row,
    SetupRefused,
    SubscriptionEnded,
    SubscriptionFailed,
    TimedOut,
    generate_private_key,
    load_private_key,
)
from etorox_proto.signalr import (
    Connected,
    ConnectionTokens,
    HubConfig,
    HubError,
    InvocationReceived,
    ServerConfig,
    ServerConnection,
)
from etorox_transports import DialFailed, FeedOverflow
from etorox_transports.blocking import (
    ByteStream,
    Hub,
    OtherFeedFull,
    SocketStream,
    connect,
    connect_hub,
    open_socket,
)
from etorox_transports.cli._host import SimulatorHost
from hosts import served

API_KEY = "5c9d4a52-1f0c-4d0a-9a52-0a6d2b7f2a11"
KEY = load_private_key(generate_private_key(2048))
CREDENTIALS = Credentials(API_KEY, KEY)


@contextlib.contextmanager
def exchange_host(**options: Any) -> Iterator[SimulatorHost]:
    with served(API_KEY, KEY.public_key, **options) as host:
        yield host


@pytest.fixture(scope="module")
def host() -> Iterator[SimulatorHost]:
    with exchange_host(rate=2000.0, seed=1) as host:
        yield host


def config(host: SimulatorHost, **options: Any) -> ExchangeConfig:
    return ExchangeConfig(f"http://127.0.0.1:{host.port}", **options)


class TestExchange:
    def test_typed_events_arrive(self, host: SimulatorHost) -> None:
        with connect(config(host), CREDENTIALS) as exchange:
            feed = exchange.subscribe(["btcusd"])
            events: list[MarketEvent] = [next(feed) for _ in range(50)]
        assert {event.market for event in events if isinstance(event, OrderCreated)} == {"btcusd"}

    def test_rows_arrive_for_fields(self, host: SimulatorHost) -> None:
        with connect(config(host), CREDENTIALS) as exchange:
            for row in itertools.islice(exchange.subscribe(["btcusd"], fields=["name", "price"]), 5):
                assert isinstance(row, Row)
                assert row.fields == ("name", "price")

    def test_two_feeds_get_their_own_events(self, host: SimulatorHost) -> None:
        with connect(config(host), CREDENTIALS) as exchange:
            bitcoin, ether = exchange.subscribe(["btcusd"]), exchange.subscribe(["ethusd"])
            for _ in range(20):
                assert next(bitcoin).market == "btcusd"
                assert next(ether).market == "ethusd"

    def test_events_of_all_subscriptions_in_order(self, host: SimulatorHost) -> None:
        with connect(config(host), CREDENTIALS) as exchange:
            handles = {exchange.subscribe([channel]).handle for channel in ("btcusd", "ethusd")}
            seen = {received.subscription for received in itertools.islice(exchange.events(), 200)}
        assert seen == handles

    def test_closing_a_feed_ends_its_iteration_and_frees_its_topic(self, host: SimulatorHost) -> None:
        with connect(config(host), CREDENTIALS) as exchange:
            feed = exchange.subscribe(["btcusd"])
            next(feed)
            feed.close()
            assert list(feed) == []
            assert next(exchange.subscribe(["btcusd"])).market == "btcusd"

    def test_a_closed_feed_is_an_event_of_the_iteration_over_all(self, host: SimulatorHost) -> None:
        with connect(config(host), CREDENTIALS) as exchange:
            closed, other = exchange.subscribe(["btcusd"]), exchange.subscribe(["ethusd"])
            events = exchange.events()
            next(events)
            closed.close()
            rest = itertools.dropwhile(lambda event: not isinstance(event, SubscriptionEnded), events)
            ended = next(rest)
            assert (ended.subscription, ended.error) == (closed.handle, None)
            assert {event.subscription for event in itertools.islice(rest, 50)} == {other.handle}

    def test_a_refused_subscription_raises_where_it_is_read(self, host: SimulatorHost) -> None:
        with connect(config(host), CREDENTIALS) as exchange:
            good, bad = exchange.subscribe(["btcusd"]), exchange.subscribe(["nothing"])
            with pytest.raises(SubscriptionFailed, match="not listed"):
                next(bad)
            assert next(good).market == "btcusd"

    def test_a_refused_subscription_is_an_event_of_the_iteration_over_all(self, host: SimulatorHost) -> None:
        with connect(config(host), CREDENTIALS) as exchange:
            feed = exchange.subscribe(["nothing"])
            ended = next(exchange.events())
            assert ended.subscription is feed.handle
            with pytest.raises(SubscriptionFailed, match="not listed"):
                raise ended.error

    def test_a_local_mistake_is_refused_before_anything_is_sent(self, host: SimulatorHost) -> None:
        with connect(config(host), CREDENTIALS) as exchange, pytest.raises(LocalProtocolError, match="alphanumeric"):
            exchange.subscribe(["btcusd"], fields=["price", "name"])

    def test_the_next_event_may_be_waited_for_with_a_timeout(self) -> None:
        with exchange_host(rate=0.0001) as host, connect(config(host), CREDENTIALS) as exchange:
            feed = exchange.subscribe(["btcusd"])
            with pytest.raises(TimeoutError):
                feed.next(timeout=0.05)
            host.simulator.market.register("somebody else")  # the feed and the market go on
            with pytest.raises(TimeoutError):
                feed.next(timeout=0.0)

    def test_an_unread_feed_overflows_and_says_so(self, host: SimulatorHost) -> None:
        with connect(config(host), CREDENTIALS, feed_capacity=10) as exchange:
            unread, read = exchange.subscribe(["btcusd"]), exchange.subscribe(["ethusd"])
            while not unread.dropped:
                next(read)
            assert [next(unread).market for _ in range(10)] == ["btcusd"] * 10
            with pytest.raises(FeedOverflow, match="10 events") as caught:
                next(unread)
            assert caught.value.dropped > 0
            assert next(unread).market == "btcusd"

    def test_closing_twice_does_nothing_more(self, host: SimulatorHost) -> None:
        exchange = connect(config(host), CREDENTIALS)
        exchange.subscribe(["btcusd"])
        exchange.close()
        exchange.close()
        assert list(exchange.events()) == []

    def test_a_feed_of_a_connection_that_we_closed_has_ended(self, host: SimulatorHost) -> None:
        with connect(config(host), CREDENTIALS) as exchange:
            feed = exchange.subscribe(["btcusd"])
        assert list(feed) == []

    def test_feeds_learn_of_an_end_that_the_iteration_over_all_has_seen(self, host: SimulatorHost) -> None:
        with connect(config(host), CREDENTIALS) as exchange:
            good, refused = exchange.subscribe(["btcusd"]), exchange.subscribe(["nothing"])
            events = exchange.events()
            assert any(isinstance(event, SubscriptionEnded) for event in events)
            events.close()
            with pytest.raises(SubscriptionFailed, match="not listed"):
                next(refused)
            assert next(good).market == "btcusd"

    def test_a_stopped_server_ends_a_single_attempt_with_its_reason(self) -> None:
        with exchange_host(rate=500.0) as host:
            exchange = connect(config(host), CREDENTIALS, session=None)
            feeds = [exchange.subscribe([channel]) for channel in ("btcusd", "ethusd")]
            events = exchange.events()
            next(events)
        for reader in (events, *feeds, events):
            with pytest.raises(ConnectionFailed, match="closed the connection"):
                list(reader)
        with pytest.raises(ConnectionFailed, match="closed the connection"):
            list(exchange.events())
        exchange.close()

    def test_nothing_is_left_open(self, host: SimulatorHost) -> None:
        with connect(config(host), CREDENTIALS):
            assert host.clients >= 1
        until = time.monotonic() + 5.0
        while host.clients and time.monotonic() < until:
            threading.Event().wait(0.01)
        assert host.clients == 0

    def test_a_stopped_server_raises_for_every_reader(self) -> None:
        with exchange_host(rate=500.0) as host:
            exchange = connect(config(host), CREDENTIALS, session=None)
            feed, other = exchange.subscribe(["btcusd"]), exchange.subscribe(["ethusd"])
            next(feed)
        for each in (feed, other, feed):
            with pytest.raises(ConnectionFailed, match="closed the connection"):
                list(each)
        with pytest.raises(ConnectionClosed):
            exchange.subscribe(["xrpusd"])
        exchange.close()

    def test_a_wrong_api_key_is_refused(self, host: SimulatorHost) -> None:
        with pytest.raises(SetupRefused, match="the API key is not known"):
            connect(config(host), Credentials("another-key", KEY))

    def test_a_string_is_a_host(self) -> None:
        with pytest.raises(DialFailed, match="could not connect to localhost port 1"):
            connect("https://localhost:1", CREDENTIALS)


class TestTls:
    def test_a_private_authority_is_trusted_through_a_context(self) -> None:
        authority = trustme.CA()
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(server)
        client = ssl.create_default_context()
        authority.configure_trust(client)
        with exchange_host(rate=500.0, ssl_context=server) as host:
            exchange_config = ExchangeConfig(f"localhost:{host.port}")
            with connect(exchange_config, CREDENTIALS, ssl_context=client) as exchange:
                assert next(exchange.subscribe(["btcusd"])).market == "btcusd"
            with pytest.raises(DialFailed, match="certificate was not accepted") as caught:
                connect(exchange_config, CREDENTIALS)
            assert not caught.value.may_retry

    def test_a_wrong_name_is_refused(self) -> None:
        authority = trustme.CA()
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("somewhere.else").configure_cert(server)
        client = ssl.create_default_context()
        authority.configure_trust(client)
        with exchange_host(ssl_context=server) as host, pytest.raises(DialFailed, match="certificate"):
            connect(ExchangeConfig(f"localhost:{host.port}"), CREDENTIALS, ssl_context=client)

    def test_a_client_certificate_is_presented(self) -> None:
        authority = trustme.CA()
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(server)
        authority.configure_trust(server)
        server.verify_mode = ssl.CERT_REQUIRED
        client = ssl.create_default_context()
        authority.configure_trust(client)
        authority.issue_cert("client@example.org").configure_cert(client)
        with exchange_host(rate=500.0, ssl_context=server) as host:
            exchange_config = ExchangeConfig(f"localhost:{host.port}")
            with connect(exchange_config, CREDENTIALS, ssl_context=client) as exchange:
                assert next(exchange.subscribe(["btcusd"])).market == "btcusd"

    def test_plain_http_at_the_port_is_a_clear_error(self, host: SimulatorHost) -> None:
        with pytest.raises(DialFailed, match="does it speak TLS"):
            connect(ExchangeConfig(f"https://127.0.0.1:{host.port}"), CREDENTIALS)

    def test_https_at_the_port_is_a_clear_error_too(self) -> None:
        authority = trustme.CA()
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(server)
        with exchange_host(ssl_context=server) as host, pytest.raises(ConnectionFailed, match="https"):
            connect(ExchangeConfig(f"http://127.0.0.1:{host.port}"), CREDENTIALS)


@contextlib.contextmanager
def scripted_listener(*scripts: Callable[[socket.socket], object]) -> Iterator[int]:
    """A listener that lets each script talk to one client, in turn."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for script in scripts:
            with listener.accept()[0] as sock:
                script(sock)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join(5.0)
        listener.close()


class TestFailures:
    def test_a_server_that_hangs_up_at_once(self) -> None:
        with scripted_listener(lambda sock: sock.recv(65_536)) as port, pytest.raises(ConnectionLost, match="closed"):
            connect(ExchangeConfig(f"http://127.0.0.1:{port}"), CREDENTIALS)

    def test_a_server_that_resets(self) -> None:
        def reset(sock: socket.socket) -> None:
            sock.recv(10)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        with scripted_listener(reset) as port, pytest.raises(ConnectionLost) as caught:
            connect(ExchangeConfig(f"http://127.0.0.1:{port}"), CREDENTIALS)
        assert isinstance(caught.value.__cause__, ConnectionResetError)

    def test_a_server_that_answers_something_else(self) -> None:
        def answer(sock: socket.socket) -> None:
            sock.recv(65_536)
            sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        with scripted_listener(answer) as port, pytest.raises(NegotiationFailed, match="404"):
            connect(ExchangeConfig(f"http://127.0.0.1:{port}"), CREDENTIALS)

    def test_a_server_that_never_answers(self) -> None:
        done = threading.Event()
        with scripted_listener(lambda _sock: done.wait(5.0)) as port:
            with pytest.raises(TimedOut, match=r"did not answer the negotiate request within 0.05 s"):
                connect(ExchangeConfig(f"http://127.0.0.1:{port}", opening_timeout=0.05), CREDENTIALS)
            done.set()

    def test_a_dial_that_takes_too_long_ends_with_the_machines_error(self) -> None:
        def never(_dial: Dial, _timeout: float) -> ByteStream:
            raise TimeoutError

        with pytest.raises(ConnectionFailed):
            connect(ExchangeConfig("localhost"), CREDENTIALS, open=never)

    def test_an_opener_of_your_own_is_used_and_its_error_is_raised(self) -> None:
        seen: list[Dial] = []

        def refuse(dial: Dial, timeout: float) -> ByteStream:
            seen.append(dial)
            assert 0 < timeout <= 30.0
            raise ConnectionRefusedError("no way through the proxy")

        with pytest.raises(DialFailed, match="no way through the proxy") as caught:
            connect(ExchangeConfig("streams.example.com"), CREDENTIALS, open=refuse)
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        assert seen == [Dial("streams.example.com", 443, tls=True, server_name="streams.example.com")]

    def test_a_send_that_fails_is_the_end_of_the_stream(self) -> None:
        class Broken:
            def send_all(self, data: bytes, timeout: float) -> None:
                raise BrokenPipeError("gone")

            def receive(self, timeout: float) -> bytes:
                raise AssertionError("nothing to receive")

            def close(self) -> None:
                pass

        with pytest.raises(ConnectionLost) as caught:
            connect(ExchangeConfig("localhost"), CREDENTIALS, open=lambda _dial, _timeout: Broken())
        assert isinstance(caught.value.__cause__, BrokenPipeError)

    def test_an_interrupt_while_dialling_leaves_nothing_open(self) -> None:
        def interrupted(_dial: Dial, _timeout: float) -> ByteStream:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            connect(ExchangeConfig("localhost"), CREDENTIALS, open=interrupted)

    def test_a_bad_tls_context_closes_the_socket(self, host: SimulatorHost) -> None:
        with pytest.raises(AttributeError):
            open_socket(Dial("127.0.0.1", host.port, tls=True, server_name="x"), 5.0, object())  # type: ignore[arg-type]


Answer = Callable[[ServerConnection, InvocationReceived | Connected], None]


class MemoryStream:
    """A byte stream to a `ServerConnection` in memory, whose hub does what `answer` says."""

    def __init__(self, tokens: ConnectionTokens, answer: Answer) -> None:
        self.server = ServerConnection(ServerConfig(), tokens=tokens, now=time.monotonic())
        self.answer = answer

    def send_all(self, data: bytes, timeout: float) -> None:
        assert timeout > 0
        self.server.receive_data(data, time.monotonic())
        while (event := self.server.next_event()) is not None:
            if isinstance(event, InvocationReceived | Connected):
                self.answer(self.server, event)

    def receive(self, timeout: float) -> bytes:
        data = self.server.data_to_send()
        if not data:
            raise TimeoutError
        return data

    def close(self) -> None:
        pass


def hub_with(answer: Answer, **options: Any) -> Hub:
    tokens = ConnectionTokens(map(str, itertools.count()))
    hub_config = HubConfig(url="http://localhost/hub", **options)
    return connect_hub(hub_config, open=lambda _dial, _timeout: MemoryStream(tokens, answer), feed_capacity=100)


def calculator(server: ServerConnection, event: InvocationReceived | Connected) -> None:
    now = time.monotonic()
    match event:
        case InvocationReceived(target="add", invocation_id=str(call)):
            server.complete(call, result=sum(event.arguments), now=now)
        case InvocationReceived(target="fail", invocation_id=str(call)):
            server.complete(call, error="no", now=now)
        case InvocationReceived(target="count", invocation_id=str(call)):
            for number in range(event.arguments[0]):
                server.send_item(call, number, now=now)
            server.complete(call, now=now)
        case InvocationReceived(target="hang up"):
            server.close(error="bye", now=now)
        case InvocationReceived(target="tell"):
            server.send("told", event.arguments, now=now)
        case _:
            pass


class TestHub:
    def test_calls_return_their_results(self) -> None:
        with hub_with(calculator) as hub:
            assert hub.invoke("add", 1, 2) == 3
            assert hub.invoke("add", 1, 2, result_type=float) == 3.0
            assert hub.connection.pending_calls == 0

    def test_a_servers_error_is_raised(self) -> None:
        with hub_with(calculator) as hub, pytest.raises(HubError, match="no"):
            hub.invoke("fail")

    def test_a_call_without_an_answer_times_out_and_is_cancelled(self) -> None:
        with hub_with(calculator) as hub:
            with pytest.raises(TimeoutError):
                hub.invoke("unheard", timeout=0.01)
            assert hub.connection.pending_calls == 0
            assert hub.invoke("add", 2, 2) == 4

    def test_streams_are_iterated(self) -> None:
        with hub_with(calculator) as hub:
            assert list(hub.stream("count", 5, item_type=int)) == [0, 1, 2, 3, 4]
            assert repr(hub) == "<Hub on <HubConnection to http://localhost: connected>>"
            stream = hub.stream("count", 5)
            assert next(stream) == 0
            stream.close()
            assert list(stream) == []

    def test_what_the_hub_calls_is_kept(self) -> None:
        with hub_with(calculator) as hub:
            hub.send("tell", "x")
            assert hub.invoke("add", 1) == 1
            assert hub.invocations.lag == 1
            assert next(hub.invocations).arguments == ["x"]
            hub.send("tell", "y")
            assert hub.invocations.next(timeout=5.0).arguments == ["y"]
        assert list(hub.invocations) == []

    def test_a_call_lost_with_the_connection_raises_its_reason(self) -> None:
        hub = hub_with(calculator)
        with pytest.raises(ConnectionFailed, match="bye") as caught:
            hub.invoke("hang up")
        assert isinstance(caught.value.__context__, CallLost)
        assert caught.value.__context__.delivery == "maybe_sent"
        with pytest.raises(LocalProtocolError, match="closed"):
            hub.invoke("add", 1)
        hub.close()

    def test_a_call_lost_beside_others_raises_the_connections_reason_too(self) -> None:
        hub = hub_with(calculator)
        stream = hub.stream("unheard")
        with pytest.raises(ConnectionFailed, match="bye"):
            hub.invoke("hang up")
        with pytest.raises(ConnectionFailed, match="bye"):
            next(stream)
        later = hub_with(calculator)
        call_first = later.connection.invoke("unheard", now=time.monotonic())
        with pytest.raises(ConnectionFailed, match="bye"):
            later.invoke("hang up")
        assert call_first.target == "unheard"

    def test_a_stream_lost_with_the_connection_raises_its_reason(self) -> None:
        hub = hub_with(calculator)
        stream = hub.stream("hang up")
        with pytest.raises(ConnectionFailed, match="bye"):
            next(stream)

    def test_an_interrupted_call_is_cancelled(self) -> None:
        waiting: list[bool] = []

        class Interrupted(MemoryStream):
            def receive(self, timeout: float) -> bytes:
                if waiting:
                    waiting.clear()
                    raise KeyboardInterrupt
                return super().receive(timeout)

        tokens = ConnectionTokens(map(str, itertools.count()))
        url = "http://localhost/hub"
        with connect_hub(url, open=lambda _dial, _timeout: Interrupted(tokens, calculator)) as hub:
            waiting.append(True)
            with pytest.raises(KeyboardInterrupt):
                hub.invoke("unheard")
            assert hub.connection.pending_calls == 0
            assert hub.invoke("add", 2, 2) == 4

    def test_a_peer_that_reads_slowly_is_given_its_time(self) -> None:
        """Its limit is for 64 KiB, not for all that waits to be sent."""
        sent: list[tuple[int, float]] = []

        class Noting(MemoryStream):
            def send_all(self, data: bytes, timeout: float) -> None:
                sent.append((len(data), timeout))
                super().send_all(data, timeout)

        tokens = ConnectionTokens(map(str, itertools.count()))
        with connect_hub("http://localhost/hub", open=lambda _dial, _timeout: Noting(tokens, calculator)) as hub:
            sent.clear()
            hub.send("note", "x" * 20_000)
            for _ in range(9):
                hub.connection.send("note", ["x" * 20_000], now=time.monotonic())
            assert hub.invoke("add", 2, 2) == 4
        assert sum(length for length, _ in sent) > 200_000
        assert max(length for length, _ in sent) == 65_536
        assert {timeout for length, timeout in sent if length == 65_536} == {5.0}

    def test_a_stream_with_a_bug_ends_calls_and_streams(self) -> None:
        broken: list[bool] = []

        class Broken(MemoryStream):
            def receive(self, timeout: float) -> bytes:
                if broken:
                    raise ValueError("not an OSError")
                return super().receive(timeout)

        tokens = ConnectionTokens(map(str, itertools.count()))
        url = "http://localhost/hub"
        with connect_hub(url, open=lambda _dial, _timeout: Broken(tokens, calculator)) as hub:
            stream = hub.stream("unheard")
            broken.append(True)
            with pytest.raises(ValueError, match="not an OSError"):
                hub.invoke("unheard")
            reads: list[Callable[[], Any]] = [
                lambda: hub.invoke("add", 1),
                lambda: next(stream),
                lambda: next(hub.invocations),
            ]
            for read in reads:
                with pytest.raises(ConnectionLost, match="an exception interrupted"):
                    read()
            stream.close()

    def test_a_full_stream_that_waits_holds_calls_up(self) -> None:
        with hub_with(calculator) as hub:
            stream = hub.stream("count", 5, capacity=3, overload="wait")
            with pytest.raises(OtherFeedFull) as caught:
                hub.invoke("add", 1)
            assert caught.value.feed is stream
            assert [next(stream) for _ in range(3)] == [0, 1, 2]
            assert hub.invoke("add", 2) == 2
            assert list(stream) == [3, 4]

    def test_a_url_is_enough(self) -> None:
        with pytest.raises(DialFailed):
            connect_hub("http://127.0.0.1:1/hub")


def test_a_socket_stream_reports_the_end_once_the_peer_has_gone() -> None:
    ours, theirs = socket.socketpair()
    stream = SocketStream(ours)
    with pytest.raises(TimeoutError):
        stream.receive(0.0)
    with pytest.raises(TimeoutError):
        stream.receive(0.001)
    theirs.sendall(b"x")
    assert stream.receive(1.0) == b"x"
    theirs.close()
    assert stream.receive(1.0) == b""
    stream.close()
    stream.close()
