"""The asynchronous adapters on streams of the libraries, and the programs of their page."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from etorox_proto import (
    Credentials,
    Dial,
    ExchangeConfig,
    generate_private_key,
    load_private_key,
)
from etorox_transports.anyio import AnyioStream
from hosts import served
from virtual_async import CREDENTIALS, LOOPS, Loop

ROOT = Path(__file__).parent.parent.parent
API_KEY = "0b6e2c1e-8b63-4a51-93a4-7f3d8a4b5c6d"


# It has a clock of its own, so only real streams are for it.
UVLOOP = Loop("anyio+uvloop", "anyio", "asyncio")


@contextlib.asynccontextmanager
async def streaming(loop: Loop, open_stream: Any) -> AsyncIterator[Any]:
    key = load_private_key(generate_private_key(2048))
    with served(CREDENTIALS.api_key, key.public_key, rate=1_000.0) as host:
        config = ExchangeConfig(f"http://127.0.0.1:{host.port}")
        credentials = Credentials(CREDENTIALS.api_key, key)
        async with loop.library.connect(config, credentials, open=open_stream) as exchange:
            yield exchange.subscribe(["btcusd"])


async def by_trio(dial: Dial) -> Any:
    return await trio.open_tcp_stream(dial.host, dial.port)


async def by_anyio(dial: Dial) -> Any:
    return AnyioStream(await anyio.connect_tcp(dial.host, dial.port))


async def by_the_adapter(dial: Dial) -> Any:
    library = LOOPS[0].library if anyio.get_cancelled_exc_class() is trio.Cancelled else LOOPS[1].library
    return await library.open_stream(dial)


@pytest.mark.parametrize(
    ("loop", "open_stream"),
    [(LOOPS[0], by_trio), *[(loop, each) for loop in (*LOOPS, UVLOOP) for each in (by_anyio, by_the_adapter)]],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_streams_of_the_libraries_can_be_used(loop: Loop, open_stream: Callable[[Dial], Awaitable[Any]]) -> None:
    if loop is UVLOOP:
        pytest.importorskip("uvloop")

    async def main() -> None:
        async with streaming(loop, open_stream) as feed:
            for _ in range(20):
                assert (await feed.next(5.0)).market == "btcusd"

    options = {"use_uvloop": True} if loop is UVLOOP else {}
    anyio.run(main, backend=loop.backend, backend_options=options)


# ------------------------------------------------------------------------------------------------ documentation


def python_blocks() -> list[str]:
    page = (ROOT / "docs/reference/async.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(2), ids=["trio", "asyncio"])
def test_the_pages_programs_run(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = generate_private_key(2048)
    key = load_private_key(text)
    monkeypatch.chdir(tmp_path)
    Path("private-key.pem").write_text(text, encoding="utf-8")
    with served(API_KEY, key.public_key, rate=1_000.0) as host:
        source = python_blocks()[number].replace("YOUR-API-KEY", API_KEY)
        source = source.replace("YOUR-HOST.etorox.com", f"http://127.0.0.1:{host.port}")
        exec(compile(source, "docs/reference/async.md", "exec"), {"__name__": "__main__"})
    assert len(capsys.readouterr().out.splitlines()) == 10
