"""`blocking.serve`: what only it has: a thread or none, iteration, and streams that are asked for."""

from __future__ import annotations

import contextlib
import itertools
import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from etorox_proto import ConnectionClosed, LocalProtocolError, ServerClosed
from etorox_proto.signalr import (
    CallCancelled,
    Closed,
    Completed,
    Connected,
    HubConfig,
    HubError,
    InvocationReceived,
    Limits,
    ServerConfig,
    ServerEvent,
)
from etorox_transports import ServeLimits
from etorox_transports.blocking import Connection, Handler, Hub, Server, connect_hub, serve


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the server has said of failures."""
    caplog.set_level(logging.WARNING, "etorox_transports")
    return caplog


@contextlib.contextmanager
def serving(handler: Handler, **options: Any) -> Iterator[Server]:
    with serve(handler, **{"limits": ServeLimits(shutdown_timeout=0.2), **options}) as server:
        server.start()
        yield server


def hub(server: Server, **options: Any) -> Hub:
    return connect_hub(HubConfig(url=f"http://127.0.0.1:{server.port}/hub", **options))


def echo(connection: Connection, event: ServerEvent) -> None:
    if isinstance(event, InvocationReceived) and event.invocation_id is not None:
        connection.complete(event.invocation_id, result=event.arguments)


def in_thread(client: Any) -> threading.Thread:
    thread = threading.Thread(target=client)
    thread.start()
    return thread


class TestRunning:
    def test_in_the_callers_thread_until_the_handler_stops_it(self) -> None:
        server: Server

        def handler(connection: Connection, event: ServerEvent) -> None:
            echo(connection, event)
            if isinstance(event, Closed):
                server.stop()

        def client() -> None:
            with hub(server) as connected:
                assert connected.invoke("echo", 1) == [1]

        with serve(handler) as server:
            thread = in_thread(client)
            server.run()
        thread.join(5.0)

    def test_until_a_signal(self) -> None:
        """As the page says; the handler of a signal runs in the midst of it all."""
        before = signal.getsignal(signal.SIGTERM)
        try:
            with serve(echo) as server:
                signal.signal(signal.SIGTERM, lambda *_: server.stop())

                def client() -> None:
                    with hub(server) as connected:
                        assert connected.invoke("echo", 1) == [1]
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

                thread = in_thread(client)
                server.run()
            thread.join(5.0)
        finally:
            signal.signal(signal.SIGTERM, before)

    def test_iterated(self) -> None:
        with serve() as server:
            with pytest.raises(TimeoutError):
                server.next(0.01)
            with pytest.raises(LocalProtocolError, match="handler"):
                server.run()

            def client() -> None:
                with hub(server) as connected:
                    assert connected.invoke("echo", 1) == [1]

            thread = in_thread(client)
            events = []
            for connection, event in server:
                echo(connection, event)
                events.append(type(event))
                assert (server.connections == [connection]) == (not isinstance(event, Closed))
                if isinstance(event, Closed):
                    server.stop()
            thread.join(5.0)
        assert events == [Connected, InvocationReceived, Closed]
        assert list(server) == []

    def test_by_other_threads(self) -> None:
        with serving(echo) as server, hub(server) as connected:
            assert connected.invoke("echo") == []

            def tell() -> int:
                for connection in server.connections:
                    connection.send("told", connection.path, headers={"a": "b"})
                return len(server.connections)

            assert server.call(tell) == 1
            assert connected.invocations.next(5.0).arguments == ["/hub"]
            with pytest.raises(LookupError, match="of the function"):
                server.call(fail)
            with pytest.raises(LocalProtocolError, match="no thread yet"):
                server.start()
        with pytest.raises(LocalProtocolError, match="runs"):
            server.call(tell)

    def test_a_port_that_is_taken(self) -> None:
        with serve(echo) as server, pytest.raises(OSError, match="in use"):
            serve(echo, port=server.port)


def fail() -> Any:
    raise LookupError("of the function")


class TestHandler:
    def test_that_fails_when_a_client_comes_shows_it_out(self, logged: pytest.LogCaptureFixture) -> None:
        def handler(_connection: Connection, event: ServerEvent) -> None:
            if isinstance(event, Connected):
                raise LookupError

        refused = pytest.raises(ServerClosed, match=r"Connection closed with an error\.")
        with serving(handler) as server, hub(server) as connected, refused:
            list(connected.invocations)
        assert len([record for record in logged.records if record.exc_info]) == 1

    def test_that_comes_too_late_is_no_failure(self, logged: pytest.LogCaptureFixture) -> None:
        late: list[type[Exception]] = []

        def handler(connection: Connection, event: ServerEvent) -> None:
            if isinstance(event, Closed):
                for command in (lambda: connection.send("told"), lambda: connection.invoke("asked")):
                    try:
                        command()
                    except ConnectionClosed as error:
                        late.append(type(error))
                raise ConnectionClosed("as most handlers do")

        with serving(handler) as server, hub(server):
            pass
        assert late == [ConnectionClosed] * 2
        assert not logged.records

    def test_gives_up_waiting_for_its_client(self) -> None:
        outcomes: list[Any] = []

        def handler(connection: Connection, event: ServerEvent) -> None:
            match event:
                case InvocationReceived("ask"):
                    connection.cancel(connection.invoke("asked"))
                case Completed(error=error):
                    outcomes.append(error)
                    connection.close(error="enough")
                case _:
                    pass

        with serving(handler) as server, hub(server, handles=["asked"]) as connected:
            connected.send("ask")
            with pytest.raises(ServerClosed, match="enough"):
                list(connected.invocations)
        assert isinstance(outcomes[0], CallCancelled)

    def test_sees_who_its_client_is(self) -> None:
        seen: list[Any] = []

        def handler(connection: Connection, event: ServerEvent) -> None:
            if isinstance(event, Connected):
                seen.extend([connection.path, connection.query[0][0], connection.encoding, connection.queued_bytes])
                assert connection.connection_id == connection.machine.connection_id == event.connection_id
                assert repr(connection).startswith("<Connection '")

        with serving(handler) as server, hub(server, encoding="messagepack"):
            assert repr(server).startswith("<Server at port ")
        assert seen[:3] == ["/hub", "id", "messagepack"]


class TestStreams:
    def test_of_a_call_that_is_none(self) -> None:
        def handler(connection: Connection, event: ServerEvent) -> None:
            if isinstance(event, InvocationReceived):
                connection.send_items(event.invocation_id or "", [1])

        refused = pytest.raises(HubError, match="expected the id of a stream")
        with serving(handler, detailed_errors=True) as server, hub(server) as connected, refused:
            connected.invoke("add")

    def test_several_take_turns(self) -> None:
        def handler(connection: Connection, event: ServerEvent) -> None:
            if isinstance(event, InvocationReceived):
                connection.send_items(event.invocation_id or "", itertools.repeat(event.target))

        with serving(handler) as server, hub(server) as connected:
            feeds = [connected.stream(name, overload="drop_oldest", capacity=5) for name in ("a", "b", "c")]
            assert [next(feed) for feed in feeds] == ["a", "b", "c"]

    def test_whose_generator_fails_at_its_end(self, logged: pytest.LogCaptureFixture) -> None:
        def stubborn() -> Iterator[int]:
            try:
                yield from itertools.count()
            finally:
                raise LookupError("at the end")

        def handler(connection: Connection, event: ServerEvent) -> None:
            if isinstance(event, InvocationReceived) and event.streaming:
                connection.send_items(event.invocation_id or "", stubborn())
            else:
                echo(connection, event)

        with serving(handler) as server, hub(server) as connected:
            feed = connected.stream("count", overload="drop_oldest", capacity=5)
            next(feed)
            feed.close()
            assert connected.invoke("echo") == []
        assert [record.exc_info[0] for record in logged.records if record.exc_info] == [LookupError]

    def test_that_are_pushed_faster_than_they_are_read_end_the_call(self, logged: pytest.LogCaptureFixture) -> None:
        def handler(connection: Connection, event: ServerEvent) -> None:
            if isinstance(event, InvocationReceived):
                for _ in range(1_000):
                    connection.send_item(event.invocation_id or "", "x" * 1_000)

        config = ServerConfig(limits=Limits(queued_bytes=100_000))
        with serving(handler, config=config) as server, hub(server) as connected:
            feed = connected.stream("push")
            with pytest.raises((HubError, ServerClosed)):
                list(feed)
        assert logged.records
