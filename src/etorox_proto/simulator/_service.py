"""`Simulator`: the embedded exchange, seen from its clients: real bytes in, real bytes out.

It joins a `SimulatedMarket` to any number of byte streams. For each stream a `SimulatorConnection` wraps a
`ServerConnection` and keeps the exchange's rules: `setup` first and soon, signature, timestamp and nonce checked;
`subscribe` with one topic once, known, and `fields` in order. Pure and seeded: no socket, no clock, no entropy; names
and times are arguments. `etorox simulate` serves it on a socket, tests drive it in memory.

Where the exchange's documentation leaves a rule open, the choice made here is a constant below, with its reason.

Source: the exchange's streaming documentation, sections "Authenticate", "Stream" and "Staying connected".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, final

import msgspec

from etorox_proto._auth import PublicKey
from etorox_proto._market import encode_event
from etorox_proto.signalr import (
    CancelReceived,
    Closed,
    Connected,
    ConnectionTokens,
    InvocationReceived,
    Limits,
    ServerConfig,
    ServerConnection,
    State,
)
from etorox_proto.simulator._market import Published, SimulatedMarket

__all__ = ["PRIVATE_EVENT", "PUBLIC_EVENT", "Simulator", "SimulatorConnection"]

PUBLIC_EVENT = "marketData"
# Open in the documentation: under which event a customer's own orders are subscribed.
PRIVATE_EVENT = "privateData"
# Open: how old a timestamp may be. Clocks of traders' machines are seconds off, not minutes.
MAX_TIMESTAMP_AGE = 60.0
# "The server hangs up if setup does not follow at once."
SETUP_TIMEOUT = 5.0
# A client that lets this much pile up is dropped, as servers drop slow consumers.
MAX_QUEUED_BYTES = 4_194_304

_PATH = ("/streams/v1/", "/signalr")


@final
class Simulator:
    """The exchange. One object serves all its clients.

    Args:
        market: what happens on the exchange.
        accounts: the API keys and the public halves of their private keys.
        names: fresh names for connections, such as `iter(partial(secrets.token_urlsafe, 16), None)`.
        now: seconds of one monotonic clock.
        unix_time: seconds since the epoch at `now`.
        allowed_origins: where web pages that use it may come from; see `ServerConfig`.

    Feed it time with `advance` at the latest at `deadline`; it fills the connections' `data_to_send`.
    """

    def __init__(
        self,
        market: SimulatedMarket,
        *,
        accounts: Mapping[str, PublicKey],
        names: Iterator[str],
        now: float,
        unix_time: float,
        allowed_origins: Collection[str] | None = None,
    ) -> None:
        self._market = market
        self._accounts = dict(accounts)
        self._tokens = ConnectionTokens(names)
        self._epoch = unix_time - now
        # Items are made in JSON, which is what the exchange speaks.
        self._config = ServerConfig(
            serves=_is_hub,
            encodings=["json"],
            allowed_origins=allowed_origins,
            limits=Limits(record=32_768, queued_bytes=MAX_QUEUED_BYTES),
        )
        self._nonces: OrderedDict[str, float] = OrderedDict()
        self._connections: dict[SimulatorConnection, None] = {}
        for api_key in self._accounts:
            market.register(api_key)

    @property
    def market(self) -> SimulatedMarket:
        """What happens on the exchange."""
        return self._market

    @property
    def subscribers(self) -> int:
        """How many connections have a subscription."""
        return sum(connection.is_subscribed for connection in self._connections)

    @property
    def deadline(self) -> float:
        """When `advance` must be called next."""
        return self._market.deadline

    def accept(self, now: float) -> SimulatorConnection:
        """A client has opened a byte stream."""
        connection = SimulatorConnection(self, ServerConnection(self._config, tokens=self._tokens, now=now))
        self._connections[connection] = None
        return connection

    def advance(self, now: float) -> int:
        """Let the market run until `now`, and send what happened to those who subscribed it.

        Returns:
            How many market changes there were.
        """
        return self._publish(self._market.advance(now), now)

    def step(self, now: float) -> int:
        """Make the next market change happen at once, whatever the rate; for load.

        Returns:
            How many market changes there were: an order that trades makes several.
        """
        return self._publish(self._market.step(), now)

    def check_setup(self, path: str, argument: object, now: float) -> str:
        """Judge the argument of `setup`.

        Args:
            path: the path of the connection's URL, which names the API key as well.
            argument: what the client sent.
            now: seconds.

        Returns:
            `""` if it is right, else what is wrong with it.
        """
        match argument:
            case {
                "apiKey": str(api_key),
                "nonce": str(nonce),
                "timestamp": int(timestamp),
                "signature": str(signature),
            }:
                pass
            case _:
                return "expected apiKey, nonce, timestamp and signature"
        unix_time = self._epoch + now
        while self._nonces and next(iter(self._nonces.values())) < unix_time - 2 * MAX_TIMESTAMP_AGE:
            self._nonces.popitem(last=False)
        public_key = self._accounts.get(api_key)
        if public_key is None or path != api_key.join(_PATH):
            return "the API key is not known"
        if abs(int(unix_time * 1000) - timestamp) > MAX_TIMESTAMP_AGE * 1000:
            return f"the timestamp is more than {MAX_TIMESTAMP_AGE:.0f} s off"
        if nonce in self._nonces:
            return "the nonce was used before"
        if not public_key.verify_setup(nonce=nonce, timestamp=timestamp, signature=signature):
            return "the signature does not fit"
        self._nonces[nonce] = unix_time
        return ""

    def forget(self, connection: SimulatorConnection) -> None:
        """That connection has ended."""
        self._connections.pop(connection, None)

    def _publish(self, changes: Iterable[Published], now: float) -> int:
        count = 0
        for change in changes:
            count += 1
            items: dict[tuple[str, ...] | None, msgspec.Raw] = {}
            for connection in list(self._connections):
                connection.publish(change, items, now)
        return count


class _Stream(msgspec.Struct, frozen=True):
    """One subscription of a client."""

    invocation_id: str
    topics: frozenset[tuple[str, str]]
    fields: tuple[str, ...] | None


@final
class SimulatorConnection:
    """One client's byte stream; made by `Simulator.accept`. Drive it as any machine, without `Dial`.

    It has no `next_event`: what its `ServerConnection` tells is the simulator's own business. The stream is to be
    closed once `closed` is true and `data_to_send` is flushed.
    """

    def __init__(self, simulator: Simulator, server: ServerConnection) -> None:
        self._simulator = simulator
        self._server = server
        self._api_key: str | None = None
        self._setup_deadline: float | None = None
        self._streams: list[_Stream] = []
        self.closed = False

    @property
    def is_subscribed(self) -> bool:
        """Whether the client has a subscription."""
        return bool(self._streams)

    @property
    def queued_bytes(self) -> int:
        """How many bytes wait in `data_to_send`."""
        return self._server.queued_bytes

    @property
    def deadline(self) -> float:
        """When `handle_timeout` must be called next; `math.inf` after the end."""
        if self._setup_deadline is None:
            return self._server.deadline
        return min(self._server.deadline, self._setup_deadline)

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes came from the stream; `b""` means that it ended."""
        self._server.receive_data(data, now)
        self._answer(now)

    def handle_timeout(self, now: float) -> None:
        """Time has passed."""
        if self._setup_deadline is not None and self._setup_deadline <= now:
            self._setup_deadline = None
            self._say_goodbye(now, error="setup did not follow the handshake in time", allow_reconnect=True)
        self._server.handle_timeout(now)
        self._answer(now)

    def data_to_send(self) -> bytes:
        """All bytes that wait to be sent; they are handed out once."""
        return self._server.data_to_send()

    def close(self, *, allow_reconnect: bool = True, now: float) -> None:
        """Say goodbye, as a server does that is being stopped."""
        self._say_goodbye(now, allow_reconnect=allow_reconnect)
        self._answer(now)

    def publish(self, change: Published, items: dict[tuple[str, ...] | None, msgspec.Raw], now: float) -> None:
        """Send a market change if the client has subscribed it.

        Args:
            change: what happened.
            items: the public item by selector; filled as needed, so that each form is encoded once for all clients.
            now: seconds.
        """
        for stream in self._streams:
            if (change.channel, PUBLIC_EVENT) in stream.topics:
                if stream.fields not in items:
                    items[stream.fields] = msgspec.Raw(encode_event(change.event, stream.fields))
                self._server.send_item(stream.invocation_id, items[stream.fields], now=now)
            if (change.channel, PRIVATE_EVENT) in stream.topics:
                for customer, event in change.private:
                    if customer == self._api_key:
                        item = msgspec.Raw(encode_event(event, stream.fields))
                        self._server.send_item(stream.invocation_id, item, now=now)
        self._drop_if_slow(now)

    def _drop_if_slow(self, now: float) -> None:
        """Keep what waits at half of what may, so that the next answer or item always has room."""
        if self._server.queued_bytes > MAX_QUEUED_BYTES // 2:
            self._say_goodbye(now, error="the client does not read fast enough", allow_reconnect=True)

    def _say_goodbye(self, now: float, *, error: str | None = None, allow_reconnect: bool = False) -> None:
        # Nothing can be sent on the streams from here on.
        self._streams.clear()
        self._server.close(error=error, allow_reconnect=allow_reconnect, now=now)

    def _answer(self, now: float) -> None:
        while (event := self._server.next_event()) is not None:
            self._drop_if_slow(now)
            match event:
                case Connected() if self._server.state is State.CONNECTED:
                    self._setup_deadline = now + SETUP_TIMEOUT
                case Closed():
                    self.closed = True
                    self._setup_deadline = None
                    self._streams.clear()
                    self._simulator.forget(self)
                case _ if self._server.state is not State.CONNECTED:
                    pass  # it came in one piece with a goodbye, ours or the client's
                case InvocationReceived(invocation_id=str(invocation_id)):
                    self._call(event, invocation_id, now)
                case CancelReceived(invocation_id) if any(s.invocation_id == invocation_id for s in self._streams):
                    self._streams = [s for s in self._streams if s.invocation_id != invocation_id]
                    self._server.complete(invocation_id, now=now)
                case _:
                    pass  # a call that wants no answer, or the cancellation of one that has been refused

    def _call(self, call: InvocationReceived, invocation_id: str, now: float) -> None:
        argument: Any = call.arguments[0] if len(call.arguments) == 1 else None
        match call.target, call.streaming:
            case "setup", False:
                refusal = self._simulator.check_setup(self._server.path or "", argument, now)
                self._setup_deadline = None
                if refusal:
                    self._server.complete(invocation_id, result={"status": "failure", "message": refusal}, now=now)
                    self._say_goodbye(now)
                else:
                    self._api_key = argument["apiKey"]
                    self._server.complete(invocation_id, result={"status": "success"}, now=now)
            case "subscribe", True:
                if refusal := self._subscribe(argument, invocation_id):
                    self._server.complete(invocation_id, error=refusal, now=now)
            case "setup" | "subscribe", _:
                text = f"The client attempted to invoke the method '{call.target}' in the wrong mode."
                self._server.complete(invocation_id, error=text, now=now)
            case _:
                self._server.complete(invocation_id, error=f"Unknown hub method '{call.target}'", now=now)

    def _subscribe(self, argument: object, invocation_id: str) -> str:
        """Open a stream; return `""`, or why not."""
        match argument:
            case {"channels": [str(), *_] as channels, "event": str(event), **rest} if all(
                isinstance(channel, str) for channel in channels
            ):
                fields = rest.get("fields")
            case _:
                return "expected channels and event"
        if self._api_key is None:
            return "setup is needed first"
        if fields is not None and (not isinstance(fields, list) or not fields or fields != sorted(map(str, fields))):
            return "fields must be strings in alphanumeric order"
        topics = {(channel, event) for channel in channels}
        taken = set().union(*(stream.topics for stream in self._streams))
        known = {(i.id, e) for i in self._simulator.market.instruments for e in (PUBLIC_EVENT, PRIVATE_EVENT)}
        for channel, name in sorted(topics):
            if (channel, name) not in known:
                return f"the topic {channel} {name} is not listed"
            if (channel, name) in taken:
                return f"the topic {channel} {name} is already subscribed"
        self._streams.append(_Stream(invocation_id, frozenset(topics), None if fields is None else tuple(fields)))
        return ""


def _is_hub(path: str) -> bool:
    return path.startswith(_PATH[0]) and path.endswith(_PATH[1]) and len(path) > len("".join(_PATH))
