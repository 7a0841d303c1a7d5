"""Starts an instance's containers: a shim, the program of an image beside it, and an Envoy in its namespace."""

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
from mcpmesh.workload import shim_status
from mcpmesh.workload.containers import layout, mounts
from mcpmesh.workload.containers.agent_environment import AgentEnvironment, EnvironmentReader, ip_on
from mcpmesh.workload.containers.container_ids import PAIR, ContainerIds
from mcpmesh.workload.containers.container_spec import ContainerSpec, create, of_server, program_of
from mcpmesh.workload.containers.docker_engine import DockerEngine, Json
from mcpmesh.workload.containers.images import Images
from mcpmesh.workload.containers.ingress_container import IngressContainer
from mcpmesh.workload.containers.mounts import InstanceMounts
from mcpmesh.workload.runtime import SHIM, EnvoyLaunch

_SHIM = [layout.PYTHON, "-m", "mcpmesh.shim", "--config", "-"]


class ContainerStarter:
    """Starts; what could not be started whole is removed again."""

    def __init__(
        self,
        engine: DockerEngine,
        known: ContainerIds,
        around: EnvironmentReader,
        edge: IngressContainer,
        settings: Settings,
    ) -> None:
        self._engine = engine
        self._known = known
        self._around = around
        self._edge = edge
        self._images = Images(engine)
        self._settings = settings.containers
        self._ingress = settings.ingress
        self._port = settings.ports.services

    async def instance(self, spec: ServiceSpec, instance: Instance, home: Path) -> None:
        """Starts an instance; in a namespace of its own it has the same ports as every other."""
        if isinstance(spec.start, Plain):
            raise WorkloadError(
                f'cannot run "{spec.name}" in a container: only MCP servers (command, image, url) are; '
                "run it beside the mesh, or run the mesh without containers"
            )
        surroundings = await self._around()
        served, program = None, []
        if isinstance(spec.start, Stdio) and (served := spec.start.image):
            program = program_of(await self._images.have(served), spec.start.args)
        ports = {"http": self._port, "sidecar": self._port + 1, "check": self._port + 2}
        for number, upstream in enumerate(spec.upstreams):
            ports[f"upstream:{upstream.service}"] = upstream.port or self._port + 3 + number
        drain = spec.timeouts.drain
        mark = Mark(instance.mesh, str(home), SHIM, instance.id, spec.name, instance.digest, ports, drain)
        given = await asyncio.to_thread(mounts.of_instance, spec, mark, self._settings, surroundings.place)
        # Both are there, or neither: until then nobody takes the one for bereft of the other.
        with self._known.starting(PAIR, instance.id):
            shim = await self._run(self._shim(spec, instance, mark, given, surroundings), surroundings)
            if served:
                binds = [*given.programs, *given.stdio, *given.data]
                limits = layout.of_server(self._settings, shim, binds)
                try:
                    await self._run(of_server(served, mark, program, limits, await self._life(shim)), surroundings)
                except BaseException:
                    await asyncio.shield(self._engine.remove(shim))
                    raise

    async def envoy(self, envoy: EnvoyLaunch) -> None:
        """Starts an Envoy; its admin address is a socket that the agent alone can open."""
        surroundings = await self._around()
        mark = replace(envoy.mark, ports={**envoy.mark.ports, "admin": 80})
        holder = await self._holder(mark)
        text = await envoy.bootstrap(Path(layout.HERE, "admin.sock"))
        binds = await asyncio.to_thread(mounts.of_envoy, mark, text, self._settings, surroundings.place)
        order = ContainerSpec(
            mark=mark,
            image=surroundings.image,
            command=envoy.arguments(Path(layout.HERE, layout.BOOTSTRAP)),
            limits=layout.of_envoy(self._settings, holder["Id"], binds),
            user=f"{layout.NOBODY}:{layout.NOBODY}",
            joined=layout.life(holder),
        )
        await self._run(order, surroundings)

    def _shim(
        self, spec: ServiceSpec, instance: Instance, mark: Mark, given: InstanceMounts, around: AgentEnvironment
    ) -> ContainerSpec:
        start = spec.start
        served = start.image if isinstance(start, Stdio) else None
        if isinstance(start, Stdio) and served:
            handed = (*start.env, *shim_status.upstream_environment(spec, mark.ports))
            connect = ("connect", f"{layout.STDIO_HERE}/stdio.sock", *handed)
            spec = replace(spec, start=replace(start, command=layout.STDIO, args=connect))

        def told(inspected: Json) -> bytes:
            host, ports, names = ip_on(inspected, self._settings.network), mark.ports, self._ingress.names
            config = shim_status.configuration(spec, instance, ports, f"{host}:{ports['sidecar']}", {host, *names})
            cwd = "/" if served else given.cwd
            return json.dumps({**config, "cwd": cwd, "socket": f"{layout.HERE}/shim.sock"}).encode()

        binds = [*given.shim, *(given.stdio if served else given.data)]
        return ContainerSpec(
            mark=mark,
            image=around.image,
            command=_SHIM,
            limits=layout.of_program(self._settings, self._settings.network, binds),
            user=given.user,
            networks=[self._settings.egress] if spec.egress or isinstance(start, Remote) else (),
            served=served or "",
            said=told,
        )

    async def _life(self, id_: str) -> str:
        inspected = await self._engine.inspect(id_)
        if inspected is None:
            raise WorkloadError("cannot start it: its shim was gone at once; its log says why")
        return layout.life(inspected)

    async def _holder(self, mark: Mark) -> Json:
        """The container whose network namespace an Envoy shares."""
        if mark.service == self._ingress.service:
            return await self._edge.container()
        id_ = self._known.id(SHIM, mark.instance)
        inspected = await self._engine.inspect(id_) if id_ else None
        if inspected is None or not inspected["State"]["Running"]:
            raise WorkloadError(f"cannot start the sidecar of {mark.instance}: no container runs for it")
        return inspected

    async def _run(self, order: ContainerSpec, around: AgentEnvironment) -> str:
        """Creates and starts it; returns its id. What could not be started is removed again."""
        with self._known.starting(order.mark.role, order.mark.instance):
            id_ = await self._engine.do(lambda api: create(api, order, around))
            try:
                if order.said is None:
                    await self._engine.do(lambda api: api.start(id_))
                else:
                    await self._engine.start_with_input(id_, order.said)
            except BaseException:
                await asyncio.shield(self._engine.remove(id_))
                raise
            self._known.started(order.mark, id_)
            return id_
