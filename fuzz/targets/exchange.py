"""The exchange's client on top of the hub's: two subscriptions, and market events as they come."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import InvalidOperation
from itertools import takewhile
from typing import Any

import msgspec

from etorox_proto import (
    Credentials,
    EventReceived,
    ExchangeConfig,
    ExchangeConnection,
    ExchangeState,
    Ready,
    Subscription,
    SubscriptionEnded,
    event_decoder,
    row_decoder,
)
from etorox_proto.signalr import Closed, RemoteProtocolError
from etorox_proto.testing import FakeSigner, accept_websocket
from targets.runs import LONGEST, NOW, Chunking, check_cuts, frame, is_text, messages, whole

__all__ = ["exchange"]

_KEY = "0f8fad5b-d9cb-469f-a165-70867728950e"
_FIELDS = ["market", "price", "snapshot_id"]


def exchange(data: bytes) -> None:
    """Any bytes as events of two subscriptions: nothing raises, cuts change nothing, each is what its decoder makes.

    Lines are items and records as in `items`; the second subscription has `fields`. No error shows the key.
    """
    lines = (b"{}\n" + data[:LONGEST]).split(b"\n")

    def record(line: bytes, stream: int) -> bytes:
        is_item = not line.startswith(b'{"type"')
        # The first id is that of `setup`.
        told = b'{"type":2,"invocationId":"%d","item":%s}' % (2 + stream % 2, line) if is_item else line
        return told + b"\x1e"

    framed = messages(lines, record)

    def played(chunking: Chunking) -> object:
        return [_show(event) for event in _play(framed, chunking)]

    check_cuts(framed, played)
    events = [_show(event) for event in _play(framed, whole)]
    expected = list(_expected(lines))
    assert [event for event in events if event[0] == "event"][: len(expected)] == expected
    assert not any(_KEY in repr(event) for event in events if event[0] != "event")


def _expected(lines: list[bytes]) -> Iterator[tuple[Any, ...]]:
    """What comes of the lines, as far as they are items and nothing else."""
    subscription = Subscription(["btcusd"], fields=_FIELDS)
    assert subscription.row_type is not None, "it has fields"
    decoders = event_decoder(), row_decoder(subscription.row_type)
    # A message is text as a whole, or nothing of it counts.
    begun = [place for place, line in enumerate(lines) if not line.startswith(b"+")]
    ends = [*begun[1:], len(lines)]
    text = takewhile(lambda bounds: is_text(b"\n".join(lines[slice(*bounds)])), zip(begun, ends, strict=True))
    for line in lines[: max((end for _, end in text), default=0)]:
        item = line.removeprefix(b"+")
        turns = min(len(item) - len(item.lstrip(b">")), 2)
        if item.startswith(b'{"type"', turns):
            return
        try:
            event = decoders[turns % 2](item[turns:])
        except (msgspec.MsgspecError, UnicodeError, RecursionError, InvalidOperation):
            return
        yield "event", turns % 2 > 0, repr(event)


def _play(framed: bytes, chunking: Chunking) -> list[Any]:
    machine = ExchangeConnection(
        ExchangeConfig("http://localhost", skip_negotiation=True),
        Credentials(_KEY, FakeSigner()),
        now=NOW,
        unix_time=1_600_000_000.0,
        nonce="7c9e6679-7425-40de-944b-e07fc1f90ae7",
        correlation_id="16fd2706-8baf-433b-82eb-8c7fada847da",
    )
    events: list[Any] = []

    def feed(data: bytes) -> None:
        machine.receive_data(data, NOW)
        machine.data_to_send()
        while (event := machine.next_event()) is not None:
            assert not any(isinstance(before, Closed) for before in events), "an event behind Closed"
            events.append(event)

    machine.next_event()
    machine.stream_opened(NOW)
    answer = b'{}\x1e{"type":3,"invocationId":"1","result":{"status":"success"}}\x1e'
    feed(accept_websocket(machine.data_to_send()) + frame(answer))
    assert isinstance(events.pop(), Ready)
    subscriptions = [
        machine.subscribe(["btcusd"], now=NOW),
        machine.subscribe(["ethusd"], fields=_FIELDS, now=NOW),
    ]
    machine.data_to_send()
    for piece in chunking(framed):
        feed(piece)
    feed(b"")
    assert machine.state is ExchangeState.CLOSED
    ended = [event.subscription for event in events if isinstance(event, SubscriptionEnded)]
    assert sorted(map(id, ended)) == sorted(map(id, subscriptions)), "each subscription ends once"
    return events


def _show(event: Any) -> tuple[Any, ...]:
    match event:
        case EventReceived(subscription, told):
            return "event", subscription.fields is not None, repr(told)
        case SubscriptionEnded(subscription, error):
            return "ended", subscription.fields is not None, type(error), str(error)
        case Closed(error):
            # The words of a fault in a frame are wsproto's.
            return "closed", type(error), "" if isinstance(error, RemoteProtocolError) else str(error)
        case _:
            return "other", repr(event)
