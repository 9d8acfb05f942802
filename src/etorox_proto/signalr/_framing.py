"""Framing: where one hub message ends and the next begins.

Two readers with one face, `feed(data) -> records`: text records end with 0x1e, binary ones begin with their length.
They keep what is incomplete, never look at a byte twice, copy each record once, and refuse to hold more than their
limit. What a record means they do not know. Used by both roles, and by anyone who needs just this layer.

Source: SignalR hub protocol, "JSON encoding" and "MessagePack encoding" (length prefix).
"""

from __future__ import annotations

from collections.abc import Iterator

from etorox_proto.signalr._errors import LimitExceeded, RemoteProtocolError

__all__ = ["HandshakeReader", "LengthPrefixReader", "RecordReader", "encode_length", "length_prefixed"]

SEPARATOR = b"\x1e"

# The largest length is 2^31 - 1, five groups of seven bits of which the last may use three.
_MAX_LENGTH = 0x7FFF_FFFF
_MAX_PREFIX = 5


class RecordReader:
    """Splits a byte stream at the record separator.

    Args:
        max_record: the longest record to accept, in bytes, without its separator.
    """

    def __init__(self, max_record: int) -> None:
        self._max_record = max_record
        self._incomplete = bytearray()

    @property
    def is_between(self) -> bool:
        """Whether the next byte begins a record."""
        return not self._incomplete

    @property
    def incomplete(self) -> bytes:
        """What came after the last separator."""
        return bytes(self._incomplete)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next piece of the stream.

        Returns:
            The records that it completed, in order, without separators.

        Raises:
            LimitExceeded: a record is longer than allowed. The reader must not be used any more.
        """
        return list(self.read(data))

    def read(self, data: bytes) -> Iterator[bytes]:
        """As `feed`, one record after the other: those before one that is too long are not lost.

        Raises:
            LimitExceeded: as for `feed`.
        """
        *records, tail = data.split(SEPARATOR)
        for record in records:
            self._check(len(self._incomplete) + len(record))
            whole = bytes(self._incomplete + record) if self._incomplete else record
            self._incomplete.clear()
            yield whole
        self._incomplete += tail
        self._check(len(self._incomplete))

    def _check(self, length: int) -> None:
        if length > self._max_record:
            raise LimitExceeded("record", self._max_record, "a hub message")


class HandshakeReader:
    """Finds the handshake, a text record whatever the encoding of what follows it.

    Args:
        max_record: the longest handshake to accept, in bytes, without its separator.
    """

    def __init__(self, max_record: int) -> None:
        self._max_record = max_record
        self._incomplete = bytearray()

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take the next piece of the stream.

        Returns:
            The handshake without its separator, and what came behind it; None while it is incomplete.

        Raises:
            LimitExceeded: it is longer than allowed. The reader must not be used any more.
        """
        record, separator, behind = data.partition(SEPARATOR)
        self._incomplete += record
        if len(self._incomplete) > self._max_record:
            raise LimitExceeded("record", self._max_record, "a hub message")
        return (bytes(self._incomplete), behind) if separator else None


class LengthPrefixReader:
    """Splits a byte stream of records that each begin with their length (VarInt, at most five bytes).

    Args:
        max_record: the longest record to accept, in bytes, without its prefix.
    """

    def __init__(self, max_record: int = _MAX_LENGTH) -> None:
        self._max_record = max_record
        self._incomplete = bytearray()

    @property
    def is_between(self) -> bool:
        """Whether the next byte begins a record."""
        return not self._incomplete

    @property
    def incomplete(self) -> bytes:
        """What came after the last whole record, its prefix included."""
        return bytes(self._incomplete)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next piece of the stream.

        Returns:
            The records that it completed, in order, without prefixes.

        Raises:
            RemoteProtocolError: a length is greater than 2^31 - 1. The reader must not be used any more.
            LimitExceeded: a record is longer than allowed. The reader must not be used any more.
        """
        return list(self.read(data))

    def read(self, data: bytes) -> Iterator[bytes]:
        """As `feed`, one record after the other: those before one that is refused are not lost.

        Raises:
            RemoteProtocolError: as for `feed`.
            LimitExceeded: as for `feed`.
        """
        self._incomplete += data
        start = 0
        while (prefix := self._prefix(start)) is not None:
            body, length = prefix
            if length > self._max_record:
                raise LimitExceeded("record", self._max_record, "a hub message")
            if len(self._incomplete) - body < length:
                break
            start = body + length
            yield bytes(memoryview(self._incomplete)[body:start])
        del self._incomplete[:start]

    def _prefix(self, start: int) -> tuple[int, int] | None:
        """Where the body of the record at `start` begins and how long it is; None if the prefix is incomplete."""
        length = 0
        for index, byte in enumerate(self._incomplete[start : start + _MAX_PREFIX]):
            length |= (byte & 0x7F) << (7 * index)
            if index == _MAX_PREFIX - 1 and byte > 0x07:
                raise RemoteProtocolError("a length prefix of at most 2147483647", "a greater one")
            if not byte & 0x80:
                return start + index + 1, length
        return None


def encode_length(length: int) -> bytes:
    """The length prefix for a body of `length` bytes, `0 <= length < 2**31`."""
    assert 0 <= length <= _MAX_LENGTH, "a body longer than 2 GiB - 1 cannot be framed"
    prefix = bytearray()
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix)


def length_prefixed(body: bytes) -> bytes:
    """The body with its length before it."""
    return encode_length(len(body)) + body
