"""`Attempt`: drives one client machine over one virtual stream after the other, as an adapter of sockets would.

It knows the contract of the machines and nothing of what their events mean. `Driver` and `SessionDriver` own attempts
and take their events. Drain before you feed: after each input the owner is called, which takes events until there is
none, and every one of them is preceded by a flush.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from etorox_proto.signalr import Closed, Dial
from etorox_proto.testing._clock import Rank
from etorox_proto.testing._errors import VirtualDialFailed
from etorox_proto.testing._pipe import Pipe
from etorox_proto.testing._stream import Stream
from etorox_proto.testing._world import Dialing, World

__all__ = ["Attempt", "ClientMachine"]

EventT = TypeVar("EventT")
EventT_co = TypeVar("EventT_co", covariant=True)


class ClientMachine(Protocol[EventT_co]):
    """A client that can be driven: `ExchangeConnection`, `HubConnection`, or one of yours with the same contract."""

    @property
    def deadline(self) -> float:
        """When `handle_timeout` must be called next; `math.inf` for never."""
        ...

    def stream_opened(self, now: float, /) -> None:
        """The byte stream that the last `Dial` asked for exists."""
        ...

    def receive_data(self, data: bytes, now: float, /) -> None:
        """Bytes came from the stream; `b""` means that it ended, or that it could not be opened."""
        ...

    def handle_timeout(self, now: float, /) -> None:
        """`deadline` has come."""
        ...

    def reading_paused(self, now: float, /) -> None:
        """The driver has stopped reading."""
        ...

    def reading_resumed(self, now: float, /) -> None:
        """The driver reads again."""
        ...

    def data_to_send(self) -> bytes:
        """All bytes that wait to be sent; they are handed out once."""
        ...

    def next_event(self) -> EventT_co | Dial | Closed | None:
        """The next event, or None when it is time to wait."""
        ...


class Attempt(Generic[EventT]):
    """One machine, its stream and its deadline.

    Args:
        world: the network's.
        machine: at its beginning.
        on_input: called after the machine was told something.
        is_paused: whether to begin with a pause in reading.

    Attributes:
        machine: what it drives.
        stream: the stream in use, None between two and after the end.
        dials: how often it has dialled.
        is_closed: whether the machine has said `Closed`.
    """

    def __init__(
        self, world: World, machine: ClientMachine[EventT], on_input: Callable[[], None], *, is_paused: bool = False
    ) -> None:
        self.machine = machine
        self.stream: Stream | None = None
        self.dials = 0
        self.is_closed = False
        self._world = world
        self._on_input = on_input
        self._incoming: Pipe | None = None
        self._outgoing: Pipe | None = None
        self._dialing: Dialing | None = None
        self._dial_error: VirtualDialFailed | None = None
        self._has_told = False  # whether there was a connection
        self._is_paused = is_paused
        if is_paused:
            machine.reading_paused(world.clock.now)
        self._wakeup = world.clock.wakeup(self._time_out, Rank.DEADLINE)

    def next_event(self) -> EventT | Closed | None:
        """Flush, and take the next event that is not for the adapter.

        Returns:
            None when it is time to wait; the wake-up is then armed.
        """
        if self.is_closed:
            return None
        while True:
            self._flush()
            match self.machine.next_event():
                case None:
                    self._wakeup.set(self.machine.deadline)
                    return None
                case Dial() as dial:
                    self._hang_up()
                    self._dial_error = None
                    self.dials += 1
                    self._dialing = Dialing(self._world, dial, self)
                case Closed(error):
                    self._finish()
                    if self._dial_error is None:
                        return Closed(error)
                    self._dial_error.__cause__ = error
                    return Closed(self._dial_error)
                case event:
                    self._has_told = True
                    return event

    def settle(self) -> None:
        """The stream has room again."""
        self._on_input()

    # ---------------------------------------------------------------------------------------------- reading

    def pause(self) -> None:
        """Stop reading, and say so to the machine."""
        if not self._is_paused and not self.is_closed:
            self._is_paused = True
            if self._incoming is not None:
                self._incoming.pause()
            self.machine.reading_paused(self._world.clock.now)
            # The owner may be in the middle of its events, so it is called later.
            self._world.touch()

    def resume(self) -> None:
        """Read again."""
        if self._is_paused and not self.is_closed:
            self._is_paused = False
            self.machine.reading_resumed(self._world.clock.now)
            if self._incoming is not None:
                self._incoming.resume()
            self._world.touch()

    # --------------------------------------------------------------------------- what the network tells us

    def stream_opened(self, stream: Stream, *, incoming: Pipe, outgoing: Pipe) -> None:
        """The stream that was dialled is there."""
        self._dialing = None
        self.stream, self._incoming, self._outgoing = stream, incoming, outgoing
        if self._is_paused:
            incoming.pause()
        self.machine.stream_opened(self._world.clock.now)
        self._on_input()

    def dial_failed(self, error: VirtualDialFailed) -> None:
        """There is no stream to be had; the machine's end then has this reason."""
        self._dialing = None
        if not self._has_told:  # else a connection is lost, and its machine says so
            self._dial_error = error
        self.machine.receive_data(b"", self._world.clock.now)
        self._on_input()

    def receive(self, data: bytes) -> None:
        """Bytes have arrived, or the end of the stream."""
        self.machine.receive_data(data, self._world.clock.now)
        self._on_input()

    def _time_out(self) -> None:
        self.machine.handle_timeout(self._world.clock.now)
        self._on_input()

    # ---------------------------------------------------------------------------------------------- writing

    def _flush(self) -> None:
        # What does not fit stays with the machine, which has a limit on it.
        if self._outgoing is not None and not self._outgoing.is_full and (data := self.machine.data_to_send()):
            self._outgoing.send(data)

    def _finish(self) -> None:
        """The machine is closed: send what it still had to say, and close the stream."""
        self.is_closed = True
        self._wakeup.set(math.inf)
        if self._outgoing is not None:
            self._outgoing.send(self.machine.data_to_send())
        self._hang_up()

    def _hang_up(self) -> None:
        """Close the stream, or stop waiting for one."""
        if self._dialing is not None:
            self._dialing.give_up()
            self._dialing = None
        if self._incoming is not None and self._outgoing is not None and self.stream is not None:
            self._incoming.abandon()
            self._outgoing.end()
            self._world.closed(self.stream)
        self.stream = self._incoming = self._outgoing = None
