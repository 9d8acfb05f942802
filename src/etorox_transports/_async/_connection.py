"""`Connection` and `IncomingCall`: one client of an asynchronous server, as its handler sees it.

They are the verbs; what runs beneath them, and how bytes come and go, is `_client`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, final

import msgspec

from etorox_proto.signalr import InvocationReceived, ServerConnection
from etorox_transports._async._backend import Backend, Scope
from etorox_transports._async._feed import Feed

__all__ = ["Connection", "IncomingCall", "Served"]


class Served(Protocol):
    """What the verbs need of the client beneath."""

    backend: Backend
    machine: ServerConnection
    calls: Feed
    error: Exception | None

    def settle(self) -> None:
        """The machine was given a command."""
        ...

    async def wait_for_room(self) -> None:
        """Wait until the client has taken enough of what was sent before."""
        ...

    async def invoke(self, call: Callable[[], Any], until: float) -> Any:
        """Make a call and wait for its outcome."""
        ...

    def answered(self, call: IncomingCall) -> None:
        """That call has its completion."""
        ...

    def left(self, call: IncomingCall) -> None:
        """Whoever worked on that call has done so."""
        ...

    def failed(self, call: IncomingCall, error: Exception) -> None:
        """Whoever worked on that call raised this."""
        ...


@final
class IncomingCall:
    """A call of the client's, to be worked on within `async with`.

    Then
    - who leaves without having answered has answered with nothing, which also ends a stream;
    - an exception answers it with an error, is logged, and goes no further;
    - when the client cancels the call, or leaves while it waits for the answer, what goes on within is cancelled.

    Without `async with` it can be answered all the same, and stays unanswered if nobody does.

    Attributes:
        target: the method's name, exactly as sent.
        arguments: plain values; numbers with a fraction are `Decimal`.
        headers: hub message headers.
        streaming: whether the answer is a stream of items.
        wants_answer: whether there is to be any. If not, answering does nothing.
        uploads: the streams that come along, in the order of the method's arguments; iterate them. What the client
            said went wrong is raised there, as `UploadFailed`. They end when the call does.
        upload_ids: their ids on the wire.
    """

    def __init__(self, client: Served, event: InvocationReceived, uploads: tuple[Feed, ...]) -> None:
        self._client = client
        self._id = event.invocation_id
        self._scope: Scope | None = None
        self._is_cancelled = False
        self.target = event.target
        self.arguments = event.arguments
        self.headers = event.headers
        self.streaming = event.streaming
        self.wants_answer = event.invocation_id is not None
        self.uploads = uploads
        self.upload_ids = event.uploads

    def __repr__(self) -> str:
        kind = "stream" if self.streaming else "call" if self.wants_answer else "message"
        return f"<IncomingCall {self._id!r}: {kind} of {self.target!r}>"

    @property
    def invocation_id(self) -> str | None:
        """Its id on the wire; None if no answer is wanted."""
        return self._id

    async def complete(self, result: Any = msgspec.UNSET, *, error: str | None = None) -> None:
        """Answer it, or end its stream.

        Args:
            result: anything that msgspec can encode; not for a stream.
            error: the reason of a failure, shown to the client.

        Raises:
            LocalProtocolError: it was answered before, or cannot be answered so; nothing was sent.
            ConnectionClosed: the client has left.
        """
        if self._id is not None:
            await self._client.wait_for_room()
            self.answer(result, error)

    async def send_item(self, item: Any) -> None:
        """Send the next item of its stream, when the client has room for it.

        Raises:
            LocalProtocolError: it is no stream, was ended before, or the item cannot be sent.
            ConnectionClosed: the client has left.
        """
        await self._client.wait_for_room()
        self._client.machine.send_item(self._id or "", item, now=self._client.backend.now())
        self._client.settle()

    async def __aenter__(self) -> Self:
        self._scope = self._client.backend.new_scope()
        self._scope.__enter__()
        if self._is_cancelled:
            self._scope.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        assert self._scope is not None, "it was entered"
        scope, self._scope = self._scope, None
        if scope.__exit__(kind, error, traceback):
            error = None
        if isinstance(error, Exception):
            self._client.failed(self, error)
            return True
        if error is None:
            self._client.left(self)
            return True
        return False

    # ------------------------------------------------------------------------------------------ the server's side

    def answer(self, result: Any, error: str | None) -> None:
        """The server's side: complete it at once."""
        assert self._id is not None, "only what wants an answer"
        self._client.machine.complete(self._id, result=result, error=error, now=self._client.backend.now())
        self._client.answered(self)
        self._client.settle()

    def cancel(self) -> None:
        """The server's side: nobody wants the answer any more."""
        self._is_cancelled = True
        if self._scope is not None:
            self._scope.cancel()


@final
class Connection:
    """One connected client. Iterate it for its calls; the iteration ends with the connection.

    Several tasks may use it, and iterate it. Commands wait while more than `ServeLimits.room` waits for the client.
    Afterwards they raise `ConnectionClosed`.
    """

    def __init__(self, client: Served) -> None:
        self._client = client

    def __repr__(self) -> str:
        return f"<Connection {self.connection_id!r}: {self._client.machine.state.value}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> IncomingCall:
        call: IncomingCall = await anext(self._client.calls)
        return call

    async def next(self, timeout: float = math.inf) -> IncomingCall:  # noqa: ASYNC109 - as a feed has it
        """The next call of the client's.

        Raises:
            TimeoutError: none came within so many seconds.
            StopAsyncIteration: the connection has ended.
        """
        call: IncomingCall = await self._client.calls.next(timeout)
        return call

    @property
    def connection_id(self) -> str:
        """The public name of the connection."""
        return self.machine.connection_id or ""

    @property
    def path(self) -> str:
        """The path that the client asked for (percent-encoded)."""
        return self.machine.path or ""

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query that it asked with, as name and value pairs, `id` included."""
        return self.machine.query

    @property
    def encoding(self) -> str | None:
        """The encoding that the client chose."""
        return self.machine.encoding

    @property
    def error(self) -> Exception | None:
        """Why it has ended; None while it lives, and if it ended in good order."""
        return self._client.error

    @property
    def machine(self) -> ServerConnection:
        """The machine, to look at."""
        return self._client.machine

    async def send(self, target: str, *arguments: Any, headers: Mapping[str, str] | None = None) -> None:
        """Call a method of the client's without asking for an answer.

        Raises:
            LocalProtocolError: it cannot be called; nothing was sent.
            ConnectionClosed: the client has left.
        """
        await self._client.wait_for_room()
        self.machine.send(target, arguments, headers=headers, now=self._client.backend.now())
        self._client.settle()

    async def invoke(
        self,
        target: str,
        *arguments: Any,
        result_type: Any = Any,
        headers: Mapping[str, str] | None = None,
        timeout: float = math.inf,  # noqa: ASYNC109 - as a hub has it
    ) -> Any:
        """Ask a method of the client's for its result.

        Args:
            target: the method's name.
            arguments: anything that msgspec can encode.
            result_type: what the result is decoded into.
            headers: hub message headers.
            timeout: seconds to wait for the answer.

        Raises:
            LocalProtocolError: it cannot be called; nothing was sent.
            ConnectionClosed: the client has left.
            HubError: the client answered with an error.
            CallLost: the client left before it answered.
            TimeoutError: no answer came in time.
        """
        backend = self._client.backend
        until = backend.now() + timeout
        await self._client.wait_for_room()

        def call() -> Any:
            return self.machine.invoke(target, arguments, result_type=result_type, headers=headers, now=backend.now())

        return await self._client.invoke(call, until)

    async def close(self, *, error: str | None = None, allow_reconnect: bool = False) -> None:
        """Say goodbye; the iteration ends. Calling it again does nothing.

        Args:
            error: the reason, shown to the client; None for none.
            allow_reconnect: whether the client is invited to come back.
        """
        self.machine.close(error=error, allow_reconnect=allow_reconnect, now=self._client.backend.now())
        self._client.settle()
        await self._client.backend.checkpoint()
