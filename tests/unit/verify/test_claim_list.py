"""Which claims are made where: those in containers are those of the embedded mode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mcpmesh.consul.client import Consul
from mcpmesh.envoy.envoy_admin import EnvoyAdmin
from mcpmesh.ingress.kong.kong_admin import KongAdmin
from mcpmesh.ingress.kong.user_documents import UserDocuments
from mcpmesh.kit.ports import PortAllocator
from mcpmesh.model.service import Catalog, ServiceSpec, Stdio, Upstream
from mcpmesh.reconcile.desired_from_catalog import KongOptions, build_desired_state
from mcpmesh.settings import Settings
from mcpmesh.verify.claim_list import claims_to_try
from mcpmesh.verify.target import KongAtIngress, Target
from mcpmesh.workload.containers.container_runtime import ContainerRuntime
from mcpmesh.workload.process_runtime import ProcessRuntime

HOME = Path("/home/m")
CATALOG = Catalog(
    {
        "files": ServiceSpec("files", Stdio("server"), route="/mcp/files", upstreams=(Upstream("memory"),)),
        "memory": ServiceSpec("memory", Stdio("server"), allow=("files",)),
    }
)
# Claims that are made in containers and not in the embedded mode, with the reason.
CONTAINERS_ALONE = {
    "nothing but the ingress is published beyond this machine": "only Docker publishes ports",
}


def embedded(kind: str) -> Target:
    kong = KongOptions(sidecar_port=6000, ports={"files": 7000}, plugins=[], user_documents=UserDocuments())
    return Target(
        settings=Settings(),
        mesh="m",
        home=HOME,
        consul=Consul("http://127.0.0.1:8500"),
        envoy_admin=EnvoyAdmin(),
        desired=build_desired_state(
            CATALOG, "m", b"key", "ingress", "127.0.0.1", 8000, kong if kind == "kong" else None
        ),
        ingress_url="http://127.0.0.1:8000",
        runtime=ProcessRuntime("m", HOME, PortAllocator(11100)),
        kong=KongAtIngress(KongAdmin(), None) if kind == "kong" else None,
    )


def in_containers(kind: str) -> Target:
    target = embedded(kind)
    kong = KongAtIngress(KongAdmin(), "http://kong-edge:8001") if kind == "kong" else None
    return replace(target, runtime=ContainerRuntime(Settings(runtime="containers"), "m", HOME), kong=kong)


def claims(target: Target, *services: str) -> set[tuple[str | None, str]]:
    return {(claim.service, claim.title) for claim in claims_to_try(target, services)}


@pytest.mark.parametrize("kind", ["kong", "api-gateway"])
def test_in_containers_the_same_claims_are_made_and_one_about_docker(kind: str) -> None:
    on_host, contained = claims(embedded(kind)), claims(in_containers(kind))
    assert on_host - contained == set()
    assert {title for _, title in contained - on_host} == CONTAINERS_ALONE.keys()


@pytest.mark.parametrize("kind", ["kong", "api-gateway"])
def test_in_containers_the_same_claims_are_made_about_one_service(kind: str) -> None:
    assert claims(embedded(kind), "files") == claims(in_containers(kind), "files")
