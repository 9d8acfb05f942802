"""`Shortcut`: stream items straight from their frames, without an envelope between.

The items of one stream differ only in the item: what stands before it is the same in each record, and `}` comes last.
So the first item of a stream, which is read in the ordinary way, shows what to expect, and the others are recognised by
their first bytes and decoded at once into their type. Whatever is different goes the ordinary way: here nothing is ever
refused, only left alone. `HubConnection` owns one and asks it first. It knows the bytes of a record and of a frame,
and nothing of states.

Why the result is the same: a beginning counts only if the codec, given it with a value that does not occur in it and
`}`, reads an item of the stream with just that value. Then it does so with any one JSON value in that place, and the
decoder of the item's type accepts nothing else; so no separator can be in it either.

Many frames are read together, by functions of Python's own over lists: they are split at what stands between two items,
and then each must begin with the one head that a frame of its length can have. Records in one message are simply split
at what stands between two items. Where there are several streams, pieces are parted at the mark with which all of their
beginnings end, and what is before it is looked up: it tells the stream, and how long the item has to be.

Records in MessagePack have their length before them and nothing behind the item; they are read one by one, and their
frames by `_frames`.
"""

from __future__ import annotations

import contextlib
import operator
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from etorox_proto.signalr._beginnings import END, KnownStream, Places
from etorox_proto.signalr._call import Call
from etorox_proto.signalr._errors import RemoteProtocolError
from etorox_proto.signalr._events import ItemsByTurns, ItemsReceived
from etorox_proto.signalr._frames import FINAL_TEXT, HEAD, LONG, is_utf8
from etorox_proto.signalr._messages import HubMessage, StreamItem

__all__ = ["Shortcut", "deliver_items"]

_BRACE, _SEPARATOR = END
_MARKER, _PACKED_MARKER = b"[]", b"\x91\xc0"
# The last so many bytes of a beginning, `,"item":` as a rule, are the mark that begins an item of any stream.
_MARK_SIZE = 8
# What stands between two items: the end of a record, and of the next frame what is the same in each.
_SHORT_SEAM = END + bytes([FINAL_TEXT])
_LONG_SEAM = _SHORT_SEAM + bytes([LONG])
# Fewer bytes than these hold too few frames for reading them together to pay.
_MANY = 1_024


class Shortcut:
    """Reads items of known streams.

    Args:
        events: where to write them.
        find: the unsettled call of an id.
        count_settled: how many calls have been settled until now.
        decode: reads a record in the ordinary way.
        is_binary: whether records are MessagePack, each with its length before it, and not JSON.
        max_message: the longest WebSocket message that is accepted, in bytes.
        max_record: the longest record, without its separator.

    Attributes:
        count: how many items it has read.
    """

    def __init__(
        self,
        events: deque[Any],
        find: Callable[[str], Call | None],
        count_settled: Callable[[], int],
        decode: Callable[[bytes], HubMessage],
        *,
        is_binary: bool,
        max_message: int,
        max_record: int,
    ) -> None:
        self._events = events
        self._find = find
        self._count_settled = count_settled
        self._settled = 0
        self._decode = decode
        self._is_binary = is_binary
        self._marker, self._end = (_PACKED_MARKER, b"") if is_binary else (_MARKER, b"}")
        self._longest = min(max_message, max_record + 1)
        self._streams: dict[bytes, KnownStream] = {}
        self._lengths: list[int] = []
        self._mark = b""
        self._places = Places({}, b"", 0)
        self._last = b""  # what the latest item began with
        self._is_smooth = True  # as far as was looked lately, there were items and nothing else
        self.count = 0

    def learn(self, record: bytes, message: StreamItem) -> None:
        """Take what a record begins with, which has been read in the ordinary way. Each stream is looked at once."""
        call = self._find(message.invocation_id)
        if call is None or call.reader is None:
            return
        reader, call.reader = call.reader, None
        beginning, _, end = record.rpartition(bytes(message.item))
        if end == self._end and self._leads_to_item(beginning, call):
            self._use({**self._streams, beginning: KnownStream(call, reader, beginning, self._longest)})

    def _leads_to_item(self, beginning: bytes, call: Call) -> bool:
        if self._marker in beginning:
            return False
        try:
            message = self._decode(beginning + self._marker + self._end)
        except RemoteProtocolError:
            return False
        if not isinstance(message, StreamItem):
            return False
        return message.invocation_id == call.invocation_id and bytes(message.item) == self._marker

    def _use(self, streams: dict[bytes, KnownStream]) -> None:
        """Know these from now on, without those that are over."""
        self._settled = self._count_settled()
        self._streams = {each: one for each, one in streams.items() if self._find(one.call.invocation_id) is one.call}
        self._lengths = sorted({len(each) for each in self._streams})
        self._mark = next(reversed(self._streams), b"")[-_MARK_SIZE:]
        self._places = Places(self._streams, self._mark, self._longest)

    def _knows_some(self) -> bool:
        if self._streams and self._settled != self._count_settled():
            self._use(self._streams)
        return len(self._streams) > 0

    def read_frames(self, data: bytes, start: int) -> int:
        """Read frames that hold an item each.

        Args:
            data: from a WebSocket.
            start: where a frame begins, a message and a record.

        Returns:
            Where the first frame begins that is another, or incomplete.
        """
        if not self._knows_some():
            return start
        if self._is_smooth and len(data) - start > _MANY:
            start = self._read_together(data, start)
        is_smooth, self._is_smooth = self._is_smooth, False
        stream: KnownStream | None = None
        items: list[Any] = []
        longest, end = self._longest, len(data) - 3
        while start < end:
            kind, length, long_length = HEAD(data, start)
            body = start + 2
            if length == LONG and long_length >= LONG:
                length, body = long_length, start + 4
            elif length >= LONG:
                break
            stop = body + length
            if stop > len(data):
                self._is_smooth = is_smooth or stream is not None  # nothing else has been seen
                break
            if kind != FINAL_TEXT or length > longest or data[stop - 1] != _SEPARATOR or data[stop - 2] != _BRACE:
                break
            if stream is None or not data.startswith(stream.beginning, body):
                if stream is not None:
                    self._deliver(stream, items)
                stream, items = self._find_stream(data, body), []
                if stream is None or data.find(_SEPARATOR, body) < stop - 1:
                    break
            item = data[body + len(stream.beginning) : stop - 2]
            try:
                if not (item.isascii() or is_utf8(item)):
                    break
                items.append(stream.read(item))
            except Exception:  # noqa: BLE001 - of the user's type, perhaps; the ordinary way will tell
                break
            start = stop
        else:
            self._is_smooth = is_smooth or stream is not None
        if stream is not None:
            self._deliver(stream, items)
        return start

    def _read_together(self, data: bytes, start: int) -> int:
        """As `read_frames`, all frames but the last, if they are of one stream, and all short or all long."""
        if len(self._streams) > 1:
            return self._read_by_turns(data, start)
        is_long = data[start + 1] == LONG
        stream = self._find_stream(data, start + (4 if is_long else 2))
        if stream is None or data[start] != FINAL_TEXT:
            return start
        seam, heads = (_LONG_SEAM, stream.long_heads) if is_long else (_SHORT_SEAM, stream.short_heads)
        pieces = data[start:].split(seam)
        pieces[0] = pieces[0][len(seam) - len(END) :]
        pieces.pop()
        lengths = list(map(len, pieces))
        texts = list(map(bytes.removeprefix, pieces, map(heads.__getitem__, lengths)))
        if sum(map(len, texts)) + len(texts) * heads.size != sum(lengths):
            self._is_smooth = False  # not every piece began with its head
            return start
        count = self._read_texts(stream, texts)
        return start + sum(lengths[:count]) + count * len(seam)

    def _read_by_turns(self, data: bytes, start: int) -> int:
        """As `read_frames`, all frames but the last, of any streams."""
        if data[start] != FINAL_TEXT:
            return start
        pieces = data[start + 1 :].split(_SHORT_SEAM)
        pieces.pop()
        if not pieces:
            return start
        mark = self._mark
        heads, _, texts = zip(*[piece.partition(mark) for piece in pieces], strict=True)
        calls, reads, lengths = zip(*map(self._places.__getitem__, heads), strict=True)
        if tuple(map(len, texts)) != lengths:
            self._is_smooth = False  # or it is none of these streams
            return start
        count = self._read_texts_by_turns(list(calls), reads, texts)
        return start + sum(map(len, pieces[:count])) + count * len(_SHORT_SEAM)

    def read_records(self, data: bytes, start: int) -> int:
        """Read records that hold an item each.

        Args:
            data: messages.
            start: where a record begins.

        Returns:
            Where the first record begins that is another, or incomplete.
        """
        if not self._knows_some():
            return start
        if self._is_binary:
            return self._read_packed(data, start)
        stream = self._find_stream(data, start)
        if stream is None:
            return start
        if len(self._streams) > 1:
            return self._read_records_by_turns(data, start)
        around = len(stream.beginning) + len(END)
        texts = data[start + len(stream.beginning) :].split(END + stream.beginning)
        last = texts.pop()
        if last.endswith(END):
            texts.append(last[: -len(END)])
        lengths = list(map(len, texts))
        if max(lengths, default=0) + around > self._longest:
            return start
        count = self._read_texts(stream, texts)
        return start + sum(lengths[:count]) + count * around

    def _read_records_by_turns(self, data: bytes, start: int) -> int:
        """As `read_records`, of any streams."""
        pieces = data[start:].split(END)
        pieces.pop()
        if max(map(len, pieces), default=0) + len(END) > self._longest:
            return start
        mark = self._mark
        streams: list[KnownStream] = []
        texts: list[bytes] = []
        for piece in pieces:
            head, _, text = piece.partition(mark)
            if (stream := self._streams.get(head + mark)) is None:
                break
            streams.append(stream)
            texts.append(text)
        count = self._read_texts_by_turns([each.call for each in streams], [each.read for each in streams], texts)
        return start + sum(map(len, pieces[:count])) + count * len(END)

    def _read_packed(self, data: bytes, start: int) -> int:
        """As `read_records`, in MessagePack."""
        stream: KnownStream | None = None
        calls: list[Call] = []
        items: list[Any] = []
        while start + 2 < len(data):
            size, body = data[start], start + 1
            if size > 0x7F:
                high = data[body]
                if not 0 < high <= 0x7F:
                    break
                size, body = size & 0x7F | high << 7, body + 1
            stop = body + size
            if stop > len(data) or size >= self._longest:
                break
            if stream is None or not data.startswith(stream.beginning, body):
                stream = self._find_stream(data, body)
                if stream is None:
                    break
            try:
                items.append(stream.read(data[body + len(stream.beginning) : stop]))
            except Exception:  # noqa: BLE001 - as in `read_frames`
                break
            calls.append(stream.call)
            start = stop
        self._deliver_to(calls, items)
        return start

    def _read_texts(self, stream: KnownStream, texts: list[bytes]) -> int:
        """Read what may be items; returns how many were before one that is none, or does not fit its type."""
        items: list[Any] = []
        if is_utf8(b"".join(texts)):
            with contextlib.suppress(Exception):  # as in `read_frames`
                items.extend(map(stream.read, texts))  # one by one, so that those before a failure are there
        self._is_smooth = self._is_smooth and len(items) == len(texts)
        self._deliver(stream, items)
        return len(items)

    def _read_texts_by_turns(
        self, calls: list[Call], reads: Iterable[Callable[[bytes], Any]], texts: Sequence[bytes]
    ) -> int:
        """As `_read_texts`, each of its own stream."""
        items: list[Any] = []
        if is_utf8(b"".join(texts)):
            with contextlib.suppress(Exception):  # as in `_read_texts`
                items.extend(map(operator.call, reads, texts))
        self._is_smooth = self._is_smooth and len(items) == len(texts)
        self._deliver_to(calls, items)
        return len(items)

    def _find_stream(self, data: bytes, start: int) -> KnownStream | None:
        """The stream whose beginning stands there."""
        if data.startswith(self._last, start) and (stream := self._streams.get(self._last)) is not None:
            return stream
        for length in self._lengths:
            beginning = data[start : start + length]
            stream = self._streams.get(beginning)
            if stream is not None:
                self._last = beginning
                return stream
        return None

    def _deliver_to(self, calls: list[Call], items: list[Any]) -> None:
        self.count += len(items)
        if items and calls.count(calls[0]) == len(calls):
            deliver_items(self._events, calls[0], items)
        elif items:
            _deliver_by_turns(self._events, calls[: len(items)], items)

    def _deliver(self, stream: KnownStream, items: list[Any]) -> None:
        if items:
            self.count += len(items)
            deliver_items(self._events, stream.call, items)


def deliver_items(events: deque[Any], call: Call, items: list[Any]) -> None:
    """Write items of one stream behind those that wait."""
    last = events[-1] if events else None
    if type(last) is ItemsReceived and last.call is call:
        last.items.extend(items)
    elif type(last) is ItemsByTurns:
        last.calls.extend([call] * len(items))
        last.items.extend(items)
    else:
        events.append(ItemsReceived(call, items))


def _deliver_by_turns(events: deque[Any], calls: list[Call], items: list[Any]) -> None:
    """As `deliver_items`, each of its own stream."""
    last = events[-1] if events else None
    if type(last) is ItemsByTurns:
        last.calls.extend(calls)
        last.items.extend(items)
    else:
        events.append(ItemsByTurns(calls, items))
