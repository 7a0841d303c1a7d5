"""Which ports of the host may lead into containers."""

from __future__ import annotations

import pytest

from mcpmesh.verify.claims.published_ports import judge_published, may_be_published
from mcpmesh.verify.finding import fails, holds
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


KONG = PublishedPort("kong", "0.0.0.0", 18000, 8000, ours=False, ingress=True)
CONSUL = PublishedPort("consul", "0.0.0.0", 8500, 8500, ours=False, ingress=False)


def test_a_port_that_may_not_be_published_fails() -> None:
    assert judge_published([KONG, CONSUL], 8000) == [
        fails(
            "port 8500 of consul is published at 0.0.0.0:8500",
            "remove that port from the compose file, or publish it at 127.0.0.1, then: docker compose up -d",
        )
    ]


def test_published_ports_are_named() -> None:
    assert judge_published([KONG], 8000) == [holds("published: kong at 0.0.0.0:18000")]
    assert judge_published([], 8000) == [holds("published: nothing")]
