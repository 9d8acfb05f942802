"""`Sources`: what the application of a blocking hub uploads, an item at a time while the hub is inside of a method."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, final

from etorox_proto import ConnectionClosed
from etorox_proto.signalr import Completed, HubConnection, Upload
from etorox_transports._uploads import UPLOAD_ROOM, UploadFailures

__all__ = ["Sources"]

# How many items of an upload to send between two looks at what came.
_AT_ONCE = 64


@final
class Sources:
    """The uploads of one hub; false when there are none.

    Args:
        connection: the hub's.
    """

    def __init__(self, connection: HubConnection) -> None:
        self._connection = connection
        self._sources: dict[Upload, Generator[Any, None, None]] = {}
        self._failures = UploadFailures()

    def __bool__(self) -> bool:
        return bool(self._sources)

    def has(self, upload: Upload) -> bool:
        """Whether that one goes on."""
        return upload in self._sources

    def add(self, uploads: tuple[Upload, ...], sources: Sequence[Iterable[Any]]) -> None:
        """Send these from now on."""
        for upload, items in zip(uploads, sources, strict=True):
            self._sources[upload] = _each(items)

    def send_some(self) -> None:
        """Queue the next items of each, as far as there is room."""
        for upload, items in list(self._sources.items()):
            try:
                is_over = self._send_some_of(upload, items)
            except ConnectionClosed:
                is_over = True
            if is_over:
                del self._sources[upload]
                items.close()

    def explain(self, completed: Completed) -> None:
        """Name what an upload has raised as the cause of what the server made of that."""
        self._failures.explain(completed)

    def _send_some_of(self, upload: Upload, items: Iterator[Any]) -> bool:
        connection, failure = self._connection, None
        for _ in range(_AT_ONCE):
            if connection.queued_bytes > UPLOAD_ROOM or not connection.has_room:
                return False
            try:
                if not connection.send_item(upload, next(items), now=time.monotonic()):
                    return True
            except StopIteration:
                break
            except ConnectionClosed:
                return True
            except Exception as error:  # noqa: BLE001 - of the application's iterable; the server is told
                failure = self._failures.add(upload, error)
                break
        else:
            return False
        connection.end_upload(upload, error=failure, now=time.monotonic())
        return True


def _each(items: Iterable[Any]) -> Generator[Any, None, None]:
    """The same as a generator, which can be closed, and fails when it is asked and not before."""
    yield from items
