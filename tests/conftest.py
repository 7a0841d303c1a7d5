"""How the tests are dealt out where several processes run them (`-n`)."""

from __future__ import annotations

import pytest

MESHES = "tests/integration/mesh/"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a module stay together, since they share what it starts; so do all that share the one big mesh."""
    for item in items:
        module = item.nodeid.partition("::")[0]
        shares = module.startswith(MESHES) and "mesh" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("mesh" if shares else module))
