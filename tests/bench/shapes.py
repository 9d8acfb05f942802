"""The bytes of events, made before anything is sent: what the exchange would put on a stream, varied.

Knows the documented sample event, the row that a selector makes of it, both encodings and the WebSocket frame; knows
nothing of connections. Source: the exchange's streaming documentation, and the SignalR hub protocol.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from bench.task import Encoding, Task

__all__ = ["event", "frame", "frames", "item", "pack", "record"]

# So many different events are made, and then repeated.
_VARIETY = 2_000
# A variety of long messages is kept to so many bytes.
_LONGEST = 8_000_000


def event(number: int) -> dict[str, Any]:
    """The documented sample event with other values; each number has its own, the same in every run."""
    values = random.Random(number)
    volume = round(values.uniform(0.01, 90.0), 4)
    moment = f"{number // 3_600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.{number % 1000:03}"
    return {
        "origin_volume": volume,
        "price": round(values.uniform(1.0, 60_000.0), 2),
        "id": f"{values.getrandbits(32):08x}-8fa4-4e3b-8bd3-{values.getrandbits(48):012x}",
        "volume": volume,
        "delta": -volume,
        "market": "btcusd",
        "name": "order_canceled",
        "side": values.choice(["bid", "ask"]),
        "state": "cancelled",
        "update_at": f"2020-07-28T{moment}Z",
        "snapshot_id": str(234_989_823_423 + number),
    }


def item(task: Task, number: int, call: str = "2") -> Any:
    """The item with this number, as its stream would carry it.

    Args:
        task: says the shape, and how long a `sized` message has to be.
        number: which one.
        call: the invocation id of the stream, whose length counts in a `sized` message.
    """
    whole = event(number)
    if task.shape == "sized":
        whole["id"] = ""
        bare = len(record("json", call, [whole[field] for field in task.fields or ()]))
        whole["id"] = "x" * (task.size - bare)
    return whole if task.fields is None else [whole[field] for field in task.fields]


def record(encoding: Encoding, call: str, value: Any) -> bytes:
    """A StreamItem, delimited as its encoding has it."""
    if encoding == "json":
        text = json.dumps(value, separators=(",", ":"))
        return f'{{"type":2,"invocationId":{json.dumps(call)},"item":{text}}}\x1e'.encode()
    return pack([2, {}, call, value])


def pack(message: Any) -> bytes:
    """A hub message in MessagePack with its length before it."""
    body = msgspec.msgpack.encode(message)
    size, prefix = len(body), bytearray()
    while size > 127:
        prefix.append(size & 127 | 128)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + body


def frame(encoding: Encoding, payload: bytes) -> bytes:
    """A server's WebSocket frame: whole, final, not masked."""
    size = len(payload)
    opcode = 0x81 if encoding == "json" else 0x82
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 65_536:
        return struct.pack("!BBH", opcode, 126, size) + payload
    return struct.pack("!BBQ", opcode, 127, size) + payload


def frames(task: Task, calls: Sequence[str]) -> list[bytes]:
    """What the streams of one connection carry before it is repeated.

    Args:
        task: says the shape and how many messages make a frame.
        calls: the invocation ids of the streams; they get their items in turn.
    """
    count = min(_VARIETY, max(_LONGEST // max(task.size, 1), 4), task.total)
    count = -(-count // (len(calls) * task.per_frame)) * len(calls) * task.per_frame
    records = []
    for number in range(count):
        call = calls[number % len(calls)]
        records.append(record(task.encoding, call, item(task, number, call)))
    return [
        frame(task.encoding, b"".join(records[start : start + task.per_frame]))
        for start in range(0, count, task.per_frame)
    ]
