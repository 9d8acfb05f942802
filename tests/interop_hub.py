"""`InteropHub`: what the interoperability tests call, on a `LoopbackServer`; it remembers what it was told."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any, Protocol

from etorox_proto.signalr import (
    Call,
    CancelReceived,
    Completed,
    InvocationReceived,
    ServerConfig,
    ServerEvent,
    State,
    UploadEnded,
    UploadItemReceived,
)
from loopback import Client, LoopbackServer
from microsoft import Runtime


class Serve(Protocol):
    """Makes a hub for a client in that runtime; the options are those of `ServerConfig`."""

    def __call__(self, runtime: Runtime, **options: Any) -> InteropHub: ...


class InteropHub(LoopbackServer):
    """A hub that answers like a .NET one.

    Args:
        options: of `ServerConfig`.

    Attributes:
        cancelled: the ids of the calls whose clients wanted them stopped.
        called: the calls that came, oldest first.
        answers: what clients answered our calls with.
    """

    def __init__(self, **options: Any) -> None:
        self.cancelled: list[str] = []
        self.called: list[InvocationReceived] = []
        self.answers: list[Completed] = []
        self._sums: dict[str, tuple[str, Decimal]] = {}
        super().__init__(self._answer_event, config=ServerConfig(**options))

    @property
    def hub_url(self) -> str:
        """Where the hub is."""
        return f"{self.url}/hub"

    def tell(self, target: str, *arguments: Any) -> None:
        """Call a method of the latest client's."""
        self.do(lambda: self.hubs[-1].machine.send(target, arguments, now=time.monotonic()))

    def ask(self, target: str, *arguments: Any) -> Call:
        """Ask the latest client for a result, which will be in `answers`."""
        return self.do(lambda: self.hubs[-1].machine.invoke(target, arguments, now=time.monotonic()))

    def send_item(self, invocation_id: str, item: Any) -> None:
        """Send the latest client the next item of this stream."""
        self.do(lambda: self.hubs[-1].machine.send_item(invocation_id, item, now=time.monotonic()))

    def hang_up_politely(self, **options: Any) -> None:
        """Say goodbye to the latest client; the options are those of `close`."""
        self.do(lambda: self.hubs[-1].machine.close(now=time.monotonic(), **options))

    def _answer_event(self, client: Client, event: ServerEvent) -> None:
        machine, now = client.machine, time.monotonic()
        if isinstance(event, InvocationReceived):
            self.called.append(event)
        if machine.state is not State.CONNECTED:
            return
        match event:
            case InvocationReceived(target="Add", invocation_id=str(call)):
                machine.complete(call, result=sum(event.arguments), now=now)
            case InvocationReceived(target="Echo", invocation_id=str(call)):
                machine.complete(call, result=event.arguments[0], now=now)
            case InvocationReceived(target="Nothing", invocation_id=str(call)):
                machine.complete(call, now=now)
            case InvocationReceived(target="Fail", invocation_id=str(call)):
                text = "An unexpected error occurred invoking 'Fail' on the server. HubException: as you like"
                machine.complete(call, error=text, now=now)
            case InvocationReceived(target="Count", invocation_id=str(call)):
                for number in range(event.arguments[0]):
                    machine.send_item(call, number, now=now)
                machine.complete(call, error=event.arguments[1], now=now)
            case InvocationReceived(target="Forever", invocation_id=str(call)):
                machine.send_item(call, 1, now=now)
            case InvocationReceived(target="Sum", invocation_id=str(call), uploads=(upload,)):
                self._sums[upload] = (call, Decimal(0))
            case UploadItemReceived(upload, item):
                call, total = self._sums[upload]
                self._sums[upload] = (call, total + item)
            case UploadEnded(upload, error):
                call, total = self._sums.pop(upload)
                outcome: dict[str, Any] = {"result": int(total)} if error is None else {"error": error}
                machine.complete(call, **outcome, now=now)
            case CancelReceived(call):
                self.cancelled.append(call)
                machine.complete(call, now=now)
            case InvocationReceived(invocation_id=str(call)):
                text = f"Failed to invoke '{event.target}' due to an error on the server. HubException: "
                machine.complete(call, error=f"{text}Method does not exist.", now=now)
            case Completed():
                self.answers.append(event)
            case _:
                pass
