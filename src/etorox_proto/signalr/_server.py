"""`ServerConnection`: the server's side of one byte stream, from its first HTTP request to the close.

A stream carries negotiate requests, or one WebSocket with a hub connection, or first these and then that; several
streams share a table of `ConnectionTokens`. The families of methods are those of `HubConnection`, without a `Dial`.
It offers both encodings. Where the client was granted that its connection may be resumed, the object outlives its
stream: it is then detached, and takes another stream over from the object that has met the client there. What an
application asks of a client is in `_server_commands`.

Source: SignalR specification, sections 7, 12 to 14 and 16 to 18.
"""

from __future__ import annotations

import itertools
from typing import Any, assert_never, final

from etorox_proto.signalr._codec import Encoding, new_codec
from etorox_proto.signalr._config import ServerConfig
from etorox_proto.signalr._errors import (
    ConnectionFailed,
    ConnectionLost,
    HandshakeRefused,
    LocalProtocolError,
    RemoteProtocolError,
    TimedOut,
)
from etorox_proto.signalr._events import Connected, Detached, Resumed
from etorox_proto.signalr._frame_events import CloseReceived
from etorox_proto.signalr._json import (
    JsonCodec,
    encode_handshake_response,
    encode_json,
    parse_handshake_request,
)
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
from etorox_proto.signalr._peer import check_reason
from etorox_proto.signalr._reception import Reception
from etorox_proto.signalr._replay import Replay
from etorox_proto.signalr._request import ClientRequest
from etorox_proto.signalr._server_commands import ServerCommands
from etorox_proto.signalr._state import State, Timer
from etorox_proto.signalr._tokens import ConnectionTokens
from etorox_proto.signalr._websocket import WebSocket

__all__ = ["ServerConnection"]


@final
class ServerConnection(ServerCommands):
    """One byte stream of a SignalR server, as a pure state machine; see `HubConnection` for the contract.

    The stream is open when the object is made. `Connected` follows the handshake; a stream that only negotiates ends
    with `Closed(None)` and without `Connected`. With `ServerConfig.stateful_reconnect` the driver has two more events
    to heed: `Detached`, and `Resumed`, which is answered with `resume`.

    Args:
        config: how clients are treated.
        tokens: shared by all streams of the server.
        now: seconds of one monotonic clock.
    """

    def __init__(self, config: ServerConfig, *, tokens: ConnectionTokens, now: float) -> None:
        super().__init__(
            config,
            State.NEGOTIATING,
            JsonCodec(),
            # Ids of the client's may come in the same messages; these look like none of an official client.
            ids=(f"s{number}" for number in itertools.count(1)),
            tells_cancel=False,
            redact=str,
        )
        self._config = config
        self._stream_is_open = True
        self._reception = Reception(config, tokens)
        self._encoding: Encoding | None = None
        self._decode_plain = self._codec.payload_decoder(Any)
        self._timers.set(Timer.OPENING, now + config.handshake_timeout)

    def __repr__(self) -> str:
        return f"<ServerConnection {self.connection_id!r}: {self.state.value}>"

    @property
    def connection_id(self) -> str | None:
        """The public name of the connection, None before the WebSocket."""
        return self._reception.connection_id

    @property
    def path(self) -> str | None:
        """The path of the WebSocket request (percent-encoded), None before it."""
        return None if self.request is None else self.request.path

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query of the WebSocket request as name and value pairs, `id` included; empty before it."""
        return [] if self.request is None else self.request.query

    @property
    def request(self) -> ClientRequest | None:
        """The WebSocket request, with its headers and its access token, None before it."""
        return self._reception.request

    @property
    def encoding(self) -> Encoding | None:
        """The encoding that the client chose, None before `Connected`. A `msgspec.Raw` to be sent must be in it."""
        return self._encoding

    # ------------------------------------------------------------------------- the world tells the machine

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes came from the stream; `b""` means that it ended."""
        if self.state is State.CLOSED or not self._stream_is_open:
            return  # a connection that waits to be resumed has no stream
        try:
            if not data:
                self._receive_end(now)
            elif self._websocket is None:
                self._receive_http(data, now)
            else:
                self._receive_websocket(self._websocket, data, now)
        except RemoteProtocolError as error:
            self._refuse(error)
        except ConnectionFailed as error:
            self._fail(error)

    def resume(self, arrival: ServerConnection, *, now: float) -> None:
        """Go on, on the stream on which the client has come back; what waits for that stream is in `data_to_send`.

        Args:
            arrival: the object that said `Resumed` of this one. It is of no use any more: drive this one on its stream.
            now: seconds.

        Raises:
            LocalProtocolError: this connection has a stream still, or has not told yet that it lost it (tell it with
                `receive_data(b"")`, take its events, and drop that stream first); or that is another connection's
                stream, or was taken over before. Nothing has changed.
            ConnectionClosed: this connection is over; close the stream.
        """
        self._check_connected("resume")
        if self._stream_is_open or Detached() in self._events:
            raise LocalProtocolError(
                'expected a connection that has told of the loss of its stream; say receive_data(b""), take its '
                "events, and drop that stream"
            )
        self._websocket, trailing = arrival._reception.hand_over(self)
        self._stream_is_open = True
        self._output += arrival.data_to_send()
        self._take_up(now)
        if trailing:
            self.receive_data(trailing, now)

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
                case Timer.RESUMING:
                    waited = f"{self._config.resume_timeout:g} s"
                    self._fail(ConnectionLost(f"the byte stream was lost, and not resumed within {waited}"))
                case Timer.SILENCE:
                    timed_out = TimedOut("silence", self._config.client_timeout, "nothing came from the client")
                    self._finish(timed_out, Close(error="Connection closed with an error.", allow_reconnect=True))
                case Timer.HANDSHAKE:
                    self._refuse_handshake("Handshake was canceled.")
                case Timer.OPENING if self._reception.served:
                    self._finish(None)
                case Timer.OPENING:
                    self._fail(TimedOut("opening", self._config.handshake_timeout, "no HTTP request came"))
            if self.state is State.CLOSED:
                return

    # ---------------------------------------------------------------------------------- the application asks

    def close(self, *, error: str | None = None, allow_reconnect: bool = False, now: float) -> None:
        """Say goodbye and end the connection; calling it again does nothing.

        Args:
            error: the reason, shown to the client; None for none.
            allow_reconnect: whether the client is invited to come back.
            now: seconds. `Closed` follows within `close_timeout`.

        Raises:
            LocalProtocolError: the reason cannot be sent; the connection goes on.
        """
        if self.state in {State.CLOSING, State.CLOSED}:
            return
        check_reason(error)
        encode_json(error, "the reason")
        goodbye = Close(error=error, allow_reconnect=allow_reconnect)
        if self.state is State.CONNECTED:
            self._say_goodbye(goodbye, now)
        else:
            self._finish(None, goodbye if self.state is State.RESUMING else None)

    # ------------------------------------------------------------------------------------------------ HTTP

    def _receive_http(self, data: bytes, now: float) -> None:
        reception = self._reception
        for answer in reception.receive_data(data):
            self._output += answer
            if reception.expects_request:
                self._check_answers()
        if reception.websocket is not None and reception.resumes is not None:
            self._output += reception.websocket.output
            reception.websocket.output.clear()
            self._events.append(Resumed(reception.resumes))
            self._finish(None)
        elif reception.websocket is not None:
            self._begin_websocket(reception.websocket, now)
            if trailing := reception.trailing_data:
                self._receive_websocket(reception.websocket, trailing, now)
        elif reception.is_over:
            self._finish(reception.failure)

    def _begin_websocket(self, websocket: WebSocket, now: float) -> None:
        self._websocket = websocket
        self._life.enter(State.UPGRADING)
        self._life.enter(State.HANDSHAKING)
        self._timers.stop(Timer.OPENING)
        self._timers.set(Timer.HANDSHAKE, now + self._config.handshake_timeout)
        self._collect()

    # ------------------------------------------------------------------------------------------- receiving

    def _receive_end(self, now: float) -> None:
        self._stream_is_open = False
        if self._websocket is None:
            self._finish(
                None if self._reception.served else ConnectionLost("the client ended the stream without a request")
            )
        elif self.is_stateful and self.state in {State.CONNECTED, State.RESUMING}:
            if self.state is State.CONNECTED:
                self._timers.set(Timer.RESUMING, now + self._config.resume_timeout)
            self._let_go()
            self._events.append(Detached())
        else:
            raise ConnectionLost(f"the client ended the byte stream without a goodbye (while {self.state.value})")

    def _receive_websocket(self, websocket: WebSocket, data: bytes, now: float) -> None:
        for event in websocket.receive_data(data):
            if isinstance(event, bytes):
                self._receive_message(event, now)
            elif isinstance(event, CloseReceived):
                self._receive_close(event)
            if self.state is State.CLOSED:
                return
        self._collect()
        self._check_answers()

    def _receive_close(self, event: CloseReceived) -> None:
        # 1005: a close frame without a code, which is how browsers and older clients say goodbye.
        if event.code in {1000, 1005} or self.state is State.CLOSING:
            self._finish(None)
        else:
            raise ConnectionLost(f"the client closed the WebSocket with code {event.code}", code=event.code)

    def _receive_message(self, data: bytes, now: float) -> None:
        if self.state is State.CLOSING:
            return
        if self.state is State.HANDSHAKING:
            found = self._handshake.feed(data)
            if found is None:
                return
            handshake, data = found
            if not self._shake_hands(handshake, now):
                return
        for record in self._records.read(data):
            self._receive_hub_message(self._codec.decode(record), now)
            if self.state is State.CLOSED:
                return

    def _shake_hands(self, record: bytes, now: float) -> bool:
        """Answer the handshake; whether the connection goes on."""
        try:
            request = parse_handshake_request(record)
        except RemoteProtocolError:
            self._refuse_handshake("An unexpected error occurred during connection handshake.")
            return False
        encoding = next((name for name in self._config.encodings if name == request.protocol), None)
        if encoding is None:
            self._refuse_handshake(f"The protocol '{request.protocol}' is not supported.")
        elif not 1 <= request.version <= (2 if self._config.stateful_reconnect else 1):
            self._refuse_handshake(
                f"The server does not support version {request.version} of the '{request.protocol}' protocol."
            )
        else:
            self._life.enter(State.CONNECTED)
            if request.version == 2 and self._reception.keep(self):
                self._replay = Replay()
            self._timers.stop(Timer.HANDSHAKE)
            self._timers.set(Timer.PING, now + self._ping_interval)
            self._encoding = encoding
            self._speak(new_codec(encoding))
            self._decode_plain = self._codec.payload_decoder(Any)
            self._write_record(encode_handshake_response())
            self._events.append(Connected(self.connection_id))
            return True
        return False

    def _receive_hub_message(self, message: HubMessage, now: float) -> None:
        if self._patience is not None or isinstance(message, Ping):
            # A client that never pings is never timed out: the clients before 2.2 did not ping at all.
            self._heard(now, self._config.client_timeout)
        if self._replay is not None and not self._is_new(message, now):
            return
        match message:
            case Invocation() | StreamInvocation():
                self._callee.receive_call(message)
            case CancelInvocation():
                self._callee.receive_cancel(message)
            case Completion():
                if not self._callee.receive_end(message):
                    self._caller.receive_completion(message, self._codec.null)
            case StreamItem():
                if not self._callee.receive_item(message, self._decode_plain):
                    self._caller.receive_item(message)
            case Close():
                self._finish(None)
            case Ping() | Ack() | SequenceMessage() | UnknownMessage():
                pass  # heard of already, or of no use here
            case _:
                assert_never(message)
        self._post(now)

    # --------------------------------------------------------------------------------------------- the end

    def _refuse(self, error: RemoteProtocolError) -> None:
        """The client broke the protocol: say so in the words of the layer it broke, and end."""
        error.state = error.state or self.state.value
        if self.state is State.NEGOTIATING:
            self._output += self._reception.refuse()
            self._finish(error)
        elif self.state is State.HANDSHAKING:
            self._refuse_handshake("Handshake was canceled.")
        elif self.state in {State.CONNECTED, State.RESUMING}:
            self._finish(error, Close(error="Connection closed with an error.", allow_reconnect=True))
        else:
            self._fail(error)

    def _refuse_handshake(self, text: str) -> None:
        self._write_record(encode_handshake_response(text))
        self._finish(HandshakeRefused(text))

    def _settle(self, reason: ConnectionFailed | None, *, still_flushed: bool) -> None:
        super()._settle(reason, still_flushed=still_flushed)
        self._reception.leave()
