"""`as_html`: a report as one page that needs nothing else: no network, no script, light and dark."""

from __future__ import annotations

import html
from datetime import UTC, datetime
from importlib import metadata

from etorox_transports.probe._finding import Outcome
from etorox_transports.probe._run import ServerReport, ServerResult

__all__ = ["as_html"]

_CLASSES = {
    Outcome.CONFORMS: "ok",
    Outcome.TOLERATED: "odd",
    Outcome.DIFFERS: "bad",
    Outcome.NOT_ANSWERED: "bad",
    Outcome.SKIPPED: "off",
}

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --line: #d9dce1; --page: #fff; --ok: #18794e;
  --odd: #8f5c00; --bad: #c62a2f; --off: #60646c; --open: #f5f6f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --soft: #a0a4ab; --line: #363a3f; --page: #131416;
  --ok: #3dd68c; --odd: #ffca16; --bad: #ff9592; --off: #a0a4ab; --open: #1c1e21; } }
body { margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: var(--ink); background: var(--page);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { color: var(--soft); margin: .3rem 0; }
.counts { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; margin: 1rem 0; padding: 0; list-style: none; }
.counts b { font-size: 1.4rem; margin-right: .3rem; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
td, th { border-top: 1px solid var(--line); padding: .45rem .5rem; text-align: left; vertical-align: top;
  overflow-wrap: anywhere; font-weight: inherit; }
th { width: 12rem; font-family: ui-monospace, monospace; font-size: .87rem; } td.outcome { width: 7rem; }
dl { display: grid; grid-template-columns: 5rem 1fr; gap: .1rem .5rem; margin: .3rem 0 0; font-size: .87rem;
  color: var(--soft); } dd { margin: 0; }
summary { cursor: pointer; }
tr.bad td, tr.bad th { background: var(--open); }
.ok .outcome, b.ok { color: var(--ok); } .odd .outcome, b.odd { color: var(--odd); }
.bad .outcome, b.bad { color: var(--bad); font-weight: 600; } .off .outcome, b.off { color: var(--off); }
@media (max-width: 40rem) { th, td, td.outcome { display: block; width: auto; border: 0; padding: .1rem .5rem; }
  tr { display: block; border-top: 1px solid var(--line); padding: .4rem 0; } }
"""


def as_html(report: ServerReport, *, at: datetime | None = None) -> str:
    """The report as a page.

    Args:
        report: what came.
        at: when it came; by default now.
    """
    time = (at or datetime.now(UTC)).astimezone(UTC)
    counts = "".join(
        f'<li><b class="{_CLASSES[outcome]}">{report.counts[outcome.value]}</b>{outcome.value}</li>'
        for outcome in Outcome
        if outcome.value in report.counts
    )
    groups: dict[str, list[ServerResult]] = {}
    for result in report.results:
        groups.setdefault(result.case.group, []).append(result)
    tables = "".join(
        f"<h2>{html.escape(group)}</h2>\n<table>\n{''.join(map(_row, results))}</table>\n"
        for group, results in groups.items()
    )
    origin = html.escape(report.origin)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>SignalR at {origin}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>SignalR at {origin}</h1>
<p>{time:%Y-%m-%d %H:%M} UTC, etorox probe {html.escape(metadata.version("etorox-proto"))}</p>
<ul class="counts">{counts}</ul>
{tables}</body>
</html>
"""


def _row(result: ServerResult) -> str:
    case, is_odd = result.case, result.outcome not in {Outcome.CONFORMS, Outcome.SKIPPED}
    asked = "".join(
        f"<dt>{term}</dt><dd>{html.escape(text)}</dd>"
        for term, text in (("sent", case.sends), ("expected", case.expects), ("source", case.source))
    )
    return (
        f'<tr class="{_CLASSES[result.outcome]}"><th scope="row">{html.escape(case.name.partition("/")[2])}</th>'
        f'<td class="outcome">{result.outcome.value}</td>'
        f"<td><details{' open' * is_odd}><summary>{html.escape(result.got)}</summary>"
        f"<dl>{asked}</dl></details></td></tr>\n"
    )
