"""`Hub`: the verbs of a connection to any SignalR hub; what runs beneath them is `HubDriver`.

There is no reconnection: what a call or a stream means after one, only the application knows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, final

import msgspec

from etorox_proto.signalr import HubConfig, HubConnection
from etorox_transports._async._backend import AsyncOpener, Backend
from etorox_transports._async._feed import Feed
from etorox_transports._async._hub_driver import HubDriver
from etorox_transports._async._uploads import Items
from etorox_transports._attempt import NewHub
from etorox_transports._queue import Overload, new_queue

__all__ = ["Hub", "new_hub"]


@final
class Hub:
    """A connection to any SignalR hub; made by `connect_hub`, and used with `async with`.

    Its methods may be called by several tasks of the event loop, at any time; from other threads they may not. Leaving
    the context is as with `Exchange`.
    """

    def __init__(self, driver: HubDriver, *, feed_capacity: int, overload: Overload) -> None:
        new_queue(feed_capacity, overload)  # to refuse at once what cannot be used
        self._driver = driver
        self._capacity = feed_capacity
        self._overload = overload
        self._invocations = Feed(None, driver.invocations, driver.consumers, lambda: None)

    def __repr__(self) -> str:
        return f"<Hub: {self._driver}>"

    async def __aenter__(self) -> Self:
        await self._driver.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._driver.leave(error)

    @property
    def connection(self) -> HubConnection:
        """The machine, to look at."""
        return self._driver.connection

    @property
    def invocations(self) -> Feed:
        """What the hub calls on this client: a feed of `InvocationReceived`. It holds the last thousand."""
        return self._invocations

    async def invoke(
        self,
        target: str,
        *arguments: Any,
        result_type: Any = Any,
        uploads: Sequence[Items] = (),
        headers: Mapping[str, str] | None = None,
        timeout: float = math.inf,  # noqa: ASYNC109 - as in the blocking adapter
    ) -> Any:
        """Call a method of the hub and wait for its result. If that is cancelled, the hub is told.

        Args:
            target: the method's name.
            arguments: anything that msgspec can encode.
            result_type: what the result is decoded into.
            uploads: streams for the method, something to iterate for each; they are left out of `arguments`. An item is
                asked for when there is room for it. What one raises fails that stream at the server, and is the cause
                of the `HubError` if the method then fails.
            headers: hub message headers.
            timeout: seconds to wait; the call is then cancelled.

        Raises:
            LocalProtocolError: it cannot be called; nothing was sent.
            HubError: the server answered with an error.
            TimeoutError: no answer came in time.
            ConnectionFailed: the connection ended; the `CallLost` that says whether it was sent is its context.
            CallLost: we closed the connection.
        """
        until = self._driver.consumers.backend.now() + timeout
        return await self._driver.invoke(
            target, arguments, result_type=result_type, uploads=uploads, headers=headers, until=until
        )

    def stream(
        self,
        target: str,
        *arguments: Any,
        item_type: Any = Any,
        uploads: Sequence[Items] = (),
        headers: Mapping[str, str] | None = None,
        capacity: int | None = None,
        overload: Overload | None = None,
    ) -> Feed:
        """Call a streaming method; its items are read from the feed. It waits for nothing.

        Args:
            target: the method's name.
            arguments: anything that msgspec can encode.
            item_type: what each item is decoded into.
            uploads: as for `invoke`; they go on until the stream ends.
            headers: hub message headers.
            capacity: how many items may wait in the feed; by default as `connect_hub` was told.
            overload: what happens to more; by default as `connect_hub` was told.

        Raises:
            LocalProtocolError: it cannot be called; nothing was sent.
        """
        return self._driver.stream(
            target,
            arguments,
            item_type=item_type,
            uploads=uploads,
            headers=headers,
            capacity=self._capacity if capacity is None else capacity,
            overload=self._overload if overload is None else overload,
        )

    async def send(
        self, target: str, *arguments: Any, uploads: Sequence[Items] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        """Call a method without asking for an answer. It is queued at once, and sent while other tasks run.

        Args:
            target: the method's name.
            arguments: anything that msgspec can encode.
            uploads: as for `invoke`; they go on in the background. Nothing tells that the method has lost interest.
            headers: hub message headers.

        Raises:
            LocalProtocolError: it cannot be called; nothing was sent.
        """
        self._driver.send(target, arguments, uploads=uploads, headers=headers)
        await self._driver.consumers.backend.checkpoint()

    async def complete(self, invocation_id: str, *, result: Any = msgspec.UNSET, error: str | None = None) -> None:
        """Answer a call of the hub's, one of those in `invocations` that have an id; see `HubConfig.handles`.

        Args:
            invocation_id: of the `InvocationReceived`.
            result: anything that msgspec can encode.
            error: the reason of a failure, shown to the hub.

        Raises:
            LocalProtocolError: that id awaits no answer, or it cannot be sent; nothing was sent.
        """
        self._driver.complete(invocation_id, result, error)
        await self._driver.consumers.backend.checkpoint()

    async def wait_for_room(
        self,
        timeout: float = math.inf,  # noqa: ASYNC109 - as in the blocking adapter
    ) -> None:
        """Wait until no command is refused because too many bytes wait to be sent, or to be acknowledged.

        Args:
            timeout: seconds to wait.

        Raises:
            TimeoutError: the hub has not taken enough in time.
            ConnectionFailed: the connection ended.
            ConnectionClosed: we closed it.
        """
        await self._driver.wait_for_room(self._driver.consumers.backend.now() + timeout)

    async def close(self) -> None:
        """Say goodbye, wait for the answer for a few seconds at most, close. Calling it again does nothing."""
        await self._driver.close()


def new_hub(
    backend: Backend,
    config: HubConfig | str,
    *,
    open_stream: AsyncOpener,
    feed_capacity: int,
    overload: Overload,
    new_connection: NewHub,
) -> Hub:
    """What `connect_hub` of an adapter returns; see there."""
    where = HubConfig(url=config) if isinstance(config, str) else config
    driver = HubDriver(backend, open_stream, where, new_connection)
    return Hub(driver, feed_capacity=feed_capacity, overload=overload)
