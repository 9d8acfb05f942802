"""`Pump`: one byte stream of a client and the machine that it drives: a task that reads and a task that writes.

The server's counterpart of `Lane`. The writer is the only one that sends, and keeps the machine's deadline; commands
queue bytes and wake it. Neither task raises, but when it is cancelled. What the machine says is the business of
`settle`, which is called after every input. The pump and the machine are two things: a machine may lose its stream and
go on with another pump, as stateful reconnect has it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import final

from etorox_proto.signalr import ServerConnection, State
from etorox_transports._async._backend import Backend, Event, Scope
from etorox_transports._async._feed import Consumers
from etorox_transports._async._lane import let_readers_go_first, wait_until
from etorox_transports._async._listening import SocketStream
from etorox_transports._serving import ServeLimits

__all__ = ["Pump"]

# As much as one TLS record or a few hundred messages; and how much is sent in one go, and has `send_timeout` for it.
_CHUNK = 65_536
# How long the client has to take the last bytes, and then to close its side, in seconds. What it still sends meanwhile
# is thrown away; closing with that unread would reset the connection, and it might never see our last words.
_LAST_SEND_TIMEOUT = 0.5
_LINGER = 1.0


@final
class Pump:
    """One stream.

    Args:
        stream: past TLS's handshake.
        machine: what gets its bytes.
        settle: to be called when the machine was told something: takes its events, and nudges.
        consumers: who reads what it brings.
        limits: of the server.

    Attributes:
        machine: what gets its bytes.
        is_over: the machine has let the stream go.
    """

    def __init__(
        self,
        stream: SocketStream,
        machine: ServerConnection,
        settle: Callable[[], None],
        consumers: Consumers,
        limits: ServeLimits,
    ) -> None:
        backend: Backend = consumers.backend
        self.machine = machine
        self.is_over = False
        self._stream = stream
        self._settle = settle
        self._consumers = consumers
        self._limits = limits
        self._backend = backend
        self._unsent = b""
        self._heard_at = backend.now()
        self._wakeup = backend.new_event()  # of the writer
        self._due = -math.inf  # what the writer waits for
        self._room: Event | None = None
        self._reading: Scope | None = None
        self._is_paused = False
        self._is_flushed = backend.new_event()

    # -------------------------------------------------------------------------------------------- for the driver

    def nudge(self) -> None:
        """Wake the tasks that have something to do now."""
        if self.machine.queued_bytes or self.machine.deadline < self._due or self.machine.closed:
            self._wakeup.set()
        if self._reading is not None and (self.machine.closed or (self._is_paused and not self._must_pause)):
            self._reading.cancel()
        self._look_for_room()

    def let_go(self) -> None:
        """The machine goes on without this stream: close it, and tell nobody."""
        self.is_over = True
        self._unsent = b""
        if self._is_paused:
            self.machine.reading_resumed(self._backend.now())
        self._wakeup.set()
        if self._reading is not None:
            self._reading.cancel()
        self._look_for_room()

    def turn_to(self, machine: ServerConnection, settle: Callable[[], None], consumers: Consumers) -> None:
        """Drive another machine on this stream from now on."""
        self.machine, self._settle, self._consumers = machine, settle, consumers
        self._heard_at = self._backend.now()
        self._wakeup.set()

    @property
    def has_room(self) -> bool:
        """Whether more may be sent without waiting."""
        return len(self._unsent) + self.machine.queued_bytes <= self._limits.room

    async def wait_for_room(self) -> None:
        """Wait until more may be sent, or the machine has ended; let others run in any case."""
        await self._backend.checkpoint()
        while not (self.has_room or self.machine.closed or self.is_over):
            if self._room is None:
                self._room = self._backend.new_event()
            await self._room.wait()

    # --------------------------------------------------------------------------------------------- the two tasks

    async def read(self) -> None:
        """The reader: it returns when everything is over, and has then closed the stream."""
        try:
            while not (self.machine.closed or self.is_over):
                if self._must_pause:
                    await self._pause()
                    continue
                data: bytes | None = None
                with self._backend.new_scope() as self._reading:
                    data = await self._receive()
                self._reading = None
                if data is not None and not (self.machine.closed or self.is_over):
                    self._heard_at = self._backend.now()
                    self._tell(data)
                    if not data:
                        return
            if self.is_over:
                return
            await self._is_flushed.wait()
            with self._backend.new_scope(deadline=self._backend.now() + _LINGER), contextlib.suppress(Exception):
                await self._stream.send_eof()
                while await self._receive():
                    pass
        finally:
            await self._hang_up()

    async def write(self) -> None:
        """The writer: run it beside `read`."""
        backend = self._backend
        while not (self.machine.closed or self.is_over):
            if self._unsent or self.machine.queued_bytes:
                await self._send(self._limits.send_timeout)
                continue
            self._wakeup, self._due = backend.new_event(), min(self.machine.deadline, self._idle_at)
            await wait_until(backend, self._wakeup, self._due)
            if self._due <= backend.now():
                await let_readers_go_first(backend)
                if not self.is_over:
                    self._keep_time(backend.now())
        until = backend.now() + _LAST_SEND_TIMEOUT
        while not self.is_over and (self._unsent or self.machine.queued_bytes) and backend.now() < until:
            await self._send(until - backend.now())
        self._is_flushed.set()

    @property
    def _idle_at(self) -> float:
        return math.inf if self._is_paused else self._heard_at + self._limits.idle_timeout

    def _keep_time(self, now: float) -> None:
        if self._idle_at <= now:
            self._heard_at = math.inf
            self.machine.close(allow_reconnect=True, now=now)
        self.machine.handle_timeout(now)
        self._settle()

    # --------------------------------------------------------------------------------------------------- reading

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(_CHUNK))
        except Exception:  # noqa: BLE001 - whatever a stream raises is its end
            return b""

    def _tell(self, data: bytes) -> None:
        self.machine.receive_data(data, self._backend.now())
        self._settle()

    @property
    def _must_pause(self) -> bool:
        """Who does not take our answers is not asked for more, and what comes waits until the handler has room."""
        is_connected = self.machine.state is State.CONNECTED
        return is_connected and (self._consumers.is_full or not self.has_room)

    async def _pause(self) -> None:
        self.machine.reading_paused(self._backend.now())
        self._is_paused = True
        while self._must_pause and not self.is_over:
            with self._backend.new_scope() as self._reading:
                if self._consumers.is_full:
                    await self._consumers.wait_for_room()
                else:
                    await self.wait_for_room()
        self._reading, self._is_paused = None, False
        if self.is_over:
            return
        self._heard_at = self._backend.now()
        self.machine.reading_resumed(self._heard_at)
        self._wakeup.set()

    # --------------------------------------------------------------------------------------------------- sending

    async def _send(self, patience: float) -> None:
        backend = self._backend
        self._unsent = self._unsent or self.machine.data_to_send()
        scope = backend.new_scope(deadline=backend.now() + patience)
        is_broken = False
        try:
            with scope:
                await self._stream.send_all(self._unsent[:_CHUNK])
        except Exception:  # noqa: BLE001 - whatever a stream raises is its end
            is_broken = True
        self._unsent = self._unsent[_CHUNK:]
        if is_broken or scope.cancelled_caught:
            # Half a message may be on its way, so nothing more is sent; but what the client said before is heard.
            self._unsent = b""
            await let_readers_go_first(backend)
            if not self.is_over:  # else the machine may have another stream, to which this end means nothing
                self.machine.data_to_send()
                self._tell(b"")
        self._look_for_room()

    def _look_for_room(self) -> None:
        if self._room is not None and (self.has_room or self.machine.closed or self.is_over):
            self._room.set()
            self._room = None

    async def _hang_up(self) -> None:
        """Close the stream as it is, at once and without waiting for anybody."""
        with self._backend.new_scope(shield=True) as scope:
            scope.cancel()
            with contextlib.suppress(Exception):  # it is of no use any more, and nobody needs to be told
                await self._stream.aclose()
