"""`Producers`: the tasks that send what an application uploads, each as fast as the server takes it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, final

from etorox_proto import ConnectionClosed
from etorox_proto.signalr import Completed, HubConnection, Upload
from etorox_transports._async._backend import Backend, Scope
from etorox_transports._async._lane import Lane
from etorox_transports._uploads import UPLOAD_ROOM, UploadFailures

__all__ = ["Items", "Producers"]

Items = AsyncIterable[Any] | Iterable[Any]
"""What is uploaded."""


@final
class Producers:
    """The uploads of one hub.

    Args:
        backend: the library.
        lane: the connection, and its stream.
        settle: to be called after a command.
        wait_for_room: waits until the machine takes more, or has ended.
    """

    def __init__(
        self,
        backend: Backend,
        lane: Lane[HubConnection],
        settle: Callable[[], None],
        wait_for_room: Callable[[], Awaitable[None]],
    ) -> None:
        self._backend = backend
        self._lane = lane
        self._connection = lane.machine
        self._settle = settle
        self._wait_for_room = wait_for_room
        self._scopes: dict[Upload, Scope] = {}
        self._failures = UploadFailures()

    async def run(self, upload: Upload, items: Items) -> None:
        """Send these until there are no more, or nobody wants them."""
        connection, backend = self._connection, self._backend
        failure: str | None = None
        self._scopes[upload] = scope = backend.new_scope()
        try:
            with scope:
                async with contextlib.aclosing(_each(items)) as each:
                    async for item in each:
                        await self._lane.wait_for_room(UPLOAD_ROOM)
                        await self._wait_for_room()
                        if not connection.send_item(upload, item, now=backend.now()):
                            return
                        self._settle()
        except ConnectionClosed:
            return
        except Exception as error:  # noqa: BLE001 - of the application's iterable; the server is told
            failure = self._failures.add(upload, error)
        finally:
            del self._scopes[upload]
        if upload.is_open:
            with contextlib.suppress(ConnectionClosed):
                connection.end_upload(upload, error=failure, now=backend.now())
                self._settle()

    def look(self) -> None:
        """Something happened: stop those that nobody wants any more."""
        for upload, scope in self._scopes.items():
            if not upload.is_open:
                scope.cancel()

    def explain(self, completed: Completed) -> None:
        """Name what an upload has raised as the cause of what the server made of that."""
        self._failures.explain(completed)


async def _each(items: Items) -> AsyncGenerator[Any, None]:
    if isinstance(items, AsyncIterable):
        each = aiter(items)
        try:
            async for item in each:
                yield item
        finally:
            if (close := getattr(each, "aclose", None)) is not None:
                await close()
    else:
        for item in items:
            yield item
