"""`etorox probe`: options, files, exit codes and what a terminal gets; what is judged is tested in `tests/probe`."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from etorox_proto.signalr import InvocationReceived, ServerConfig, ServerEvent
from etorox_transports import blocking
from etorox_transports.cli import main
from etorox_transports.cli._host import SimulatorHost
from etorox_transports.probe import SERVER_CASES, Outcome, probe
from probe.hubs import Memory, Plain
from test_docs import ROOT, blocks, run_block
from tls_server import AUTHORITY, server_context

TOKEN = "the-token-of-the-user"
PAGE = "docs/howto/probe-a-server.md"
GROUPS = [part for name in ("negotiate", "upgrade", "handshake", "messages", "close") for part in ("--only", name)]
SOME = ("--only", "negotiate", "--only", "handshake/json", "--only", "messages/unknown_method")


@contextmanager
def hub(config: ServerConfig | None = None, *, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A hub without methods on a port of this machine; its URL."""

    def answer(connection: blocking.Connection, event: ServerEvent) -> None:
        if isinstance(event, InvocationReceived) and event.invocation_id is not None:
            connection.complete(event.invocation_id, error="there is none")

    config = config or ServerConfig(serves=lambda path: path == "/hub")
    with blocking.serve(answer, config=config, ssl_context=tls) as server:
        server.start()
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.port}/hub"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with hub() as url:
        yield url


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        assert "Traceback" not in out + err
        assert TOKEN not in out + err


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        code = main(["probe", "--pause", "0", *arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


def test_a_server_that_conforms(run: Run, url: str) -> None:
    ran = run(url, *SOME)
    assert (ran.code, ran.err) == (0, "")
    assert "  conforms      version_1               version 1\n" in ran.out
    assert ran.out.endswith(f"\n{url.removesuffix('/hub')}: 18 conforms\n")
    assert max(map(len, ran.out.splitlines())) <= 80


def test_a_server_that_differs(run: Run) -> None:
    def complete(connection: blocking.Connection, event: ServerEvent) -> None:
        if isinstance(event, InvocationReceived) and event.invocation_id is not None:
            connection.complete(event.invocation_id, result=1)

    with blocking.serve(complete) as server:
        server.start()
        ran = run(f"http://127.0.0.1:{server.port}/hub", "--only", "messages/unknown_method")
    assert ran.code == 5
    assert "a method that does not exist has a result" in " ".join(ran.out.split())
    assert "expected: a Completion with an error (Hub Protocol)" in ran.out


def test_files(run: Run, url: str, tmp_path: Path) -> None:
    page, report = tmp_path / "report.html", tmp_path / "report.json"
    ran = run(url, *SOME, "--html", str(page), "--json", str(report))
    assert ran.code == 0
    assert len(json.loads(report.read_text())["results"]) == 18
    assert "</html>" in page.read_text()


def test_json_alone(run: Run, url: str) -> None:
    ran = run(url, *SOME, "--json", "-")
    assert {each["outcome"] for each in json.loads(ran.out)["results"]} == {"conforms"}


def test_a_file_that_cannot_be_written(run: Run, url: str) -> None:
    """It is seen before the server is asked."""
    ran = run(url, "--only", "negotiate/get", "--html", "/no/report.html")
    expected = "etorox: expected a file that can be written, got /no/report.html: No such file or directory\n"
    assert (ran.code, ran.out, ran.err) == (2, "", expected)


def test_the_list(run: Run) -> None:
    ran = run("--list")
    assert ran.code == 0
    names = [line for line in ran.out.splitlines() if not line.startswith(" ")]
    assert [name.split()[0] for name in names] == [case.name for case in SERVER_CASES]
    assert len([name for name in names if name.endswith("(thorough)")]) == 4


class TestWhoAsks:
    @pytest.fixture
    def guarded(self) -> Iterator[str]:
        def authorize(request: object) -> int | None:
            return None if getattr(request, "access_token", None) == TOKEN else 401

        with hub(ServerConfig(authorize=authorize)) as url:
            yield url

    def test_without_a_token(self, run: Run, guarded: str) -> None:
        ran = run(guarded)
        assert ran.code == 3
        assert ran.err == "etorox: expected to be let in, got status 401: an access token or a header is needed\n"

    def test_with_a_token_from_the_environment(self, run: Run, guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MY_TOKEN", TOKEN)
        assert run(guarded, *SOME, "--token-env", "MY_TOKEN").code == 0

    def test_with_a_token_from_a_file(self, run: Run, guarded: str, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text(f"{TOKEN}\n")
        assert run(guarded, *SOME, "--token-file", str(file)).code == 0

    def test_with_a_header(self, run: Run, guarded: str) -> None:
        assert run(guarded, *SOME, "--header", f"Authorization: Bearer {TOKEN}").code == 0


def test_an_authority_of_ones_own(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "authority.pem"
    AUTHORITY.cert_pem.write_to_path(file)
    with hub(tls=server_context()) as at:
        url = at.replace("127.0.0.1", "localhost")
        assert run(url, *SOME, "--ca-file", str(file)).code == 0
        ran = run(url)
    assert ran.code == 4
    assert "its certificate was not accepted" in ran.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "expected the URL of a hub, such as https://host/hub, or --list"),
        (["ftp://example.test"], "expected a URL such as https://host/hub"),
        (["http://example.test"], "https"),
        (["https://example.test", "--only", "nix"], "got 'nix'"),
        (["https://example.test", "--json", "-", "--html", "-"], "expected one report for standard output"),
        (["https://example.test", "--token-env", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE, it is not set"),
        (["https://example.test", "--token-file", "/no/file"], "expected a file with an access token"),
        (["https://example.test", "--ca-file", "/no/file"], "expected --ca-file to name a file of certificates"),
        (["https://example.test", "--header", "Host: other"], "expected headers of your own, got 'Host'"),
    ],
)
def test_what_cannot_be_done(run: Run, arguments: list[str], reason: str) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert reason in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--header", "nothing"], ["--timeout", "-1"], ["--timeout", "soon"]])
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["probe", "https://example.test", *arguments])
    assert caught.value.code == 2
    assert "usage: etorox probe" in capsys.readouterr().err


@pytest.mark.parametrize(("no_color", "is_coloured"), [("", True), ("1", False)])
def test_colours(monkeypatch: pytest.MonkeyPatch, run: Run, url: str, no_color: str, is_coloured: bool) -> None:
    for name in ("NO_COLOR", "COLUMNS", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    ran = run(url, "--only", "negotiate/get")
    assert bool(re.search(r"\x1b\[32mconforms", ran.out)) == is_coloured


def test_what_a_server_says_cannot_steer_the_terminal(run: Run) -> None:
    def answer(connection: blocking.Connection, event: ServerEvent) -> None:
        if isinstance(event, InvocationReceived) and event.invocation_id is not None:
            connection.complete(event.invocation_id, error="\x1b[2Jgone")

    with blocking.serve(answer) as server:
        server.start()
        ran = run(f"http://127.0.0.1:{server.port}/hub", "--only", "messages/unknown_method")
    assert ran.code == 0
    assert "\x1b" not in ran.out


class TestThePage:
    def test_its_test_runs(self, url: str) -> None:
        (block,) = blocks(PAGE)
        setting: dict[str, object] = {}
        run_block(block, setting)
        setting["test_my_server_conforms"](url)  # type: ignore[operator]

    @pytest.mark.parametrize("page", [PAGE, "docs/reference/command.md"])
    def test_it_names_options_that_exist(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], page: str
    ) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit):
            main(["probe", "--help"])
        shown = capsys.readouterr().out
        text = (ROOT / page).read_text().partition("## `etorox probe URL`")[2].partition("\n## ")[0]
        named = set(re.findall(r"--[a-z][a-z-]+", text or (ROOT / page).read_text()))
        assert named
        assert named <= set(re.findall(r"--[a-z][a-z-]+", shown))
        if text:
            assert set(re.findall(r"--[a-z][a-z-]+", shown)) - named == {"--help"}

    def test_its_numbers_are_true(self) -> None:
        text = (ROOT / PAGE).read_text()
        assert "in seventy named cases" in text
        assert len(SERVER_CASES) == 70
        memory = Memory(Plain())
        probe("http://localhost/hub", **memory.ways())
        assert "some thirty in all" in text
        assert 27 <= len(memory.dials) <= 37
        assert "about twenty seconds" in text
        assert 15 <= memory.now - 1_000.0 <= 25

    def test_its_outcomes_are_all(self) -> None:
        table = (ROOT / PAGE).read_text().partition("| outcome | |\n")[2].partition("\n\n")[0]
        rows = re.findall(r"^\| ([a-z ]+) \|", table, re.MULTILINE)
        assert rows == [outcome.value for outcome in Outcome]


def test_the_embedded_exchange(run: Run) -> None:
    """It drops whoever does not log in before it would ping; its hub takes any path."""
    with SimulatorHost({}) as host:
        host.run_in_thread()
        ran = run(f"http://127.0.0.1:{host.port}/streams/v1/a-key/signalr", *GROUPS)
    assert ran.code == 0
    assert "differs" not in ran.out
