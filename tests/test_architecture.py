"""The house keeps its shape: purity, quarantine, layers and sizes, read from the source as syntax trees."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"
CORE, TRANSPORTS = "etorox_proto", "etorox_transports"
SIGNALR, SIMULATOR, TESTING = f"{CORE}.signalr", f"{CORE}.simulator", f"{CORE}.testing"

IMPURE = frozenset(
    {
        *("socket", "socketserver", "ssl", "select", "selectors", "http", "urllib.request"),
        *("asyncio", "trio", "anyio", "concurrent", "threading", "multiprocessing", "subprocess", "signal"),
        *("time", "random", "secrets", "uuid", "os", "sys", "tempfile", "shutil", "logging", "warnings", "atexit"),
    }
)
# Clocks and entropy that can be reached through modules which are pure otherwise.
IMPURE_CALLS = frozenset({"now", "utcnow", "today", "urandom", "uuid1", "uuid4", "SystemRandom", "input", "print"})
QUARANTINE = {
    "h11": {f"{SIGNALR}._http"},
    "wsproto": {f"{SIGNALR}._websocket", f"{SIGNALR}._deflate"},
    "cryptography": {f"{CORE}._auth"},
}
STRATEGIES, LAWS = f"{TESTING}.strategies", f"{TESTING}.laws"
READS_KEY_FILES = f"{CORE}._key_text"
PUBLIC = frozenset({CORE, SIGNALR, SIMULATOR, TESTING, STRATEGIES, LAWS})
# These are imported by their own names, and nothing else of the core imports them.
NEED_HYPOTHESIS = (STRATEGIES, LAWS)
MOST_LINES = 400


def _module(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_module(path): path for path in sorted(SRC.rglob("*.py"))}
TREES = {module: ast.parse(path.read_bytes(), path.name) for module, path in FILES.items()}


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _imports(module: str) -> Iterator[str]:
    """Every module that this one imports, wherever in it; for `from package import module`, the latter."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in FILES or inner in IMPURE else node.module


IMPORTS = {module: frozenset(_imports(module)) for module in FILES}
every_file = pytest.mark.parametrize("module", FILES)
core_files = pytest.mark.parametrize("module", [module for module in FILES if _within(module, CORE)])


def test_the_files_are_found() -> None:
    assert {CORE, SIGNALR, SIMULATOR, TESTING, TRANSPORTS, f"{SIGNALR}._client"} <= FILES.keys()


# ----------------------------------------------------------------------------------------------------- purity


@core_files
def test_the_core_imports_nothing_impure(module: str) -> None:
    impure = {name for name in IMPORTS[module] for each in IMPURE if _within(name, each)}
    if _within(module, SIMULATOR) or _within(module, TESTING):
        impure.discard("random")  # for `random.Random`, as the next test demands
    assert not impure


@core_files
def test_of_random_only_the_seeded_class_is_used(module: str) -> None:
    from_random = {
        node.attr
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random"
    }
    from_random |= {
        alias.name
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.ImportFrom) and node.module == "random"
        for alias in node.names
    }
    assert from_random <= {"Random"}


@core_files
def test_the_core_asks_no_clock_and_draws_no_entropy(module: str) -> None:
    assert not _called(module) & IMPURE_CALLS


def test_the_core_reads_no_files_but_that_of_a_key() -> None:
    assert {module for module in FILES if _within(module, CORE) and "open" in _called(module)} == {READS_KEY_FILES}


def _called(module: str) -> set[str]:
    """The last part of the name of everything that is called."""
    functions = [node.func for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]
    return {ast.unparse(function).rpartition(".")[2] for function in functions}


@core_files
def test_the_core_has_no_global_state(module: str) -> None:
    assert not [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Global)]


# ------------------------------------------------------------------------------------------------- quarantine


@pytest.mark.parametrize("library", QUARANTINE)
def test_a_foreign_library_is_imported_where_it_is_kept_and_nowhere_else(library: str) -> None:
    importers = {m for m, names in IMPORTS.items() if _within(m, CORE) and any(_within(n, library) for n in names)}
    assert importers == QUARANTINE[library]


@core_files
def test_the_core_needs_its_declared_dependencies_only(module: str) -> None:
    foreign = {name.partition(".")[0] for name in IMPORTS[module]} - sys.stdlib_module_names
    may_draw = any(_within(module, each) for each in NEED_HYPOTHESIS)
    assert foreign <= {CORE, "msgspec", *QUARANTINE, *(["hypothesis"] if may_draw else [])}
    if not may_draw:
        assert not any(_within(name, each) for name in IMPORTS[module] for each in NEED_HYPOTHESIS)


# ----------------------------------------------------------------------------------------------------- layers


@every_file
def test_a_layer_imports_from_the_floors_below_only(module: str) -> None:
    ours = {name for name in IMPORTS[module] if _within(name, CORE) or _within(name, TRANSPORTS)}
    if _within(module, SIGNALR):
        assert all(_within(name, SIGNALR) for name in ours), "signalr knows nothing of the exchange"
    elif _within(module, CORE):
        assert all(_within(name, CORE) for name in ours), "the core knows no adapter"
        if not _within(module, SIMULATOR) and not _within(module, STRATEGIES):
            assert not any(_within(name, SIMULATOR) for name in ours), "the simulator stands on the core"
        if not _within(module, TESTING):
            assert not any(_within(name, TESTING) for name in ours), "the testing kit stands on the core"
        assert not any(name.startswith(f"{SIGNALR}._") for name in ours), "the exchange uses what signalr exports"
    else:
        assert {name for name in ours if _within(name, CORE)} <= PUBLIC, "adapters use public names only"


@pytest.mark.parametrize("module", [module for module in FILES if _within(module, TRANSPORTS)])
def test_adapters_import_what_is_exported(module: str) -> None:
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ImportFrom) and node.module in FILES:
            modules = {name.rpartition(".")[2] for name in FILES if name.rpartition(".")[0] == node.module}
            assert {alias.name for alias in node.names} <= _exported(node.module) | modules


def _exported(module: str) -> set[str]:
    """What `__all__` lists."""
    for node in TREES[module].body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return set(ast.literal_eval(node.value))
    return set()


@pytest.mark.parametrize("package", [CORE, TRANSPORTS])
def test_imports_go_round_in_no_circle(package: str) -> None:
    graph = {m: {n for n in names if n in FILES and _within(n, package)} for m, names in IMPORTS.items()}
    left = {module for module in FILES if _within(module, package)}
    while leaves := {module for module in left if not graph[module] & left}:
        left -= leaves
    assert not left, "these import one another"


# ---------------------------------------------------------------------------------------------- size and names


@every_file
def test_a_file_is_short_and_says_what_it_is(module: str) -> None:
    lines = FILES[module].read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MOST_LINES
    assert ast.get_docstring(TREES[module])


@every_file
def test_annotations_are_not_evaluated_early(module: str) -> None:
    assert "annotations" in {
        alias.name
        for node in TREES[module].body
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        for alias in node.names
    }


@every_file
def test_names_say_what_things_are(module: str) -> None:
    nodes = list(ast.walk(TREES[module]))
    classes = [node.name for node in nodes if isinstance(node, ast.ClassDef)]
    functions = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not {part.strip("_") for part in module.split(".")} & {"util", "utils", "helpers", "common", "misc"}
    assert not [name for name in classes if any(word in name for word in ("Manager", "Helper", "Util"))]
    # By asyncio's protocols and transports, and by `selectors`.
    given = {"get_buffer", "get_map", "get_protocol", "get_write_buffer_limits", "get_write_buffer_size"}
    assert not [name for name in functions if name.lstrip("_").startswith("get_") and name not in given]


# --------------------------------------------------------------------------------------- what importing costs


@pytest.mark.parametrize(
    ("imported", "left_alone"),
    [
        (CORE, ["cryptography", TRANSPORTS, SIMULATOR, TESTING, "asyncio", "anyio", "trio", "rich", "hypothesis"]),
        (SIGNALR, ["cryptography", TRANSPORTS, SIMULATOR, "asyncio", "anyio", "trio", "rich", "hypothesis"]),
        (SIMULATOR, ["cryptography", TRANSPORTS, TESTING, "asyncio", "anyio", "trio", "rich", "hypothesis"]),
        (TESTING, ["cryptography", TRANSPORTS, SIMULATOR, "asyncio", "anyio", "trio", "rich", "hypothesis"]),
        (TRANSPORTS, ["cryptography", "asyncio", "anyio", "trio", "rich", "hypothesis"]),
        (f"{TRANSPORTS}.blocking", ["cryptography", "asyncio", "anyio", "trio", "rich", "hypothesis"]),
        (f"{TRANSPORTS}.trio", ["cryptography", "asyncio", "anyio", "rich", "hypothesis"]),
        (f"{TRANSPORTS}.anyio", ["cryptography", "trio", "rich", "hypothesis"]),
    ],
)
def test_importing_brings_nothing_that_was_not_asked_for(imported: str, left_alone: list[str]) -> None:
    program = f"import sys; before = set(sys.modules); import {imported}; print(*(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert imported in done.stdout.split()
    assert not set(left_alone) & set(done.stdout.split())


@pytest.mark.parametrize("module", NEED_HYPOTHESIS)
def test_without_hypothesis_the_kit_works_and_the_rest_says_what_to_install(module: str) -> None:
    program = f"import sys; sys.modules['hypothesis'] = None\nimport etorox_proto.testing\nimport {module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: {module} needs Hypothesis: pip install 'etorox-proto[testing]'"
    )


LEAN = f"""
import sys
import {CORE}
from {SIGNALR} import HubConfig, HubConnection
print(*sys.modules)
"""
NOT_FOR_A_CLIENT_AT_REST = {
    *("cryptography", "wsproto", "hashlib", "ssl", "socket", "logging", "threading"),
    *(f"{SIGNALR}._server", f"{SIGNALR}._reception", f"{SIGNALR}._websocket", f"{SIGNALR}._deflate"),
}


def test_the_core_is_imported_without_what_only_a_connection_or_a_server_needs() -> None:
    loaded = set(_run(LEAN).split())
    assert f"{SIGNALR}._client" in loaded
    assert not loaded & NOT_FOR_A_CLIENT_AT_REST


def test_what_is_imported_late_is_listed_and_found_like_everything_else() -> None:
    program = f"""
import {SIGNALR} as signalr
assert "ServerConnection" in dir(signalr)
try:
    signalr.Servers
except AttributeError as error:
    print(error)
from {SIGNALR} import *
print(ServerConnection is signalr.ServerConnection, ServerConnection.__name__)
"""
    assert _run(program).splitlines() == [f"module '{SIGNALR}' has no attribute 'Servers'", "True ServerConnection"]


def _run(program: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
