"""`FakeExchangeConnection`: one client's byte stream at a `FakeExchange`.

It wraps a `ServerConnection`, keeps the order of things (`setup` first and soon, then subscriptions), and leaves every
judgement to the `Ledger`. It is a `HostConnection`, so a `VirtualNetwork` can drive it, and so can a loop of yours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, final

import msgspec

from etorox_proto.signalr import (
    CancelReceived,
    Closed,
    Connected,
    InvocationReceived,
    ServerConnection,
    State,
)
from etorox_proto.testing._ledger import Feed, Ledger

__all__ = ["FakeExchangeConnection"]


@final
class FakeExchangeConnection:
    """One byte stream; made by `FakeExchange.accept`. Drive it as any machine, without `Dial` and without events.

    Args:
        ledger: the exchange's.
        server: the SignalR machine of this stream.
        on_end: called once, with this object, when it has ended.

    Attributes:
        api_key: who the client is, None before `setup`.
        closed: whether the stream is to be closed, once what waits is flushed.
    """

    def __init__(
        self, ledger: Ledger, server: ServerConnection, on_end: Callable[[FakeExchangeConnection], None]
    ) -> None:
        self._ledger = ledger
        self._server = server
        self._on_end = on_end
        self._feeds: dict[str, Feed] = {}
        self._setup_deadline = math.inf
        self._cut_at = math.inf
        self._max_queued = ledger.rules.max_queued
        self.api_key: str | None = None
        self.closed = False

    def __repr__(self) -> str:
        return f"<FakeExchangeConnection {self._server.connection_id!r}: {self._server.state.value}>"

    # ------------------------------------------------------------------------------------------ anyone looks

    @property
    def is_connected(self) -> bool:
        """Whether the SignalR handshake is done and nobody has said goodbye."""
        return self._server.state is State.CONNECTED

    @property
    def connection_id(self) -> str | None:
        """The public name of the connection, which the client's `Ready` shows; None before the WebSocket."""
        return self._server.connection_id

    @property
    def channels(self) -> list[str]:
        """The channels that are subscribed, sorted."""
        return sorted(channel for feed in self._feeds.values() for channel, _ in feed.topics)

    @property
    def queued_bytes(self) -> int:
        """How many bytes wait in `data_to_send`."""
        return self._server.queued_bytes

    # ------------------------------------------------------------------------ the world, and what it is told

    @property
    def deadline(self) -> float:
        """When `handle_timeout` must be called next; `math.inf` after the end."""
        return min(self._server.deadline, self._setup_deadline, self._cut_at)

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes came from the stream; `b""` means that it ended."""
        self._server.receive_data(data, now)
        self._answer(now)

    def handle_timeout(self, now: float) -> None:
        """Time has passed."""
        if self._setup_deadline <= now:
            self.say_goodbye("setup did not follow the handshake in time", allow_reconnect=True, now=now)
        if self._cut_at <= now:
            if self._ledger.rules.lifetime_ends == "cut":
                self.cut(now=now)
            else:
                self.close(now=now)
        self._server.handle_timeout(now)
        self._answer(now)

    def data_to_send(self) -> bytes:
        """All bytes that wait to be sent; they are handed out once."""
        return self._server.data_to_send()

    # ------------------------------------------------------------------------------- what the exchange does

    def close(self, *, allow_reconnect: bool = True, now: float) -> None:
        """Say goodbye, as a server does that is being stopped."""
        self.say_goodbye(None, allow_reconnect=allow_reconnect, now=now)

    def cut(self, *, now: float) -> None:
        """End the stream without a word; what waits is not sent."""
        self._server.receive_data(b"", now)
        self._answer(now)

    def say_goodbye(self, error: str | None, *, allow_reconnect: bool, now: float) -> None:
        """Close with a reason."""
        self._setup_deadline = self._cut_at = math.inf
        self._give_up_feeds(now)
        self._server.close(error=error, allow_reconnect=allow_reconnect, now=now)
        self._answer(now)

    def send_item(self, feed: Feed, item: msgspec.Raw, now: float) -> None:
        """Send an item of one of the subscriptions; a client that is too far behind is told goodbye."""
        self._server.send_item(feed.invocation_id, item, now=now)
        self._ledger.counts.items += 1
        self._drop_if_slow(now)

    def end_subscription(self, feed: Feed, error: str | None, now: float) -> None:
        """End one of the subscriptions, in good order or with an error."""
        self._end_feed(feed.invocation_id)
        self._server.complete(feed.invocation_id, error=error, now=now)

    def _drop_if_slow(self, now: float) -> None:
        if self._server.queued_bytes > self._max_queued and self.is_connected:
            self.say_goodbye("the client does not read fast enough", allow_reconnect=True, now=now)

    # -------------------------------------------------------------------------------- what the client wants

    def _answer(self, now: float) -> None:
        while (event := self._server.next_event()) is not None:
            self._drop_if_slow(now)
            match event:
                case Closed():
                    self.closed = True
                    self._setup_deadline = self._cut_at = math.inf
                    self._give_up_feeds(now)
                    self._on_end(self)
                case CancelReceived(invocation_id) if invocation_id in self._feeds and not self.is_connected:
                    self._end_feed(invocation_id)  # before a goodbye in the same piece: free at once, as anywhere
                case _ if not self.is_connected:
                    pass  # it came in one piece with a goodbye, ours or the client's
                case Connected():
                    self._connected(now)
                case InvocationReceived(invocation_id=str(invocation_id)):
                    self._call(event, invocation_id, now)
                case CancelReceived(invocation_id) if invocation_id in self._feeds:
                    self._end_feed(invocation_id)
                    self._server.complete(invocation_id, now=now)
                case _:
                    pass  # a call that wants no answer, or the cancellation of one that has none

    def _connected(self, now: float) -> None:
        ledger = self._ledger
        ledger.counts.connections += 1
        self._setup_deadline = now + ledger.rules.setup_timeout
        self._cut_at = now + ledger.rules.lifetime
        if ledger.turning_away.applies():
            self.say_goodbye(ledger.turning_away.text or None, allow_reconnect=ledger.may_come_back, now=now)

    def _call(self, call: InvocationReceived, invocation_id: str, now: float) -> None:
        argument: Any = call.arguments[0] if len(call.arguments) == 1 else None
        match call.target, call.streaming:
            case "setup", False:
                self._set_up(argument, invocation_id, now)
            case "subscribe", True:
                self._subscribe(argument, invocation_id, now)
            case "setup" | "subscribe", _:
                text = f"The client attempted to invoke the method '{call.target}' in the wrong mode."
                self._server.complete(invocation_id, error=text, now=now)
            case _:
                self._server.complete(invocation_id, error=f"Unknown hub method '{call.target}'", now=now)

    def _set_up(self, argument: Any, invocation_id: str, now: float) -> None:
        ledger = self._ledger
        self._setup_deadline = math.inf
        is_refused = ledger.refusing_setup.applies()
        refusal = ledger.refusing_setup.text if is_refused else ledger.judge_setup(self._server.path or "", argument)
        if not is_refused and not refusal:
            ledger.counts.setups += 1
            self.api_key = argument["apiKey"]
            self._server.complete(invocation_id, result={"status": "success"}, now=now)
            return
        ledger.counts.setups_refused += 1
        if is_refused and ledger.setup_answer == "silence":
            return
        if is_refused and ledger.setup_answer == "error":
            self._server.complete(invocation_id, error=refusal, now=now)
        else:
            self._server.complete(invocation_id, result={"status": "failure", "message": refusal}, now=now)
        self.say_goodbye(None, allow_reconnect=False, now=now)

    def _subscribe(self, argument: Any, invocation_id: str, now: float) -> None:
        ledger = self._ledger
        feed: Feed | str = "setup is needed first" if self.api_key is None else ledger.judge_subscription(argument)
        if self.api_key is not None and not feed:
            feed = ledger.subscribe(self, self.api_key, invocation_id, argument, now)
        if isinstance(feed, str):
            ledger.counts.subscriptions_refused += 1
            self._server.complete(invocation_id, error=feed, now=now)
        else:
            ledger.counts.subscriptions += 1
            self._feeds[invocation_id] = feed

    def _end_feed(self, invocation_id: str) -> None:
        self._ledger.cancelled(self._feeds.pop(invocation_id))

    def _give_up_feeds(self, now: float) -> None:
        self._ledger.gone(self._feeds.values(), now)
        self._feeds.clear()
