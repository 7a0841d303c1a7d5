from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest
from tests.e2e.conftest import alone, image

__all__ = ["alone", "image"]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Docker's SDK leaves an upgraded connection to the garbage collector, which warns of it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
