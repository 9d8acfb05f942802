"""The exchange's own guide works against the embedded exchange, with the client it names and with the current one."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etorox_proto import PrivateKey, generate_private_key, load_private_key
from etorox_transports.cli._host import SimulatorHost
from hosts import served
from microsoft import FOLDER, PATIENCE, SCOPES, ClientError, Runtime, node, node_modules, skip_without, why_not

skip_without()

API_KEY = "0b6e2c1e-8b63-4a51-93a4-7f3d8a4b5c6d"
EVENTS = {"order_created", "order_updated", "order_canceled", "order_completed", "trade_completed"}


@pytest.fixture(scope="module")
def key_text() -> str:
    return generate_private_key()


@pytest.fixture(scope="module")
def key(key_text: str) -> PrivateKey:
    return load_private_key(key_text)


@pytest.fixture
def host(key: PrivateKey, request: pytest.FixtureRequest) -> Iterator[SimulatorHost]:
    """The embedded exchange; a page of the test's runtime may use it."""
    runtime = request.getfixturevalue("runtime") if "runtime" in request.fixturenames else None
    origins = None if runtime is None or runtime.origin is None else [runtime.origin]
    with served(API_KEY, key.public_key, rate=1_000.0, allowed_origins=origins) as host:
        yield host


# -------------------------------------------------------------------------------------------------- the guide in Node


def follow_the_guide(scope: str, exchange: str, api_key: str, key_file: Path, **settings: str) -> list[Any]:
    """Run the guide until so many events have arrived; the events."""
    if (reason := why_not("node")) is not None:
        pytest.skip(reason)
    done = subprocess.run(
        [str(node()), FOLDER / "guide.js", scope, exchange, api_key, key_file],
        env={**os.environ, "ETOROX_NODE_MODULES": str(node_modules()), "NODE_NO_WARNINGS": "1", **settings},
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("scope", SCOPES.values())
def test_the_guides_five_steps_bring_events(scope: str, host: SimulatorHost, key_text: str, tmp_path: Path) -> None:
    key_file = tmp_path / "private-key.pem"
    key_file.write_text(key_text)
    exchange = f"http://127.0.0.1:{host.port}"
    events = follow_the_guide(scope, exchange, API_KEY, key_file, COUNT="50")
    assert len(events) == 50
    assert {event["name"] for event in events} <= EVENTS
    assert len({event["name"] for event in events}) >= 3
    assert {event["market"] for event in events} == {"btcusd"}
    rows = follow_the_guide(scope, exchange, API_KEY, key_file, COUNT="50", FIELDS="name,price,volume")
    assert len(rows) == 50
    assert {row[0] for row in rows} <= EVENTS
    assert all(len(row) == 3 and row[1] > 0 for row in rows)


@pytest.mark.parametrize("extra", [(), ("--tls",)], ids=["http", "https"])
def test_the_guide_follows_what_the_command_prints(extra: tuple[str, ...], tmp_path: Path) -> None:
    """`etorox simulate` in a process of its own, its key file as it wrote it, under its own authority with TLS."""
    key_file = tmp_path / "private-key.pem"
    command = [sys.executable, "-m", "etorox_transports.cli", "simulate", "--rate", "1000", "--key-file", str(key_file)]
    environment = {**os.environ, "COLUMNS": "1000"}
    exchange = subprocess.Popen([*command, *extra], stdout=subprocess.PIPE, text=True, env=environment)
    assert exchange.stdout is not None
    try:
        printed = ""
        while (
            found := re.search(r"--host (\S+) --api-key (\S+) --key-file \S+(?: --ca-file (\S+))?", printed)
        ) is None:
            line = exchange.stdout.readline()
            assert line, printed
            printed += line
        url, api_key, authority = found.groups()
        trust = {} if authority is None else {"NODE_EXTRA_CA_CERTS": authority}
        assert url.startswith("https:" if extra else "http:")
        assert len(follow_the_guide("@aspnet", url, api_key, key_file, COUNT="20", **trust)) == 20
        assert len(follow_the_guide("@microsoft", url, api_key, key_file, COUNT="20", **trust)) == 20
    finally:
        exchange.terminate()
        exchange.wait(PATIENCE)
        exchange.stdout.close()


# ------------------------------------------------------------------------------------- the same verbs, everywhere


def setup_argument(key: PrivateKey, *, age: float = 0.0) -> dict[str, object]:
    nonce, timestamp = str(uuid.uuid4()), int((time.time() - age) * 1_000)
    signature = base64.b64encode(key.sign(f"{nonce}{timestamp}".encode())).decode()
    return {"apiKey": API_KEY, "nonce": nonce, "timestamp": timestamp, "signature": signature}


def test_events_arrive_and_a_subscription_ends(runtime: Runtime, host: SimulatorHost, key: PrivateKey) -> None:
    url = f"http://127.0.0.1:{host.port}/streams/v1/{API_KEY}/signalr?correlationId={uuid.uuid4()}"
    with runtime.connect(url) as client:
        assert client.invoke("setup", setup_argument(key))["status"] == "success"
        topic = {"channels": ["btcusd"], "event": "marketData"}
        stream = client.stream("subscribe", topic, most=20)
        for _ in range(20):
            event = client.next("item")
            assert event["item"]["name"] in EVENTS
        client.do("dispose", stream=stream)
        with pytest.raises(ClientError, match=r"Method does not exist|Unknown hub method"):
            client.invoke("nothing of the kind")
        assert host.simulator.subscribers == 0


def test_a_stale_signature_is_refused(runtime: Runtime, host: SimulatorHost, key: PrivateKey) -> None:
    url = f"http://127.0.0.1:{host.port}/streams/v1/{API_KEY}/signalr"
    client = runtime.open(url)
    client.start()
    try:
        answer = client.invoke("setup", setup_argument(key, age=3_600.0))
    except ClientError as error:
        answer = {"status": str(error)}
    assert answer["status"] != "success"
    client.next("closed")
