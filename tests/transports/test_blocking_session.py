"""What is special to the blocking adapter: it reads for others too, pings for the busy, survives interrupts, and waits
for two connections with one thread. What all adapters have in common is in the contract suite."""

from __future__ import annotations

import gc
import itertools
import math
import socket
import time
from typing import Any

import pytest

from contract import CREDENTIALS, QUICK, where
from etorox_proto import (
    Closed,
    ConnectionClosed,
    ConnectionLost,
    Credentials,
    Dial,
    EventReceived,
    ExchangeConfig,
    Gap,
    LocalProtocolError,
    Ready,
    Reconnecting,
    SessionConfig,
    SessionState,
    SetupRefused,
    SubscriptionEnded,
    generate_private_key,
    load_private_key,
)
from etorox_transports import FeedOverflow, LatestBy
from etorox_transports.blocking import ByteStream, Exchange, Feed, OtherFeedFull, SocketStream, connect, open_socket
from hosts import served
from loopback_exchange import LoopbackExchange, number_of
from machines import API_KEY

ROTATING = SessionConfig(
    backoff_base=0.002, backoff_cap=0.02, attempts_per_minute=10_000, rotate_after=0.1, rotate_spread=0.0
)


def numbers(events: list[Any]) -> list[int]:
    return [number_of(event.event if isinstance(event, EventReceived) else event) for event in events]


def take(events: Any, count: int) -> list[int]:
    return numbers(list(itertools.islice(events, count)))


def two_feeds(server: LoopbackExchange, exchange: Exchange, **options: Any) -> tuple[Feed, Feed]:
    """A feed with these options that nobody reads, and one to read meanwhile."""
    unread, read = exchange.subscribe(["btcusd"], **options), exchange.subscribe(["ethusd"])
    server.wait(lambda: len(server.streams) == 2)
    return unread, read


def publish_and_deliver(server: LoopbackExchange, channel: str = "btcusd", count: int = 1) -> None:
    """Publish, and return when the bytes are in the client's socket."""
    server.publish(channel, count)
    server.do(lambda: None)  # it comes after what the turn before it has sent


class TestReading:
    def test_nothing_is_opened_before_somebody_reads(self) -> None:
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS, wait=False) as exchange:
            feed = exchange.subscribe(["btcusd"])
            assert not server.clients
            assert exchange.session.state is SessionState.CONNECTING
            server.every(0.001, server.publish_here)
            assert next(feed).market == "btcusd"

    def test_the_feed_that_is_read_loses_nothing_however_small_it_is(self) -> None:
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS, feed_capacity=1) as exchange:
            feed = exchange.subscribe(["btcusd"])
            server.wait(lambda: server.streams)
            server.publish(count=500)
            assert take(feed, 500) == list(range(1, 501))
            assert (feed.lag, feed.received, feed.delivered, feed.dropped) == (0, 500, 500, 0)

    def test_a_full_feed_that_waits_is_named_instead_of_waiting_for_ever(self) -> None:
        with LoopbackExchange() as server, connect(where(server, ping_interval=0.01), CREDENTIALS) as exchange:
            unread, read = two_feeds(server, exchange, capacity=10, overload="wait")
            server.publish(count=25)
            server.publish("ethusd")
            for _ in range(2):
                with pytest.raises(
                    OtherFeedFull, match=r"<Feed of <Subscription to btcusd .* to be read first"
                ) as caught:
                    next(read)
                assert caught.value.feed is unread
            assert unread.lag == 10
            pings = server.hubs[0].pings
            while server.hubs[0].pings <= pings:  # who tries again and again keeps the connection alive
                with pytest.raises(OtherFeedFull):
                    read.next(0.0)
            assert take(unread, 25) == list(range(1, 26))
            assert take(read, 1) == [1]

    def test_a_full_feed_holds_back_what_comes_by_turns_and_nothing_is_lost(self) -> None:
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS) as exchange:
            unread, read = two_feeds(server, exchange, capacity=10, overload="wait")
            both = ("btcusd", "ethusd")
            server.publish_by_turns(both, 1)
            assert (take(unread, 1), take(read, 1)) == ([1], [1])
            server.publish_by_turns(both, 100)
            assert take(read, 10) == list(range(2, 12))
            with pytest.raises(OtherFeedFull):
                next(read)
            assert take(unread, 8) == list(range(2, 10))
            events = exchange.events()
            rest = [number_of(event.event) for event in itertools.islice(events, 60)]
            assert sorted(rest)[:3] == [10, 11, 12]
            events.close()
            assert take(read, 5)[-1] < take(unread, 60)[-1]

    def test_a_full_feed_that_waits_does_not_hold_the_close_up(self) -> None:
        with LoopbackExchange() as server:
            with connect(where(server), CREDENTIALS) as exchange:
                unread, read = two_feeds(server, exchange, capacity=10, overload="wait")
                server.publish(count=25)
                server.publish("ethusd")
                with pytest.raises(OtherFeedFull):
                    next(read)
            assert take(unread, 11)[:10] == list(range(1, 11)), "what had come before the end"
            server.wait(lambda: not server.open)
            assert server.hubs[0].end == Closed(None)

    def test_who_wants_the_newest_gets_what_has_come_meanwhile(self) -> None:
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS) as exchange:
            feed = exchange.subscribe(["btcusd"], capacity=5, overload="drop_oldest")
            server.wait(lambda: server.streams)
            publish_and_deliver(server, count=100)
            assert take(feed, 5) == [96, 97, 98, 99, 100]
            assert (feed.received, feed.delivered, feed.dropped) == (100, 5, 95)

    def test_who_wants_the_latest_gets_one_of_each(self) -> None:
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS) as exchange:
            feed = exchange.subscribe(["btcusd", "ethusd"], overload=LatestBy(lambda event: event.market))
            server.wait(lambda: server.streams)
            publish_and_deliver(server, count=30)
            publish_and_deliver(server, "ethusd", 20)
            assert take(feed, 2) == [30, 20]
            publish_and_deliver(server)
            assert take(feed, 1) == [31]

    def test_looking_at_what_has_come_stops_where_another_feed_is_full(self) -> None:
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS) as exchange:
            full, newest = two_feeds(server, exchange, capacity=3, overload="wait")
            newest.close()
            newest = exchange.subscribe(["xrpusd"], overload="drop_oldest")
            server.wait(lambda: any("xrpusd" in stream.channels for stream in server.streams))
            publish_and_deliver(server, "xrpusd")
            publish_and_deliver(server, count=5)
            assert take(newest, 1) == [1]
            with pytest.raises(OtherFeedFull):
                next(newest)
            assert take(full, 5) == [1, 2, 3, 4, 5]

    def test_a_firehose_does_not_keep_a_reader_of_the_newest_from_reading(self) -> None:
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS) as exchange:
            feed = exchange.subscribe(["btcusd"], capacity=10, overload="drop_oldest")
            server.wait(lambda: server.streams)

            def pour() -> None:
                if all(client.machine.queued_bytes < 1_000_000 for client in server.hubs):
                    server.publish_here(count=50)

            server.every(0.0, pour)
            seen = take(feed, 100)
            assert seen == sorted(set(seen))


class TestEverything:
    def test_a_feed_is_not_read_beside_it(self) -> None:
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS) as exchange:
            feed, latest = two_feeds(server, exchange)
            latest.close()
            latest = exchange.subscribe(["xrpusd"], overload="drop_oldest")
            events = exchange.events()
            for each in (feed, latest):
                with pytest.raises(LocalProtocolError, match=r"expected events\(\) to be closed before a feed is read"):
                    next(each)
            events.close()
            events.close()
            server.publish()
            assert take(feed, 1) == [1]
            assert list(events) == []

    def test_a_newer_one_takes_over(self) -> None:
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS, session=QUICK) as exchange:
            feed, read = two_feeds(server, exchange)
            server.publish(count=3)
            server.publish("ethusd")
            next(read)
            earlier = exchange.events()
            assert (earlier.lag, earlier.received) == (3, 3)
            assert take(earlier, 1) == [1]
            newer = exchange.events()
            assert list(earlier) == []
            assert (newer.lag, feed.lag) == (2, 0)
            server.publish()
            assert take(newer, 3) == [2, 3, 4]
            assert newer.delivered == 3

    def test_what_waits_in_it_goes_back_to_the_feeds(self) -> None:
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS) as exchange:
            feed, read = two_feeds(server, exchange)
            server.publish(count=3)
            server.publish("ethusd")
            next(read)
            events = exchange.events()
            assert take(events, 1) == [1]
            events.close()
            assert feed.lag == 2
            assert take(feed, 2) == [2, 3]

    def test_what_a_feed_had_lost_is_forgotten_on_the_way_back(self) -> None:
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS) as exchange:
            feed, read = two_feeds(server, exchange, capacity=2)
            server.publish(count=5)
            server.publish("ethusd")
            next(read)
            exchange.events().close()
            server.publish()
            assert take(feed, 3) == [1, 2, 6]
            assert feed.dropped == 3

    def test_what_the_session_itself_was_asked_for_is_there_for_nobody_else(self) -> None:
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS, wait=False) as exchange:
            subscription = exchange.session.subscribe(["ethusd"], now=time.monotonic())
            feed = exchange.subscribe(["btcusd"])

            def publish() -> None:
                server.publish_here("ethusd")
                server.publish_here()

            server.every(0.001, publish)
            assert {event.market for event in itertools.islice(feed, 10)} == {"btcusd"}
            events = exchange.events()
            assert {event.subscription for event in itertools.islice(events, 10)} == {subscription, feed.handle}
            server.end_streams()
            ended = itertools.islice((event for event in events if isinstance(event, SubscriptionEnded)), 2)
            assert {event.subscription for event in ended} == {subscription, feed.handle}

    def test_what_was_held_back_comes_too(self) -> None:
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS) as exchange:
            _, read = two_feeds(server, exchange, capacity=2, overload="wait")
            server.publish(count=5)
            with pytest.raises(OtherFeedFull):
                next(read)
            assert take(exchange.events(), 5) == [1, 2, 3, 4, 5]

    def test_what_a_feed_had_lost_is_told(self) -> None:
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS) as exchange:
            _, read = two_feeds(server, exchange, capacity=2)
            server.publish(count=5)
            server.publish("ethusd")
            next(read)
            events = exchange.events()
            assert take(events, 2) == [1, 2]
            with pytest.raises(FeedOverflow) as caught:
                next(events)
            assert caught.value.dropped == 3
            server.publish()
            assert take(events, 1) == [6]

    def test_the_latest_of_each_market_beside_all_that_is_no_market_event(self) -> None:
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS, session=QUICK) as exchange:
            for channel in ("btcusd", "ethusd"):
                exchange.subscribe([channel])
            server.wait(lambda: len(server.streams) == 2)
            events = exchange.events(overload=LatestBy(lambda event: event.market))
            publish_and_deliver(server, count=10)
            publish_and_deliver(server, "ethusd", 20)
            assert take(events, 2) == [10, 20]
            server.cut()
            story = itertools.takewhile(lambda event: not isinstance(event, Ready), events)
            assert {type(event) for event in story} == {Reconnecting}
            server.wait(lambda: len(server.streams) == 2)
            publish_and_deliver(server, count=3)
            assert [type(event) for event in itertools.islice(events, 2)] == [Gap, EventReceived]

    def test_after_our_close_there_is_nothing_more(self) -> None:
        with LoopbackExchange() as server:
            exchange = connect(where(server), CREDENTIALS)
            feed = exchange.subscribe(["btcusd"])
            events = exchange.events()
            exchange.close()
            assert [type(event) for event in events] == [SubscriptionEnded]
            assert list(exchange.events()) == list(events) == list(feed) == []
            with pytest.raises(StopIteration):
                feed.next(0.0)
            with pytest.raises(ConnectionClosed):
                exchange.subscribe(["btcusd"])
            feed.close()
            assert repr(feed).endswith("ended>")
            assert repr(events) == "<Events: 0 waiting, ended>"


class TestStayingAlive:
    def test_who_is_busy_may_ping_without_reading(self) -> None:
        with LoopbackExchange() as server:
            config = where(server, ping_interval=0.01, server_timeout=0.1)
            with connect(config, CREDENTIALS, session=None) as exchange:
                feed = exchange.subscribe(["btcusd"])
                server.wait(lambda: server.streams)
                publish_and_deliver(server, count=3)
                began = time.monotonic()
                while server.hubs[0].pings < 5 or time.monotonic() - began < 0.3:
                    assert 0.0 <= exchange.keep_alive() <= 0.01
                assert feed.lag == 0
                assert take(feed, 3) == [1, 2, 3], "the silence of a server that is not read is not held against it"
        assert exchange.keep_alive() == math.inf

    def test_a_slow_consumer_of_what_one_read_has_brought_pings(self) -> None:
        with LoopbackExchange() as server:
            config = where(server, ping_interval=0.005, server_timeout=0.1)
            with connect(config, CREDENTIALS, session=None) as exchange:
                feed = exchange.subscribe(["btcusd"])
                server.wait(lambda: server.streams)
                publish_and_deliver(server, count=50)
                for _ in range(50):
                    next(feed)
                    time.sleep(0.005)  # it is what the consumer does with an event
                assert server.hubs[0].pings >= 10

    def test_a_connection_is_replaced_by_one_thread(self) -> None:
        """The embedded exchange, at the pace at which it trades."""
        key = load_private_key(generate_private_key(2048))
        with served(API_KEY, key.public_key, rate=500.0, seed=1) as host:
            config = ExchangeConfig(f"http://127.0.0.1:{host.port}")
            with connect(config, Credentials(API_KEY, key), session=ROTATING) as exchange:
                feed = exchange.subscribe(["btcusd"])
                while exchange.session.rotations < 3:
                    assert not isinstance(next(feed), Gap)
                assert exchange.session.attempts >= 4

    @pytest.mark.parametrize(("ping_interval", "longest"), [(20.0, 20.0), (0.01, 1.0)])
    def test_opening_a_second_stream_leaves_time_to_ping_on_the_first(
        self, ping_interval: float, longest: float
    ) -> None:
        timeouts: list[float] = []

        def opener(dial: Dial, timeout: float) -> ByteStream:
            timeouts.append(timeout)
            return open_socket(dial, timeout)

        with LoopbackExchange() as server:
            config = where(server, ping_interval=ping_interval)
            with connect(config, CREDENTIALS, session=ROTATING, open=opener) as exchange:
                feed = exchange.subscribe(["btcusd"])
                server.every(0.002, server.publish_here)
                while exchange.session.rotations < 1:
                    next(feed)
        assert min(timeouts[:2]) > 25.0, "nothing else is due before the first connection is there"
        assert all(0.9 < timeout <= longest for timeout in timeouts[2:4])

    def test_a_peer_that_does_not_read_holds_a_send_up_for_so_long_only(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            stream = SocketStream(ours)
            with pytest.raises(TimeoutError):
                stream.send_all(bytes(10_000_000), 0.05)
            with pytest.raises(TimeoutError):
                stream.send_all(b"x", 0.0)
            stream.close()

    def test_an_exchange_that_is_forgotten_leaves_nothing_open(self) -> None:
        with LoopbackExchange() as server:
            exchange = connect(where(server), CREDENTIALS)
            exchange.subscribe(["btcusd"])
            assert repr(exchange).startswith("<Exchange on <Session: ready, 1 attempts")
            del exchange
            gc.collect()
            server.wait(lambda: not server.open)


class TestTimeSource:
    def test_without_one_the_refusal_is_final(self) -> None:
        with LoopbackExchange() as server:
            server.judge_setup = lambda _client, _argument: {"status": "failure", "message": "too old"}
            with pytest.raises(SetupRefused, match="too old"):
                connect(where(server), CREDENTIALS, session=SessionConfig(check_clock=True))

    def test_a_connection_lost_after_the_clock_was_checked_is_not_retried_by_who_waits(self) -> None:
        with LoopbackExchange() as server:

            def refuse_and_vanish(_client: Any, _argument: Any) -> dict[str, Any]:
                server.greet = server.hang_up
                return {"status": "failure", "message": "too old"}

            server.judge_setup = refuse_and_vanish
            with pytest.raises(ConnectionLost):
                connect(where(server), CREDENTIALS, session=QUICK, time_source=time.time)


class Interrupted:
    """An opener of streams whose `receive` or opening is interrupted when a test says so."""

    def __init__(self) -> None:
        self.next_receive: BaseException | None = None
        self.next_open: BaseException | None = None

    def __call__(self, dial: Dial, timeout: float) -> ByteStream:
        if self.next_open is not None:
            raise self.next_open
        return _InterruptedStream(open_socket(dial, timeout), self)


class _InterruptedStream:
    def __init__(self, stream: ByteStream, opener: Interrupted) -> None:
        self._stream = stream
        self._opener = opener
        self.send_all = stream.send_all
        self.close = stream.close

    def receive(self, timeout: float) -> bytes:
        if (interrupt := self._opener.next_receive) is not None:
            self._opener.next_receive = None
            raise interrupt
        return self._stream.receive(timeout)


class TestInterrupts:
    def test_while_it_waits_does_no_harm(self) -> None:
        opener = Interrupted()
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS, open=opener) as exchange:
            feed = exchange.subscribe(["btcusd"])
            server.wait(lambda: server.streams)
            opener.next_receive = KeyboardInterrupt()
            with pytest.raises(KeyboardInterrupt):
                next(feed)
            server.publish()
            assert take(feed, 1) == [1]
            exchange.close()
            assert server.hubs[0].end == Closed(None)

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), TypeError("a mistake in an opener")], ids=["^C", "bug"])
    def test_anywhere_else_is_the_end(self, interrupt: BaseException) -> None:
        opener = Interrupted()
        with LoopbackExchange() as server:
            with connect(where(server), CREDENTIALS, session=QUICK, open=opener) as exchange:
                feed = exchange.subscribe(["btcusd"])
                server.wait(lambda: server.streams)
                opener.next_open = interrupt
                server.cut()
                with pytest.raises(type(interrupt)):
                    next(feed)
                for _ in range(2):
                    with pytest.raises(ConnectionLost, match="an exception interrupted"):
                        next(feed)
                with pytest.raises(ConnectionClosed):
                    exchange.subscribe(["ethusd"])
                feed.close()
            server.wait(lambda: not server.open)

    def test_a_feed_is_closed_after_it_was_given_up(self) -> None:
        opener = Interrupted()
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS, open=opener) as exchange:
            feed, other = exchange.subscribe(["btcusd"]), exchange.subscribe(["ethusd"])
            opener.next_receive = ValueError("not an OSError")
            with pytest.raises(ValueError, match="not an OSError"):
                next(feed)
            other.close()
            assert list(other) == []

    def test_a_stream_with_a_bug_is_the_end_too(self) -> None:
        opener = Interrupted()
        with LoopbackExchange() as server, connect(where(server), CREDENTIALS, open=opener) as exchange:
            feed = exchange.subscribe(["btcusd"])
            opener.next_receive = ValueError("not an OSError")
            with pytest.raises(ValueError, match="not an OSError"):
                next(feed)
            with pytest.raises(ConnectionLost):
                next(feed)

    def test_while_it_says_goodbye_drops_everything(self) -> None:
        opener = Interrupted()
        with LoopbackExchange() as server:
            exchange = connect(where(server), CREDENTIALS, open=opener)
            feed = exchange.subscribe(["btcusd"])
            server.wait(lambda: server.streams)
            opener.next_receive = KeyboardInterrupt()
            with pytest.raises(KeyboardInterrupt):
                exchange.close()
            server.wait(lambda: not server.open)
            exchange.close()
            assert list(feed) == []

    def test_while_it_connects_leaves_nothing_open(self) -> None:
        opener = Interrupted()
        opener.next_receive = KeyboardInterrupt()
        with LoopbackExchange() as server:
            with pytest.raises(KeyboardInterrupt):
                connect(where(server), CREDENTIALS, open=opener)
            server.wait(lambda: not server.open)


def test_the_key_of_latest_by_is_the_users_and_its_error_is_raised_where_he_reads() -> None:
    def key(event: Any) -> Any:
        return event.no_such_attribute

    with LoopbackExchange() as server, connect(where(server), CREDENTIALS) as exchange:
        feed = exchange.subscribe(["btcusd"], overload=LatestBy(key))
        server.wait(lambda: server.streams)
        publish_and_deliver(server)
        with pytest.raises(AttributeError, match="no_such_attribute"):
            next(feed)
        assert take(feed, 1) == [1]
