"""The sender: a process of its own that plays a SignalR server to whatever connects, and sends bytes made beforehand.

It answers negotiation, the WebSocket request, the handshake and `setup` as ASP.NET Core does, and once every expected
stream has been asked for it sends: as fast as the receiver takes it, or paced. It prints its port, and after a paced
run when each event was written. It ends with its last client, or is killed.

Run as `python -m bench.sender TASK`; `bench.runs` does.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import selectors
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from bench.receivers.tally import read_task
from bench.shapes import frame, frames, pack
from bench.task import Task

__all__: list[str] = []

# Bytes handed to the system at a time.
_PIECE = 262_144
_FORMATS = [{"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}]


class _Link:
    """One byte stream of a client: HTTP first, then hub messages; perhaps within TLS."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        self.sock = sock
        self.heard = b""
        self.is_hub = False
        self.is_greeted = False
        self.calls: list[str] = []
        self.stream = memoryview(b"")
        self.offset = 0
        self.tls: ssl.SSLObject | None = None
        self._coming, self._going = ssl.MemoryBIO(), ssl.MemoryBIO()
        if context is not None:
            self.tls = context.wrap_bio(self._coming, self._going, server_side=True)

    def read(self, data: bytes) -> None:
        """Take what came from the socket; `heard` grows by what it means."""
        if self.tls is None:
            self.heard += data
            return
        self._coming.write(data)
        try:
            self.tls.do_handshake()
            while plain := self.tls.read(65_536):
                self.heard += plain
        except ssl.SSLWantReadError:
            pass
        self.sock.sendall(self._going.read())

    def write(self, data: bytes) -> None:
        """Send a short answer."""
        self.sock.sendall(self.wrap([data]))

    def wrap(self, parts: list[bytes]) -> bytes:
        """These parts as they go over the wire; within TLS each is a record."""
        if self.tls is None:
            return b"".join(parts)
        for part in parts:
            self.tls.write(part)
        return self._going.read()


class _Sender:
    """The server.

    Args:
        task: what to send.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._context: ssl.SSLContext | None = None
        if task.certificate:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(task.certificate)
        self._selector = selectors.DefaultSelector()
        self._links: set[_Link] = set()
        self._ready: list[_Link] = []

    def run(self) -> None:
        """Serve until the last client has gone."""
        with socket.create_server(("127.0.0.1", 0), backlog=1_024) as listener:
            print(listener.getsockname()[1], flush=True)
            self._selector.register(listener, selectors.EVENT_READ)
            has_streamed = False
            while self._links or not has_streamed:
                has_streamed = has_streamed or bool(self._ready)
                for key, mask in self._selector.select():
                    if key.fileobj is listener:
                        self._accept(listener)
                    else:
                        self._serve(key.data, mask)

    def _accept(self, listener: socket.socket) -> None:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._task.connections > 1:  # or the system's buffers would take gigabytes
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        link = _Link(sock, self._context)
        self._links.add(link)
        self._selector.register(sock, selectors.EVENT_READ, link)

    def _serve(self, link: _Link, mask: int) -> None:
        try:
            if mask & selectors.EVENT_READ:
                data = link.sock.recv(65_536)
                if not data:
                    raise ConnectionResetError
                link.read(data)
                self._answer(link)
            if mask & selectors.EVENT_WRITE:
                self._stream(link)
        except OSError:
            self._selector.unregister(link.sock)
            link.sock.close()
            self._links.discard(link)

    def _stream(self, link: _Link) -> None:
        sent = link.sock.send(link.stream[link.offset : link.offset + _PIECE])
        link.offset += sent
        if link.offset == len(link.stream):
            link.offset = 0
            if link.tls is not None:  # its records cannot be repeated
                self._selector.modify(link.sock, selectors.EVENT_READ, link)

    def _answer(self, link: _Link) -> None:
        while not link.is_hub and b"\r\n\r\n" in link.heard:
            head, _, link.heard = link.heard.partition(b"\r\n\r\n")
            link.write(self._http(link, head))
        if not link.is_hub:
            return
        payloads, link.heard = _payloads(link.heard)
        for payload in payloads:
            rest = payload
            if not link.is_greeted:
                link.is_greeted = True
                _, _, rest = payload.partition(b"\x1e")
                link.write(frame(self._task.encoding, b"{}\x1e"))
            for kind, call, target in self._messages(rest):
                if kind == 1 and call is not None:
                    link.write(self._completion(call))
                elif kind == 4 and target == "subscribe":
                    self._subscribe(link, call or "")

    def _http(self, link: _Link, head: bytes) -> bytes:
        lines = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if lines[0].startswith("POST "):
            version = 1 if "negotiateVersion=1" in lines[0] else 0
            answer = {"negotiateVersion": version, "connectionId": "shown", "availableTransports": _FORMATS}
            body = json.dumps(answer | ({"connectionToken": "secret"} if version else {})).encode()
            return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        key = headers["sec-websocket-key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        link.is_hub = True
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "
            + base64.b64encode(hashlib.sha1(key, usedforsecurity=False).digest())
            + b"\r\n\r\n"
        )

    def _messages(self, payload: bytes) -> Iterator[tuple[int, str | None, str | None]]:
        """Type, invocation id and target of the hub messages in a WebSocket message."""
        if self._task.encoding == "json":
            for text in payload.split(b"\x1e")[:-1]:
                message: dict[str, Any] = msgspec.json.decode(text)
                yield message.get("type", 0), message.get("invocationId"), message.get("target")
            return
        while payload:
            size = digits = 0
            while payload[digits] > 127:
                size |= (payload[digits] & 127) << 7 * digits
                digits += 1
            size |= payload[digits] << 7 * digits
            values = msgspec.msgpack.decode(payload[digits + 1 : digits + 1 + size])
            payload = payload[digits + 1 + size :]
            yield (values[0], *values[2:4]) if len(values) > 3 else (values[0], None, None)

    def _completion(self, call: str) -> bytes:
        result = {"status": "success"}
        if self._task.encoding == "json":
            text = json.dumps({"type": 3, "invocationId": call, "result": result})
            return frame("json", text.encode() + b"\x1e")
        return frame("messagepack", pack([3, {}, call, 3, result]))

    def _subscribe(self, link: _Link, call: str) -> None:
        link.calls.append(call)
        if len(link.calls) < self._task.subscriptions:
            return
        self._ready.append(link)
        if len(self._ready) < self._task.connections or self._task.measure == "idle":
            return
        if self._task.rate:
            self._pace()
            return
        streams: dict[tuple[str, ...], memoryview] = {}
        for each in self._ready:
            parts = [] if tuple(each.calls) in streams else frames(self._task, each.calls)
            if each.tls is not None:
                parts = list(itertools.islice(itertools.cycle(parts), self._task.total // self._task.per_frame + 1))
                each.stream = memoryview(each.wrap(parts))
                continue
            # Clients that chose the same ids share their bytes.
            key = tuple(each.calls)
            if key not in streams:
                streams[key] = memoryview(b"".join(parts))
            each.stream = streams[key]
        for each in self._ready:
            each.sock.setblocking(False)
            self._selector.modify(each.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, each)

    def _pace(self) -> None:
        """Write so many events a second, to each client in turn, and tell when each was written, in nanoseconds."""
        task, times = self._task, []
        parts = itertools.cycle(frames(task, self._ready[0].calls))
        links = itertools.cycle(self._ready)
        period = task.burst / task.rate
        due = time.monotonic() + 0.05
        for _ in range(task.total // task.burst):
            link = next(links)
            piece = link.wrap(list(itertools.islice(parts, task.burst)))
            if (left := due - time.monotonic()) > 0:
                time.sleep(left)
            times += [time.monotonic_ns()] * task.burst
            link.sock.sendall(piece)
            due += period
        print(json.dumps(times), flush=True)


def _payloads(heard: bytes) -> tuple[list[bytes], bytes]:
    """The data of the complete frames that a client sent, and the rest."""
    payloads = []
    while len(heard) >= 6:
        size, start = heard[1] & 127, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(heard[2:start])
        end = start + 4 + size
        if len(heard) < end:
            break
        mask = heard[start : start + 4]
        if heard[0] & 15 <= 2:
            payloads.append(bytes(byte ^ mask[index % 4] for index, byte in enumerate(heard[start + 4 : end])))
        heard = heard[end:]
    return payloads, heard


if __name__ == "__main__":
    _Sender(read_task()).run()
