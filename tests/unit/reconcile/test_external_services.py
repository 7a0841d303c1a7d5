"""Plain services that run elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.unit.plan.samples import desired, spec
from tests.unit.reconcile.recording import CountingAllocator

from mcpmesh.model.observed_state import Registration, Workload
from mcpmesh.model.service import Plain, Protocol, ServiceSpec
from mcpmesh.reconcile.external_services import observe_external
from mcpmesh.reconcile.port_claims import PortClaims


@pytest.fixture
async def open_port() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


def external(address: str, name: str = "db") -> ServiceSpec:
    return spec(name, start=Plain(Protocol.TCP, address=address))


def claims() -> PortClaims:
    return PortClaims(CountingAllocator(), lambda: ())


async def test_an_external_service_is_ready_while_its_address_accepts_connections(open_port: int) -> None:
    target = desired(
        external(f"127.0.0.1:{open_port}"),
        external("[127.0.0.1]:1", "web"),
        spec("files"),
        spec("launched", start=Plain(Protocol.HTTP, command="web")),
    )
    (db,), (web,) = target.services["db"].instances, target.services["web"].instances
    assert await observe_external(target, {}, claims()) == {
        db.id: Workload(db.id, "db", None, open_port, 30001, "ready", address="127.0.0.1"),
        web.id: Workload(
            web.id,
            "web",
            None,
            1,
            30002,
            "unreachable",
            "nothing accepts connections at [127.0.0.1]:1; start it, or correct its address",
            address="127.0.0.1",
        ),
    }


async def test_its_sidecar_keeps_the_port_that_it_is_registered_with(open_port: int) -> None:
    target, known = desired(external(f"127.0.0.1:{open_port}")), claims()
    (db,) = target.services["db"].instances
    registration = Registration(db.id, "db", open_port, 4321, "d", draining=False, passing=True)
    assert (await observe_external(target, {db.id: registration}, known))[db.id].sidecar_port == 4321
    assert known.claimed() == set()


async def test_a_registration_without_a_sidecar_gives_no_port(open_port: int) -> None:
    target, known = desired(external(f"127.0.0.1:{open_port}")), claims()
    (db,) = target.services["db"].instances
    registration = Registration(db.id, "db", open_port, None, "d", draining=False, passing=True)
    for _ in range(2):
        assert (await observe_external(target, {db.id: registration}, known))[db.id].sidecar_port == 30001
