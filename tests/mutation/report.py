"""What a run has found, by group of modules, and which survivors nobody has judged yet.

`known.toml` holds the survivors that were judged: what was changed, of which kind it is, and why. It is found by the
text of the change, so it lasts until that text changes.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from mutation.forks import KILLED, Outcome

KNOWN = Path(__file__).parent / "known.toml"
# equivalent: nobody can see the difference; text: the words of an error or a repr; speed: only the time differs;
# guard: what cannot come about as things are; tolerated: a difference that a user could see, and that no test does.
KINDS = ("equivalent", "text", "speed", "guard", "tolerated")


def outcomes(results: Path) -> dict[tuple[str, int], Outcome]:
    """The last outcome of each mutant that is one."""
    found = (Outcome(**json.loads(line)) for line in results.read_text().splitlines())
    latest = {(outcome.module, outcome.place): outcome for outcome in found}
    return {mutant: outcome for mutant, outcome in latest.items() if outcome.outcome != "void"}


def known() -> dict[tuple[str, str], str]:
    """The kind of each survivor that was judged, by module and change."""
    judged: dict[tuple[str, str], str] = {}
    for entry in tomllib.loads(KNOWN.read_text())["survivor"]:
        assert entry["kind"] in KINDS, entry
        judged[entry["module"], _bare(entry["change"])] = entry["kind"]
    return judged


def report(found: Iterable[Outcome]) -> Iterator[str]:
    """Lines: a table in Markdown, then each survivor that is not known."""
    judged = known()
    table: dict[str, Counter[str]] = {}
    unjudged = []
    for outcome in found:
        kind = "killed" if outcome.outcome in KILLED else judged.get((outcome.module, _bare(outcome.difference)), "")
        for group in (outcome.module.rpartition("/")[0] or "(top)", "all"):
            table.setdefault(group, Counter())[kind or "unjudged"] += 1
        if not kind:
            unjudged.append(outcome)
    columns = ("killed", *KINDS, "unjudged")
    yield f"| | mutants | {' | '.join(columns)} | score |"
    yield f"|---|{'--:|' * (len(columns) + 2)}"
    for group, counts in sorted(table.items()):
        total, same = counts.total(), counts["equivalent"] + counts["speed"]
        numbers = " | ".join(str(counts[column]) for column in columns)
        yield f"| {group} | {total} | {numbers} | {counts['killed'] / max(total - same, 1):.1%} |"
    for outcome in unjudged:
        yield f"\n{outcome.module}:{outcome.line} #{outcome.place} {outcome.operator}: {outcome.outcome}"
        yield f"  {outcome.tests} tests, {outcome.left_out} left out\n{outcome.difference}"


def _bare(difference: str) -> str:
    return "\n".join(line[:1] + line[1:].strip() for line in difference.strip().splitlines())
