"""Byte streams that give what came in pieces of a test's choice, for the `open=` of any adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.abc

from etorox_proto import Dial
from etorox_transports.blocking import ByteStream, open_socket

Sizes = Callable[[int], int]
"""Given how many bytes a connection has been given so far, on all its streams: how many more to give at most."""


def one_by_one(_position: int) -> int:
    """Single bytes."""
    return 1


def cut_at(first: int, step: int) -> Sizes:
    """Cut behind so many bytes, and again and again after so many more."""
    return lambda position: step - (position - first) % step


class Scissors:
    """The opener of one connection, blocking or asynchronous.

    Attributes:
        position: how many bytes it was given so far.
    """

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self.position = 0

    def cut(self, waiting: bytes) -> int:
        """How many of these bytes to give now."""
        size = min(self._sizes(self.position), len(waiting))
        self.position += size
        return size

    def open_blocking(self, dial: Dial, timeout: float) -> ByteStream:
        """For the blocking adapter."""
        return _BlockingPieces(open_socket(dial, timeout), self)

    async def open(self, dial: Dial) -> Any:
        """For the asynchronous ones."""
        return _Pieces(await anyio.connect_tcp(dial.host, dial.port), self)


class _BlockingPieces:
    def __init__(self, stream: ByteStream, scissors: Scissors) -> None:
        self._stream = stream
        self._scissors = scissors
        self._waiting = b""

    def send_all(self, data: bytes, timeout: float) -> None:
        self._stream.send_all(data, timeout)

    def receive(self, timeout: float) -> bytes:
        self._waiting = self._waiting or self._stream.receive(timeout)
        size = self._scissors.cut(self._waiting)
        piece, self._waiting = self._waiting[:size], self._waiting[size:]
        return piece

    def close(self) -> None:
        self._stream.close()


class _Pieces:
    def __init__(self, stream: anyio.abc.ByteStream, scissors: Scissors) -> None:
        self._stream = stream
        self._scissors = scissors
        self._waiting = b""

    async def send_all(self, data: bytes, /) -> None:
        await self._stream.send(data)

    async def receive_some(self, max_bytes: int, /) -> bytes:
        if not self._waiting:
            try:
                self._waiting = await self._stream.receive(max_bytes)
            except anyio.EndOfStream:
                return b""
        size = self._scissors.cut(self._waiting)
        piece, self._waiting = self._waiting[:size], self._waiting[size:]
        return piece

    async def aclose(self) -> None:
        await self._stream.aclose()
