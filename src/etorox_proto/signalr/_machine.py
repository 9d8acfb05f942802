"""What both roles share: the outlets, the timers, the pings, and the end.

`Machine` is the frame of `HubConnection` and `ServerConnection`. It owns the queues of bytes and events, the timer
table and the state, and guarantees that `Closed` comes once and last and that the object is inert afterwards. Where
both sides agreed on stateful reconnect it lets go of a lost stream and says again on the next what the peer may not
have; where that comes from the roles know. What is received and what it means is their business too.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from etorox_proto.signalr._codec import Codec
from etorox_proto.signalr._config import HubConfig, ServerConfig
from etorox_proto.signalr._errors import (
    ConnectionClosed,
    ConnectionFailed,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
)
from etorox_proto.signalr._events import Closed
from etorox_proto.signalr._framing import HandshakeReader
from etorox_proto.signalr._messages import Ack, Close, Counted, HubMessage, Ping
from etorox_proto.signalr._messages import Sequence as SequenceMessage
from etorox_proto.signalr._replay import Replay
from etorox_proto.signalr._state import Lifecycle, State, Timer, TimerTable

if TYPE_CHECKING:
    from etorox_proto.signalr._websocket import WebSocket

__all__ = ["Machine"]

Event = TypeVar("Event")

# At most one Ack in so many seconds.
ACK_INTERVAL = 1.0


class Machine(Generic[Event]):
    """The frame of a connection; each role adds its inputs and commands."""

    def __init__(self, config: HubConfig | ServerConfig, state: State, codec: Codec) -> None:
        self._close_timeout = config.close_timeout
        self._ping_interval = config.ping_interval
        self._limits = config.limits
        self._handshake = HandshakeReader(config.limits.record)
        self._speak(codec)
        self._life = Lifecycle(state)
        self._timers = TimerTable()
        self._events: deque[Event | Closed] = deque()
        self._output = bytearray()
        self._numbered = 0  # how many messages that count there are
        self._handed_out = 0  # how many of them have left this object, be it in part
        self._replay: Replay | None = None  # where both sides have agreed to resume
        self._stream_is_open = False
        self._websocket: WebSocket | None = None
        self._is_reading = True
        self._last_heard = -math.inf
        self._patience: float | None = None  # how long the peer may be silent, once that counts

    # ------------------------------------------------------------------------------------------ anyone looks

    @property
    def state(self) -> State:
        """Where the connection is, all bytes received so far considered."""
        return self._life.state

    @property
    def closed(self) -> bool:
        """Whether the byte stream is to be closed, once what waits in `data_to_send` is flushed."""
        return self._life.state is State.CLOSED

    @property
    def is_reading(self) -> bool:
        """Whether the driver reads; not so between `reading_paused` and `reading_resumed`."""
        return self._is_reading

    @property
    def last_heard(self) -> float:
        """When the connected peer last gave a sign of life, in seconds of the driver's clock; -infinite before that."""
        return self._last_heard

    @property
    def is_compressed(self) -> bool:
        """Whether WebSocket messages are compressed: it was configured, and the peer has agreed."""
        return self._websocket is not None and self._websocket.is_compressed

    @property
    def queued_bytes(self) -> int:
        """How many bytes wait in `data_to_send`."""
        return len(self._output)

    @property
    def is_stateful(self) -> bool:
        """Whether both sides have agreed that the connection outlives its stream; known from `Connected` on."""
        return self._replay is not None

    @property
    def unacknowledged_bytes(self) -> int:
        """How many bytes are kept until the peer acknowledges them; always 0 unless `is_stateful`."""
        return 0 if self._replay is None else self._replay.held_bytes

    @property
    def has_room(self) -> bool:
        """Whether bytes may be added to those that wait to be sent, and to those that wait to be acknowledged."""
        return (
            len(self._output) < self._limits.queued_bytes
            and self.unacknowledged_bytes < self._limits.unacknowledged_bytes
        )

    # ------------------------------------------------------------------------- the world tells the machine

    def reading_paused(self, now: float) -> None:
        """The driver has stopped reading, because what came before waits to be consumed.

        Until `reading_resumed` silence is not held against the peer. Pings go on, so `deadline` is to be kept.
        """
        del now  # every input takes it; this one arms no timer
        self._is_reading = False
        self._timers.stop(Timer.SILENCE)

    def reading_resumed(self, now: float) -> None:
        """The driver reads again; the peer has its whole time to be heard. Without a pause before it does nothing."""
        if not self._is_reading:
            self._is_reading = True
            if self._patience is not None and self.state is State.CONNECTED:
                self._timers.set(Timer.SILENCE, now + self._patience)

    # ------------------------------------------------------------------------- the machine tells the world

    def data_to_send(self) -> bytes:
        """All bytes that wait to be sent; they are handed out once."""
        if not self._output:
            return b""
        data = bytes(self._output)
        self._output.clear()
        if self._carries:
            self._handed_out = self._numbered
        return data

    def next_event(self) -> Event | Closed | None:
        """The next event, or None when it is time to wait."""
        return self._events.popleft() if self._events else None

    @property
    def deadline(self) -> float:
        """When `handle_timeout` must be called next; `math.inf` after the end. Read it anew before each wait."""
        return self._timers.next

    # ------------------------------------------------------------------------------------------- receiving

    def _heard(self, now: float, patience: float) -> None:
        """The peer gave a sign of life; it may now be silent for so long."""
        self._last_heard = now
        self._patience = patience
        if self._is_reading:
            self._timers.set(Timer.SILENCE, now + patience)

    def _is_new(self, message: HubMessage, now: float) -> bool:
        """Whether a message of a stateful connection is to be looked at; not so if it was before.

        Raises:
            RemoteProtocolError: the peer's numbers do not fit ours.
        """
        assert self._replay is not None, "only these connections number their messages"
        match message:
            case Ack():
                self._replay.receive_ack(message.sequence_id)
            case SequenceMessage():
                self._replay.receive_sequence(message.sequence_id)
                self._owe_ack(now)
                if self.state is State.RESUMING:
                    self._life.enter(State.CONNECTED)
                    self._timers.stop(Timer.RESUMING)
                    if self._patience is not None:
                        self._heard(now, self._patience)
            case Counted():
                is_new = self._replay.receive()
                self._owe_ack(now)
                return is_new
            case _:
                pass
        return True

    def _owe_ack(self, now: float) -> None:
        assert self._replay is not None, "only these connections acknowledge"
        if self._replay.owes_ack and Timer.ACK not in self._timers:
            self._timers.set(Timer.ACK, _later(now, ACK_INTERVAL))

    # --------------------------------------------------------------------------------------------- sending

    @property
    def _carries(self) -> bool:
        """Whether hub messages can be sent."""
        return self._websocket is not None and self._websocket.is_open

    def _speak(self, codec: Codec) -> None:
        """Read and write hub messages in this encoding from now on."""
        self._codec = codec
        self._records = codec.reader(self._limits.record)

    def _check_connected(self, command: str) -> None:
        if self.state in {State.CLOSING, State.CLOSED}:
            raise ConnectionClosed(f"expected a connection for {command}, got one that is {self.state.value}")
        if self.state not in {State.CONNECTED, State.RESUMING}:
            raise LocalProtocolError(
                f"expected a connected hub for {command}, it is still {self.state.value}; wait for Connected"
            )

    def _queue(self, message: HubMessage) -> None:
        """Send a message of the application, if there is room."""
        allowed = self._limits.queued_bytes
        try:
            record = self._codec.encode(message)
            if self.unacknowledged_bytes >= self._limits.unacknowledged_bytes:
                raise LocalProtocolError(
                    f"expected fewer than {self._limits.unacknowledged_bytes} bytes that the peer has not acknowledged "
                    f"(Limits.unacknowledged_bytes), there are {self.unacknowledged_bytes}; wait for the peer until "
                    "has_room"
                )
            if len(self._output) + len(record) > allowed:
                raise LocalProtocolError(
                    f"expected at most {allowed} bytes waiting (Limits.queued_bytes), got more; send data_to_send() "
                    "first"
                )
            self._write_counted(record)
        except UnicodeError:
            raise LocalProtocolError("expected text that UTF-8 can carry, got something else") from None

    def _write(self, message: HubMessage) -> None:
        self._write_record(self._codec.encode(message))

    def _write_counted(self, record: bytes, *, is_answer: bool = False) -> None:
        if self._carries:
            self._write_record(record)
        elif not self._codec.binary:
            record.decode()  # as it will have to be once it is sent; a value that was taken as it is may be anything
        self._numbered += 1
        if self._replay is not None:
            self._replay.keep(record, is_answer=is_answer)
            # With every answer, not with every piece that is received: pieces must not matter.
            if self._replay.answer_bytes > self._limits.unacknowledged_bytes:
                allowed = self._limits.unacknowledged_bytes
                raise LimitExceeded("unacknowledged_bytes", allowed, "answers waiting to be acknowledged")

    def _write_record(self, record: bytes) -> None:
        if self._websocket is not None and self._websocket.is_open:
            self._websocket.send_message(record, binary=self._codec.binary)
            self._collect()

    def _sent(self, now: float) -> None:
        """Something was sent; a role may want to know."""

    def _ping(self, now: float) -> None:
        self._timers.set(Timer.PING, _later(now, self._ping_interval))
        self._write(Ping())

    def _acknowledge(self, now: float) -> None:
        assert self._replay is not None, "only these connections acknowledge"
        self._timers.stop(Timer.ACK)
        self._write(Ack(sequence_id=self._replay.acknowledge()))
        self._sent(now)

    def _collect(self) -> None:
        """Move what the WebSocket has to send behind what waits already."""
        assert self._websocket is not None, "only a WebSocket has something to collect"
        if self._websocket.output:
            self._output += self._websocket.output
            self._websocket.output.clear()

    def _check_answers(self) -> None:
        """Stop a peer that makes us answer (pings, invocations) and does not read the answers."""
        allowed = 2 * self._limits.queued_bytes
        # What is said again on a fresh stream, frames included, is none of the peer's doing.
        if len(self._output) > allowed and len(self._output) > allowed + 2 * self.unacknowledged_bytes:
            raise LimitExceeded("queued_bytes", allowed, "answers waiting to be sent")

    # ------------------------------------------------------------------------------------- a stream after another

    def _let_go(self) -> None:
        """The stream is lost and the connection is not: forget what was under way, which will be said again."""
        self._websocket = None
        self._output.clear()
        self._records = self._codec.reader(self._limits.record)
        self._timers.stop(Timer.SILENCE, Timer.PING, Timer.ACK)
        if self.state is State.CONNECTED:
            self._life.enter(State.RESUMING)

    def _take_up(self, now: float) -> None:
        """Another WebSocket is open: say first what number follows, then what the peer may not have."""
        assert self._replay is not None, "only such a connection has a second WebSocket"
        number, records = self._replay.begin_again()
        self._write(SequenceMessage(sequence_id=number))
        for record in records:
            self._write_record(record)
        self._timers.set(Timer.PING, _later(now, self._ping_interval))

    # --------------------------------------------------------------------------------------------- the end

    def _say_goodbye(self, message: Close, now: float) -> None:
        """Close a connected hub: the peer has `close_timeout` seconds to answer."""
        self._write(message)
        assert self._websocket is not None, "a connected hub has a WebSocket"
        self._websocket.close()
        self._collect()
        self._settle(None, still_flushed=True)
        self._life.enter(State.CLOSING)
        self._timers.clear()
        self._timers.set(Timer.CLOSING, now + self._close_timeout)

    def _fail(self, error: ConnectionFailed) -> None:
        """End the connection because of the peer or the clock. What was not sent yet never will be."""
        if isinstance(error, RemoteProtocolError) and not error.state:
            error.state = self.state.value
        # While we are closing, the peer may end it in any way it likes.
        clean = self.state is State.CLOSING
        self._output.clear()
        if self._websocket is not None:
            self._websocket.output.clear()
        self._finish(None if clean else error)

    def _finish(self, error: ConnectionFailed | None, goodbye: Close | None = None) -> None:
        """End the connection now. Nothing is sent on a stream that the peer has ended."""
        self._settle(error, still_flushed=self._carries and len(self._output) > 0)
        if self._websocket is not None and self._stream_is_open:
            if goodbye is not None:
                self._write(goodbye)
            self._websocket.close()
            self._collect()
        self._life.enter(State.CLOSED)
        self._timers.clear()
        self._events.append(Closed(error))

    def _settle(self, reason: ConnectionFailed | None, *, still_flushed: bool) -> None:
        """Settle what is pending. `still_flushed`: whether the bytes that wait will be sent all the same."""


def _later(now: float, seconds: float) -> float:
    """Forward even where a float of that size cannot hold the sum, or the driver's loop would not end."""
    return max(now + seconds, math.nextafter(now, math.inf))
