"""`Codec`: what an encoding of hub messages must offer, and the choice between the two there are.

`JsonCodec` and `MessagePackCodec` have the same face, described here once; `HubConnection` takes the one that its
configuration names, `ServerConnection` the one that the client's handshake names. Nothing here knows a wire format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

from msgspec import Raw

from etorox_proto.signalr._json import JsonCodec
from etorox_proto.signalr._messagepack import MessagePackCodec
from etorox_proto.signalr._messages import HubMessage

__all__ = ["ENCODINGS", "Codec", "Encoding", "Reader", "new_codec"]

Encoding = Literal["json", "messagepack"]


class Reader(Protocol):
    """Finds the records in a stream of bytes."""

    @property
    def is_between(self) -> bool:
        """Whether the next byte begins a record."""
        ...

    def read(self, data: bytes) -> Iterator[bytes]:
        """Take the next piece of the stream; one record after the other that it completes."""
        ...


class Codec(Protocol):
    """One encoding of hub messages."""

    @property
    def name(self) -> str:
        """What the handshake calls it."""
        ...

    @property
    def transfer_format(self) -> str:
        """What it needs from the transport, `Text` or `Binary`."""
        ...

    @property
    def binary(self) -> bool:
        """Whether its WebSocket messages are binary ones."""
        ...

    @property
    def null(self) -> bytes:
        """The payload that is no value."""
        ...

    def reader(self, max_record: int) -> Reader:
        """A reader for the records of this encoding."""
        ...

    def encode(self, message: HubMessage) -> bytes:
        """The message, framed."""
        ...

    def decode(self, record: bytes) -> HubMessage:
        """Read one record, without its frame."""
        ...

    def encode_payload(self, value: Any, what: str) -> Raw:
        """An argument, item or result in this encoding."""
        ...

    def payload_decoder(self, result_type: Any) -> Callable[[Raw], Any]:
        """A function from a payload to a value of this type."""
        ...


_CODECS: dict[str, type[JsonCodec | MessagePackCodec]] = {"json": JsonCodec, "messagepack": MessagePackCodec}
ENCODINGS: tuple[Encoding, ...] = ("json", "messagepack")


def new_codec(encoding: str, *, strict: bool = False) -> Codec:
    """The codec of one of `ENCODINGS`."""
    return _CODECS[encoding](strict=strict)
