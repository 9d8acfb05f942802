"""Microsoft's clients on a server that `blocking.serve` made: its streams, its errors, its goodbye."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any

import pytest

from etorox_proto.signalr import Closed, Connected, InvocationReceived, ServerConfig, ServerEvent
from etorox_transports.blocking import Connection, Server, serve
from microsoft import PATIENCE, ClientError, Runtime, skip_without
from relay import Relay

skip_without()


class Application:
    """A handler that greets, fails and streams without end.

    Args:
        greets: whether it sends something as soon as a client is connected.

    Attributes:
        ended: is told how many items of a stream were made.
        told: what else it was told, oldest first.
    """

    def __init__(self, *, greets: bool = True) -> None:
        self._greets = greets
        self.ended: SimpleQueue[int] = SimpleQueue()
        self.told: list[ServerEvent] = []

    def __call__(self, connection: Connection, event: ServerEvent) -> None:
        match event:
            case Connected() if self._greets:
                connection.send("welcome", connection.connection_id)
            case InvocationReceived("Double", [value], str(call)):
                connection.complete(call, result=2 * value)
            case InvocationReceived("Numbers", [size], str(call)):
                connection.send_items(call, self._numbers("x" * size))
            case InvocationReceived("Fail"):
                raise ValueError("what the handler raised")
            case _:
                self.told.append(event)

    def _numbers(self, filling: str) -> Iterator[list[object]]:
        made = 0
        try:
            for made in itertools.count():
                yield [made, filling]
        finally:
            self.ended.put(made)


@contextlib.contextmanager
def started(runtime: Runtime, application: Application, *, port: int = 0, **options: Any) -> Iterator[Server]:
    origins = None if runtime.origin is None else [runtime.origin]
    config = ServerConfig(allowed_origins=origins, **options)
    with serve(application, port=port, config=config) as server:
        server.start()
        yield server


def at(server: Server | Relay) -> str:
    return f"http://127.0.0.1:{server.port}/hub"


def test_it_is_greeted_served_and_told_of_failures(
    runtime: Runtime, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    with started(runtime, Application()) as server:
        client = runtime.open(at(server), encoding=encoding)
        client.do("on", target="welcome")
        client.start()
        (connection,) = server.connections
        assert client.next("called") == {"target": "welcome", "values": [connection.connection_id]}
        assert client.invoke("Double", 21) == 42
        with pytest.raises(ClientError, match=r"An unexpected error occurred invoking 'Fail' on the server\.$"):
            client.invoke("Fail")
        assert "what the handler raised" in caplog.text
        assert client.invoke("Double", 4) == 8
        client.do("stop")


@pytest.mark.parametrize("compression", [False, True])
def test_a_stream_without_end_flows_until_it_is_disposed_of(runtime: Runtime, *, compression: bool) -> None:
    application = Application()
    with started(runtime, application, compression=compression) as server, runtime.connect(at(server)) as client:
        stream = client.stream("Numbers", 10_000, most=200)
        for number in range(200):
            assert client.next("item") == {"stream": stream, "item": [number, "x" * 10_000]}
        client.do("dispose", stream=stream)
        assert application.ended.get(timeout=PATIENCE) >= 200


def test_a_client_that_leaves_ends_its_streams(runtime: Runtime, encoding: str) -> None:
    application = Application()
    with started(runtime, application) as server:
        with runtime.connect(at(server), encoding=encoding) as client:
            client.stream("Numbers", 10_000, most=1)
            client.next("item")
        assert application.ended.get(timeout=PATIENCE) >= 0


def test_it_comes_back_to_the_server_that_was_started_again(current: Runtime, encoding: str) -> None:
    application = Application()
    with started(current, application) as server:
        client = current.open(at(server), encoding=encoding, reconnect=[0] + [100] * 50)
        client.start()
        port = server.port
    client.next("reconnecting")
    with started(current, application, port=port):
        client.next("reconnected")
        assert client.invoke("Double", 1) == 2
        client.do("stop")


def test_the_handler_does_not_notice_when_the_line_breaks(current: Runtime, encoding: str) -> None:
    # In Node the client does not count what comes in one piece with the handshake response, and after a loss takes one
    # message twice for each that it did not count. So nothing is sent before it has spoken.
    application = Application(greets=False)
    with (
        started(current, application, stateful_reconnect=True) as server,
        Relay(server.port) as relay,
        current.connect(at(relay), encoding=encoding, stateful=True) as client,
    ):
        client.do("on", target="news")
        (connection,) = server.connections
        before = relay.accepted
        for number in range(20):
            if number % 7 == 3:
                assert client.invoke("Double", 1) == 2  # it is back: what breaks while it resumes is lost
            server.call(partial(connection.send, "news", number))
            client.send("Log", number)
            if number % 7 == 3:
                relay.cut()
        assert [client.next("called")["values"] for _ in range(20)] == [[number] for number in range(20)]
        assert client.invoke("Double", 21) == 42
        logged = [event.arguments for event in application.told if isinstance(event, InvocationReceived)]
        assert logged == [[number] for number in range(20)]
        assert not any(isinstance(event, Closed) for event in application.told)
        assert server.connections == [connection]
        assert relay.accepted > before
