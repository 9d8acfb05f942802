"""`Ledger`: what the connections of one `FakeExchange` share: who may come in, who has which topic, and the counts.

It judges `setup` and subscriptions by the `ExchangeRules`, and knows no bytes and no SignalR. `FakeExchangeConnection`
asks it, `FakeExchange` publishes through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from etorox_proto.testing._clock import TimeSource
from etorox_proto.testing._rules import ExchangeRules

__all__ = ["ExchangeCounts", "Feed", "Ledger", "Owner", "SetupAnswer", "Spell", "Topic"]

Topic = tuple[str, str]
SetupAnswer = Literal["result", "error", "silence"]

_PATH = ("/streams/v1/", "/signalr")


@dataclass
class ExchangeCounts:
    """What has happened at a `FakeExchange` so far.

    Attributes:
        streams: byte streams that were opened; an attempt that negotiates takes two.
        connections: SignalR handshakes.
        setups: `setup`s that succeeded.
        setups_refused: those that did not.
        subscriptions: subscriptions that were accepted, ended or not.
        subscriptions_refused: those that were not.
        items: items sent.
        items_withheld: items that were not sent because their channel is frozen.
    """

    streams: int = 0
    connections: int = 0
    setups: int = 0
    setups_refused: int = 0
    subscriptions: int = 0
    subscriptions_refused: int = 0
    items: int = 0
    items_withheld: int = 0


@dataclass
class Spell:
    """Something that is done the next few times.

    Attributes:
        times: how often, `math.inf` for always.
        text: what the client is told.
    """

    times: float = 0
    text: str = ""

    def begin(self, times: float, text: str) -> None:
        """Do it so often from now on."""
        self.times = times
        self.text = text

    def applies(self) -> bool:
        """Whether it is done this time."""
        if self.times <= 0:
            return False
        self.times -= 1
        return True


class Owner(Protocol):
    """A connection, as far as the ledger knows it."""

    def send_item(self, feed: Feed, item: msgspec.Raw, now: float) -> None:
        """Send an item of one of its subscriptions."""
        ...

    def end_subscription(self, feed: Feed, error: str | None, now: float) -> None:
        """End one of its subscriptions."""
        ...


@dataclass(eq=False, slots=True)
class Feed:
    """One subscription of one connection.

    Attributes:
        owner: whose it is.
        api_key: and whose that is.
        invocation_id: its SignalR stream.
        topics: what is subscribed.
        fields: the selector, None for whole items.
    """

    owner: Owner
    api_key: str
    invocation_id: str
    topics: frozenset[Topic]
    fields: tuple[str, ...] | None


class Ledger:
    """The shared part of an exchange.

    Args:
        clock: tells the wall time.
        rules: how clients are treated.

    Attributes:
        counts: what has happened.
        refusing_setup: the next few `setup`s are refused.
        setup_answer: in which way.
        refusing_subscriptions: the next few subscriptions are refused.
        turning_away: the next few connections are closed right after their handshake.
        may_come_back: whether those are invited to come back.
    """

    def __init__(self, clock: TimeSource, rules: ExchangeRules) -> None:
        self.clock = clock
        self.rules = rules
        self.counts = ExchangeCounts()
        self.refusing_setup = Spell()
        self.setup_answer: SetupAnswer = "result"
        self.refusing_subscriptions = Spell()
        self.turning_away = Spell()
        self.may_come_back = True
        self._nonces: set[str] = set()
        self._feeds: dict[Topic, dict[Feed, None]] = {}
        self._taken_until: dict[tuple[str, Topic], float] = {}

    def judge_setup(self, path: str, argument: object) -> str:
        """Judge the argument of `setup`.

        Args:
            path: the path of the connection's URL, which names the API key as well.
            argument: what the client sent.

        Returns:
            `""` if it is right, else what is wrong with it.
        """
        match argument:
            case {"apiKey": str(api_key), "nonce": str(nonce), "timestamp": int(timestamp), "signature": str(signed)}:
                pass
            case _:
                return "expected apiKey, nonce, timestamp and signature"
        rules = self.rules
        if path != api_key.join(_PATH) or (rules.api_keys is not None and api_key not in rules.api_keys):
            return "the API key is not known"
        if abs(self.clock.unix_time + rules.clock_skew - timestamp / 1000) > rules.max_timestamp_age:
            return f"the timestamp is more than {rules.max_timestamp_age:g} s off"
        if rules.checks_nonces and nonce in self._nonces:
            return "the nonce was used before"
        key = rules.public_key
        if key is not None and not key.verify_setup(nonce=nonce, timestamp=timestamp, signature=signed):
            return "the signature does not fit"
        self._nonces.add(nonce)
        return ""

    def judge_subscription(self, argument: object) -> str:
        """Whether that is an argument of `subscribe`; `""`, or what is wrong with it."""
        match argument:
            case {"channels": [str(), *_] as channels, "event": str(), **rest}:
                fields = rest.get("fields")
            case _:
                return "expected channels and event"
        if not all(isinstance(channel, str) for channel in channels):
            return "expected channels and event"
        if fields is not None and (not isinstance(fields, list) or not fields or fields != sorted(map(str, fields))):
            return "fields must be strings in alphanumeric order"
        return ""

    def subscribe(self, owner: Owner, api_key: str, invocation_id: str, argument: Any, now: float) -> Feed | str:
        """Enter a subscription.

        Args:
            owner: the connection.
            api_key: whose it is.
            invocation_id: its SignalR stream.
            argument: what `judge_subscription` found right.
            now: seconds.

        Returns:
            The subscription, or why there is none.
        """
        if self.refusing_subscriptions.applies():
            return self.refusing_subscriptions.text
        rules, fields = self.rules, argument.get("fields")
        topics = frozenset((channel, argument["event"]) for channel in argument["channels"])
        for topic in sorted(topics):
            name = " ".join(topic)
            if rules.channels is not None and topic[0] not in rules.channels:
                return f"the topic {name} is not listed"
            if any(self._collides(feed, owner, api_key) for feed in self._feeds.get(topic, ())):
                return f"the topic {name} is already subscribed"
            if rules.exclusive_topics and now < self._taken_until.get((api_key, topic), now):
                return f"the topic {name} is still subscribed"
        feed = Feed(owner, api_key, invocation_id, topics, None if fields is None else tuple(fields))
        for topic in topics:
            self._feeds.setdefault(topic, {})[feed] = None
        return feed

    def _collides(self, feed: Feed, owner: Owner, api_key: str) -> bool:
        return feed.owner is owner or (self.rules.exclusive_topics and feed.api_key == api_key)

    def cancelled(self, feed: Feed) -> None:
        """A subscription has ended, and its connection goes on: its topics are free."""
        for topic in feed.topics:
            feeds = self._feeds[topic]
            del feeds[feed]
            if not feeds:
                del self._feeds[topic]

    def gone(self, feeds: Iterable[Feed], now: float) -> None:
        """The connection of these subscriptions has ended."""
        for feed in feeds:
            self.cancelled(feed)
            for topic in feed.topics:
                self._taken_until[feed.api_key, topic] = now + self.rules.topic_release

    def feeds(self, topic: Topic) -> list[Feed]:
        """Who has subscribed that, oldest first."""
        return list(self._feeds.get(topic, ()))

    def topics(self) -> Iterator[tuple[Topic, int]]:
        """The topics that are subscribed, and how often."""
        for topic, feeds in self._feeds.items():
            yield topic, len(feeds)


def is_hub(path: str) -> bool:
    """Whether that is the path of a customer's hub."""
    return path.startswith(_PATH[0]) and path.endswith(_PATH[1]) and len(path) > len("".join(_PATH))
