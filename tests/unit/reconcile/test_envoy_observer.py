"""The observed state of Envoys: readiness, listeners, and the ingress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.plan.samples import INGRESS, INGRESS_ID, MESH, NOTHING, behind_kong, desired

from mcpmesh.envoy.envoy_admin import EnvoyReport
from mcpmesh.errors import PeerError, Unreachable
from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.model.observed_state import Sidecar
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.reconcile.envoy_observer import EnvoyObserver

REPORT = EnvoyReport(ready=True, active=3, rejected=1, clusters=("c",), endpoints={"time": 2})
# Nothing listens at this port: it is reserved for tcpmux.
CLOSED = 1


class FakeAdmin:
    """Admin addresses that all give the same answers."""

    def __init__(self) -> None:
        self.answer: EnvoyReport | PeerError = REPORT
        self.ports: frozenset[int] | PeerError = frozenset({7000})
        self.asked: list[str] = []

    async def report(self, address: str) -> EnvoyReport:
        self.asked.append(address)
        if isinstance(self.answer, PeerError):
            raise self.answer
        return self.answer

    async def listening(self, address: str) -> frozenset[int]:
        self.asked.append(address)
        if isinstance(self.ports, PeerError):
            raise self.ports
        return self.ports


@pytest.fixture
def admin() -> Any:
    return FakeAdmin()


@pytest.fixture
async def open_port() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


def process(port: int, role: str = "sidecar") -> Process:
    return Process(7, Mark(MESH, "/home", role, "one", "files", ports={"public": port, "admin": 19000}))


def observed(port: int, **changes: Any) -> Sidecar:
    found = Sidecar("one", "files", 7, port, "127.0.0.1:19000", True, 3, 1, ("c",), {"time": 2})
    return replace(found, **changes)


async def test_a_sidecar_is_ready_once_it_says_so_and_accepts_connections(admin: Any, open_port: int) -> None:
    observer = EnvoyObserver(admin)
    assert await observer.observe(process(open_port)) == observed(open_port)
    assert await observer.observe(process(CLOSED)) == observed(CLOSED, ready=False)
    admin.answer = replace(REPORT, ready=False)
    assert await observer.observe(process(open_port)) == observed(open_port, ready=False)
    assert admin.asked == ["127.0.0.1:19000"] * 3


async def test_a_gateway_is_ready_although_it_does_not_listen_yet(admin: Any) -> None:
    observer = EnvoyObserver(admin)
    assert (await observer.observe(process(CLOSED, "gateway"))).ready
    admin.answer = replace(REPORT, ready=False)
    assert not (await observer.observe(process(CLOSED, "gateway"))).ready


async def test_an_envoy_that_does_not_answer_is_not_ready(admin: Any, open_port: int) -> None:
    admin.answer = Unreachable("gone")
    expected = Sidecar("one", "files", 7, open_port, "127.0.0.1:19000", ready=False)
    assert await EnvoyObserver(admin).observe(process(open_port)) == expected


def gateway(port: int, **changes: Any) -> dict[str, Sidecar]:
    return {INGRESS_ID: Sidecar(INGRESS_ID, INGRESS, 8, port, "a", **{"ready": True, **changes})}


async def test_with_a_route_an_api_gateway_is_ready_once_it_accepts_connections(admin: Any, open_port: int) -> None:
    observer = EnvoyObserver(admin)
    assert await observer.of_ingress(desired(), gateway(open_port), routed=True) == gateway(open_port)
    assert await observer.of_ingress(desired(), gateway(CLOSED), routed=True) == gateway(CLOSED, ready=False)
    assert await observer.of_ingress(desired(), gateway(CLOSED), routed=False) == {}
    assert admin.asked == []


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
async def test_an_api_gateway_at_every_address_is_asked_at_loopback(admin: Any, open_port: int, address: str) -> None:
    target = desired()
    assert target.ingress is not None
    target.ingress.registration["Address"] = address
    assert await EnvoyObserver(admin).of_ingress(target, gateway(open_port), routed=True) == gateway(open_port)


async def test_an_api_gateway_is_asked_at_its_own_address(admin: Any, open_port: int) -> None:
    target = desired()
    assert target.ingress is not None
    target.ingress.registration["Address"] = "127.0.0.9"
    found = await EnvoyObserver(admin).of_ingress(target, gateway(open_port), routed=True)
    assert found == gateway(open_port, ready=False)


async def test_the_sidecar_of_kong_has_the_ports_of_its_listeners(admin: Any) -> None:
    observer = EnvoyObserver(admin)
    for routed in (True, False):
        found = await observer.of_ingress(behind_kong(), gateway(CLOSED), routed=routed)
        assert found == gateway(CLOSED, listener_ports=frozenset({7000}))
    admin.ports = Unreachable("gone")
    assert await observer.of_ingress(behind_kong(), gateway(CLOSED), routed=False) == {}


@pytest.mark.parametrize(
    ("target", "sidecars"),
    [(NOTHING, gateway(CLOSED)), (desired(), {}), (behind_kong(), {}), (behind_kong(), gateway(CLOSED, ready=False))],
)
async def test_an_ingress_that_is_not_wanted_or_not_ready_is_not_asked(
    admin: Any, target: DesiredState, sidecars: dict[str, Sidecar]
) -> None:
    assert await EnvoyObserver(admin).of_ingress(target, sidecars, routed=True) == {}
    assert admin.asked == []
