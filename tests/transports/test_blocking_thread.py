"""`run_in_thread`: an exchange in a thread of its own, and all that can happen to its reader and to the thread."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract import CREDENTIALS, QUICK, where
from etorox_proto import (
    Closed,
    ConnectionClosed,
    Dial,
    EventReceived,
    Gap,
    LocalProtocolError,
    Ready,
    Reconnecting,
    ServerClosed,
    SubscriptionEnded,
)
from etorox_transports import DialFailed, FeedOverflow, LatestBy
from etorox_transports.blocking import ByteStream, Exchange, connect, open_socket, run_in_thread
from loopback_exchange import LoopbackExchange, number_of

PINGING = 0.01


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def numbers(events: Any, count: int) -> list[int]:
    """The numbers of the next so many market events, which nothing else comes between."""
    taken = list(itertools.islice(events, count))
    assert all(isinstance(event, EventReceived) for event in taken), taken
    return [number_of(event.event) for event in taken]


def connected(server: LoopbackExchange, **options: Any) -> Exchange:
    """A subscribed exchange at that server; the options are those of `ExchangeConfig`."""
    exchange = connect(where(server, **options), CREDENTIALS, session=QUICK)
    exchange.subscribe(["btcusd"])
    server.wait(lambda: server.streams)
    return exchange


class TestReading:
    def test_everything_comes_in_order(self) -> None:
        with LoopbackExchange() as server:
            exchange = connect(where(server), CREDENTIALS, wait=False)
            feed = exchange.subscribe(["btcusd"])
            with run_in_thread(exchange) as events:
                assert isinstance(next(events), Ready)
                server.wait(lambda: server.streams)
                server.publish(count=2_000)
                event = next(events)
                assert isinstance(event, EventReceived)
                assert event.subscription is feed.handle
                assert numbers(events, 1_999) == list(range(2, 2_001))
                assert (events.lag, events.received, events.delivered, events.dropped) == (0, 2_001, 2_001, 0)
            assert [type(event) for event in events] == [SubscriptionEnded]
            assert server.hubs[0].end == Closed(None)

    def test_pings_go_out_while_nobody_reads(self) -> None:
        with (
            LoopbackExchange() as server,
            run_in_thread(connected(server, ping_interval=PINGING, server_timeout=0.2)) as events,
        ):
            server.wait(lambda: server.hubs[0].pings >= 5)
            server.publish()
            assert numbers(events, 1) == [1]

    def test_waiting_in_vain_is_a_timeout(self) -> None:
        with LoopbackExchange() as server, run_in_thread(connected(server)) as events:
            for timeout in (0.0, -1.0, 0.02):
                with pytest.raises(TimeoutError, match="no event came within"):
                    events.next(timeout)
            server.publish()
            assert isinstance(events.next(5.0), EventReceived)

    def test_a_restart_of_the_exchange_is_a_story_told(self) -> None:
        with LoopbackExchange() as server, run_in_thread(connected(server)) as events:
            server.every(0.002, server.publish_here)
            numbers(events, 3)
            server.stop()
            assert any(isinstance(event, Reconnecting) for event in events)
            server.start()
            assert any(isinstance(event, Ready) for event in events)
            assert isinstance(next(events), Gap)
            assert isinstance(next(events), EventReceived)

    def test_two_threads_may_share_the_events(self) -> None:
        with LoopbackExchange() as server, run_in_thread(connected(server)) as events:
            shares: list[list[int]] = [[], []]

            def read(share: list[int]) -> None:
                share += [number_of(event.event) for event in events if isinstance(event, EventReceived)]

            readers = [threading.Thread(target=read, args=(share,)) for share in shares]
            for reader in readers:
                reader.start()
            server.publish(count=500)
            server.wait(lambda: not server.hubs[0].unsent)
            while events.delivered < 500:
                threading.Event().wait(0.001)
            events.close()
            for reader in readers:
                reader.join(5.0)
            assert sorted(shares[0] + shares[1]) == list(range(1, 501))


class TestOverload:
    def fill(self, server: LoopbackExchange, events: Any, count: int) -> None:
        """Publish so many, and wait until all have come."""
        before = events.received
        server.publish(count=count)
        while events.received < before + count:
            threading.Event().wait(0.001)

    def test_fail(self) -> None:
        with LoopbackExchange() as server, run_in_thread(connected(server), capacity=10) as events:
            self.fill(server, events, 25)
            assert numbers(events, 10) == list(range(1, 11))
            with pytest.raises(FeedOverflow) as caught:
                next(events)
            assert caught.value.dropped == 15
            self.fill(server, events, 1)
            assert numbers(events, 1) == [26]
            assert (events.received, events.delivered, events.dropped) == (26, 11, 15)

    def test_drop_oldest(self) -> None:
        with (
            LoopbackExchange() as server,
            run_in_thread(connected(server), capacity=10, overload="drop_oldest") as events,
        ):
            self.fill(server, events, 25)
            assert numbers(events, 10) == list(range(16, 26))

    def test_the_latest_of_each_market(self) -> None:
        with (
            LoopbackExchange() as server,
            run_in_thread(connected(server), overload=LatestBy(lambda event: event.market)) as events,
        ):
            self.fill(server, events, 25)
            assert events.lag == 1
            assert numbers(events, 1) == [25]

    def test_wait_loses_nothing_and_goes_on_pinging(self) -> None:
        with LoopbackExchange(send_buffer=16_384) as server:
            exchange = connected(server, ping_interval=PINGING, server_timeout=0.2)
            with run_in_thread(exchange, capacity=10, overload="wait") as events:
                server.publish(count=5_000)
                while events.lag < 10:
                    threading.Event().wait(0.001)
                pings, began = server.hubs[0].pings, time.monotonic()
                server.wait(lambda: server.hubs[0].pings >= pings + 5 and time.monotonic() - began > 0.4)
                assert events.lag == 10
                assert numbers(events, 5_000) == list(range(1, 5_001))

    def test_wait_does_not_hold_the_close_up(self) -> None:
        with LoopbackExchange() as server:
            with run_in_thread(connected(server), capacity=10, overload="wait") as events:
                server.publish(count=100)
                while events.lag < 10:
                    threading.Event().wait(0.001)
            assert server.hubs[0].end == Closed(None)
            assert numbers(events, 10) == list(range(1, 11)), "what had come before the end"

    @pytest.mark.parametrize("options", [{"capacity": 0}, {"overload": "explode"}])
    def test_what_cannot_be_used_is_refused_and_the_exchange_left_alone(self, options: dict[str, Any]) -> None:
        with LoopbackExchange() as server, connected(server) as exchange:
            with pytest.raises(LocalProtocolError):
                run_in_thread(exchange, **options)
            assert exchange.session.subscriptions


class TestTheEnd:
    def test_closing_twice_does_nothing_more(self) -> None:
        with LoopbackExchange() as server:
            events = run_in_thread(connected(server))
            events.close()
            events.close()
            assert [type(event) for event in events] == [SubscriptionEnded]
            assert list(events) == []
            assert repr(events) == "<ThreadedEvents: 0 waiting, ended>"

    def test_a_final_error_is_raised_behind_what_came_and_every_time(self) -> None:
        with LoopbackExchange() as server, run_in_thread(connected(server)) as events:
            server.publish(count=3)
            server.say_goodbye(error="go away")
            assert numbers(events, 3) == [1, 2, 3]
            assert isinstance(next(events), SubscriptionEnded)
            for _ in range(2):
                with pytest.raises(ServerClosed, match="go away"):
                    next(events)

    def test_the_exchange_may_close_it(self) -> None:
        with LoopbackExchange() as server, connected(server) as exchange:
            events = run_in_thread(exchange)
            server.publish()
            assert numbers(events, 1) == [1]
            exchange.close()
            assert server.hubs[0].end == Closed(None)
            assert [type(event) for event in events] == [SubscriptionEnded]

    def test_the_thread_may_close_it(self) -> None:
        with LoopbackExchange() as server, run_in_thread(connected(server)) as events:
            events.call(Exchange.close)
            assert [type(event) for event in events] == [SubscriptionEnded]

    def test_who_forgets_it_ends_it(self) -> None:
        with LoopbackExchange() as server:
            events = run_in_thread(connected(server))
            assert next(iter([events])).lag == 0
            del events
            gc.collect()
            server.wait(lambda: not server.open)
            assert server.hubs[0].end == Closed(None)
            for thread in threading.enumerate():
                if thread.name == "etorox exchange":
                    thread.join(5.0)

    def test_a_session_that_waits_for_its_next_attempt_ends_at_once(self) -> None:
        with LoopbackExchange() as server:
            server.stop()
            exchange = connect(where(server), CREDENTIALS, wait=False)
            with run_in_thread(exchange) as events:
                assert isinstance(next(events), Reconnecting)
                began = time.monotonic()
            assert time.monotonic() - began < 1.0

    def test_a_mistake_in_an_opener_is_raised_where_the_events_are_read(self) -> None:
        def opener(*_arguments: Any) -> Any:
            raise TypeError("a mistake in an opener")

        with LoopbackExchange() as server:
            exchange = connect(where(server), CREDENTIALS, wait=False, open=opener)
            with run_in_thread(exchange) as events, pytest.raises(TypeError, match="a mistake in an opener"):
                next(events)

    def test_a_thread_that_cannot_be_started_leaves_the_exchange_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with LoopbackExchange() as server, connected(server) as exchange:
            with monkeypatch.context() as patched:
                patched.setattr(threading.Thread, "start", fail)
                with pytest.raises(RuntimeError, match="can't start"):
                    run_in_thread(exchange)
            server.publish()
            assert numbers(exchange.events(), 1) == [1]

    @pytest.mark.parametrize("how", ["forgotten", "held", "full"])
    def test_a_program_that_ends_without_closing_says_goodbye(self, how: str) -> None:
        program = """
import sys
from contract import CREDENTIALS
from etorox_proto import ExchangeConfig
from etorox_transports.blocking import connect, run_in_thread

url, how = sys.argv[1:]
exchange = connect(ExchangeConfig(url), CREDENTIALS)
exchange.subscribe(["btcusd"])
events = run_in_thread(exchange, capacity=1, overload="wait")
if how == "full":
    while events.lag < 1:
        pass
elif how == "forgotten":
    del events
"""
        with LoopbackExchange() as server:
            server.every(0.002, server.publish_here)
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", program, server.url, how],
                env={"PYTHONPATH": str(Path(__file__).parents[1])},
                capture_output=True,
                text=True,
                check=False,
                timeout=30.0,
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert time.monotonic() - began < 20.0
            server.wait(lambda: not server.open)
            assert server.hubs[0].end == Closed(None)
            assert server.hubs[0].said_goodbye


class TestCalls:
    def test_it_subscribes_and_returns_what_that_returned(self) -> None:
        with LoopbackExchange() as server, run_in_thread(connected(server)) as events:
            feed = events.call(lambda exchange: exchange.subscribe(["ethusd"]))
            server.wait(lambda: len(server.streams) == 2)
            server.publish("ethusd")
            event = next(events)
            assert isinstance(event, EventReceived)
            assert event.subscription is feed.handle
            events.call(lambda _exchange: feed.close())
            ended = next(events)
            assert isinstance(ended, SubscriptionEnded)
            assert ended.subscription is feed.handle

    def test_it_raises_what_that_raised(self) -> None:
        with LoopbackExchange() as server, run_in_thread(connected(server)) as events:
            with pytest.raises(LocalProtocolError, match="not subscribed"):
                events.call(lambda exchange: exchange.subscribe(["btcusd"]))
            server.publish()
            assert numbers(events, 1) == [1]

    def test_it_does_not_wait_for_room(self) -> None:
        with (
            LoopbackExchange() as server,
            run_in_thread(connected(server), capacity=1, overload="wait") as events,
        ):
            server.publish(count=10)
            while events.lag < 1:
                threading.Event().wait(0.001)
            assert events.call(lambda exchange: len(exchange.session.subscriptions)) == 1

    def test_afterwards_there_is_nobody_to_call(self) -> None:
        with LoopbackExchange() as server:
            with run_in_thread(connected(server)) as events:
                pass
            with pytest.raises(ConnectionClosed):
                events.call(lambda exchange: exchange.session)

    def test_a_call_that_is_not_answered_before_the_end_is_told_so(self) -> None:
        is_opening, may_open = threading.Event(), threading.Event()
        outcome: list[Exception] = []

        def opener(dial: Dial, timeout: float) -> ByteStream:
            is_opening.set()
            assert may_open.wait(10.0)
            return open_socket(dial, timeout)

        with LoopbackExchange() as server:
            server.stop()  # the opener fails, and the session with it, once it may
            exchange = connect(where(server), CREDENTIALS, session=None, wait=False, open=opener)
            with run_in_thread(exchange) as events:

                def call() -> None:
                    with pytest.raises(ConnectionClosed) as caught:
                        events.call(lambda exchange: exchange.session)
                    outcome.append(caught.value)

                assert is_opening.wait(10.0), "from here on the thread takes no calls"
                caller = threading.Thread(target=call)
                caller.start()
                while sys._current_frames()[caller.ident or 0].f_code.co_name != "wait":
                    threading.Event().wait(0.001)
                may_open.set()
                with pytest.raises(DialFailed):
                    next(events)
                caller.join(10.0)
        assert len(outcome) == 1

    def test_nobody_else_touches_the_exchange(self) -> None:
        with LoopbackExchange() as server, connected(server) as exchange:
            feed = exchange.subscribe(["ethusd"], overload="drop_oldest")
            with run_in_thread(exchange):
                for touch in (
                    lambda: next(feed),
                    feed.close,
                    lambda: exchange.subscribe(["xrpusd"]),
                    exchange.events,
                    exchange.keep_alive,
                    lambda: run_in_thread(exchange),
                ):
                    with pytest.raises(LocalProtocolError, match="run_in_thread has"):
                        touch()
            assert exchange.keep_alive() > 0
