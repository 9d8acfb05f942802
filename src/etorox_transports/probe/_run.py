"""`probe`: all cases, or some, against one server; and `ServerReport`, which shows what came as text and as JSON.

Every text of the server's passes here on its way out: what is secret, and what could steer a terminal, is taken out;
then it is cut to a readable length.
"""

from __future__ import annotations

import json
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import final

from etorox_proto.signalr import ConnectionFailed, HubConfig, LocalProtocolError
from etorox_transports._blocking._line import Opener
from etorox_transports._blocking._sockets import open_socket
from etorox_transports._text import printable
from etorox_transports.probe._case import SERVER_CASES, ServerCase
from etorox_transports.probe._finding import Finding, Outcome, Unlike
from etorox_transports.probe._server import Server

__all__ = ["ServerReport", "ServerResult", "probe"]

_SHOWN = 240
_WIDTH, _INDENT = 80, " " * 16


@final
@dataclass(frozen=True)
class ServerResult:
    """What came of one case.

    Attributes:
        case: the case.
        outcome: how it is judged.
        got: what came, in a line, without secrets.
        seconds: how long it took.
    """

    case: ServerCase
    outcome: Outcome
    got: str
    seconds: float

    def lines(self) -> list[str]:
        """The lines that show it, of 80 columns; the outcome stands in the first one."""
        head = f"  {self.outcome.value:<12}  {self.case.name.partition('/')[2]}"
        whole = f"{head:<38}  {self.got}"
        lines = [whole] if len(whole) <= _WIDTH else [head, *_wrapped(self.got)]
        if self.outcome in {Outcome.DIFFERS, Outcome.NOT_ANSWERED, Outcome.TOLERATED}:
            lines += _wrapped(f"sent: {self.case.sends}")
            lines += _wrapped(f"expected: {self.case.expects} ({self.case.source})")
        return lines


@final
@dataclass(frozen=True)
class ServerReport:
    """What a server does.

    Attributes:
        origin: the server behind all redirects, as scheme, host and port.
        results: one for each case that was chosen, in their order.
    """

    origin: str
    results: tuple[ServerResult, ...]

    @property
    def differing(self) -> list[ServerResult]:
        """Those in which the server differs, or does not answer."""
        return [each for each in self.results if each.outcome in {Outcome.DIFFERS, Outcome.NOT_ANSWERED}]

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each outcome, as far as there are any."""
        counted = Counter(each.outcome for each in self.results)
        return {outcome.value: counted[outcome] for outcome in Outcome if counted[outcome]}

    def __str__(self) -> str:
        """The report as text, for terminals of 80 columns."""
        lines, group = [f"probe of {self.origin}"], ""
        for result in self.results:
            if result.case.group != group:
                group = result.case.group
                lines += ["", group]
            lines += result.lines()
        return "\n".join([*lines, "", self.summary])

    @property
    def summary(self) -> str:
        """The counts, in a line."""
        return ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items()) or "no case was chosen"

    def as_json(self) -> str:
        """The same for programs: an object with `server`, `version`, `counts` and `results`."""
        results = [
            {
                "case": result.case.name,
                "outcome": result.outcome.value,
                "got": result.got,
                "sends": result.case.sends,
                "expects": result.case.expects,
                "source": result.case.source,
                "seconds": round(result.seconds, 3),
            }
            for result in self.results
        ]
        report = {"server": self.origin, "version": metadata.version("etorox-proto"), "counts": self.counts}
        return json.dumps({**report, "results": results}, indent=2)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False)


def _choose(only: Iterable[str], *, thorough: bool) -> list[ServerCase]:
    """The cases of these names, or groups; without names all but the thorough ones, unless they are wanted.

    Raises:
        LocalProtocolError: there is no such case.
    """
    wanted = list(only)
    for name in wanted:
        if not any(name in {each.name, each.group} for each in SERVER_CASES):
            groups = ", ".join(dict.fromkeys(each.group for each in SERVER_CASES))
            raise LocalProtocolError(f"expected the name of a case or of a group ({groups}), got {name!r}")
    return [
        each
        for each in SERVER_CASES
        if (thorough or not each.is_thorough or each.name in wanted)
        and (not wanted or each.name in wanted or each.group in wanted)
    ]


def probe(
    config: HubConfig | str,
    *,
    only: Iterable[str] = (),
    thorough: bool = False,
    timeout: float = 5.0,
    pause: float = 0.1,
    tell: Callable[[ServerResult], object] | None = None,
    open: Opener | None = None,  # noqa: A002 - the hook is named so everywhere
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> ServerReport:
    """See what a server does, case by case. It takes some twenty seconds, most of them for the server's ping.

    One byte stream after the other is opened. Nothing is invoked but a method that does not exist.

    Args:
        config: where the hub is; headers and access token are sent as a client sends them, but to no other host that
            it redirects to. Its timeouts mean nothing here.
        only: names of cases or groups; by default all.
        thorough: also those that send much, or wait for up to 45 seconds.
        timeout: how long to wait for what must come at once, in seconds.
        pause: the least time between two streams, in seconds.
        tell: is told each result when it is there.
        open: opens byte streams instead of the default, for proxies, TLS of your own and tests.
        clock: the time, in seconds; `open` may have one of its own.
        sleep: lets so many seconds of it pass.

    Raises:
        LocalProtocolError: the configuration cannot be used, or there is no such case.
        DialFailed: there is nobody.
        NegotiationFailed: no HTTP server is there, it does not let us in (`status` 401 or 403), or it leads elsewhere.
    """
    if isinstance(config, str):
        config = HubConfig(url=config)
    cases = _choose(only, thorough=thorough)
    server = Server(config, opener=open or open_socket, clock=clock, sleep=sleep, timeout=timeout, pause=pause)
    results: list[ServerResult] = []
    try:
        server.arrive()
        for case in cases:
            began = clock()
            found = _find(case, server)
            result = ServerResult(case, found.outcome, _readable(server.without_secrets(found.text)), clock() - began)
            results.append(result)
            if tell is not None:
                tell(result)
    finally:
        server.leave()
    return ServerReport(server.endpoint.origin, tuple(results))


def _find(case: ServerCase, server: Server) -> Finding:
    try:
        found = case.run(server)
        server.is_gone = False
    except Unlike as unlike:
        found = unlike.finding
    except ConnectionFailed as error:
        # Once is a finding; that nobody can be asked any more is none.
        found = Finding(Outcome.SKIPPED if server.is_gone else Outcome.DIFFERS, f"the server is gone: {error}")
        server.is_gone = True
    except Exception as error:  # noqa: BLE001 - one fault of ours must not cost the rest of the report
        found = Finding(Outcome.SKIPPED, f"the probe itself failed here, please report it: {error!r}")
    return found


def _readable(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 80]} ... {line[-80:]}"
