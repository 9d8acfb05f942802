"""A transport for Twisted: a Protocol for each byte stream, endpoints that open it, one delayed call for the deadline.

Knows the reactor; everything about the protocol is in the machine. TLS needs `twisted[tls]`. See docs/howto/embed.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from zope.interface import implementer

from etorox_proto import Closed, Dial, ExchangeConnection, ExchangeEvent

SEND_TIMEOUT = 5.0
"""How long a peer that does not read may hold up what we send, in seconds."""

GOODBYE = 1.0
"""How long the last bytes and the end of TLS may take, in seconds."""


@implementer(IHandshakeListener, IPushProducer)
class _Stream(Protocol):
    """The byte stream of one `Dial`. It is a producer, which hears when the transport's buffer is full."""

    transport: Any  # ITransport says nothing of producers and aborting
    dialling: Any = None
    is_open = False
    send_by = math.inf  # finite while the buffer is full

    def __init__(self, owner: TwistedTransport, *, tls: bool) -> None:
        self._owner = owner
        self._tls = tls

    def connectionMade(self) -> None:
        if not self._tls:
            self.handshakeCompleted()

    def handshakeCompleted(self) -> None:
        self.is_open = True
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._owner.opened(self)

    def dataReceived(self, data: bytes) -> None:
        self._owner.received(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._owner.ended(self, None if reason.check(ConnectionDone) else reason.value)

    def pauseProducing(self) -> None:
        self.send_by = time.monotonic() + SEND_TIMEOUT
        self._owner.pump()

    def resumeProducing(self) -> None:
        self.send_by = math.inf
        self._owner.pump()

    def stopProducing(self) -> None:
        pass  # `connectionLost` follows

    def leave(self) -> None:
        """Close behind what was written."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def drop(self) -> None:
        """Close at once, whatever the state."""
        self.dialling.cancel()
        if self.transport is not None:
            self.transport.abortConnection()


class TwistedTransport:
    """Drives one connection to its end.

    Args:
        connection: a new one, made with `time.monotonic()` as its clock.
        deliver: gets every event but `Dial` and `Closed`. It may give commands to the connection.
        trust_root: as for `twisted.internet.ssl.optionsForClientTLS`; by default the system's authorities.
        reactor: by default the installed one.
    """

    def __init__(
        self,
        connection: ExchangeConnection,
        deliver: Callable[[ExchangeEvent], None],
        trust_root: Any = None,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it
        self._reactor = reactor
        self._connection = connection
        self._deliver = deliver
        self._trust_root = trust_root
        self._stream: _Stream | None = None
        self._timer: Any = None
        self._broken: BaseException | None = None
        self._closed: Closed | None = None
        self._is_pumping = False
        self._done: Deferred[None] = Deferred(lambda _: self._drop())

    def run(self) -> Deferred[None]:
        """Run until the connection ends. Cancelling the Deferred drops the stream at once.

        Returns:
            Fires when the stream is closed: with None after our own `close`, else it fails with the reason, whose cause
            is the transport's own error. It also fails with what `deliver` raised.
        """
        self.pump()
        return self._done

    def pump(self) -> None:
        """Flush, take events, set the timer anew. Call it after a command that `deliver` did not give."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while not self._has_ended:
                self._flush()
                match self._connection.next_event():
                    case None:
                        break
                    case Dial() as dial:
                        self._open(dial)
                    case Closed() as closed:
                        self._close(closed)
                    case event:
                        self._deliver(event)
        except Exception:  # noqa: BLE001 - of `deliver`; whoever waits for the Deferred gets it
            self._drop()
            if not self._done.called:
                self._done.errback()
        finally:
            self._is_pumping = False
        if not self._has_ended:
            send_by = math.inf if self._stream is None else self._stream.send_by
            patience = min(self._connection.deadline, send_by) - time.monotonic()
            self._set_timer(min(max(patience, 0.0), 3600.0), self._look_once_more)

    @property
    def _has_ended(self) -> bool:
        return self._closed is not None or self._done.called

    def _look_once_more(self) -> None:
        # Bytes that wait in the socket come before the deadline, but the reactor runs delayed calls before it reads.
        self._set_timer(0.0, self._time_out)

    def _time_out(self) -> None:
        now = time.monotonic()
        if self._stream is not None and self._stream.send_by <= now:
            self.ended(self._stream, TimeoutError("the peer does not read"))
        self._connection.handle_timeout(now)
        self.pump()

    def _open(self, dial: Dial) -> None:
        self._drop()
        endpoint: Any = HostnameEndpoint(self._reactor, dial.host, dial.port)
        if dial.tls:
            endpoint = wrapClientTLS(optionsForClientTLS(dial.server_name, self._trust_root), endpoint)
        self._stream = stream = _Stream(self, tls=dial.tls)
        stream.dialling = connectProtocol(endpoint, stream)  # until the connection's deadline, which drops it
        stream.dialling.addErrback(lambda failure: self.ended(stream, failure.value))

    def _flush(self) -> None:
        # While the buffer is full, the rest stays in the machine, which knows its limits.
        if self._stream is not None and self._stream.is_open and self._stream.send_by == math.inf:
            data = self._connection.data_to_send()
            if data:
                self._stream.transport.write(data)

    def opened(self, stream: _Stream) -> None:
        """A stream is there."""
        if stream is self._stream:
            self._connection.stream_opened(time.monotonic())
            self.pump()

    def received(self, stream: _Stream, data: bytes) -> None:
        """Bytes came."""
        if stream is self._stream:
            self._connection.receive_data(data, time.monotonic())
            self.pump()

    def ended(self, stream: _Stream, error: BaseException | None) -> None:
        """A stream has ended, or could not be opened."""
        if stream is not self._stream:
            return
        self._drop()
        if self._closed is None:
            self._broken = error
            self._connection.receive_data(b"", time.monotonic())
            self.pump()
        else:
            self._settle(self._closed)

    def _close(self, closed: Closed) -> None:
        self._closed = closed
        if self._stream is not None and self._stream.is_open:
            self._set_timer(GOODBYE, self._stream.drop)
            self._stream.leave()  # `ended` settles
        else:
            self._drop()
            self._settle(closed)

    def _settle(self, closed: Closed) -> None:
        if closed.error is None:
            self._done.callback(None)
        else:
            closed.error.__cause__ = self._broken
            self._done.errback(closed.error)

    def _set_timer(self, delay: float | None, call: Callable[[], None] | None = None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if delay is None else self._reactor.callLater(delay, call)

    def _drop(self) -> None:
        self._set_timer(None)
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.drop()
