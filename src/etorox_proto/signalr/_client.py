"""`HubConnection`: the client's side of one SignalR connection, from negotiation to close.

One object is one attempt. Bytes and time go in, bytes and events come out; the four families of methods are in the
class docstring. It wires the layers (`_opening`, `_websocket`, `_codec`, `_caller`, `_callee`) within the frame of
`Peer`; what an application asks of a connected hub is in `_hub_commands`. It knows no socket, no clock, and nothing of
what the methods of a hub mean.

Source: SignalR specification, sections 3 to 7, 13, 14 and 16.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, assert_never

import msgspec

from etorox_proto.signalr._codec import new_codec
from etorox_proto.signalr._config import HubConfig
from etorox_proto.signalr._errors import (
    ConnectionFailed,
    ConnectionLost,
    RemoteProtocolError,
    ServerClosed,
    TimedOut,
    UpgradeFailed,
)
from etorox_proto.signalr._events import (
    Closed,
    Connected,
    HubBatch,
    HubEvent,
    ItemReceived,
    ItemsByTurns,
    ItemsReceived,
)
from etorox_proto.signalr._frame_events import CloseReceived, Opened
from etorox_proto.signalr._hub_commands import HubCommands
from etorox_proto.signalr._json import encode_handshake_request, parse_handshake_response
from etorox_proto.signalr._messages import (
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HubMessage,
    Invocation,
    Ping,
    StreamInvocation,
    StreamItem,
    UnknownMessage,
)
from etorox_proto.signalr._messages import Sequence as SequenceMessage
from etorox_proto.signalr._opening import Opening
from etorox_proto.signalr._replay import Replay
from etorox_proto.signalr._shortcut import Shortcut
from etorox_proto.signalr._state import State, Timer

__all__ = ["HubConnection"]

# In the words of the official clients.
NO_RESULT = "Client didn't provide a result."


class HubConnection(HubCommands):
    """One connection to a hub, as a pure state machine.

    - The world tells the machine: `stream_opened`, `receive_data`, `handle_timeout`, `reading_paused`,
      `reading_resumed`. These never raise.
    - The machine tells the world: `data_to_send`, `next_event` or `next_batch`, `deadline`.
    - The application asks: `invoke`, `stream`, `send`, `send_item`, `end_upload`, `cancel`, `complete`, `close`. These
      check, then act; a refused one raises `LocalProtocolError` and changes nothing.
    - Anyone looks: `state`, `connection_id`, `pending_calls`, `ignored`, `is_stateful`, `unacknowledged_bytes`.

    Drain before you feed: after any input or command send `data_to_send()`, take `next_event()` until it is None, and
    only then wait for bytes until `deadline`. `now` is seconds of one monotonic clock, from any origin.

    Args:
        config: where to connect and how.
        now: the time at which the attempt begins.
        ids: the invocation ids to use, in order; by default "1", "2" and so on. They must not repeat.
        greet: called with the time, from inside an input method, in the moment in which commands are accepted: before
            anything that the server sent behind its handshake is looked at. For layers that say something first; a
            `ConnectionFailed` that it raises ends the connection.

    The first event is `Dial`, the last is `Closed`, and afterwards the object is inert. Where the server has granted
    stateful reconnect, the loss of the stream is answered with another `Dial`, and commands go on being accepted.
    """

    def __init__(
        self,
        config: HubConfig,
        *,
        now: float,
        ids: Iterable[str] | None = None,
        greet: Callable[[float], None] | None = None,
    ) -> None:
        codec = new_codec(config.encoding, strict=config.strict)
        self._opening = Opening(config, codec.transfer_format)
        super().__init__(
            config,
            State.UPGRADING if config.skip_negotiation else State.NEGOTIATING,
            codec,
            ids=map(str, itertools.count(1)) if ids is None else ids,
            tells_cancel=True,
            redact=self._opening.redact,
        )
        self._config = config
        self._greet = greet
        self._ignored: Counter[str] = Counter()
        self._shortcut = Shortcut(
            self._events,
            self._caller.find,
            self._caller.count_settled,
            codec.decode,
            is_binary=codec.binary,
            max_message=config.limits.websocket_message,
            max_record=config.limits.record,
        )
        self._timers.set(Timer.OPENING, now + config.opening_timeout)
        self._events.append(self._opening.dial())

    def __repr__(self) -> str:
        return f"<HubConnection to {self._opening.origin}: {self.state.value}>"

    # ------------------------------------------------------------------------------------------ anyone looks

    @property
    def connection_id(self) -> str | None:
        """The public name that the server gave this connection in negotiation."""
        return self._opening.connection_id

    @property
    def ignored(self) -> Mapping[str, int]:
        """How many messages were ignored, by reason: `unknown_type`, `unknown_id`, `unsupported`."""
        return MappingProxyType(self._ignored)

    def redact(self, text: str) -> str:
        """The text without the access token and connection token of this connection, for showing what a server said."""
        return self._opening.redact(text)

    # ------------------------------------------------------------------------- the world tells the machine

    def stream_opened(self, now: float) -> None:
        """The byte stream that the last `Dial` asked for exists; what must be sent on it is in `data_to_send`."""
        del now  # every input takes it; this one arms no timer
        if self._stream_is_open or self.state is State.CLOSED:
            return
        self._stream_is_open = True
        try:
            if self._opening.negotiating:
                self._output += self._opening.negotiate()
            else:
                self._websocket = self._opening.upgrade()
                self._websocket.shortcut = self._read_items
                self._collect()
        except ConnectionFailed as error:
            self._fail(error)

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes came from the stream; `b""` means that it ended, or that it could not be opened."""
        if self.state is State.CLOSED:
            return
        try:
            if not data:
                self._receive_end(now)
            elif not self._stream_is_open:
                pass  # the rest of a stream that has been given up for the one to dial
            elif self._opening.negotiating:
                self._negotiate(data)
            else:
                self._receive_websocket(data, now)
        except ConnectionFailed as error:
            self._fail(error)

    def handle_timeout(self, now: float) -> None:
        """Time has passed. Early or repeated calls do nothing; each due deadline is moved on or closes."""
        for timer in self._timers.expired(now):
            match timer:
                case Timer.PING:
                    self._ping(now)
                case Timer.ACK:
                    self._acknowledge(now)
                case Timer.CLOSING:
                    self._finish(None)
                case Timer.OPENING | Timer.HANDSHAKE | Timer.RESUMING | Timer.SILENCE:
                    self._fail(self._timed_out(timer))
            if self.state is State.CLOSED:
                return

    # ------------------------------------------------------------------------- the machine tells the world

    def next_event(self) -> HubEvent | Closed | None:
        """The next event, or None when it is time to wait."""
        events: deque[Any] = self._events
        if events and isinstance(events[0], ItemsReceived | ItemsByTurns):
            events.extendleft(reversed(list(events.popleft().singly())))
        return super().next_event()

    def next_batch(self) -> HubBatch | None:
        """As `next_event`, but items that wait one behind the other may come at once, of one stream or of several."""
        event: Any = self._events.popleft() if self._events else None
        batch: HubBatch | None = ItemsReceived(event.call, [event.item]) if type(event) is ItemReceived else event
        return batch

    # ---------------------------------------------------------------------------------- the application asks

    def close(self, *, wait: bool = True, now: float) -> None:
        """Say goodbye and end the connection; calling it again does nothing more.

        Pending calls are settled at once, with `CallLost`. A connected hub gets a Close message and a WebSocket close
        frame, and has `close_timeout` seconds to answer; `Closed` follows, without an error, at the latest then. What
        it sends meanwhile is dropped. While the connection is being resumed nobody is waited for.

        Args:
            wait: whether to wait for the answer. If not, `Closed` follows at once.
            now: seconds.
        """
        if self.state is State.CONNECTED:
            self._say_goodbye(Close(), now)
        if self.state is not State.CLOSED and not (wait and self.state is State.CLOSING):
            self._finish(None, Close() if self.state is State.RESUMING else None)

    # ------------------------------------------------------------------------------------------- receiving

    def _receive_end(self, now: float) -> None:
        was_open, self._stream_is_open = self._stream_is_open, False
        if not was_open:
            raise ConnectionLost(f"the byte stream to {self._opening.origin} could not be opened")
        if self._opening.negotiating:
            self._negotiate(b"")
            return
        assert self._websocket is not None, "an open stream carries negotiation or a WebSocket"
        self._websocket.receive_end()
        if self.is_stateful and self.state is State.CONNECTED:
            self._let_go()
            self._timers.set(Timer.RESUMING, now + self._config.opening_timeout)
            self._events.append(self._opening.dial())
            return
        raise ConnectionLost(f"the server ended the byte stream without a goodbye (while {self.state.value})")

    def _negotiate(self, data: bytes) -> None:
        if self._opening.receive_data(data):
            self._life.enter(State.NEGOTIATING if self._opening.negotiating else State.UPGRADING)
            self._stream_is_open = False
            self._output.clear()
            self._events.append(self._opening.dial())

    def _receive_websocket(self, data: bytes, now: float) -> None:
        assert self._websocket is not None, "an open stream carries negotiation or a WebSocket"
        if self.state is State.CONNECTED:
            self._heard(now, self._config.server_timeout)
        for event in self._websocket.receive_data(data):
            if isinstance(event, bytes):
                self._receive_message(event, now)
            elif isinstance(event, Opened):
                if self.state is State.RESUMING:
                    self._take_up(now)
                else:
                    self._shake_hands(now)
            else:
                self._receive_close(event)
        self._collect()
        self._check_answers()

    def _receive_message(self, data: bytes, now: float) -> None:
        if self.state is State.CLOSING:
            return
        if self.state is State.HANDSHAKING:
            found = self._handshake.feed(data)
            if found is None:
                return
            handshake, data = found
            parse_handshake_response(handshake)
            self._connected(now)
        data = data[self._in_short(self._shortcut.read_records, data, 0) :]
        for record in self._records.read(data):
            message = self._codec.decode(record)
            if self._replay is None or self._is_new(message, now):
                self._receive_hub_message(message)
                if type(message) is StreamItem:
                    self._shortcut.learn(record, message)
                if self._outbox:
                    self._post(now)

    def _read_items(self, data: bytes, start: int) -> int:
        """See `WebSocket.shortcut`."""
        is_read = self.state is State.CONNECTED and not self._codec.binary
        return self._in_short(self._shortcut.read_frames, data, start) if is_read else start

    def _in_short(self, read: Callable[[bytes, int], int], data: bytes, start: int) -> int:
        """Read stream items in the shortest way, as far as there is nothing else, and count them; returns how far."""
        replay = self._replay
        if not self._records.is_between or not (replay is None or replay.expects_news):
            return start
        before = self._shortcut.count
        stop = read(data, start)
        if replay is not None and self._shortcut.count > before:
            replay.receive_news(self._shortcut.count - before)
            self._owe_ack(self._last_heard)
        return stop

    def _receive_hub_message(self, message: HubMessage) -> None:
        match message:
            case StreamItem():
                if not self._caller.receive_item(message):
                    self._ignore("unknown_id", "a StreamItem for an id that is not in use")
            case Completion():
                if not self._caller.receive_completion(message, self._codec.null):
                    self._ignore("unknown_id", "a Completion for an id that is not in use")
            case Invocation():
                self._receive_invocation(message)
            case Ping():
                pass
            case Close():
                raise ServerClosed(message.error, allow_reconnect=message.allow_reconnect)
            case UnknownMessage():
                self._ignored["unknown_type"] += 1
            case Ack() | SequenceMessage() if self.is_stateful:
                pass  # heard of already
            case StreamInvocation() | CancelInvocation() | Ack() | SequenceMessage():
                self._ignore("unsupported", f"a {type(message).__name__}, which no server sends here")
            case _:
                assert_never(message)

    def _receive_invocation(self, message: Invocation) -> None:
        if message.invocation_id is not None and message.target not in self._config.handles:
            # The server waits for an answer, and an invocation must never stay without one.
            self._outbox.append(Completion(invocation_id=message.invocation_id, error=NO_RESULT))
            message = msgspec.structs.replace(message, invocation_id=None)
        self._callee.receive_call(message)

    def _ignore(self, reason: str, got: str) -> None:
        if self._config.strict:
            raise RemoteProtocolError("a message that this connection can use", got)
        self._ignored[reason] += 1

    def _receive_close(self, event: CloseReceived) -> None:
        reason = f" ({event.reason})" if event.reason else ""
        raise ConnectionLost(
            f"the server closed the WebSocket with code {event.code}{reason} and without a SignalR Close",
            code=event.code,
        )

    def _shake_hands(self, now: float) -> None:
        assert self._websocket is not None, "the WebSocket has just opened"
        self._life.enter(State.HANDSHAKING)
        self._timers.stop(Timer.OPENING)
        self._timers.set(Timer.HANDSHAKE, now + self._config.handshake_timeout)
        version = 2 if self._opening.is_stateful else 1
        self._websocket.send_message(encode_handshake_request(self._codec.name, version))

    def _connected(self, now: float) -> None:
        self._life.enter(State.CONNECTED)
        if self._opening.is_stateful:
            self._replay = Replay()
        self._timers.stop(Timer.HANDSHAKE)
        self._heard(now, self._config.server_timeout)
        self._ping(now)
        self._events.append(Connected(self.connection_id))
        if self._greet is not None:
            self._greet(now)

    # --------------------------------------------------------------------------------------------- sending

    def _sent(self, now: float) -> None:
        # By default every message puts the next ping off.
        if not self._config.ping_always:
            self._timers.set(Timer.PING, now + self._ping_interval)

    # --------------------------------------------------------------------------------------------- the end

    def _fail(self, error: ConnectionFailed) -> None:
        if self.state is State.RESUMING and isinstance(error, ConnectionLost | UpgradeFailed | TimedOut):
            error = ConnectionLost(f"the byte stream was lost, and the connection could not be resumed: {error}")
        error.redact(*self._opening.secrets)
        super()._fail(error)

    def _timed_out(self, timer: Timer) -> TimedOut:
        config = self._config
        if timer is Timer.HANDSHAKE:
            return TimedOut("handshake", config.handshake_timeout, "the server did not answer the handshake")
        if timer is Timer.RESUMING:
            return TimedOut("resuming", config.opening_timeout, "nobody took it up")
        if timer is Timer.SILENCE:
            return TimedOut("silence", config.server_timeout, "nothing came from the server")
        if not self._stream_is_open:
            what = f"no byte stream to {self._opening.origin} was opened"
        elif self.state is State.NEGOTIATING:
            what = "the server did not answer the negotiate request"
        else:
            what = "the server did not accept the WebSocket"
        return TimedOut("opening", config.opening_timeout, what)
