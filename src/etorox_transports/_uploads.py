"""What both kinds of hub do the same way with the streams that an application sends along with a call.

An upload is something to iterate, and is asked for its next item when there is room. Nothing here waits.
"""

from __future__ import annotations

import logging

from etorox_proto.signalr import Completed, HubError, Upload

__all__ = ["UPLOAD_ROOM", "UploadFailures"]

_LOGGER = logging.getLogger("etorox_transports.hub")

UPLOAD_ROOM = 262_144
"""How many bytes may wait for the server before an upload is asked for its next item."""


class UploadFailures:
    """What the sources of uploads have raised, until their call is over."""

    def __init__(self) -> None:
        self._errors: dict[Upload, Exception] = {}

    def add(self, upload: Upload, error: Exception) -> str:
        """Keep it. Returns what the server is told, which leaves out what may be nobody else's business."""
        _LOGGER.warning("an upload to %s failed: %r", upload.target, error)
        self._errors[upload] = error
        return f"the client's stream failed with {type(error).__name__}"

    def explain(self, completed: Completed) -> None:
        """If the server has answered a call with an error, its cause may be one of these."""
        for upload in completed.call.uploads:
            error = self._errors.pop(upload, None)
            if error is not None and isinstance(completed.error, HubError):
                completed.error.__cause__ = error
