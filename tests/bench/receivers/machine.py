"""The documented loop on one socket, without an adapter: a bare `ExchangeConnection`, or a `Session` of one.

Run as `python -m bench.receivers.machine TASK bare|session`. `raw` reads the bytes and does nothing with them: what
`socket.recv`, or `SSLSocket.recv` within TLS, costs.
"""

from __future__ import annotations

import random
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

from bench.receivers.ours import Signer
from bench.receivers.tally import Tally, read_task
from bench.shapes import frames
from bench.task import Task
from etorox_proto import (
    Closed,
    Credentials,
    Dial,
    EventsReceived,
    ExchangeConfig,
    ExchangeConnection,
    Ready,
    Session,
    StartAttempt,
)


class _Line:
    """The socket of a machine."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.sock: socket.socket | None = None

    def open(self) -> None:
        """Connect, again if need be."""
        sock = socket.create_connection(("127.0.0.1", self._task.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._task.certificate:
            context = ssl.create_default_context(cafile=self._task.authority)
            sock = context.wrap_socket(sock, server_hostname="localhost")
        self.sock = sock


def _connection(task: Task) -> ExchangeConnection:
    return ExchangeConnection(
        ExchangeConfig(task.url),
        Credentials("KEY", Signer()),
        now=time.monotonic(),
        unix_time=time.time(),
        nonce="nonce",
        correlation_id="correlation",
    )


def _drive(line: _Line, machine: ExchangeConnection) -> Iterator[Any]:
    """The loop of `docs/howto/write-a-transport.md`; the machine's events, in batches."""
    while True:
        if (data := machine.data_to_send()) and line.sock is not None:
            line.sock.sendall(data)
        match machine.next_batch():
            case None:
                assert line.sock is not None
                machine.receive_data(line.sock.recv(65_536), time.monotonic())
            case Dial():
                line.open()
                machine.stream_opened(time.monotonic())
            case event:
                yield event


def _bare(task: Task, tally: Tally) -> None:
    machine = _connection(task)
    for event in _drive(_Line(task), machine):
        if type(event) is EventsReceived:
            for each in event.singly():
                tally.take(each.event)
        elif type(event) is Ready:
            machine.subscribe(["btcusd"], fields=task.fields, now=time.monotonic())
        assert type(event) is not Closed, event


def _session(task: Task, tally: Tally) -> None:
    session = Session(lambda _now, _skew: _connection(task), now=time.monotonic(), random=random.random)
    session.subscribe(["btcusd"], fields=task.fields, now=time.monotonic())
    action = session.next_action()
    assert isinstance(action, StartAttempt)
    machine = action.connection
    for said in _drive(_Line(task), machine):
        session.handle_event(machine, said, time.monotonic())
        while (event := session.next_batch()) is not None:
            if type(event) is EventsReceived:
                for each in event.singly():
                    tally.take(each.event)
            assert type(event) is not Closed, event


def _raw(task: Task, tally: Tally) -> None:
    machine, line = _connection(task), _Line(task)
    for event in _drive(line, machine):
        if type(event) is Ready:
            break
    machine.subscribe(["btcusd"], fields=task.fields, now=time.monotonic())
    sock = line.sock
    assert sock is not None
    sock.sendall(machine.data_to_send())
    parts = frames(task, ["2"])
    for count in (task.warmup, task.events):
        left = sum(map(len, islice(cycle(parts), count // task.per_frame)))
        while left > 0:
            left -= len(sock.recv(65_536))
        tally.turn(list(task.fields or range(11)))


def main() -> None:
    task = read_task()
    {"bare": _bare, "session": _session, "raw": _raw}[sys.argv[2]](task, Tally(task))


if __name__ == "__main__":
    main()
