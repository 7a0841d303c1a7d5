"""Reads and writes against a real Consul."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.consul import Patient, RealConsul, entry_write, interposed
from tests.support.ports import CONSUL_PORTS

from mcpmesh.consul.client import Consul
from mcpmesh.consul.leaf_certificate import Identity, anonymous_context, spiffe_of
from mcpmesh.consul.ownership import stamped
from mcpmesh.consul.registration import registration
from mcpmesh.errors import NotOurs
from mcpmesh.ingress.api_gateway import gateway_registration
from mcpmesh.model.observed_state import Entry, Registration, ServerInfo, ToolDigest
from mcpmesh.model.service import Health, ServiceSpec, Stdio

INFO = ServerInfo("files", "1.2.3", ("2025-11-25",), (ToolDigest("read", "d"),))


def payloads(name: str, mesh: str, port: int, sidecar_port: int, **changes: Any) -> tuple[dict[str, Any], ...]:
    spec = replace(ServiceSpec(name, Stdio("server"), tags=("docs",)), **changes)
    return registration(
        spec,
        mesh=mesh,
        instance_id=f"{name}-1",
        port=port,
        sidecar_port=sidecar_port,
        upstream_ports={},
        info=INFO,
    )


@asynccontextmanager
async def answering(*ports: int) -> AsyncIterator[None]:
    """Accepts connections at `ports` and answers every request with 200."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    servers = [await asyncio.start_server(answer, "127.0.0.1", port) for port in ports]
    try:
        yield
    finally:
        for server in servers:
            server.close()
            await server.wait_closed()


async def until(consul: Consul, mesh: str, id_: str, passing: bool) -> Registration:
    return await registered(consul, mesh, id_, lambda found: found.passing == passing)


async def registered(consul: Consul, mesh: str, id_: str, such: Callable[[Registration], bool]) -> Registration:
    """The registration, once `such` holds for it."""
    async with asyncio.timeout(90):
        while not such(found := (await consul.registrations(mesh))[id_]):
            await asyncio.sleep(0.05)
    return found


def failing(found: Registration) -> list[str]:
    """The names of the failing checks."""
    return [failure.partition(":")[0] for failure in found.failing]


async def test_leader_version_and_xds_address_are_read(consul: Consul, real_consul: RealConsul) -> None:
    assert (await consul.leader()).startswith("127.0.0.1:")
    assert await consul.version() == real_consul.cli("version").split()[1].removeprefix("v")
    assert await consul.grpc_address() == real_consul.grpc_address
    assert (await consul.trust_domain()).endswith(".consul")


async def test_the_variables_of_the_consul_command_are_ignored(
    real_consul: RealConsul, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "not:an:address:at:all")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "somebody-elses")
    monkeypatch.setenv("CONSUL_HTTP_SSL", "true")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    consul = Consul(real_consul.address, transport=Patient())
    assert await consul.leader()
    await consul.close()


async def test_an_instance_is_registered_with_its_sidecar_and_read_back_as_one(
    consul: Consul, name: str, mesh: str
) -> None:
    port, sidecar_port = CONSUL_PORTS.take(), CONSUL_PORTS.take()
    both = payloads(name, mesh, port, sidecar_port)
    async with answering(port, sidecar_port):
        await consul.register(both)
        assert await until(consul, mesh, f"{name}-1", passing=True) == Registration(
            id=f"{name}-1",
            service=name,
            port=port,
            sidecar_port=sidecar_port,
            digest=both[0]["Meta"]["mcpmesh-digest"],
            draining=False,
            passing=True,
        )


async def test_an_instance_passes_at_once_and_its_sidecar_once_it_listens(consul: Consul, name: str, mesh: str) -> None:
    port, sidecar_port = CONSUL_PORTS.take(), CONSUL_PORTS.take()
    async with answering(port):
        # Not checked within this test: it is passing from the start.
        await consul.register(payloads(name, mesh, port, sidecar_port, health=Health(interval=3600)))
        # The sidecar's alias of that comes a moment later.
        await registered(consul, mesh, f"{name}-1", lambda found: failing(found) == ["listener"])
        async with answering(sidecar_port):
            await until(consul, mesh, f"{name}-1", passing=True)


async def test_failing_checks_are_listed_with_their_output(consul: Consul, name: str, mesh: str) -> None:
    port, sidecar_port = CONSUL_PORTS.take(), CONSUL_PORTS.take()
    async with answering(sidecar_port):
        async with answering(port):
            await consul.register(payloads(name, mesh, port, sidecar_port))
            await until(consul, mesh, f"{name}-1", passing=True)
        # A check that ran while the listener closed may have another output.
        await registered(consul, mesh, f"{name}-1", refused)


def refused(found: Registration) -> bool:
    return any(failure.startswith("ready: ") and "connection refused" in failure for failure in found.failing)


async def test_registering_again_keeps_the_status_of_checks(consul: Consul, name: str, mesh: str) -> None:
    port, sidecar_port = CONSUL_PORTS.take(), CONSUL_PORTS.take()
    async with answering(port, sidecar_port):
        seldom = Health(interval=3600)
        await consul.register(payloads(name, mesh, port, sidecar_port, health=seldom))
        before = await until(consul, mesh, f"{name}-1", passing=True)
        changed = payloads(name, mesh, port, sidecar_port, tags=("docs", "new"), health=seldom)
        await consul.register(changed)
        after = (await consul.registrations(mesh))[f"{name}-1"]
    assert after == replace(before, digest=changed[0]["Meta"]["mcpmesh-digest"])
    assert after.digest != before.digest


async def test_a_drained_instance_gets_no_new_calls(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    port, sidecar_port = CONSUL_PORTS.take(), CONSUL_PORTS.take()
    async with answering(port, sidecar_port):
        await consul.register(payloads(name, mesh, port, sidecar_port))
        await until(consul, mesh, f"{name}-1", passing=True)
        await consul.drain(f"{name}-1", "a new one answers")
        drained = (await consul.registrations(mesh))[f"{name}-1"]
        assert (drained.draining, drained.passing) == (True, False)
        async with asyncio.timeout(90):
            while real_consul.get(f"/v1/health/connect/{name}?passing=true"):
                await asyncio.sleep(0.05)


async def test_deregistering_removes_both_and_may_be_repeated(consul: Consul, name: str, mesh: str) -> None:
    await consul.register(payloads(name, mesh, 1, 2))
    await consul.deregister(f"{name}-1")
    await consul.deregister(f"{name}-1")
    await consul.drain(f"{name}-1", "gone")
    assert await consul.registrations(mesh) == {}


async def test_a_sidecar_without_its_instance_is_listed_and_can_be_removed(
    consul: Consul, name: str, mesh: str
) -> None:
    _, sidecar = payloads(name, mesh, 1, 2)
    await consul.register([sidecar])
    ((id_, left),) = (await consul.registrations(mesh)).items()
    assert (id_, left.service, left.port, left.sidecar_port) == (f"{name}-1-sidecar", name, 2, None)
    await consul.deregister(id_)
    assert await consul.registrations(mesh) == {}


async def test_a_registration_with_two_digests_has_none(consul: Consul, name: str, mesh: str) -> None:
    await consul.register(payloads(name, mesh, 1, 2))
    await consul.register(payloads(name, mesh, 3, 4)[:1])
    assert (await consul.registrations(mesh))[f"{name}-1"].digest == ""


async def test_the_ingress_is_registered_as_a_gateway(consul: Consul, name: str, mesh: str) -> None:
    port = CONSUL_PORTS.take()
    payload = gateway_registration(mesh, f"{mesh}-ingress", name, "127.0.0.1", port)
    async with answering(port):
        await consul.register([payload])
        found = await until(consul, mesh, f"{mesh}-ingress", passing=True)
    digest = payload["Meta"]["mcpmesh-digest"]
    assert found == Registration(f"{mesh}-ingress", name, port, None, digest, draining=False, passing=True)


async def test_registrations_of_others_are_not_read_as_ours(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    await consul.register(payloads(name, "another", 1, 2))
    real_consul.put("/v1/agent/service/register", {"Name": f"{name}-theirs", "Port": 3})
    assert await consul.registrations(mesh) == {}
    await consul.deregister(f"{name}-1")


async def test_an_id_registered_by_others_is_left_alone(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    real_consul.put("/v1/agent/service/register", {"ID": f"{name}-1", "Name": name, "Port": 3})
    with pytest.raises(NotOurs, match=f'cannot register "{name}-1"'):
        await consul.register(payloads(name, mesh, 1, 2))
    assert real_consul.get(f"/v1/agent/service/{name}-1")["Port"] == 3


def defaults(name: str, mesh: str, protocol: str = "http") -> dict[str, Any]:
    return stamped({"Kind": "service-defaults", "Name": name, "Protocol": protocol}, mesh=mesh)[0]


async def test_an_entry_is_written_read_replaced_and_deleted(consul: Consul, name: str, mesh: str) -> None:
    key = ("service-defaults", name)
    for protocol in ("http", "tcp"):
        entry = defaults(name, mesh, protocol)
        await consul.write_entry(entry)
        assert (await consul.entries(mesh))[key] == Entry(*key, mesh, entry["Meta"]["mcpmesh-digest"])
    await consul.delete_entry(*key, mesh)
    await consul.delete_entry(*key, mesh)
    assert key not in await consul.entries(mesh)


async def test_an_entry_of_others_is_read_and_left_alone(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    key = ("service-defaults", name)
    real_consul.put("/v1/config", {"Kind": "service-defaults", "Name": name, "Protocol": "grpc"})
    assert (await consul.entries(mesh))[key] == Entry(*key, None, None)
    with pytest.raises(NotOurs, match="cannot write service-defaults"):
        await consul.write_entry(defaults(name, mesh))
    with pytest.raises(NotOurs, match="cannot delete service-defaults"):
        await consul.delete_entry(*key, mesh)
    assert real_consul.get(f"/v1/config/service-defaults/{name}")["Protocol"] == "grpc"


async def test_an_entry_created_by_others_at_that_moment_is_left_alone(
    real_consul: RealConsul, name: str, mesh: str
) -> None:
    def write() -> None:
        real_consul.put("/v1/config", {"Kind": "service-defaults", "Name": name, "Protocol": "grpc"})

    with pytest.raises(NotOurs, match="cannot write service-defaults"):
        await interposed(real_consul, entry_write, write, lambda consul: consul.write_entry(defaults(name, mesh)))
    assert real_consul.get(f"/v1/config/service-defaults/{name}")["Protocol"] == "grpc"


async def test_an_entry_taken_over_by_others_at_that_moment_is_left_alone(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    await consul.write_entry(defaults(name, mesh))

    def write() -> None:
        real_consul.put("/v1/config", {"Kind": "service-defaults", "Name": name, "Protocol": "grpc"})

    key = ("service-defaults", name)
    with pytest.raises(NotOurs, match="cannot delete service-defaults"):
        await interposed(real_consul, entry_write, write, lambda consul: consul.delete_entry(*key, mesh))
    assert real_consul.get(f"/v1/config/service-defaults/{name}")["Protocol"] == "grpc"


async def test_the_identity_in_a_certificate_is_what_peers_see(consul: Consul, name: str, tmp_path: Path) -> None:
    server, client = await consul.identity(name), await consul.identity(f"{name}-client")
    domain = await consul.trust_domain()
    assert (server.spiffe, server.trust_domain) == (f"spiffe://{domain}/ns/default/dc/dc1/svc/{name}", domain)
    assert "PRIVATE" not in repr(server)
    registered: list[str] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        registered.append(spiffe_of(writer.get_extra_info("ssl_object")))
        writer.close()
        await writer.wait_closed()

    listener = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=listening(server, tmp_path))
    port = listener.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client.ssl_context())
    assert spiffe_of(writer.get_extra_info("ssl_object")) == server.spiffe
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert registered == [client.spiffe]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=anonymous_context(server.roots))
    with suppress(ssl.SSLError, ConnectionError):
        assert await reader.read() == b""
    writer.close()
    listener.close()
    await listener.wait_closed()
    assert registered == [client.spiffe]  # the one without a certificate was refused


def listening(identity: Identity, folder: Path) -> ssl.SSLContext:
    """What a sidecar does with its identity."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (folder / "leaf.pem").write_text(identity.certificate + identity.key)
    context.load_cert_chain(folder / "leaf.pem")
    context.load_verify_locations(cadata=identity.roots)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
