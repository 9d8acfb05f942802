"""The blocking adapter: sockets and TLS, no event loop, and no thread but yours.

**There is no thread: the connection lives only while you are inside one of its methods.** Pings go out and silence is
noticed while you iterate or wait. Come back more often than every 15 seconds, or call `keep_alive`; a consumer that is
away for more than 30 loses the connection, because the exchange drops clients whose pings stay away. `run_in_thread`
gives an exchange a thread of its own.

`connect` gives a session with the exchange, which connects again and rotates by itself; `connect_hub` one connection to
any SignalR hub; `serve` is the other side. Both drive the pure machines of `etorox_proto` with the one loop in `_loop`.
"""

from __future__ import annotations

import dataclasses
import ssl
import time
from collections.abc import Callable
from functools import partial

from etorox_proto import Credentials, ExchangeConfig, SessionConfig
from etorox_proto.signalr import HubConfig, HubConnection, ServerConfig
from etorox_transports._attempt import NewHub, new_session
from etorox_transports._blocking._connection import Connection, ConnectionEvent
from etorox_transports._blocking._exchange import Exchange
from etorox_transports._blocking._feed import Events, Feed, OtherFeedFull
from etorox_transports._blocking._hub import Hub
from etorox_transports._blocking._line import Opener
from etorox_transports._blocking._server import Handler, Server
from etorox_transports._blocking._sockets import ByteStream, SocketStream, open_socket
from etorox_transports._blocking._threaded import ThreadedEvents, run_in_thread
from etorox_transports._queue import Overload
from etorox_transports._serving import ServeLimits

__all__ = [
    "ByteStream",
    "Connection",
    "ConnectionEvent",
    "Events",
    "Exchange",
    "Feed",
    "Handler",
    "Hub",
    "Opener",
    "OtherFeedFull",
    "Server",
    "SocketStream",
    "ThreadedEvents",
    "connect",
    "connect_hub",
    "open_socket",
    "run_in_thread",
    "serve",
]


def connect(
    config: ExchangeConfig | str,
    credentials: Credentials,
    *,
    session: SessionConfig | None = SessionConfig(),  # noqa: B008 - it is frozen
    wait: bool = True,
    ssl_context: ssl.SSLContext | None = None,
    open: Opener | None = None,
    feed_capacity: int = 10_000,
    overload: Overload = "fail",
    time_source: Callable[[], float] | None = None,
) -> Exchange:
    """Connect to the exchange and authenticate.

    Args:
        config: where the exchange is; a string is its host.
        credentials: who we are. Every attempt signs a fresh nonce.
        session: how to stay connected; None for one attempt and no other.
        wait: whether to return when `setup` has succeeded, and to raise if the first attempt fails. If not, nothing is
            opened before something is read; then the session tries until it succeeds or an error is final.
        ssl_context: how to verify the exchange, and what certificate to present; by default the system's authorities.
        open: opens byte streams instead of the default, for proxies and tests. `ssl_context` then means nothing.
        feed_capacity: how many events may wait in a feed that is not being read.
        overload: what happens to more.
        time_source: gives the exchange's wall clock in Unix seconds, by whatever means you have, within ten seconds.
            Asked when `setup` is refused, which is then tried once more with that time.

    Raises:
        LocalProtocolError: the configuration cannot be used.
        DialFailed: no stream could be opened.
        ConnectionFailed: in one of its forms, such as `SetupRefused`. Nothing is left open.
    """
    if isinstance(config, str):
        config = ExchangeConfig(config)
    if time_source is not None:
        session = dataclasses.replace(session or SessionConfig(reconnect=False), check_clock=True)
    return Exchange(
        new_session(config, credentials, session, now=time.monotonic()),
        open or partial(open_socket, ssl_context=ssl_context),
        wait=wait,
        capacity=feed_capacity,
        overload=overload,
        time_source=time_source,
    )


def connect_hub(
    config: HubConfig | str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    open: Opener | None = None,
    feed_capacity: int = 10_000,
    overload: Overload = "fail",
    new_connection: NewHub = HubConnection,
) -> Hub:
    """Connect to any SignalR hub; returns once the handshake is done. It is one attempt, and is not made again.

    Args:
        config: where the hub is; a string is its URL.
        ssl_context: as for `connect`.
        open: as for `connect`.
        feed_capacity: how many items may wait in a stream that is not being read.
        overload: what happens to more.
        new_connection: makes the machine, for one that counts, logs or checks what it is told.

    Raises:
        LocalProtocolError: the configuration cannot be used.
        DialFailed: no stream could be opened.
        ConnectionFailed: in one of its forms. Nothing is left open.
    """
    if isinstance(config, str):
        config = HubConfig(url=config)
    return Hub(
        new_connection(config, now=time.monotonic()),
        open or partial(open_socket, ssl_context=ssl_context),
        capacity=feed_capacity,
        overload=overload,
    )


def serve(
    handler: Handler | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    config: ServerConfig = ServerConfig(),  # noqa: B008 - it is frozen
    ssl_context: ssl.SSLContext | None = None,
    limits: ServeLimits = ServeLimits(),  # noqa: B008 - it is frozen
    detailed_errors: bool = False,
) -> Server:
    """Serve SignalR on a TCP port. It listens when this returns; `run` it, `start` it, or iterate it.

    Args:
        handler: called with each event of each connection. What it raises is logged, and answers the call concerned
            with an error; raised at `Connected`, it ends that connection. None: the server is iterated.
        host: the address to listen on; by default nobody else's machine reaches it.
        port: 0 takes a free one.
        config: how clients are treated, which paths there are, and what one message may hold.
        ssl_context: the server's side of TLS, None for plain TCP.
        limits: how much it takes on.
        detailed_errors: tell clients what the handler raised, for development.

    Raises:
        OSError: the address cannot be used.
    """
    return Server(
        handler,
        host=host,
        port=port,
        config=config,
        ssl_context=ssl_context,
        limits=limits,
        detailed_errors=detailed_errors,
    )
