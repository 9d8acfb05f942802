"""Our adapters, used as the documentation does: a `for` or `async for` over a feed of typed events with Decimals.

Run as `python -m bench.receivers.ours TASK ADAPTER`. MessagePack, which the exchange does not speak, goes through
`connect_hub` with a type for the items.
"""

from __future__ import annotations

import datetime
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

import anyio
import msgspec
import trio

import etorox_transports.anyio
import etorox_transports.blocking
import etorox_transports.trio
from bench.receivers.tally import Tally, finish, memory, read_task
from bench.task import Task
from etorox_proto import Credentials, Dial, EventReceived, ExchangeConfig
from etorox_proto.signalr import HubConfig

__all__ = ["Canceled", "Row", "Signer", "item_type"]


class Signer:
    """Signs at once: keys are not what is measured."""

    def sign(self, _payload: bytes, /) -> bytes:
        return b"signature"


class Canceled(msgspec.Struct, frozen=True):
    """The documented sample event, for a user of SignalR who knows no exchange."""

    origin_volume: Decimal
    price: Decimal
    id: str
    volume: Decimal
    delta: Decimal
    market: str
    name: str
    side: str
    state: str
    update_at: datetime.datetime
    snapshot_id: str


class Row(msgspec.Struct, frozen=True, array_like=True):
    """The same with a selector."""

    name: str
    price: Decimal
    side: str
    volume: Decimal


def item_type(task: Task) -> type[Canceled | Row]:
    """What items are decoded into where SignalR is used plainly."""
    return Canceled if task.shape == "full" else Row


class _Chunked:
    """A byte stream that reads no more than so many bytes at a time."""

    def __init__(self, dial: Dial, timeout: float, chunk: int) -> None:
        self._sock = socket.create_connection((dial.host, dial.port), timeout)
        self._chunk = chunk

    def send_all(self, data: bytes, timeout: float) -> None:
        self._sock.settimeout(timeout)
        self._sock.sendall(data)

    def receive(self, timeout: float) -> bytes:
        self._sock.settimeout(max(timeout, 0.0))
        try:
            return self._sock.recv(self._chunk)
        except BlockingIOError:
            raise TimeoutError from None

    def close(self) -> None:
        self._sock.close()


def _context(task: Task) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=task.authority) if task.certificate else None


def _exchange(task: Task) -> dict[str, Any]:
    """What all adapters' `connect` is called with."""
    return {
        "config": ExchangeConfig(task.url),
        "credentials": Credentials("KEY", Signer()),
        "ssl_context": _context(task),
    }


def _subscriptions(task: Task, exchange: Any) -> Any:
    """What is read: the feed of the only subscription, or all that the exchange says."""
    fields = task.fields
    if not task.merged:
        return exchange.subscribe(["btcusd"], fields=fields)
    for number in range(task.subscriptions):
        exchange.subscribe([f"market{number}"], fields=fields)
    return exchange.events()


# ------------------------------------------------------------------------------------------------------- blocking


def _blocking(task: Task) -> None:
    tally = Tally(task)
    opener = (lambda dial, timeout: _Chunked(dial, timeout, task.chunk)) if task.chunk else None
    if task.encoding == "json":
        with etorox_transports.blocking.connect(**_exchange(task), open=opener) as exchange:
            _read(task, tally, iter(_subscriptions(task, exchange)))
    config = HubConfig(url=task.hub_url, encoding=task.encoding)
    with etorox_transports.blocking.connect_hub(config) as hub:
        _read(task, tally, iter(hub.stream("subscribe", {}, item_type=item_type(task))))


def _read(task: Task, tally: Tally, feed: Iterator[Any]) -> None:
    if task.measure != "throughput":
        for event in feed:
            tally.take(event)
    if task.merged:
        feed = (event.event for event in feed if type(event) is EventReceived)
    for count in (task.warmup, task.events):
        last = None
        for event in islice(feed, count):
            last = event
        tally.turn(last)


# --------------------------------------------------------------------------------------------------- asynchronous


async def _async(task: Task, adapter: Any) -> None:
    tally = Tally(task)  # the event loop and its modules are there, as for the peers
    if task.encoding == "json":
        async with adapter.connect(**_exchange(task)) as exchange:
            await _read_async(task, tally, aiter(_subscriptions(task, exchange)))
    config = HubConfig(url=task.hub_url, encoding=task.encoding)
    async with adapter.connect_hub(config) as hub:
        await _read_async(task, tally, aiter(hub.stream("subscribe", {}, item_type=item_type(task))))


async def _read_async(task: Task, tally: Tally, feed: AsyncIterator[Any]) -> None:
    if task.measure != "throughput":
        async for event in feed:
            tally.take(event)
    for count in (task.warmup, task.events):
        left = count
        async for event in feed:
            if task.merged and type(event) is not EventReceived:
                continue
            left -= 1
            if not left:
                tally.turn(event.event if task.merged else event)
                break


async def _many(task: Task, adapter: Any) -> None:
    """Many connections in one process, each with a task that reads it."""
    tally = Tally(task)

    async def run(ready: anyio.Event) -> None:
        async with adapter.connect(**_exchange(task)) as exchange:
            feed = exchange.subscribe(["btcusd"], fields=task.fields)
            ready.set()
            async for event in feed:
                tally.take(event)

    before = memory()
    async with anyio.create_task_group() as tasks:
        for _ in range(task.connections):
            ready = anyio.Event()
            tasks.start_soon(run, ready)
            await ready.wait()
        if task.measure == "idle":
            await anyio.sleep(1)
            watched = Tally(task)
            await anyio.sleep(task.seconds)
            finish(cpu=watched.cpu(), before=before, memory=memory())


def main() -> None:
    task, name = read_task(), sys.argv[2]
    receive: Callable[..., Any] = _async if task.connections == 1 and task.measure != "idle" else _many
    if name == "blocking":
        _blocking(task)
    elif name == "trio":
        trio.run(receive, task, etorox_transports.trio)
    else:
        backend, options = {
            "asyncio": ("asyncio", {}),
            "uvloop": ("asyncio", {"use_uvloop": True}),
            "anyio on trio": ("trio", {}),
        }[name]
        anyio.run(receive, task, etorox_transports.anyio, backend=backend, backend_options=options)


if __name__ == "__main__":
    main()
