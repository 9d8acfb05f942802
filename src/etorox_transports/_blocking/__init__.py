"""What `etorox_transports.blocking` is made of.

`_sockets` knows byte streams, `_line` one machine on them, `_loop` the one loop over one line or several. `_client` is
what `_exchange` and `_hub` have in common, the verbs that programs use; `_feed` is what they read. `_threaded` gives an
exchange a thread of its own.
"""

from __future__ import annotations
