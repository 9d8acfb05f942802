"""One contract, five adapters: how a case that is written once runs on each of them.

A case is an async function of an `Adapter`. On the asynchronous adapters it runs in an event loop of its own; on the
blocking one its awaits never suspend, so that it is driven by hand in the test's thread. Every run has a time limit,
and must leave no task, no thread and no open file behind. The facade only evens out `await`; it decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib
import importlib.util
import inspect
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import anyio
import trio

from awaitable import BlockingExchange, BlockingHub, Entering
from etorox_proto import (
    Credentials,
    ExchangeConfig,
    ExchangeConnection,
    Session,
    SessionConfig,
    SessionEvent,
    generate_private_key,
    load_private_key,
)
from etorox_proto.signalr import HubConfig
from loopback import PATIENCE, LoopbackServer
from machines import API_KEY, StubSigner

# How long a case may take, in seconds; none needs a tenth of it.
LIMIT = 20.0

CREDENTIALS = Credentials(API_KEY, StubSigner())

# For the embedded exchange, which verifies signatures.
KEY = load_private_key(generate_private_key(2048))
SIGNED = Credentials(API_KEY, KEY)

# Comes back at once, as often as it takes.
QUICK = SessionConfig(backoff_base=0.002, backoff_cap=0.02, attempts_per_minute=10_000)


def where(server: LoopbackServer, **options: Any) -> ExchangeConfig:
    """How to reach this server; the options are those of `ExchangeConfig`."""
    return ExchangeConfig(server.url, **options)


class Feed(Protocol):
    """A `Feed` of any adapter, as a case sees it."""

    @property
    def handle(self) -> Any: ...
    @property
    def lag(self) -> int: ...
    @property
    def received(self) -> int: ...
    @property
    def delivered(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    def __aiter__(self) -> AsyncIterator[Any]: ...
    async def __anext__(self) -> Any: ...
    async def next(self, timeout: float = ...) -> Any: ...  # noqa: ASYNC109 - the adapters' own
    def close(self) -> None: ...


class Events(Protocol):
    """What `Exchange.events` of any adapter gives, as a case sees it."""

    def __aiter__(self) -> AsyncIterator[SessionEvent]: ...
    async def __anext__(self) -> SessionEvent: ...
    async def next(self, timeout: float = ...) -> SessionEvent: ...  # noqa: ASYNC109 - the adapters' own
    def close(self) -> None: ...


class Exchange(Protocol):
    """An `Exchange` of any adapter, as a case sees it."""

    @property
    def session(self) -> Session: ...
    @property
    def connection(self) -> ExchangeConnection | None: ...
    def subscribe(
        self,
        channels: Sequence[str],
        *,
        event: str = ...,
        fields: Sequence[str] | None = ...,
        stale_after: float | None = ...,
        capacity: int | None = ...,
        overload: Any = ...,
    ) -> Feed: ...
    def events(self, *, capacity: int | None = ..., overload: Any = ...) -> Events: ...
    async def close(self) -> None: ...


class Hub(Protocol):
    """A `Hub` of any adapter, as a case sees it."""

    @property
    def connection(self) -> Any: ...
    @property
    def invocations(self) -> Feed: ...
    async def invoke(self, target: str, *arguments: Any, **options: Any) -> Any: ...
    async def send(self, target: str, *arguments: Any, **options: Any) -> None: ...
    async def complete(self, invocation_id: str, *, result: Any = ..., error: str | None = ...) -> None: ...
    def stream(self, target: str, *arguments: Any, item_type: Any = ..., **options: Any) -> Feed: ...
    async def wait_for_room(self, timeout: float = ...) -> None: ...  # noqa: ASYNC109 - the adapters' own
    async def close(self) -> None: ...


@dataclass(frozen=True)
class Adapter:
    """One of the five.

    Attributes:
        name: for the test's id.
        module: below `etorox_transports`.
        backend: the event loop, None for none.
        uvloop: whether asyncio runs on uvloop.
    """

    name: str
    module: str
    backend: str | None
    uvloop: bool = False

    def __repr__(self) -> str:
        return self.name

    @property
    def library(self) -> Any:
        """The adapter's module."""
        return importlib.import_module(f"etorox_transports.{self.module}")

    def connect(
        self, config: ExchangeConfig | str, credentials: Credentials = CREDENTIALS, **options: Any
    ) -> AbstractAsyncContextManager[Exchange]:
        """`connect` of the adapter, to be entered with `async with`."""
        return self._entering(lambda: self.library.connect(config, credentials, **options), BlockingExchange)

    def connect_hub(self, config: HubConfig | str, **options: Any) -> AbstractAsyncContextManager[Hub]:
        """`connect_hub` of the adapter, to be entered with `async with`."""
        return self._entering(lambda: self.library.connect_hub(config, **options), BlockingHub)

    def _entering(self, make: Callable[[], Any], facade: Callable[[Any], Any]) -> AbstractAsyncContextManager[Any]:
        manager: AbstractAsyncContextManager[Any] = make() if self.backend is not None else Entering(make, facade)
        return manager

    def answering(self, function: Callable[[], float]) -> Callable[[], Any]:
        """A `time_source` that gives what this function gives."""

        async def answer() -> float:
            return function()

        return function if self.backend is None else answer

    async def work(self, seconds: float) -> None:
        """What a consumer does with an event: something else, for so long."""
        if self.backend is None:
            time.sleep(seconds)  # noqa: ASYNC251 - nothing else runs in this thread
        else:
            await anyio.sleep(seconds)

    async def until(self, predicate: Callable[[], object], server: LoopbackServer) -> None:
        """Wait for something at the server; the asynchronous adapters go on meanwhile."""
        if self.backend is None:
            server.wait(predicate)
            return
        end = time.monotonic() + PATIENCE
        while not predicate():
            assert time.monotonic() < end, "expected something that did not happen"
            await anyio.sleep(0.001)

    def run(self, case: Callable[[], Awaitable[None]], limit: float = LIMIT) -> None:
        """Run a case and see that nothing is left of it."""
        if self.uvloop:
            _warm_up()
        threads, files = living_threads(), open_files()
        problems: list[Any] = []
        with _alarm(limit + (5.0 if self.backend else 0.0)):
            if self.backend is None:
                _run_by_hand(case)
            else:
                options = {"use_uvloop": self.uvloop} if self.backend == "asyncio" else {}
                anyio.run(_supervised, case, limit, problems, backend=self.backend, backend_options=options)
        gc.collect()
        assert not problems, "the event loop had something to complain about"
        assert living_threads() <= threads, "no thread is left"
        assert open_files() <= files, "no file or socket is left open"


BLOCKING = Adapter("blocking", "blocking", None)
ASYNC_ADAPTERS = (
    Adapter("trio", "trio", "trio"),
    Adapter("anyio+asyncio", "anyio", "asyncio"),
    Adapter("anyio+trio", "anyio", "trio"),
    *([Adapter("anyio+asyncio+uvloop", "anyio", "asyncio", uvloop=True)] if importlib.util.find_spec("uvloop") else []),
)
ADAPTERS = (BLOCKING, *ASYNC_ADAPTERS)


def case(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test of a case; its adapter is the fixture `adapter`, or `async_adapter` if it needs two tasks."""
    name = next(iter(inspect.signature(function).parameters))

    @functools.wraps(function)
    def test(**fixtures: Any) -> None:
        adapter: Adapter = fixtures.pop(name)
        adapter.run(lambda: function(adapter, **fixtures))

    return test


@functools.cache
def _warm_up() -> None:
    """The first loop of uvloop opens a pipe that it keeps for those to come."""
    anyio.run(anyio.sleep, 0.0, backend="asyncio", backend_options={"use_uvloop": True})


async def first(events: AsyncIterator[Any], count: int) -> list[Any]:
    """The next so many events."""
    return [await anext(events) for _ in range(count)]


async def rest(events: AsyncIterator[Any]) -> list[Any]:
    """All events until the iteration ends."""
    return [event async for event in events]


async def _supervised(case: Callable[[], Awaitable[None]], limit: float, problems: list[Any]) -> None:
    """A case in an event loop: within its time, and no task left."""
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
    before = living_tasks()
    with anyio.fail_after(limit):
        await case()
    assert living_tasks() == before, "no task is left"


def living_tasks() -> int:
    """How many tasks the event loop has, this one included."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return trio.lowlevel.current_statistics().tasks_living


def living_threads() -> set[threading.Thread]:
    """The threads that live, without the ones that trio keeps for later."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith("Trio thread")}


def open_files() -> int:
    """How many files this process has open; 0 where the system does not say."""
    try:
        return len(list(Path("/proc/self/fd").iterdir()))
    except OSError:
        return 0


def _run_by_hand(case: Callable[[], Awaitable[None]]) -> None:
    steps = case().__await__()
    try:
        next(steps)
    except StopIteration:
        return
    raise AssertionError("a case for the blocking adapter awaits nothing but the facade")


@contextlib.contextmanager
def _alarm(limit: float) -> Iterator[None]:
    """The last resort against a case that hangs; where the system has none, there is none."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(_number: int, _frame: object) -> None:
        raise AssertionError(f"expected the case to end within {limit:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
