"""The adapters' contract: `serve`, with a client of ours, on real sockets."""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from contract import Adapter, case, first, rest
from desks import serving
from etorox_proto import ConnectionFailed, ServerClosed
from etorox_proto.signalr import HubConfig, HubError, Limits, ServerConfig
from etorox_transports import ServeLimits


@pytest.fixture
def _failures_are_expected(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "etorox_transports")


expects_failures = pytest.mark.usefixtures("_failures_are_expected")


# ------------------------------------------------------------------------------------------- calls and streams


@case
async def test_calls_are_answered(adapter: Adapter) -> None:
    async with serving(adapter) as served:
        async with adapter.connect_hub(served.url("/chat?room=7")) as hub:
            assert await hub.invoke("add", 1, 2) == 3
            assert await hub.invoke("where", headers={"a": "b"}) == ["/chat", "7", {"a": "b"}]
        await served.until(adapter, lambda: served.desk.left == 1)
        assert served.server.connections == []


@pytest.mark.parametrize("encoding", ["json", "messagepack"])
@case
async def test_a_stream_goes_as_fast_as_it_is_read(adapter: Adapter, encoding: Any) -> None:
    async with serving(adapter, limits=ServeLimits(room=10_000)) as served:
        config = HubConfig(url=served.url(), encoding=encoding)
        async with adapter.connect_hub(config, feed_capacity=10, overload="wait") as hub:
            items = await rest(hub.stream("count", 5_000, "x" * 100))
            assert items == [[number, "x" * 100] for number in range(5_000)]
            assert 0 < served.desk.most_queued < 11_000


@case
async def test_a_stream_that_is_closed_is_made_no_longer(adapter: Adapter) -> None:
    async with serving(adapter) as served, adapter.connect_hub(served.url()) as hub:
        feed = hub.stream("count", None, "", overload="wait", capacity=10)
        assert await first(feed, 50) == [[number, ""] for number in range(50)]
        feed.close()
        assert await hub.invoke("add", 1, 1) == 2
        await served.until(adapter, lambda: served.desk.cancelled == ["count"])


@case
async def test_a_call_that_is_cancelled_is_so_at_the_server(adapter: Adapter) -> None:
    async with serving(adapter) as served, adapter.connect_hub(served.url()) as hub:
        with pytest.raises(TimeoutError):
            await hub.invoke("silence", timeout=0.05)
        assert await hub.invoke("add", 1, 1) == 2
        await served.until(adapter, lambda: served.desk.cancelled == ["silence"])


@case
async def test_who_leaves_is_not_worked_for_any_longer(adapter: Adapter) -> None:
    async with serving(adapter) as served:
        async with adapter.connect_hub(served.url()) as hub:
            hub.stream("silence")
            await served.until(adapter, lambda: served.desk.begun)
        await served.until(adapter, lambda: served.desk.cancelled == ["silence"] and served.desk.left == 1)


# ------------------------------------------------------------------------------------- uploads and client results


@pytest.mark.parametrize("encoding", ["json", "messagepack"])
@case
async def test_streams_come_along_with_a_call(adapter: Adapter, encoding: Any) -> None:
    async with serving(adapter) as served, adapter.connect_hub(HubConfig(url=served.url(), encoding=encoding)) as hub:
        assert await hub.invoke("total", uploads=[range(5_000)]) == sum(range(5_000))
        assert await rest(hub.stream("echo", uploads=[iter([5, 6, 7])])) == [5, 6, 7]
        assert await hub.invoke("add", 1) == 1


@case
async def test_sending_may_bring_streams_along(adapter: Adapter) -> None:
    async with serving(adapter) as served, adapter.connect_hub(served.url()) as hub:
        sent: list[int] = []

        def numbers() -> Iterator[int]:
            for number in range(3):
                sent.append(number)
                yield number

        await hub.send("total", uploads=[numbers()])
        assert await hub.invoke("add", 1) == 1
        await served.until(adapter, lambda: sent == [0, 1, 2])


@expects_failures
@case
async def test_a_stream_to_the_server_that_fails_is_the_cause_of_what_follows(adapter: Adapter) -> None:
    async with serving(adapter, detailed_errors=True) as served, adapter.connect_hub(served.url()) as hub:

        def numbers() -> Iterator[int]:
            yield 1
            raise ValueError("a secret")

        with pytest.raises(HubError, match="the client's stream failed with ValueError") as caught:
            await hub.invoke("total", uploads=[numbers()])
        assert "secret" not in str(caught.value)
        assert isinstance(caught.value.__cause__, ValueError)
        assert await hub.invoke("add", 1) == 1


@case
async def test_a_source_is_closed_when_its_call_is_over(adapter: Adapter) -> None:
    async with serving(adapter) as served, adapter.connect_hub(served.url()) as hub:
        closed: list[bool] = []

        def numbers() -> Iterator[int]:
            try:
                while True:
                    yield 1
            finally:
                closed.append(True)

        feed = hub.stream("echo", uploads=[numbers()], overload="wait")
        assert await first(feed, 3) == [1, 1, 1]
        feed.close()
        assert await hub.invoke("add", 1) == 1
        await served.until(adapter, lambda: closed)


@case
async def test_the_server_asks_its_client(adapter: Adapter) -> None:
    async with serving(adapter) as served, adapter.connect_hub(HubConfig(url=served.url(), handles=["answer"])) as hub:
        feed = hub.stream("ask", 20)
        asked = await hub.invocations.next(5.0)
        assert (asked.target, asked.arguments) == ("answer", [20])
        await hub.complete(asked.invocation_id, result=42)
        assert await rest(feed) == [42]
        feed = hub.stream("ask", 20)
        asked = await hub.invocations.next(5.0)
        await hub.complete(asked.invocation_id, error="I do not know")
        with pytest.raises(HubError, match="you say: I do not know"):
            await feed.next(5.0)


# ------------------------------------------------------------------------------------------------------- failures


@expects_failures
@case
async def test_a_handler_that_fails_answers_with_an_error(adapter: Adapter) -> None:
    async with serving(adapter) as served, adapter.connect_hub(served.url()) as hub:
        with pytest.raises(HubError, match=r"^An unexpected error occurred invoking 'nothing' on the server\.$"):
            await hub.invoke("nothing")
        feed = hub.stream("break", 2)
        assert await first(feed, 2) == [0, 1]
        with pytest.raises(HubError, match="invoking 'break'"):
            await feed.next(5.0)
        assert await hub.invoke("add", 1) == 1


@expects_failures
@case
async def test_for_development_the_client_is_told_why(adapter: Adapter) -> None:
    async with serving(adapter, detailed_errors=True) as served, adapter.connect_hub(served.url()) as hub:
        with pytest.raises(HubError, match=r"on the server\. LookupError: nothing$"):
            await hub.invoke("nothing")


@case
async def test_the_handler_says_goodbye(adapter: Adapter) -> None:
    async with serving(adapter) as served, adapter.connect_hub(served.url()) as hub:
        with pytest.raises(ServerClosed, match="bye") as caught:
            await hub.invoke("bye")
        assert not caught.value.may_retry


@case
async def test_a_path_that_is_not_served(adapter: Adapter) -> None:
    config = ServerConfig(serves=lambda path: path == "/hub")
    async with serving(adapter, config=config) as served:
        with pytest.raises(ConnectionFailed, match="404"):
            async with adapter.connect_hub(served.url("/other")):
                pass
        async with adapter.connect_hub(served.url()) as hub:
            assert await hub.invoke("add", 1) == 1


# --------------------------------------------------------------------------------------------------------- limits


@case
async def test_no_more_connections_than_were_allowed(adapter: Adapter) -> None:
    async with serving(adapter, limits=ServeLimits(connections=1)) as served:
        async with adapter.connect_hub(served.url()) as hub:
            with pytest.raises(ConnectionFailed):
                async with adapter.connect_hub(HubConfig(url=served.url(), opening_timeout=0.1)):
                    pass
            assert await hub.invoke("add", 1) == 1
        async with adapter.connect_hub(served.url()) as hub:
            assert await hub.invoke("add", 1) == 1


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"GET /hub HTTP/1.1\r\nHost: h\r\nX-", b""),
        (b"POST /hub/negotiate HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 "),
        (b"GET /hub HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 20_000, b"HTTP/1.1 400 "),
    ],
    ids=["a head that never ends", "a stream that is kept for more", "a head that is too large"],
)
@case
async def test_what_does_not_become_a_connection_ends(adapter: Adapter, said: bytes, answer: bytes) -> None:
    async with serving(adapter, config=ServerConfig(handshake_timeout=0.1)) as served:
        with _raw_client(served.server.port) as sock:
            sock.sendall(said)
            heard = bytearray()
            await served.until(adapter, lambda: _hears_the_end(sock, heard))
            assert heard.startswith(answer)
            assert bool(heard) == bool(answer)
        async with adapter.connect_hub(served.url()) as hub:
            assert await hub.invoke("add", 1) == 1


@case
async def test_who_is_silent_for_too_long_is_told_goodbye(adapter: Adapter) -> None:
    async with serving(adapter, limits=ServeLimits(idle_timeout=0.1)) as served:
        async with adapter.connect_hub(HubConfig(url=served.url(), ping_interval=60.0)) as hub:
            with pytest.raises(ServerClosed) as caught:
                await hub.invoke("silence")
            assert caught.value.may_retry
        async with adapter.connect_hub(HubConfig(url=served.url(), ping_interval=0.02)) as hub:
            with pytest.raises(TimeoutError):
                await hub.invoke("silence", timeout=0.3)


@case
async def test_who_does_not_read_is_dropped(adapter: Adapter) -> None:
    limits = ServeLimits(send_timeout=0.1)
    async with (
        serving(adapter, limits=limits) as served,
        adapter.connect_hub(served.url(), feed_capacity=1, overload="wait") as hub,
    ):
        hub.stream("count", None, "x" * 10_000)
        await served.until(adapter, lambda: served.desk.left == 1)
        assert served.desk.most_queued < 300_000


@expects_failures
@case
async def test_running_out_of_files_is_survived(adapter: Adapter) -> None:
    told: list[logging.LogRecord] = []
    handler = _Told(told)
    logger = logging.getLogger("etorox_transports.server")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        async with serving(adapter, config=ServerConfig(handshake_timeout=60.0)) as served:
            with _raw_client(served.server.port, connect=False) as sock:
                probe = socket.socket()
                resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno(), hard))
                probe.close()
                _connect(sock, served.server.port)
                await served.until(adapter, lambda: told)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                heard = bytearray()
                await served.until(adapter, lambda: _hears_the_end(sock, heard))
                assert heard.startswith(b"HTTP/1.1 404")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert len(told) < 20


# -------------------------------------------------------------------------------------------------- many, and the end


@case
async def test_two_hundred_connections(adapter: Adapter) -> None:
    async with serving(adapter) as served, contextlib.AsyncExitStack() as stack:
        hubs = [await stack.enter_async_context(adapter.connect_hub(served.url())) for _ in range(200)]
        for number, hub in enumerate(hubs):
            assert await hub.invoke("add", number, 1) == number + 1
        assert len(served.server.connections) == 200
        assert len({connection.connection_id for connection in served.server.connections}) == 200


@case
async def test_leaving_invites_the_clients_to_come_back(adapter: Adapter) -> None:
    async with (
        serving(adapter, limits=ServeLimits(shutdown_timeout=0.2)) as served,
        adapter.connect_hub(served.url()) as hub,
    ):
        feed = hub.stream("silence")
        await served.until(adapter, lambda: served.desk.begun)
        await served.close()
        with pytest.raises(ServerClosed) as caught:
            await feed.next(5.0)
        assert caught.value.may_retry
        assert served.desk.cancelled == ["silence"]
        assert served.desk.left == 1
        with pytest.raises(ConnectionFailed):
            async with adapter.connect_hub(served.url()):
                pass


@case
async def test_leaving_waits_no_longer_than_it_was_told(adapter: Adapter) -> None:
    async with serving(adapter, limits=ServeLimits(shutdown_timeout=0.1)) as served:
        with _raw_client(served.server.port) as sock:
            sock.sendall(b"POST /hub/negot")
            async with adapter.connect_hub(served.url()) as hub:
                assert await hub.invoke("add", 1) == 1


@case
async def test_tls(adapter: Adapter) -> None:
    authority = trustme.CA()
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(trusting)
    config = ServerConfig(handshake_timeout=0.5, limits=Limits(record=1_000_000))
    async with serving(adapter, ssl_context=context, config=config) as served:
        with _raw_client(served.server.port) as silent, _raw_client(served.server.port) as wrong:
            wrong.sendall(b"GET /hub HTTP/1.1\r\nHost: h\r\n\r\n")
            async with adapter.connect_hub(served.url(scheme="https"), ssl_context=trusting) as hub:
                assert await hub.invoke("add", 1, 2) == 3
                assert len(await rest(hub.stream("count", 2_000, "x" * 100))) == 2_000
                assert await hub.invoke("total", uploads=[range(1_000)]) == sum(range(1_000))
            for sock in (silent, wrong):
                await served.until(adapter, lambda sock=sock: _hears_the_end(sock, bytearray()))


class _Told(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, told: list[logging.LogRecord]) -> None:
        super().__init__()
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        self._told.append(record)


def _raw_client(port: int, *, connect: bool = True) -> socket.socket:
    sock = socket.socket()
    if connect:
        _connect(sock, port)
    return sock


def _connect(sock: socket.socket, port: int) -> None:
    sock.settimeout(5.0)
    sock.connect(("127.0.0.1", port))
    sock.settimeout(0.0)


def _hears_the_end(sock: socket.socket, heard: bytearray) -> bool:
    """Read what is there; whether that was the end."""
    try:
        while data := sock.recv(65_536):
            heard += data
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
