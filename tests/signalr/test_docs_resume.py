"""How a driver of servers lets clients come back is written in "Write a transport"; this runs it."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from etorox_proto.signalr import (
    Closed,
    Completed,
    ConnectionClosed,
    ConnectionTokens,
    Detached,
    Dial,
    InvocationReceived,
    Resumed,
    ServerConfig,
    ServerConnection,
    State,
)
from machines import hub, names, take

PAGE = Path(__file__).parents[2] / "docs/howto/write-a-transport.md"


def drain_server() -> Any:
    (source,) = re.findall(r"^```python\n(def drain_server.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    known: dict[str, Any] = {each.__name__: each for each in (Closed, ConnectionClosed, Detached, Resumed)}
    exec(compile(source, str(PAGE), "exec"), known)
    return known["drain_server"]


class Wire:
    """The server's end of a stream whose other end is the only client."""

    def __init__(self) -> None:
        self.to_client = b""
        self.is_open = True

    def send(self, data: bytes) -> None:
        assert self.is_open
        self.to_client += data

    def close(self) -> None:
        assert self.is_open
        self.is_open = False


@pytest.mark.parametrize("seed", range(20))
def test_the_code_lets_clients_come_back(seed: int) -> None:
    source, settle, now = random.Random(seed), drain_server(), 0.0
    tokens = ConnectionTokens(names())
    config = ServerConfig(stateful_reconnect=True)
    client = hub("http://localhost/hub", stateful_reconnect=True)
    streams: dict[ServerConnection, Wire] = {}
    wires: list[Wire] = []
    asked: list[int] = []
    outcomes: list[Any] = []
    connections: set[ServerConnection] = set()

    def deliver(machine: ServerConnection, event: Any) -> None:
        connections.add(machine)
        if isinstance(event, InvocationReceived):
            asked.append(event.arguments[0])
            assert event.invocation_id is not None
            machine.complete(event.invocation_id, result=asked[-1], now=now)

    def machine_at(wire: Wire) -> ServerConnection | None:
        return next((machine for machine, each in streams.items() if each is wire), None)

    def turn() -> bool:
        moved = False
        for event in take(client):
            moved = True
            if isinstance(event, Dial):
                wires.append(Wire())
                machine = ServerConnection(config, tokens=tokens, now=now)
                streams[machine] = wires[-1]
                client.stream_opened(now)
            elif isinstance(event, Completed):
                outcomes.append((event.result, event.error))
        if data := client.data_to_send():
            moved = True
            machine_there = machine_at(wires[-1])
            if machine_there is not None:
                machine_there.receive_data(data, now)
                settle(machine_there, streams, deliver, now)
        data, wires[-1].to_client = wires[-1].to_client, b""
        if data:
            client.receive_data(data, now)
        return moved or bool(data)

    def carry() -> None:
        while turn():
            pass

    carry()
    assert client.is_stateful
    for number in range(30):
        client.invoke("echo", [number], now=now)
        for _ in range(source.randrange(4)):
            turn()
        if client.state is State.CONNECTED:
            broken = machine_at(wires[-1])
            if source.random() < 0.5 and broken is not None:
                broken.receive_data(b"", now)
                settle(broken, streams, deliver, now)
            client.receive_data(b"", now)
        carry()
    assert asked == list(range(30))
    assert outcomes == [(number, None) for number in range(30)]
    assert len(connections) == 1
    client.close(now=now)
    carry()
    assert [machine.state for machine in connections] == [State.CLOSED]
    assert sum(wire.is_open for wire in wires) == len(streams)
    assert len(tokens) == 0
