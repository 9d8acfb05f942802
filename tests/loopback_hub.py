"""`Calculator`: a hub of the adapters' contract suite, on a `LoopbackServer`."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from etorox_proto.signalr import CancelReceived, InvocationReceived, LocalProtocolError, ServerEvent, State
from loopback import Client, LoopbackServer


class Calculator(LoopbackServer):
    """A hub that adds, fails, counts, is silent, hangs up, and calls its clients."""

    def __init__(self, **options: Any) -> None:
        self.cancelled: list[str] = []
        super().__init__(self._answer_call, **options)

    def _answer_call(self, client: Client, event: ServerEvent) -> None:
        now, machine = time.monotonic(), client.machine
        match event:
            case _ if machine.state not in {State.CONNECTED, State.RESUMING}:
                pass  # it came in one piece with a goodbye
            case InvocationReceived(target="add", invocation_id=str(call)):
                machine.complete(call, result=sum(event.arguments), now=now)
            case InvocationReceived(target="length", invocation_id=str(call)):
                machine.complete(call, result=len(event.arguments[0]), now=now)
            case InvocationReceived(target="fail", invocation_id=str(call)):
                machine.complete(call, error="as you like", now=now)
            case InvocationReceived(target="count", invocation_id=str(call)):
                start, end, error = event.arguments
                for number in range(start, end):
                    machine.send_item(call, number, now=now)
                machine.complete(call, error=error, now=now)
            case InvocationReceived(target="one", invocation_id=str(call)):
                machine.send_item(call, 1, now=now)
            case InvocationReceived(target="hang up"):
                machine.close(error="bye", now=now)
            case InvocationReceived(target="tell"):
                for number in range(event.arguments[0]):
                    machine.send("told", [number], now=now)
            case CancelReceived(call):
                self.cancelled.append(call)
                with contextlib.suppress(LocalProtocolError):  # completed in the same breath
                    machine.complete(call, now=now)
            case _:
                pass
