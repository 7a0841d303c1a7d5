"""Which ports of the host may lead into containers."""

from __future__ import annotations

import pytest

from mcpmesh.verify.claims.published_ports import may_be_published
from mcpmesh.workload.runtime import PublishedPort


@pytest.mark.parametrize(
    ("host", "inner", "ours", "ingress", "may"),
    [
        ("0.0.0.0", 8000, False, True, True),
        ("0.0.0.0", 8001, False, True, False),  # Kong's Admin API
        ("127.0.0.1", 8001, False, True, True),
        ("0.0.0.0", 8000, False, False, False),
        ("::1", 8500, False, False, True),
        ("127.0.0.1", 8000, True, False, False),
    ],
)
def test_beyond_this_machine_only_the_ingresss_own_port_is_published(
    host: str, inner: int, ours: bool, ingress: bool, may: bool
) -> None:
    assert (
        may_be_published(PublishedPort("c", host, 18000, inner, ours=ours, ingress=ingress), ingress_port=8000) is may
    )
