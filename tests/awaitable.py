"""The blocking adapter with the spelling of the asynchronous ones, for cases that are written once.

Every method does what it wraps; none of the awaits suspends, so that no event loop is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import Any


class Entering:
    """`async with` for a blocking context manager."""

    def __init__(self, make: Callable[[], Any], facade: Callable[[Any], Any]) -> None:
        self._make = make
        self._facade = facade
        self._native: Any = None

    async def __aenter__(self) -> Any:
        self._native = self._make()
        return self._facade(self._native.__enter__())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        return self._native.__exit__(kind, error, traceback)


class BlockingIterator:
    def __init__(self, native: Any) -> None:
        self._native = native

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def __aiter__(self) -> BlockingIterator:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._native)
        except StopIteration:
            raise StopAsyncIteration from None

    async def next(self, timeout: float = math.inf) -> Any:  # noqa: ASYNC109 - the adapter's own
        try:
            return self._native.next(timeout)
        except StopIteration:
            raise StopAsyncIteration from None


class BlockingConnection:
    def __init__(self, native: Any) -> None:
        self._native = native

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    async def close(self) -> None:
        self._native.close()


class BlockingExchange(BlockingConnection):
    def subscribe(self, *arguments: Any, **options: Any) -> BlockingIterator:
        return BlockingIterator(self._native.subscribe(*arguments, **options))

    def events(self, **options: Any) -> BlockingIterator:
        return BlockingIterator(self._native.events(**options))


class BlockingHub(BlockingConnection):
    async def invoke(self, *arguments: Any, **options: Any) -> Any:
        return self._native.invoke(*arguments, **options)

    async def send(self, *arguments: Any, **options: Any) -> None:
        self._native.send(*arguments, **options)

    async def complete(self, *arguments: Any, **options: Any) -> None:
        self._native.complete(*arguments, **options)

    async def wait_for_room(self, timeout: float = math.inf) -> None:  # noqa: ASYNC109 - the adapter's own
        self._native.wait_for_room(timeout)

    def stream(self, *arguments: Any, **options: Any) -> BlockingIterator:
        return BlockingIterator(self._native.stream(*arguments, **options))

    @property
    def invocations(self) -> BlockingIterator:
        return BlockingIterator(self._native.invocations)
