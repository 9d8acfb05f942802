"""One connection on one stream after another, so that redirects, lost streams and clients that come back are reached.

`{next}` in the bytes stands for the end of a stream and the beginning of the next, which is the one that the client has
asked for meanwhile, if it has; a client that asks for none finds its stream ended. `{back}` lets a client of a server
come back before its old stream has ended.
"""

from __future__ import annotations

import contextlib
import itertools
import re

from etorox_proto.signalr import (
    ConnectionClosed,
    ConnectionTokens,
    HubConfig,
    HubConnection,
    Resumed,
    ServerConfig,
    ServerConnection,
    State,
)
from targets.runs import LIMITS, LONGEST, NOW, Chunking, Run, check_cuts

__all__ = ["client", "returning_clients"]


def client(data: bytes) -> None:
    """Any bytes on any number of streams, from the negotiate reply on: as for `frames`, and commands do not raise.

    The first byte chooses the encoding (1) and compression (2). Stateful reconnect is asked for, so a connection may
    outlive its stream.
    """
    flags, streams = data[:1], data[1:LONGEST].split(b"{next}")

    def played(chunking: Chunking) -> object:
        run = _ask(binary=bool(flags) and flags[0] & 1 > 0, compression=bool(flags) and flags[0] & 2 > 0)
        for stream in streams:
            if run.machine.state is State.CLOSED:
                break
            run.open()
            for piece in chunking(run.filled(stream)):
                run.feed(piece)
            run.act()
            if not run.is_dialling:
                run.feed(b"")
        run.finish()
        return run.outcome()

    check_cuts(data, played)


def _ask(*, binary: bool, compression: bool) -> Run:
    config = HubConfig(
        url="http://localhost/hub",
        encoding="messagepack" if binary else "json",
        compression=compression,
        handles=["t"],
        stateful_reconnect=True,
        limits=LIMITS,
    )

    def greet(now: float) -> None:
        run.uploads += machine.invoke("call", uploads=1, now=now).uploads
        machine.stream("stream", now=now)

    machine = HubConnection(config, now=NOW, greet=greet)
    run = Run(machine, compares_delivery=False)
    return run


def returning_clients(data: bytes) -> None:
    """Any bytes to a server that resumes, on any number of streams: as for `server`, for every connection."""
    first, *rest = re.split(rb"(\{next\}|\{back\})", data[:LONGEST])
    streams = [(b"{next}", first), *zip(rest[::2], rest[1::2], strict=True)]
    check_cuts(data, lambda chunking: _serve(streams, chunking))


def _serve(streams: list[tuple[bytes, bytes]], chunking: Chunking) -> object:
    config = ServerConfig(stateful_reconnect=True, compression=True, limits=LIMITS)
    tokens = ConnectionTokens(f"name{number}" for number in itertools.count())
    runs: list[Run] = []
    at: Run | None = None
    for how, stream in streams:
        if at is not None and how == b"{next}":
            at.feed(b"")
        at = Run(ServerConnection(config, tokens=tokens, now=NOW))
        runs.append(at)
        for piece in chunking(stream):
            at.feed(piece)
            if len(at.events) > 1 and isinstance(at.events[-2], Resumed):
                at = _take_over(runs, at, at.events[-2])
        at.act()
    for run in runs:
        run.finish()
    return [run.outcome() for run in runs]


def _take_over(runs: list[Run], arrival: Run, told: Resumed) -> Run:
    """The connection whose client has come back on the stream of the arrival, or the arrival if it came too late."""
    (run,) = [run for run in runs if run.machine is told.connection]
    assert isinstance(arrival.machine, ServerConnection)
    run.feed(b"")
    with contextlib.suppress(ConnectionClosed):
        told.connection.resume(arrival.machine, now=NOW)
        run.drain()
        return run
    return arrival
