"""The adapter for trio: everything in the event loop of the caller, and no thread.

`connect` gives an authenticated connection to the exchange that stays connected, `connect_hub` one to any SignalR hub;
both are used with `async with`. Pings, timeouts and reconnection go on in tasks of their own, which never outlive the
context and never raise. This module knows trio's streams, clock and tasks; the rest is shared with
`etorox_transports.anyio`.
"""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from etorox_proto import Credentials, Dial, ExchangeConfig, SessionConfig
from etorox_proto.signalr import HubConfig, HubConnection, ServerConfig
from etorox_transports._async._backend import AsyncByteStream, AsyncOpener, Event, Scope
from etorox_transports._async._client import AsyncHandler
from etorox_transports._async._connection import Connection, IncomingCall
from etorox_transports._async._exchange import Exchange, new_exchange
from etorox_transports._async._feed import Events, Feed
from etorox_transports._async._hub import Hub, new_hub
from etorox_transports._async._listening import Acceptor
from etorox_transports._async._server import Server
from etorox_transports._async._session import AsyncTimeSource
from etorox_transports._async._tls import secured
from etorox_transports._attempt import NewHub, new_tls_context
from etorox_transports._queue import Overload
from etorox_transports._serving import ServeLimits

__all__ = [
    "AsyncByteStream",
    "AsyncHandler",
    "AsyncOpener",
    "Connection",
    "Events",
    "Exchange",
    "Feed",
    "Hub",
    "IncomingCall",
    "Server",
    "AsyncTimeSource",
    "connect",
    "connect_hub",
    "open_stream",
    "serve",
]


def connect(
    config: ExchangeConfig | str,
    credentials: Credentials,
    *,
    session: SessionConfig | None = SessionConfig(),  # noqa: B008 - it is frozen
    wait: bool = True,
    ssl_context: ssl.SSLContext | None = None,
    open: AsyncOpener | None = None,  # noqa: A002 - its name in every adapter
    feed_capacity: int = 10_000,
    overload: Overload = "fail",
    time_source: AsyncTimeSource | None = None,
) -> Exchange:
    """Connect to the exchange and authenticate; to be entered with `async with`.

    Args:
        config: where the exchange is; a string is its host.
        credentials: who we are. Every attempt signs a fresh nonce.
        session: how to stay connected; None for one attempt and no other.
        wait: whether entering takes until the exchange has let us in. The first failure is then raised, and not tried
            again. Otherwise entering returns at once, and `events()` tells how it goes.
        ssl_context: how to verify the exchange, and what certificate to present; by default the system's authorities.
        open: opens byte streams instead of `open_stream`, for proxies and tests. `ssl_context` then means nothing.
        feed_capacity: how many events may wait in a feed that is not being read.
        overload: what happens to more.
        time_source: asked for the exchange's wall time if `setup` is refused; that is then tried once more.

    Raises:
        LocalProtocolError: the configuration cannot be used.
        DialFailed: no stream could be opened; raised by entering, as all of `ConnectionFailed`. Nothing is left open.
        ConnectionFailed: in one of its forms, such as `SetupRefused`.
    """
    backend = _Trio(ssl_context)
    return new_exchange(
        backend,
        config,
        credentials,
        session=session,
        wait=wait,
        open_stream=open or backend.open_stream,
        feed_capacity=feed_capacity,
        overload=overload,
        time_source=time_source,
    )


def connect_hub(
    config: HubConfig | str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    open: AsyncOpener | None = None,  # noqa: A002 - its name in every adapter
    feed_capacity: int = 10_000,
    overload: Overload = "fail",
    new_connection: NewHub = HubConnection,
) -> Hub:
    """Connect to any SignalR hub; to be entered with `async with`, which takes until the handshake is done.

    Args:
        config: where the hub is; a string is its URL.
        ssl_context: as for `connect`.
        open: as for `connect`.
        feed_capacity: how many items may wait in a stream that is not being read.
        overload: what happens to more.
        new_connection: makes the machine, for one that counts, logs or checks what it is told.

    Raises:
        LocalProtocolError: the configuration cannot be used.
        DialFailed: no stream could be opened; raised by entering, as all of `ConnectionFailed`. Nothing is left open.
        ConnectionFailed: in one of its forms.
    """
    backend = _Trio(ssl_context)
    return new_hub(
        backend,
        config,
        open_stream=open or backend.open_stream,
        feed_capacity=feed_capacity,
        overload=overload,
        new_connection=new_connection,
    )


def serve(
    handler: AsyncHandler,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    config: ServerConfig = ServerConfig(),  # noqa: B008 - it is frozen
    ssl_context: ssl.SSLContext | None = None,
    limits: ServeLimits = ServeLimits(),  # noqa: B008 - it is frozen
    detailed_errors: bool = False,
) -> Server:
    """Serve SignalR on a TCP port; to be entered with `async with`, and it listens from then on.

    Args:
        handler: run for each client that connects, in a task of its own. When it returns the client is told goodbye;
            what it raises is logged, and ends that connection. When the connection ends, so does its iteration, and
            soon after it is cancelled.
        host: the address to listen on; by default nobody else's machine reaches it.
        port: 0 takes a free one.
        config: how clients are treated, which paths there are, and what one message may hold.
        ssl_context: the server's side of TLS, None for plain TCP.
        limits: how much it takes on.
        detailed_errors: tell clients what the handler raised, for development.

    Raises:
        OSError: the address cannot be used; raised by entering.
    """
    return Server(
        _Trio(None),
        handler,
        host=host,
        port=port,
        config=config,
        ssl_context=ssl_context,
        limits=limits,
        detailed_errors=detailed_errors,
    )


async def open_stream(dial: Dial, ssl_context: ssl.SSLContext | None = None) -> AsyncByteStream:
    """Open the stream that a machine asked for, on the first address that answers.

    Args:
        dial: where to, and whether with TLS.
        ssl_context: how to verify and what to present; by default the system's authorities.

    Raises:
        OSError: it could not be opened; an `ssl.SSLError` if TLS failed.
    """
    stream = await trio.open_tcp_stream(dial.host, dial.port)  # it sets TCP_NODELAY
    return await secured(stream, dial, ssl_context) if dial.tls else stream


@trio.lowlevel.enable_ki_protection
async def _protected(run: Callable[[], Awaitable[None]]) -> None:
    """A KeyboardInterrupt belongs to the application's code, and waits for that."""
    await run()


class _Trio:
    """Trio as a `Backend`."""

    cancelled: type[BaseException] = trio.Cancelled

    def __init__(self, ssl_context: ssl.SSLContext | None) -> None:
        self._ssl_context = ssl_context

    def now(self) -> float:
        return trio.current_time()

    def new_event(self) -> Event:
        return trio.Event()

    def new_scope(self, *, deadline: float = math.inf, shield: bool = False) -> Scope:
        return trio.CancelScope(deadline=deadline, shield=shield)

    def new_tasks(self) -> AbstractAsyncContextManager[Any]:
        return trio.open_nursery()

    def start(self, tasks: Any, run: Callable[[], Awaitable[None]], name: str) -> None:
        tasks.start_soon(_protected, run, name=name)

    async def checkpoint(self) -> None:
        await trio.lowlevel.checkpoint()

    async def open_stream(self, dial: Dial) -> AsyncByteStream:
        if dial.tls and self._ssl_context is None:
            self._ssl_context = new_tls_context()  # reading the system's authorities takes a while, so once
        return await open_stream(dial, self._ssl_context)

    async def listen(self, sock: socket.socket) -> Acceptor:
        return trio.SocketListener(trio.socket.from_stdlib_socket(sock))
