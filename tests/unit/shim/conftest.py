"""The fixture that builds shims in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from tests.unit.shim.in_process import Shim, in_process


@pytest.fixture
def make() -> Iterator[Callable[..., Shim]]:
    """Builds shims as in_process does, and closes them after the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(in_process(**options))
