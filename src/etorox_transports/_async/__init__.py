"""What `etorox_transports.trio` and `etorox_transports.anyio` share: everything but the I/O.

`_backend` says what a library must provide. On that stand the tasks of one connection (`_lane`), what waits for readers
(`_feed`), the tasks of one client and its end (`_driver`), and the verbs (`_exchange`, `_hub`).
"""

from __future__ import annotations
