"""Our own adapters, and the transports of the documentation, as the conformance cases want them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio

from etorox_proto.signalr import Connected, Dial, HubConfig, HubConnection, InvocationReceived
from etorox_transports import blocking
from etorox_transports.conformance import Attempt, Transport

EXAMPLES = Path(__file__).parent.parent.parent / "docs/examples"


class OfHub:
    """A hub of an asynchronous adapter."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub

    async def receive(self) -> tuple[str, list[Any]] | None:
        try:
            message = await anext(self._hub.invocations)
        except StopAsyncIteration:
            return None
        return message.target, list(message.arguments)

    async def send(self, target: str, *arguments: Any) -> None:
        await self._hub.send(target, *arguments)

    async def close(self) -> None:
        await self._hub.close()


class OfBlockingHub:
    """A hub of the blocking one."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub

    def receive(self) -> tuple[str, list[Any]] | None:
        try:
            message = next(self._hub.invocations)
        except StopIteration:
            return None
        return message.target, list(message.arguments)

    def send(self, target: str, *arguments: Any) -> None:
        self._hub.send(target, *arguments)

    def close(self) -> None:
        self._hub.close()


class OfEvents:
    """A connection that gives events, as transports from the documentation do."""

    def __init__(self, driven: Any) -> None:
        self._driven = driven

    async def receive(self) -> tuple[str, list[Any]] | None:
        async for event in self._driven:
            if isinstance(event, InvocationReceived):
                return event.target, event.arguments
        return None

    async def send(self, target: str, *arguments: Any) -> None:
        self._driven.do(lambda hub, now: hub.send(target, arguments, now=now))

    async def close(self) -> None:
        await self._driven.close()


def options(attempt: Attempt, wrap: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    def new_connection(_config: HubConfig, *, now: float) -> HubConnection:
        return attempt.new_machine(now)

    async def open_stream(dial: Dial) -> Any:
        assert attempt.open is not None, "it is asked for in memory only"
        stream = await attempt.open(dial)
        return stream if wrap is None else wrap(stream)

    options: dict[str, Any] = {"ssl_context": attempt.ssl_context, "new_connection": new_connection}
    return options if attempt.open is None else {**options, "open": open_stream}


def asynchronous(
    module: str, name: str, backend: Any, wrap: Callable[[Any], Any] | None = None, **rest: Any
) -> Transport:
    """An asynchronous adapter; `wrap` makes another one of each byte stream in memory."""
    library = importlib.import_module(f"etorox_transports.{module}")

    @contextlib.asynccontextmanager
    async def connect(attempt: Attempt) -> AsyncIterator[OfHub]:
        async with library.connect_hub(attempt.config, **options(attempt, wrap)) as hub:
            yield OfHub(hub)

    def run(main: Any) -> None:
        anyio.run(main, backend=backend, backend_options=rest)

    return Transport(connect, runs_on=backend, run=run, name=name, in_memory=not rest)


def new_blocking() -> Transport:
    @contextlib.contextmanager
    def connect(attempt: Attempt) -> Iterator[OfBlockingHub]:
        with blocking.connect_hub(attempt.config, **options(attempt)) as hub:
            yield OfBlockingHub(hub)

    return Transport(connect, runs_on="blocking", name="blocking")


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def streams(connection: Any = None, name: str = "asyncio streams") -> Transport:
    """The transport on asyncio's streams, or a variant of it."""
    kind = connection or example("asyncio_streams").StreamsConnection

    @contextlib.asynccontextmanager
    async def connect(attempt: Attempt) -> AsyncIterator[OfEvents]:
        async with kind(attempt.new_machine, attempt.ssl_context) as driven:
            async for event in driven:
                if isinstance(event, Connected):
                    break
            yield OfEvents(driven)

    return Transport(connect, name=name, in_memory=True)


OURS = {
    "anyio-asyncio": lambda: asynchronous("anyio", "anyio on asyncio", "asyncio"),
    "anyio-uvloop": lambda: asynchronous("anyio", "anyio on uvloop", "asyncio", use_uvloop=True),
    "anyio-trio": lambda: asynchronous("anyio", "anyio on trio", "trio"),
    "trio": lambda: asynchronous("trio", "trio", "trio"),
    "blocking": new_blocking,
    "streams": streams,
}
