"""`Desk`: one application of a server, in the form of each adapter, for the contract suite of `serve`.

`BlockingDesk` is a handler of events, `AsyncDesk` one of a connection; they do the same and note the same. `serving`
runs the one that an adapter needs.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import anyio

from contract import Adapter
from etorox_proto.signalr import (
    Call,
    CancelReceived,
    Closed,
    Completed,
    Connected,
    InvocationReceived,
    UploadEnded,
    UploadItemReceived,
)
from etorox_transports.blocking import ConnectionEvent
from loopback import PATIENCE


class Desk:
    """What happened at a desk.

    Attributes:
        begun: the targets of the calls that came.
        cancelled: the targets of those that were cancelled, by the client or the end of its connection.
        most_queued: the most bytes that waited for a client when an item was made.
        left: how many clients have left.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.most_queued = 0
        self.left = 0

    def numbers(self, connection: Any, count: int | None, text: str) -> Iterator[list[Any]]:
        """The items of a stream."""
        for number in itertools.count() if count is None else range(count):
            self.most_queued = max(self.most_queued, connection.machine.queued_bytes)
            yield [number, text]


class BlockingDesk(Desk):
    """As `blocking.serve` wants it."""

    def __init__(self) -> None:
        super().__init__()
        self._targets: dict[tuple[Any, str], str] = {}
        self._totals: dict[tuple[Any, str], tuple[str, int]] = {}
        self._questions: dict[Call, str] = {}

    def __call__(self, connection: Any, event: ConnectionEvent) -> None:
        match event:
            case InvocationReceived():
                self.begun.append(event.target)
                if event.invocation_id is not None:
                    self._targets[connection, event.invocation_id] = event.target
                self._call(connection, event, event.invocation_id or "")
            case UploadItemReceived(stream_id, item):
                call, total = self._totals[connection, stream_id]
                if self._targets.get((connection, call)) == "echo":
                    connection.send_item(call, item)
                self._totals[connection, stream_id] = (call, total + item)
            case UploadEnded(stream_id, error):
                call, total = self._totals.pop((connection, stream_id))
                if error is not None:
                    raise RuntimeError(error)
                if self._targets.get((connection, call)) == "echo":
                    connection.complete(call)
                elif call:
                    connection.complete(call, result=total)
            case Completed(call, result, error):
                question = self._questions.pop(call)
                if error is not None:
                    connection.complete(question, error=f"you say: {error}")
                else:
                    connection.send_item(question, result)
                    connection.complete(question)
            case CancelReceived(call):
                self.cancelled.append(self._targets.pop((connection, call)))
                connection.complete(call)
            case Closed():
                self.left += 1
                silent = {key: target for key, target in self._targets.items() if key[0] is connection}
                self.cancelled += [target for target in silent.values() if target == "silence"]
            case Connected():
                pass

    def _call(self, connection: Any, event: InvocationReceived, call: str) -> None:
        match event.target, event.arguments:
            case "add", numbers:
                connection.complete(call, result=sum(numbers))
            case "where", []:
                connection.complete(call, result=[connection.path, dict(connection.query)["room"], event.headers])
            case "count", [count, text]:
                connection.send_items(call, self._noting_its_end(connection, call, count, text))
            case "break", [count]:
                connection.send_items(call, (1 // (count - number) for number in range(count + 1)))
            case (("total" | "echo"), []):
                self._totals[connection, event.uploads[0]] = (call, 0)
            case "ask", [question]:
                self._questions[connection.invoke("answer", question)] = call
            case "bye", []:
                connection.close(error="bye")
            case "silence", []:
                pass
            case _:
                raise LookupError(event.target)

    def _noting_its_end(self, connection: Any, call: str, count: int | None, text: str) -> Iterator[list[Any]]:
        try:
            yield from self.numbers(connection, count, text)
        except GeneratorExit:
            self.cancelled.append(self._targets.pop((connection, call)))
            raise


class AsyncDesk(Desk):
    """As `trio.serve` and `anyio.serve` want it."""

    async def __call__(self, connection: Any) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                async for call in connection:
                    self.begun.append(call.target)
                    tasks.start_soon(self._answer, connection, call)
        finally:
            self.left += 1

    async def _answer(self, connection: Any, call: Any) -> None:
        async with call:
            try:
                await self._call(connection, call)
            except anyio.get_cancelled_exc_class():
                self.cancelled.append(call.target)
                raise

    async def _call(self, connection: Any, call: Any) -> None:
        match call.target, call.arguments:
            case "add", numbers:
                await call.complete(sum(numbers))
            case "where", []:
                await call.complete([connection.path, dict(connection.query)["room"], call.headers])
            case "count", [count, text]:
                for item in self.numbers(connection, count, text):
                    await call.send_item(item)
            case "break", [count]:
                for number in range(count + 1):
                    await call.send_item(1 // (count - number))
            case "total", []:
                await call.complete(sum([item async for item in call.uploads[0]]))
            case "echo", []:
                async for item in call.uploads[0]:
                    await call.send_item(item)
            case "ask", [question]:
                try:
                    await call.send_item(await connection.invoke("answer", question))
                except Exception as error:
                    await call.complete(error=f"you say: {error}")
            case "bye", []:
                await connection.close(error="bye")
            case "silence", []:
                await anyio.sleep(math.inf)
            case _:
                raise LookupError(call.target)


@dataclass(frozen=True)
class Served:
    """A desk that is served.

    Attributes:
        desk: what happened there.
        server: of the adapter.
    """

    desk: Desk
    server: Any

    def url(self, path: str = "/hub", scheme: str = "http") -> str:
        """Where it is."""
        return f"{scheme}://localhost:{self.server.port}{path}"

    async def close(self) -> None:
        """End it, and say goodbye to its clients."""
        closing = self.server.close()
        if closing is not None:
            await closing

    async def until(self, adapter: Adapter, predicate: Any) -> None:
        """Wait for something at the server, which goes on meanwhile."""
        if adapter.backend is None:
            pause, end = threading.Event(), time.monotonic() + PATIENCE
            while not predicate():
                assert time.monotonic() < end, "expected something that did not happen"
                pause.wait(0.002)
        else:
            end = anyio.current_time() + PATIENCE
            while not predicate():
                assert anyio.current_time() < end, "expected something that did not happen"
                await anyio.sleep(0.001)


@contextlib.asynccontextmanager
async def serving(adapter: Adapter, **options: Any) -> AsyncIterator[Served]:
    """Serve a desk on this machine, in the adapter's way; the options are those of `serve`."""
    if adapter.backend is None:
        blocking = BlockingDesk()
        with adapter.library.serve(blocking, **options) as server:
            server.start()
            yield Served(blocking, server)
    else:
        desk = AsyncDesk()
        async with adapter.library.serve(desk, **options) as server:
            yield Served(desk, server)
