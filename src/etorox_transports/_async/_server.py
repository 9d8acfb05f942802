"""`Server`: a SignalR server on a TCP port, in the event loop of the application; made by `serve` of an adapter.

It has a task that accepts, and for each client those of `_client`, all below the task that entered it. None of them
raises: what goes wrong with a client ends that client.
"""

from __future__ import annotations

import contextlib
import ssl
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, Self, final

from etorox_proto import LocalProtocolError
from etorox_proto.signalr import ServerConfig, ServerConnection
from etorox_transports._async._backend import Scope
from etorox_transports._async._client import AsyncHandler, Client
from etorox_transports._async._connection import Connection
from etorox_transports._async._lane import wait_until
from etorox_transports._async._listening import Acceptance, Acceptor, ServerBackend, SocketStream
from etorox_transports._async._tls import secured_client
from etorox_transports._serving import LOGGER, ServeLimits, new_tokens, open_listener

__all__ = ["Server"]


@final
class Server:
    """A SignalR server, to be used with `async with`: within it listens, and leaving says goodbye to everybody."""

    def __init__(
        self,
        backend: ServerBackend,
        handler: AsyncHandler,
        *,
        host: str,
        port: int,
        config: ServerConfig,
        ssl_context: ssl.SSLContext | None,
        limits: ServeLimits,
        detailed_errors: bool,
    ) -> None:
        self._backend = backend
        self._handler = handler
        self._address = (host, port)
        self._config = config
        self._ssl_context = ssl_context
        self._limits = limits
        self._detailed_errors = detailed_errors
        self._tokens = new_tokens()
        self._clients: dict[Client, Scope] = {}
        self._acceptance = Acceptance(backend, self._has_room, self._welcome)
        self._accepting = backend.new_scope()
        self._acceptor: Acceptor | None = None
        self._port: int | None = None
        self._manager: AbstractAsyncContextManager[Any] | None = None
        self._tasks: Any = None
        self._is_closing = False
        self._is_idle = backend.new_event()

    def __repr__(self) -> str:
        return f"<Server at port {self._port}: {len(self.connections)} connections>"

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._port is None:
            raise LocalProtocolError("expected a server that was entered, got a new one; use it with `async with`")
        return self._port

    @property
    def connections(self) -> list[Connection]:
        """The clients that are connected, oldest first; for a broadcast, say."""
        return [
            client.connection for client in self._clients if client.connection is not None and not client.machine.closed
        ]

    # ------------------------------------------------------------------------------------------- entering, leaving

    async def __aenter__(self) -> Self:
        if self._manager is not None:
            raise LocalProtocolError("expected a new server, got one that was entered before")
        sock = open_listener(*self._address)
        try:
            self._acceptor = await self._backend.listen(sock)
        except BaseException:
            sock.close()
            raise
        self._port = sock.getsockname()[1]
        self._manager = self._backend.new_tasks()
        self._tasks = await self._manager.__aenter__()
        self._backend.start(self._tasks, self._accept, "etorox server")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._manager is not None, "only what was entered is left"
        try:
            if not isinstance(error, self._backend.cancelled):
                await self.close()
        except self._backend.cancelled:
            if error is None:
                raise
            # What the application raised tells more; and whoever cancels will not be waited for any longer.
        finally:
            self._let_go()
            try:
                await self._manager.__aexit__(None, None, None)
            except BaseExceptionGroup as group:
                # A KeyboardInterrupt or the like that hit one of our tasks.
                raise (group.exceptions[0] if len(group.exceptions) == 1 else group) from None

    async def close(self) -> None:
        """Accept nobody any more, invite the clients to come back later, and wait for their goodbyes; then close.

        It takes `shutdown_timeout` at most; whoever has not left by then is dropped, and its handler cancelled. Calling
        it again does nothing.
        """
        if self._manager is None:
            return
        self._is_closing = True
        self._accepting.cancel()
        now = self._backend.now()
        for client in list(self._clients):
            client.machine.close(allow_reconnect=True, now=now)
            client.settle()
        if self._clients:
            await wait_until(self._backend, self._is_idle, now + self._limits.shutdown_timeout)
        if self._clients:
            self._let_go()
            with self._backend.new_scope(shield=True):
                await self._is_idle.wait()

    def _let_go(self) -> None:
        self._is_closing = True
        self._accepting.cancel()
        for scope in self._clients.values():
            scope.cancel()

    # ------------------------------------------------------------------------------------------------------ its tasks

    async def _accept(self) -> None:
        assert self._acceptor is not None, "it listens before it accepts"
        try:
            with self._accepting:
                await self._acceptance.run(self._acceptor)
        finally:
            with self._backend.new_scope(shield=True), contextlib.suppress(Exception):
                await self._acceptor.aclose()

    def _has_room(self) -> bool:
        return sum(client.has_stream for client in self._clients) < self._limits.connections

    def _welcome(self, stream: SocketStream) -> None:
        backend = self._backend
        machine = ServerConnection(self._config, tokens=self._tokens, now=backend.now())
        client = Client(
            backend,
            machine,
            self._handler,
            limits=self._limits,
            detailed_errors=self._detailed_errors,
            lost_stream=self._lost_stream,
            came_back=self._came_back,
        )
        self._clients[client] = scope = backend.new_scope()
        backend.start(self._tasks, partial(self._serve, client, stream, scope), "etorox server stream")

    def _lost_stream(self) -> None:
        """A client waits for another stream. It holds no place, but there must not be any number of them."""
        waiting = [client for client in self._clients if client.is_detached]
        if len(waiting) > self._limits.connections:
            waiting[0].machine.close(allow_reconnect=True, now=self._backend.now())
            waiting[0].settle()
        self._acceptance.look_for_room()

    def _came_back(self, arrival: Client, machine: ServerConnection) -> None:
        """A stream has turned out to be that of the client with this machine. If that has left, it is closed."""
        for client in self._clients:
            if client.machine is machine:
                client.take_over(arrival)
                return

    async def _serve(self, client: Client, stream: SocketStream, scope: Scope) -> None:
        """One client, from its first byte to its last."""
        try:
            with scope:
                secured = await self._secure(client, stream)
                if secured is not None:
                    await client.run(secured)
        except Exception as error:  # noqa: BLE001 - a fault of ours; it is not to end the other clients
            LOGGER.error("serving %r failed", client.connection, exc_info=error)
        finally:
            with self._backend.new_scope(shield=True) as closing, contextlib.suppress(Exception):
                closing.cancel()
                await stream.aclose()
            client.machine.receive_data(b"", self._backend.now())
            client.machine.close(now=self._backend.now())  # nobody is there who could resume it
            client.settle()
            del self._clients[client]
            self._acceptance.look_for_room()
            if self._is_closing and not self._clients:
                self._is_idle.set()

    async def _secure(self, client: Client, stream: SocketStream) -> SocketStream | None:
        if self._ssl_context is None:
            return stream
        secured: SocketStream | None = None
        # If it does not speak TLS, or trusts nobody, that is its own business.
        with contextlib.suppress(Exception), self._backend.new_scope(deadline=client.machine.deadline):
            secured = await secured_client(stream, self._ssl_context)
        return secured
