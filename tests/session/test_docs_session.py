"""The loop of `Drive a session` in docs/howto/write-a-transport.md, with streams in memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etorox_proto import (
    CheckClock,
    Closed,
    Dial,
    EventReceived,
    EventsByTurns,
    EventsReceived,
    ExchangeConfig,
    ExchangeConnection,
    Gap,
    Session,
    SessionConfig,
    SessionEvent,
    StartAttempt,
)
from etorox_proto.testing import FakeExchange, FakeExchangeConnection, VirtualNetwork
from session.bench import created

PAGE = Path(__file__).parents[2] / "docs/howto/write-a-transport.md"


class MemoryTransport:
    """A stream to a `FakeExchange`, without a network between."""

    def __init__(self, exchange: FakeExchange, clock: VirtualNetwork) -> None:
        self.exchange = exchange
        self.clock = clock
        self.server: FakeExchangeConnection | None = None

    def open(self, dial: Dial) -> None:
        self.close()
        self.server = self.exchange.accept(self.clock.now)

    def send(self, data: bytes) -> None:
        if data and self.server is not None:
            self.server.receive_data(data, self.clock.now)

    def close(self) -> None:
        if self.server is not None and not self.server.closed:
            self.server.receive_data(b"", self.clock.now)


def test_the_pages_loop_drives_a_session() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (block,) = (each for each in blocks if "StartAttempt" in each)
    shown = (StartAttempt, CheckClock, Dial, Closed, EventsReceived, EventsByTurns)
    names: dict[str, Any] = {each.__name__: each for each in shown}
    exec(compile(block, str(PAGE), "exec"), names)
    settle: Callable[..., None] = names["settle"]

    clock = VirtualNetwork()
    exchange = FakeExchange(clock)
    session = Session(
        lambda _now, skew: clock.new_exchange_connection(ExchangeConfig("ex.test"), skew=skew),
        now=clock.now,
        random=clock.random.random,
        config=SessionConfig(rotate_after=1_000.0),
    )
    session.subscribe(["btcusd"], now=clock.now)
    transports: dict[ExchangeConnection, MemoryTransport] = {}
    told: list[SessionEvent] = []

    def turn() -> None:
        """Carry bytes until nobody has any."""
        is_quiet = False
        while not is_quiet:
            settle(session, transports, told.append, lambda _connection: MemoryTransport(exchange, clock), clock.now)
            is_quiet = True
            for connection, transport in list(transports.items()):
                if transport.server is not None and (data := transport.server.data_to_send()):
                    connection.receive_data(data, clock.now)
                    is_quiet = False

    def wait_until(time: float) -> None:
        while True:
            machines: list[Any] = [*transports, *(t.server for t in transports.values() if t.server is not None)]
            due = min(session.deadline, *(machine.deadline for machine in machines), time)
            clock.run_until(max(clock.now, due))
            if due == time:
                return
            for machine in machines:
                machine.handle_timeout(clock.now)
            session.handle_timeout(clock.now)
            turn()

    turn()
    for number in range(1, 101):
        exchange.publish("btcusd", created(number))
        turn()
        wait_until(clock.now + 50.0)
        if number == 50:
            exchange.close_all()
            turn()
            wait_until(clock.now + 2.0)
    assert session.rotations >= 3
    received: list[Any] = [event.event for event in told if isinstance(event, EventReceived)]
    assert [int(event.id) for event in received] == list(range(1, 101))
    assert sum(isinstance(event, Gap) for event in told) == 1
    session.close(now=clock.now)
    turn()
    assert isinstance(told[-1], Closed)
    assert not transports
