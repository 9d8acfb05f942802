"""Random programs for whole machines: inputs, time and commands in any order, valid or not.

`Run` carries a program out on one machine and keeps what came of it. A program is a list of operations, tuples that
Hypothesis can draw and shrink. What the peer says is named by a symbol, because some of it depends on what the machine
said before; it may then be cut or altered.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import strategies as st

from etorox_proto import ExchangeConnection
from etorox_proto.signalr import (
    Closed,
    HubConnection,
    InvocationReceived,
    Limits,
    LocalProtocolError,
    ServerConnection,
    State,
)
from machines import (
    HANDSHAKE,
    accept,
    exchange,
    frame,
    http,
    hub,
    hub_frame,
    negotiated,
    picture,
    records,
    said,
    server,
    take,
)

ROLES = ("hub", "strict hub", "hub without negotiation", "exchange", "server")
SMALL = Limits(
    record=500, websocket_message=1_000, http_head=1_500, http_body=1_500, pending_calls=3, queued_bytes=2_000
)

ITEM = {"name": "order_created", "market": "btcusd"}

_SAID_BY_SERVER: dict[str, bytes] = {
    "negotiated": negotiated(),
    "negotiated in version 0": negotiated(negotiateVersion=0),
    "redirect": http(200, b'{"url":"https://other.test/hub","accessToken":"t"}'),
    "insecure redirect": http(200, b'{"url":"http://other.test/hub"}'),
    "not found": http(404, b"no such thing"),
    "moved": http(301, b"", "Location: https://other.test/x?y"),
    "handshake": HANDSHAKE,
    "handshake and more": hub_frame({}, {"type": 6}),
    "handshake and close": hub_frame({}, {"type": 7}),
    "handshake refused": hub_frame({"error": "no"}),
    "setup succeeds": hub_frame({"type": 3, "invocationId": "1", "result": {"status": "success"}}),
    "setup fails": hub_frame({"type": 3, "invocationId": "1", "result": {"status": "failure"}}),
    **{f"item {n}": hub_frame({"type": 2, "invocationId": str(n), "item": ITEM}) for n in (1, 2, 3, 4)},
    **{f"result {n}": hub_frame({"type": 3, "invocationId": str(n), "result": n}) for n in (1, 2, 3, 4)},
    **{f"end {n}": hub_frame({"type": 3, "invocationId": str(n)}) for n in (1, 2, 3, 4)},
    **{f"error {n}": hub_frame({"type": 3, "invocationId": str(n), "error": "bad"}) for n in (1, 2, 3, 4)},
    "invocation": hub_frame({"type": 1, "target": "t", "arguments": [1.5]}),
    "invocation that waits": hub_frame({"type": 1, "target": "t", "arguments": [], "invocationId": "9"}),
    "hub ping": hub_frame({"type": 6}),
    "hub close": hub_frame({"type": 7, "error": "bye", "allowReconnect": True}),
    "unknown type": hub_frame({"type": 99}),
    "unknown property": hub_frame({"type": 6, "new": 1}),
    "item and malformed": hub_frame({"type": 2, "invocationId": "2", "item": 1}, b"{"),
    "item and too long": hub_frame({"type": 2, "invocationId": "2", "item": 1}, b"x" * 600),
    "huge exponent": hub_frame(b'{"type":1,"target":"t","arguments":[1e99999999999999999999]}'),
    "deep": hub_frame(b'{"type":1,"target":"t","arguments":' + b"[" * 400),
    "not UTF-8": frame(b"\xff\xfe\x1e"),
    "not UTF-8 in binary": frame(b'{"type":1,"target":"\xff","arguments":[]}\x1e', opcode=2),
}

_SAID_BY_CLIENT: dict[str, bytes] = {
    "negotiate": b"POST /hub/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
    "negotiate and half": b"POST /negotiate HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
    b"GET / HTTP/1.1\r\nHost: h\r\n\r",
    "line feed": b"\n",
    "get": b"GET /hub HTTP/1.1\r\nHost: h\r\n\r\n",
    "head": b"HEAD /hub HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n",
    "old get": b"GET /hub HTTP/1.0\r\n\r\n",
    "upgrade": b"GET /hub HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "upgrade badly": b"GET /hub HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n",
    "handshake": frame(b'{"protocol":"json","version":1}\x1e', masked=True),
    "handshake for another": frame(b'{"protocol":"x","version":1}\x1e', masked=True),
    **{
        f"call {n}": frame(records({"type": 1, "target": "t", "arguments": [], "invocationId": str(n)}), masked=True)
        for n in (1, 2, 3, 4)
    },
    **{
        f"stream {n}": frame(records({"type": 4, "target": "t", "arguments": [], "invocationId": str(n)}), masked=True)
        for n in (1, 2, 3, 4)
    },
    "cancel": frame(records({"type": 5, "invocationId": "1"}), masked=True),
    "hub ping": frame(records({"type": 6}), masked=True),
    "hub close": frame(records({"type": 7}), masked=True),
    "upload": frame(
        records({"type": 1, "target": "t", "arguments": [], "invocationId": "5", "streamIds": ["1"]}), masked=True
    ),
    "unknown type": frame(records({"type": 99}), masked=True),
    "malformed": frame(b"{\x1e", masked=True),
    "huge exponent": frame(b'{"type":1,"target":"t","arguments":[1e99999999999999999999]}\x1e', masked=True),
    "too long": frame(b"x" * 700, masked=True),
    "not UTF-8": frame(b"\xff\xfe\x1e", masked=True),
}

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


SAID_BY_SERVER = {**_SAID_BY_SERVER, **_frames(masked=False), "accept": b""}
SAID_BY_CLIENT = {**_SAID_BY_CLIENT, **_frames(masked=True)}

_PREFIXES: dict[str, list[tuple[Any, ...]]] = {
    "hub": [("open",), ("data", "negotiated"), ("open",), ("data", "accept"), ("data", "handshake")],
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
    return list(_PREFIXES[role.removeprefix("strict ")])


class Run:
    """One machine under a program.

    Attributes:
        events: all events, in order.
        sent: all bytes that were flushed since the last stream was opened.
        calls: the calls made, and those of the server's client (their ids).
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
        self.unflushed: set[Any] = set()
        self.refusals = 0
        config = {"limits": SMALL, **config}
        self.machine: HubConnection | ExchangeConnection | ServerConnection
        if role == "exchange":
            self.machine = exchange(now=now, **config)
        elif role == "server":
            self.machine = server(now=now, **config)
        else:
            self.machine = hub(
                now=now, strict=role == "strict hub", skip_negotiation=role == "hub without negotiation", **config
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
        if data:
            self.unflushed.clear()
        return data

    def observe(self) -> None:
        events = take(self.machine)
        self.events += events
        if self.role == "server":
            self.calls += [e.invocation_id for e in events if isinstance(e, InvocationReceived) and e.invocation_id]

    def resolve(self, data: str | bytes) -> bytes:
        """The bytes that a symbol stands for here."""
        if isinstance(data, bytes):
            return data
        if self.role == "server":
            return SAID_BY_CLIENT[data]
        return accept(self.sent) if data == "accept" else SAID_BY_SERVER[data]

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
            if name == "cancel":
                if self.calls:
                    machine.unsubscribe(self.calls[variant % len(self.calls)], now=now)
            else:
                channels, event, fields = SUBSCRIPTIONS[variant % len(SUBSCRIPTIONS)]
                self.calls.append(machine.subscribe(channels, event=event, fields=fields, now=now))
                self.unflushed.add(self.calls[-1])
        else:
            call = self.calls[variant % len(self.calls)] if self.calls and variant % 5 else "unknown"
            value = ARGUMENTS[variant % len(ARGUMENTS)]
            match name:
                case "invoke":
                    machine.complete(call, result=value, now=now)
                case "cancel":
                    machine.complete(call, error=("bad", "\ud800")[variant % 2], now=now)
                case "stream":
                    machine.send_item(call, value, now=now)
                case _:
                    machine.send(TARGETS[variant % len(TARGETS)], [value], now=now)

    def _hub_command(self, machine: HubConnection, name: str, variant: int, now: float) -> None:
        target, arguments = TARGETS[variant % len(TARGETS)], [ARGUMENTS[variant % len(ARGUMENTS)]]
        headers = HEADERS[variant % len(HEADERS)]
        result_type = TYPES[variant % len(TYPES)]
        match name:
            case "invoke":
                self.calls.append(machine.invoke(target, arguments, headers=headers, result_type=result_type, now=now))
                self.unflushed.add(self.calls[-1])
            case "stream":
                self.calls.append(machine.stream(target, arguments, headers=headers, item_type=result_type, now=now))
                self.unflushed.add(self.calls[-1])
            case "cancel":
                if self.calls:
                    machine.cancel(self.calls[variant % len(self.calls)], now=now)
            case _:
                machine.send(target, arguments, headers=headers, now=now)

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
        if self.role == "server" or not self.sent.startswith(b"GET"):
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
HEADERS: list[Any] = [None, {"a": "b"}, {"a": 1}, {"a": "\ud800"}, None]
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
    symbols = st.sampled_from(sorted(SAID_BY_CLIENT if role == "server" else SAID_BY_SERVER))
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
    return st.one_of(
        data_operations(role),
        data_operations(role),
        data_operations(role),
        commands("invoke", "stream", "send", "cancel"),
        commands("invoke", "stream", "close"),
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
