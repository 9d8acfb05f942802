"""The blocking adapter: sockets and TLS, no thread, no event loop.

**There is no thread: the connection lives only while you are inside one of its methods.** Pings go out and silence is
noticed while you iterate or wait. Come back more often than every 15 seconds; a consumer that is away for more than 30
loses the connection, because the exchange drops clients whose pings stay away.

`connect` gives an authenticated connection to the exchange, `connect_hub` one to any SignalR hub. Both drive the pure
machines of `etorox_proto` with the one loop in `_loop`.
"""

from __future__ import annotations

import math
import ssl
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, final

from etorox_proto import (
    CallLost,
    Credentials,
    EventReceived,
    ExchangeConfig,
    ExchangeConnection,
    Ready,
    Subscription,
    SubscriptionEnded,
)
from etorox_proto.signalr import (
    Call,
    Completed,
    Connected,
    HubConfig,
    HubConnection,
    InvocationReceived,
    ItemReceived,
)
from etorox_transports._attempt import new_exchange_connection
from etorox_transports._feed import Feed
from etorox_transports._loop import Driver, MachineT, Opener
from etorox_transports._sockets import ByteStream, SocketStream, open_socket

__all__ = ["ByteStream", "Exchange", "Feed", "Hub", "Opener", "SocketStream", "connect", "connect_hub", "open_socket"]


def connect(
    config: ExchangeConfig | str,
    credentials: Credentials,
    *,
    ssl_context: ssl.SSLContext | None = None,
    open: Opener | None = None,
    feed_capacity: int = 10_000,
) -> Exchange:
    """Connect to the exchange and authenticate; returns once `setup` has succeeded.

    Args:
        config: where the exchange is; a string is its host.
        credentials: who we are. A fresh nonce is signed for this one attempt.
        ssl_context: how to verify the exchange, and what certificate to present; by default the system's authorities.
        open: opens byte streams instead of the default, for proxies and tests. `ssl_context` then means nothing.
        feed_capacity: how many events may wait in a feed that is not being read.

    Raises:
        LocalProtocolError: the configuration cannot be used.
        DialFailed: no stream could be opened.
        ConnectionFailed: in one of its forms, such as `SetupRefused`. Nothing is left open.
    """
    if isinstance(config, str):
        config = ExchangeConfig(config)
    connection = new_exchange_connection(config, credentials)
    return Exchange(connection, open or partial(open_socket, ssl_context=ssl_context), feed_capacity=feed_capacity)


def connect_hub(
    config: HubConfig | str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    open: Opener | None = None,
    feed_capacity: int = 10_000,
) -> Hub:
    """Connect to any SignalR hub; returns once the handshake is done.

    Args:
        config: where the hub is; a string is its URL.
        ssl_context: as for `connect`.
        open: as for `connect`.
        feed_capacity: how many items may wait in a stream that is not being read.

    Raises:
        LocalProtocolError: the configuration cannot be used.
        DialFailed: no stream could be opened.
        ConnectionFailed: in one of its forms. Nothing is left open.
    """
    if isinstance(config, str):
        config = HubConfig(url=config)
    connection = HubConnection(config, now=time.monotonic())
    return Hub(connection, open or partial(open_socket, ssl_context=ssl_context), feed_capacity=feed_capacity)


class _Closing(Generic[MachineT]):
    """What an `Exchange` and a `Hub` share: one driver, and its end."""

    def __init__(self, connection: MachineT, open_stream: Opener, opened: type[Any]) -> None:
        self._driver = Driver(connection, open_stream)
        self._driver.open(opened)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._driver.machine!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # No goodbye: a finaliser must not wait for the network.
        if hasattr(self, "_driver"):
            self._driver.drop()

    @property
    def connection(self) -> MachineT:
        """The machine, to look at."""
        return self._driver.machine

    def close(self) -> None:
        """Say goodbye, wait a few seconds at most for the answer, close. Calling it again does nothing."""
        self._driver.close()


@final
class Exchange(_Closing[ExchangeConnection]):
    """An authenticated connection to the exchange; made by `connect`. A context manager that closes."""

    def __init__(self, connection: ExchangeConnection, open_stream: Opener, *, feed_capacity: int) -> None:
        self._capacity = feed_capacity
        self._feeds: dict[Subscription, Feed] = {}
        super().__init__(connection, open_stream, Ready)

    def subscribe(
        self, channels: Sequence[str], *, event: str = "marketData", fields: Sequence[str] | None = None
    ) -> Feed:
        """Ask for the events of some channels; sent at once, answered when the feed is read.

        Args:
            channels: instrument ids such as `btcusd`.
            event: `marketData` for instrument channels.
            fields: only these fields, in alphanumeric order; events then come as rows.

        Raises:
            LocalProtocolError: the subscription cannot be asked for; nothing was sent.
        """
        subscription = self.connection.subscribe(channels, event=event, fields=fields, now=time.monotonic())
        feed = Feed(subscription, self._pump, partial(self._unsubscribe, subscription), self._capacity)
        self._feeds[subscription] = feed
        self._driver.flush()
        return feed

    def events(self) -> Iterator[EventReceived]:
        """The events of all subscriptions, in the order of their arrival; instead of reading single feeds.

        Ends when the last subscription ends in good order. Raises as feeds do.
        """
        is_lost = self._driver.ended
        while self._feeds or is_lost:
            event = self._driver.next_event(math.inf)
            match event:
                case EventReceived():
                    if not self._feeds[event.subscription].closed:
                        yield event
                case SubscriptionEnded(subscription, error):
                    self._feeds.pop(subscription).finish(error)
                    is_lost = isinstance(error, CallLost)
                    if error is not None and not is_lost:
                        raise error
                case _:
                    self._driver.raise_end()
                    return

    def _pump(self, until: float) -> bool:
        """Take one event and give it to its feed; False once we have closed and there are no more."""
        event = self._driver.next_event(until)
        match event:
            case EventReceived(subscription, item):
                self._feeds[subscription].put(item)
            case SubscriptionEnded(subscription, error):
                self._feeds.pop(subscription).finish(error)
            case _:
                self._driver.raise_end()
                return False
        return True

    def _unsubscribe(self, subscription: Subscription) -> None:
        self.connection.unsubscribe(subscription, now=time.monotonic())
        self._driver.flush()


@final
class Hub(_Closing[HubConnection]):
    """A connection to any SignalR hub; made by `connect_hub`. A context manager that closes.

    Attributes:
        invocations: what the hub called on this client so far, oldest first; take what you want from its left. It
            holds the last thousand.
    """

    def __init__(self, connection: HubConnection, open_stream: Opener, *, feed_capacity: int) -> None:
        self._capacity = feed_capacity
        self._feeds: dict[Call, Feed] = {}
        self._completed: dict[Call, Completed | None] = {}
        self.invocations: deque[InvocationReceived] = deque(maxlen=1_000)
        super().__init__(connection, open_stream, Connected)

    def invoke(
        self,
        target: str,
        *arguments: Any,
        result_type: Any = Any,
        headers: Mapping[str, str] | None = None,
        timeout: float = math.inf,
    ) -> Any:
        """Call a method of the hub and wait for its result.

        Args:
            target: the method's name.
            arguments: anything that msgspec can encode.
            result_type: what the result is decoded into.
            headers: hub message headers.
            timeout: seconds to wait; the call is then cancelled.

        Raises:
            HubError: the server answered with an error.
            TimeoutError: no answer came in time.
            ConnectionFailed: the connection ended; the `CallLost` that says whether it was sent is its context.
        """
        until = time.monotonic() + timeout
        call = self.connection.invoke(target, arguments, result_type=result_type, headers=headers, now=time.monotonic())
        self._completed[call] = None
        try:
            while (completed := self._completed[call]) is None:
                self._pump(until)
        except TimeoutError:
            self.connection.cancel(call, now=time.monotonic())
            self._driver.flush()
            raise
        finally:
            del self._completed[call]
        if isinstance(completed.error, CallLost):
            try:
                raise completed.error
            except CallLost:
                while self._pump(math.inf):
                    pass  # the connection's own reason is the last event
        if completed.error is not None:
            raise completed.error
        return completed.result

    def stream(
        self,
        target: str,
        *arguments: Any,
        item_type: Any = Any,
        headers: Mapping[str, str] | None = None,
    ) -> Feed:
        """Call a streaming method; its items are read from the feed.

        Args:
            target: the method's name.
            arguments: anything that msgspec can encode.
            item_type: what each item is decoded into.
            headers: hub message headers.
        """
        call = self.connection.stream(target, arguments, item_type=item_type, headers=headers, now=time.monotonic())
        feed = Feed(call, self._pump, partial(self._cancel, call), self._capacity)
        self._feeds[call] = feed
        self._driver.flush()
        return feed

    def send(self, target: str, *arguments: Any, headers: Mapping[str, str] | None = None) -> None:
        """Call a method without asking for an answer."""
        self.connection.send(target, arguments, headers=headers, now=time.monotonic())
        self._driver.flush()

    def _pump(self, until: float) -> bool:
        """Take one event and give it to whoever waits for it; False once we have closed and there are no more."""
        event = self._driver.next_event(until)
        match event:
            case ItemReceived(call, item):
                self._feeds[call].put(item)
            case Completed(call=call):
                if call in self._feeds:
                    self._feeds.pop(call).finish(event.error)
                elif call in self._completed:
                    self._completed[call] = event
            case InvocationReceived():
                self.invocations.append(event)
            case _:
                self._driver.raise_end()
                return False
        return True

    def _cancel(self, call: Call) -> None:
        self.connection.cancel(call, now=time.monotonic())
        self._driver.flush()
