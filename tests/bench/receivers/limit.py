"""The limit: decoding alone, with msgspec into a typed event with Decimals; no socket, no frame, no envelope."""

from __future__ import annotations

from itertools import cycle, islice

import msgspec

from bench.receivers.ours import item_type
from bench.receivers.tally import Tally, read_task
from bench.shapes import item


def main() -> None:
    task = read_task()
    codec = msgspec.json if task.encoding == "json" else msgspec.msgpack
    decode = codec.Decoder(item_type(task), strict=False).decode
    items = [codec.encode(item(task, number)) for number in range(2_000)]
    tally = Tally(task)
    for count in (task.warmup, task.events):
        event = None
        for encoded in islice(cycle(items), count):
            event = decode(encoded)
        tally.turn(event)


if __name__ == "__main__":
    main()
