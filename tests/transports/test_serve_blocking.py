"""`blocking.serve`: a server of ours for clients of ours, on real sockets."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from etorox_proto import ConnectionFailed, LocalProtocolError, ServerClosed
from etorox_proto.signalr import (
    CancelReceived,
    Closed,
    Completed,
    Connected,
    HubConfig,
    HubError,
    InvocationReceived,
    ServerConfig,
    ServerEvent,
    UploadEnded,
    UploadItemReceived,
)
from etorox_transports import ServeLimits
from etorox_transports.blocking import Connection, Hub, Server, connect_hub, serve


class Desk:
    """A handler that does a bit of everything."""

    def __init__(self) -> None:
        self.closed: list[Closed] = []
        self.cancelled: list[str] = []
        self.produced = 0
        self.stopped = False
        self._sums: dict[str, tuple[str, int]] = {}

    def __call__(self, connection: Connection, event: ServerEvent) -> None:
        match event:
            case InvocationReceived("add", arguments, str(call)):
                connection.complete(call, result=sum(arguments))
            case InvocationReceived("where", invocation_id=str(call)):
                connection.complete(call, result=[connection.path, dict(connection.query).get("room")])
            case InvocationReceived("count", [count], str(call)):
                connection.send_items(call, self._count(count))
            case InvocationReceived("break", invocation_id=str(call), streaming=True):
                connection.send_items(call, map(int, ["1", "2", "three"]))
            case InvocationReceived("total", invocation_id=str(call), uploads=[stream_id]):
                self._sums[stream_id] = (call, 0)
            case UploadItemReceived(stream_id, item):
                call, total = self._sums[stream_id]
                self._sums[stream_id] = (call, total + item)
            case UploadEnded(stream_id):
                call, total = self._sums.pop(stream_id)
                connection.complete(call, result=total)
            case InvocationReceived("ask", [question]):
                connection.invoke("answer", question)
            case Completed(result=result):
                connection.send("heard", result)
            case InvocationReceived("bye"):
                connection.close(error="bye")
            case CancelReceived(call):
                self.cancelled.append(call)
                connection.complete(call)
            case Closed():
                self.closed.append(event)
            case InvocationReceived("silence") | Connected():
                pass
            case _:
                raise LookupError(f"what is {event}?")

    def _count(self, count: int | None) -> Iterator[int]:
        try:
            for number in itertools.count() if count is None else range(count):
                self.produced += 1
                yield number
        finally:
            self.stopped = True


@contextlib.contextmanager
def serving(desk: Desk | None = None, **options: Any) -> Iterator[Server]:
    with serve(desk or Desk(), **options) as server:
        server.start()
        yield server


def url(server: Server, path: str = "/hub") -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def hub(server: Server, path: str = "/hub", **options: Any) -> Hub:
    return connect_hub(HubConfig(url=url(server, path), **options))


def test_calls_and_where_they_came_to() -> None:
    with serving() as server, hub(server, "/chat?room=7") as client:
        assert client.invoke("add", 1, 2) == 3
        assert client.invoke("where") == ["/chat", "7"]


def test_streams_are_as_fast_as_their_reader() -> None:
    desk = Desk()
    with serving(desk, limits=ServeLimits(room=2_000)) as server, hub(server) as client:
        assert list(client.stream("count", 5_000)) == list(range(5_000))
        endless = client.stream("count", None, overload="wait", capacity=10)
        assert list(itertools.islice(endless, 100)) == list(range(100))
        endless.close()
        assert client.invoke("add", 1) == 1
        assert desk.stopped


def test_a_handler_that_fails_answers_with_an_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "etorox_transports.server")
    with serving() as server, hub(server) as client:
        with pytest.raises(HubError, match="An unexpected error occurred invoking 'nothing' on the server"):
            client.invoke("nothing")
        broken = client.stream("break")
        assert [next(broken), next(broken)] == [1, 2]
        with pytest.raises(HubError, match="invoking 'break'"):
            next(broken)
        assert client.invoke("add", 1) == 1


def test_shutting_down_invites_the_clients_to_come_back() -> None:
    desk = Desk()
    with serving(desk, limits=ServeLimits(shutdown_timeout=0.1)) as server:
        client = hub(server)
        waiting = client.stream("silence")
    with pytest.raises(ServerClosed) as caught:
        next(waiting)
    assert caught.value.may_retry
    assert len(desk.closed) == 1
    with pytest.raises(ConnectionFailed):
        hub(server)


def test_iterating_instead_of_a_handler() -> None:
    with serve() as server:
        with pytest.raises(TimeoutError):
            server.next(0.01)
        with pytest.raises(LocalProtocolError, match="handler"):
            server.run()
        server.stop()
        assert list(server) == []


def test_tls() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with serving(ssl_context=context) as server:
        address = f"https://localhost:{server.port}/hub"
        with connect_hub(address, ssl_context=trusting) as client:
            assert client.invoke("add", 1, 2) == 3
            assert list(client.stream("count", 2_000)) == list(range(2_000))


def test_a_head_that_never_ends_is_given_up() -> None:
    with serving(config=ServerConfig(handshake_timeout=0.1)) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as sock:
            sock.sendall(b"GET /hub HTTP/1.1\r\nHost: h\r\nX-")
            assert sock.recv(4_096) == b""
        with hub(server) as client:
            assert client.invoke("add", 1) == 1


def test_a_head_that_is_too_large_is_told_so() -> None:
    with serving() as server, socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as sock:
        with contextlib.suppress(OSError):
            for _ in range(100):
                sock.sendall(b"X-Header: " + b"x" * 10_000)
        assert sock.recv(4_096).startswith(b"HTTP/1.1 400")
