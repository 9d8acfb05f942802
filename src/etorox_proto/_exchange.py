"""`ExchangeConnection`: the eToroX streaming API on one hub connection.

It owns a `HubConnection`, hands bytes and time down, and turns hub events into market events: after the SignalR
handshake it sends the signed `setup` at once, and once that succeeded it takes subscriptions. One object is one
attempt; nonce, correlation id and wall time are values of its constructor, so that signing afresh is a matter of
structure. It knows no socket and no clock.

Source: the exchange's streaming documentation, sections "Connect", "Authenticate", "Stream".
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Sequence
from typing import Any, assert_never, final

from etorox_proto._auth import Credentials, setup_argument
from etorox_proto._config import ExchangeConfig
from etorox_proto._errors import SetupRefused, SigningFailed, SubscriptionFailed
from etorox_proto._events import (
    EventsByTurns,
    EventsReceived,
    ExchangeBatch,
    ExchangeEvent,
    Ready,
    SubscriptionEnded,
    next_batch,
    next_single,
)
from etorox_proto._subscription import Subscription, Topic
from etorox_proto.signalr import (
    Call,
    CallCancelled,
    CallError,
    CallLost,
    Closed,
    Completed,
    Connected,
    ConnectionClosed,
    ConnectionFailed,
    Dial,
    HubConnection,
    InvocationReceived,
    ItemsByTurns,
    ItemsReceived,
    LocalProtocolError,
    State,
    TimedOut,
)

__all__ = ["ExchangeConnection", "ExchangeState"]


class ExchangeState(enum.Enum):
    """Where the connection is, all bytes received so far considered."""

    CONNECTING = "connecting"
    AUTHENTICATING = "waiting for the answer to setup"
    READY = "ready"
    CLOSING = "closing"
    CLOSED = "closed"


@final
class ExchangeConnection:
    """One authenticated connection to the exchange, as a pure state machine.

    - The world tells the machine: `stream_opened`, `receive_data`, `handle_timeout`, `reading_paused`,
      `reading_resumed`. These never raise.
    - The machine tells the world: `data_to_send`, `next_event` or `next_batch`, `deadline`.
    - The application asks: `subscribe`, `resubscribe`, `unsubscribe`, `close`. These check, then act; a refused one
      raises `LocalProtocolError` and changes nothing.
    - Anyone looks: `state`, `subscriptions`.

    Drain before you feed: after any input or command send `data_to_send()`, take `next_event()` until it is None, and
    only then wait for bytes until `deadline`. `now` is seconds of one monotonic clock, from any origin.

    Args:
        config: where the exchange is.
        credentials: who we are. The signer is asked once, right after the handshake.
        now: the time at which the attempt begins.
        unix_time: seconds since the epoch at `now`, by the exchange's clock as well as it is known.
        nonce: a fresh UUID; the exchange refuses one that it has seen.
        correlation_id: a fresh UUID, which names the attempt in the exchange's logs.

    The first event is `Dial`, the last is `Closed`, and afterwards the object is inert.

    Raises:
        LocalProtocolError: these are no credentials, or the configuration cannot be used with them.
    """

    def __init__(
        self,
        config: ExchangeConfig,
        credentials: Credentials,
        *,
        now: float,
        unix_time: float,
        nonce: str,
        correlation_id: str,
    ) -> None:
        given: object = credentials
        if not isinstance(given, Credentials):
            raise LocalProtocolError(
                f"expected Credentials, such as Credentials.load(api_key, path), got {type(given).__name__}"
            )
        self._config = config
        self._credentials = credentials
        self._epoch = unix_time - now
        self._nonce = nonce
        self._signature = ""
        self._hub = HubConnection(
            config.hub_config(credentials.api_key, correlation_id), now=now, greet=self._authenticate
        )
        self._events: deque[ExchangeEvent | EventsReceived | EventsByTurns] = deque()
        self._setup: Call | None = None
        self._setup_deadline = math.inf
        self._is_ready = False
        self._subscriptions: dict[Call, Subscription] = {}
        self._topics: set[Topic] = set()
        self._failure: ConnectionFailed | None = None
        self._translate(now)

    def __repr__(self) -> str:
        return f"<ExchangeConnection to {self._config.host}: {self.state.value}>"

    # ------------------------------------------------------------------------------------------ anyone looks

    @property
    def state(self) -> ExchangeState:
        """Where the connection is, all bytes received so far considered."""
        match self._hub.state:
            case State.NEGOTIATING | State.UPGRADING | State.HANDSHAKING:
                return ExchangeState.CONNECTING
            case State.CONNECTED | State.RESUMING:
                return ExchangeState.READY if self._is_ready else ExchangeState.AUTHENTICATING
            case State.CLOSING:
                return ExchangeState.CLOSING
            case State.CLOSED:
                return ExchangeState.CLOSED
            case _:
                assert_never(self._hub.state)

    @property
    def subscriptions(self) -> list[Subscription]:
        """The subscriptions that have not ended, oldest first."""
        return list(self._subscriptions.values())

    @property
    def is_reading(self) -> bool:
        """Whether the driver reads; not so between `reading_paused` and `reading_resumed`."""
        return self._hub.is_reading

    @property
    def last_heard(self) -> float:
        """When the exchange last gave a sign of life, in seconds of the driver's clock; -infinite before that."""
        return self._hub.last_heard

    @property
    def queued_bytes(self) -> int:
        """How many bytes wait in `data_to_send`."""
        return self._hub.queued_bytes

    # ------------------------------------------------------------------------- the world tells the machine

    def stream_opened(self, now: float) -> None:
        """The byte stream that the last `Dial` asked for exists; what must be sent on it is in `data_to_send`."""
        self._hub.stream_opened(now)

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes came from the stream; `b""` means that it ended, or that it could not be opened."""
        self._hub.receive_data(data, now)
        self._translate(now)

    def handle_timeout(self, now: float) -> None:
        """Time has passed. Early or repeated calls do nothing; each due deadline is moved on or closes."""
        if self._setup_deadline < math.inf and self._setup_deadline <= now:
            seconds = self._config.setup_timeout
            self._fail(TimedOut("setup", seconds, "the exchange did not answer setup"), now)
        self._hub.handle_timeout(now)
        self._translate(now)

    def reading_paused(self, now: float) -> None:
        """The driver has stopped reading; until `reading_resumed` silence is not held against the exchange."""
        self._hub.reading_paused(now)

    def reading_resumed(self, now: float) -> None:
        """The driver reads again."""
        self._hub.reading_resumed(now)

    # ------------------------------------------------------------------------- the machine tells the world

    def data_to_send(self) -> bytes:
        """All bytes that wait to be sent; they are handed out once."""
        return self._hub.data_to_send()

    def next_event(self) -> ExchangeEvent | None:
        """The next event, or None when it is time to wait."""
        event: ExchangeEvent | None = next_single(self._events)
        return event

    def next_batch(self) -> ExchangeBatch | None:
        """As `next_event`, but market events that wait one behind the other may come at once."""
        event: ExchangeBatch | None = next_batch(self._events)
        return event

    @property
    def deadline(self) -> float:
        """When `handle_timeout` must be called next; `math.inf` after the end. Read it anew before each wait."""
        return min(self._hub.deadline, self._setup_deadline)

    # ---------------------------------------------------------------------------------- the application asks

    def subscribe(
        self,
        channels: Sequence[str],
        *,
        event: str = "marketData",
        fields: Sequence[str] | None = None,
        now: float,
    ) -> Subscription:
        """Ask for the events of some channels; they come as `EventReceived`, the end as one `SubscriptionEnded`.

        Args:
            channels: instrument ids such as `btcusd`.
            event: `marketData` for instrument channels.
            fields: only these fields, in alphanumeric order; events then come as rows. The exchange recommends it.
            now: seconds.

        Raises:
            LocalProtocolError: a list is empty or holds something twice, `fields` is not sorted, a topic is
                subscribed already, or the connection is not ready; nothing was sent.
        """
        self._check_ready()
        subscription = Subscription(channels, event=event, fields=fields)
        self.resubscribe(subscription, now=now)
        return subscription

    def resubscribe(self, subscription: Subscription, *, now: float) -> None:
        """Ask for a subscription that another connection has, or had; its events come under this very object.

        Raises:
            LocalProtocolError: a topic of it is subscribed here already, or the connection is not ready; nothing was
                sent.
        """
        self._check_ready()
        for channel, name in subscription.topics:
            if (channel, name) in self._topics:
                raise LocalProtocolError(f"expected topics that are not subscribed, got {channel} ({name}), which is")
        decode, read = subscription.decoder()
        arguments = [subscription.argument()]
        call = self._hub.stream("subscribe", arguments, item_decoder=decode, item_reader=read, now=now)
        self._subscriptions[call] = subscription
        self._topics.update(subscription.topics)

    def unsubscribe(self, subscription: Subscription, *, now: float) -> None:
        """End a subscription. Its `SubscriptionEnded` is there at once; what still comes for it is dropped.

        Its topics may be subscribed again; whether the exchange accepts that on the same connection it does not say.
        A subscription that has ended is left alone.
        """
        for call, each in self._subscriptions.items():
            if each is subscription:
                self._hub.cancel(call, now=now)
                self._translate(now)
                return

    def close(self, *, wait: bool = True, now: float) -> None:
        """Say goodbye and end the connection; calling it again does nothing more.

        Args:
            wait: whether to wait up to `close_timeout` seconds for the exchange's goodbye. If not, `Closed` follows
                at once. In either case without an error.
            now: seconds.
        """
        self._setup_deadline = math.inf
        self._hub.close(wait=wait, now=now)
        self._translate(now)

    def _check_ready(self) -> None:
        if self.state in {ExchangeState.CLOSING, ExchangeState.CLOSED}:
            raise ConnectionClosed(f"expected a connection for subscribe, got one that is {self.state.value}")
        if not self._is_ready:
            raise LocalProtocolError(f"expected a ready connection, it is still {self.state.value}; wait for Ready")

    # -------------------------------------------------------------------------------- hub events to market events

    def _translate(self, now: float) -> None:
        """Turn what the hub tells into what the application is told, and do what falls to us."""
        while (event := self._hub.next_batch()) is not None:
            match event:
                case ItemsReceived(call, items):
                    self._events.append(EventsReceived(self._subscriptions[call], items))
                case ItemsByTurns(calls, items):
                    self._events.append(EventsByTurns(list(map(self._subscriptions.__getitem__, calls)), items))
                case Completed(call, result, error):
                    if call is self._setup:
                        self._setup_answered(result, error, now)
                    else:
                        self._subscription_ended(self._subscriptions.pop(call), error)
                case Connected():
                    pass  # `setup` has been sent already
                case Dial():
                    self._events.append(event)
                case InvocationReceived():
                    pass  # the exchange documents none
                case Closed():
                    self._setup_deadline = math.inf
                    # Our own reason came first, even if the exchange hung up in the same breath.
                    reason = self._failure or event.error
                    if reason is not None:
                        reason.redact(*self._secrets)
                    self._events.append(Closed(reason))
                case _:
                    assert_never(event)

    def _authenticate(self, now: float) -> None:
        milliseconds = (self._epoch + now) * 1000
        if not math.isfinite(milliseconds):
            raise SigningFailed(f"expected a time that a timestamp can tell, got {milliseconds}")
        argument = setup_argument(self._credentials, nonce=self._nonce, timestamp=int(milliseconds))
        self._signature = str(argument["signature"])
        try:
            self._setup = self._hub.invoke("setup", [argument], now=now)
        except LocalProtocolError as error:
            raise SigningFailed(f"setup cannot be sent: {error}") from None
        self._setup_deadline = now + self._config.setup_timeout

    def _setup_answered(self, result: Any, error: CallError | None, now: float) -> None:
        self._setup_deadline = math.inf
        match error:
            case None if isinstance(result, dict) and result.get("status") == "success":
                self._is_ready = True
                self._events.append(Ready(self._hub.connection_id))
            case None:
                answer = result if isinstance(result, dict) else {"result": result}
                said = ": ".join(str(answer[key]) for key in ("status", "message") if key in answer) or "no status"
                text = f"the exchange refused setup: {self._redact(said)}"
                self._fail(SetupRefused(text, result=answer), now)
            case CallLost() | CallCancelled():
                pass  # the connection is ending, for the reason that `Closed` gives
            case _:
                self._fail(SetupRefused(f"the exchange refused setup: {self._redact(str(error))}"), now)

    def _subscription_ended(self, subscription: Subscription, error: CallError | None) -> None:
        self._topics.difference_update(subscription.topics)
        match error:
            case CallCancelled():
                error = None
            case None | CallLost():
                pass
            case _:
                topics = f"{', '.join(subscription.channels)} ({subscription.event})"
                failed = SubscriptionFailed(f"the subscription to {topics} failed: {self._redact(str(error))}")
                if self._redact(str(error)) == str(error):
                    failed.__cause__ = error
                error = failed
        self._events.append(SubscriptionEnded(subscription, error))

    def _fail(self, error: ConnectionFailed, now: float) -> None:
        """End the connection for a reason that the hub does not know."""
        self._setup_deadline = math.inf
        self._failure = error
        self._hub.close(wait=False, now=now)

    def _redact(self, text: str) -> str:
        """A server's text may quote what it was sent."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return self._hub.redact(text)

    @property
    def _secrets(self) -> list[str]:
        return [secret for secret in (self._credentials.api_key, self._signature) if secret]
