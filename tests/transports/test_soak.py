"""A short form of `soak`: two hundred reconnections and twenty thousand events leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contract import Adapter, case
from transports.soak import check_flat, lean_server, soak

EVENTS = 100
RECONNECTS = 200


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with lean_server(EVENTS) as port:
        yield port


@case
async def test_reconnections_and_events_leave_nothing_behind(adapter: Adapter, port: int) -> None:
    measures = await soak(adapter, port, RECONNECTS, EVENTS)
    assert [measure.events for measure in measures] == [2_000, 10_000, 20_000]
    check_flat(measures)
