"""What an application asks of a hub: calls, streams, and the uploads that go with them.

The commands of `HubConnection` that need a connected hub and nothing else; they check, then act. How the connection
came about they do not know. `cancel`, which both roles have, is in `_peer`.

Source: SignalR specification, section 12.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec

from etorox_proto.signalr._call import Call, ItemReader, Upload
from etorox_proto.signalr._events import HubEvent
from etorox_proto.signalr._messages import Completion, StreamItem
from etorox_proto.signalr._peer import Peer, check_reason

__all__ = ["HubCommands"]


class HubCommands(Peer[HubEvent]):
    """The commands of a client; `HubConnection` adds the inputs."""

    def invoke(
        self,
        target: str,
        arguments: Sequence[Any] = (),
        *,
        result_type: Any = Any,
        uploads: int = 0,
        headers: Mapping[str, str] | None = None,
        now: float,
    ) -> Call:
        """Call a method of the hub; its outcome comes as one `Completed`.

        Args:
            target: the method's name, sent exactly so.
            arguments: anything that msgspec can encode; `Decimal` is written digit for digit, as a number in JSON
                and as text in MessagePack. A `msgspec.Raw` holds one value in the connection's encoding.
            result_type: what the result is decoded into, straight from the wire. By default plain values; a void
                method gives None whatever is said here.
            uploads: how many of the method's arguments are streams. They are left out of `arguments`; `Call.uploads`
                has a handle for each, for `send_item` and `end_upload`.
            headers: hub message headers, strings by strings.
            now: seconds.

        Raises:
            LocalProtocolError: not connected, something that cannot be sent, or a limit reached; nothing was sent.
        """
        decode = self._codec.payload_decoder(result_type)
        return self._call(target, arguments, decode, headers, uploads=uploads, now=now)

    def stream(
        self,
        target: str,
        arguments: Sequence[Any] = (),
        *,
        item_type: Any = Any,
        item_decoder: Callable[[msgspec.Raw], Any] | None = None,
        item_reader: ItemReader | None = None,
        uploads: int = 0,
        headers: Mapping[str, str] | None = None,
        now: float,
    ) -> Call:
        """Call a streaming method; items come as `ItemReceived`, its end as one `Completed`.

        Args:
            target: the method's name, sent exactly so.
            arguments: anything that msgspec can encode.
            item_type: what each item is decoded into, straight from the wire. An item that does not fit fails the
                stream with `UnexpectedResult`, and the server is told to stop.
            item_decoder: makes an item of its undecoded payload instead; what it raises fails the stream in the same
                way.
            item_reader: beside `item_decoder`, a faster way to the same items.
            uploads: as for `invoke`.
            headers: hub message headers, strings by strings.
            now: seconds.

        Raises:
            LocalProtocolError: as for `invoke`.
        """
        decode, reader = item_decoder, item_reader
        if decode is None:
            # It reads bytes as well as it does a payload, and refuses what is not one.
            decode = self._codec.payload_decoder(item_type)
            reader = cast("ItemReader", decode)
        return self._call(target, arguments, decode, headers, streaming=True, reader=reader, uploads=uploads, now=now)

    def send(
        self,
        target: str,
        arguments: Sequence[Any] = (),
        *,
        uploads: int = 0,
        headers: Mapping[str, str] | None = None,
        now: float,
    ) -> tuple[Upload, ...]:
        """Call a method without asking for an answer; whether it arrived stays unknown.

        Returns:
            The handles of the `uploads`, which are as for `invoke`. Nothing tells that the method has lost interest in
            them.

        Raises:
            LocalProtocolError: as for `invoke`.
        """
        return self._tell(target, arguments, headers, uploads=uploads, now=now)

    def complete(
        self, invocation_id: str, *, result: Any = msgspec.UNSET, error: str | None = None, now: float
    ) -> None:
        """Answer a call of the server's, which waits for a result or an error.

        Args:
            invocation_id: of an `InvocationReceived` that has not been completed.
            result: anything msgspec can encode. Left out, it is null: a completion without a result would be a failure
                to the official server.
            error: the reason of a failure, shown to the server.
            now: seconds.

        Raises:
            LocalProtocolError: that id awaits no completion, or this one cannot be sent; nothing was sent.
        """
        if result is msgspec.UNSET and error is None:
            result = None
        super().complete(invocation_id, result=result, error=error, now=now)

    def send_item(self, upload: Upload, item: Any, *, now: float) -> bool:
        """Send the next item of an upload.

        Nothing here waits for room: a producer that is faster than the line looks at `queued_bytes` before the next
        item.

        Args:
            upload: of `Call.uploads`, or what `send` returned.
            item: anything that msgspec can encode; a `msgspec.Raw` holds one value in the connection's encoding.
            now: seconds.

        Returns:
            Whether it was sent. False once the call is over, be it answered, cancelled or failed: then nobody takes
            items any more, and the producer is to stop.

        Raises:
            LocalProtocolError: not connected, an upload that was ended, an item that cannot be sent, or too much waits
                to be sent; nothing was sent.
        """
        self._check_connected("send_item")
        if not self._caller.is_wanted(upload):
            return False
        payload = self._codec.encode_payload(item, "the item")
        self._queue(StreamItem(invocation_id=upload.stream_id, item=payload))
        self._sent(now)
        return True

    def end_upload(self, upload: Upload, *, error: str | None = None, now: float) -> None:
        """End an upload; nothing is sent where its call is over already.

        Args:
            upload: of `Call.uploads`, or what `send` returned.
            error: what went wrong, shown to the server; None if the stream is complete.
            now: seconds.

        Raises:
            LocalProtocolError: as for `send_item`.
        """
        self._check_connected("end_upload")
        check_reason(error)
        if self._caller.is_wanted(upload):
            self._queue(Completion(invocation_id=upload.stream_id, error=error))
            self._caller.end(upload)
            self._sent(now)
