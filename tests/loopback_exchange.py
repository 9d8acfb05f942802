"""`LoopbackExchange`: the exchange of the adapters' contract suite, which does what a test says.

It answers `setup` and `subscribe` on a `LoopbackServer`, and publishes events that are numbered, so that a test sees
what was lost or repeated. It knows the exchange's methods and no socket.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec

from etorox_proto import OrderCreated, encode_event
from etorox_proto.signalr import (
    CancelReceived,
    Closed,
    InvocationReceived,
    Limits,
    ServerConfig,
    ServerEvent,
    State,
)
from loopback import Client, LoopbackServer


class Stream(msgspec.Struct, frozen=True):
    """A subscription that the exchange has accepted."""

    client: Client
    invocation_id: str
    channels: tuple[str, ...]
    fields: tuple[str, ...] | None


def numbered(channel: str, number: int) -> OrderCreated:
    """The event with this number; `number_of` tells it again."""
    return OrderCreated(
        market=channel,
        id=str(number),
        side="bid",
        volume=Decimal("1.5"),
        price=Decimal(number),
        state="wait",
        updated_at=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    )


class LoopbackExchange(LoopbackServer):
    """Plays the exchange: it accepts every `setup` and every subscription, and sends numbered events when told.

    Attributes:
        setups: the arguments of `setup` so far.
        streams: the subscriptions that are open.
        judge_setup: gives the answer to `setup`; None for no answer ever.
        judge_subscription: gives the reason to refuse a subscription, or `""`.
        numbers: of each channel, the number of the last event published.
    """

    def __init__(self, **options: Any) -> None:
        self.setups: list[dict[str, Any]] = []
        self.streams: list[Stream] = []
        self.judge_setup: Callable[[Client, dict[str, Any]], dict[str, Any] | None] = lambda _client, _argument: {
            "status": "success"
        }
        self.judge_subscription: Callable[[Client, tuple[str, ...]], str] = lambda _client, _channels: ""
        self.numbers: dict[str, int] = {}
        options.setdefault("config", ServerConfig(limits=Limits(record=32_768, queued_bytes=33_554_432)))
        super().__init__(self._answer_call, **options)

    def publish(self, channel: str = "btcusd", count: int = 1) -> None:
        """Send so many numbered events to all who subscribed the channel."""
        while count > 0:
            # In pieces, so that the first are on their way while the last are made.
            self.do(partial(self.publish_here, channel, min(count, 200)))
            count -= 200

    def publish_by_turns(self, channels: Sequence[str], count: int) -> None:
        """Send so many events of each channel, one of each after the other, in one piece."""

        def publish() -> None:
            for _ in range(count):
                for channel in channels:
                    self.publish_here(channel)

        self.do(publish)

    def publish_here(self, channel: str = "btcusd", count: int = 1) -> None:
        """`publish`, for the server's thread."""
        first = self.numbers.get(channel, 0) + 1
        for number in range(first, first + count):
            self.numbers[channel] = number
            for stream in self.streams:
                if channel in stream.channels:
                    item = msgspec.Raw(encode_event(numbered(channel, number), stream.fields))
                    stream.client.machine.send_item(stream.invocation_id, item, now=time.monotonic())

    def say_goodbye(self, *, error: str | None = None, allow_reconnect: bool = False) -> None:
        """End all connections with a SignalR Close."""

        def close() -> None:
            for client in self.hubs:
                client.machine.close(error=error, allow_reconnect=allow_reconnect, now=time.monotonic())
                self._forget(client)

        self.do(close)

    def end_streams(self, error: str | None = None) -> None:
        """Complete all subscriptions, in good order or with an error."""

        def complete() -> None:
            for stream in self.streams:
                stream.client.machine.complete(stream.invocation_id, error=error, now=time.monotonic())
            self.streams.clear()

        self.do(complete)

    def _forget(self, client: Client) -> None:
        self.streams = [stream for stream in self.streams if stream.client is not client]

    def _answer_call(self, client: Client, event: ServerEvent) -> None:
        now = time.monotonic()
        match event:
            case Closed():
                self._forget(client)
            case _ if client.machine.state is not State.CONNECTED:
                pass  # it came in one piece with a goodbye
            case InvocationReceived(target="setup", invocation_id=str(call)):
                self.setups.append(event.arguments[0])
                result = self.judge_setup(client, event.arguments[0])
                if result is not None and client.machine.state is State.CONNECTED:
                    client.machine.complete(call, result=result, now=now)
            case InvocationReceived(target="subscribe", invocation_id=str(call)):
                channels = tuple(event.arguments[0]["channels"])
                fields = event.arguments[0].get("fields")
                if refusal := self.judge_subscription(client, channels):
                    client.machine.complete(call, error=refusal, now=now)
                else:
                    self.streams.append(Stream(client, call, channels, fields and tuple(fields)))
            case CancelReceived(call) if any((s.client, s.invocation_id) == (client, call) for s in self.streams):
                self.streams = [s for s in self.streams if (s.client, s.invocation_id) != (client, call)]
                client.machine.complete(call, now=now)
            case _:
                pass


def number_of(event: Any) -> int:
    """The number of an event of a `LoopbackExchange`."""
    assert isinstance(event, OrderCreated)
    return int(event.id)
