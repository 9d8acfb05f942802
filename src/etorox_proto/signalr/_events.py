"""What a connection tells the application: two closed unions, one for each role.

`match` over them is exhaustive. Events are msgspec Structs; but for `Resumed` they hold no reference to a connection.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator
from typing import Any

import msgspec

from etorox_proto.signalr._call import Call
from etorox_proto.signalr._errors import CallError, ConnectionFailed

__all__ = [
    "CancelReceived",
    "Closed",
    "Completed",
    "Connected",
    "Detached",
    "Dial",
    "HubBatch",
    "HubEvent",
    "InvocationReceived",
    "ItemReceived",
    "ItemsByTurns",
    "ItemsReceived",
    "Resumed",
    "ServerEvent",
    "UploadEnded",
    "UploadItemReceived",
]


class Dial(msgspec.Struct, frozen=True):
    """Drop the byte stream you have, open this one, then say `stream_opened`.

    Until then `data_to_send` is empty. If it cannot be opened, say `receive_data(b"")`, or drop the connection
    object. It comes first, again for every redirect, and once more for the WebSocket after negotiation; and whenever a
    connection that both sides agreed to resume has lost its stream.

    Attributes:
        host: a name or address; an IPv6 address without brackets.
        port: the TCP port.
        tls: whether the stream is encrypted.
        server_name: the name to verify the certificate against and to send as SNI.
    """

    host: str
    port: int
    tls: bool
    server_name: str


class Connected(msgspec.Struct, frozen=True):
    """The handshake is done; commands are accepted from now on.

    Attributes:
        connection_id: the public name that the server gave this connection; None if negotiation was skipped.
    """

    connection_id: str | None


class ItemReceived(msgspec.Struct, frozen=True, gc=False):
    """One item of a stream, of the stream's `item_type`."""

    call: Call
    item: Any


class ItemsReceived(msgspec.Struct, frozen=True):
    """Items of one stream that came one behind the other, as `next_batch` gives them.

    Attributes:
        call: what `stream` returned.
        items: of the stream's `item_type`, in order; at least one. The list is the reader's.
    """

    call: Call
    items: list[Any]

    def singly(self) -> Iterator[ItemReceived]:
        """The same as `next_event` would give it."""
        return map(ItemReceived, itertools.repeat(self.call), self.items)


class ItemsByTurns(msgspec.Struct, frozen=True):
    """Items of several streams that came one behind the other, as `next_batch` gives them.

    Attributes:
        calls: for each item, what `stream` returned.
        items: each of its stream's `item_type`, in order; as many. Both lists are the reader's.
    """

    calls: list[Call]
    items: list[Any]

    def singly(self) -> Iterator[ItemReceived]:
        """The same as `next_event` would give it."""
        return map(ItemReceived, self.calls, self.items)

    def apart(self) -> Iterator[ItemsReceived]:
        """The same in batches of one stream, in the same order."""
        for call, pairs in itertools.groupby(zip(self.calls, self.items, strict=True), operator.itemgetter(0)):
            yield ItemsReceived(call, [item for _, item in pairs])


class Completed(msgspec.Struct, frozen=True):
    """A call or stream of ours is over; nothing more comes for it. Every call gets exactly one.

    Attributes:
        call: what `invoke` or `stream` returned.
        result: of the call's `result_type`; None for a stream, a void method, or an error.
        error: None if it ended well.
    """

    call: Call
    result: Any
    error: CallError | None


class InvocationReceived(msgspec.Struct, frozen=True):
    """The peer calls a method of ours. Its `repr` does not show the arguments, which may be credentials.

    Attributes:
        target: the method's name, exactly as sent.
        arguments: plain values; a number with a fraction is a `Decimal` in JSON and a `float` in MessagePack.
        invocation_id: for `complete`; None if no answer is wanted. To a *client* it is None as well where the target is
            not in `HubConfig.handles`: the server has been answered with an error then.
        streaming: whether the answer is a stream of items. Never so on a client.
        uploads: the ids of the streams that come along, in the order of the method's arguments. Empty on a client.
        headers: hub message headers, which the protocol gives no meaning.
    """

    target: str
    arguments: list[Any]
    invocation_id: str | None
    streaming: bool
    uploads: tuple[str, ...] = ()
    headers: dict[str, str] = {}

    def __repr__(self) -> str:
        return (
            f"InvocationReceived(target={self.target!r}, arguments=<{len(self.arguments)}>, "
            f"invocation_id={self.invocation_id!r}, streaming={self.streaming})"
        )


class CancelReceived(msgspec.Struct, frozen=True):
    """Server role: the client wants this call or stream stopped; told once.

    It still awaits its completion, unless the application has given that since the bytes came in.
    """

    invocation_id: str


class UploadItemReceived(msgspec.Struct, frozen=True):
    """Server role: one item of an upload, which is named by its id in `InvocationReceived.uploads`.

    Attributes:
        stream_id: of the upload.
        item: plain values, as arguments are.
    """

    stream_id: str
    item: Any


class UploadEnded(msgspec.Struct, frozen=True):
    """Server role: nothing more comes for this upload. The call that brought it still awaits its completion.

    Attributes:
        stream_id: of the upload.
        error: None if it ended well; else what the client said went wrong, or what was wrong with an item.
    """

    stream_id: str
    error: str | None


class Detached(msgspec.Struct, frozen=True):
    """Server role: this connection has lost its stream and waits for another one. Drop the stream that it had.

    Keep the object, call `handle_timeout` at its `deadline` as ever, and feed it nothing more from that stream.
    Commands are accepted meanwhile. When the client comes back, another `ServerConnection` says `Resumed`.
    """


class Resumed(msgspec.Struct, frozen=True):
    """Server role: the client of another connection has come back on this stream, which belongs to that one now.

    Tell that one with `receive_data(b"")` that its old stream is over, in case that it has it still, take its events,
    and say `connection.resume(this, now=now)`. Drive it on this stream from now on, and let go of the object that said
    so: its `Closed`, which follows, is not the end of the stream. Without `resume` the stream is to be closed; the
    client's connection then goes on waiting.

    Attributes:
        connection: the `ServerConnection` that the client had connected before.
    """

    connection: Any


class Closed(msgspec.Struct, frozen=True):
    """The connection is over: the last event, always, once. Flush `data_to_send` and close the byte stream.

    Attributes:
        error: None if it ended as our own `close` asked.
    """

    error: ConnectionFailed | None


HubEvent = Dial | Connected | ItemReceived | Completed | InvocationReceived | Closed
HubBatch = Dial | Connected | ItemsReceived | ItemsByTurns | Completed | InvocationReceived | Closed
ServerEvent = (
    Connected
    | InvocationReceived
    | CancelReceived
    | UploadItemReceived
    | UploadEnded
    | Completed
    | Detached
    | Resumed
    | Closed
)
