"""A transport on asyncio's streams: `async with`, `async for`, commands from any task.

One task drives the machine. What it waits for (a stream to open, bytes, room to send, a command) are tasks and
callbacks that do nothing but wake it; so it is the only one that sends, and the only one that calls inputs. See
docs/howto/write-a-transport.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from etorox_proto import Closed, Dial, ExchangeConnection
from etorox_proto.signalr import HubConnection

SEND_TIMEOUT = 5.0
"""How long a peer that does not read may hold up what we send, in seconds."""

GOODBYE = 1.0
"""How long the last bytes and the end of TLS may take, in seconds."""

ROOM = 1_000
"""How many events may wait for the application before nothing more is read."""

MachineT = TypeVar("MachineT", bound=HubConnection | ExchangeConnection)
ResultT = TypeVar("ResultT")


class StreamsConnection(Generic[MachineT]):
    """One connection, from its first `Dial` to its end.

    Iterating gives its events. It ends when our own `close` has ended the connection; otherwise it raises what did.
    Leaving the context drops the connection at once; `close` first for a goodbye.

    Args:
        new_machine: makes the machine; called with the time of the event loop.
        tls: how to verify the server; by default the system's authorities.
    """

    def __init__(self, new_machine: Callable[[float], MachineT], tls: ssl.SSLContext | None = None) -> None:
        self._now = asyncio.get_running_loop().time
        self.machine = new_machine(self._now())
        self._tls = tls
        self._events: deque[Any] = deque()
        self._wakeup = asyncio.Event()  # of the driver
        self._arrival = asyncio.Event()  # of the application
        self._closed: Closed | None = None
        self._driver: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[tuple[asyncio.StreamReader, asyncio.StreamWriter]] | None = None
        self._reading: asyncio.Task[bytes] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._send_by = math.inf  # finite while something waits to be sent
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._is_paused = False
        self._read_until = -math.inf  # what had come by then has been told
        self._broken: Exception | None = None

    # ------------------------------------------------------------------------------------------ for the application

    async def __aenter__(self) -> Self:
        self._driver = asyncio.create_task(self._drive())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._driver is not None, "it was entered"
        self._driver.cancel()
        await asyncio.wait([self._driver])
        if not self._driver.cancelled():
            self._driver.result()

    def do(self, command: Callable[[MachineT, float], ResultT]) -> ResultT:
        """Give a command, as in `do(lambda hub, now: hub.invoke("Add", [1, 2], now=now))`; returns what it returns."""
        try:
            return command(self.machine, self._now())
        finally:
            self._wakeup.set()

    async def close(self) -> None:
        """Say goodbye, and wait for the end; that takes the machine's `close_timeout` at most, and `GOODBYE`."""
        assert self._driver is not None, "it was entered"
        self.do(lambda machine, now: machine.close(now=now))
        await asyncio.wait([self._driver])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while not self._events:
            if self._closed is not None:
                if self._closed.error is None:
                    raise StopAsyncIteration
                raise self._closed.error
            self._arrival.clear()
            await self._arrival.wait()
        self._wakeup.set()  # there may be room again
        return self._events.popleft()

    # --------------------------------------------------------------------------------------------------- the driver

    async def _drive(self) -> None:
        try:
            while True:
                self._flush()
                match self.machine.next_event():
                    case None:
                        await self._wait()
                    case Dial() as dial:
                        await self._drop()
                        self._opening = self._start(self._open(dial))
                    case Closed() as closed:
                        self._end(closed)
                        await self._say_goodbye()
                        return
                    case event:
                        self._events.append(event)
                        self._arrival.set()
        finally:
            await self._drop()
            if self._closed is None:
                self._end(Closed(None))

    async def _wait(self) -> None:
        """Wait for something to happen until the deadline, and tell the machine what it was."""
        if self.machine.deadline <= self._read_until:  # also if there is always more to read
            self.machine.handle_timeout(self._now())
            return
        self._read_on()
        due = min(self.machine.deadline, self._send_by)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(None if due == math.inf else due):
                await self._wakeup.wait()
        self._wakeup.clear()
        now = self._now()
        if due <= now:
            # What has come until now counts before a deadline; but event loops may look at their timers first.
            for _ in range(3):
                await asyncio.sleep(0)
        if self._opening is not None and self._opening.done():
            await self._opened()
        elif self._reading is not None and self._reading.done():
            await self._receive()
        elif self._send_by <= now:
            await self._ended(TimeoutError("the peer does not read"))
        self._read_until = now

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._wakeup.set())
        return task

    def _end(self, closed: Closed) -> None:
        if closed.error is not None and self._broken is not None:
            closed.error.__cause__ = self._broken
        self._closed = closed
        self._arrival.set()

    # --------------------------------------------------------------------------------------------------- the stream

    async def _open(self, dial: Dial) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = (self._tls or ssl.create_default_context()) if dial.tls else None
        return await asyncio.open_connection(
            dial.host, dial.port, ssl=tls, server_hostname=dial.server_name if tls else None
        )

    async def _opened(self) -> None:
        opening, self._opening = self._opening, None
        assert opening is not None, "it is done"
        try:
            self._reader, self._writer = opening.result()
        except OSError as error:
            await self._ended(error)
        else:
            # `drain` is to wait until all of it is sent. With TLS a limit of 0 would have it wait for more than that.
            self._writer.transport.set_write_buffer_limits(high=1, low=0)
            self.machine.stream_opened(self._now())

    def _read_on(self) -> None:
        """Have one read under way, unless the application has enough to do."""
        if self._reader is None:
            return
        if len(self._events) >= ROOM and self._reading is None:
            if not self._is_paused:
                self.machine.reading_paused(self._now())
            self._is_paused = True
        elif self._reading is None:
            if self._is_paused:
                self.machine.reading_resumed(self._now())
            self._is_paused = False
            self._reading = self._start(self._reader.read(65_536))

    async def _receive(self) -> None:
        reading, self._reading = self._reading, None
        assert reading is not None, "it is done"
        try:
            data = reading.result()
        except OSError as error:
            await self._ended(error)
            return
        if data:
            self.machine.receive_data(data, self._now())
        else:
            await self._ended(None)

    def _flush(self) -> None:
        """Hand on what is to be sent, but no more than the stream takes: the machine has a limit on what waits."""
        if self._sending is not None:
            if not self._sending.done():
                return
            self._sending.exception()  # if it failed, reading does as well
            self._sending, self._send_by = None, math.inf
        if self._writer is not None and (data := self.machine.data_to_send()):
            self._writer.write(data)
            self._sending, self._send_by = self._start(self._writer.drain()), self._now() + SEND_TIMEOUT

    async def _ended(self, error: Exception | None) -> None:
        """The stream has ended, however: say so once."""
        self._broken = error
        await self._drop()
        self.machine.receive_data(b"", self._now())

    async def _say_goodbye(self) -> None:
        """Send the last bytes and end the stream in good order, if the peer takes part."""
        if self._writer is None:
            return
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(GOODBYE):
                self._writer.write(self.machine.data_to_send())
                self._writer.close()
                await self._writer.wait_closed()

    async def _drop(self) -> None:
        """Let go of the stream as it is, and of what goes on there."""
        opening, writer = self._opening, self._writer
        tasks = [task for task in (opening, self._reading, self._sending) if task is not None]
        self._opening = self._reading = self._sending = None
        self._reader = self._writer = None
        self._send_by = math.inf
        if self._is_paused:
            self._is_paused = False
            self.machine.reading_resumed(self._now())
        for task in tasks:
            task.cancel()
        if opening is not None:
            opening.add_done_callback(_abort)
        if writer is not None:
            writer.transport.abort()
        # From here on this may be cancelled.
        await asyncio.gather(*tasks, return_exceptions=True)
        if writer is not None:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _abort(opening: asyncio.Task[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    """Close what was opened too late to be of use."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[1].transport.abort()
