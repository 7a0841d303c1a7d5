"""What Docker is asked to create."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from docker import APIClient

from mcpmesh.errors import WorkloadError
from mcpmesh.kit.marked_process import Mark
from mcpmesh.workload.containers import container_naming
from mcpmesh.workload.containers.agent_environment import AgentEnvironment
from mcpmesh.workload.containers.docker_engine import Json
from mcpmesh.workload.runtime import SERVER


@dataclass(frozen=True)
class ContainerSpec:
    """One container.

    `limits` come from `host_config`. `joined` is the `run_id` of the container
    whose network namespace it shares, `served_image` the image whose program
    it serves. `stdin` makes its standard input from Docker's description of
    it, once it runs.
    """

    mark: Mark
    image: str
    command: Sequence[str]
    limits: Mapping[str, Any]
    user: str | None = None
    networks: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: {"HOME": "/tmp"})  # noqa: S108 - a tmpfs of its own
    joined: str = ""
    served_image: str = ""
    stdin: Callable[[Json], bytes] | None = None


def create_container(api: APIClient, spec: ContainerSpec, environment: AgentEnvironment) -> str:
    """Creates it; returns its id."""
    id_: str = api.create_container(
        spec.image,
        # Both are given, so that the image's own entrypoint and command never run.
        entrypoint=list(spec.command[:1]),
        command=list(spec.command[1:]),
        name=container_naming.name(environment.project or "mcpmesh", spec.mark),
        user=spec.user,
        stdin_open=spec.stdin is not None,
        environment=dict(spec.environment),
        labels=container_naming.labels(environment.owner, spec.mark, spec.joined, spec.served_image),
        healthcheck={"test": ["NONE"]},
        host_config=api.create_host_config(**spec.limits),
    )["Id"]
    for network in spec.networks:
        api.connect_container_to_network(id_, network)
    return id_


def server_container(
    image: str, mark: Mark, program: Sequence[str], limits: Mapping[str, Any], joined: str
) -> ContainerSpec:
    """The program of an image, next to its shim; its secrets come with each connection, not with the container."""
    stdio = f"{container_naming.PROGRAMS_INSIDE}/mcpmesh-stdio"
    return ContainerSpec(
        mark=replace(mark, role=SERVER, ports={}),
        image=image,
        command=[stdio, "serve", f"{container_naming.STDIO_INSIDE}/stdio.sock", *program],
        limits=limits,
        environment={},
        joined=joined,
    )


def program_of(image: Json, arguments: Sequence[str]) -> list[str]:
    """What an image runs: its entrypoint, with the catalog's arguments in place of its own if there are any."""
    config = image["Config"]
    program = [*(config.get("Entrypoint") or ()), *(arguments or config.get("Cmd") or ())]
    if not program:
        raise WorkloadError("cannot start it: its image names no program; give `args` in the catalog")
    return program
