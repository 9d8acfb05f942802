"""What stands before the items of known streams, in records and frames: how `_shortcut` recognises them.

It knows the bytes of a frame's length and of a record's beginning, and nothing of what is read with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from etorox_proto.signalr._call import Call
from etorox_proto.signalr._frames import LONG

__all__ = ["END", "KnownStream", "Places"]

END = b"}\x1e"
"""What stands behind an item."""
_MOST_HEADS = 1_024
_MOST_PLACES = 8_192


@final
class KnownStream:
    """One stream, and what stands before its items: in a record, and in short and long frames."""

    def __init__(self, call: Call, reader: Callable[[bytes], Any], beginning: bytes, longest: int) -> None:
        self.call = call
        self.read = reader
        self.beginning = beginning
        self.short_heads = _Heads(beginning, 1, longest)
        self.long_heads = _Heads(beginning, 2, longest)


class _Heads(dict[int, bytes]):
    """What a frame begins with behind its seam, by how many bytes there are from there to its end (`}` left out).

    Args:
        beginning: of the record.
        size: how many bytes tell the length.
        longest: the longest message; no frame begins with what a longer one is said to begin with.

    Attributes:
        size: of a head, in bytes.
    """

    def __init__(self, beginning: bytes, size: int, longest: int) -> None:
        super().__init__()
        self._beginning = beginning
        self._digits = size
        self._longest = longest
        self.size = size + len(beginning)

    def __missing__(self, rest: int) -> bytes:
        if len(self) >= _MOST_HEADS:
            self.clear()
        length = rest - self._digits + len(END)
        fits = length < LONG if self._digits == 1 else LONG <= length < 65_536
        is_read = fits and length <= self._longest
        self[rest] = length.to_bytes(self._digits, "big") + self._beginning if is_read else END
        return self[rest]


_Place = tuple[Call | None, Callable[[bytes], Any], int]
_NOWHERE: _Place = None, bytes, -1


class Places(dict[bytes, _Place]):
    """Whose an item is, how it is read and how long it is, by what is before it: from its frame's length to the mark.

    Args:
        streams: by their beginnings.
        mark: with which these end.
        longest: the longest message.
    """

    def __init__(self, streams: dict[bytes, KnownStream], mark: bytes, longest: int) -> None:
        super().__init__()
        self._streams = streams
        self._mark = mark
        self._longest = longest

    def __missing__(self, head: bytes) -> _Place:
        if not head or head[0] > LONG:
            return _NOWHERE
        digits = 3 if head[0] == LONG else 1
        length = int.from_bytes(head[digits // 2 : digits], "big")
        beginning = head[digits:] + self._mark
        stream = self._streams.get(beginning)
        if stream is None or length > self._longest or (digits > 1 and length < LONG):
            return _NOWHERE
        if len(self) >= _MOST_PLACES:
            self.clear()
        self[head] = place = stream.call, stream.read, length - len(beginning) - len(END)
        return place
