"""One Kong for all of these tests: a real one where it is given, else the stand-in (tests/support/kong/running.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from tests.support.kong.running import WAITING, RunningKong, running_kong

from mcpmesh.ingress.kong.kong_admin import KongAdmin


@pytest.fixture(scope="session")
def started_kong(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKong]:
    with running_kong(tmp_path_factory.mktemp("kong")) as kong:
        yield kong


@pytest.fixture
def kong(started_kong: RunningKong) -> RunningKong:
    """That Kong, with the document that it has at its start."""
    answer = httpx.post(
        f"{started_kong.admin}/config", json={"config": WAITING.read_text()}, trust_env=False, timeout=30
    )
    assert answer.status_code == httpx.codes.CREATED, answer.text
    return started_kong


@pytest.fixture
async def admin() -> AsyncIterator[KongAdmin]:
    # The product's own bound is for a mesh that asks again in a second.
    client = KongAdmin(seconds=90)
    yield client
    await client.close()
