"""What every example in `docs/howto/embed.md` must do: each scenario is a function of a runner, and asserts.

The servers are the embedded exchange and a scripted one, on real loopback ports. This file can also be started, with
the names of a framework and a scenario: an event loop that belongs to a whole process gets one of its own.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import re
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request, TextMessage

from embedding_runners import API_KEY, CANCELLED, CREDENTIALS, KEY, RUNNERS, Client, Runner
from etorox_proto import ConnectionLost, EventReceived, ExchangeConfig, Limits, Ready, ServerClosed, TimedOut
from etorox_transports.cli._host import SimulatorHost
from hosts import served

__all__ = ["SCENARIOS", "Consumer", "config", "exchange"]


def config(port: int, **options: Any) -> ExchangeConfig:
    return ExchangeConfig(f"http://127.0.0.1:{port}", **options)


@contextlib.contextmanager
def exchange(rate: float = 2_000.0, **options: Any) -> Iterator[SimulatorHost]:
    """The embedded exchange. Afterwards no client may have left a stream open."""
    with served(API_KEY, KEY.public_key, rate=rate, **options) as host:
        yield host
        until = time.monotonic() + 5.0
        while host.clients and time.monotonic() < until:
            threading.Event().wait(0.01)
        assert host.clients == 0


class Consumer:
    """Subscribes when it can, counts the events, and does something at the one with a certain number."""

    def __init__(self, number: int, act: Callable[[Client], object]) -> None:
        self.seen = 0
        self._number = number
        self._act = act

    def __call__(self, client: Client, event: object) -> None:
        if isinstance(event, Ready):
            client.subscribe()
        elif isinstance(event, EventReceived):
            self.seen += 1
            if self.seen == self._number:
                self._act(client)


# ---------------------------------------------------------------------------------------------- the scripted server


class Talk:
    """The server's side of one WebSocket; `setup` has been answered."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._websocket = WSConnection(ConnectionType.SERVER)
        self._text = ""
        self.records = self._read()
        next(self.records)  # the handshake
        self.send({})
        setup = next(record for record in self.records if record.get("target") == "setup")
        self.send({"type": 3, "invocationId": setup["invocationId"], "result": {"status": "success"}})

    def send(self, record: dict[str, Any]) -> None:
        self._sock.sendall(self._websocket.send(TextMessage(data=json.dumps(record) + "\x1e")))

    def _read(self) -> Iterator[dict[str, Any]]:
        while data := self._sock.recv(65_536):
            self._websocket.receive_data(data)
            for event in self._websocket.events():
                if isinstance(event, Request):
                    self._sock.sendall(self._websocket.send(AcceptConnection()))
                elif isinstance(event, TextMessage):
                    *records, self._text = (self._text + event.data).split("\x1e")
                    yield from map(json.loads, records)


@contextlib.contextmanager
def scripted(script: Callable[[Talk], object], **options: Any) -> Iterator[ExchangeConfig]:
    """A server for one client, which does as the script says and leaves when that has ended; how to reach it."""
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(20.0)
                script(Talk(sock))
        except BaseException as error:
            failures.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20.0)
        thread = threading.Thread(target=serve)
        thread.start()
        yield config(listener.getsockname()[1], skip_negotiation=True, **options)
        thread.join()
    assert not failures, failures


# --------------------------------------------------------------------------------------------------- the scenarios


def streams_until_closed(run: Runner) -> None:
    consumer = Consumer(100, Client.close)
    with exchange() as host:
        assert run(config(host.port), consumer) is None
    assert consumer.seen >= 100


def takes_commands_from_outside(run: Runner) -> None:
    began: list[float] = []

    def on_event(client: Client, event: object) -> None:
        assert isinstance(event, Ready)
        began.append(time.monotonic())
        client.later(0.0, client.close)

    # Nothing is subscribed, so for the next seconds only the command can wake the loop.
    with exchange() as host:
        assert run(config(host.port, close_timeout=30.0), on_event) is None
    assert time.monotonic() - began[0] < 10.0


def says_that_the_server_left(run: Runner) -> None:
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(served(API_KEY, KEY.public_key, rate=2_000.0))
        error = run(config(host.port), Consumer(10, lambda _client: stack.close()))
    assert isinstance(error, ServerClosed | ConnectionLost)
    assert "closed the connection" in str(error)


def says_why_no_stream_could_be_opened(run: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    error = run(config(port), Consumer(1, Client.close))
    assert isinstance(error, Exception)
    assert "could not" in str(error)
    assert "refused" in repr(error.__cause__).lower()


def keeps_the_opening_deadline(run: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = run(config(silent.getsockname()[1], opening_timeout=0.1), Consumer(1, Client.close))
    assert "did not answer the negotiate request within 0.1 s" in str(error)


def gives_up_a_dial_at_the_deadline(run: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        secure = ExchangeConfig(f"https://127.0.0.1:{silent.getsockname()[1]}", opening_timeout=0.2)
        error = run(secure, Consumer(1, Client.close))
        assert_left(silent)
    assert isinstance(error, TimedOut)
    assert "was opened within 0.2 s" in str(error)


def closes_everything_when_cancelled_while_dialling(run: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        secure = ExchangeConfig(f"https://127.0.0.1:{silent.getsockname()[1]}")

        def cancel_once_it_has_come(client: Client) -> None:
            if select.select([silent], [], [], 0)[0]:
                client.cancel()
            else:
                client.later(0.01, lambda: cancel_once_it_has_come(client))

        outcome = run(secure, Consumer(1, Client.close), at_start=cancel_once_it_has_come)
        assert outcome == CANCELLED
        assert_left(silent)


def assert_left(listener: socket.socket) -> None:
    """The one client that came has left again."""
    listener.settimeout(5.0)
    sock, _ = listener.accept()
    with sock, contextlib.suppress(ConnectionResetError):
        sock.settimeout(5.0)
        while sock.recv(65_536):
            pass


def pings_by_the_clock(run: Runner) -> None:
    def count(talk: Talk) -> None:
        for _ in range(4):
            next(record for record in talk.records if record == {"type": 6})
        talk.send({"type": 7})
        assert [record for record in talk.records if record != {"type": 6}] == []

    with scripted(count, ping_interval=0.1) as server:
        began = time.monotonic()
        error = run(server, Consumer(1, Client.close))
        assert 0.3 <= time.monotonic() - began < 10.0  # the first ping is not waited for
    assert isinstance(error, ServerClosed)


def gives_up_a_silent_server(run: Runner) -> None:
    with scripted(lambda talk: list(talk.records), server_timeout=0.2) as server:
        error = run(server, Consumer(1, Client.close))
    assert isinstance(error, TimedOut)
    assert "within 0.2 s" in str(error)


def reads_before_it_gives_up(run: Runner) -> None:
    """The consumer is away for longer than the server may be silent, which the server is not."""
    consumer, closer = Consumer(5, lambda _client: threading.Event().wait(0.7)), Consumer(50, Client.close)

    def on_event(client: Client, event: object) -> None:
        consumer(client, event)
        if not isinstance(event, Ready):
            closer(client, event)

    with exchange() as host:
        assert run(config(host.port, server_timeout=0.5, ping_interval=0.1), on_event) is None


def does_not_wait_for_a_peer_that_does_not_read(run: Runner) -> None:
    gone = threading.Event()

    def on_event(client: Client, event: object) -> None:
        if isinstance(event, Ready):
            client.subscribe("x" * 2**24)

    with scripted(lambda _talk: gone.wait(20.0), limits=Limits(queued_bytes=2**25)) as server:
        began = time.monotonic()
        error = run(server, on_event, send_timeout=0.5)
        assert 0.5 <= time.monotonic() - began < 10.0
        gone.set()
    assert isinstance(error, ConnectionLost)
    assert error.__cause__ is not None


def closes_everything_when_cancelled(run: Runner) -> None:
    with exchange() as host:
        assert run(config(host.port), Consumer(10, lambda client: client.cancel())) == CANCELLED


def raises_what_the_consumer_raises(run: Runner) -> None:
    mistake = ValueError("a mistake of the consumer")

    def fail(_client: Client) -> None:
        raise mistake

    with exchange() as host, pytest.raises(ValueError, match="a mistake") as caught:
        run(config(host.port), Consumer(10, fail))
    assert caught.value is mistake


@contextlib.contextmanager
def exchange_with_tls(name: str) -> Iterator[tuple[ExchangeConfig, bytes]]:
    """The exchange, reached as `localhost`, with a certificate for that name; and the authority that issued it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(server)
    with exchange(ssl_context=server) as host:
        yield ExchangeConfig(f"https://localhost:{host.port}"), authority.cert_pem.bytes()


def streams_over_tls(run: Runner) -> None:
    consumer = Consumer(200, Client.close)
    with exchange_with_tls("localhost") as (secure, authority):
        assert run(secure, consumer, authority) is None
    assert consumer.seen >= 200


def refuses_an_unknown_authority(run: Runner) -> None:
    with exchange_with_tls("localhost") as (secure, _):
        error = run(secure, Consumer(1, Client.close))
    assert isinstance(error, Exception)
    assert "could not" in str(error)
    assert "cert" in repr(error.__cause__)


def refuses_a_certificate_for_another_name(run: Runner) -> None:
    with exchange_with_tls("somewhere.else") as (secure, authority):
        error = run(secure, Consumer(1, Client.close), authority)
    assert isinstance(error, Exception)
    assert "could not" in str(error)
    assert error.__cause__ is not None


def begins_as_the_page_says(framework: str) -> None:
    """Run the block of `docs/howto/embed.md` under the heading of the framework, with a consumer that closes."""
    docs = Path(__file__).parent.parent / "docs"
    sys.path.insert(0, str(docs / "examples"))
    beginning, *sections = re.split(r"^## ", (docs / "howto/embed.md").read_text(), flags=re.MULTILINE)
    section = next(section for section in sections if framework in section.partition("\n")[0].lower())
    with exchange() as host:
        names: dict[str, Any] = {"HOST": f"http://127.0.0.1:{host.port}", "credentials": CREDENTIALS}
        exec(python_block(beginning), names)
        consumer = Consumer(10, Client.close)
        client = Client(names["session" if framework == "asyncio" else "connection"])
        exec(python_block(section), names | {"deliver": functools.partial(consumer, client)})
    assert consumer.seen >= 10


def python_block(text: str) -> str:
    block = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    return block[1]


SCENARIOS: dict[str, Callable[[Runner], None]] = {
    scenario.__name__: scenario
    for scenario in (
        streams_until_closed,
        takes_commands_from_outside,
        says_that_the_server_left,
        says_why_no_stream_could_be_opened,
        keeps_the_opening_deadline,
        gives_up_a_dial_at_the_deadline,
        pings_by_the_clock,
        gives_up_a_silent_server,
        reads_before_it_gives_up,
        does_not_wait_for_a_peer_that_does_not_read,
        closes_everything_when_cancelled,
        closes_everything_when_cancelled_while_dialling,
        raises_what_the_consumer_raises,
        streams_over_tls,
        refuses_an_unknown_authority,
        refuses_a_certificate_for_another_name,
    )
}


if __name__ == "__main__":
    _, framework, name = sys.argv
    if name == begins_as_the_page_says.__name__:
        begins_as_the_page_says(framework)
    else:
        SCENARIOS[name](RUNNERS[framework])
    gc.collect()
