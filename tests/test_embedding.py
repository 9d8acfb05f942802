"""The examples of `docs/howto/embed.md` on real loopback sockets: all in every scenario, and what is particular.

gevent, Twisted and Qt have event loops that belong to the whole process, so each of their runs is a child, in which
warnings are errors as they are here. Both notice sockets that were left open.
"""

from __future__ import annotations

import contextlib
import gc
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest

import embedding_scenarios
from embedding_runners import API_KEY, CREDENTIALS, KEY, NEEDS, RUNNERS, Client, example, run_session
from embedding_scenarios import SCENARIOS, config, exchange
from etorox_proto import (
    Closed,
    EventReceived,
    ExchangeConnection,
    ExchangeEvent,
    Gap,
    Ready,
    Reconnecting,
    ServerClosed,
    Session,
    SessionConfig,
)
from etorox_transports import new_exchange_connection
from hosts import served

IN_A_CHILD = {"gevent", "twisted", "qt"}


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("framework", RUNNERS)
def test_every_example_in_every_scenario(framework: str, scenario: str) -> None:
    if framework in NEEDS:
        pytest.importorskip(NEEDS[framework], reason=f"{NEEDS[framework]} is not installed")
    if (framework, scenario) == ("qt", "raises_what_the_consumer_raises"):
        pytest.skip("Qt prints what a slot raises, and goes on")
    if framework in IN_A_CHILD:
        run_in_a_child(framework, scenario)
    else:
        SCENARIOS[scenario](RUNNERS[framework])
        gc.collect()


@pytest.mark.parametrize("framework", ["asyncio", "awaiting", "selector", "twisted", "gevent", "qt"])
def test_every_example_begins_as_the_page_says(framework: str) -> None:
    if framework in NEEDS:
        pytest.importorskip(NEEDS[framework], reason=f"{NEEDS[framework]} is not installed")
    run_in_a_child(framework, embedding_scenarios.begins_as_the_page_says.__name__)


def run_in_a_child(framework: str, scenario: str) -> None:
    command = [sys.executable, "-W", "error", embedding_scenarios.__file__, framework, scenario]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False)
    assert (child.returncode, child.stderr) == (0, "")


class TestManyConnections:
    """One thread, one selector."""

    def test_fifty_connections_stream_at_the_same_time(self) -> None:
        many = example("selector_many").ManyConnections()
        seen: Counter[ExchangeConnection] = Counter()
        ends: dict[ExchangeConnection, object] = {}

        def receiver(connection: ExchangeConnection) -> Callable[[ExchangeEvent], None]:
            def deliver(event: ExchangeEvent) -> None:
                match event:
                    case Ready():
                        connection.subscribe(["btcusd"], now=time.monotonic())
                    case EventReceived():
                        seen[connection] += 1
                        # Nobody leaves before all have seen something: they do stream at the same time.
                        if len(seen) == 50:
                            for each in connections:
                                each.close(now=time.monotonic())
                                many.wake(each)
                    case Closed(error):
                        ends[connection] = error
                    case _:
                        pass

            return deliver

        with exchange(rate=50.0) as host:
            connections = [new_exchange_connection(config(host.port), CREDENTIALS) for _ in range(50)]
            for connection in connections:
                many.add(connection, receiver(connection))
            many.run()
        assert set(seen) == set(connections)
        assert ends == dict.fromkeys(connections)

    def test_one_that_fails_does_not_trouble_another(self) -> None:
        many = example("selector_many").ManyConnections()
        failed: list[object] = []
        seen: list[object] = []

        def deliver(event: ExchangeEvent) -> None:
            if isinstance(event, Ready):
                good.subscribe(["btcusd"], now=time.monotonic())
                many.add(refused, failed.append)
            elif isinstance(event, EventReceived) and failed:
                good.close(now=time.monotonic())
            seen.append(event)

        refused = new_exchange_connection(config(1), CREDENTIALS)
        with exchange() as host:
            good = new_exchange_connection(config(host.port), CREDENTIALS)
            many.add(good, deliver)
            many.run()
        assert isinstance(failed[0], Closed)
        assert "could not be opened" in str(failed[0].error)
        assert seen[-1] == Closed(None)


class TestSessionDriver:
    """What a session does with more than one connection."""

    def test_it_outlives_a_server_that_is_started_anew(self) -> None:
        kinds: list[type] = []

        def on_event(client: Client, event: object) -> None:
            is_repeated = kinds[-1:] == [type(event)]
            if not is_repeated:
                kinds.append(type(event))
            match event:
                case Ready() if len(kinds) == 1:
                    client.subscribe()
                case EventReceived() if len(kinds) == 2 and not is_repeated:
                    port = host.port
                    servers.close()
                    servers.enter_context(served(API_KEY, KEY.public_key, rate=2_000.0, address=("127.0.0.1", port)))
                case Gap(cause=cause):
                    assert isinstance(cause, ServerClosed)
                    client.close()
                case _:
                    pass

        with contextlib.ExitStack() as servers:
            host = servers.enter_context(served(API_KEY, KEY.public_key, rate=2_000.0))
            assert run_session(config(host.port), SessionConfig(backoff_base=0.01), on_event) is None
        assert kinds[:5] == [Ready, EventReceived, Reconnecting, Ready, Gap]

    def test_it_runs_two_connections_while_one_replaces_the_other(self) -> None:
        seen: Counter[type] = Counter()

        def on_event(client: Client, event: object) -> None:
            seen[type(event)] += 1
            assert isinstance(client.machine, Session)
            if isinstance(event, Ready):
                client.subscribe()
            elif client.machine.rotations == 3:
                client.close()

        rotating = SessionConfig(rotate_after=0.2, rotate_spread=0.0, attempts_per_minute=100, stale_after=math.inf)
        with exchange() as host:
            assert run_session(config(host.port), rotating, on_event) is None
        assert seen[Ready] == 1
        assert seen[EventReceived] > 10
        assert seen[Gap] == 0
