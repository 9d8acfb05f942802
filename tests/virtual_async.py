"""Event loops in virtual time, for tests of the asynchronous adapters.

A `Loop` runs an async function on trio or asyncio with a clock that jumps to the next deadline when nobody has anything
to do. `virtual` makes a test of a function of a `World`, in which there are an exchange, a hub, and the way to them in
memory; it runs on every loop, and sees that no task and no stream is left.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import importlib
import inspect
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import anyio
import pytest
import trio.testing

from etorox_proto import Credentials, ExchangeConfig, OrderCreated
from etorox_proto.signalr import HubConfig
from etorox_proto.testing import ExchangeRules, FakeExchange, FakeSigner
from etorox_transports.conformance import VirtualEventLoop
from memory_network import AddingHub, MemoryNetwork

CREDENTIALS = Credentials("0f8fad5b-d9cb-469f-a165-70867728950e", FakeSigner())


@dataclass(frozen=True)
class Loop:
    """An adapter and the event loop that it runs in.

    Attributes:
        name: for the test's id.
        module: the adapter.
        backend: `asyncio` or `trio`.
    """

    name: str
    module: str
    backend: str

    def __repr__(self) -> str:
        return self.name

    @property
    def library(self) -> Any:
        return importlib.import_module(f"etorox_transports.{self.module}")

    def run(self, function: Callable[[], Awaitable[None]]) -> None:
        """Run it in virtual time."""
        if self.backend == "trio":
            trio.run(function, clock=trio.testing.MockClock(autojump_threshold=0))
        else:
            anyio.run(function, backend_options={"loop_factory": VirtualEventLoop})

    def jump(self, seconds: float) -> None:
        """Let time pass in which the loop is not run, as when the application blocks it."""
        if self.backend == "trio":
            clock = trio.lowlevel.current_clock()
            assert isinstance(clock, trio.testing.MockClock)
            clock.jump(seconds)
        else:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualEventLoop)
            loop.jump(seconds)


LOOPS = (Loop("trio", "trio", "trio"), Loop("anyio+asyncio", "anyio", "asyncio"), Loop("anyio+trio", "anyio", "trio"))


class LoopClock:
    """The clock of the running loop, for a `FakeExchange`. Clients sign with the wall clock, so that is its own too."""

    @property
    def now(self) -> float:
        return anyio.current_time()

    @property
    def unix_time(self) -> float:
        return time.time()


class World:
    """A `FakeExchange` and an `AddingHub`, and the way to them, for one test.

    Attributes:
        loop: what it runs in.
        rules: of the exchange.
        exchange: the exchange.
        hub: the hub.
        network: what carries the bytes to the exchange.
        hub_network: what carries the bytes to the hub.
    """

    def __init__(self, loop: Loop) -> None:
        self.rules = ExchangeRules()
        self.exchange = FakeExchange(LoopClock(), self.rules)
        self.network = MemoryNetwork(self.exchange)
        self.hub = AddingHub()
        self.hub_network = MemoryNetwork(self.hub.host)
        self.loop = loop
        self._numbers = itertools.count(1)

    def connect(self, host: str = "http://localhost", *, config: dict[str, Any] | None = None, **options: Any) -> Any:
        """`connect` of the adapter. Times of the configuration go into `config`."""
        options.setdefault("open", self.network.open)
        return self.loop.library.connect(ExchangeConfig(host, **config or {}), CREDENTIALS, **options)

    def connect_hub(self, *, config: dict[str, Any] | None = None, **options: Any) -> Any:
        """`connect_hub` of the adapter. Members of the configuration go into `config`."""
        options.setdefault("open", self.hub_network.open)
        return self.loop.library.connect_hub(HubConfig(url="http://localhost/hub", **config or {}), **options)

    def publish(self, count: int = 1, channel: str = "btcusd") -> None:
        """Send numbered events."""
        for number in itertools.islice(self._numbers, count):
            price = Decimal(number)
            now = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
            event = OrderCreated(
                market=channel, id=str(number), side="bid", volume=price, price=price, state="wait", updated_at=now
            )
            self.exchange.publish(channel, event)
        self.network.kick()


def number_of(event: Any) -> int:
    """The number of an event that was published by `World`."""
    assert isinstance(event, OrderCreated)
    return int(event.id)


def virtual(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test of an async function of a `World` (and of fixtures): it runs on every loop, and nothing is left."""

    @functools.wraps(function)
    def test(**fixtures: Any) -> None:
        loop: Loop = fixtures.pop("loop")
        loop.run(lambda: _within_a_world(World(loop), function, fixtures))

    parameters = list(inspect.signature(function).parameters.values())[1:]
    loop_parameter = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
    vars(test)["__signature__"] = inspect.Signature([*parameters, loop_parameter])
    decorated: Callable[..., None] = pytest.mark.parametrize("loop", LOOPS, ids=repr)(test)
    return decorated


async def _within_a_world(world: World, function: Callable[..., Awaitable[None]], fixtures: dict[str, Any]) -> None:
    async with anyio.create_task_group() as tasks:
        networks = (world.network, world.hub_network)
        for network in networks:
            tasks.start_soon(network.serve)
        await anyio.wait_all_tasks_blocked()
        before = {task.id for task in anyio.get_running_tasks()}
        with anyio.fail_after(100_000.0):
            await function(world, **fixtures)
        after = {task.id for task in anyio.get_running_tasks()}
        tasks.cancel_scope.cancel()
    assert after == before, "no task is left"
    for network in networks:
        assert not network.open_streams, "no stream is left open"
        assert not network.problems
