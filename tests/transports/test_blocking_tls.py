"""`open_socket` with TLS: many records at once, every kind of end, and nothing lost before it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from etorox_proto import Dial
from etorox_transports import DialFailed
from etorox_transports.blocking import ByteStream, open_socket
from tls_server import PATIENCE, break_off, client_context, nothing, server_context, talking


@contextlib.contextmanager
def opened(dial: Dial) -> Iterator[ByteStream]:
    stream = open_socket(dial, PATIENCE, client_context())
    try:
        yield stream
    finally:
        stream.close()


def receive(stream: ByteStream, length: int) -> bytes:
    """So many bytes, or all there are before the end."""
    data = b""
    while len(data) < length and (more := stream.receive(PATIENCE)):
        data += more
    return data


def test_many_records_come_at_once() -> None:
    def script(tls: ssl.SSLSocket) -> None:
        for number in range(200):
            tls.sendall(b"%03d" % number)
        tls.recv(1)

    with talking(script) as dial, opened(dial) as stream:
        pieces: list[bytes] = []
        while sum(map(len, pieces)) < 600:
            pieces.append(stream.receive(PATIENCE))
        assert b"".join(pieces) == b"".join(b"%03d" % number for number in range(200))
        with pytest.raises(TimeoutError):
            stream.receive(0.0)
        with pytest.raises(TimeoutError):
            stream.receive(0.001)
        stream.send_all(b"x", PATIENCE)


def test_large_messages_go_both_ways() -> None:
    message = bytes(range(256)) * 2_000

    def script(tls: ssl.SSLSocket) -> None:
        heard = b""
        while len(heard) < len(message):
            heard += tls.recv(100_000)
        tls.sendall(heard)

    with talking(script) as dial, opened(dial) as stream:
        stream.send_all(message, PATIENCE)
        assert receive(stream, len(message)) == message
        assert stream.receive(PATIENCE) == b""


def test_a_goodbye_is_the_end_and_what_came_before_it_comes_first() -> None:
    def script(tls: ssl.SSLSocket) -> None:
        tls.sendall(b"last words")
        tls.unwrap()

    with talking(script) as dial, opened(dial) as stream:
        assert receive(stream, 100) == b"last words"
        assert stream.receive(PATIENCE) == b""
        assert stream.receive(0.0) == b""


def test_an_end_without_a_goodbye_is_the_end_too() -> None:
    def hang_up(tls: ssl.SSLSocket) -> None:
        tls.sendall(b"last words")
        socket.socket(fileno=tls.detach()).close()

    with talking(hang_up) as dial, opened(dial) as stream:
        assert receive(stream, 100) == b"last words"
        assert stream.receive(PATIENCE) == b""
        assert stream.receive(PATIENCE) == b""


def test_what_is_no_tls_breaks_the_stream_behind_what_was() -> None:
    def script(tls: ssl.SSLSocket) -> None:
        break_off(tls, b"\x17\x03\x03\x00\x20" + b"x" * 32, reset=False)

    with talking(script) as dial, opened(dial) as stream:
        assert receive(stream, 10) == b"good words"
        for _ in range(2):
            with pytest.raises(ssl.SSLError):
                stream.receive(PATIENCE)


def test_a_reset_breaks_the_stream() -> None:
    with (
        talking(lambda tls: break_off(tls, b"", reset=True)) as dial,
        opened(dial) as stream,
        pytest.raises(OSError, match="reset"),
    ):
        receive(stream, 100)


def test_a_peer_that_does_not_read_is_not_waited_for_longer_than_told() -> None:
    done = threading.Event()
    with talking(lambda _: done.wait(PATIENCE)) as dial, opened(dial) as stream:
        with pytest.raises(TimeoutError):
            stream.send_all(bytes(50_000_000), 0.1)
        done.set()


def test_a_handshake_that_is_not_answered_fails_in_time() -> None:
    done = threading.Event()
    with talking(nothing, raw=lambda _: done.wait(PATIENCE)) as dial:
        with pytest.raises(DialFailed, match="timed out"):
            open_socket(dial, 0.1, client_context())
        done.set()


def test_a_peer_that_hangs_up_in_the_handshake_fails_it() -> None:
    with talking(nothing, raw=lambda sock: sock.recv(10_000)) as dial, pytest.raises(DialFailed, match="TLS failed"):
        open_socket(dial, PATIENCE, client_context())


def test_a_peer_is_told_why_it_is_refused() -> None:
    heard: list[ssl.SSLError] = []

    def greet(sock: socket.socket) -> None:
        try:
            server_context().wrap_socket(sock, server_side=True).recv(1)
        except ssl.SSLError as error:
            heard.append(error)

    with talking(nothing, raw=greet) as dial, pytest.raises(DialFailed, match="certificate was not accepted"):
        open_socket(dial, PATIENCE, ssl.create_default_context())
    assert "ALERT_UNKNOWN_CA" in str(heard[0].reason)
