"""pysignalr, used as its documentation does: a coroutine that is called with each item."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

from pysignalr.client import SignalRClient
from pysignalr.protocol.json import JSONProtocol
from pysignalr.protocol.messagepack import MessagepackProtocol

from bench.receivers.tally import Tally, finish, memory, read_task


async def main() -> None:
    task = read_task()
    tally = Tally(task)
    take = tally.take

    async def on_next(item: Any) -> None:
        take(item)

    def new_client() -> tuple[SignalRClient, asyncio.Event]:
        opened = asyncio.Event()
        client = SignalRClient(
            task.hub_url,
            protocol=JSONProtocol() if task.encoding == "json" else MessagepackProtocol(),
            ssl=ssl.create_default_context(cafile=task.authority) if task.certificate else None,
        )

        async def on_open() -> None:
            opened.set()

        client.on_open(on_open)
        return client, opened

    tasks = []
    before = memory()
    for _ in range(task.connections):
        client, opened = new_client()
        tasks.append(asyncio.create_task(client.run()))
        await opened.wait()
        argument: Any = {"channels": ["btcusd"], "event": "marketData"}
        await client.stream("subscribe", [argument], on_next)
    if task.measure == "idle":
        await idle(task.seconds, before)
    await asyncio.gather(*tasks)


async def idle(seconds: float, before: int) -> None:
    """Watch silent connections."""
    await asyncio.sleep(1)
    began = time.process_time()
    await asyncio.sleep(seconds)
    finish(cpu=time.process_time() - began, before=before, memory=memory())


if __name__ == "__main__":
    asyncio.run(main())
