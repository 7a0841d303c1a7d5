"""Starts an instance's containers: a shim, the program of an image next to it, and an Envoy in its namespace."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from mcpmesh.errors import WorkloadError
from mcpmesh.kit.marked_process import Mark
from mcpmesh.model.instance import Instance
from mcpmesh.model.service import Plain, Remote, ServiceSpec, Stdio
from mcpmesh.settings import Settings
from mcpmesh.workload.containers import container_naming, host_config
from mcpmesh.workload.containers.agent_environment import AgentEnvironment, EnvironmentReader, address_on
from mcpmesh.workload.containers.container_ids import PAIR, ContainerIds
from mcpmesh.workload.containers.container_spec import ContainerSpec, create_container, program_of, server_container
from mcpmesh.workload.containers.docker_engine import DockerEngine, Json
from mcpmesh.workload.containers.images import Images
from mcpmesh.workload.containers.ingress_container import IngressContainer
from mcpmesh.workload.containers.mounts import InstanceMounts, create_envoy_mounts, create_instance_mounts
from mcpmesh.workload.runtime import SHIM, EnvoyLaunch
from mcpmesh.workload.shim_config import shim_config, upstream_environment

_SHIM_COMMAND = [container_naming.PYTHON, "-m", "mcpmesh.shim", "--config", "-"]


class ContainerStarter:
    """Starts containers; what could not be started completely is removed again."""

    def __init__(
        self,
        engine: DockerEngine,
        ids: ContainerIds,
        environment: EnvironmentReader,
        ingress: IngressContainer,
        settings: Settings,
    ) -> None:
        self._engine = engine
        self._ids = ids
        self._environment = environment
        self._ingress = ingress
        self._images = Images(engine)
        self._settings = settings.containers
        self._ingress_settings = settings.ingress
        self._base_port = settings.ports.services

    async def start_instance(self, spec: ServiceSpec, instance: Instance, home: Path) -> None:
        """Starts an instance. Each has a namespace of its own, so all use the same ports."""
        if isinstance(spec.start, Plain):
            raise WorkloadError(
                f'cannot run "{spec.name}" in a container: only MCP servers (command, image, url) are; '
                "run it beside the mesh, or run the mesh without containers"
            )
        environment = await self._environment.read()
        image, program = None, []
        if isinstance(spec.start, Stdio) and (image := spec.start.image):
            program = program_of(await self._images.require(image), spec.start.args)
        ports, drain = self._ports(spec), spec.timeouts.drain
        mark = Mark(instance.mesh, str(home), SHIM, instance.id, spec.name, instance.digest, ports, drain)
        mounts = await asyncio.to_thread(create_instance_mounts, spec, mark, self._settings, environment.host_paths)
        # Until both run, discovery must not remove one for lack of the other.
        with self._ids.starting(PAIR, instance.id):
            shim = await self._run(self._shim(spec, instance, mark, mounts, environment), environment)
            if image:
                limits = host_config.for_server(self._settings, shim, [*mounts.programs, *mounts.stdio, *mounts.data])
                try:
                    server = server_container(image, mark, program, limits, await self._run_id(shim))
                    await self._run(server, environment)
                except BaseException:
                    await asyncio.shield(self._engine.remove(shim))
                    raise

    async def start_envoy(self, envoy: EnvoyLaunch) -> None:
        """Starts an Envoy; its admin address is a socket that only the agent can open."""
        environment = await self._environment.read()
        mark = replace(envoy.mark, ports={**envoy.mark.ports, "admin": 80})
        holder = await self._namespace_holder(mark)
        bootstrap = await envoy.bootstrap(Path(container_naming.SOCKETS_INSIDE, "admin.sock"))
        binds = await asyncio.to_thread(create_envoy_mounts, mark, bootstrap, self._settings, environment.host_paths)
        spec = ContainerSpec(
            mark=mark,
            image=environment.image,
            command=envoy.arguments(Path(container_naming.SOCKETS_INSIDE, container_naming.BOOTSTRAP)),
            limits=host_config.for_envoy(self._settings, holder["Id"], binds),
            user=f"{container_naming.NOBODY}:{container_naming.NOBODY}",
            joined=container_naming.run_id(holder),
        )
        await self._run(spec, environment)

    def _ports(self, spec: ServiceSpec) -> dict[str, int]:
        base = self._base_port
        ports = {"http": base, "sidecar": base + 1, "check": base + 2}
        for number, upstream in enumerate(spec.upstreams):
            ports[f"upstream:{upstream.service}"] = upstream.port or base + 3 + number
        return ports

    def _shim(
        self, spec: ServiceSpec, instance: Instance, mark: Mark, mounts: InstanceMounts, environment: AgentEnvironment
    ) -> ContainerSpec:
        start = spec.start
        image = start.image if isinstance(start, Stdio) else None
        if isinstance(start, Stdio) and image:
            # The shim starts mcpmesh-stdio, which connects to the image's program and hands it these variables.
            variables = (*start.env, *upstream_environment(spec, mark.ports))
            connect = ("connect", f"{container_naming.STDIO_INSIDE}/stdio.sock", *variables)
            spec = replace(spec, start=replace(start, command=container_naming.STDIO_PROGRAM, args=connect))

        def configuration(inspected: Json) -> bytes:
            host, names = address_on(inspected, self._settings.network), self._ingress_settings.names
            affinity = f"{host}:{mark.ports['sidecar']}"
            config = shim_config(spec, instance, mark.ports, affinity, {host, *names})
            cwd = "/" if image else mounts.cwd
            return json.dumps({**config, "cwd": cwd, "socket": f"{container_naming.SOCKETS_INSIDE}/shim.sock"}).encode()

        binds = [*mounts.shim, *(mounts.stdio if image else mounts.data)]
        return ContainerSpec(
            mark=mark,
            image=environment.image,
            command=_SHIM_COMMAND,
            limits=host_config.for_shim(self._settings, self._settings.network, binds),
            user=mounts.user,
            networks=[self._settings.egress] if spec.egress or isinstance(start, Remote) else (),
            served_image=image or "",
            stdin=configuration,
        )

    async def _run_id(self, id_: str) -> str:
        inspected = await self._engine.inspect(id_)
        if inspected is None:
            raise WorkloadError("cannot start it: its shim was gone at once; its log says why")
        return container_naming.run_id(inspected)

    async def _namespace_holder(self, mark: Mark) -> Json:
        """The container whose network namespace an Envoy shares."""
        if mark.service == self._ingress_settings.service:
            return await self._ingress.inspect()
        id_ = self._ids.get(SHIM, mark.instance)
        inspected = await self._engine.inspect(id_) if id_ else None
        if inspected is None or not inspected["State"]["Running"]:
            raise WorkloadError(f"cannot start the sidecar of {mark.instance}: no container runs for it")
        return inspected

    async def _run(self, spec: ContainerSpec, environment: AgentEnvironment) -> str:
        """Creates and starts a container; returns its id. One that could not be started is removed again."""
        with self._ids.starting(spec.mark.role, spec.mark.instance):
            id_ = await self._engine.do(lambda api: create_container(api, spec, environment))
            try:
                if spec.stdin is None:
                    await self._engine.do(lambda api: api.start(id_))
                else:
                    await self._engine.start_with_input(id_, spec.stdin)
            except BaseException:
                await asyncio.shield(self._engine.remove(id_))
                raise
            self._ids.add(spec.mark, id_)
            return id_
