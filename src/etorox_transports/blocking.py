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
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, final

from etorox_proto import (
    CallError,
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
from etorox_transports._errors import FeedOverflow
from etorox_transports._loop import Driver, Opener
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


@final
class Feed:
    """The events of one subscription, or the items of one stream, in order; iterate it.

    Iteration ends when the subscription ends in good order. It raises `SubscriptionFailed` (for a hub's stream, the
    `CallError`) if the server refused or broke it off, and the connection's own error if that ended.

    Attributes:
        handle: the machine's handle, a `Subscription` or a `Call`.
        dropped: how many events were dropped because nobody read them; `FeedOverflow` is raised in their place.
    """

    def __init__(
        self, handle: Subscription | Call, pump: Callable[[float], bool], end: Callable[[], None], capacity: int
    ) -> None:
        self.handle = handle
        self.dropped = 0
        self._pump = pump
        self._end = end
        self._capacity = capacity
        self._waiting: deque[Any] = deque()
        self._missed = 0
        self._closed = False
        self._ended = False
        self._error: CallError | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._take(math.inf)

    def next(self, timeout: float) -> Any:
        """The next event.

        Args:
            timeout: how many seconds to wait for it; the connection is kept alive meanwhile.

        Raises:
            TimeoutError: none came; the feed goes on.
            StopIteration: the subscription has ended.
        """
        return self._take(time.monotonic() + timeout)

    def close(self) -> None:
        """End the subscription; what waits in the feed, or still comes, is dropped."""
        self._closed = True
        self._waiting.clear()
        self._end()

    def put(self, item: Any) -> None:
        """The adapter's side: one more event."""
        if self._closed:
            return
        if len(self._waiting) < self._capacity and not self._missed:
            self._waiting.append(item)
        else:
            self._missed += 1
            self.dropped += 1

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def finish(self, error: CallError | None) -> None:
        """The adapter's side: nothing more comes."""
        self._ended = True
        self._error = error

    def _take(self, until: float) -> Any:
        while not self._waiting:
            if self._missed:
                missed, self._missed = self._missed, 0
                raise FeedOverflow(missed, self._capacity)
            if self._ended:
                if self._error is not None and not isinstance(self._error, CallLost):
                    raise self._error.with_traceback(None)
                if self._error is None or not self._pump(until):
                    raise StopIteration
                # The call was lost with the connection, whose own reason says more and comes in a moment.
            else:
                self._pump(until)
        return self._waiting.popleft()


@final
class Exchange(Driver[ExchangeConnection]):
    """An authenticated connection to the exchange; made by `connect`. A context manager that closes."""

    def __init__(self, connection: ExchangeConnection, open_stream: Opener, *, feed_capacity: int) -> None:
        super().__init__(connection, open_stream)
        self._capacity = feed_capacity
        self._feeds: dict[Subscription, Feed] = {}
        self.open(Ready)

    @property
    def connection(self) -> ExchangeConnection:
        """The machine, to look at."""
        return self._machine

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
        subscription = self._machine.subscribe(channels, event=event, fields=fields, now=time.monotonic())
        feed = Feed(subscription, self._pump, partial(self._unsubscribe, subscription), self._capacity)
        self._feeds[subscription] = feed
        self.flush()
        return feed

    def events(self) -> Iterator[EventReceived]:
        """The events of all subscriptions, in the order of their arrival; instead of reading single feeds.

        Ends when the last subscription ends in good order. Raises as feeds do.
        """
        while self._feeds:
            event = self.next_event(math.inf)
            match event:
                case EventReceived():
                    if not self._feeds[event.subscription].closed:
                        yield event
                case SubscriptionEnded(error=None) if event.subscription in self._feeds:
                    del self._feeds[event.subscription]
                case SubscriptionEnded(error=error) if error is not None and not isinstance(error, CallLost):
                    del self._feeds[event.subscription]
                    raise error
                case SubscriptionEnded():
                    pass  # the connection is ending, and says why in a moment
                case _:
                    break
        if self._end is not None:
            self.raise_end()

    def _pump(self, until: float) -> bool:
        """Take one event and give it to its feed; False once we have closed and there are no more."""
        event = self.next_event(until)
        match event:
            case EventReceived(subscription, item):
                self._feeds[subscription].put(item)
            case SubscriptionEnded(subscription, error):
                self._feeds.pop(subscription).finish(error)
            case _:
                self.raise_end()
                return False
        return True

    def _unsubscribe(self, subscription: Subscription) -> None:
        self._machine.unsubscribe(subscription, now=time.monotonic())
        self.flush()


@final
class Hub(Driver[HubConnection]):
    """A connection to any SignalR hub; made by `connect_hub`. A context manager that closes.

    Attributes:
        invocations: what the hub called on this client so far, oldest first; take what you want from its left. It
            holds the last thousand.
    """

    def __init__(self, connection: HubConnection, open_stream: Opener, *, feed_capacity: int) -> None:
        super().__init__(connection, open_stream)
        self._capacity = feed_capacity
        self._feeds: dict[Call, Feed] = {}
        self._completed: dict[Call, Completed | None] = {}
        self.invocations: deque[InvocationReceived] = deque(maxlen=1_000)
        self.open(Connected)

    @property
    def connection(self) -> HubConnection:
        """The machine, to look at."""
        return self._machine

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
        call = self._machine.invoke(target, arguments, result_type=result_type, headers=headers, now=time.monotonic())
        self._completed[call] = None
        try:
            while (completed := self._completed[call]) is None:
                self._pump(until)
        except TimeoutError:
            self._machine.cancel(call, now=time.monotonic())
            self.flush()
            raise
        finally:
            del self._completed[call]
        if isinstance(completed.error, CallLost):
            try:
                raise completed.error
            except CallLost:
                self._pump(until)
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
        call = self._machine.stream(target, arguments, item_type=item_type, headers=headers, now=time.monotonic())
        feed = Feed(call, self._pump, partial(self._cancel, call), self._capacity)
        self._feeds[call] = feed
        self.flush()
        return feed

    def send(self, target: str, *arguments: Any, headers: Mapping[str, str] | None = None) -> None:
        """Call a method without asking for an answer."""
        self._machine.send(target, arguments, headers=headers, now=time.monotonic())
        self.flush()

    def _pump(self, until: float) -> bool:
        """Take one event and give it to whoever waits for it; False once we have closed and there are no more."""
        event = self.next_event(until)
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
                self.raise_end()
                return False
        return True

    def _cancel(self, call: Call) -> None:
        self._machine.cancel(call, now=time.monotonic())
        self.flush()
