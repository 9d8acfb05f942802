"""signalrcore, used as its documentation does: a function that is called with each item, in its thread."""

from __future__ import annotations

import logging
import threading

from signalrcore.hub_connection_builder import HubConnectionBuilder
from signalrcore.types import HubProtocolEncoding

from bench.receivers.tally import Tally, read_task


def main() -> None:
    task = read_task()
    tally = Tally(task)
    opened = threading.Event()
    encoding = HubProtocolEncoding.text if task.encoding == "json" else HubProtocolEncoding.binary
    builder = HubConnectionBuilder().with_url(task.hub_url).with_hub_protocol(encoding)
    # It complains of each event that comes before `subscribe` below has returned.
    hub = builder.configure_logging(logging.CRITICAL + 1).build()
    hub.on_open(opened.set)
    hub.start()
    opened.wait()
    stream = hub.stream("subscribe", [{"channels": ["btcusd"], "event": "marketData"}])
    stream.subscribe({"next": tally.take, "complete": print, "error": print})
    threading.Event().wait()


if __name__ == "__main__":
    main()
