"""A session on asyncio, driven by hand: a plain `asyncio.Protocol` for each byte stream, one timer for all deadlines.

Knows the event loop. When to connect, what to ask for and everything about the protocol is in the session and its
connections. See docs/howto/embed.md.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Callable

from etorox_proto import (
    CheckClock,
    Closed,
    ConnectionFailed,
    Dial,
    EventsByTurns,
    EventsReceived,
    ExchangeConnection,
    Session,
    SessionEvent,
    StartAttempt,
)
from etorox_transports import DialFailed, new_tls_context

SEND_TIMEOUT = 5.0
"""How long a peer that does not read may hold up what we send, in seconds."""

GOODBYE = 1.0
"""How long the last bytes and the end of TLS may take, in seconds."""


class _Stream(asyncio.Protocol):
    """The byte stream of one `Dial`: the inputs of its connection while it is in use, and silent afterwards."""

    transport: asyncio.Transport | None = None
    send_by = math.inf  # finite while something waits to be sent
    broken: Exception | None = None

    def __init__(self, driver: SessionDriver, connection: ExchangeConnection, dial: Dial) -> None:
        self._driver = driver
        self._connection = connection
        self._dialling = asyncio.create_task(self._dial(dial))
        self._in_use = True

    async def _dial(self, dial: Dial) -> None:
        """Open what was asked for. It has until the connection's deadline, which drops us."""
        tls, name = (self._driver.tls, dial.server_name) if dial.tls else (None, None)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self, dial.host, dial.port, ssl=tls, server_hostname=name)
        except OSError as error:
            text = f"could not connect to {dial.host} port {dial.port}: {error}"
            failed = DialFailed(text, may_retry=not isinstance(error, ssl.SSLError))
            failed.__cause__ = error
            self.ended(failed)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if not self._in_use:
            transport.abort()
            return
        self.transport = transport
        self._driver.streams.add(self)
        transport.set_write_buffer_limits(0)  # `pause_writing` is to be said as soon as anything has to wait
        self._connection.stream_opened(time.monotonic())
        self._driver.pump()

    def data_received(self, data: bytes) -> None:
        if self._in_use:
            self._connection.receive_data(data, time.monotonic())
            self._driver.pump()

    def eof_received(self) -> None:
        self.ended(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._driver.streams.discard(self)
        self.ended(error)

    def pause_writing(self) -> None:
        self.send_by = time.monotonic() + SEND_TIMEOUT
        self._driver.pump()

    def resume_writing(self) -> None:
        self.send_by = math.inf
        self._driver.pump()

    def ended(self, error: Exception | None) -> None:
        """It has ended, or could not be opened: say so once."""
        if self._in_use:
            self.drop()
            self.broken = error
            self._connection.receive_data(b"", time.monotonic())
        self._driver.pump()

    def flush(self) -> None:
        """Send, unless something waits already. Then the rest stays in the machine, which knows its limits."""
        if self._in_use and self.transport is not None and self.send_by == math.inf:
            data = self._connection.data_to_send()
            if data:
                self.transport.write(data)

    def leave(self) -> None:
        """Close it behind what was written, but soon."""
        if self._in_use and self.transport is not None:
            self._in_use, self.send_by = False, math.inf
            self.transport.close()
            asyncio.get_running_loop().call_later(GOODBYE, self.transport.abort)
        else:
            self.drop()

    def drop(self) -> None:
        """Close it at once, whatever its state."""
        self._in_use = False
        if self.transport is None:
            self._dialling.cancel()
        else:
            self.transport.abort()


class SessionDriver:
    """Drives one session to its end, on the event loop in which it is made.

    Args:
        session: a new one, made with `time.monotonic()` as its clock and that of its connections.
        deliver: gets every event but `Closed`. It may give commands to the session.
        tls: how to verify the exchange; by default the system's authorities.

    Attributes:
        streams: what is open, for the streams themselves.
    """

    def __init__(
        self, session: Session, deliver: Callable[[SessionEvent], None], tls: ssl.SSLContext | None = None
    ) -> None:
        self.tls = tls or new_tls_context()
        self.streams: set[_Stream] = set()
        self._session = session
        self._deliver = deliver
        self._connections: dict[ExchangeConnection, _Stream | None] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed: Closed | None = None
        self._end: asyncio.Future[ConnectionFailed | None] = self._loop.create_future()
        self._is_pumping = False

    async def run(self) -> ConnectionFailed | None:
        """Run until the session ends and its streams are closed. Cancelling it drops them at once.

        Returns:
            Why it ended; None if our own `close` ended it. What `deliver` raises comes out here too.
        """
        try:
            self.pump()
            return await self._end
        finally:
            self._stop_timer()
            for stream in {*self.streams, *self._connections.values()}:
                if stream is not None:
                    stream.drop()

    def pump(self) -> None:
        """Carry out, flush and deliver until nothing is left. Call it after a command that `deliver` did not give."""
        if self._is_pumping or self._end.done():
            return
        self._is_pumping = True
        try:
            while self._step(time.monotonic()):
                pass
        except Exception as error:  # noqa: BLE001 - of `deliver`; `run` raises it
            self._end.set_exception(error)
            return
        finally:
            self._is_pumping = False
        if self._closed is not None and not self.streams:
            self._end.set_result(self._closed.error)
            return
        deadlines = [each.deadline for each in self._machines] + [stream.send_by for stream in self.streams]
        patience = min(deadlines) - time.monotonic()
        self._stop_timer()
        self._timer = self._loop.call_later(min(max(patience, 0.0), 3600.0), self._look_once_more)

    def _step(self, now: float) -> bool:
        """Take one action of the session, one event of it, or one of a connection; False if there was none."""
        match self._session.next_action() or self._session.next_batch():
            case None:
                steps = [self._step_connection(*each, now) for each in list(self._connections.items())]
                return any(steps)
            case StartAttempt(connection):
                self._connections[connection] = None
            case CheckClock():
                self._session.clock_checked(None, now)  # this driver has nobody to ask
            case Closed() as closed:
                self._closed = closed
            case EventsReceived() | EventsByTurns() as batch:
                for event in batch.singly():
                    self._deliver(event)
            case event:
                self._deliver(event)
        return True

    def _step_connection(self, connection: ExchangeConnection, stream: _Stream | None, now: float) -> bool:
        if stream is not None:
            stream.flush()
        match connection.next_batch():
            case None:
                return False
            case Dial() as dial:
                if stream is not None:
                    stream.drop()
                self._connections[connection] = _Stream(self, connection, dial)
            case Closed(error):
                del self._connections[connection]
                if stream is not None:
                    stream.leave()
                    if isinstance(stream.broken, DialFailed):
                        error = stream.broken  # it knows why, and whether another attempt could help
                    elif error is not None:
                        error.__cause__ = stream.broken
                self._session.handle_event(connection, Closed(error), now)
            case event:
                self._session.handle_event(connection, event, now)
        return True

    def _look_once_more(self) -> None:
        # Bytes that wait in a socket come before the deadline, but uvloop runs timers before it reads.
        self._timer = self._loop.call_later(0.001, self._time_out)

    def _time_out(self) -> None:
        now = time.monotonic()
        for stream in [each for each in self.streams if each.send_by <= now]:
            stream.ended(TimeoutError("the peer does not read"))
        for each in self._machines:
            each.handle_timeout(now)  # too early does nothing
        self.pump()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @property
    def _machines(self) -> list[Session | ExchangeConnection]:
        return [self._session, *self._connections]
