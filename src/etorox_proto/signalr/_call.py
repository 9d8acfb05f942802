"""`Call` and `Upload`: the handles of what we ask; the table of what is not settled yet; and where ids come from.

The table is what makes "every call settles exactly once" true: a call leaves it in the moment its `Completed` is
made. `Caller` owns one. Nothing here knows the wire.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, final

import msgspec

from etorox_proto.signalr._errors import LocalProtocolError

__all__ = ["Call", "CallTable", "InvocationIds", "ItemReader", "Upload"]


@final
class Upload:
    """One stream of items from us to the server, an argument of a call; compared by identity.

    Attributes:
        stream_id: its id on the wire.
        target: the name of the method that is called.
        is_open: whether items can be sent: it has not been ended, and its call is not over.
        is_ended: whether the application has ended it.
    """

    __slots__ = ("is_ended", "is_open", "stream_id", "target")

    def __init__(self, stream_id: str, target: str) -> None:
        self.stream_id = stream_id
        self.target = target
        self.is_open = True
        self.is_ended = False

    def __repr__(self) -> str:
        return f"<Upload {self.stream_id!r}: to {self.target!r}>"


ItemReader = Callable[[bytes], Any]
"""A fast way to items, in the connection's encoding, from bytes that may be anything: what it refuses goes the ordinary
way.

It makes an item of what may be one payload, such as the `decode` of a `msgspec.json.Decoder`. It must raise unless it
is exactly that, and whenever the ordinary way would make anything else of it.
"""


@final
class Call:
    """One call or stream of ours; compared by identity.

    Attributes:
        invocation_id: its id on the wire.
        target: the method's name.
        streaming: whether it is a stream.
        decode: makes a result or item of its undecoded payload.
        reader: a fast way to its items, until that has been taken up; None if there is none.
        number: which of the messages that count (section 16) it is, on its connection.
        uploads: the streams that the application sends with it, in the order of the method's arguments.
    """

    __slots__ = ("decode", "invocation_id", "number", "reader", "streaming", "target", "uploads")

    def __init__(
        self,
        invocation_id: str,
        target: str,
        *,
        streaming: bool,
        decode: Callable[[msgspec.Raw], Any],
        number: int,
        reader: ItemReader | None = None,
        uploads: tuple[Upload, ...] = (),
    ) -> None:
        self.invocation_id = invocation_id
        self.target = target
        self.streaming = streaming
        self.decode = decode
        self.reader = reader
        self.number = number
        self.uploads = uploads

    def __repr__(self) -> str:
        kind = "stream" if self.streaming else "call"
        return f"<Call {self.invocation_id!r}: {kind} of {self.target!r}>"


class CallTable:
    """The unsettled calls by id, and the ids that were cancelled and may still receive messages.

    Args:
        max_cancelled: how many cancelled ids to remember; the oldest is forgotten first. A forgotten one is an
            unknown id, whose messages are dropped all the same.

    Attributes:
        settled: how many calls were taken out.
    """

    def __init__(self, max_cancelled: int) -> None:
        self.settled = 0
        self._calls: dict[str, Call] = {}
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._max_cancelled = max_cancelled

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, invocation_id: object) -> bool:
        return invocation_id in self._calls or invocation_id in self._cancelled

    def add(self, call: Call) -> None:
        """Enter a new call."""
        assert call.invocation_id not in self, "the id is in use"
        self._calls[call.invocation_id] = call

    def find(self, invocation_id: str) -> Call | None:
        """The unsettled call of that id."""
        return self._calls.get(invocation_id)

    def holds(self, call: Call) -> bool:
        """Whether this very call is unsettled."""
        return self._calls.get(call.invocation_id) is call

    def settle(self, call: Call) -> None:
        """Take a call out that is over on both sides."""
        del self._calls[call.invocation_id]
        self.settled += 1

    def settle_early(self, call: Call) -> None:
        """Take a call out while the peer does not know yet that it is over."""
        self.settle(call)
        self._cancelled[call.invocation_id] = None
        if len(self._cancelled) > self._max_cancelled:
            self._cancelled.popitem(last=False)

    def drain(self, invocation_id: str, *, last: bool) -> bool:
        """Whether a message for this id is late traffic of a call settled early; the last one frees the id."""
        if invocation_id not in self._cancelled:
            return False
        if last:
            del self._cancelled[invocation_id]
        return True

    def clear(self) -> list[Call]:
        """Take all calls out, oldest first."""
        calls = list(self._calls.values())
        self.settled += len(calls)
        self._calls.clear()
        self._cancelled.clear()
        return calls


class InvocationIds:
    """The ids of our calls and uploads, one after the other; an id that was not spent is given again.

    Args:
        ids: the ids to use, in order.
        in_use: whether an id is.
    """

    def __init__(self, ids: Iterable[str], in_use: Callable[[str], bool]) -> None:
        self._ids = iter(ids)
        self._in_use = in_use
        self._ahead: list[str] = []

    def peek(self, count: int) -> list[str]:
        """The next ids.

        Raises:
            LocalProtocolError: there are not so many, or one is in use.
        """
        self._ahead += itertools.islice(self._ids, max(0, count - len(self._ahead)))
        ids: list[str | None] = [*self._ahead[:count]] or [None]
        for index, each in enumerate(ids):
            if not each or self._in_use(each) or each in ids[:index]:
                raise LocalProtocolError(f"expected a fresh invocation id from `ids`, got {each!r}")
        if len(self._ahead) < count:
            raise LocalProtocolError("expected a fresh invocation id from `ids`, got None")
        return self._ahead[:count]

    def spend(self, count: int) -> None:
        """So many of them are in use."""
        del self._ahead[:count]
