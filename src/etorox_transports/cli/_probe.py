"""`etorox probe URL`: what a SignalR server does, case by case, as text, JSON or a page.

The cases and what is judged are in `etorox_transports.probe`; here are options, colours and files. Results are shown as
they come, and nothing secret is: `probe` takes it out of what the server says.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from etorox_proto import LocalProtocolError
from etorox_proto.signalr import HubConfig
from etorox_transports.blocking import open_socket
from etorox_transports.cli._display import new_console
from etorox_transports.cli._trust import trusting
from etorox_transports.probe import SERVER_CASES, Outcome, ServerResult, as_html, probe

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["add_command"]

_STYLES = {
    Outcome.CONFORMS: "green",
    Outcome.TOLERATED: "yellow",
    Outcome.DIFFERS: "bold red",
    Outcome.NOT_ANSWERED: "bold red",
    Outcome.SKIPPED: "bright_black",
}
_OUTCOME = slice(2, 14)  # where it stands in the first line of a result
_AS_ASKED, _DIFFERS = 0, 5
_STANDARD_OUTPUT = Path("-")


def add_command(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `probe`."""
    parser = commands.add_parser(
        "probe",
        help="see what a SignalR server does",
        description="Talk to a SignalR server as clients do, and as no client should, and say case by case what it "
        "does. Nothing is invoked but a method that does not exist, and one stream after the other is opened.",
        epilog="Exit codes: 0 nothing differs, 2 usage, 3 the server does not let us in, 4 it cannot be reached, "
        "5 something differs.",
    )
    parser.add_argument("url", nargs="?", metavar="URL", help="the hub, as a client has it: https://host/path")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="a case or a group; may be repeated"
    )
    parser.add_argument("--thorough", action="store_true", help="also what is large, or takes up to 45 s")
    parser.add_argument("--list", action="store_true", help="show the cases, and ask nobody")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="write the report as JSON; - for standard output, and no text"
    )
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the report as a page on its own; - likewise")
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        type=_header,
        metavar="NAME:VALUE",
        help="a header for all requests; may be repeated",
    )
    token = parser.add_mutually_exclusive_group()
    token.add_argument("--token-env", metavar="NAME", help="the variable that holds the access token")
    token.add_argument("--token-file", metavar="FILE", type=Path, help="the file that holds the access token")
    parser.add_argument("--ca-file", metavar="FILE", help="trust this authority instead of the system's")
    parser.add_argument("--insecure", action="store_true", help="allow http:// to other machines than this one")
    parser.add_argument("--timeout", type=_seconds, default=5.0, metavar="SECONDS", help="for answers (default 5)")
    parser.add_argument("--pause", type=_seconds, default=0.1, metavar="SECONDS", help="between streams (default 0.1)")
    parser.set_defaults(run=_probe)


def _header(text: str) -> tuple[str, str]:
    name, found, value = text.partition(":")
    if not found:
        raise ArgumentTypeError("expected a header as NAME:VALUE, got no colon")
    return name.strip(), value.strip()


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 600:
        raise ArgumentTypeError(f"expected seconds from 0 to 600, got {text!r}")
    return seconds


def _probe(options: Namespace) -> int:
    console = new_console()
    if options.list:
        _list(console)
        return _AS_ASKED
    if options.url is None:
        raise LocalProtocolError("expected the URL of a hub, such as https://host/hub, or --list")
    config = HubConfig(
        url=options.url, headers=dict(options.header), access_token=_token(options), allow_insecure=options.insecure
    )
    files = {file for file in (options.json, options.html) if file not in {None, _STANDARD_OUTPUT}}
    is_quiet = _STANDARD_OUTPUT in {options.json, options.html}
    if options.json == options.html == _STANDARD_OUTPUT:
        raise LocalProtocolError("expected one report for standard output, got - for both --json and --html")
    for file in files:
        _check(file)
    report = probe(
        config,
        only=options.only,
        thorough=options.thorough,
        timeout=options.timeout,
        pause=options.pause,
        tell=None if is_quiet else _Lines(console),
        open=partial(open_socket, ssl_context=trusting(options.ca_file)),
    )
    if not is_quiet:
        console.print(f"\n{report.origin}: {report.summary}")
    if options.html is not None:
        _write(options.html, as_html(report))
    if options.json is not None:
        _write(options.json, report.as_json() + "\n")
    return _DIFFERS if report.differing else _AS_ASKED


def _write(file: Path, text: str) -> None:
    if file == _STANDARD_OUTPUT:
        sys.stdout.write(text)
    else:
        file.write_text(text, encoding="utf-8")


def _check(file: Path) -> None:
    """See that a report can be written there before the server is asked."""
    try:
        file.open("ab").close()
    except OSError as error:
        raise LocalProtocolError(f"expected a file that can be written, got {file}: {error.strerror}") from None


def _token(options: Namespace) -> str | None:
    if options.token_file is not None:
        try:
            return str(options.token_file.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise LocalProtocolError(f"expected a file with an access token, got {error}") from None
    if options.token_env is not None:
        token = os.environ.get(options.token_env)
        if not token:
            raise LocalProtocolError(f"expected an access token in the variable {options.token_env}, it is not set")
        return token
    return None


def _list(console: Console) -> None:
    for case in SERVER_CASES:
        console.print(Text.assemble((case.name, "bold"), (" (thorough)" * case.is_thorough, "dim")))
        console.print(f"    sends {case.sends}")
        console.print(f"    expects {case.expects} ({case.source})", style="dim")


class _Lines:
    """Shows results as they come."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._group = ""

    def __call__(self, result: ServerResult) -> None:
        if result.case.group != self._group:
            self._console.print(("\n" if self._group else "") + result.case.group, style="bold")
            self._group = result.case.group
        for number, line in enumerate(result.lines()):
            text = Text(line, style="" if number == 0 else "dim")
            if number == 0:
                text.stylize(_STYLES[result.outcome], _OUTCOME.start, _OUTCOME.stop)
            self._console.print(text)
