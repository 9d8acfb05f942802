"""Microsoft's own clients, in Node and in Chromium, under the remote control of a test.

`NodeRuntime` and `ChromiumRuntime` each run one generation of the client for as long as a test session needs it;
`connect` gives a test a client of its own. What the JavaScript side does is in `tests/interop/driver.js`. The clients
are not part of this repository: `why_not` says what is missing, and how to get it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

FOLDER = Path(__file__).parent / "interop"
PINNED: dict[str, str] = json.loads((FOLDER / "package.json").read_text())["dependencies"]
SCOPES = {"1.1": "@aspnet", "10.0": "@microsoft"}
HOW_TO_INSTALL = (
    "folder=$(mktemp -d) && cp tests/interop/package*.json $folder && npm ci --prefix $folder && "
    "export ETOROX_NODE_MODULES=$folder/node_modules"
)

# What a test may wait for that is sure to come, and what a browser may take to start on a busy machine; in seconds.
PATIENCE = 10.0
START = 60.0

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


class ClientError(Exception):
    """What the client threw at its user."""


def node_modules() -> Path | None:
    """Where Microsoft's clients were installed, None if nobody says."""
    folder = os.environ.get("ETOROX_NODE_MODULES")
    return None if folder is None else Path(folder).resolve()


def node() -> str | None:
    """The Node to run."""
    return shutil.which("node") or shutil.which("nodejs")


def chromium() -> str | None:
    """The browser to run."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def why_not(program: str) -> str | None:
    """Why the clients cannot be run in `node` or `chromium`, and what to do about it; None if they can."""
    if {"node": node, "chromium": chromium}[program]() is None:
        package = {"node": "nodejs (and npm)", "chromium": "chromium"}[program]
        return f"there is no {program} on the PATH: install the package {package}"
    if node_modules() is None:
        return f"Microsoft's clients are not installed, or ETOROX_NODE_MODULES does not say where: {HOW_TO_INSTALL}"
    return None


def skip_without() -> None:
    """Skip the module that calls this if the clients can be run nowhere."""
    reasons = [why_not("node"), why_not("chromium")]
    if reasons[0] is not None and reasons[1] is not None:
        pytest.skip(reasons[0], allow_module_level=True)


class Runtime(ABC):
    """One generation of Microsoft's client, running somewhere; a context manager that ends it.

    Args:
        generation: a key of `SCOPES`.

    Attributes:
        uncaught: the errors that came out of the client with nobody there to catch them.
    """

    def __init__(self, generation: str) -> None:
        self.generation = generation
        self.scope = SCOPES[generation]
        self.uncaught: queue.Queue[str] = queue.Queue()
        self._asked: dict[int, Future[Any]] = {}
        self._clients: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._ready: Future[str] = Future()
        self._ids = itertools.count(1)

    @property
    @abstractmethod
    def origin(self) -> str | None:
        """The origin of the page that the client is on, None in Node."""

    @abstractmethod
    def _post(self, command: dict[str, Any]) -> None:
        """Hand a command over."""

    @abstractmethod
    def _end(self) -> None:
        """End it."""

    def __enter__(self) -> Self:
        try:
            version = self._ready.result(START)
        except BaseException:
            self._end()
            raise
        assert version == PINNED[f"{self.scope}/signalr"], f"{version} is installed: {HOW_TO_INSTALL}"
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @contextlib.contextmanager
    def connect(self, url: str, **options: Any) -> Iterator[MicrosoftClient]:
        """A client that has been started; it is stopped afterwards. The options are those of `open` in the driver."""
        client = self.open(url, **options)
        client.start()
        try:
            yield client
        finally:
            client.ask("stop").result(PATIENCE)

    def open(self, url: str, **options: Any) -> MicrosoftClient:
        """A client that has not been started."""
        number = next(self._ids)
        events = self._clients[number] = queue.Queue()
        client = MicrosoftClient(self, number, events)
        client.do("open", url=url, **options)
        return client

    def ask(self, connection: int, command: str, details: dict[str, Any]) -> Future[Any]:
        """Have something done; the answer comes later."""
        answer: Future[Any] = Future()
        number = next(self._ids)
        self._asked[number] = answer
        self._post({"id": number, "connection": connection, "do": command, **details})
        return answer

    def _take(self, report: dict[str, Any]) -> None:
        """Take a report, in whatever thread."""
        if "id" in report:
            answer = self._asked.pop(report["id"])
            if "error" in report:
                answer.set_exception(ClientError(report["error"]))
            else:
                answer.set_result(report["result"])
        elif report["event"] == "ready":
            self._ready.set_result(report["version"])
        elif report["event"] == "uncaught":
            self.uncaught.put(report["error"])
        else:
            self._clients[report["connection"]].put(report)


class MicrosoftClient:
    """One `HubConnection` of Microsoft's.

    Attributes:
        id: its connection id as of the last `start`, None if it knows none.
    """

    def __init__(self, runtime: Runtime, number: int, events: queue.Queue[dict[str, Any]]) -> None:
        self.id: str | None = None
        self._runtime = runtime
        self._number = number
        self._events = events

    def ask(self, command: str, **details: Any) -> Future[Any]:
        """Have the driver do something; the answer comes later."""
        return self._runtime.ask(self._number, command, details)

    def do(self, command: str, **details: Any) -> Any:
        """Have the driver do something, and wait for the answer.

        Raises:
            ClientError: the client threw.
        """
        return self.ask(command, **details).result(PATIENCE)

    def start(self) -> None:
        """Connect."""
        self.id = self.do("start")

    def call(self, target: str, *values: Any) -> Future[Any]:
        """Begin to invoke."""
        return self.ask("invoke", target=target, values=values)

    def invoke(self, target: str, *values: Any) -> Any:
        """Invoke, and wait for the result."""
        return self.call(target, *values).result(PATIENCE)

    def send(self, target: str, *values: Any) -> None:
        """Invoke without asking for an answer."""
        self.do("send", target=target, values=values)

    def stream(self, target: str, *values: Any, **options: Any) -> int:
        """Subscribe to a stream; its number is in the events. With `most`, only so many items are."""
        number = next(self._runtime._ids)
        self.do("stream", target=target, values=values, stream=number, **options)
        return number

    def next(self, *events: str) -> dict[str, Any]:
        """The next event, which is to be of this kind, or of one of these; without what all events have."""
        report = self._events.get(timeout=PATIENCE)
        assert report.pop("event") in events, report
        del report["connection"]
        return report

    def items(self, stream: int) -> list[Any]:
        """The items of a stream up to its end; then, if it failed, the error."""
        items: list[Any] = []
        while True:
            report = self._events.get(timeout=PATIENCE)
            assert report["stream"] == stream, report
            if report["event"] == "completed":
                return items if report["error"] is None else [*items, report["error"]]
            items.append(report["item"])


class NodeRuntime(Runtime):
    """A client in Node; commands and reports are lines of JSON."""

    origin = None

    def __init__(self, generation: str) -> None:
        super().__init__(generation)
        program, modules = node(), node_modules()
        assert program is not None
        assert modules is not None
        self._process = subprocess.Popen(
            [program, FOLDER / "node.js", self.scope],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "ETOROX_NODE_MODULES": str(modules), "NODE_NO_WARNINGS": "1"},
        )
        self._thread = threading.Thread(target=self._read, name="reports of Node", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._take(json.loads(line))

    def _post(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(command)}\n")
        self._process.stdin.flush()

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._thread.join(PATIENCE)
        self._process.stdout.close()


class ChromiumRuntime(Runtime):
    """A client in a page of headless Chromium, which asks for commands by HTTP and posts its reports.

    Args:
        profile: an empty folder for the browser's own.
    """

    def __init__(self, generation: str, profile: Path) -> None:
        super().__init__(generation)
        program, modules = chromium(), node_modules()
        assert program is not None
        assert modules is not None
        files = {
            "/page": FOLDER / "page.html",
            "/driver.js": FOLDER / "driver.js",
            "/msgpack5.js": modules / "msgpack5/dist/msgpack5.js",
        }
        for name in ("signalr", "signalr-protocol-msgpack"):
            files[f"/{name}.js"] = modules / self.scope / name / "dist/browser" / f"{name}.js"
        self._commands: queue.Queue[dict[str, Any]] = queue.Queue()
        self._server = _page_server(files, self._commands, self._take)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        # It ends when this pipe is closed, so also when the tests are killed.
        in_a_pipe = ["sh", "-c", 'exec "$@" 3<&0 4>/dev/null', "sh", program, "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            [*in_a_pipe, *_FLAGS, f"--user-data-dir={profile}", f"{self.origin}/page"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def origin(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _post(self, command: dict[str, Any]) -> None:
        self._commands.put(command)

    def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)  # its processes are a group of their own
            self._process.wait(PATIENCE)
        self._server.shutdown()
        self._thread.join(PATIENCE)
        self._server.server_close()


def _page_server(files: dict[str, Path], commands: queue.Queue[dict[str, Any]], take: Any) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/commands":
                try:
                    found = [commands.get(timeout=1.0)]
                except queue.Empty:
                    found = []
                self._answer(200, "application/json", json.dumps(found).encode())
            elif self.path in files:
                kind = "text/javascript" if self.path.endswith(".js") else "text/html"
                self._answer(200, kind, files[self.path].read_bytes())
            else:
                self._answer(404, "text/plain", b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for report in json.loads(body):
                take(report)
            self._answer(200, "text/plain", b"")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            with contextlib.suppress(OSError):  # the browser has been ended
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    return server
