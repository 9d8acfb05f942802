"""`Case` and `Stage`: what a case is, and what it has at hand.

A case is an async function of a `Stage` with a name, a demand in its docstring and a time limit. It fails by raising.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, final

from etorox_proto.signalr import HubConfig
from etorox_proto.testing import Host, Link
from etorox_transports._authority import Authority, new_server_context
from etorox_transports.conformance._loops import Loop
from etorox_transports.conformance._memory import MemoryNetwork
from etorox_transports.conformance._peer import PATIENCE, Script, Server
from etorox_transports.conformance._streams import open_stream, serving
from etorox_transports.conformance._transport import Attempt, Connection, Facade, Transport
from etorox_transports.conformance._watch import WatchedHub

__all__ = ["CASES", "Case", "Stage", "authority", "case", "certificate", "fails", "stranger", "takes"]

# How late something may be that is to happen at a time, in seconds. Generous, for machines that are busy.
TOLERANCE = 0.5
_LINK = Link(latency=0.25)
# Virtual seconds in which a transport that was left lets go of its streams.
_MOMENT = 1 / 64


@final
class Stage:
    """One run of one case.

    Args:
        transport: what is tested.
        loop: what it runs on.

    Attributes:
        loop: what it runs on.
        machines: those that the transport has made, oldest first.
        waits_for: what the case waits for, in words.
    """

    def __init__(self, transport: Transport, loop: Loop) -> None:
        self.loop = loop
        self.machines: list[WatchedHub] = []
        self.waits_for = "the end of the conversation"
        self._transport = transport

    @property
    def machine(self) -> WatchedHub:
        """The latest machine."""
        return self.machines[-1]

    @contextlib.asynccontextmanager
    async def serving(self, *scripts: Script, ssl_context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
        """A server with these scripts; leaving waits for them, and raises what one raised."""
        with Server(*scripts, ssl_context=ssl_context) as server:
            try:
                yield server
            except AssertionError:
                raise
            except Exception as error:
                if isinstance(server.failure, AssertionError):
                    raise server.failure from error  # it says why
                raise
            until = time.monotonic() + 2 * PATIENCE
            while server.is_busy and time.monotonic() < until:
                await self.loop.sleep(0.002)

    @contextlib.asynccontextmanager
    async def virtual(self, service: Host, link: Link = _LINK) -> AsyncIterator[MemoryNetwork]:
        """A network in memory with this server; leaving sees that no stream is left, and that each was used well."""
        async with serving(self.loop, service, link, lambda: self.waits_for) as network:
            try:
                yield network
            except Exception as error:
                if network.problems:
                    raise AssertionError(f"expected that {network.problems[0]}") from error  # it says why
                raise
            await self.loop.sleep(_MOMENT)
            assert not network.problems, f"expected that {network.problems[0]}"
            assert not network.sockets, f"expected no stream to be left open, there are {len(network.sockets)}"

    def connect(
        self, where: Server | MemoryNetwork | str, *, trust: bytes | None = None, **options: Any
    ) -> contextlib.AbstractAsyncContextManager[Connection]:
        """Connect with the transport; the options are those of `HubConfig`, without negotiation if they say nothing."""
        in_memory = where if isinstance(where, MemoryNetwork) else None
        url = where if isinstance(where, str) else where.url() if isinstance(where, Server) else where.url
        options = {"skip_negotiation": True, "close_timeout": 1.0, **options}
        context = _verifying(trust)
        attempt = Attempt(
            HubConfig(url=url, **options),
            context,
            self.machines,
            open=None if in_memory is None else functools.partial(open_stream, self.loop, in_memory),
            clock=time.monotonic if in_memory is None else self.loop.now,
        )
        manager: Any = self._transport.connect(attempt)
        return Facade(manager) if self._transport.runs_on == "blocking" else manager

    async def receive(self, connection: Connection, count: int = 1) -> list[Any]:
        """The only argument of each of the next so many invocations."""
        received = []
        for _ in range(count):
            message = await connection.receive()
            assert message is not None, "expected an invocation, got None as after a close of our own"
            received.append(message[1][0])
        return received

    async def expect(self, connection: Connection, wanted: list[Any]) -> None:
        """Receive these, as `receive` gives them."""
        for place, each in enumerate(wanted):
            (got,) = await self.receive(connection)
            assert got == each, (
                f"expected {str(each)[:100]!r} as message {place + 1} of {len(wanted)}, got {str(got)[:100]!r}"
            )


@final
@dataclass(frozen=True)
class Case:
    """One demand.

    Attributes:
        name: what it is called, with the group first, as in `"end/half_close"`.
        demand: what is demanded, and why.
        run: fails by raising.
        limit: how long it may take, in seconds.
        needs_tasks: whether it needs an event loop.
        in_memory: whether it has no sockets and virtual time.
    """

    name: str
    demand: str
    run: Callable[[Stage], Coroutine[Any, Any, None]]
    limit: float
    needs_tasks: bool
    in_memory: bool = False

    def __repr__(self) -> str:
        return self.name


CASES: list[Case] = []
"""All cases, in the order in which they are run."""


def case(
    group: str, *, limit: float = 10.0, needs_tasks: bool = False, in_memory: bool = False
) -> Callable[[Callable[[Stage], Coroutine[Any, Any, None]]], Callable[[Stage], Coroutine[Any, Any, None]]]:
    """Make a case of a function; its docstring is the demand."""

    def enter(run: Callable[[Stage], Coroutine[Any, Any, None]]) -> Callable[[Stage], Coroutine[Any, Any, None]]:
        demand = " ".join((run.__doc__ or "").split())
        CASES.append(Case(f"{group}/{run.__name__}", demand, run, limit, needs_tasks, in_memory))
        return run

    return enter


@contextlib.contextmanager
def fails(what: str) -> Any:
    """See that the body raises, as a transport does when a connection fails.

    Any exception will do: which one is the transport's own affair. But what is raised must tell something.
    """
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        if not str(error):
            raise AssertionError(f"expected {what} to be told in words, got a bare {type(error).__name__}") from error
    else:
        raise AssertionError(f"expected {what} to be raised, nothing was")


@contextlib.contextmanager
def takes(least: float, most: float, what: str) -> Any:
    """See that the body takes between so many seconds and so many, and `TOLERANCE`, whether it raises or not."""
    began = time.monotonic()
    try:
        yield
    except AssertionError:
        raise
    except Exception:
        _check(time.monotonic() - began, least, most, what)
        raise
    _check(time.monotonic() - began, least, most, what)


def _check(took: float, least: float, most: float, what: str) -> None:
    assert took >= least - 0.05, f"expected {what} after {least:g} s at the earliest, it took {took:.2f} s"
    assert took <= most + TOLERANCE, f"expected {what} within {most:g} s, it took {took:.2f} s"


@functools.cache
def _verifying(trust: bytes | None) -> ssl.SSLContext:
    """A client's TLS. Reading the system's authorities takes several milliseconds, so once."""
    return ssl.create_default_context(cadata=None if trust is None else trust.decode())


@functools.cache
def authority() -> Authority:
    """The authority of this run."""
    return Authority("etorox conformance authority")


@functools.cache
def certificate(*names: str, is_expired: bool = False) -> ssl.SSLContext:
    """A server's TLS with a certificate of that authority."""
    return new_server_context(authority().issue(names, is_expired=is_expired))


def stranger() -> ssl.SSLContext:
    """A server's TLS with a certificate of an authority that nobody trusts."""
    return new_server_context(Authority("etorox conformance stranger").issue(["127.0.0.1"]))
