"""Ten thousand reconnections and a million events on a real loopback: what is left of them in memory, files and tasks.

Run it as `python tests/transports/soak.py --adapter trio`; it prints a table and fails if anything grows. The other
side is a process of its own that answers with bytes made beforehand: it accepts the WebSocket, the handshake and
`setup` in one breath, and after `subscribe` sends so many events and hangs up. `test_soak` runs a short form.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

if sys.platform != "win32":
    import resource

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from contract import ADAPTERS, Adapter, living_tasks, living_threads, open_files
from etorox_proto import Credentials, ExchangeConfig, Gap, SessionConfig, encode_event
from loopback_exchange import numbered
from machines import API_KEY, HANDSHAKE, accept, hub_frame

# Comes back at once, for ever.
RESTLESS = SessionConfig(backoff_base=1e-6, backoff_cap=1e-6, attempts_per_minute=10_000_000)

# What memory may grow by from the middle of the run to its end, in bytes: the allocator and the ceiling's own list of
# the attempts of the last minute (32 bytes for each) need some.
SLACK = 1_000_000


class _Signer:
    """Signs at once, and remembers nothing."""

    def sign(self, _payload: bytes, /) -> bytes:
        return b"signature"


class Measure(msgspec.Struct, frozen=True):
    """What the process holds at some moment.

    Attributes:
        events: how many have been received.
        reconnects: how many gaps have been seen.
        seconds: since the beginning.
        memory: bytes of resident memory; the most so far where the system does not tell the present.
        files: open files and sockets.
        threads: that live.
        tasks: of the event loop.
    """

    events: int
    reconnects: int
    seconds: float
    memory: int
    files: int
    threads: int
    tasks: int


def resident() -> int:
    """Bytes of resident memory now, or at most so far; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# ------------------------------------------------------------------------------------------------------ the server


class _Peer:
    """One client of the lean server."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.heard = b""
        self.is_accepted = False
        self.unsent = b""


def _frames(heard: bytes) -> Iterator[bytes]:
    """The payloads of the complete frames in what a client sent; none is longer than 65,535 bytes."""
    while len(heard) >= 8:
        size, start = heard[1] & 127, 2
        if size == 126:
            size, start = int.from_bytes(heard[2:4]), 4
        mask, payload = heard[start : start + 4], heard[start + 4 : start + 4 + size]
        if len(payload) < size:
            return
        yield bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        heard = heard[start + 4 + size :]


def serve(events: int) -> None:
    """Serve until killed; the port is the first line printed.

    Args:
        events: how many each connection gets before it is hung up on.
    """
    items = [msgspec.Raw(encode_event(numbered("btcusd", number + 1))) for number in range(events)]
    stream = b"".join(hub_frame(b'{"type":2,"invocationId":"2","item":' + bytes(item) + b"}") for item in items)
    greeting = HANDSHAKE + hub_frame({"type": 3, "invocationId": "1", "result": {"status": "success"}})
    selector = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    selector.register(listener, selectors.EVENT_READ)
    print(listener.getsockname()[1], flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(sock, selectors.EVENT_READ, _Peer(sock))
            elif not _serve(key.data, greeting, stream):
                selector.unregister(key.fileobj)
                key.data.sock.close()


def _serve(peer: _Peer, greeting: bytes, stream: bytes) -> bool:
    """Answer what a client sent. Whether it is still there."""
    try:
        data = peer.sock.recv(65_536)
        peer.heard += data
        if not peer.is_accepted and b"\r\n\r\n" in peer.heard:
            head, _, peer.heard = peer.heard.partition(b"\r\n\r\n")
            peer.is_accepted = True
            peer.sock.sendall(accept(head + b"\r\n\r\n") + greeting)
        if peer.is_accepted and any(b'"subscribe"' in frame for frame in _frames(peer.heard)):
            peer.heard = b""
            peer.sock.sendall(stream)
            peer.sock.shutdown(socket.SHUT_WR)
    except OSError:
        return False
    return bool(data)


@contextlib.contextmanager
def lean_server(events: int) -> Iterator[int]:
    """The server in a process of its own; its port."""
    command = [sys.executable, __file__, "--serve", str(events)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


# ------------------------------------------------------------------------------------------------------ the client


async def soak(adapter: Adapter, port: int, reconnects: int, events: int) -> list[Measure]:
    """Reconnect so often, and receive so many events from each connection.

    Returns:
        What was measured after a tenth, in the middle and at the end.
    """
    measures: list[Measure] = []
    began = time.monotonic()
    config = ExchangeConfig(f"http://127.0.0.1:{port}", skip_negotiation=True)
    async with adapter.connect(config, Credentials(API_KEY, _Signer()), session=RESTLESS) as exchange:
        feed = exchange.subscribe(["btcusd"])
        received = gaps = 0
        moments = [reconnects // 10, reconnects // 2, reconnects]
        while gaps < reconnects:
            event = await anext(feed)
            if not isinstance(event, Gap):
                received += 1
                continue
            gaps += 1
            assert received == gaps * events, "every event of every connection has come, once"
            if gaps in moments:
                gc.collect()
                measures.append(
                    Measure(
                        events=received,
                        reconnects=gaps,
                        seconds=time.monotonic() - began,
                        memory=resident(),
                        files=open_files(),
                        threads=len(living_threads()),
                        tasks=living_tasks() if adapter.backend else 0,
                    )
                )
        assert feed.dropped == 0
        assert exchange.session.gaps == gaps
    return measures


def check_flat(measures: list[Measure]) -> None:
    """Nothing grows from the middle to the end; a rotation's worth of files and tasks may be under way."""
    _, middle, end = measures
    assert end.memory - middle.memory <= SLACK, "memory is flat"
    assert end.files <= middle.files + 1, "files are flat"
    assert end.threads <= middle.threads, "threads are flat"
    assert end.tasks <= middle.tasks + 3, "tasks are flat"


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser(description="Reconnect and receive, again and again, and see what grows.")
    parser.add_argument("--adapter", choices=[adapter.name for adapter in ADAPTERS], default="blocking")
    parser.add_argument("--reconnects", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=1_000_000, help="in all")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve)
        return
    adapter = next(adapter for adapter in ADAPTERS if adapter.name == options.adapter)
    measures: list[Measure] = []
    each = options.events // options.reconnects

    async def run() -> None:
        measures.extend(await soak(adapter, port, options.reconnects, each))

    with lean_server(each) as port:
        adapter.run(run, limit=3_600.0)
    print(f"{adapter.name}: events, reconnects, seconds, MB, files, threads, tasks")
    for measure in measures:
        print(
            f"{measure.events:>10} {measure.reconnects:>7} {measure.seconds:>7.1f} {measure.memory / 1e6:>7.2f} "
            f"{measure.files:>4} {measure.threads:>3} {measure.tasks:>3}"
        )
    check_flat(measures)


if __name__ == "__main__":
    main()
