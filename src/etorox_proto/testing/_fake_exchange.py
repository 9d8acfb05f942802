"""`FakeExchange`: an exchange without a market: what is published is up to the test, and so is what goes wrong.

It speaks real SignalR over real bytes, through `ServerConnection`, and keeps the real exchange's order: negotiate,
handshake, signed `setup`, `subscribe`. `ExchangeRules` are its switches, `_ledger` its books, `_fake_connection` one of
its streams. It is a `Host` for a `VirtualNetwork`, and can be driven by hand.

Source: the exchange's streaming documentation, sections "Connect", "Authenticate", "Stream" and "Staying connected".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, final

import msgspec

from etorox_proto import MarketEvent, encode_event
from etorox_proto.signalr import ConnectionTokens, Limits, ServerConfig, ServerConnection, encode_json
from etorox_proto.testing._clock import TimeSource
from etorox_proto.testing._fake_connection import FakeExchangeConnection
from etorox_proto.testing._ledger import ExchangeCounts, Ledger, SetupAnswer, is_hub
from etorox_proto.testing._rules import ExchangeRules

__all__ = ["FakeExchange", "Item"]

Item = MarketEvent | Mapping[str, Any] | bytes
"""What can be published: an event, the fields of one by their names on the wire, or JSON as it is."""

_MARKET_DATA = "marketData"
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
# Room for answers and one item beyond what a slow client may let pile up.
_ROOM = 4_194_304


@final
class FakeExchange:
    """An exchange for tests.

    Args:
        clock: the time of what is done here, and the wall time that `setup` is judged by: the `VirtualNetwork` on which
            it listens, or a `ManualClock`.
        rules: its switches; by default every client is let in.
    """

    def __init__(self, clock: TimeSource, rules: ExchangeRules | None = None) -> None:
        self._clock = clock
        self._ledger = Ledger(clock, ExchangeRules() if rules is None else rules)
        self._tokens = ConnectionTokens(f"fake-{number}" for number in itertools.count(1))
        self._connections: dict[FakeExchangeConnection, None] = {}
        self._frozen: set[str] = set()
        self._is_frozen = False

    # ------------------------------------------------------------------------------------------ anyone looks

    @property
    def rules(self) -> ExchangeRules:
        """The switches; change them as you like."""
        return self._ledger.rules

    @property
    def counts(self) -> ExchangeCounts:
        """What has happened so far."""
        return self._ledger.counts

    @property
    def connections(self) -> list[FakeExchangeConnection]:
        """The connections whose handshake is done and that are not closing, oldest first."""
        return [connection for connection in self._connections if connection.is_connected]

    @property
    def subscriptions(self) -> dict[str, int]:
        """How often each channel is subscribed now, whatever the event; channels that are not are left out."""
        subscribed: dict[str, int] = {}
        for (channel, _), count in self._ledger.topics():
            subscribed[channel] = subscribed.get(channel, 0) + count
        return subscribed

    # ------------------------------------------------------------------------------------------ as a host

    @property
    def deadline(self) -> float:
        """`math.inf`: its connections have deadlines, the exchange itself has none."""
        return math.inf

    def advance(self, now: float) -> None:
        """Time has passed; nothing follows from it."""

    def accept(self, now: float) -> FakeExchangeConnection:
        """A client has opened a byte stream."""
        rules = self.rules
        config = ServerConfig(
            serves=is_hub,
            encodings=["json"],
            handshake_timeout=rules.handshake_timeout,
            client_timeout=rules.client_timeout,
            ping_interval=rules.ping_interval,
            limits=Limits(record=32_768, queued_bytes=rules.max_queued + _ROOM),
        )
        server = ServerConnection(config, tokens=self._tokens, now=now)
        connection = FakeExchangeConnection(self._ledger, server, self._ended)
        self._connections[connection] = None
        self.counts.streams += 1
        return connection

    def _ended(self, connection: FakeExchangeConnection) -> None:
        self._connections.pop(connection)

    # -------------------------------------------------------------------------------------- what it publishes

    def publish(self, channel: str, item: Item, *, event: str = _MARKET_DATA) -> int:
        """Send an item to everyone who has subscribed it now, as a row to those who asked for `fields`.

        Args:
            channel: such as `btcusd`.
            item: an event, the fields of one by their names on the wire, or the bytes of a JSON value, which are sent
                as they are (a row is made of an object only).
            event: the event of the channel.

        Returns:
            To how many subscriptions it was sent.
        """
        forms: dict[tuple[str, ...] | None, msgspec.Raw] = {}
        feeds = self._ledger.feeds((channel, event))
        if self._is_frozen or channel in self._frozen:
            self.counts.items_withheld += len(feeds)
            return 0
        for feed in feeds:
            if feed.fields not in forms:
                forms[feed.fields] = msgspec.Raw(_encode(item, feed.fields))
            feed.owner.send_item(feed, forms[feed.fields], self._clock.now)
        return len(feeds)

    def freeze(self, *channels: str) -> None:
        """Send no more items of these channels, or of any if none is named; pings and answers go on."""
        self._frozen.update(channels)
        self._is_frozen = self._is_frozen or not channels

    def thaw(self) -> None:
        """Send items again. What was published meanwhile is lost."""
        self._frozen.clear()
        self._is_frozen = False

    def end_subscriptions(
        self, channel: str | None = None, *, event: str = _MARKET_DATA, error: str | None = None
    ) -> int:
        """End the subscriptions to a channel, or all of them.

        Args:
            channel: which; None for all, whatever their event.
            event: the event of the channel.
            error: the reason, None for an end in good order.

        Returns:
            How many were ended.
        """
        topics = [topic for topic, _ in self._ledger.topics()] if channel is None else [(channel, event)]
        feeds = {feed: None for topic in topics for feed in self._ledger.feeds(topic)}
        for feed in feeds:
            feed.owner.end_subscription(feed, error, self._clock.now)
        return len(feeds)

    # ---------------------------------------------------------------------------------------- what goes wrong

    def refuse_setup(
        self, *, times: float = math.inf, answer: SetupAnswer = "result", message: str = "refused by the test"
    ) -> None:
        """Refuse the next `setup`s, whatever they hold.

        Args:
            times: how many; 0 to refuse none from now on.
            answer: as a `"result"` with the status `failure`, as an `"error"`, or with `"silence"`.
            message: what the client is told.
        """
        self._ledger.refusing_setup.begin(times, message)
        self._ledger.setup_answer = answer

    def refuse_subscriptions(self, *, times: float = math.inf, message: str = "refused by the test") -> None:
        """Refuse the next subscriptions, whatever they ask for; with 0 times, none from now on."""
        self._ledger.refusing_subscriptions.begin(times, message)

    def turn_away(self, *, times: float = math.inf, allow_reconnect: bool = True, error: str | None = None) -> None:
        """Close the next connections right after their handshake.

        Args:
            times: how many; 0 to close none from now on.
            allow_reconnect: whether the client is invited to come back.
            error: the reason that it is given.
        """
        self._ledger.turning_away.begin(times, error or "")
        self._ledger.may_come_back = allow_reconnect

    def close_all(self, *, allow_reconnect: bool = True, error: str | None = None) -> None:
        """Say goodbye to every client."""
        for connection in self.connections:
            connection.say_goodbye(error, allow_reconnect=allow_reconnect, now=self._clock.now)

    def cut_all(self) -> None:
        """End every stream without a word."""
        for connection in list(self._connections):
            connection.cut(now=self._clock.now)


def _encode(item: Item, fields: tuple[str, ...] | None) -> bytes:
    """The item as JSON, or its row."""
    if isinstance(item, msgspec.Struct):
        return encode_event(item, fields)
    if isinstance(item, bytes):
        try:
            return item if fields is None else _row(_OBJECT.decode(item), fields)
        except msgspec.DecodeError:
            return item
    return bytes(encode_json(dict(item), "the item")) if fields is None else _row(item, fields)


def _row(item: Mapping[str, Any], fields: tuple[str, ...]) -> bytes:
    return bytes(encode_json([item.get(field) for field in fields], "the row"))
