"""The documentation is true: its Python runs, its links lead somewhere, and its copies are copies."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import re
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from embedding_runners import OnEvent, new_client
from embedding_runners import example as transport_example
from embedding_scenarios import does_not_wait_for_a_peer_that_does_not_read
from etorox_proto import (
    Credentials,
    EventReceived,
    ExchangeConfig,
    ExchangeConnection,
    ExchangeEvent,
    PrivateKey,
    Ready,
    generate_private_key,
    load_private_key,
)
from etorox_transports import new_exchange_connection
from etorox_transports.cli._host import SimulatorHost
from hosts import served

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
API_KEY = "0b6e2c1e-8b63-4a51-93a4-7f3d8a4b5c6d"


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs/examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def key_text() -> str:
    return generate_private_key()


@pytest.fixture(scope="module")
def key(key_text: str) -> PrivateKey:
    return load_private_key(key_text)


@pytest.fixture
def host(key: PrivateKey) -> Iterator[SimulatorHost]:
    with served(API_KEY, key.public_key, rate=5_000.0) as host:
        yield host


@pytest.fixture
def setting(host: SimulatorHost, key_text: str, tmp_path: Path) -> dict[str, str]:
    key_file = tmp_path / "private-key.pem"
    key_file.write_text(key_text)
    return {"API_KEY": API_KEY, "KEY_FILE": str(key_file), "HOST": f"http://127.0.0.1:{host.port}"}


def run_block(source: str, names: dict[str, object]) -> None:
    exec(compile(source, "documentation", "exec"), names)


def test_the_tutorial_runs(setting: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = dict(setting)
    for source in blocks("docs/tutorial.md"):
        run_block(source, names)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    assert "btcusd" in printed[-1] or "order_" in printed[-1] or "trade_" in printed[-1]


def test_the_readme_streams(setting: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trader, _, _ = blocks("README.md")
    monkeypatch.chdir(tmp_path)
    trader = trader.replace("YOUR-API-KEY", API_KEY).replace("YOUR-HOST.etorox.com", setting["HOST"])
    lines = (f"line {n}" for n in itertools.count())

    def stop_at_the_third(*_values: object) -> None:
        if next(lines) == "line 2":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_block(trader, {"print": stop_at_the_third})


def test_the_readmes_loop_drives_a_connection(host: SimulatorHost, key: PrivateKey) -> None:
    _, loop, _ = blocks("README.md")
    assert_loop_drives("run", loop, host, key)


def test_the_transport_pages_loop_drives_a_connection(host: SimulatorHost, key: PrivateKey) -> None:
    loop, *_ = blocks("docs/howto/write-a-transport.md")
    assert_loop_drives("drive", loop, host, key)


def assert_loop_drives(name: str, loop: str, host: SimulatorHost, key: PrivateKey) -> None:
    from etorox_proto import Closed, Dial  # noqa: PLC0415 - the names that the page leaves to its reader
    from etorox_transports.blocking import ByteStream, open_socket  # noqa: PLC0415

    connection = new_exchange_connection(ExchangeConfig(f"http://127.0.0.1:{host.port}"), Credentials(API_KEY, key))
    events: list[object] = []

    def deliver(event: object) -> None:
        events.append(event)
        if isinstance(event, Ready):
            connection.subscribe(["btcusd"], now=time.monotonic())
        if len(events) == 10:
            connection.close(now=time.monotonic())

    class Stream:
        def __init__(self) -> None:
            self.stream: ByteStream | None = None

        def open(self, dial: Dial) -> Stream:
            self.close()
            self.stream = open_socket(dial, 5.0)
            return self

        def close(self) -> None:
            if self.stream is not None:
                self.stream.close()
                self.stream = None

        def now(self) -> float:
            return time.monotonic()

        def send_all(self, data: bytes) -> None:
            if data:
                assert self.stream is not None
                self.stream.send_all(data, 5.0)

        send = send_all

        def receive_until(self, deadline: float) -> bytes | None:
            assert self.stream is not None
            try:
                return self.stream.receive(deadline - time.monotonic())
            except TimeoutError:
                return None

        def wait(self, machine: ExchangeConnection) -> None:
            data = self.receive_until(machine.deadline)
            if data is None:
                machine.handle_timeout(time.monotonic())
            else:
                machine.receive_data(data, time.monotonic())

    names: dict[str, object] = {"Dial": Dial, "Closed": Closed}
    run_block(loop, names)
    stream = Stream()
    if name == "run":
        assert names["run"](connection, stream.open, time.monotonic, deliver) is None  # type: ignore[operator]
    else:
        assert names["drive"](connection, stream, deliver) is None  # type: ignore[operator]
    stream.close()
    assert isinstance(events[0], Ready)
    assert isinstance(events[1], EventReceived)


def test_the_readmes_virtual_conversation(setting: dict[str, str]) -> None:
    del setting
    _, _, conversation = blocks("README.md")
    names: dict[str, object] = {}
    run_block(conversation, names)
    assert names["client"].state.value == "connected"  # type: ignore[attr-defined]
    assert names["client"].queued_bytes > 0  # type: ignore[attr-defined]


def test_the_transport_pages_example_is_the_file() -> None:
    *_, shown = blocks("docs/howto/write-a-transport.md")
    assert shown == (ROOT / "docs/examples/selector_transport.py").read_text()


class TestSelectorTransport:
    """The complete transport of `write-a-transport`, against the embedded exchange."""

    def test_it_streams_until_closed(self, host: SimulatorHost, key: PrivateKey) -> None:
        config = ExchangeConfig(f"http://127.0.0.1:{host.port}")
        connection = new_exchange_connection(config, Credentials(API_KEY, key))
        events: list[ExchangeEvent] = []

        def deliver(event: ExchangeEvent) -> None:
            events.append(event)
            if isinstance(event, Ready):
                connection.subscribe(["btcusd", "ethusd"], now=time.monotonic())
            if len(events) == 100:
                connection.close(now=time.monotonic())

        assert example("selector_transport").SelectorTransport(connection).run(deliver) is None
        assert sum(isinstance(event, EventReceived) for event in events) >= 99

    def test_it_gives_up_a_peer_that_does_not_read(self) -> None:
        def run(config: ExchangeConfig, on_event: OnEvent, *, send_timeout: float) -> object:
            client = new_client(config)
            transport = transport_example("selector_transport", send_timeout).SelectorTransport(client.machine)
            return transport.run(functools.partial(on_event, client))

        does_not_wait_for_a_peer_that_does_not_read(run)

    def test_it_says_why_a_connection_ended(self, key: PrivateKey) -> None:
        connection = new_exchange_connection(ExchangeConfig("http://127.0.0.1:1"), Credentials(API_KEY, key))
        error = example("selector_transport").SelectorTransport(connection).run(lambda _event: None)
        assert "could not be opened" in str(error)

    def test_it_keeps_the_deadlines(self, key: PrivateKey) -> None:
        import socket  # noqa: PLC0415

        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
            config = ExchangeConfig(f"http://127.0.0.1:{silent.getsockname()[1]}", opening_timeout=0.1)
            connection = new_exchange_connection(config, Credentials(API_KEY, key))
            error = example("selector_transport").SelectorTransport(connection).run(lambda _event: None)
        assert "did not answer the negotiate request within 0.1 s" in str(error)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_python_block_is_python(page: Path) -> None:
    for source in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        compile(source, str(page), "exec")


def test_the_design_names_modules_that_exist() -> None:
    house = next(block for block in blocks("docs/explanation/design.md", "text") if "etorox_proto/" in block)
    above, _, signalr = house.partition(" signalr/ ")
    for part, folder in ((above, ROOT / "src"), (signalr, ROOT / "src/etorox_proto/signalr")):
        modules = {path.stem if path.is_file() else path.name for path in folder.rglob("*")}
        named = set(re.findall(r"\b_\w+", part))
        assert named, "the house has both parts"
        assert named <= modules


def test_the_readmes_commands_name_what_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    try_it, test_it = (block.strip() for block in blocks("README.md", "sh"))
    assert "\n" not in try_it
    assert "\n" not in test_it
    assert "etorox" in project["project"]["scripts"]
    assert "test" in project["dependency-groups"]
