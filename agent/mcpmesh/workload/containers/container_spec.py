"""What Docker is asked to create, and the asking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from docker import APIClient

from mcpmesh.errors import WorkloadError
from mcpmesh.kit.marked_process import Mark
from mcpmesh.workload.containers import layout
from mcpmesh.workload.containers.agent_environment import AgentEnvironment
from mcpmesh.workload.containers.docker_engine import Json
from mcpmesh.workload.runtime import SERVER


@dataclass(frozen=True)
class ContainerSpec:
    """One container. `said` makes what it is told on its stdin, from how Docker describes it once it runs.

    `limits` are those of `layout`; `joined` is the life of the container whose
    network namespace it shares, `served` the image whose program it serves.
    """

    mark: Mark
    image: str
    command: Sequence[str]
    limits: Mapping[str, Any]
    user: str | None = None
    networks: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: {"HOME": "/tmp"})  # noqa: S108 - a tmpfs of its own
    joined: str = ""
    served: str = ""
    said: Callable[[Json], bytes] | None = None


def create(api: APIClient, order: ContainerSpec, around: AgentEnvironment) -> str:
    """Creates it; returns its id."""
    found: str = api.create_container(
        order.image,
        # Nothing of the image's own, which may be anything.
        entrypoint=list(order.command[:1]),
        command=list(order.command[1:]),
        name=layout.name(around.project or "mcpmesh", order.mark),
        user=order.user,
        stdin_open=order.said is not None,
        environment=dict(order.environment),
        labels=layout.labels(around.owner, order.mark, order.joined, order.served),
        healthcheck={"test": ["NONE"]},
        host_config=api.create_host_config(**order.limits),
    )["Id"]
    for network in order.networks:
        api.connect_container_to_network(found, network)
    return found


def of_server(image: str, mark: Mark, program: Sequence[str], limits: Mapping[str, Any], joined: str) -> ContainerSpec:
    """The program of an image, beside its shim; its secrets come with each connection, not with the container."""
    return ContainerSpec(
        mark=replace(mark, role=SERVER, ports={}),
        image=image,
        command=[f"{layout.PROGRAMS_HERE}/mcpmesh-stdio", "serve", f"{layout.STDIO_HERE}/stdio.sock", *program],
        limits=limits,
        environment={},
        joined=joined,
    )


def program_of(image: Json, arguments: Sequence[str]) -> list[str]:
    """What an image runs: its entrypoint, with the catalog's arguments in place of its own."""
    config = image["Config"]
    program = [*(config.get("Entrypoint") or ()), *(arguments or config.get("Cmd") or ())]
    if not program:
        raise WorkloadError("cannot start it: its image names no program; give `args` in the catalog")
    return program
