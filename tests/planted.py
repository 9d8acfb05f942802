"""Copies of the framing layer, each with one bug, to see how short a failure Hypothesis makes of it.

`Reader` is the sound one, for records with a separator as well as for those with a length prefix; a bug is a subclass.
"""

from __future__ import annotations

from etorox_proto.signalr import LimitExceeded


class Reader:
    """Splits at 0x1e."""

    def __init__(self, limit: int = 1_000) -> None:
        self.limit = limit
        self.incomplete = b""

    def feed(self, data: bytes) -> list[bytes]:
        *records, self.incomplete = (self.incomplete + data).split(b"\x1e")
        self.check([*records, self.incomplete])
        return records

    def check(self, records: list[bytes]) -> None:
        if any(len(record) > self.limit for record in records):
            raise LimitExceeded("record", self.limit, "a hub message")


class ForgetsTheTail(Reader):
    """What was incomplete is lost when the next piece comes."""

    def feed(self, data: bytes) -> list[bytes]:
        self.incomplete = b""
        return super().feed(data)


class OneTooFew(Reader):
    """Of the records that come in one piece, the third and later ones are lost."""

    def feed(self, data: bytes) -> list[bytes]:
        return super().feed(data)[:2]


class LimitOffByOne(Reader):
    """A record of just the limit is refused."""

    def check(self, records: list[bytes]) -> None:
        if any(len(record) >= self.limit for record in records):
            raise LimitExceeded("record", self.limit, "a hub message")


class LosesEmpty(Reader):
    """A record of no bytes is not reported."""

    def feed(self, data: bytes) -> list[bytes]:
        return [record for record in super().feed(data) if record]


class PrefixedReader:
    """Splits by length prefixes, and reads their second byte only if it came with the first."""

    def __init__(self) -> None:
        self.incomplete = b""

    def feed(self, data: bytes) -> list[bytes]:
        self.incomplete += data
        records = []
        while self.incomplete:
            length, size, place = 0, 0, 0
            for size, byte in enumerate(self.incomplete[:5], 1):  # noqa: B007 - counts
                length |= (byte & 0x7F) << place
                place += 7
                if byte < 0x80:
                    break
            # The bug: a prefix that ends with a continuation bit is taken for whole.
            if len(self.incomplete) - size < length:
                break
            records.append(self.incomplete[size : size + length])
            self.incomplete = self.incomplete[size + length :]
        return records
