"""A session, an exchange and a network between them, in virtual time; and a witness who knows what was published.

Every event that the exchange publishes has a number, one more than the last of its channel. So the `Witness` can tell
from what the application is told alone whether an event was repeated, came out of order, or is missing without a word.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from etorox_proto import (
    Closed,
    EventReceived,
    ExchangeConfig,
    Gap,
    OrderCreated,
    Ready,
    Reconnecting,
    Row,
    Session,
    SessionConfig,
    SessionEvent,
    SessionState,
    Stale,
    Subscription,
    SubscriptionEnded,
)
from etorox_proto.testing import ExchangeRules, FakeExchange, Link, VirtualNetwork
from session.bench import created

HOST = "ex.test"


class Witness:
    """Hears everything that the application is told, and knows what must not happen.

    Attributes:
        counts: what was told, by kind.
        ended: the subscriptions that have ended.
        lately: the last events, for whoever must find out what went wrong.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.ended: set[Subscription] = set()
        self.is_closed = False
        self.lately: deque[str] = deque(maxlen=40)
        self._last: dict[tuple[Subscription, str], int] = {}
        self._excused: set[tuple[Subscription, str]] = set()
        self._announced: Subscription | None = None

    def hear(self, event: SessionEvent) -> None:
        """One event of the session."""
        assert not self.is_closed, "nothing comes after Closed"
        self.counts[type(event).__name__] += 1
        self.lately.append(str(event)[:300])
        if self._announced is not None:
            assert isinstance(event, EventReceived), "a gap stands directly before an event"
            assert event.subscription is self._announced
            self._announced = None
        match event:
            case EventReceived(subscription, item):
                assert subscription not in self.ended, "nothing comes after the end of a subscription"
                self._received(subscription, item)
            case Gap():
                assert event.subscription not in self.ended
                assert event.lasted >= 0.0
                self._announced = event.subscription
                self._excused.update((event.subscription, channel) for channel in event.subscription.channels)
            case SubscriptionEnded(subscription):
                assert subscription not in self.ended, "a subscription ends once"
                self.ended.add(subscription)
            case Closed():
                self.is_closed = True
            case Ready() | Reconnecting() | Stale():
                pass

    def _received(self, subscription: Subscription, item: Any) -> None:
        if isinstance(item, Row):
            channel, number = item.market, int(item.id)  # type: ignore[attr-defined]
        else:
            assert isinstance(item, OrderCreated)
            channel, number = item.market, int(item.id)
        place = (subscription, channel)
        last = self._last.get(place)
        if last is not None:
            assert number > last, "no event twice, none out of order"
            assert number == last + 1 or place in self._excused, f"{last + 1} of {channel} is missing without a gap"
        self._last[place] = number
        self._excused.discard(place)

    def last(self, subscription: Subscription, channel: str) -> int | None:
        """The number of the last event told."""
        return self._last.get((subscription, channel))


class World:
    """A session on a virtual network.

    Args:
        seed: of everything.
        link: what lies between.
        rules: the switches of the exchange.
        witness: who hears what the application is told; by default one who holds every promise.
        config: of the session.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        link: Link | None = None,
        rules: ExchangeRules | None = None,
        witness: Witness | None = None,
        **config: Any,
    ) -> None:
        self.network = VirtualNetwork(seed=seed, link=link or Link())
        self.exchange = FakeExchange(self.network, rules)
        self.listener = self.network.listen(self.exchange, HOST)
        self.witness = witness or Witness()
        self.published: Counter[str] = Counter()
        self.sent = 0
        self.most_streams = 0
        exchange_config = ExchangeConfig(HOST)
        self.session = Session(
            lambda _now, skew: self.network.new_exchange_connection(exchange_config, skew=skew),
            now=self.network.now,
            random=self.network.random.random,
            config=SessionConfig(**config),
        )
        self.driver = self.network.drive_session(self.session, deliver=self.witness.hear)

    def publish(self, channel: str, count: int = 1) -> None:
        """The next events of a channel."""
        for _ in range(count):
            self.published[channel] += 1
            self.sent += self.exchange.publish(channel, created(self.published[channel], channel))
        self.most_streams = max(self.most_streams, len(self.network.streams))

    def subscribe(self, *channels: str, **options: Any) -> Subscription:
        """Want these channels from now on."""
        return self.session.subscribe(channels, now=self.network.now, **options)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Want it no longer."""
        self.session.unsubscribe(subscription, now=self.network.now)

    def heal(self) -> None:
        """All that is wrong now passes; what is broken for good is noticed in time."""
        self.listener.accept_dials()
        self.exchange.turn_away(times=0)
        self.exchange.refuse_subscriptions(times=0)
        for stream in self.network.streams:
            for side in ("client", "server"):
                stream.limit_reading(side, float("inf"))

    @property
    def is_serving(self) -> bool:
        """Whether the session is ready and one connection carries exactly what is wanted."""
        wanted = {channel: 1 for subscription in self.session.subscriptions for channel in subscription.channels}
        return self.session.state is SessionState.READY and self.exchange.subscriptions == wanted

    def finish(self) -> None:
        """Close, and see the end."""
        self.session.close(now=self.network.now)
        self.network.run_for(10.0)
        assert self.session.state is SessionState.CLOSED
        assert self.witness.is_closed
        assert self.driver.is_closed
        self.network.run_for(120.0)
        assert self.network.streams == []
