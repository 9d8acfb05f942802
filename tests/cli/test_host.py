"""`SimulatorHost` on real sockets: clients that leave, stall or talk nonsense do not disturb the others."""

from __future__ import annotations

import contextlib
import itertools
import math
import resource
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from etorox_proto import Credentials, Dial, ExchangeConfig, OrderCreated, load_private_key
from etorox_proto.signalr import ConnectionClosed, ServerClosed, SignalRError
from etorox_proto.simulator import INSTRUMENTS
from etorox_transports.blocking import Exchange, SocketStream, connect, connect_hub
from etorox_transports.cli._host import SimulatorHost

API_KEY = "5c9d4a52-1f0c-4d0a-9a52-0a6d2b7f2a11"
KEY = load_private_key(Path(__file__).parents[1] / "data" / "keys" / "rsa1024-pkcs8.pem")
CREDENTIALS = Credentials(API_KEY, KEY)


def new_host(**options: Any) -> SimulatorHost:
    return SimulatorHost({API_KEY: KEY.public_key}, **options)


@contextlib.contextmanager
def running(host: SimulatorHost) -> Iterator[SimulatorHost]:
    thread = host.run_in_thread()
    try:
        yield host
    finally:
        host.stop()
        thread.join(5.0)
        assert not thread.is_alive()


@contextlib.contextmanager
def serving(**options: Any) -> Iterator[SimulatorHost]:
    with new_host(**options) as host:
        host.run_in_thread()
        yield host


def until(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Wait for the host's thread."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        pause.wait(0.002)


def exchange(host: SimulatorHost, **options: Any) -> Exchange:
    """One connection, which shows what the host does to it."""
    return connect(ExchangeConfig(f"http://127.0.0.1:{host.port}"), CREDENTIALS, session=None, **options)


def reset(sock: socket.socket) -> None:
    """Leave without a goodbye of TCP."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def client(host: SimulatorHost) -> socket.socket:
    return socket.create_connection(("127.0.0.1", host.port), timeout=10.0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class TestLeaving:
    def test_before_saying_anything(self) -> None:
        with serving() as host:
            with client(host):
                until(lambda: host.clients == 1)
            until(lambda: host.clients == 0)

    def test_in_the_middle_of_a_request(self) -> None:
        with serving() as host:
            with client(host) as sock:
                sock.sendall(b"POST /streams/v1/x/signalr/negotiate HT")
                until(lambda: host.clients == 1)
            until(lambda: host.clients == 0)

    def test_by_a_reset(self) -> None:
        with serving() as host:
            sock = client(host)
            until(lambda: host.clients == 1)
            reset(sock)
            until(lambda: host.clients == 0)

    def test_by_a_reset_before_it_was_accepted(self) -> None:
        with new_host() as host:
            reset(client(host))
            with running(host), exchange(host) as other:
                assert next(other.subscribe(["btcusd"]))
                until(lambda: host.clients == 1)

    def test_while_subscribed(self) -> None:
        with serving(rate=1000.0) as host:
            streams: list[socket.socket] = []

            def open_stream(dial: Dial, timeout: float) -> SocketStream:
                streams.append(socket.create_connection((dial.host, dial.port), timeout))
                return SocketStream(streams[-1])

            leaving, staying = exchange(host, open=open_stream), exchange(host)
            with staying:
                feed = staying.subscribe(["btcusd"])
                next(leaving.subscribe(["btcusd"]))
                reset(streams[-1])
                until(lambda: host.simulator.subscribers == 1)
                assert len(list(itertools.islice(feed, 50))) == 50

    def test_just_before_the_host_closes(self) -> None:
        streams: list[socket.socket] = []

        def open_stream(dial: Dial, timeout: float) -> SocketStream:
            streams.append(socket.create_connection((dial.host, dial.port), timeout))
            return SocketStream(streams[-1])

        host = new_host()
        with running(host):
            leaving = exchange(host, open=open_stream)
        reset(streams[-1])
        host.close()
        assert host.clients == 0
        leaving.close()

    def test_staying_without_a_setup(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("etorox_proto.simulator._service.SETUP_TIMEOUT", 0.05)
        with serving(rate=0.001) as host:
            url = f"http://127.0.0.1:{host.port}/streams/v1/{API_KEY}/signalr"
            outcome: SignalRError | None = None
            with connect_hub(url) as hub:
                while not isinstance(outcome, ServerClosed | ConnectionClosed):
                    try:
                        hub.invoke("anything but setup")
                    except SignalRError as error:
                        outcome = error


class TestNonsense:
    def test_is_answered_and_the_stream_ended(self) -> None:
        with serving() as host, client(host) as sock:
            sock.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
            answer = b""
            while data := sock.recv(4096):
                answer += data
            assert answer.startswith(b"HTTP/1.1 400")
            until(lambda: host.clients == 0)

    def test_where_tls_is_expected(self, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
        with serving(ssl_context=server_tls) as host:
            with client(host) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    while sock.recv(4096):
                        pass
            until(lambda: host.clients == 0)
            with connect(
                ExchangeConfig(f"https://localhost:{host.port}"), CREDENTIALS, ssl_context=client_tls
            ) as other:
                assert next(other.subscribe(["btcusd"]))

    def test_a_reset_before_tls_began(self, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
        with new_host(ssl_context=server_tls) as host:
            reset(client(host))
            config = ExchangeConfig(f"https://localhost:{host.port}")
            with running(host), connect(config, CREDENTIALS, ssl_context=client_tls) as other:
                assert next(other.subscribe(["btcusd"]))

    def test_a_client_of_tls_that_leaves_in_the_handshake(self, server_tls: ssl.SSLContext) -> None:
        with serving(ssl_context=server_tls) as host:
            with client(host) as sock:
                sock.sendall(b"\x16\x03\x01\x02\x00\x01")
                until(lambda: host.clients == 1)
            until(lambda: host.clients == 0)


class TestLoad:
    def test_full_speed_waits_for_readers(self) -> None:
        with serving(rate=math.inf, seed=1) as host:
            assert host.events == 0
            with exchange(host) as fast:
                feed = fast.subscribe([instrument.id for instrument in INSTRUMENTS])
                events = list(itertools.islice(feed, 8_000))
                assert len(events) == 8_000
                assert {event.market for event in events} == {instrument.id for instrument in INSTRUMENTS}

    def test_at_full_speed_the_market_has_todays_time(self) -> None:
        with serving(rate=math.inf) as host, exchange(host) as fast:
            events = itertools.islice(fast.subscribe(["btcusd"]), 2_000)
            created = [event for event in events if isinstance(event, OrderCreated)]
            assert abs(created[-1].updated_at.timestamp() - time.time()) < 30.0

    def test_an_ordinary_market_trades_at_once_and_in_todays_time(self) -> None:
        with serving(rate=20.0, seed=3) as host, exchange(host) as client:
            event = client.subscribe([instrument.id for instrument in INSTRUMENTS]).next(timeout=5.0)
            assert abs(event.at.timestamp() - time.time()) < 30.0
            assert host.simulator.market.book("btcusd", 1).bids, "the books were filled before"

    def test_a_very_slow_market(self) -> None:
        with serving(rate=1e-9) as host, exchange(host) as client, pytest.raises(TimeoutError):
            client.subscribe(["btcusd"]).next(timeout=0.05)

    def test_many_bytes_through_tls(self, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
        with serving(rate=math.inf, ssl_context=server_tls) as host:
            config = ExchangeConfig(f"https://localhost:{host.port}")
            with connect(config, CREDENTIALS, ssl_context=client_tls) as fast:
                assert len(list(itertools.islice(fast.subscribe(["btcusd", "ethusd"]), 5_000))) == 5_000

    def test_a_client_that_does_not_read_is_dropped_and_nobody_else(self) -> None:
        def with_little_room(dial: Dial, timeout: float) -> SocketStream:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(timeout)
            sock.connect((dial.host, dial.port))
            return SocketStream(sock)

        with serving(rate=20_000.0, instruments=INSTRUMENTS[:2]) as host:
            slow = exchange(host, open=with_little_room)
            # Rows of many fields, so that few events are many bytes.
            fields = sorted(f"field_{number}" for number in range(300))
            slow.subscribe(["btcusd", "ethusd"], fields=fields)
            until(lambda: host.simulator.subscribers == 1)
            with exchange(host) as other:
                feed = other.subscribe(["btcusd"])
                while host.simulator.subscribers == 2:
                    next(feed)
                assert next(feed)
            with pytest.raises(ServerClosed, match="does not read fast enough"):
                for _ in slow.events():
                    pass

    def test_running_out_of_files_is_survived(self) -> None:
        with new_host() as host, client(host) as sock:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            probe = socket.socket()
            resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno(), hard))
            probe.close()
            try:
                with running(host):
                    threading.Event().wait(0.05)
                    assert host.clients == 0
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                    sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                    assert sock.recv(4096).startswith(b"HTTP/1.1 404")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestEnding:
    def test_stop_before_run(self) -> None:
        with new_host() as host:
            host.stop()
            host.run()

    def test_stop_after_close(self) -> None:
        host = new_host()
        host.close()
        host.stop()

    def test_its_thread_has_ended_when_it_is_closed(self) -> None:
        host = new_host()
        thread = host.run_in_thread()
        host.close()
        assert not thread.is_alive()

    def test_clients_are_told(self) -> None:
        with serving() as host:
            other = exchange(host)
        with pytest.raises(ServerClosed) as caught:
            for _ in other.subscribe(["btcusd"]):
                pass
        assert caught.value.may_retry

    def test_a_port_in_use_leaves_nothing_open(self) -> None:
        with new_host() as host, pytest.raises(OSError, match="in use"):
            new_host(address=("127.0.0.1", host.port))
