"""The event loops that cases run on: asyncio's, trio's and none, in real time and in virtual time.

A `Loop` is what a case needs of one, beside the transport. In virtual time nothing is waited for: when nobody has
anything to do, the clock jumps to the next timer. trio has `MockClock` for that; asyncio's is in `_event_loop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, final

from etorox_transports.conformance._event_loop import VirtualEventLoop
from etorox_transports.conformance._transport import Transport

__all__ = ["Loop", "loop_of"]

_NO_TASKS = "there are no tasks where a transport blocks"
Main = Callable[[], Coroutine[Any, Any, None]]


class Loop(Protocol):
    """What cases need of an event loop, beside the transport."""

    def run(self, main: Main) -> None:
        """Run this until it has ended."""
        ...

    def now(self) -> float:
        """Seconds of the loop's clock."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...

    def new_event(self) -> Any:
        """An event that has not happened."""
        ...

    async def wait(self, event: Any, until: float = math.inf) -> None:
        """Wait for an event, or until a time."""
        ...

    def beside(self, run: Main) -> AbstractAsyncContextManager[None]:
        """Run this in a task beside the body, and cancel it at the end. What it raises ends the body."""
        ...

    async def cancelled_after(self, steps: int, body: Main) -> bool:
        """Run this in a task that is cancelled when it waits for the so manieth time; whether it came to that."""
        ...

    async def cancelled_at(self, time: float, body: Main) -> bool:
        """Run this, and cancel it at a time; whether it came to that."""
        ...

    def tasks(self) -> int:
        """How many tasks there are."""
        ...


def loop_of(transport: Transport, *, in_memory: bool = False) -> Loop:
    """The loop that a transport runs on; in virtual time for cases without sockets."""
    match transport.runs_on:
        case "asyncio" if in_memory:
            return _Asyncio(_run_virtual_asyncio)
        case "asyncio":
            return _Asyncio(transport.run or (lambda main: asyncio.run(main())))
        case "trio":
            return _Trio(transport, in_memory=in_memory)
        case "blocking":
            return _NoLoop()


def _run_virtual_asyncio(main: Main) -> None:
    with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
        runner.run(main())


@final
class _Steps:
    """An awaitable that runs a coroutine, and calls a function when it waits for the n-th time."""

    def __init__(self, body: Coroutine[Any, Any, None], steps: int, act: Callable[[], object]) -> None:
        self._body = body
        self._steps = steps
        self._act = act
        self.has_acted = False

    def __await__(self) -> Any:
        steps, answer, error = 0, None, None
        while True:
            try:
                waits_for = self._body.throw(error) if error is not None else self._body.send(answer)
            except StopIteration:
                return
            steps, answer, error = steps + 1, None, None
            if steps == self._steps:
                self.has_acted = True
                self._act()
            try:
                answer = yield waits_for
            except BaseException as thrown:  # noqa: BLE001 - it is for the body
                error = thrown


@final
class _Asyncio:
    def __init__(self, run: Callable[[Main], object]) -> None:
        self._run = run

    def run(self, main: Main) -> None:
        self._run(main)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def new_event(self) -> asyncio.Event:
        return asyncio.Event()

    async def wait(self, event: asyncio.Event, until: float = math.inf) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(None if until == math.inf else until):
                await event.wait()

    @contextlib.asynccontextmanager
    async def beside(self, run: Main) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(run())
            yield
            task.cancel()

    async def cancelled_after(self, steps: int, body: Main) -> bool:
        steps_of: list[_Steps] = []

        async def inner() -> None:
            current = asyncio.current_task()
            assert current is not None, "it runs"
            steps_of.append(_Steps(body(), steps, current.cancel))
            await steps_of[0]

        task = asyncio.ensure_future(inner())
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        return steps_of[0].has_acted

    async def cancelled_at(self, time: float, body: Main) -> bool:
        task = asyncio.ensure_future(body())
        _, pending = await asyncio.wait([task], timeout=max(time - self.now(), 0.0))
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        return bool(pending)

    def tasks(self) -> int:
        return len(asyncio.all_tasks())


@final
class _Trio:
    def __init__(self, transport: Transport, *, in_memory: bool) -> None:
        import trio  # noqa: PLC0415 - only who tests a transport of trio's needs it

        self._trio = trio
        self._run = self._run_virtually if in_memory else transport.run or trio.run

    def run(self, main: Main) -> None:
        self._run(main)

    def _run_virtually(self, main: Main) -> None:
        import trio.testing  # noqa: PLC0415 - as above

        self._trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    def now(self) -> float:
        return self._trio.current_time()

    async def sleep(self, seconds: float) -> None:
        await self._trio.sleep(seconds)

    def new_event(self) -> Any:
        return self._trio.Event()

    async def wait(self, event: Any, until: float = math.inf) -> None:
        with self._trio.CancelScope(deadline=until):
            await event.wait()

    @contextlib.asynccontextmanager
    async def beside(self, run: Main) -> AsyncIterator[None]:
        async with self._trio.open_nursery() as nursery:
            nursery.start_soon(run)
            yield
            nursery.cancel_scope.cancel()

    async def cancelled_after(self, steps: int, body: Main) -> bool:
        with self._trio.CancelScope() as scope:
            stepping = _Steps(body(), steps, scope.cancel)
            await stepping
        return stepping.has_acted

    async def cancelled_at(self, time: float, body: Main) -> bool:
        with self._trio.CancelScope(deadline=time) as scope:
            await body()
        return scope.cancelled_caught

    def tasks(self) -> int:
        return self._trio.lowlevel.current_statistics().tasks_living


@final
class _NoLoop:
    def run(self, main: Main) -> None:
        try:
            main().send(None)
        except StopIteration:
            return
        raise AssertionError("a case for a transport that blocks must not wait for anything else")

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - nothing else runs in this thread

    def new_event(self) -> Any:
        raise NotImplementedError(_NO_TASKS)

    async def wait(self, event: Any, until: float = math.inf) -> None:
        raise NotImplementedError(_NO_TASKS)

    def beside(self, run: Main) -> AbstractAsyncContextManager[None]:
        raise NotImplementedError(_NO_TASKS)

    async def cancelled_after(self, steps: int, body: Callable[[], Awaitable[None]]) -> bool:
        raise NotImplementedError(_NO_TASKS)

    async def cancelled_at(self, time: float, body: Callable[[], Awaitable[None]]) -> bool:
        raise NotImplementedError(_NO_TASKS)

    def tasks(self) -> int:
        return 0
