"""`Lane`: one connection, from its first `Dial` to its end: a task that reads, one that writes, one that keeps time.

The reader opens the streams that the machine asks for, and is the only one that reads; where the event loop can call us
with what comes, it only waits for something else to do. The writer is the only one that sends. So a task of the
application never sends: its commands queue bytes and wake the writer, and cancelling it cannot tear a message. The
machine's deadline has a task of its own, so that a peer that does not read keeps nobody from it. None of them raises.

A lane knows the contract of the machines and nothing of what their events mean; the driver takes those, in `settle`,
after every input.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Generic, TypeVar, final

from etorox_proto import Closed, ConnectionFailed, Dial, ExchangeConnection, ExchangeState
from etorox_proto.signalr import HubConnection, State
from etorox_transports._async._backend import (
    AsyncByteStream,
    AsyncOpener,
    Backend,
    Event,
    Scope,
    not_opened,
    reason,
    receive_each,
)
from etorox_transports._async._feed import Consumers

__all__ = ["Lane", "MachineT", "let_readers_go_first", "wait_until"]

MachineT = TypeVar("MachineT", bound=ExchangeConnection | HubConnection)

# Only then what is read can fill a feed.
_FILLS_FEEDS = {ExchangeState.READY, State.CONNECTED}
# How long a peer that does not read may hold up what we send, in seconds; and the last of it, when all is over. So much
# is sent at a time, in bytes: a peer that reads slowly may take longer for more.
_CHUNK = 65_536
_SEND_TIMEOUT = 5.0
_LAST_SEND_TIMEOUT = 0.5
# A consumer that takes no turn while we look so often has taken all there was, or is busy with other things. Trio runs
# the tasks of one round in any order, so that one look may be too early.
_LOOKS = 2
# But one that takes its time does not keep us from reading for longer than this, in seconds.
_COURTESY = 1.0
# Event loops differ in whether they run timers or look at sockets first, and in how many rounds it takes from there to
# the reader. After so many it has told the machine what was there.
_ROUNDS = 10


async def wait_until(backend: Backend, event: Event, deadline: float) -> None:
    """Wait for an event, or until a time."""
    if deadline == math.inf:
        await event.wait()
    else:
        with backend.new_scope(deadline=deadline):
            await event.wait()


async def let_readers_go_first(backend: Backend) -> None:
    """Give the readers the opportunity to bring in what has arrived: it counts before a deadline that is due."""
    for _ in range(_ROUNDS):
        await backend.checkpoint()


@final
class Lane(Generic[MachineT]):
    """One connection and its stream.

    Args:
        machine: the connection.
        settle: to be called when the machine was told something: takes its events, and sees that everything is sent.
        consumers: who reads what it brings.
        open_stream: opens its streams.

    Attributes:
        machine: the connection.
        has_ended: whether the machine has said `Closed`.
    """

    def __init__(
        self, machine: MachineT, settle: Callable[[], None], consumers: Consumers, open_stream: AsyncOpener
    ) -> None:
        backend = consumers.backend
        self.machine = machine
        self.has_ended = False
        self._settle = settle
        self._consumers = consumers
        self._backend = backend
        self._open_stream = open_stream
        self._dial: Dial | None = None
        self._stream: AsyncByteStream | None = None
        self._reading: Scope | None = None
        self._wakeup = backend.new_event()  # of the writer
        self._earlier = backend.new_event()  # of the one that keeps time
        self._due = math.inf  # what that waits for
        self._sending: Scope | None = None
        self._last_send_until = math.inf
        self._torn: AsyncByteStream | None = None  # half a message may be on its way, so nothing more is sent
        self._is_flushed = backend.new_event()
        self._sent: Event | None = None  # set when something has been sent, for those who wait for room
        self._broken: BaseException | None = None
        self._not_opened: ConnectionFailed | None = None
        self._seen_turns = 0
        self._fault: Exception | None = None

    # -------------------------------------------------------------------------------------------- for the driver

    def dial(self, dial: Dial) -> None:
        """The machine wants another stream."""
        self._dial = dial
        self._interrupt()

    def end(self, closed: Closed) -> Closed:
        """The machine has ended. Returns the event with everything that is known of the reason."""
        self.has_ended = True
        self._interrupt()
        self._wakeup.set()
        self._earlier.set()
        self._last_send_until = self._backend.now() + _LAST_SEND_TIMEOUT
        if self._sending is not None:
            self._sending.deadline = min(self._sending.deadline, self._last_send_until)
        if closed.error is None:
            return closed
        if self._not_opened is not None:
            return Closed(self._not_opened)
        if closed.error.__cause__ is None:
            closed.error.__cause__ = self._broken
        return closed

    def nudge(self) -> None:
        """Wake the writer if there is something to send, and who keeps time if something is due earlier than it was."""
        if self._stream is not None and self.machine.queued_bytes:
            self._wakeup.set()
        if self.machine.deadline < self._due:
            self._earlier.set()

    async def wait_for_room(self, room: int) -> None:
        """Wait until no more than so many bytes wait to be sent; let others run in any case."""
        await self._backend.checkpoint()
        while self.machine.queued_bytes > room and not self.has_ended:
            if self._sent is None:
                self._sent = self._backend.new_event()
            await self._sent.wait()

    # ------------------------------------------------------------------------------------------- the three tasks

    async def read(self) -> None:
        """The reader: run it until it returns, beside the others. Cancelling it drops the stream at once."""
        try:
            while not self.has_ended:
                with self._backend.new_scope() as self._reading:
                    await self._converse()
                if not self.has_ended:
                    await self._hang_up()
            await self._is_flushed.wait()
        finally:
            await self._hang_up()

    async def write(self) -> None:
        """The writer: run it until it returns, beside the others."""
        machine, backend = self.machine, self._backend
        while not self.has_ended:
            if self._stream is not None and machine.queued_bytes:
                await self._send(_SEND_TIMEOUT)
                self._settle()  # somebody may wait for room
                continue
            self._wakeup = backend.new_event()
            await self._wakeup.wait()
        await self._send(_LAST_SEND_TIMEOUT)
        self._is_flushed.set()

    async def keep_time(self) -> None:
        """The one that keeps the machine's deadline: run it until it returns, beside the others."""
        machine, backend = self.machine, self._backend
        while not self.has_ended:
            self._earlier, self._due = backend.new_event(), machine.deadline
            await wait_until(backend, self._earlier, self._due)
            now = backend.now()
            if machine.deadline <= now:
                await let_readers_go_first(backend)
                # As of then: the application may have blocked the loop again since, and only until then all was read.
                machine.handle_timeout(now)
                self._settle()

    async def _converse(self) -> None:
        """Open the stream that was asked for, and read until there is to be another one or none."""
        dial, self._dial = self._dial, None
        assert dial is not None, "a machine that has not ended wants a stream"
        try:
            self._stream = stream = await self._open_stream(dial)
        except Exception as error:  # noqa: BLE001 - of a hook, perhaps
            failed = not_opened(dial, error)
            if self.machine.state is State.RESUMING:
                self._broken = failed  # the connection was there, and is lost
            else:
                self._not_opened = failed
            self._tell(b"")
            return
        self._broken = None
        self.machine.stream_opened(self._backend.now())
        # The stream before may have been lost while it was not read.
        self.machine.reading_resumed(self._backend.now())
        self._settle()
        while self._dial is None and not self.has_ended:
            if self._must_pause:
                await self._pause()
            await self._listen(stream)
            await self._let_consumers_take()

    async def _listen(self, stream: AsyncByteStream) -> None:
        """Tell the machine what comes, until something else is to be done as well."""
        try:
            await receive_each(stream, self._hear)
        except Exception as error:  # noqa: BLE001 - whatever a stream raises is its end
            self._broken = reason(error)
            self._hear(b"")
        if self._fault is not None:
            raise self._fault

    def _hear(self, data: bytes) -> bool:
        """Tell the machine; whether there is nothing to do but to hear more. Perhaps not in the reader's task."""
        if self._dial is not None or self.has_ended:
            return False  # the reader has been interrupted, and did not run yet
        try:
            self._tell(data)
        except Exception as error:  # noqa: BLE001 - a fault of ours; the reader raises it
            self._fault = error
            return False
        is_open = self._dial is None and not self.has_ended
        return is_open and self._consumers.turns == self._seen_turns and not self._must_pause

    async def _let_consumers_take(self) -> None:
        """A consumer that keeps up with what is read must not be run over because it is fair to others."""
        if self._consumers.turns == self._seen_turns:
            return
        looks, until = 0, self._backend.now() + _COURTESY
        while looks < _LOOKS and self._backend.now() < until:
            self._seen_turns = self._consumers.turns
            await self._backend.checkpoint()
            looks = looks + 1 if self._consumers.turns == self._seen_turns else 0

    @property
    def _must_pause(self) -> bool:
        # What comes before `setup` is answered, and after our goodbye, fills no feed.
        return self._consumers.is_full and self.machine.state in _FILLS_FEEDS

    async def _pause(self) -> None:
        """Do not read until there is room, and do not hold the silence against the peer."""
        self.machine.reading_paused(self._backend.now())
        while self._must_pause:
            await self._consumers.wait_for_room()
        self.machine.reading_resumed(self._backend.now())
        self.nudge()

    async def _send(self, patience: float) -> None:
        stream, data = self._stream, self.machine.data_to_send()
        if self._sent is not None:
            self._sent.set()
            self._sent = None
        if stream is None or not data or stream is self._torn:
            return
        broken: BaseException | None = None
        for start in range(0, len(data), _CHUNK):
            broken = await self._send_chunk(stream, data[start : start + _CHUNK], patience)
            if broken is not None:
                break
        if broken is None:
            return
        self._torn = stream
        # What the peer said before is heard.
        await let_readers_go_first(self._backend)
        if stream is self._stream and not self.has_ended:
            self._broken = broken
            self._tell(b"")

    async def _send_chunk(self, stream: AsyncByteStream, chunk: bytes, patience: float) -> BaseException | None:
        """Send so much; returns why that failed."""
        deadline = min(self._backend.now() + patience, self._last_send_until)
        scope = self._sending = self._backend.new_scope(deadline=deadline)
        broken: BaseException | None = None
        try:
            with scope:
                await stream.send_all(chunk)
        except Exception as error:  # noqa: BLE001 - whatever a stream raises is its end
            broken = reason(error)
        self._sending = None
        if scope.cancelled_caught:
            broken = TimeoutError(f"the peer did not take within {patience:g} s what was sent to it")
        return broken

    def _tell(self, data: bytes) -> None:
        self.machine.receive_data(data, self._backend.now())
        self._settle()

    # ------------------------------------------------------------------------------------------------- the stream

    def _interrupt(self) -> None:
        """The reader has something else to do than to wait for bytes."""
        if self._reading is not None:
            self._reading.cancel()

    async def _hang_up(self) -> None:
        """Close the stream as it is, at once and without waiting for anybody."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        with self._backend.new_scope(shield=True) as scope:
            scope.cancel()
            with contextlib.suppress(Exception):  # it is of no use any more, and nobody needs to be told
                await stream.aclose()
