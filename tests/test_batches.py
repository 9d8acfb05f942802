"""`next_batch` of the exchange's machines: what came together is told together, and nothing else differs."""

from __future__ import annotations

from typing import Any

from etorox_proto import (
    Closed,
    EventReceived,
    EventsReceived,
    ExchangeConnection,
    OrderCreated,
    SubscriptionEnded,
)
from machines import frame, hub_frame, ready_peer
from session.bench import Bench, created

TRADE = b'{"type":2,"invocationId":"%d","item":{"name":"odd","number":%d}}\x1e'


def subscribed() -> ExchangeConnection:
    """A client with two subscriptions, of the ids 2 and 3."""
    peer = ready_peer()
    client = peer.client
    assert isinstance(client, ExchangeConnection)
    client.subscribe(["btcusd"], now=0.0)
    client.subscribe(["ethusd"], now=0.0)
    peer.settle()
    return client


def numbers(batch: Any) -> list[int]:
    assert isinstance(batch, EventsReceived)
    return [event.data["number"] for event in batch.events]


def test_events_of_one_subscription_come_together() -> None:
    client = subscribed()
    order = [2] * 30 + [3] * 2 + [2]
    client.receive_data(b"".join(frame(TRADE % (each, place)) for place, each in enumerate(order)), 0.0)
    first, second, third = client.next_batch(), client.next_batch(), client.next_batch()
    assert client.next_batch() is None
    assert [numbers(each) for each in (first, second, third)] == [[*range(30)], [30, 31], [32]]
    assert isinstance(first, EventsReceived)
    assert isinstance(second, EventsReceived)
    assert isinstance(third, EventsReceived)
    assert first.subscription is third.subscription
    assert first.subscription is not second.subscription


def test_a_batch_that_was_begun_goes_on_one_by_one() -> None:
    client = subscribed()
    client.receive_data(b"".join(frame(TRADE % (2, number)) for number in range(3)), 0.0)
    event, batch = client.next_event(), client.next_batch()
    assert isinstance(event, EventReceived)
    assert event.event.data["number"] == 0  # type: ignore[union-attr]
    assert numbers(batch) == [1]
    assert isinstance(batch, EventsReceived)
    assert batch.subscription is event.subscription
    assert numbers(client.next_batch()) == [2]
    assert client.next_batch() is None


def test_other_events_come_as_they_are() -> None:
    client = subscribed()
    client.receive_data(frame(TRADE % (2, 1)) + hub_frame({"type": 3, "invocationId": "3", "error": "no"}), 0.0)
    client.receive_data(b"", 0.0)
    kinds = [type(client.next_batch()) for _ in range(5)]
    assert kinds == [EventsReceived, SubscriptionEnded, SubscriptionEnded, Closed, type(None)]


def test_a_session_tells_what_came_together() -> None:
    bench = Bench()
    subscription = bench.subscribe()
    bench.line.ready()
    bench.line.listen()
    assert bench.told() == ["ready"]
    session, client = bench.session, bench.line.connection
    stream = bench.line.streams["btcusd"]
    messages = [{"type": 2, "invocationId": stream, "item": created(number)} for number in range(5)]
    client.receive_data(b"".join(map(hub_frame, messages)), bench.now)
    while (event := client.next_batch()) is not None:
        session.handle_event(client, event, bench.now)
    first, batch = session.next_event(), session.next_batch()
    assert isinstance(first, EventReceived)
    assert isinstance(first.event, OrderCreated)
    assert first.event.id == "0"
    told = [batch]
    while (more := session.next_batch()) is not None:
        told.append(more)
    assert all(isinstance(each, EventsReceived) and each.subscription is subscription for each in told)
    assert [event.id for each in told for event in each.events] == ["1", "2", "3", "4"]  # type: ignore[union-attr]
    session.close(now=bench.now)
    assert isinstance(session.next_batch(), SubscriptionEnded)
