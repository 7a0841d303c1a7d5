from __future__ import annotations

import pytest

from mcpmesh.api.loopback import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_names_and_addresses_of_this_machine_are_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.0.2.1", "example.org", "localhost.example.org", "127.1"])
def test_anything_else_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)
