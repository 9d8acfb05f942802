"""Processor time of an event from socket bytes to the user's hands: shapes, encodings, messages in a frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from bench.cases import Case, microseconds, on_task
from bench.runs import OURS, PEERS
from bench.task import Encoding, Shape, Task

__all__ = ["cases", "key"]

_SHAPES: tuple[Shape, ...] = ("full", "row")


def key(shape: Shape, per_frame: int, encoding: Encoding = "json") -> str:
    """The name of a case."""
    return f"{shape}, {per_frame} a frame, {encoding}"


def cases(scale: float) -> Iterator[Case]:
    """All of them; what no goal is about gets fewer rounds."""
    for encoding in get_args(Encoding):
        for shape in _SHAPES:
            for per_frame in (1, 10):
                task = Task(
                    shape=shape,
                    encoding=encoding,
                    per_frame=per_frame,
                    warmup=int(20_000 * scale),
                    events=int(60_000 * scale),
                )
                yield Case(
                    shape if encoding == "json" else f"{shape}-messagepack",
                    key(shape, per_frame, encoding),
                    (*OURS, *PEERS, "decode only"),
                    on_task(task, microseconds),
                    rounds=3 if encoding == "messagepack" or (shape, per_frame) == ("row", 10) else 1_000,
                )
