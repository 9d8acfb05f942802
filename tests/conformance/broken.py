"""Transports with a fault each, made of the one on asyncio's streams, and which cases must find it.

Run with a name it prints the score card as JSON: `python broken.py trusts_everybody`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from conformance.ours import example, streams
from etorox_transports.conformance import Transport, run

if TYPE_CHECKING:
    from docs.examples.asyncio_streams import StreamsConnection

    Streams = StreamsConnection[Any]
else:
    Streams = example("asyncio_streams").StreamsConnection


class FeedsTwice(Streams):
    """Tells the machine a part of what a read has brought, and then the rest."""

    async def _receive(self) -> None:
        reading: Any = self._reading
        if reading.exception() is None and len(reading.result()) > 1:
            self.machine.receive_data(reading.result()[:1], self._now())
            rest: Any = asyncio.get_running_loop().create_future()
            rest.set_result(reading.result()[1:])
            self._reading = rest
        await super()._receive()


class KeepsTimeBadly(Streams):
    """Keeps deadlines a second and a half too late."""

    def __init__(self, new_machine: Callable[[float], Any], tls: ssl.SSLContext) -> None:
        super().__init__(new_machine, tls)
        kind = type(self.machine)
        late = property(lambda machine: kind.deadline.fget(machine) + 1.5)
        self.machine.__class__ = type("Late", (kind,), {"deadline": late})


class TrustsEverybody(Streams):
    """Uses TLS, and asks for no certificate."""

    def __init__(self, new_machine: Callable[[float], Any], tls: ssl.SSLContext) -> None:
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        super().__init__(new_machine, trusting)
        del tls


class KnowsOneServer(Streams):
    """Opens every stream where it opened the first one."""

    first: Any = None

    async def _open(self, dial: Any) -> Any:
        self.first = self.first or dial
        return await super()._open(self.first)


class TellsTheEndTwice(Streams):
    """Notices the end of a stream in two ways."""

    async def _ended(self, error: Exception | None) -> None:
        await super()._ended(error)
        self.machine.receive_data(b"", self._now())


class ForgetsLostStreams(Streams):
    """Closes streams, but for those that the server has ended."""

    kept: list[Any] = []  # noqa: RUF012 - for ever

    async def _ended(self, error: Exception | None) -> None:
        self.kept.append(self._writer)
        self._writer = None
        await super()._ended(error)


class DropsTheRest(Streams):
    """Takes the end of the stream for the end of everything, and forgets the events that wait."""

    def _end(self, closed: Any) -> None:
        if closed.error is not None:
            self._events.clear()
        super()._end(closed)


class OpensUnasked(Streams):
    """Says of each stream twice that it is open."""

    async def _opened(self) -> None:
        await super()._opened()
        self.machine.stream_opened(self._now())


class HasTwoClocks(Streams):
    """Tells another time after each read."""

    async def _receive(self) -> None:
        now = self._now
        self._now = lambda: now() - 0.001
        await super()._receive()
        self._now = lambda: now() + 0.7


class SwallowsCommands(Streams):
    """Does not tell who gives a command that it was refused."""

    def do(self, command: Any) -> Any:
        try:
            return super().do(command)
        except Exception:
            return None


class Hoards(Streams):
    """Takes everything out of the machine at once, and lets the event loop keep what the peer does not take."""

    def _flush(self) -> None:
        if self._writer is not None:
            self._writer.write(self.machine.data_to_send())


class WaitsForThePeer(Streams):
    """Does nothing else while the peer does not take what is sent to it."""

    async def _wait(self) -> None:
        if self._sending is not None:
            await asyncio.wait([self._sending])
        await super()._wait()


class SendsWhenItIsWoken(Streams):
    """Does not wake up for a command."""

    def do(self, command: Any) -> Any:
        return command(self.machine, self._now())


class MumblesAndGivesUp(Streams):
    """Ends every connection without an error, or with one that says nothing."""

    def _end(self, closed: Any) -> None:
        super()._end(type(closed)(None if "goodbye" in str(closed.error) else closed.error and ValueError()))


class Passing:
    """A byte stream that passes everything on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive_some(self, max_bytes: int) -> bytes:
        received: bytes = await self._stream.receive_some(max_bytes)
        return received

    async def aclose(self) -> None:
        await self._stream.aclose()


class SendsTwoAtOnce(Passing):
    """Sends the halves of something from two tasks."""

    async def send_all(self, data: bytes) -> None:
        half = len(data) // 2
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(super().send_all(data[:half]))
            tasks.create_task(super().send_all(data[half:]))


class SendsAfterAPart(Passing):
    """Gives up a send that takes more than a second, and goes on with the next one."""

    async def send_all(self, data: bytes) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await super().send_all(data)


class SendsAfterTheEnd(Passing):
    """Says one thing more when it has closed."""

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            with contextlib.suppress(OSError):
                await super().send_all(b"bye")


class ReadsAfterTheEnd(Passing):
    """Looks once more when it has closed."""

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            with contextlib.suppress(OSError):
                await super().receive_some(1)


class StaysOpen(Passing):
    """Is not closed where that is cancelled."""

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        await super().aclose()


BROKEN: dict[str, tuple[Any, set[str]]] = {
    "feeds_twice": (FeedsTwice, {"law/drain_before_feed", "virtual/one_read_after_the_other"}),
    "keeps_time_badly": (
        KeepsTimeBadly,
        {
            *("open/server_that_says_nothing", "open/handshake_that_is_not_answered"),
            *("open/negotiation_that_is_not_answered", "tls/handshake_that_stalls", "tls/close_does_not_wait_for_ever"),
            *("time/pings_while_nothing_happens", "time/pings_while_messages_come", "time/silence_ends_it"),
            "time/silence_while_the_server_does_not_read",
            *("virtual/server_that_takes_nothing", "virtual/pings_to_the_moment", "virtual/silence_to_the_moment"),
            *("virtual/dial_that_is_not_answered", "virtual/server_that_says_nothing"),
            *("virtual/handshake_that_is_not_answered", "virtual/goodbye_that_is_not_answered"),
            *("virtual/lost_stream_whose_dial_is_not_answered", "virtual/pings_to_the_moment_while_messages_come"),
        },
    ),
    "trusts_everybody": (
        TrustsEverybody,
        {
            *("tls/authority_that_nobody_knows", "tls/certificate_for_another_name"),
            "tls/certificate_that_has_expired",
        },
    ),
    "knows_one_server": (KnowsOneServer, {"open/redirect_to_another_port", "open/redirect_to_another_host"}),
    "tells_the_end_twice": (
        TellsTheEndTwice,
        {
            *("law/end_of_a_stream_is_told_once", "open/stream_that_is_lost_is_dialled_again"),
            *("virtual/half_close", "virtual/reset_while_sending", "virtual/ten_streams_that_are_lost"),
            "virtual/lost_stream_whose_dial_is_not_answered",
        },
    ),
    "forgets_lost_streams": (
        ForgetsLostStreams,
        {
            *("open/server_that_hangs_up", "open/reply_that_ends_in_the_middle", "end/close_after_the_server_left"),
            *("end/half_close", "end/what_came_before_the_end_counts", "leak/ten_connections_that_failed"),
            *("virtual/end_after_every_byte", "virtual/reset_after_every_byte"),
            *("virtual/half_close", "virtual/server_that_speaks_and_takes_nothing"),
            "virtual/negotiation_that_is_interrupted",
        },
    ),
    "drops_the_rest": (
        DropsTheRest,
        {
            *("end/what_came_before_the_end_counts", "end/what_came_before_a_goodbye_counts"),
            "virtual/messages_and_the_goodbye_in_one_piece",
        },
    ),
    "hoards": (Hoards, {"virtual/server_that_speaks_and_takes_nothing", "virtual/what_waits_has_a_limit"}),
    "waits_for_the_peer": (
        WaitsForThePeer,
        {"virtual/server_that_takes_nothing", "virtual/server_that_speaks_and_takes_nothing"},
    ),
}


def broken(name: str) -> Transport:
    return streams(BROKEN[name][0], name)


if __name__ == "__main__":
    print(run(broken(sys.argv[1])).as_json())
