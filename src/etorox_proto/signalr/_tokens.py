"""`ConnectionTokens`: what the streams of one server share.

A client negotiates on one byte stream and opens its WebSocket on another; this table is how the second finds what the
first was promised. Each `ServerConnection` is given the same table. It draws nothing at random: the names are an
argument.

Source: SignalR specification, sections 4 and 18.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

__all__ = ["ConnectionTokens"]


class ConnectionTokens:
    """The connections that were negotiated and have not ended.

    Args:
        names: fresh, unguessable names, such as `iter(partial(secrets.token_urlsafe, 16), None)`. It must not end.
        max_waiting: how many negotiated connections may wait for their WebSocket; the oldest is forgotten first.
    """

    def __init__(self, names: Iterator[str], *, max_waiting: int = 1_000) -> None:
        self._names = names
        self._max_waiting = max_waiting
        self._waiting: OrderedDict[str, str] = OrderedDict()
        self._attached: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._attached)

    def issue(self, version: int) -> tuple[str, str | None]:
        """Promise a connection.

        Args:
            version: the negotiate version, 0 or 1.

        Returns:
            The connection id, and from version 1 on the secret token that goes into `id=`.
        """
        connection_id = next(self._names)
        token = next(self._names) if version >= 1 else None
        self._waiting[token or connection_id] = connection_id
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
            self._attached[connection_id] = connection_id
            return connection_id
        if connect_id in self._attached:
            return 409
        promised = self._waiting.pop(connect_id, None)
        if promised is None:
            return 404
        self._attached[connect_id] = promised
        return promised

    def detach(self, connect_id: str) -> None:
        """That connection has ended; its id is spent."""
        self._attached.pop(connect_id, None)
