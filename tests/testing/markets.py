"""A `FakeExchange` on a virtual network, and clients that join it."""

from __future__ import annotations

import msgspec

from etorox_proto import (
    Credentials,
    EventReceived,
    ExchangeConfig,
    ExchangeConnection,
    ExchangeEvent,
    ExchangeState,
    MarketEvent,
    Row,
    Subscription,
    event_decoder,
)
from etorox_proto.signalr import HubConfig, HubConnection, HubEvent
from etorox_proto.testing import Driver, ExchangeRules, FakeExchange, FakeSigner, Link, VirtualNetwork

HOST = "ex.test"
ALICE = Credentials("0f8fad5b-d9cb-469f-a165-70867728950e", FakeSigner())
BOB = Credentials("16fd2706-8baf-433b-82eb-8c7fada847da", FakeSigner())


def order(number: int, market: str = "btcusd") -> bytes:
    """An item: an order that was placed, one like the other but for its number."""
    text = (
        f'{{"name":"order_created","market":"{market}","id":"{number}","side":"bid","volume":1.50,"price":{number}.25,'
        '"state":"pending","updated_at":"2020-01-01T00:00:00.000Z"}'
    )
    return text.encode()


def event(number: int, market: str = "btcusd") -> MarketEvent:
    """The event that such an item is."""
    return event_decoder()(order(number, market))


class Member:
    """One `ExchangeConnection` and its driver."""

    def __init__(self, market: Market, connection: ExchangeConnection) -> None:
        self.market = market
        self.connection = connection
        self.driver: Driver[ExchangeEvent] = market.network.drive(connection)

    def subscribe(self, *channels: str, fields: list[str] | None = None, event: str = "marketData") -> Subscription:
        """Subscribe, and let the exchange learn of it."""
        subscription = self.connection.subscribe(channels, fields=fields, event=event, now=self.market.network.now)
        self.market.network.run_for(1.0)
        return subscription

    def received(self, subscription: Subscription | None = None) -> list[MarketEvent | Row]:
        """The events of a subscription, or of all."""
        heard = [each for each in self.driver.events if isinstance(each, EventReceived)]
        return [each.event for each in heard if subscription is None or each.subscription is subscription]


class Market:
    """A network with one exchange.

    Args:
        rules: the exchange's.
        link: what lies between it and its clients.
        seed: the network's.
    """

    def __init__(self, rules: ExchangeRules | None = None, *, link: Link | None = None, seed: int = 0) -> None:
        self.network = VirtualNetwork(seed=seed, link=link or Link())
        self.exchange = FakeExchange(self.network, rules)
        self.listener = self.network.listen(self.exchange, HOST)

    def begin(self, who: Credentials = ALICE, *, skew: float = 0.0, **config: float) -> Member:
        """A client that sets out to connect."""
        settings = ExchangeConfig(HOST, **config)  # type: ignore[arg-type]
        return Member(self, self.network.new_exchange_connection(settings, who, skew=skew))

    def join(self, who: Credentials = ALICE, **config: float) -> Member:
        """A client that is ready."""
        member = self.begin(who, **config)
        self.network.wait_for(lambda: member.connection.state is ExchangeState.READY)
        return member

    def fail(self, who: Credentials = ALICE, **how: float) -> Exception:
        """Why a client that sets out does not arrive."""
        member = self.begin(who, **how)
        self.network.wait_for(lambda: member.driver.is_closed, within=120.0)
        assert member.driver.error is not None
        return member.driver.error

    def hub(self, who: Credentials = ALICE, **config: float) -> tuple[HubConnection, Driver[HubEvent]]:
        """A client that speaks SignalR and knows nothing of the exchange's rules."""
        url = f"https://{HOST}/streams/v1/{who.api_key}/signalr"
        hub = HubConnection(HubConfig(url=url, **config), now=self.network.now)  # type: ignore[arg-type]
        return hub, self.network.drive(hub)


class Plain(msgspec.Struct):
    """Something that is no event."""

    name: str
