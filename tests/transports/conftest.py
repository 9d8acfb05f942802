"""The adapters of the contract suite, as fixtures."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from contract import ADAPTERS, ASYNC_ADAPTERS, Adapter


@pytest.fixture(params=ADAPTERS, ids=repr)
def adapter(request: pytest.FixtureRequest) -> Adapter:
    """Each of them."""
    chosen: Adapter = request.param
    return chosen


@pytest.fixture(params=ASYNC_ADAPTERS, ids=repr)
def async_adapter(request: pytest.FixtureRequest) -> Adapter:
    """Those on which two tasks can run at once."""
    chosen: Adapter = request.param
    return chosen


@pytest.fixture(autouse=True, scope="module")
def light_collections() -> Iterator[None]:
    """Leave what was there before out of the garbage collection that follows each case, which is much faster."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
