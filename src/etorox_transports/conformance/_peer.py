"""`Peer` and `Server`: a scripted SignalR server on a loopback port, byte by byte, in a thread of its own.

A script is a function of a `Peer`, which is one byte stream of a client; it says what the server says, and asserts what
it hears. Nothing here knows the transport that is being tested.

Source: SignalR's Hub Protocol; RFC 6455, 5.2 and 5.5.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, Self, final

from etorox_proto.testing import accept_websocket, http_reply, websocket_frame

__all__ = ["PATIENCE", "Peer", "Script", "Server", "frames", "invocation", "record", "wait_until"]

# What is sure to come takes no longer, in seconds.
PATIENCE = 5.0
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_SEPARATOR = b"\x1e"


@final
class Peer:
    """The server's end of one byte stream.

    Attributes:
        sock: to say what no method says.
        heard: how many bytes came.
        pings: how many SignalR pings the client has sent.
        pongs: what its WebSocket pongs held.
        has_closed: whether the client has sent a WebSocket close frame.
        requests: the HTTP heads that it sent.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.heard = 0
        self.pings = 0
        self.pongs: list[bytes] = []
        self.has_closed = False
        self.requests: list[bytes] = []
        self._received = b""
        self._records: list[Any] = []
        self._has_ended = False

    # ------------------------------------------------------------------------------------------------------ HTTP

    def request(self) -> bytes:
        """The next HTTP request: its head, and the blank line."""
        while b"\r\n\r\n" not in self._received:
            assert self._read(), "expected an HTTP request, got the end of the stream"
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        self.requests.append(head)
        return head + b"\r\n\r\n"

    def negotiate(self, **reply: Any) -> None:
        """Answer a negotiate request, as a server of version 1 does unless this says otherwise."""
        assert self.request().startswith(b"POST "), "negotiation is a POST"
        transports = [{"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}]
        answer = reply or {
            "negotiateVersion": 1,
            "connectionId": "an-id",
            "connectionToken": "a-token",
            "availableTransports": transports,
        }
        self.sock.sendall(http_reply(200, json.dumps(answer).encode(), "Content-Type: application/json"))

    def accept(self) -> bytes:
        """Hear a WebSocket request; returns what accepts it, and sends nothing."""
        return accept_websocket(self.request())

    # ------------------------------------------------------------------------------------------------- hub messages

    def connect(self) -> None:
        """Accept the WebSocket and the SignalR handshake."""
        self.sock.sendall(self.accept())
        self.handshake()
        self.say({})

    def handshake(self) -> dict[str, Any]:
        """Hear the handshake request."""
        request = self.hear()
        assert isinstance(request, dict), "expected a handshake request, got the end of the stream"
        assert request.get("protocol") == "json", f"expected a handshake request, got {request}"
        return request

    def say(self, *messages: dict[str, Any]) -> None:
        """Send messages, each in a frame of its own, and all at once."""
        self.sock.sendall(frames(*messages))

    def note(self, *arguments: Any) -> None:
        """Invoke `note` on the client."""
        self.say(invocation("note", *arguments))

    def hear(self) -> dict[str, Any] | None:
        """The client's next message, pings left out; None when it sends no more."""
        while not self._records:
            if not self._read_frame():
                return None
        message: dict[str, Any] = self._records.pop(0)
        return message

    def expect(self, target: str, *arguments: Any) -> None:
        """Hear this invocation next."""
        heard, wanted = self.hear(), invocation(target, *arguments)
        assert heard == wanted, f"expected the client to send {_short(wanted)}, got {_short(heard)}"

    def rest(self) -> list[dict[str, Any]]:
        """All that the client still sends, until it sends no more."""
        messages: list[dict[str, Any]] = []
        while (message := self.hear()) is not None:
            messages.append(message)
        return messages

    def listen(self, seconds: float) -> None:
        """Hear whatever comes for so long, to be given by `hear` later."""
        until = time.monotonic() + seconds
        try:
            while (left := until - time.monotonic()) > 0:
                self.sock.settimeout(left)
                with contextlib.suppress(TimeoutError):
                    if (data := self.sock.recv(65_536)) == b"":
                        return
                    self._received += data
                while (frame := self._whole_frame()) is not None:
                    self._take(*frame)
        finally:
            self.sock.settimeout(PATIENCE)

    def until_end(self) -> None:
        """Wait until the client has said goodbye, which is answered, or sends no more."""
        while self._read_frame():
            if self.has_closed:
                with contextlib.suppress(OSError):
                    self.sock.sendall(websocket_frame(b"\x03\xe8", _CLOSE))
                return

    def ignore(self) -> None:
        """Wait until the client sends no more, whatever it sends."""
        while self._read():
            self._received = b""

    # ----------------------------------------------------------------------------------------------------- inside

    def _read_frame(self) -> bool:
        """Take the next frame; False at the end."""
        while (frame := self._whole_frame()) is None:
            if not self._read():
                return False
        self._take(*frame)
        return True

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == _CLOSE:
            self.has_closed = True
        elif opcode == _PONG:
            self.pongs.append(payload)
        elif opcode == _PING:
            self.sock.sendall(websocket_frame(payload, _PONG))
        else:
            for text in payload.split(_SEPARATOR)[:-1]:
                message = json.loads(text)
                if message == {"type": 6}:
                    self.pings += 1
                else:
                    self._records.append(message)

    def _whole_frame(self) -> tuple[int, bytes] | None:
        """Take a frame out of what was received, if all of it is there: its opcode and its payload, unmasked."""
        data = self._received
        if len(data) < 2:
            return None
        assert data[1] & 0x80, "a client masks its frames (RFC 6455, 5.1)"
        length, start = data[1] & 0x7F, 2
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start], "big")
        mask, start = data[start : start + 4], start + 4
        if len(data) < start + length:
            return None
        payload, self._received = data[start : start + length], data[start + length :]
        repeated = (mask * (length // 4 + 1))[:length]
        plain = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
        return data[0] & 0x0F, plain.to_bytes(length, "big")

    def _read(self) -> bool:
        if self._has_ended:
            return False
        try:
            data = self.sock.recv(65_536)
        except TimeoutError:
            raise AssertionError(f"expected the client to say something within {PATIENCE:g} s, it did not") from None
        except OSError:
            data = b""
        self._received += data
        self.heard += len(data)
        self._has_ended = not data
        return bool(data)

    def reset(self) -> None:
        """Close so that the client is told of no ordinary end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Script = Callable[[Peer], object]


@final
class Server:
    """A listener that lets each script talk to one byte stream, in the order in which they come; a context manager.

    Args:
        scripts: one for each stream. No more are accepted.
        ssl_context: the server's side of TLS; None for plain TCP.

    Attributes:
        port: where it listens.
        failure: what a script raised.
        peers: the streams, in their order.
    """

    def __init__(self, *scripts: Script, ssl_context: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._ssl_context = ssl_context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self.failure: BaseException | None = None
        self.peers: list[Peer] = []
        self._is_over = False
        self._thread = threading.Thread(target=self._serve, name="conformance server", daemon=True)
        self._thread.start()

    def url(self, host: str = "127.0.0.1") -> str:
        """Where its hub is."""
        return f"{'http' if self._ssl_context is None else 'https'}://{host}:{self.port}/hub"

    def give_up(self) -> None:
        """Do not wait for clients any longer."""
        self._is_over = True
        self._listener.close()

    @property
    def is_busy(self) -> bool:
        """Whether scripts are still running, or to come."""
        return self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._is_over = kind is not None
        if self._is_over:
            self._listener.close()
            for peer in self.peers:
                with contextlib.suppress(OSError):
                    peer.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(2 * PATIENCE)
        self._listener.close()
        if kind is None and self.failure is not None:
            raise self.failure

    def _serve(self) -> None:
        try:
            for script in self._scripts:
                sock = self._accept()
                with sock:
                    peer = Peer(sock)
                    self.peers.append(peer)
                    script(peer)
        except BaseException as error:  # noqa: BLE001 - it is told where the case ends
            if not self._is_over:
                self.failure = error

    def _accept(self) -> socket.socket:
        until = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < until, f"expected the client to open a stream within {PATIENCE:g} s, it did not"
            with contextlib.suppress(TimeoutError):
                sock, _ = self._listener.accept()
                break
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock if self._ssl_context is None else self._shake_hands(sock, self._ssl_context)

    def _shake_hands(self, sock: socket.socket, ssl_context: ssl.SSLContext) -> socket.socket:
        try:
            return ssl_context.wrap_socket(sock, server_side=True)
        except OSError:
            sock.close()
            return socket.socket()  # the client did not like it; a script for this finds a stream that is over


def _short(message: object) -> str:
    text = str(message)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def invocation(target: str, *arguments: Any) -> dict[str, Any]:
    """A message that invokes something on the client."""
    return {"type": 1, "target": target, "arguments": list(arguments)}


def record(message: dict[str, Any]) -> bytes:
    """A message as it stands in a frame."""
    return json.dumps(message, separators=(",", ":")).encode() + _SEPARATOR


def frames(*messages: dict[str, Any]) -> bytes:
    """Messages, each in a frame of its own."""
    return b"".join(websocket_frame(record(message)) for message in messages)


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Block until something is so, in a script."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"expected {what} within {PATIENCE:g} s"
        time.sleep(0.002)
