"""Every generation of Microsoft's client in every place it runs in: started once, used by many tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from interop_hub import InteropHub, Serve
from microsoft import SCOPES, ChromiumRuntime, NodeRuntime, Runtime, why_not

CURRENT = "10.0"
RUNTIMES = [f"{program} {generation}" for program in ("node", "chromium") for generation in SCOPES]


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Runtime]]:
    """Gives the runtime of that name, which is started when it is first asked for."""
    runtimes: dict[str, Runtime] = {}
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Runtime:
            program, generation = name.split()
            if (reason := why_not(program)) is not None:
                pytest.skip(reason)
            if name not in runtimes:
                profile = tmp_path_factory.mktemp("profile")
                new = NodeRuntime(generation) if program == "node" else ChromiumRuntime(generation, profile)
                runtimes[name] = stack.enter_context(new)
            return runtimes[name]

        yield start


@pytest.fixture
def start_runtime(started: Callable[[str], Runtime]) -> Iterator[Callable[[str], Runtime]]:
    """The same; what comes out of a client uncaught fails the test, unless it took it."""
    used: list[Runtime] = []

    def start(name: str) -> Runtime:
        used.append(started(name))
        return used[-1]

    yield start
    assert all(runtime.uncaught.empty() for runtime in used)


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest, start_runtime: Callable[[str], Runtime]) -> Runtime:
    """Both generations, in Node and in Chromium."""
    return start_runtime(request.param)


@pytest.fixture(params=[name for name in RUNTIMES if name.endswith(CURRENT)])
def current(request: pytest.FixtureRequest, start_runtime: Callable[[str], Runtime]) -> Runtime:
    """The current generation alone, for what the older one cannot do."""
    return start_runtime(request.param)


@pytest.fixture(params=[name for name in RUNTIMES if name.startswith("chromium")])
def page(request: pytest.FixtureRequest, start_runtime: Callable[[str], Runtime]) -> Runtime:
    """Both generations in Chromium alone, for what concerns pages."""
    return start_runtime(request.param)


@pytest.fixture(params=["json", "messagepack"])
def encoding(request: pytest.FixtureRequest) -> str:
    """Both encodings."""
    name: str = request.param
    return name


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Makes the test's hub, whose options are those of `ServerConfig`; pages of the runtime's origin may use it."""
    with contextlib.ExitStack() as stack:

        def serve_here(runtime: Runtime, **options: Any) -> InteropHub:
            origins = None if runtime.origin is None else [runtime.origin]
            return stack.enter_context(InteropHub(allowed_origins=origins, **options))

        yield serve_here
