"""Random programs for whole machines: inputs, time and commands in any order, valid or not.

`Run` carries a program out on one machine and keeps what came of it. A program is a list of operations, tuples that
Hypothesis can draw and shrink. What the peer says is named by a symbol, because some of it depends on what the machine
said before; it may then be cut or altered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import strategies as st

from etorox_proto import ExchangeConnection
from etorox_proto.signalr import (
    Closed,
    ConnectionTokens,
    HubConnection,
    InvocationReceived,
    Limits,
    LocalProtocolError,
    Resumed,
    ServerConnection,
    State,
    Upload,
)
from machines import (
    HANDSHAKE,
    accept,
    exchange,
    frame,
    http,
    hub,
    hub_frame,
    names,
    negotiated,
    packed,
    packed_frame,
    picture,
    records,
    said,
    server,
    take,
)

PACKED = " in MessagePack"
RESUMES = " that resumes"
ROLES = (
    *("hub", "strict hub", "hub without negotiation", "exchange", "server"),
    *(role + PACKED for role in ("hub", "strict hub", "server")),
    *("hub that resumes", "server that resumes", "hub that resumes" + PACKED, "server that resumes" + PACKED),
)
SMALL = Limits(
    record=500,
    websocket_message=1_000,
    http_head=1_500,
    http_body=1_500,
    pending_calls=3,
    queued_bytes=2_000,
    unacknowledged_bytes=600,
)

ITEM = {"name": "order_created", "market": "btcusd"}

Say = Callable[..., bytes]

# The second of the names that `server` gives is the secret one of what was negotiated first.
UPGRADE_BY_ID = (
    b"GET /hub?id=name-2 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def _said_by_server(say: Say, *, deep: bytes) -> dict[str, bytes]:
    """What a server may say, and must not; `say` puts hub messages into a frame."""
    return {
        "negotiated": negotiated(),
        "negotiated in version 0": negotiated(negotiateVersion=0),
        "granted": negotiated(useStatefulReconnect=True),
        "redirect": http(200, b'{"url":"https://other.test/hub","accessToken":"t"}'),
        "insecure redirect": http(200, b'{"url":"http://other.test/hub"}'),
        "not found": http(404, b"no such thing"),
        "moved": http(301, b"", "Location: https://other.test/x?y"),
        "handshake": HANDSHAKE,
        "handshake in binary": frame(b"{}\x1e", 2),
        "handshake and more": joined_frame(HANDSHAKE, say({"type": 6})),
        "handshake and close": joined_frame(HANDSHAKE, say({"type": 7})),
        "handshake refused": hub_frame({"error": "no"}),
        "setup succeeds": say({"type": 3, "invocationId": "1", "result": {"status": "success"}}),
        "setup fails": say({"type": 3, "invocationId": "1", "result": {"status": "failure"}}),
        **{f"item {n}": say({"type": 2, "invocationId": str(n), "item": ITEM}) for n in (1, 2, 3, 4)},
        **{f"result {n}": say({"type": 3, "invocationId": str(n), "result": n}) for n in (1, 2, 3, 4)},
        **{f"end {n}": say({"type": 3, "invocationId": str(n)}) for n in (1, 2, 3, 4)},
        **{f"error {n}": say({"type": 3, "invocationId": str(n), "error": "bad"}) for n in (1, 2, 3, 4)},
        "invocation": say({"type": 1, "target": "t", "arguments": [1.5]}),
        **{
            f"invocation {n} that waits": say({"type": 1, "target": "t", "arguments": [n], "invocationId": str(n)})
            for n in (1, 2, 3, 4)
        },
        "invocation that nobody answers": say({"type": 1, "target": "?", "arguments": [], "invocationId": "9"}),
        "hub ping": say({"type": 6}),
        **_acks(say),
        "hub close": say({"type": 7, "error": "bye", "allowReconnect": True}),
        "unknown type": say({"type": 99}),
        "unknown property": hub_frame({"type": 6, "new": 1}),
        "surplus element": packed_frame(b"\x92\x06\xc0"),
        "item and malformed": say({"type": 2, "invocationId": "2", "item": 1}, b"{"),
        "item and too long": say({"type": 2, "invocationId": "2", "item": 1}, b"x" * 600),
        "huge exponent": hub_frame(b'{"type":1,"target":"t","arguments":[1e99999999999999999999]}'),
        "deep": say(deep),
        "endless array": packed_frame(b"\x96\x01\x80\xc0\xa1t\xdd\x7f\xff\xff\xff\x01"),
        "prefix too great": frame(b"\xff\xff\xff\xff\x08", 2),
        "not UTF-8": frame(b"\xff\xfe\x1e"),
        "not UTF-8 in binary": frame(b'{"type":1,"target":"\xff","arguments":[]}\x1e', opcode=2),
    }


def _acks(say: Say) -> dict[str, bytes]:
    return {
        **{f"ack {n}": say({"type": 8, "sequenceId": n}) for n in (1, 2, 30)},
        **{f"sequence {n}": say({"type": 9, "sequenceId": n}) for n in (0, 1, 2)},
    }


def _said_by_client(say: Say, *, encoding: str, other: str, unreadable: bytes) -> dict[str, bytes]:
    """The same for a client; its frames are masked."""

    def handshake(name: str) -> bytes:
        return frame(records({"protocol": name, "version": 1}), masked=True)

    def call(kind: int, number: int) -> bytes:
        return say({"type": kind, "target": "t", "arguments": [], "invocationId": str(number)})

    return {
        "negotiate": b"POST /hub/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        "negotiate to resume": b"POST /hub/negotiate?negotiateVersion=1&useStatefulReconnect=true HTTP/1.1\r\n"
        b"Host: h\r\nContent-Length: 0\r\n\r\n",
        "upgrade by id": UPGRADE_BY_ID,
        "handshake to resume": frame(records({"protocol": encoding, "version": 2}), masked=True),
        "negotiate and half": b"POST /negotiate HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
        b"GET / HTTP/1.1\r\nHost: h\r\n\r",
        "line feed": b"\n",
        "get": b"GET /hub HTTP/1.1\r\nHost: h\r\n\r\n",
        "head": b"HEAD /hub HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n",
        "old get": b"GET /hub HTTP/1.0\r\n\r\n",
        "upgrade": b"GET /hub HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        "upgrade badly": b"GET /hub HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n",
        "handshake": handshake(encoding),
        "handshake for the other": handshake(other),
        "handshake for another": handshake("x"),
        **{f"call {n}": call(1, n) for n in (1, 2, 3, 4)},
        **{f"stream {n}": call(4, n) for n in (1, 2, 3, 4)},
        "cancel": say({"type": 5, "invocationId": "1"}),
        **{f"result {n}": say({"type": 3, "invocationId": f"s{n}", "result": n}) for n in (1, 2, 3, 4)},
        "error 1": say({"type": 3, "invocationId": "s1", "error": "bad"}),
        "item 1": say({"type": 2, "invocationId": "s1", "item": 1}),
        "hub ping": say({"type": 6}),
        **_acks(say),
        "hub close": say({"type": 7}),
        "upload": say({"type": 1, "target": "t", "arguments": [], "invocationId": "5", "streamIds": ["u1"]}),
        "uploads for nobody": say({"type": 1, "target": "t", "arguments": [], "streamIds": ["u2", "u3"]}),
        "uploads under one id": say(
            {"type": 4, "target": "t", "arguments": [], "invocationId": "6", "streamIds": ["u4", "u4"]}
        ),
        **{f"upload item {n}": say({"type": 2, "invocationId": f"u{n}", "item": n}) for n in (1, 2)},
        **{f"upload end {n}": say({"type": 3, "invocationId": f"u{n}"}) for n in (1, 2)},
        "upload error": say({"type": 3, "invocationId": "u3", "error": "bad"}),
        "upload item that cannot be read": say(unreadable),
        "unknown type": say({"type": 99}),
        "malformed": say(b"{"),
        "huge exponent": frame(b'{"type":1,"target":"t","arguments":[1e99999999999999999999]}\x1e', masked=True),
        "endless array": frame(packed(b"\x96\x01\x80\xc0\xa1t\xdd\x7f\xff\xff\xff\x01"), 2, masked=True),
        "too long": frame(b"x" * 700, masked=True),
        "not UTF-8": frame(b"\xff\xfe\x1e", masked=True),
    }


def joined_frame(*unmasked: bytes) -> bytes:
    """One binary frame with the payloads of these short frames, one after the other."""
    return frame(b"".join(each[2:] for each in unmasked), 2)


_FRAMES = {
    "ping": (b"ping", 9),
    "pong": (b"", 10),
    "close": (b"\x03\xe8bye", 8),
    "close without a code": (b"", 8),
    "close with a bad code": (b"\x00\x01", 8),
    "binary": (b'{"type":6}\x1e', 2),
    "too long a message": (b"x" * 1_100, 1),
    "bad opcode": (b"", 3),
}


def _frames(*, masked: bool) -> dict[str, bytes]:
    return {
        **{name: frame(payload, opcode, masked=masked) for name, (payload, opcode) in _FRAMES.items()},
        "fragment": frame(b'{"type"', fin=False, masked=masked),
        "last fragment": frame(b":6}\x1e", 0, masked=masked),
        "fragmented ping": frame(b"", 9, fin=False, masked=masked),
        "reserved bit": frame(b"", 1, reserved=4, masked=masked),
        "wrong mask": frame(b'{"type":6}\x1e', masked=not masked),
        "endless": frame(b"", 2, length=2**40, masked=masked),
        "nothing": frame(b"", 1, masked=masked),
    }


_FROM_SERVER = {**_frames(masked=False), "accept": b""}
SAID_BY_SERVER = _said_by_server(hub_frame, deep=b'{"type":1,"target":"t","arguments":' + b"[" * 400) | _FROM_SERVER
PACKED_BY_SERVER = _said_by_server(packed_frame, deep=b"\x91" * 490) | _FROM_SERVER

SAID_BY_CLIENT = _frames(masked=True) | _said_by_client(
    lambda *messages: frame(records(*messages), masked=True),
    encoding="json",
    other="messagepack",
    unreadable=b'{"type":2,"invocationId":"u1","item":1e99999999999999999999}',
)
PACKED_BY_CLIENT = _frames(masked=True) | _said_by_client(
    lambda *messages: frame(packed(*messages), 2, masked=True),
    encoding="messagepack",
    other="json",
    unreadable=b"\x94\x02\x80\xa2u1\xd7\xff" + b"\xff" * 8,
)


def is_packed(role: str) -> bool:
    """Whether a machine of this role speaks MessagePack."""
    return role.endswith(PACKED)


def is_resuming(role: str) -> bool:
    """Whether a machine of this role outlives its stream."""
    return RESUMES in role


def is_server(role: str) -> bool:
    """Whether it is a server."""
    return role.startswith("server")


def said_to(role: str) -> dict[str, bytes]:
    """What the peer of such a machine may say."""
    if is_server(role):
        return PACKED_BY_CLIENT if is_packed(role) else SAID_BY_CLIENT
    return PACKED_BY_SERVER if is_packed(role) else SAID_BY_SERVER


_PREFIXES: dict[str, list[tuple[Any, ...]]] = {
    "hub": [("open",), ("data", "negotiated"), ("open",), ("data", "accept"), ("data", "handshake")],
    "hub that resumes": [("open",), ("data", "granted"), ("open",), ("data", "accept"), ("data", "handshake")],
    "server that resumes": [
        *(("data", "negotiate to resume"), ("data", "upgrade by id"), ("data", "handshake to resume"))
    ],
    "hub without negotiation": [("open",), ("data", "accept"), ("data", "handshake")],
    "exchange": [
        ("open",),
        ("data", "negotiated"),
        ("open",),
        ("data", "accept"),
        ("data", "handshake"),
        ("data", "setup succeeds"),
    ],
    "server": [("data", "negotiate"), ("data", "upgrade"), ("data", "handshake")],
}


def prefix(role: str) -> list[tuple[Any, ...]]:
    """The operations that bring a machine of this role to where commands are accepted."""
    return list(_PREFIXES[role.removeprefix("strict ").removesuffix(PACKED)])


class Run:
    """One machine under a program.

    Attributes:
        events: all events, in order.
        sent: all bytes that were flushed since the last stream was opened.
        calls: the calls made, and those of the server's client (their ids).
        asked: the ids of what a hub asked of its client, and the calls that a server made of its own.
        refusals: how many commands were refused.
        now: the time of the last operation that named one.
    """

    def __init__(self, role: str, *, now: float = 0.0, **config: Any) -> None:
        self.role = role
        self.now = now
        self.events: list[Any] = []
        self.sent = b""
        self.flushed = 0
        self.calls: list[Any] = []
        self.asked: list[Any] = []
        self.uploads: list[Upload] = []
        self.unflushed: set[Any] = set()
        self.refusals = 0
        config = {"limits": SMALL, **config}
        if is_resuming(role):
            config["stateful_reconnect"] = True
        self.tokens = ConnectionTokens(names())
        self.machine: HubConnection | ExchangeConnection | ServerConnection
        if role == "exchange":
            self.machine = exchange(now=now, **config)
        elif is_server(role):
            self.machine = server(now=now, tokens=self.tokens, **config)
        else:
            self.machine = hub(
                now=now,
                handles=["t"],
                strict=role.startswith("strict"),
                skip_negotiation=role == "hub without negotiation",
                encoding="messagepack" if is_packed(role) else "json",
                **config,
            )
        self.observe()

    @property
    def is_closed(self) -> bool:
        return self.machine.state.name == State.CLOSED.name

    def carry_out(self, program: list[tuple[Any, ...]]) -> None:
        """Do all of it; events are taken after each operation, bytes where the program says so."""
        for operation in program:
            self.do(operation)

    def do(self, operation: tuple[Any, ...]) -> None:
        """Do one thing."""
        match operation:
            case ("open",) if not isinstance(self.machine, ServerConnection):
                self.flush()
                self.machine.stream_opened(self.now)
                before, self.sent = self.sent, b""
                if not self.flush():
                    self.sent = before
            case ("data", data, *changes):
                self.flush()
                changed = _change(self.resolve(data), *changes)
                if changed:
                    self.machine.receive_data(changed, self.now)
            case ("return", *symbols) if isinstance(self.machine, ServerConnection):
                self._return(self.machine, symbols)
            case ("return", *symbols):
                for step in [("end",), ("open",), ("data", "accept"), *(("data", symbol) for symbol in symbols)]:
                    self.do(step)
            case ("end",):
                self.machine.receive_data(b"", self.now)
            case ("time", now):
                self.now = now
                self.machine.handle_timeout(now)
            case ("deadline",):
                if math.isfinite(self.machine.deadline):
                    self.now = self.machine.deadline
                self.machine.handle_timeout(self.machine.deadline)
            case ("flush",):
                self.flush()
            case ("command", name, variant):
                try:
                    self.command(name, variant)
                except LocalProtocolError:
                    self.refusals += 1
            case _:
                pass
        self.observe()

    def flush(self) -> bytes:
        data = self.machine.data_to_send()
        self.sent += data
        self.flushed += len(data)
        if not data.startswith((b"GET ", b"POST ")) and data:
            self.unflushed.clear()  # a call does not leave with the request for a stream to carry it
        return data

    def _return(self, machine: ServerConnection, symbols: list[str]) -> None:
        """The client comes back on another stream, if there is something to come back to."""
        arrival = server(now=self.now, tokens=self.tokens, stateful_reconnect=True)
        arrival.receive_data(UPGRADE_BY_ID + b"".join(map(self.resolve, symbols)), self.now)
        if any(isinstance(event, Resumed) for event in take(arrival)):
            machine.receive_data(b"", self.now)
            self.observe()
            machine.resume(arrival, now=self.now)

    def observe(self) -> None:
        events = take(self.machine)
        self.events += events
        calls = self.calls if is_server(self.role) else self.asked
        if self.role != "exchange":
            calls += [e.invocation_id for e in events if isinstance(e, InvocationReceived) and e.invocation_id]

    def resolve(self, data: str | bytes) -> bytes:
        """The bytes that a symbol stands for here."""
        if isinstance(data, bytes):
            return data
        return accept(self.sent) if data == "accept" and not is_server(self.role) else said_to(self.role)[data]

    def argument(self, variant: int) -> Any:
        """One of the values to send, good or bad."""
        values = PACKED_ARGUMENTS if is_packed(self.role) else ARGUMENTS
        return values[variant % len(values)]

    def command(self, name: str, variant: int) -> None:
        """One command; the variant picks its arguments, good or bad."""
        machine, now = self.machine, self.now
        if name == "close":
            if isinstance(machine, ServerConnection):
                machine.close(error=(None, "why")[variant % 2], now=now)
            else:
                machine.close(wait=variant % 2 == 0, now=now)
        elif isinstance(machine, HubConnection):
            self._hub_command(machine, name, variant, now)
        elif isinstance(machine, ExchangeConnection):
            if name in {"upload", "end"}:
                pass
            elif name == "cancel":
                if self.calls:
                    machine.unsubscribe(self.calls[variant % len(self.calls)], now=now)
            else:
                channels, event, fields = SUBSCRIPTIONS[variant % len(SUBSCRIPTIONS)]
                self.calls.append(machine.subscribe(channels, event=event, fields=fields, now=now))
                self.unflushed.add(self.calls[-1])
        else:
            call = self.calls[variant % len(self.calls)] if self.calls and variant % 5 else "unknown"
            value = self.argument(variant)
            match name:
                case "invoke":
                    machine.complete(call, result=value, now=now)
                case "cancel":
                    machine.complete(call, error=("bad", "\ud800")[variant % 2], now=now)
                case "stream":
                    machine.send_item(call, value, now=now)
                case "answer":
                    self.asked.append(machine.invoke(TARGETS[variant % len(TARGETS)], [value], now=now))
                case "withdraw":
                    if self.asked:
                        machine.cancel(self.asked[variant % len(self.asked)], now=now)
                case _:
                    machine.send(TARGETS[variant % len(TARGETS)], [value], now=now)

    def _hub_command(self, machine: HubConnection, name: str, variant: int, now: float) -> None:
        target, arguments = TARGETS[variant % len(TARGETS)], [self.argument(variant)]
        headers = HEADERS[variant % len(HEADERS)]
        result_type = TYPES[variant % len(TYPES)]
        upload = self.uploads[variant % len(self.uploads)] if self.uploads else None
        uploads = UPLOADS[variant % len(UPLOADS)]
        asked = self.asked[variant % len(self.asked)] if self.asked and variant % 5 else "unknown"
        match name:
            case "answer":
                machine.complete(asked, result=arguments[0], now=now)
            case "withdraw":
                machine.complete(asked, error=("bad", "\ud800")[variant % 2], now=now)
            case "invoke":
                call = machine.invoke(
                    target, arguments, uploads=uploads, headers=headers, result_type=result_type, now=now
                )
                self.calls.append(call)
                self.unflushed.add(call)
                self.uploads += call.uploads
            case "stream":
                call = machine.stream(
                    target, arguments, uploads=uploads, headers=headers, item_type=result_type, now=now
                )
                self.calls.append(call)
                self.unflushed.add(call)
                self.uploads += call.uploads
            case "upload":
                if upload is not None:
                    machine.send_item(upload, arguments[0], now=now)
            case "end":
                if upload is not None:
                    machine.end_upload(upload, error=(None, "bad", "\ud800")[variant % 3], now=now)
            case "cancel":
                if self.calls:
                    machine.cancel(self.calls[variant % len(self.calls)], now=now)
            case _:
                self.uploads += machine.send(target, arguments, uploads=uploads, headers=headers, now=now)

    def end(self) -> None:
        """End the connection if it has not ended."""
        if isinstance(self.machine, ServerConnection):
            self.machine.close(now=self.now)
            self.machine.receive_data(b"", self.now)
        else:
            self.machine.close(wait=False, now=self.now)
        self.observe()

    def picture(self) -> Any:
        """What came of it, comparable between runs."""
        return [picture(event) for event in self.events]

    def said(self) -> Any:
        """What the machine sent, with the client's masks and keys taken off."""
        if is_server(self.role) or not self.sent.startswith(b"GET"):
            return self.sent
        head, _, frames = self.sent.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Sec-WebSocket-Key")]
        return lines, said(frames)

    @property
    def closings(self) -> list[Closed]:
        return [event for event in self.events if isinstance(event, Closed)]


# ------------------------------------------------------------------------------------- arguments, good and bad

# Even indices are usable, odd ones are not; the lengths are prime to each other, so variants combine them freely.
TARGETS: list[Any] = ["echo", "fail", "echo", "", "echo", "\ud800", "fail"]
ARGUMENTS: list[Any] = [
    1,
    Decimal("0.10"),
    "text",
    {"a": [None]},
    msgspec.Raw(b"[1]"),
    object(),
    Decimal("NaN"),
    "\ud800",
    msgspec.Raw(b'"\xff"'),
    json.loads("[" * 400 + "]" * 400),
    "x" * 3_000,
]
PACKED_ARGUMENTS: list[Any] = [
    1,
    Decimal("0.10"),
    datetime(2020, 8, 3, tzinfo=UTC),
    {"a": [None]},
    msgspec.Raw(b"\x91\x01"),
    object(),
    2**70,
    "\ud800",
    msgspec.Raw(b"\xa1\xff"),
    msgspec.Raw(b"\x01\x02"),
    "x" * 3_000,
]
HEADERS: list[Any] = [None, {"a": "b"}, {"a": 1}, {"a": "\ud800"}, None]
UPLOADS: list[Any] = [0, 1, 0, 2, 0, -1, 0, 5, 0, 1, 0, "x", 0]
TYPES: list[Any] = [Any, int, Any]
SUBSCRIPTIONS: list[Any] = [
    (["btcusd"], "marketData", None),
    (["ethusd", "xrpusd"], "marketData", ["name", "price"]),
    ([], "marketData", None),
    (["btcusd", "btcusd"], "marketData", None),
    ("btcusd", "marketData", None),
    (["ltcusd"], "", None),
    (["ltcusd"], "marketData", ["price", "name"]),
    (["ltcusd"], "marketData", ["class"]),
    ([1], "marketData", None),
    (["\ud800"], "marketData", None),
    (["x" * 3_000], "marketData", None),
    (["ltcusd"], "other", []),
]


def _change(data: bytes, cut: int | None = None, flip: tuple[int, int] | None = None) -> bytes:
    if flip is not None and data:
        at = flip[0] % len(data)
        data = data[:at] + bytes([data[at] ^ flip[1]]) + data[at + 1 :]
    return data if cut is None else data[:cut]


# ------------------------------------------------------------------------------------------------- strategies

SOBER_TIMES = st.floats(0, 200)
TIMES = SOBER_TIMES | st.sampled_from([math.inf, -math.inf, math.nan, -1.0, 1e18, -1e18, 1e300, 1.7e308])


def data_operations(role: str) -> st.SearchStrategy[tuple[Any, ...]]:
    """The peer says something: as it should be, cut, altered, or mere noise."""
    symbols = st.sampled_from(sorted(said_to(role)))
    flips = st.tuples(st.integers(0, 2_000), st.integers(1, 255))
    return st.one_of(
        st.tuples(st.just("data"), symbols),
        st.tuples(st.just("data"), symbols),
        st.tuples(st.just("data"), symbols, st.integers(0, 300)),
        st.tuples(st.just("data"), symbols, st.none(), flips),
        st.tuples(st.just("data"), st.binary(min_size=1, max_size=60)),
    )


def commands(*names: str) -> st.SearchStrategy[tuple[Any, ...]]:
    """The application asks for something, sensible or not."""
    return st.tuples(st.just("command"), st.sampled_from(names), st.integers(0, 400))


def operations(role: str, times: st.SearchStrategy[float] = TIMES) -> st.SearchStrategy[tuple[Any, ...]]:
    """Anything that can happen to a machine."""
    said = "call 4" if is_server(role) else "item 1"
    returning = [("return",), ("return", "sequence 1"), ("return", "sequence 2", said), ("end",)]
    coming_back = [st.sampled_from(returning)] if is_resuming(role) else []
    return st.one_of(
        *coming_back,
        data_operations(role),
        data_operations(role),
        data_operations(role),
        commands("invoke", "stream", "send", "cancel"),
        commands("invoke", "stream", "close"),
        commands("answer", "withdraw"),
        commands("upload", "end"),
        st.tuples(st.just("time"), times),
        st.sampled_from([("open",), ("end",), ("deadline",), ("flush",)]),
    )


@st.composite
def programs(
    draw: st.DrawFn, role: str, times: st.SearchStrategy[float] = TIMES, max_size: int = 12
) -> list[tuple[Any, ...]]:
    """A program: often well begun, then anything."""
    begin = prefix(role)
    known = begin[: draw(st.integers(0, len(begin)))]
    if draw(st.booleans()):
        known = begin
    return known + draw(st.lists(operations(role, times), max_size=max_size))
