"""Which mutants a module has: mutmut's operators, and three of our own, on every expression inside a function.

It knows nothing of tests. mutmut's own visitor leaves decorated functions out (each property, each context manager),
because it copies functions; `mutation.forks` exchanges the code of those that exist, so here they are mutated too.
What runs only when a module is imported (constants, fields, defaults of parameters) is no function's code and is left
out, and so are annotations, `assert` (a statement of our own invariants) and the texts of docstrings.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators


class Mutant(NamedTuple):
    """One changed module.

    Attributes:
        place: Which of the mutants of its module it is.
        operator: What was done, `dropped statement` for example.
        lines: Where the statement stands whose part was changed, from 1.
        code: The whole module.
        difference: The lines that changed, as a unified diff without heads.
    """

    place: int
    operator: str
    lines: range
    code: str
    difference: str


def never_and_always(node: cst.If | cst.While) -> Iterator[cst.If | cst.While]:
    """`if a` becomes `if False`; an `if` also `if True`, while a loop that never ends proves little."""
    yield node.with_changes(test=cst.Name("False"))
    if isinstance(node, cst.If):
        yield node.with_changes(test=cst.Name("True"))


def dropped_statement(node: cst.Expr) -> Iterator[cst.BaseSmallStatement]:
    """A call for its effect is left out."""
    if not isinstance(node.value, (cst.BaseString, cst.Ellipsis)):
        yield cst.Pass()


def dropped_raise(_: cst.Raise) -> Iterator[cst.BaseSmallStatement]:
    """What must be refused is not."""
    yield cst.Pass()


OPERATORS: list[tuple[type[cst.CSTNode], Callable[..., Iterable[cst.CSTNode]]]] = [
    *mutation_operators,
    (cst.If, never_and_always),
    (cst.While, never_and_always),
    (cst.Expr, dropped_statement),
    (cst.Raise, dropped_raise),
]


class _Visitor(cst.CSTVisitor):
    """Collects what each operator makes of each node in the body of a function."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        self.found: list[tuple[str, cst.CSTNode, cst.CSTNode, range]] = []
        self._depth = 0
        self._statement = range(0)

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:  # noqa: N802 -- named by libcst
        self._depth += 1
        node.body.visit(self)
        self._depth -= 1
        return False

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, (cst.Annotation, cst.Assert)):
            return False
        if self._depth and not isinstance(node, cst.FunctionDef):
            self._note_statement(node)
            for kind, operator in OPERATORS:
                if isinstance(node, kind):
                    name = operator.__name__.removeprefix("operator_").replace("_", " ")
                    self.found.extend((name, node, mutated, self._statement) for mutated in operator(node))
        return bool(super().on_visit(node))

    def _note_statement(self, node: cst.CSTNode) -> None:
        """Coverage sees lines; which of a statement's it sees is its own affair. Of compound ones the head counts."""
        if isinstance(node, (cst.SimpleStatementLine, cst.BaseCompoundStatement, cst.MatchCase)):
            where = self.get_metadata(PositionProvider, node)
            body = getattr(node, "body", None)
            last = where.end if not isinstance(body, cst.BaseSuite) else self.get_metadata(PositionProvider, body).start
            self._statement = range(where.start.line, last.line + 1)


class Mutants:
    """All mutants of one module, in the order of its text."""

    def __init__(self, path: Path) -> None:
        self._source = path.read_text(encoding="utf-8")
        wrapper = MetadataWrapper(cst.parse_module(self._source))
        visitor = _Visitor()
        wrapper.visit(visitor)
        self._module = wrapper.module
        self._found = visitor.found

    def __len__(self) -> int:
        """How many there are."""
        return len(self._found)

    def __getitem__(self, place: int) -> Mutant:
        """The mutant in this place."""
        operator, node, mutated, lines = self._found[place]
        changed = self._module.deep_replace(node, mutated)
        assert isinstance(changed, cst.Module)
        code = changed.code
        pairs = difflib.unified_diff(self._source.splitlines(), code.splitlines(), n=0, lineterm="")
        difference = "\n".join(line for line in pairs if not line.startswith(("---", "+++", "@@")))
        return Mutant(place, operator, lines, code, difference)
