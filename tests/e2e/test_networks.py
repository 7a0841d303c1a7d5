"""Which ports of a mesh are reachable from each of compose.yaml's networks: every port is tried from each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.e2e.composed import EDGE, EGRESS, INTERNAL, Composed, docker, inspect, until
from tests.e2e.conftest import CATALOG

# The ports of Consul, Kong, the agent, shims and Envoys, in use or by default.
PORTS = (80, 2375, 8000, 8001, 8002, 8100, 8300, 8301, 8443, 8444, 8500, 8502, 8600, 19000, *range(11090, 11111))

# Connects to each of the given addresses at once, and prints those that accepted.
PROBE = """
import asyncio, sys
async def knock(word):
    host, _, port = word.rpartition(":")
    try:
        await asyncio.wait_for(asyncio.open_connection(host, int(port)), 3)
    except (OSError, TimeoutError, asyncio.TimeoutError):
        return
    print(word, flush=True)
async def main():
    await asyncio.gather(*map(knock, sys.argv[1:]))
asyncio.run(main())
"""


def open_from(image: str, network: str, addresses: Sequence[str]) -> set[str]:
    """The addresses that accept a connection from a container on `network`, or in another one's namespace."""
    words = ["run", "--rm", "--network", network, "--entrypoint", "/opt/mcpmesh/bin/python", image, "-c", PROBE]
    return set(docker(*words, *addresses).split())


def gateway(network: str) -> str:
    """The address that this machine has on one of Docker's networks."""
    described: dict[str, Any] = json.loads(docker("network", "inspect", network))[0]
    found: str = described["IPAM"]["Config"][0]["Gateway"]
    return found


def all_addresses(mesh: Composed) -> list[str]:
    """Every port at every address of the mesh, and its published ports at this machine's addresses on the networks."""
    owns = [
        network["IPAddress"]
        for name in mesh.everybody()
        for network in inspect(name)["NetworkSettings"]["Networks"].values()
        if network["IPAddress"]
    ]
    ours = [gateway(network) for network in ("bridge", *map(mesh.network, (INTERNAL, EDGE, EGRESS)))]
    published = [f"{host}:{port}" for host in ours for port in (mesh.ingress_port, mesh.consul_port)]
    return [*(f"{host}:{port}" for host in owns for port in PORTS), *published]


@contextmanager
def listener_outside(mesh: Composed, image: str) -> Iterator[str]:
    """An address outside mesh-internal at which a program outside the mesh listens."""
    words = ["--network", mesh.network(EGRESS), "--entrypoint", "/opt/mcpmesh/bin/python", image]
    name = docker("run", "--detach", *words, "-m", "http.server", "8080")
    try:
        yield f"{mesh.address(name, EGRESS)}:8080"
    finally:
        docker("rm", "--force", name)


def test_only_the_ingress_is_published_and_consul_to_this_machine(mesh: Composed) -> None:
    published = {}
    for name in mesh.everybody():
        for bound in (inspect(name)["NetworkSettings"]["Ports"] or {}).values():
            for each in bound or ():
                published[name.split("-")[-2], each["HostIp"]] = int(each["HostPort"])
    assert published == {
        (mesh.ingress_container, "127.0.0.1"): mesh.ingress_port,
        ("consul", "127.0.0.1"): mesh.consul_port,
    }


def test_from_outside_no_shim_envoy_consul_kong_or_agent_is_reachable(mesh: Composed, image: str) -> None:
    addresses = all_addresses(mesh)
    assert open_from(image, "bridge", addresses) == set()
    assert open_from(image, mesh.network(EGRESS), addresses) == set()


def test_inside_only_the_sidecars_are_reachable(mesh: Composed, image: str) -> None:
    # Each sidecar's port with mTLS, Kong's too, and the page for Consul's check.
    kong = f"{mesh.address(mesh.kong, INTERNAL)}:11100"
    sidecars = {f"{mesh.address(name, INTERNAL)}:{port}" for name in mesh.containers("shim") for port in (11101, 11102)}
    wanted = {*sidecars, kong}
    # On a stalled machine an open port may not answer in time.
    until(lambda: open_from(image, mesh.network(INTERNAL), all_addresses(mesh)) == wanted, f"{wanted} alone")


def test_on_mesh_edge_only_kong_and_consul_are_reachable(mesh: Composed, image: str) -> None:
    kong, consul = mesh.address(mesh.kong, EDGE), mesh.address(f"{mesh.project}-consul-1", EDGE)
    wanted = {f"{kong}:8000", f"{kong}:8001", f"{consul}:8500"}
    until(lambda: open_from(image, mesh.network(EDGE), all_addresses(mesh)) == wanted, f"{wanted} alone")


def test_a_server_reaches_the_outside_only_with_egress(mesh: Composed, image: str) -> None:
    mesh.write({**CATALOG, "clock": {**CATALOG["time"], "egress": True}})
    until(lambda: mesh.ready("clock"), "the new service")
    [shut], [free] = mesh.containers("shim", "time"), mesh.containers("shim", "clock")
    with listener_outside(mesh, image) as address:
        until(lambda: open_from(image, f"container:{free}", [address]) == {address}, "a connection")
        assert open_from(image, f"container:{shut}", [address]) == set()
    assert set(inspect(shut)["NetworkSettings"]["Networks"]) == {mesh.network(INTERNAL)}
    assert set(inspect(free)["NetworkSettings"]["Networks"]) == {mesh.network(INTERNAL), mesh.network(EGRESS)}
    reachable = [f"{mesh.address(free, EGRESS)}:{port}" for port in PORTS]
    assert open_from(image, mesh.network(EGRESS), reachable) == set()
