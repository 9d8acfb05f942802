"""Frames read by index: the common one whole, and of every other one where it ends.

wsproto takes ten microseconds for a frame, more than all the rest together, and almost all frames are alike: final,
unmasked, of known length, text that is UTF-8 or binary. `read_frame` reads such a frame and no other. Everything else,
fragments, control frames, extensions, long frames and faults, is for wsproto; `Bounds` tells where that ends, so
that wsproto gets whole frames and its state stays true. `_websocket` calls this module; what a message holds it does
not know.

Source: RFC 6455, section 5.2.
"""

from __future__ import annotations

from struct import Struct

__all__ = ["FINAL_BINARY", "FINAL_TEXT", "HEAD", "LONG", "Bounds", "is_begun", "is_utf8", "read_frame"]

FINAL_TEXT, FINAL_BINARY = 0x81, 0x82
# In place of a length: it follows in two bytes, or in eight.
LONG, _LONGER = 126, 127
_LONGEST_HEAD = 14
HEAD = Struct("!BBH").unpack_from
"""The first four bytes: what kind of frame, its length if that is below `LONG`, and its length if that is `LONG`."""


def read_frame(data: bytes, start: int, limit: int) -> tuple[bytes, int] | None:
    """Read a whole message in one common frame.

    Args:
        data: from an unmasked stream.
        start: where a frame begins, and a message.
        limit: the longest message to read, in bytes.

    Returns:
        The message and where its frame ends; None if there is no such frame, or not all of it.
    """
    if len(data) - start < 2:
        return None
    kind, length, body = data[start], data[start + 1], start + 2
    if length == LONG:
        body += 2
        length = int.from_bytes(data[start + 2 : body], "big")
        if length < LONG:
            return None
    elif length > LONG:
        return None
    stop = body + length
    if stop > len(data) or length > limit:
        return None
    message = data[body:stop]
    if kind == FINAL_BINARY or (kind == FINAL_TEXT and is_utf8(message)):
        return message, stop
    return None


def is_begun(data: bytes, start: int, limit: int) -> bool:
    """Whether a common frame has begun there, with nothing wrong so far, and its end has not come.

    It says so only where it costs little to know: not of a few bytes, and not of text beyond ASCII.
    """
    if len(data) - start < 4:
        return False
    kind, short, length = HEAD(data, start)
    is_common = short == LONG <= length <= limit and len(data) - start < length + 4
    return is_common and (kind == FINAL_BINARY or (kind == FINAL_TEXT and data[start + 4 :].isascii()))


def is_utf8(text: bytes) -> bool:
    """Whether it is."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


class Bounds:
    """Follows the frames that are read elsewhere, whatever they are."""

    def __init__(self) -> None:
        self._head = b""  # what has come of a frame whose length is not known yet
        self._left = 0  # how much of its payload has still to come
        self._in_message = False

    @property
    def are_between(self) -> bool:
        """Whether the next byte begins a frame, and the next data frame a message."""
        return not (self._head or self._left or self._in_message)

    def follow(self, data: bytes, start: int) -> int:
        """Where the frame ends that begins at `start` or goes on there; the end of the data if that comes first."""
        if not self._left:
            known = len(self._head)
            self._head += data[start : start + _LONGEST_HEAD - known]
            lengths = _lengths(self._head)
            if lengths is None:
                return len(data)
            head, self._left = lengths
            if not self._head[0] & 0x08:  # a data frame; control frames may come between those of a message
                self._in_message = not self._head[0] & 0x80
            self._head = b""
            start += head - known
        stop = min(start + self._left, len(data))
        self._left -= stop - start
        return stop


def _lengths(head: bytes) -> tuple[int, int] | None:
    """How long the head of a frame is, and how long its payload; None if the head is incomplete."""
    if len(head) < 2:
        return None
    length, size = head[1] & 0x7F, 2
    if length >= LONG:
        size = 4 if length == LONG else 10
        length = int.from_bytes(head[2:size], "big")
    if head[1] & 0x80:
        size += 4
    return (size, length) if len(head) >= size else None
