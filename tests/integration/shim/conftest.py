"""Real shims over real processes. A shim that a test forgot is stopped; any process left behind fails the test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from running_shim import Gate, Legacy, Modern, Shim, running


@pytest.fixture(scope="module")
def plain() -> Iterator[Shim]:
    """A shim over the fake server without options, for all tests of a module that leave it unchanged."""
    with running() as shim:
        yield shim.wait_ready()


@pytest.fixture
def start() -> Iterator[Callable[..., Shim]]:
    """Start a shim over the fake server with these options; stopped after the test."""
    with ExitStack() as stack:

        def begin(*words: str, ready: bool = True, **config: Any) -> Shim:
            shim = stack.enter_context(running(*words, **config))
            return shim.wait_ready() if ready else shim

        yield begin


@pytest.fixture
def gate(tmp_path: Path) -> Callable[[], Gate]:
    """Makes a new gate at each call."""
    numbers = count()
    return lambda: Gate(tmp_path / f"gate-{next(numbers)}")


@pytest.fixture
def legacy() -> Iterator[Callable[..., Legacy]]:
    """Open a raw legacy session; its connections are closed after the test."""
    with ExitStack() as stack:

        def begin(shim: Shim, *words: Any, **options: Any) -> Legacy:
            client = Legacy(shim, *words, **options)
            stack.callback(client.close)
            return client

        yield begin


@pytest.fixture
def modern() -> Iterator[Callable[..., Modern]]:
    """A raw modern client."""
    with ExitStack() as stack:

        def begin(shim: Shim, *words: Any, **options: Any) -> Modern:
            client = Modern(shim, *words, **options)
            stack.callback(client.close)
            return client

        yield begin
