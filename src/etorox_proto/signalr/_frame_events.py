"""What a WebSocket tells besides its messages; `_websocket` makes these, `_client` and `_server` read them.

They stand alone so that a machine can be imported without wsproto, which is loaded for the first WebSocket.
"""

from __future__ import annotations

import msgspec

__all__ = ["CloseReceived", "Opened"]


class Opened(msgspec.Struct, frozen=True):
    """The upgrade succeeded; messages may follow."""


class CloseReceived(msgspec.Struct, frozen=True):
    """The peer sent its close frame; `close` answers it. Nothing follows.

    Attributes:
        code: 1005 if it gave none.
        reason: its text, often empty.
    """

    code: int
    reason: str
