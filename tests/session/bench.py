"""A `Session` on a bench: its connections are real, their servers are the test, time is a variable.

`Bench` is an adapter in the smallest form. Each attempt becomes a `Line`, on which the test plays the exchange in
bytes: it makes it ready, brings items, refuses, hangs up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from etorox_proto import (
    CheckClock,
    Closed,
    ConnectionFailed,
    EventReceived,
    EventsByTurns,
    ExchangeConnection,
    ExchangeState,
    Gap,
    Limits,
    OrderCreated,
    Reconnecting,
    Row,
    Session,
    SessionConfig,
    StartAttempt,
    Subscription,
    SubscriptionEnded,
)
from machines import HANDSHAKE, RawPeer, exchange, hub_frame, take

START = 1_000.0


def batched(events: list[Any]) -> Iterator[Any]:
    """The same, but market events that stand one behind the other in batches, of however many subscriptions."""
    for is_market, group in itertools.groupby(events, lambda event: isinstance(event, EventReceived)):
        run = list(group)
        if is_market:
            yield EventsByTurns([each.subscription for each in run], [each.event for each in run])
        else:
            yield from run


def created(number: int, market: str = "btcusd") -> dict[str, Any]:
    """An event that can be told from every other."""
    return {
        "name": "order_created",
        "market": market,
        "side": "bid",
        "volume": 1,
        "price": 1.5,
        "state": "wait",
        "updated_at": "2020-08-03T10:16:17.631Z",
        "id": str(number),
    }


class Line(RawPeer):
    """One connection of the session, whose exchange is the test."""

    def __init__(self, connection: ExchangeConnection, bench: Bench) -> None:
        self.bench = bench
        self.streams: dict[str, str] = {}
        self.cancelled: list[str] = []
        self.is_over = False
        self._ids: dict[str, str] = {}
        super().__init__(connection)

    @property
    def connection(self) -> ExchangeConnection:
        assert isinstance(self.client, ExchangeConnection)
        return self.client

    def settle(self) -> None:
        """Flush, and pass every event on to the session."""
        self.now = self.bench.now
        self.sent += self.client.data_to_send()
        events = take(self.client)
        self.events += events
        for event in batched(events) if self.bench.in_batches else events:
            self.is_over = self.is_over or isinstance(event, Closed)
            self.bench.session.handle_event(self.connection, event, self.bench.now)

    def ready(self) -> Line:
        """Let the attempt succeed."""
        self.now = self.bench.now
        self.upgrade(HANDSHAKE)
        self.sent = b""
        self.say({"type": 3, "invocationId": "1", "result": {"status": "success"}})
        return self

    def say(self, *messages: Any) -> None:
        """Hub messages from the exchange."""
        self.now = self.bench.now
        self.feed(hub_frame(*messages))
        self.bench.settle()

    def listen(self) -> None:
        """Read what the client asked for, up to now."""
        for message in self.said():
            match message:
                case {"type": 4, "invocationId": call, "arguments": [{"channels": channels}]}:
                    self.streams.update(dict.fromkeys(channels, call))
                    self._ids[call] = channels[0]
                case {"type": 5, "invocationId": call}:
                    self.cancelled.append(self._ids[call])
                case _:
                    pass

    def bring(self, *items: Any, channel: str = "btcusd") -> None:
        """Items of the stream with this channel; a number is an event that is like no other."""
        self.listen()
        for item in items:
            shown = created(item, channel) if isinstance(item, int) else item
            self.say({"type": 2, "invocationId": self.streams[channel], "item": shown})

    def bring_by_turns(self, *items: tuple[str, int]) -> None:
        """Events of several channels that come in one piece, each in a frame of its own."""
        self.listen()
        self.now = self.bench.now
        messages = [
            {"type": 2, "invocationId": self.streams[channel], "item": created(number, channel)}
            for channel, number in items
        ]
        self.feed(b"".join(map(hub_frame, messages)))
        self.bench.settle()

    def refuse(self, text: str = "already subscribed", channel: str = "btcusd") -> None:
        """The stream is refused, or broken off."""
        self.listen()
        self.say({"type": 3, "invocationId": self.streams.pop(channel), "error": text})

    def finish(self, channel: str = "btcusd") -> None:
        """The stream ends in good order."""
        self.listen()
        self.say({"type": 3, "invocationId": self.streams.pop(channel)})

    def hang_up(self) -> None:
        """The byte stream ends."""
        self.now = self.bench.now
        self.end()
        self.bench.settle()

    def goodbye(self, *, allow_reconnect: bool) -> None:
        """The exchange closes in good order."""
        self.say({"type": 7, "allowReconnect": allow_reconnect})

    def refuse_setup(self) -> None:
        """The attempt fails for its credentials."""
        self.now = self.bench.now
        self.upgrade(HANDSHAKE)
        self.say({"type": 3, "invocationId": "1", "result": {"status": "failure"}})


class Bench:
    """One session and its lines.

    Args:
        random: for the jitter; by default half of everything.
        limits: of the connections, one after the other; the last one counts for all that follow.
        in_batches: whether the session is told what comes together in batches.
        config: of the session; without `stale_after` silence is not told.
    """

    def __init__(
        self,
        *,
        random: Callable[[], float] = lambda: 0.5,
        limits: Sequence[Limits] = (Limits(),),
        in_batches: bool = False,
        **config: Any,
    ) -> None:
        self.in_batches = in_batches
        self.now = START
        self.skews: list[float] = []
        self.lines: list[Line] = []
        self.events: list[Any] = []
        self.clock_checks = 0
        self._limits = list(limits)
        self._nonces = map(str, itertools.count())
        config = {"stale_after": math.inf, **config}
        self.session = Session(self._connect, now=self.now, random=random, config=SessionConfig(**config))
        self.settle()

    def _connect(self, now: float, skew: float) -> ExchangeConnection:
        self.skews.append(skew)
        limits = self._limits[min(len(self.skews), len(self._limits)) - 1]
        return exchange(now=now, skip_negotiation=True, limits=limits)

    @property
    def line(self) -> Line:
        """The newest connection."""
        return self.lines[-1]

    def settle(self) -> None:
        """Do what the session asks, and drain it and its lines until everything is quiet."""
        is_quiet = False
        while not is_quiet:
            is_quiet = True
            while (action := self.session.next_action()) is not None:
                match action:
                    case StartAttempt(connection):
                        is_quiet = False
                        self.lines.append(Line(connection, self))
                    case CheckClock():
                        self.clock_checks += 1
            for line in self.lines:
                before = len(line.events)
                line.settle()
                is_quiet = is_quiet and len(line.events) == before
            self.events += take(self.session)

    def wait(self, seconds: float) -> None:
        """Let time pass, deadline by deadline; the servers of ready lines keep pinging."""
        end = self.now + seconds
        while (due := self._deadline()) <= end:
            self.now = max(self.now, due)
            for line in self.lines:
                if not line.is_over and line.client.deadline <= self.now:
                    line.now = self.now
                    if line.connection.state is ExchangeState.READY:
                        line.feed(hub_frame({"type": 6}))
                    line.client.handle_timeout(self.now)
            self.session.handle_timeout(self.now)
            self.settle()
        self.now = end

    def next_attempt(self) -> None:
        """Let time pass until the next attempt begins."""
        begun = len(self.lines)
        while len(self.lines) == begun:
            assert self._deadline() < math.inf, "no attempt will begin"
            self.wait(self._deadline() - self.now)

    def _deadline(self) -> float:
        return min(self.session.deadline, *(line.client.deadline for line in self.lines))

    def fail_dial(self, error: ConnectionFailed) -> None:
        """The stream of the newest attempt cannot be opened; the adapter says so in its own words."""
        line = self.line
        line.connection.close(wait=False, now=self.now)
        line.client.data_to_send()
        take(line.client)
        line.is_over = True
        self.session.handle_event(line.connection, Closed(error), self.now)
        self.settle()

    def subscribe(self, *channels: str, **options: Any) -> Subscription:
        subscription = self.session.subscribe(channels or ("btcusd",), now=self.now, **options)
        self.settle()
        return subscription

    def told(self) -> list[Any]:
        """What the application was told since the last time, in short: numbers for events, names for the rest."""
        events, self.events = self.events, []
        return [_short(event) for event in events]


def _short(event: Any) -> Any:
    match event:
        case Gap():
            return "gap"
        case Reconnecting():
            return "reconnecting"
        case SubscriptionEnded(error=error):
            return "ended" if error is None else f"ended: {error}"
        case Closed(error):
            return "closed" if error is None else f"closed: {error}"
        case _ if hasattr(event, "event"):
            item = event.event
            if isinstance(item, Row):
                return [getattr(item, field) for field in item.fields]
            return int(item.id) if isinstance(item, OrderCreated) else item
        case _:
            return type(event).__name__.lower()
