"""One run: a sender and a receiver, each a process of its own, started, joined by a port, and asked for figures.

Knows where the peers are installed (`--peers`, by default `.bench` in the repository) and how to install them; knows
nothing of what the figures mean.
"""

from __future__ import annotations

import compileall
import contextlib
import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.task import Task

__all__ = ["MACHINES", "OURS", "PEERS", "Bench", "Missing"]

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OURS = ("blocking", "asyncio", "uvloop", "anyio on trio", "trio")
MACHINES = ("bare", "session", "raw")
PEERS = ("pysignalr", "signalrcore", "node")
# Nothing that is measured takes so many seconds.
_PATIENCE = 300.0


class Missing(Exception):
    """A receiver is not installed; the text says what to do."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where things are.

    Attributes:
        peers: the folder with a virtualenv and an npm folder.
        only: the receivers that are wanted; empty for all.
    """

    peers: Path = ROOT / ".bench"
    only: frozenset[str] = frozenset()

    @property
    def _python(self) -> Path:
        return self.peers / "venv" / "bin" / "python"

    def install(self) -> None:
        """Install the peers, in the versions of `requirements.txt` and `package.json`, unless they are there."""
        self.peers.mkdir(parents=True, exist_ok=True)
        (self.peers / ".gitignore").write_text("*\n", encoding="ascii")
        if not self._python.exists():
            subprocess.run([sys.executable, "-m", "venv", self.peers / "venv"], check=True)
        wanted = HERE / "requirements.txt"
        subprocess.run(
            [self._python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted], check=True
        )
        if shutil.which("npm") is None:
            print("npm is not installed: @microsoft/signalr is left out", file=sys.stderr)
            return
        folder = self.peers / "npm"
        folder.mkdir(exist_ok=True)
        shutil.copy(HERE / "package.json", folder)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)

    def versions(self) -> list[str]:
        """The peers and their versions, as they are pinned."""
        packages: dict[str, str] = json.loads((HERE / "package.json").read_text(encoding="ascii"))["dependencies"]
        pinned = (HERE / "requirements.txt").read_text(encoding="ascii").split()
        return [*(line.replace("==", " ") for line in pinned), *(" ".join(pair) for pair in packages.items())]

    def missing(self, receiver: str) -> str:
        """Why this receiver cannot run here; "" if it can."""
        if self.only and receiver not in self.only:
            return f"{receiver}, which was not asked for"
        try:
            self._command(receiver)
        except Missing as missing:
            return str(missing)
        return ""

    def run(self, receiver: str, task: Task) -> dict[str, Any]:
        """One run; what the receiver measured.

        Raises:
            Missing: the receiver is not installed.
            subprocess.CalledProcessError: it failed.
        """
        command, environment = self._command(receiver)
        if receiver == "decode only":
            return _ask(command, task, environment)
        with _sender(task) as sender:
            assert sender.stdout is not None
            task = dataclasses.replace(task, port=int(sender.stdout.readline()))
            figures = _ask(command, task, environment)
            if task.rate:
                figures["written"] = json.loads(sender.stdout.readline())
        return figures

    def imported(self, receiver: str) -> float:
        """Seconds of processor time that this import takes in a fresh interpreter.

        Raises:
            Missing: the module is not installed.
            subprocess.CalledProcessError: it failed.
        """
        command, environment = self._command(receiver)
        script = f"import time; began = time.process_time(); {receiver}; print(time.process_time() - began)"
        done = subprocess.run([*command, "-c", script], env=environment, capture_output=True, text=True, check=True)
        return float(done.stdout)

    def _command(self, receiver: str) -> tuple[list[str], Mapping[str, str]]:
        """How to start a receiver: the words before and after the task (an empty one), and its environment."""
        if receiver in OURS:
            return [sys.executable, "-m", "bench.receivers.ours", "", receiver], _environment()
        if receiver in MACHINES:
            return [sys.executable, "-m", "bench.receivers.machine", "", receiver], _environment()
        if receiver == "decode only":
            return [sys.executable, "-m", "bench.receivers.limit", ""], _environment()
        if receiver.startswith("import etorox"):
            return [sys.executable], _environment()
        if receiver == "node":
            modules = self.peers / "npm" / "node_modules"
            if shutil.which("node") is None or not (modules / "@microsoft" / "signalr").exists():
                raise Missing("@microsoft/signalr is not installed: run `python tests/bench --install`")
            return ["node", str(HERE / "receivers" / "node_peer.cjs"), ""], os.environ | {"NODE_PATH": str(modules)}
        package = receiver.removeprefix("import ").partition(".")[0]
        if not list((self.peers / "venv").glob(f"lib/python*/site-packages/{package}")):
            raise Missing(f"{package} is not installed: run `python tests/bench --install`")
        if receiver.startswith("import "):
            return [str(self._python)], _environment()
        return [str(self._python), "-m", f"bench.receivers.{receiver}_peer", ""], _environment()


@functools.cache
def _environment() -> Mapping[str, str]:
    # Compiled, as an installer leaves the peers; else each run of ours would compile, in time and in peak memory.
    compileall.compile_dir(ROOT / "src", quiet=2)
    compileall.compile_dir(HERE, quiet=2)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]), "PYTHONHASHSEED": "0"}


def _ask(command: list[str], task: Task, environment: Mapping[str, str]) -> dict[str, Any]:
    filled = [task.dump() if word == "" else word for word in command]
    # What it says on its standard error is for the reader.
    done = subprocess.run(
        filled, env=environment, stdout=subprocess.PIPE, text=True, timeout=_PATIENCE, check=True, cwd=ROOT
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


@contextlib.contextmanager
def _sender(task: Task) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench.sender", task.dump()]
    with subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
