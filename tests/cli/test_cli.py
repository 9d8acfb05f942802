"""The `etorox` command: what it shows, on which stream, with which exit code, and that it keeps secrets.

Most tests call `main` in this process. Where a pipe, a terminal or a signal matters there is one: `Lines` puts a pipe
and `Terminal` a pseudo-terminal in the place of the standard streams, and some tests start a process of their own.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import getpass
import json
import math
import os
import pty
import re
import runpy
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import pytest

from etorox_proto import (
    ConnectionLost,
    CredentialsError,
    NegotiationFailed,
    RemoteProtocolError,
    ServerClosed,
    SessionConfig,
    SetupRefused,
    SignalRError,
    SigningFailed,
    SubscriptionFailed,
    TimedOut,
    UpgradeFailed,
    load_private_key,
)
from etorox_proto.signalr import ConnectionTokens, InvocationReceived, ServerConfig, ServerConnection
from etorox_transports import DialFailed
from etorox_transports._text import printable
from etorox_transports.cli import _stream as stream_module
from etorox_transports.cli import exit_code, main
from etorox_transports.cli._chaos import Chaos, FaultKind
from etorox_transports.cli._host import SimulatorHost
from etorox_transports.cli._watch import ADAPTERS, Summary
from hosts import served
from loopback import held_port
from machines import names

KEYS = Path(__file__).parents[1] / "data" / "keys"
KEY_FILE = KEYS / "rsa1024-pkcs8.pem"
SECRET_KEY_FILE = KEYS / "rsa1024-pkcs8-secret.pem"
API_KEY = "5c9d4a52-1f0c-4d0a-9a52-0a6d2b7f2a11"
PROGRAM = [sys.executable, "-m", "etorox_transports.cli"]
STYLE = re.compile(r"\x1b\[[0-9;]*m")

every_adapter = pytest.mark.parametrize("adapter", ADAPTERS)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("ETOROX_") or name in {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "COLORTERM"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "xterm-256color")


@contextlib.contextmanager
def serving(**options: Any) -> Iterator[SimulatorHost]:
    key = load_private_key(KEY_FILE)
    with served(API_KEY, key.public_key, **options) as host:
        yield host


@pytest.fixture(scope="module")
def host() -> Iterator[SimulatorHost]:
    with serving(rate=500.0) as host:
        yield host


def to(port: int, *, key_file: Path = KEY_FILE) -> list[str]:
    return ["--host", f"http://127.0.0.1:{port}", "--api-key", API_KEY, "--key-file", str(key_file)]


class Ran:
    """What a run of the command gave."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        assert "Traceback" not in out + err
        assert API_KEY not in out + err

    @property
    def events(self) -> list[Any]:
        return [json.loads(line, parse_float=Decimal) for line in self.out.splitlines()]


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        code = main(arguments)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


class Lines:
    """A pipe in the place of standard output and standard error, and whoever reads it line by line."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, read: Callable[[Lines], None]) -> None:
        source, target = os.pipe()
        self.source = os.fdopen(source, encoding="utf-8")
        self.target = os.fdopen(target, "w", encoding="utf-8")
        self.seen: list[str] = []
        self.is_running = True
        self.thread = threading.Thread(target=self._read, args=(read,))
        monkeypatch.setattr(sys, "stdout", self.target)
        monkeypatch.setattr(sys, "stderr", self.target)

    def _read(self, read: Callable[[Lines], None]) -> None:
        try:
            read(self)
        finally:
            with contextlib.suppress(ValueError):
                for line in self.source:
                    self.seen.append(line)

    def until(self, wanted: str) -> str:
        """The next line with that in it."""
        for line in self.source:
            self.seen.append(line)
            if wanted in line:
                return line
        raise AssertionError(f"no {wanted!r} in {self.seen}")

    def interrupt(self) -> None:
        """Ctrl-C, if the command still runs."""
        if self.is_running:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def run(self, *arguments: str) -> Ran:
        self.thread.start()
        try:
            code = main(arguments)
        finally:
            self.is_running = False
            with contextlib.suppress(BrokenPipeError):
                self.target.close()
            self.thread.join(20.0)
            self.source.close()
        return Ran(code, "".join(self.seen).replace(API_KEY, "the key"), "")


class Terminal:
    """A pseudo-terminal in the place of the standard streams."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.master, slave = pty.openpty()
        self.file = os.fdopen(slave, "w", encoding="utf-8")
        self.data = b""
        self.thread = threading.Thread(target=self._read)
        self.thread.start()
        monkeypatch.setattr(sys, "stdout", self.file)
        monkeypatch.setattr(sys, "stderr", self.file)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # which is how a terminal's other end says that all have gone
            while data := os.read(self.master, 65_536):
                self.data += data

    def run(self, *arguments: str) -> tuple[int, str]:
        try:
            code = main(arguments)
        finally:
            self.file.close()
            self.thread.join(10.0)
            os.close(self.master)
        return code, self.data.decode().replace("\r\n", "\n")


class OddExchange:
    """An exchange that accepts everybody, sends these items to each subscription, and ends it in good order."""

    def __init__(self, *items: Any, error: str | None = None, setup: Any = None) -> None:
        self.items = items
        self.error = error
        self.setup = setup or {"status": "success"}
        self.tokens = ConnectionTokens(names())
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join(10.0)
        self.listener.close()
        assert not self.thread.is_alive()

    def _serve(self) -> None:
        for _ in range(2):  # one stream to negotiate, one for the WebSocket
            sock, _ = self.listener.accept()
            with sock:
                server = ServerConnection(ServerConfig(), tokens=self.tokens, now=0.0)
                while data := sock.recv(65_536):
                    server.receive_data(data, 0.0)
                    self._answer(server)
                    sock.sendall(server.data_to_send())

    def _answer(self, server: ServerConnection) -> None:
        while (event := server.next_event()) is not None:
            match event:
                case InvocationReceived(target="setup", invocation_id=str(call)):
                    server.complete(call, result=self.setup, now=0.0)
                case InvocationReceived(target="subscribe", invocation_id=str(call)):
                    for item in self.items:
                        server.send_item(call, item, now=0.0)
                    server.complete(call, error=self.error, now=0.0)
                case _:
                    pass


class TestStreamInAPipe:
    def test_without_a_host_the_embedded_exchange_is_started(self, run: Run) -> None:
        ran = run("stream", "--count", "5")
        assert ran.code == 0
        assert len(ran.events) == 5
        assert {event["market"] for event in ran.events} <= {"btcusd", "ethusd"}
        assert re.match(r"No --host: streaming made-up events from the embedded exchange on 127.0.0.1:\d+\.", ran.err)
        assert re.search(r"\n5 events in \d+\.\d s \([\d.,]+ a second\)\.\n$", ran.err)

    def test_credentials_that_are_not_used_are_named(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ETOROX_API_KEY", API_KEY)
        monkeypatch.setenv("ETOROX_KEY_FILE", str(KEY_FILE))
        ran = run("stream", "--count", "1")
        assert ran.code == 0
        assert "\nETOROX_API_KEY and ETOROX_KEY_FILE not used, for want of --host.\n" in ran.err

    def test_one_object_a_line_with_exact_numbers(self, run: Run, host: SimulatorHost) -> None:
        ran = run("stream", "btcusd", *to(host.port), "--count", "30")
        assert ran.code == 0
        assert len(ran.events) == 30
        assert ran.err.startswith("30 events in ")
        for event in ran.events:
            price = event["price"]
            assert isinstance(price, Decimal)
            assert price.as_tuple().exponent == -2
            assert set(event) >= {"name", "market", "snapshot_id"}
            assert "-0" not in str(price)

    def test_every_digit_arrives(self, run: Run) -> None:
        item = {"name": "new_event", "number": Decimal("1.10000000000000000000001"), "big": 2**70}
        with OddExchange(item) as exchange:
            ran = run("stream", *to(exchange.port))
        assert ran.out == '{"name":"new_event","number":1.10000000000000000000001,"big":1180591620717411303424}\n'

    def test_fields_make_objects_of_those_fields(self, run: Run, host: SimulatorHost) -> None:
        ran = run("stream", "btcusd", *to(host.port), "--count", "5", "--fields", "name, price")
        assert [list(event) for event in ran.events] == [["name", "price"]] * 5

    def test_private_events(self, run: Run, host: SimulatorHost) -> None:
        ran = run("stream", "btcusd", *to(host.port), "--count", "5", "--event", "privateData")
        assert all({"strategy", "order_id"} & set(event) for event in ran.events)

    def test_credentials_from_the_environment(
        self, run: Run, host: SimulatorHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ETOROX_API_KEY", API_KEY)
        monkeypatch.setenv("ETOROX_KEY_FILE", str(KEY_FILE))
        options = ["stream", "--host", f"http://127.0.0.1:{host.port}", "--count", "1"]
        assert run(*options).code == 0
        monkeypatch.delenv("ETOROX_KEY_FILE")
        monkeypatch.setenv("ETOROX_PRIVATE_KEY", KEY_FILE.read_text("ascii"))
        assert run(*options).err.startswith("1 event in ")


class TestStreamOnATerminal:
    def test_aligned_and_coloured_under_a_heading(self, monkeypatch: pytest.MonkeyPatch, host: SimulatorHost) -> None:
        code, text = Terminal(monkeypatch).run("stream", *to(host.port), "--count", "60")
        assert code == 0
        assert "\x1b[" in text
        heading, *lines, summary = STYLE.sub("", text).splitlines()
        assert heading.split() == ["time", "(UTC)", "market", "event", "side", "price", "volume", "change", "id"]
        assert summary.startswith("60 events in ")
        assert len(lines) == 60
        for line in lines:
            assert re.match(r"\d\d:\d\d:\d\d\.\d{3}  (btc|eth)usd   (created|updated|cancelled|completed|trade) ", line)
            assert len(line) == len(heading)
            for title in ("price", "volume"):
                assert line[: heading.index(title) + len(title)].split()[-1].replace(".", "").isdecimal()
            assert line[heading.rindex("id") :].strip().isalnum()

    def test_json_if_asked_for(self, monkeypatch: pytest.MonkeyPatch, host: SimulatorHost) -> None:
        _, text = Terminal(monkeypatch).run("stream", *to(host.port), "--count", "3", "--json")
        *lines, summary = STYLE.sub("", text).splitlines()
        assert [json.loads(line)["name"] for line in lines]
        assert summary.startswith("3 events in ")

    def test_rows_have_a_column_for_each_field(self, monkeypatch: pytest.MonkeyPatch, host: SimulatorHost) -> None:
        fields = "id,name,price,side,updated_at,volume"
        code, text = Terminal(monkeypatch).run("stream", *to(host.port), "--count", "40", "--fields", fields)
        assert code == 0
        heading, *lines, _ = STYLE.sub("", text).splitlines()
        assert heading.split() == fields.split(",")
        ends = {line[: heading.index("price") + len("price")].rstrip() for line in lines}
        assert all(len(end) == heading.index("price") + len("price") for end in ends), (
            "prices end where their title does"
        )
        assert any(" - " in line or line.endswith(" -") for line in lines), "a trade has no side"

    def test_private_events(self, monkeypatch: pytest.MonkeyPatch, host: SimulatorHost) -> None:
        code, text = Terminal(monkeypatch).run("stream", *to(host.port), "--count", "40", "--event", "privateData")
        assert code == 0
        assert "created" in text

    def test_what_a_server_sends_cannot_steer_the_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        evil = "\x1b]0;owned\x07"
        created = {"name": "order_created", "id": evil, "side": "bid", "market": evil, "volume": 1, "price": 1.4}
        created |= {"state": "wait", "updated_at": "2020-08-03T10:16:17.631Z"}
        trade = {"name": "trade_completed", "price": 2, "created_at": "2020-08-03T10:16:17.631Z", "market": "btcusd"}
        shown = []
        for exchange in (
            OddExchange(created, trade, {"name": "new", "text": evil + "\x9b1m"}),
            OddExchange(error=evil),
        ):
            with exchange:
                shown.append(Terminal(monkeypatch).run("stream", *to(exchange.port)))
        assert [code for code, _ in shown] == [0, 5]
        for _, text in shown:
            assert "\x1b]" not in text
            assert "\x07" not in text
            assert "\x9b" not in text
            assert r"\x1b]0;owned\x07" in text
        assert "unknown" in shown[0][1]

    def test_numbers_of_any_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        order = {"name": "order_canceled", "id": "x", "side": "bid", "market": "m", "state": "cancelled"}
        order["update_at"] = "2020-08-03T10:16:17.631Z"
        huge = order | {"price": Decimal("1E+999999"), "volume": Decimal("1E+999999999"), "delta": Decimal("-1E-9999")}
        fine = order | {"price": Decimal("1.50"), "volume": Decimal("0.5000"), "delta": Decimal(-100)}
        with OddExchange(huge, fine) as exchange:
            code, text = Terminal(monkeypatch).run("stream", *to(exchange.port))
        assert code == 0
        assert re.search(r"1E\+999999 +1E\+999999999 +-1E-9999 ", STYLE.sub("", text))
        assert re.search(r" 1\.50 +0\.5 +-100 ", STYLE.sub("", text))

    def test_rows_cannot_steer_it_either(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with OddExchange(["\x1b[2J", ["x"]], [":100:"]) as exchange:
            code, text = Terminal(monkeypatch).run("stream", *to(exchange.port), "--fields", "name,whatever")
        assert code == 0
        assert "\x1b[2J" not in text
        assert ":100:" in text

    def test_a_real_terminal_and_a_real_ctrl_c(self) -> None:
        master, slave = pty.openpty()
        command = [*PROGRAM, "stream", "btcusd"]
        with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True) as process:
            os.close(slave)
            text = b""
            while text.count(b"btcusd") < 2:
                text += os.read(master, 4096)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(OSError):
                while data := os.read(master, 4096):
                    text += data
            assert process.wait(10.0) == 0
        os.close(master)
        shown = STYLE.sub("", text.decode())
        assert "Traceback" not in shown
        assert re.search(r"\d+ events? in [\d.]+ s \([\d.]+ a second\)\.\r\n$", shown)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting again takes no time."""
    session = SessionConfig(backoff_base=0.01, backoff_cap=0.05, attempts_per_minute=10_000)
    monkeypatch.setattr(stream_module, "_SESSION", session)


@every_adapter
@pytest.mark.usefixtures("quick")
class TestStayingConnected:
    def test_after_the_exchange_was_restarted(self, monkeypatch: pytest.MonkeyPatch, adapter: str) -> None:
        with contextlib.ExitStack() as later:
            address = ("127.0.0.1", held_port(later))
            first = contextlib.ExitStack()
            first.enter_context(serving(rate=200.0, address=address))

            def read(lines: Lines) -> None:
                lines.until('"name"')
                first.close()
                lines.until("Connection refused")
                later.enter_context(serving(rate=200.0, address=address))
                lines.until('"name":"(gap)"')

            ran = Lines(monkeypatch, read).run("stream", *to(address[1]), "--count", "60", "--adapter", adapter)
        assert ran.code == 0
        assert re.search(r"--- the server closed the connection; connecting again in 0\.\d s ---\n", ran.out)
        assert re.search(r"; connecting again in .*\n--- connected again ---\n\{\"name\":\"\(gap\)\"", ran.out)
        assert re.search(r"\n60 events in .* a second\), connected again once, 1 gap\.\n$", ran.out)
        (gap,) = (json.loads(line) for line in ran.out.splitlines() if "(gap)" in line)
        assert gap["channels"] == ["btcusd", "ethusd"]
        assert gap["event"] == "marketData"
        assert gap["cause"] == "the server closed the connection"
        since = datetime.datetime.fromisoformat(gap["since"])
        assert 0 < gap["lasted"] < 60
        assert abs((datetime.datetime.now(datetime.UTC) - since).total_seconds() - gap["lasted"]) < 60

    def test_on_a_terminal_a_gap_is_a_line_among_the_events(
        self, monkeypatch: pytest.MonkeyPatch, adapter: str
    ) -> None:
        chaos = Chaos(rate=120.0, kinds=[FaultKind.RESET])
        with serving(rate=3_000.0, chaos=chaos) as host:
            options = ["--count", "2500", "--adapter", adapter]
            code, text = Terminal(monkeypatch).run("stream", *to(host.port), *options)
        assert code == 0
        assert "\x1b[1;31m--- events of btcusd, ethusd may be missing here, from " in text
        lines = STYLE.sub("", text).splitlines()
        gaps = [number for number, line in enumerate(lines) if "may be missing here" in line]
        assert gaps
        # On a slow machine a connection may be reset before it has brought an event, and one gap follows the other.
        behind = [lines[number + 1] for number in gaps if number + 1 not in gaps]
        assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3}  ", line) for line in behind), behind
        assert re.search(rf", connected again .*, {len(gaps)} gaps?\.$", lines[-1])

    def test_rotations_are_told_and_counted(self, run: Run, host: SimulatorHost, adapter: str) -> None:
        options = ["--count", "600", "--rotate-after", "0.3", "--adapter", adapter]
        ran = run("stream", *to(host.port), *options)
        assert ran.code == 0
        assert len(ran.events) == 600
        assert "(gap)" not in ran.out
        rotations = ran.err.count("--- gone over to a new connection ---\n")
        assert rotations >= 1
        assert re.search(rf", {rotations} rotations?\.\n$", ran.err)

    def test_a_failed_rotation_is_told(self, monkeypatch: pytest.MonkeyPatch, adapter: str) -> None:
        with contextlib.ExitStack() as stack:
            host = stack.enter_context(serving(rate=200.0))

            def read(lines: Lines) -> None:
                lines.until('"name"')
                host.refuse_until(math.inf)
                lines.until("a second connection, to replace this one, failed: ")
                lines.until('"name"')
                lines.interrupt()

            options = ["--rotate-after", "0.5", "--adapter", adapter]
            ran = Lines(monkeypatch, read).run("stream", *to(host.port), *options)
        assert ran.code == 0
        assert re.search(r"failed: .*; tried again in \d\.\d s ---\n", ran.out)

    def test_once(self, monkeypatch: pytest.MonkeyPatch, adapter: str) -> None:
        with contextlib.ExitStack() as stack:
            port = stack.enter_context(serving(rate=200.0)).port

            def read(lines: Lines) -> None:
                lines.until('"name"')
                stack.close()

            ran = Lines(monkeypatch, read).run("stream", *to(port), "--once", "--adapter", adapter)
        assert ran.code == 4
        assert ran.out.endswith("etorox: the server closed the connection\n")
        assert "connecting again" not in ran.out

    def test_silence_is_told(self, monkeypatch: pytest.MonkeyPatch, adapter: str) -> None:
        monkeypatch.setattr(stream_module, "_SESSION", SessionConfig(stale_after=0.05))

        def read(lines: Lines) -> None:
            lines.until("--- nothing came for btcusd, ethusd for 0 s ---")
            lines.interrupt()

        with serving(rate=1e-9) as host:
            ran = Lines(monkeypatch, read).run("stream", *to(host.port), "--adapter", adapter)
        assert ran.code == 0

    def test_a_final_error_ends_it(self, run: Run, adapter: str) -> None:
        with serving(rate=200.0, chaos=Chaos(rate=600.0, kinds=[FaultKind.LAST_GOODBYE])) as host:
            ran = run("stream", *to(host.port), "--adapter", adapter)
        assert ran.code == 4
        # Whom it strikes on the way to a connection is not told that it was the last one, and comes back.
        *before, last = ran.err.splitlines()
        assert last == "etorox: the server closed the connection"
        assert all("connecting again in" in line for line in before)

    def test_ctrl_c_while_it_waits_to_connect_again(self, monkeypatch: pytest.MonkeyPatch, adapter: str) -> None:
        with contextlib.ExitStack() as stack:
            port = held_port(stack)

            def read(lines: Lines) -> None:
                for _ in range(5):
                    lines.until("Connection refused; connecting again in 0.")
                lines.interrupt()

            ran = Lines(monkeypatch, read).run("stream", *to(port), "--adapter", adapter)
        assert ran.code == 0
        assert "\n0 events in" in ran.out


@every_adapter
class TestAdapters:
    def test_events_come(self, run: Run, adapter: str) -> None:
        ran = run("stream", "--count", "5", "--adapter", adapter)
        assert ran.code == 0
        assert len(ran.events) == 5
        assert re.search(r"\n5 events in .*\.\n$", ran.err)

    def test_ctrl_c(self, monkeypatch: pytest.MonkeyPatch, host: SimulatorHost, adapter: str) -> None:
        def read(lines: Lines) -> None:
            lines.until('"name"')
            lines.interrupt()

        ran = Lines(monkeypatch, read).run("stream", *to(host.port), "--adapter", adapter)
        assert ran.code == 0
        assert re.search(r"\n\d+ events? in [\d.]+ s", ran.out)

    def test_whoever_has_read_enough_may_go(
        self, monkeypatch: pytest.MonkeyPatch, host: SimulatorHost, adapter: str
    ) -> None:
        def read(lines: Lines) -> None:
            lines.until('"name"')
            lines.source.close()

        ran = Lines(monkeypatch, read).run("stream", *to(host.port), "--adapter", adapter)
        assert ran.code == 0
        assert "events in" not in ran.out

    def test_a_wrong_key(self, run: Run, host: SimulatorHost, adapter: str) -> None:
        ran = run("stream", *to(host.port, key_file=KEYS / "rsa2048-pkcs8.pem"), "--adapter", adapter)
        assert ran.code == 3
        assert "the signature does not fit" in ran.err

    def test_a_channel_that_is_not_listed(self, run: Run, host: SimulatorHost, adapter: str) -> None:
        ran = run("stream", "nothing", *to(host.port), "--adapter", adapter)
        assert ran.code == 5
        assert "the topic nothing marketData is not listed" in ran.err

    def test_the_end_of_the_subscription(self, run: Run, adapter: str) -> None:
        with OddExchange() as exchange:
            ran = run("stream", *to(exchange.port), "--adapter", adapter)
        assert (ran.code, ran.out) == (0, "")
        assert ran.err.startswith("The exchange has ended the subscription.\n0 events in ")


@pytest.mark.parametrize("adapter", ["trio", "anyio"])
def test_the_extra_of_an_adapter_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch, adapter: str) -> None:
    monkeypatch.setitem(sys.modules, adapter, None)
    ran = run("stream", "--adapter", adapter)
    assert ran.code == 2
    expected = f"expected the extra `{adapter}` for --adapter {adapter}: pip install 'etorox-proto[{adapter}]'\n"
    assert ran.err.endswith(expected)


def test_what_is_missing_in_an_adapter_is_not_taken_for_its_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "etorox_transports.trio", raising=False)
    monkeypatch.setitem(sys.modules, "etorox_transports._attempt", None)
    with pytest.raises(ModuleNotFoundError, match="_attempt"):
        run("stream", "--adapter", "trio")


def test_what_is_said_at_the_end() -> None:
    summary = Summary()
    summary.events, summary.reconnects, summary.gaps, summary.rotations = 1_000, 1, 2, 1
    assert re.fullmatch(
        r"\n1,000 events in .* a second\), connected again once, 2 gaps, 1 rotation\.", summary.text(interrupted=True)
    )


class TestRefusals:
    def test_a_port_that_refuses(self, run: Run) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        ran = run("stream", *to(port), "--once")
        assert (ran.code, ran.err) == (4, f"etorox: could not connect to 127.0.0.1 port {port}: Connection refused\n")

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["nothing"], "expected instruments that the embedded exchange trades (btcusd, "),
            (["--fields", "price,price"], "expected each of fields once"),
            (["--fields", ""], "expected fields to be names"),
            (["--event", ""], "expected the name of an event"),
            (["btcusd", "btcusd"], "expected each of channels once"),
            (["--api-key", "x"], "expected --host with --api-key, --key-file or --ca-file"),
            (["--key-file", "x"], "expected --host with --api-key"),
            (["--ca-file", "x"], "expected --host with --api-key"),
            (["--host", "http://example.test"], "expected https:// in --host; http:// is for this machine only"),
            (["--host", "ftp://example.test"], "expected "),
            (["--host", "127.0.0.1"], "expected an API key: use --api-key or set ETOROX_API_KEY"),
            (["--host", "127.0.0.1", "--api-key", "k"], "expected a private key: use --key-file, or set ETOROX_KEY_"),
            (["--host", "127.0.0.1", "--api-key", "a b", "--key-file", str(KEY_FILE)], "whitespace"),
            (["--host", "127.0.0.1", "--api-key", "k", "--key-file", "/no/file"], "No such file"),
            (["--host", "h", "--ca-file", "/no/file"], "expected --ca-file to name a file of certificates (PEM): /no/"),
            (["--host", "h", "--ca-file", str(KEY_FILE)], "rsa1024-pkcs8.pem: it holds none"),
        ],
    )
    def test_what_cannot_be_done(self, run: Run, arguments: list[str], reason: str) -> None:
        ran = run("stream", *arguments)
        assert ran.code == 2
        assert ran.out == ""
        assert ran.err.startswith("etorox: ")
        assert reason in ran.err
        assert ran.err.count("\n") == 1

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["nothing"],
            ["key"],
            ["key", "check"],
            ["stream", "--count", "0"],
            ["stream", "--count", "x"],
            ["stream", "--rotate-after", "0"],
            ["stream", "--rotate-after", "soon"],
            ["stream", "--rotate-after", "1", "--once"],
            ["stream", "--adapter", "twisted"],
            ["simulate", "--chaos", "0"],
            ["simulate", "--chaos", "much"],
            ["simulate", "--rate", "0"],
            ["simulate", "--rate", "nan"],
            ["simulate", "--rate", "fast"],
            ["simulate", "--rate", "inf"],
            ["simulate", "--port", "65536"],
            ["simulate", "--port", "-1"],
            ["simulate", "--seed", "x"],
        ],
    )
    def test_wrong_usage(self, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "usage: etorox" in captured.err

    @pytest.mark.parametrize("command", [[], ["stream"], ["simulate"], ["key"], ["key", "check"]])
    def test_help(self, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main([*command, "--help"])
        assert caught.value.code == 0
        assert "usage: etorox" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (CredentialsError("x"), 2),
            (SetupRefused("x"), 3),
            (SigningFailed("x"), 3),
            (NegotiationFailed("x", status=401), 3),
            (NegotiationFailed("x", status=403), 3),
            (UpgradeFailed("x", status=403), 3),
            (NegotiationFailed("x", status=404), 5),
            (UpgradeFailed("x", status=404), 5),
            (DialFailed("x", may_retry=True), 4),
            (ConnectionLost("x"), 4),
            (TimedOut("silence", 1.0, "x"), 4),
            (ServerClosed(None, allow_reconnect=False), 4),
            (SubscriptionFailed("x"), 5),
            (RemoteProtocolError("x", "y"), 5),
        ],
    )
    def test_exit_codes(self, error: SignalRError, code: int) -> None:
        assert exit_code(error) == code

    def test_the_extra_is_missing(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "rich", None)
        ran = run("stream")
        assert ran.code == 2
        assert ran.err == "etorox: the command needs the extra `cli`: pip install 'etorox-proto[cli]'\n"

    def test_the_extra_is_missing_in_a_fresh_process(self) -> None:
        program = "import sys; sys.modules['rich'] = None\nfrom etorox_transports.cli import main; sys.exit(main())"
        ran = subprocess.run([sys.executable, "-c", program, "simulate"], capture_output=True, text=True, check=False)
        assert ran.returncode == 2
        assert ran.stderr == "etorox: the command needs the extra `cli`: pip install 'etorox-proto[cli]'\n"

    def test_the_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["--version"])
        assert caught.value.code == 0
        assert re.fullmatch(r"etorox \d+\.\d+\.\d+\n", capsys.readouterr().out)

    def test_output_that_cannot_be_written(self) -> None:
        with Path("/dev/full").open("w") as full:
            ran = subprocess.run(
                [*PROGRAM, "stream", "--count", "1"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert ran.returncode == 1
        assert ran.stderr.endswith("etorox: the output cannot be written: No space left on device\n")

    def test_text_for_a_terminal(self) -> None:
        assert printable("päivä: 1 €\n\x1b\x9b\x7f\r\u202e\ud800") == "päivä: 1 €\n\\x1b\\x9b\\x7f\\r\\u202e\\ud800"


class TestProgram:
    def test_it_runs_as_a_module(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["etorox", "key", "check", str(KEY_FILE)])
        with pytest.raises(SystemExit) as caught:
            runpy.run_module("etorox_transports.cli", run_name="__main__")
        assert caught.value.code == 0
        assert "can sign   yes" in capsys.readouterr().out

    def test_to_import_the_module_runs_nothing(self) -> None:
        runpy.run_module("etorox_transports.cli.__main__", run_name="imported")


class TestSimulate:
    def run_with_client(
        self, monkeypatch: pytest.MonkeyPatch, *arguments: str, client: tuple[str, ...] = ("--count", "20")
    ) -> tuple[Ran, subprocess.CompletedProcess[str], list[str]]:
        """Serve in this process, and run the command that is printed, as it is printed, in another one."""
        told: list[Any] = []
        monkeypatch.setattr(sys, "argv", ["etorox"])

        def read(lines: Lines) -> None:
            try:
                command = shlex.split(lines.until("etorox stream"))
                assert command[0] == "etorox"
                key_file = Path(command[command.index("--key-file") + 1])
                told.append(stat.S_IMODE(key_file.stat().st_mode))
                ran = subprocess.run(
                    [*PROGRAM, *command[1:], *client], capture_output=True, text=True, timeout=20.0, check=False
                )
                told.extend((ran, command))
            finally:
                lines.interrupt()

        ran = Lines(monkeypatch, read).run("simulate", *arguments)
        mode, done, command = told
        assert mode == 0o600
        key_file = Path(command[command.index("--key-file") + 1])
        assert not key_file.parent.exists(), "the key is gone with the exchange"
        assert ran.code == 0
        assert re.search(r"Ended after [\d,]+ market events?\.\n", ran.out)
        return ran, done, command

    def test_the_printed_command_works(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ran, done, command = self.run_with_client(monkeypatch, "--rate", "200", "--seed", "5")
        assert re.match(r"The embedded exchange is at http://127.0.0.1:\d+; seed 5, Ctrl-C ends it\.\n", ran.out)
        assert (done.returncode, done.stdout.count("\n")) == (0, 20)
        assert command[1:4] == ["stream", "btcusd", "ethusd"]

    def test_tls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _, done, command = self.run_with_client(monkeypatch, "--tls", "--rate", "max", "--instruments", "xrpusd")
        assert (done.returncode, done.stdout.count('"market":"xrpusd"')) == (0, 20)
        assert command[command.index("--host") + 1].startswith("https://127.0.0.1:")
        assert Path(command[command.index("--ca-file") + 1]).name == "authority.pem"

    def test_tls_needs_its_authority(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        other = tmp_path / "other.pem"
        other.write_bytes((KEYS / "certificate.pem").read_bytes())
        _, done, _ = self.run_with_client(monkeypatch, "--tls", client=("--once", "--ca-file", str(other)))
        assert done.returncode == 4
        assert "its certificate was not accepted" in done.stderr
        assert "--ca-file" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_folder_with_a_space(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        folder = tmp_path / "with a space"
        folder.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        _, done, _ = self.run_with_client(monkeypatch, "--rate", "max", client=("--count", "1"))
        assert done.returncode == 0

    @every_adapter
    def test_a_stream_outlives_a_killed_simulator(self, tmp_path: Path, adapter: str) -> None:
        """Real processes: the simulator is killed without a goodbye, and started again with the same key and port."""
        key_file = tmp_path / "customer.pem"

        def simulate(port: int) -> subprocess.Popen[str]:
            options = ["--port", str(port), "--key-file", str(key_file), "--rate", "200"]
            return subprocess.Popen([*PROGRAM, "simulate", *options], stdout=subprocess.PIPE, text=True)

        def printed_command(process: subprocess.Popen[str]) -> list[str]:
            assert process.stdout is not None
            while " stream " not in (line := process.stdout.readline()):
                assert line
            return shlex.split(line)

        with contextlib.ExitStack() as stack:
            port = held_port(stack)
            first = stack.enter_context(simulate(port))
            stack.callback(first.kill)
            client = [*printed_command(first), "--adapter", adapter]
            assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
            stream = stack.enter_context(
                subprocess.Popen(client, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
            stack.callback(stream.kill)
            assert stream.stdout is not None
            assert stream.stderr is not None
            assert '"market"' in stream.stdout.readline()
            first.kill()
            first.wait(10.0)
            assert "connecting again in" in stream.stderr.readline()
            second = stack.enter_context(simulate(port))
            stack.callback(second.kill)
            assert printed_command(second) == client[:-2], "it is the same account"
            while '"name":"(gap)"' not in (line := stream.stdout.readline()):
                assert line
            assert '"market"' in stream.stdout.readline()
            stream.send_signal(signal.SIGINT)
            assert re.search(r", connected again once, 1 gap\.\n$", stream.stderr.read())
            assert stream.wait(10.0) == 0

    def test_a_key_file_that_cannot_be_made(self, run: Run, tmp_path: Path) -> None:
        ran = run("simulate", "--key-file", str(tmp_path / "no folder" / "key.pem"))
        assert ran.code == 2
        assert re.match(r"etorox: expected --key-file to name a file that can be made: .*No such file", ran.err)

    def test_chaos_says_what_it_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def read(lines: Lines) -> None:
            command = shlex.split(lines.until(" stream "))
            client = [*PROGRAM, *command[command.index("stream") :]]
            with subprocess.Popen(client, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                try:
                    for _ in range(3):
                        lines.until("  chaos: ")
                finally:
                    process.kill()
                    lines.interrupt()

        ran = Lines(monkeypatch, read).run("simulate", "--rate", "200", "--chaos", "300", "--seed", "5")
        assert ran.code == 0
        assert re.search(r"\n\d\d:\d\d:\d\d\.\d{3}  chaos: \w", ran.out)

    def test_the_same_seed_gives_the_same_market(self, run: Run) -> None:
        def orders(seed: int) -> set[str]:
            with serving(rate=2000.0, seed=seed) as host:
                return {
                    event["id"] for event in run("stream", *to(host.port), "--count", "300").events if "id" in event
                }

        first, second, other = orders(3), orders(3), orders(4)
        assert len(first & second) > 50
        assert other.isdisjoint(first)

    def test_an_instrument_that_is_not_traded(self, run: Run) -> None:
        ran = run("simulate", "--instruments", "dogeusd")
        assert ran.code == 2
        assert ran.err.endswith("got dogeusd\n")

    def test_web_pages_of_the_origins_that_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers: list[bytes] = []

        def read(lines: Lines) -> None:
            try:
                port = int(re.findall(r"127\.0\.0\.1:(\d+)", lines.until("The embedded exchange is at"))[0])
                for origin in (b"http://localhost:8080", b"http://localhost:8081"):
                    request = b"POST /streams/v1/key/signalr/negotiate HTTP/1.1\r\nHost: h\r\nOrigin: " + origin
                    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as sock:
                        sock.sendall(request + b"\r\nContent-Length: 0\r\n\r\n")
                        answers.append(sock.recv(65_536).lower())
            finally:
                lines.interrupt()

        ran = Lines(monkeypatch, read).run("simulate", "--allow-origin", "http://localhost:8080", "http://127.0.0.1")
        assert ran.code == 0
        assert answers[0].startswith(b"http/1.1 200")
        assert b"access-control-allow-origin: http://localhost:8080\r\n" in answers[0]
        assert answers[1].startswith(b"http/1.1 403")

    def test_an_origin_that_is_none(self, run: Run) -> None:
        ran = run("simulate", "--allow-origin", "*")
        assert ran.code == 2
        assert ran.err.endswith("got '*'\n")

    def test_a_port_that_is_taken(self, run: Run, host: SimulatorHost) -> None:
        ran = run("simulate", "--port", str(host.port))
        expected = f"etorox: expected --port to name a port that is free, {host.port}: Address already in use\n"
        assert (ran.code, ran.err) == (2, expected)

    def test_a_real_process_and_a_real_ctrl_c(self) -> None:
        command = [*PROGRAM, "simulate", "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            while " stream " not in (line := process.stdout.readline()):
                assert line
            port = int(re.findall(r"127\.0\.0\.1:(\d+)", line)[0])
            with socket.create_connection(("127.0.0.1", port), timeout=10.0) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                assert sock.recv(4096).startswith(b"HTTP/1.1 404"), "it serves by now"
            process.send_signal(signal.SIGINT)
            assert re.fullmatch(r"\n+Ended after \d+ market events?\.\n", process.stdout.read())
            assert process.stderr.read() == ""
            assert process.wait(10.0) == 0

    @pytest.mark.parametrize("program", [PROGRAM, [str(Path(sys.executable).with_name("etorox"))]])
    def test_the_printed_command_can_be_pasted_anywhere_and_no_key_outlives_it(self, program: list[str]) -> None:
        with subprocess.Popen([*program, "simulate", "--rate", "200"], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            while " stream " not in (line := process.stdout.readline()):
                assert line
            command = shlex.split(line)
            ran = subprocess.run([*command, "--count", "1"], cwd="/", capture_output=True, check=False, timeout=20.0)
            assert ran.returncode == 0
            process.terminate()
            assert process.wait(10.0) == 0
        assert not Path(command[command.index("--key-file") + 1]).exists()

    def test_ctrl_c_before_it_serves(self, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
        def interrupt(_options: object) -> list[Any]:
            raise KeyboardInterrupt

        monkeypatch.setattr("etorox_transports.cli._simulate.choose_instruments", interrupt)
        ran = run("simulate")
        assert (ran.code, ran.out, ran.err) == (130, "", "")


USABLE = {
    "rsa1024-pkcs1.pem": "PKCS#1, PEM",
    "rsa1024-pkcs8-empty.pem": "PKCS#8, encrypted under the empty passphrase, PEM",
    "rsa1024-pkcs8-scrypt-empty.pem": "PKCS#8, encrypted under the empty passphrase, PEM",
    "rsa1024-pkcs8.pem": "PKCS#8, PEM",
    "rsa2048-pkcs1.pem": "PKCS#1, PEM",
    "rsa2048-pkcs8-empty.pem": "PKCS#8, encrypted under the empty passphrase, PEM",
    "rsa2048-pkcs8.pem": "PKCS#8, PEM",
    "rsa489-pkcs8.pem": "PKCS#8, PEM",
}


def shows_key_text(path: Path, shown: str) -> bool:
    """Whether any 16 characters of a line of the file are shown, or those bytes in hexadecimal."""
    lines = path.read_bytes().decode("latin-1").splitlines()
    pieces = [line[i : i + 16] for line in lines if "-----" not in line for i in range(0, len(line) - 15, 8)]
    with contextlib.suppress(ValueError):
        pieces += [base64.b64decode(piece, validate=True).hex() for piece in list(pieces)]
    return any(piece in shown for piece in pieces)


class TestKeyCheck:
    @pytest.mark.parametrize("path", sorted(KEYS.glob("*.p*")), ids=lambda path: path.name)
    def test_every_kind_of_key(self, run: Run, path: Path) -> None:
        ran = run("key", "check", str(path))
        assert ran.code == (0 if path.name in USABLE else 2)
        assert not shows_key_text(path, ran.out + ran.err)
        if ran.code == 0:
            file, form, size, public, verdict = ran.out.splitlines()
            assert file == f"file       {path}"
            assert form == f"format     {USABLE[path.name]}"
            assert re.fullmatch(r"size       RSA, \d+ bits", size)
            assert re.fullmatch(r"public key SHA-256 [0-9a-f]{64}", public)
            assert verdict == "can sign   yes (RSASSA-PKCS1-v1_5 with SHA-256)"
        else:
            assert ran.out == ""
            assert ran.err.startswith(f"etorox: the private key in {path} ")

    def test_the_fingerprint(self, run: Run) -> None:
        assert (KEYS / "rsa1024-fingerprint.txt").read_text("ascii").strip() in run("key", "check", str(KEY_FILE)).out

    def test_a_file_that_does_not_exist(self, run: Run) -> None:
        ran = run("key", "check", "/no/such/key.pem")
        expected = "etorox: the private key in /no/such/key.pem cannot be read: No such file or directory\n"
        assert (ran.code, ran.err) == (2, expected)

    @pytest.mark.parametrize("name", [":key:.pem", "[bold]k[red].pem", "line\nend.pem", "\udcff.pem", "\x1b[31m.pem"])
    def test_a_file_with_a_strange_name(self, run: Run, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.write_bytes(KEY_FILE.read_bytes())
        ran = run("key", "check", str(path))
        assert ran.code == 0
        assert printable(str(path)) in ran.out

    @pytest.mark.parametrize("name", ["rsa1024-pkcs8-secret.pem", "rsa1024-pkcs1-secret.pem"])
    def test_a_passphrase_from_the_environment(self, run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setenv("ETOROX_KEY_PASSPHRASE", "secret")
        ran = run("key", "check", str(KEYS / name))
        assert ran.code == 0
        assert "encrypted, PEM" in ran.out
        assert "under" not in ran.out

    def test_a_wrong_passphrase_from_the_environment(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ETOROX_KEY_PASSPHRASE", "correct horse battery staple")
        ran = run("key", "check", str(SECRET_KEY_FILE))
        assert ran.code == 2
        assert "horse" not in ran.err
        assert ran.err.endswith("or the key is damaged; it came from the variable ETOROX_KEY_PASSPHRASE\n")

    def test_nobody_to_ask(self, run: Run) -> None:
        ran = run("key", "check", str(SECRET_KEY_FILE))
        assert ran.code == 2
        assert ran.err.endswith(": a passphrase is needed; put it into the variable ETOROX_KEY_PASSPHRASE\n")

    def test_a_file_named_for_a_passphrase_is_not_mistaken(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "passphrase.pem"
        path.write_text("no key")
        assert "ETOROX_KEY_PASSPHRASE" not in run("key", "check", str(path)).err

    @pytest.fixture
    def person(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str | None], list[str]]]:
        """Somebody at a terminal, who types this, or Ctrl-D; the prompts that were shown."""
        prompts: list[str] = []

        def types(text: str | None) -> list[str]:
            def prompt(prompt: str) -> str:
                prompts.append(prompt)
                if text is None:
                    raise EOFError
                return text

            monkeypatch.setattr(getpass, "getpass", prompt)
            return prompts

        master, slave = pty.openpty()
        with os.fdopen(slave) as terminal:
            monkeypatch.setattr(sys, "stdin", terminal)
            yield types
        os.close(master)

    def test_a_person_is_asked(self, run: Run, person: Callable[[str | None], list[str]]) -> None:
        prompts = person("secret")
        ran = run("key", "check", str(SECRET_KEY_FILE))
        assert ran.code == 0
        assert prompts == ["Passphrase of the private key: "]

    def test_a_person_is_not_asked_in_vain(self, run: Run, person: Callable[[str | None], list[str]]) -> None:
        prompts = person("secret")
        assert run("key", "check", str(KEY_FILE)).code == 0
        assert run("key", "check", str(KEYS / "ec-sec1.pem")).code == 2
        assert prompts == []

    def test_a_person_is_wrong(self, run: Run, person: Callable[[str | None], list[str]]) -> None:
        person("guess")
        ran = run("key", "check", str(SECRET_KEY_FILE))
        assert ran.code == 2
        assert ran.err.endswith("cannot be decrypted: the passphrase is wrong, or the key is damaged\n")
        assert "guess" not in ran.err

    def test_a_person_gives_up(self, run: Run, person: Callable[[str | None], list[str]]) -> None:
        person(None)
        ran = run("key", "check", str(SECRET_KEY_FILE))
        assert ran.code == 2
        assert ran.err.endswith("a passphrase is needed, and none was given\n")

    def test_the_stream_asks_too(
        self, run: Run, host: SimulatorHost, person: Callable[[str | None], list[str]]
    ) -> None:
        prompts = person("secret")
        assert run("stream", *to(host.port, key_file=SECRET_KEY_FILE), "--count", "1").code == 0
        assert len(prompts) == 1
