"""What the application of a server asks: calls to the client, and the items of the streams that the client asked for.

The commands of `ServerConnection` that need a connected client and nothing else; they check, then act. How the
connection came about they do not know. `cancel` and `complete`, which both roles have, are in `_peer`.

Source: SignalR specification, section 12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from etorox_proto.signalr._call import Call
from etorox_proto.signalr._errors import LocalProtocolError
from etorox_proto.signalr._events import ServerEvent
from etorox_proto.signalr._messages import StreamItem
from etorox_proto.signalr._peer import Peer

__all__ = ["ServerCommands"]


class ServerCommands(Peer[ServerEvent]):
    """The commands of a server; `ServerConnection` adds the inputs."""

    def invoke(
        self,
        target: str,
        arguments: Sequence[Any] = (),
        *,
        result_type: Any = Any,
        headers: Mapping[str, str] | None = None,
        now: float,
    ) -> Call:
        """Ask a method of the client's for its result, which comes as one `Completed`.

        Args:
            target: the method's name, sent exactly so.
            arguments: anything that msgspec can encode.
            result_type: what the result is decoded into, straight from the wire; by default plain values.
            headers: hub message headers, strings by strings.
            now: seconds.

        Raises:
            LocalProtocolError: not connected, something that cannot be sent, or a limit reached; nothing was sent.
        """
        return self._call(target, arguments, self._codec.payload_decoder(result_type), headers, now=now)

    def send(
        self,
        target: str,
        arguments: Sequence[Any] = (),
        *,
        headers: Mapping[str, str] | None = None,
        now: float,
    ) -> None:
        """Call a method of the client's without asking for an answer.

        Raises:
            LocalProtocolError: as for `invoke`.
        """
        self._tell(target, arguments, headers, now=now)

    def send_item(self, invocation_id: str, item: Any, *, now: float) -> None:
        """Send the next item of a stream.

        Args:
            invocation_id: of an `InvocationReceived` that is streaming and has not been completed.
            item: anything msgspec can encode; a `msgspec.Raw` holds one value in the connection's
                `encoding` and is sent as it is.
            now: seconds.

        Raises:
            LocalProtocolError: that id is no open stream, or too much waits to be sent; nothing was sent.
        """
        del now
        self._check_connected("send_item")
        if not self._callee.is_stream(invocation_id):
            raise LocalProtocolError(f"expected the id of a stream, got that of a plain call: {invocation_id!r}")
        self._queue(StreamItem(invocation_id=invocation_id, item=self._codec.encode_payload(item, "the item")))
