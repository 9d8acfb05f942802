"""`ConnectionTokens`: what the streams of one server share.

A client negotiates on one byte stream and opens its WebSocket on another; this table is how the second finds what the
first was promised, and how a client that comes back finds its connection. Each `ServerConnection` is given the same
table. It draws nothing at random: the names are an argument.

Source: SignalR specification, sections 4, 16 and 18.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["ConnectionTokens"]


class _Promise(NamedTuple):
    connection_id: str
    may_resume: bool


class ConnectionTokens:
    """The connections that were negotiated and have not ended.

    Args:
        names: fresh, unguessable names, such as `iter(partial(secrets.token_urlsafe, 16), None)`. It must not end.
        max_waiting: how many negotiated connections may wait for their WebSocket; the oldest is forgotten first.
    """

    def __init__(self, names: Iterator[str], *, max_waiting: int = 1_000) -> None:
        self._names = names
        self._max_waiting = max_waiting
        self._waiting: OrderedDict[str, _Promise] = OrderedDict()
        self._attached: dict[str, _Promise] = {}
        self._resumable: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._attached)

    def issue(self, version: int, *, may_resume: bool = False) -> tuple[str, str | None]:
        """Promise a connection.

        Args:
            version: the negotiate version, 0 or 1.
            may_resume: whether the connection may outlive its stream.

        Returns:
            The connection id, and from version 1 on the secret token that goes into `id=`.
        """
        connection_id = next(self._names)
        token = next(self._names) if version >= 1 else None
        self._waiting[token or connection_id] = _Promise(connection_id, may_resume)
        if len(self._waiting) > self._max_waiting:
            self._waiting.popitem(last=False)
        return connection_id, token

    def attach(self, connect_id: str | None) -> str | int:
        """A WebSocket asks for the connection it was promised; without an id it gets a new one.

        Returns:
            The connection id, or the HTTP status of the refusal: 404 for an unknown id, 409 for one in use.
        """
        if connect_id is None:
            connection_id = next(self._names)
            self._attached[connection_id] = _Promise(connection_id, may_resume=False)
            return connection_id
        if connect_id in self._attached:
            return 409
        promise = self._waiting.pop(connect_id, None)
        if promise is None:
            return 404
        self._attached[connect_id] = promise
        return promise.connection_id

    def find_resumable(self, connect_id: str | None) -> Any:
        """The connection that may be resumed by who knows this id; None if there is none."""
        return None if connect_id is None else self._resumable.get(connect_id)

    def keep_resumable(self, connect_id: str, connection: Any) -> bool:
        """The connection of this id is to be found when its client comes back; whether it was promised that."""
        if self._attached[connect_id].may_resume:
            self._resumable[connect_id] = connection
        return connect_id in self._resumable

    def detach(self, connect_id: str) -> None:
        """That connection has ended; its id is spent."""
        self._attached.pop(connect_id, None)
        self._resumable.pop(connect_id, None)
