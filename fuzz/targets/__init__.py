"""What is fuzzed: plain functions of bytes that return nothing and fail by raising.

The first line of each docstring is the invariant, in words. No fuzzing engine is imported here, so the same functions
serve Atheris (`run.py --atheris`), Hypothesis (`run.py --hypothesis`), the replay of seeds
(`tests/test_fuzz_targets.py`), and anything else that has bytes.
"""

from __future__ import annotations

from collections.abc import Callable

from targets.differences import frames_as_wsproto, json_as_library, messagepack_as_msgpack
from targets.exchange import exchange
from targets.joined import client_against_server
from targets.layers import framing, handshake, json_message, market, messagepack_message, private_key
from targets.returns import client, returning_clients
from targets.streams import (
    compressed_frames,
    frames,
    items,
    negotiation,
    packed_items,
    packed_records,
    records,
    server,
    upgrade,
)

__all__ = ["TARGETS"]

TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        framing,
        json_message,
        messagepack_message,
        handshake,
        negotiation,
        upgrade,
        frames,
        compressed_frames,
        records,
        items,
        packed_records,
        packed_items,
        server,
        client,
        returning_clients,
        client_against_server,
        frames_as_wsproto,
        json_as_library,
        messagepack_as_msgpack,
        private_key,
        market,
        exchange,
    )
}
"""All of them by name."""
