"""The page on slow consumers is true: its Python runs, from top to bottom, against the embedded exchange."""

from __future__ import annotations

from pathlib import Path

import pytest

from etorox_proto import generate_private_key, load_private_key
from hosts import served
from test_docs import ROOT, blocks, run_block

API_KEY = "0b6e2c1e-8b63-4a51-93a4-7f3d8a4b5c6d"


def test_the_page_on_slow_consumers_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key_text = generate_private_key(2048)
    (tmp_path / "private-key.pem").write_text(key_text)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with served(API_KEY, load_private_key(key_text).public_key, rate=5_000.0) as host:
        for source in blocks("docs/howto/slow-consumers.md"):
            with_host = source.replace("YOUR-HOST.etorox.com", f"http://127.0.0.1:{host.port}")
            run_block(with_host.replace("YOUR-API-KEY", API_KEY), names)
    printed = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in printed[:5]} <= {"btcusd", "ethusd"}
    assert " events were dropped" in printed[5]
    assert " came, " in printed[6]


def test_none_of_its_blocks_is_hidden_from_this_test() -> None:
    page = ROOT / "docs/howto/slow-consumers.md"
    assert len(blocks("docs/howto/slow-consumers.md")) == page.read_text().count("```python")
