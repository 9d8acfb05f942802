"""How a user of each example in `docs/howto/embed.md` would run it, behind one signature for all.

A runner makes a connection, runs it with the example until it ends and tells how it ended. Frameworks are imported
where they are used, because they may be missing, and because importing some of them settles what event loop a process
has.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etorox_proto import (
    Closed,
    ConnectionFailed,
    Credentials,
    ExchangeConfig,
    ExchangeConnection,
    Session,
    SessionConfig,
    generate_private_key,
    load_private_key,
)
from etorox_transports import new_exchange_connection, new_session

__all__ = [
    "API_KEY",
    "CANCELLED",
    "CREDENTIALS",
    "KEY",
    "NEEDS",
    "RUNNERS",
    "Client",
    "Runner",
    "example",
    "run_session",
]

API_KEY = "3f2b7a10-66c1-4a59-8a63-2c8f5e3b9d01"
KEY = load_private_key(generate_private_key(2048))
CREDENTIALS = Credentials(API_KEY, KEY)
CANCELLED = "cancelled"


@dataclass
class Client:
    """What a scenario may do with the connection from a callback.

    Attributes:
        machine: the connection or session.
        cancel: ends it without a goodbye, as the framework does it.
        later: calls something after some seconds, not from a callback of the connection, and then tells the transport.
    """

    machine: ExchangeConnection | Session
    cancel: Callable[[], object] = field(init=False)
    later: Callable[[float, Callable[[], object]], object] = field(init=False)

    def subscribe(self, channel: str = "btcusd") -> None:
        self.machine.subscribe([channel], now=time.monotonic())

    def close(self) -> None:
        self.machine.close(now=time.monotonic())


OnEvent = Callable[[Client, object], None]
Runner = Callable[..., object]
"""(config, on_event, authority=None, *, send_timeout=5.0, at_start=...) -> the error, None, or CANCELLED.

`authority` is a certificate to trust, in PEM. `at_start` is called with the client once it runs.
"""


def do_nothing(_client: Client) -> None:
    pass


def example(name: str, send_timeout: float = 5.0) -> Any:
    """The module of an example, with another patience when it sends."""
    path = Path(__file__).parent.parent / "docs/examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert "SEND_TIMEOUT" in vars(module)
    vars(module)["SEND_TIMEOUT"] = send_timeout
    return module


def new_client(config: ExchangeConfig) -> Client:
    return Client(new_exchange_connection(config, CREDENTIALS))


def tls_context(authority: bytes | None) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=None if authority is None else authority.decode())


def run_selectors(
    config: ExchangeConfig,
    on_event: OnEvent,
    authority: bytes | None = None,
    *,
    send_timeout: float = 5.0,
    at_start: Callable[[Client], None] = do_nothing,
) -> object:
    many = example("selector_many", send_timeout).ManyConnections(tls_context(authority))
    client = new_client(config)
    actions: list[Callable[[], object]] = []
    outcome: list[object] = []

    def cancel() -> None:
        raise KeyboardInterrupt

    def later(_seconds: float, action: Callable[[], object]) -> None:
        # The only outside that a single thread has is the callback of another connection; this one ends at once.
        actions.append(action)
        many.add(new_exchange_connection(ExchangeConfig("http://127.0.0.1:1"), CREDENTIALS), act)

    def act(_event: object) -> None:
        actions.pop()()
        many.wake(client.machine)

    def deliver(event: object) -> None:
        if isinstance(event, Closed):
            outcome.append(event.error)
        else:
            on_event(client, event)

    client.cancel, client.later = cancel, later
    many.add(client.machine, deliver)
    at_start(client)
    try:
        many.run()
    except KeyboardInterrupt:
        return CANCELLED
    return outcome[0]


def run_session(
    config: ExchangeConfig,
    session_config: SessionConfig | None,
    on_event: OnEvent,
    authority: bytes | None = None,
    *,
    send_timeout: float = 5.0,
    at_start: Callable[[Client], None] = do_nothing,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> object:
    """Run a session with the example for asyncio."""
    module = example("asyncio_protocol", send_timeout)

    async def main() -> object:
        client = Client(new_session(config, CREDENTIALS, session_config, now=time.monotonic()))
        driver = module.SessionDriver(client.machine, functools.partial(on_event, client), tls_context(authority))
        task = asyncio.ensure_future(driver.run())
        loop = asyncio.get_running_loop()
        client.cancel = task.cancel
        client.later = lambda seconds, action: loop.call_later(seconds, in_turn, action, driver.pump)
        at_start(client)
        try:
            return await task
        except asyncio.CancelledError:
            return CANCELLED

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main())


def run_asyncio(config: ExchangeConfig, on_event: OnEvent, *rest: Any, **options: Any) -> object:
    return run_session(config, None, on_event, *rest, **options)


def run_uvloop(*arguments: Any, **options: Any) -> object:
    import uvloop  # noqa: PLC0415

    return run_asyncio(*arguments, loop_factory=uvloop.new_event_loop, **options)


def run_streams(
    config: ExchangeConfig,
    on_event: OnEvent,
    authority: bytes | None = None,
    *,
    send_timeout: float = 5.0,
    at_start: Callable[[Client], None] = do_nothing,
) -> object:
    module = example("asyncio_streams", send_timeout)
    client = new_client(config)

    async def consume() -> object:
        loop = asyncio.get_running_loop()
        async with module.StreamsConnection(lambda _now: client.machine, tls_context(authority)) as connection:
            client.later = lambda seconds, action: loop.call_later(seconds, connection.do, lambda *_: action())
            at_start(client)
            try:
                async for event in connection:
                    connection.do(lambda *_, event=event: on_event(client, event))
            except ConnectionFailed as error:
                return error
        return None

    async def main() -> object:
        task = asyncio.ensure_future(consume())
        client.cancel = task.cancel
        try:
            return await task
        except asyncio.CancelledError:
            return CANCELLED

    return asyncio.run(main())


def run_gevent(
    config: ExchangeConfig,
    on_event: OnEvent,
    authority: bytes | None = None,
    *,
    send_timeout: float = 5.0,
    at_start: Callable[[Client], None] = do_nothing,
) -> object:
    import gevent  # noqa: PLC0415

    hub = gevent.get_hub()
    hub.NOT_ERROR = (*hub.NOT_ERROR, ValueError)  # or gevent prints what a greenlet raises
    module = example("gevent_transport", send_timeout)
    tls = module.new_tls_context()
    if authority is not None:
        tls.load_verify_locations(cadata=authority.decode())
    client = new_client(config)
    transport = module.GeventTransport(client.machine, tls)
    greenlet = gevent.spawn(transport.run, functools.partial(on_event, client))
    client.cancel = functools.partial(gevent.spawn, greenlet.kill)
    client.later = lambda seconds, action: gevent.spawn_later(seconds, in_turn, action, transport.wake)
    at_start(client)
    outcome: object = greenlet.get()
    return CANCELLED if isinstance(outcome, gevent.GreenletExit) else outcome


def run_twisted(
    config: ExchangeConfig,
    on_event: OnEvent,
    authority: bytes | None = None,
    *,
    send_timeout: float = 5.0,
    at_start: Callable[[Client], None] = do_nothing,
) -> object:
    from twisted.internet import reactor as installed  # noqa: PLC0415
    from twisted.internet.defer import CancelledError  # noqa: PLC0415
    from twisted.internet.ssl import Certificate, trustRootFromCertificates  # noqa: PLC0415
    from twisted.internet.tcp import Connection  # noqa: PLC0415

    reactor: Any = installed
    trust = None if authority is None else trustRootFromCertificates([Certificate.loadPEM(authority)])
    client = new_client(config)
    module = example("twisted_transport", send_timeout)
    transport = module.TwistedTransport(client.machine, functools.partial(on_event, client), trust)
    outcome: list[Any] = []
    left_over: list[object] = []

    def start() -> None:
        deferred = transport.run()
        client.cancel = deferred.cancel
        deferred.addBoth(outcome.append)
        # What the transport has told the reactor to close is closed one turn later.
        deferred.addBoth(lambda _: reactor.callLater(0, reactor.callLater, 0, finish))
        at_start(client)

    def finish() -> None:
        left_over.extend(reactor.getDelayedCalls())
        left_over.extend(each for each in reactor.getReaders() if isinstance(each, Connection))
        reactor.stop()

    client.later = lambda seconds, action: reactor.callLater(seconds, in_turn, action, transport.pump)
    reactor.callWhenRunning(start)
    reactor.run()
    assert not left_over
    failure = outcome[0]
    if failure is None:
        return None
    if failure.check(CancelledError):
        return CANCELLED
    if failure.check(ValueError, AssertionError):
        failure.raiseException()
    return failure.value


def run_qt(
    config: ExchangeConfig,
    on_event: OnEvent,
    authority: bytes | None = None,
    *,
    send_timeout: float = 5.0,
    at_start: Callable[[Client], None] = do_nothing,
) -> object:
    from PySide6.QtCore import QCoreApplication, QTimer  # noqa: PLC0415
    from PySide6.QtNetwork import QSslCertificate, QSslConfiguration  # noqa: PLC0415

    application = QCoreApplication.instance() or QCoreApplication([])
    tls = QSslConfiguration.defaultConfiguration()
    if authority is not None:
        tls.setCaCertificates([QSslCertificate(authority)])
    client = new_client(config)
    transport = example("qt_transport", send_timeout).QtTransport(client.machine, tls)
    outcome: list[object] = []

    def end(result: object) -> None:
        outcome.append(result)
        application.quit()

    client.cancel = functools.partial(in_turn, transport.abort, functools.partial(end, CANCELLED))
    client.later = lambda seconds, action: QTimer.singleShot(
        round(seconds * 1000), functools.partial(in_turn, action, transport.pump)
    )
    transport.received.connect(functools.partial(on_event, client))
    transport.closed.connect(end)
    QTimer.singleShot(0, transport.start)
    at_start(client)
    application.exec()
    return outcome[0]


def in_turn(action: Callable[[], object], then: Callable[[], object]) -> None:
    action()
    then()


RUNNERS: dict[str, Runner] = {
    "selectors": run_selectors,
    "asyncio": run_asyncio,
    "uvloop": run_uvloop,
    "streams": run_streams,
    "gevent": run_gevent,
    "twisted": run_twisted,
    "qt": run_qt,
}

# What each needs besides this project.
NEEDS = {"uvloop": "uvloop", "gevent": "gevent", "twisted": "twisted", "qt": "PySide6"}
