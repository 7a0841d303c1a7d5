"""Runs the instances of a catalog as containers; each is found again by its labels.

An instance is a shim and an Envoy in one network namespace, which nobody else
is in: loopback there is a boundary. A namespace ends with the shim that made
it, so an Envoy that was left behind goes too. Nothing that does not carry this
mesh's owner is looked at, let alone touched.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mcpmesh.errors import WorkloadError
from mcpmesh.kit.process import Mark, Process
from mcpmesh.kit.sockets import client, host_of
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed import Workload
from mcpmesh.model.service import Plain, Remote, ServiceSpec, Stdio
from mcpmesh.settings import Settings
from mcpmesh.workload import shims
from mcpmesh.workload.containers import layout, lives, places
from mcpmesh.workload.containers.engine import Engine, Json
from mcpmesh.workload.containers.images import Images
from mcpmesh.workload.containers.order import Order, create, of_server, program_of
from mcpmesh.workload.containers.places import Places
from mcpmesh.workload.containers.pump import Pump
from mcpmesh.workload.containers.surroundings import PROJECT, Surroundings, ip_on, look
from mcpmesh.workload.containers.watch import Watch
from mcpmesh.workload.runtime import SERVER, SHIM, Envoy, Kept, Published
from mcpmesh.workload.words import last_line

# After `quit` an Envoy needs some tens of milliseconds; beyond this it is stuck.
_QUIT_SECONDS = 2.0
# A shim and the program that it serves, in two containers.
_PAIR = "pair"
# The image's Python, which is the agent's.
_PYTHON = "/opt/mcpmesh/bin/python"
_SHIM = [_PYTHON, "-m", "mcpmesh.shim", "--config", "-"]


class Containers:
    """The container runtime (see Runtime)."""

    def __init__(self, settings: Settings, mesh: str, home: Path) -> None:
        self._names = settings.ingress.names
        self._settings = settings.containers
        self._port = settings.ports.services
        self._ingress_service = settings.ingress.service
        self._mesh = mesh
        self._home = home
        self._engine = Engine(self._settings.engine)
        self._images = Images(self._engine)
        self._watch = Watch(self._engine)
        self._pump = Pump(self._engine)
        self._http = client(self._settings.sockets, timeout=5.0)
        self._known: Surroundings | None = None
        self._ids: dict[tuple[str, str], str] = {}
        self._starting: set[tuple[str, str]] = set()
        self._looking = asyncio.Lock()

    @property
    def sockets(self) -> Path | None:
        """See Runtime."""
        return self._settings.sockets

    async def close(self) -> None:
        """See Runtime."""
        self._watch.close()
        await self._http.aclose()
        await self._engine.close()

    # What is there.

    async def found(self) -> list[Process]:
        """See Runtime; what has ended is put away on the way, and so is an Envoy whose namespace has."""
        # Two at once would put away the same, and the later one the folder of what was started again since.
        async with self._looking:
            surroundings = await self._surroundings()
            label, before = f"{layout.OWNER}={surroundings.owner}", dict(self._ids)
            self._watch.begin(label)
            known = await lives.look(self._engine, label)
            found: list[Process] = []
            ids: dict[tuple[str, str], str] = {}
            over: dict[str, Mark] = {}
            for id_, inspected in known.items():
                if inspected is None or lives.label(inspected, layout.OWNER) != surroundings.owner:
                    continue
                mark = Mark.parse(lives.label(inspected, layout.MARK))
                if mark is None:
                    continue
                if lives.over(inspected, known):
                    over[id_] = mark
                    continue
                holder = known.get(lives.joined(inspected)) or inspected
                found.append(self._process(mark, inspected, holder))
                ids[mark.role, mark.instance] = id_
                self._pump.begin(id_, self._log_of(mark))
            # Others start containers meanwhile.
            self._ids = ids | {key: id_ for key, id_ in self._ids.items() if before.get(key) != id_}
            await self._clear(over, label)
            return found

    async def _clear(self, over: Mapping[str, Mark], label: str) -> None:
        """Puts away what another look finds over too: at the first, what it waits for may have been starting."""
        ended = {
            id_: mark
            for id_, mark in over.items()
            if not {(mark.role, mark.instance), (_PAIR, mark.instance)} & self._starting
        }
        known = await lives.look(self._engine, label) if ended else {}
        for id_, mark in ended.items():
            inspected = known.get(id_)
            if inspected is not None and lives.over(inspected, known):
                await self._put_away(id_, mark)

    def _process(self, mark: Mark, inspected: Json, holder: Json) -> Process:
        socket = "shim" if mark.role == SHIM else "admin"
        inner = host_of(layout.folder(mark), socket)
        return Process(int(inspected["State"]["Pid"]), mark, ip_on(holder, self._settings.network), inner)

    async def _put_away(self, id_: str, mark: Mark) -> None:
        """Removes a container that has ended, once its last words are in the mesh's logs."""
        await asyncio.to_thread(self._pump.end, id_, self._log_of(mark))
        await self._engine.remove(id_)
        await asyncio.to_thread(shutil.rmtree, self._settings.sockets / layout.folder(mark), ignore_errors=True)

    async def observe(self, process: Process) -> Workload:
        """See Runtime."""
        return await shims.ask(self._http, process)

    async def last_words(self, name: str) -> str:
        """See Runtime."""
        return await asyncio.to_thread(last_line, self._log(name))

    async def any_end(self, processes: Sequence[Process]) -> None:
        """See Runtime; any change of our containers counts."""
        await self._watch.change()

    # Starting.

    async def start(self, spec: ServiceSpec, instance: Instance, kept: Kept, taken: Collection[int]) -> None:
        """See Runtime; in a namespace of its own an instance has the same ports as every other."""
        if isinstance(spec.start, Plain):
            raise WorkloadError(
                f'cannot run "{spec.name}" in a container: only MCP servers (command, image, url) are; '
                "run it beside the mesh, or run the mesh without containers"
            )
        surroundings = await self._surroundings()
        served, program = None, []
        if isinstance(spec.start, Stdio) and (served := spec.start.image):
            program = program_of(await self._images.have(served), spec.start.args)
        ports = {"http": self._port, "sidecar": self._port + 1, "check": self._port + 2}
        for number, upstream in enumerate(spec.upstreams):
            ports[f"upstream:{upstream.service}"] = upstream.port or self._port + 3 + number
        mark = Mark(self._mesh, str(self._home), SHIM, instance.id, spec.name, instance.digest, ports)
        given = await asyncio.to_thread(places.of_instance, spec, mark, self._settings, surroundings.place)
        # Both are there, or neither: until then nobody takes the one for bereft of the other.
        self._starting.add((_PAIR, instance.id))
        try:
            shim = await self._run(self._shim(spec, instance, mark, given, surroundings))
            if served:
                binds = [*given.programs, *given.stdio, *given.data]
                limits = layout.of_server(self._settings, shim, binds)
                try:
                    await self._run(of_server(served, mark, program, limits, await self._life(shim)))
                except BaseException:
                    await asyncio.shield(self._engine.remove(shim))
                    raise
        finally:
            self._starting.discard((_PAIR, instance.id))

    def _shim(self, spec: ServiceSpec, instance: Instance, mark: Mark, given: Places, around: Surroundings) -> Order:
        start = spec.start
        served = start.image if isinstance(start, Stdio) else None
        if isinstance(start, Stdio) and served:
            connect = ("connect", f"{layout.STDIO_HERE}/stdio.sock", *start.env)
            spec = replace(spec, start=replace(start, command=layout.STDIO, args=connect))

        def told(inspected: Json) -> bytes:
            host, ports = ip_on(inspected, self._settings.network), mark.ports
            config = shims.configuration(spec, instance, ports, f"{host}:{ports['sidecar']}", {host, *self._names})
            cwd = "/" if served else given.cwd
            return json.dumps({**config, "cwd": cwd, "socket": f"{layout.HERE}/shim.sock"}).encode()

        binds = [*given.shim, *(given.stdio if served else given.data)]
        return Order(
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

    async def start_envoy(self, envoy: Envoy, taken: Collection[int]) -> None:
        """See Runtime; its admin address is a socket that the agent alone can open."""
        surroundings = await self._surroundings()
        mark = replace(envoy.mark, ports={**envoy.mark.ports, "admin": 80})
        holder = await self._holder(mark)
        text = await envoy.bootstrap(Path(layout.HERE, "admin.sock"))
        binds = await asyncio.to_thread(places.of_envoy, mark, text, self._settings, surroundings.place)
        await self._run(
            Order(
                mark=mark,
                image=surroundings.image,
                command=envoy.arguments(Path(layout.HERE, layout.BOOTSTRAP)),
                limits=layout.of_envoy(self._settings, holder["Id"], binds),
                user=f"{layout.NOBODY}:{layout.NOBODY}",
                joined=layout.life(holder),
            )
        )

    async def _holder(self, mark: Mark) -> Json:
        """The container whose network namespace an Envoy shares."""
        if mark.service == self._ingress_service:
            return await self._ingress()
        id_ = self._ids.get((SHIM, mark.instance))
        inspected = await self._engine.inspect(id_) if id_ else None
        if inspected is None or not inspected["State"]["Running"]:
            raise WorkloadError(f"cannot start the sidecar of {mark.instance}: no container runs for it")
        return inspected

    async def _run(self, order: Order) -> str:
        """Creates and starts it; returns its id. What could not be started is removed again."""
        surroundings = await self._surroundings()
        self._starting.add((order.mark.role, order.mark.instance))
        try:
            id_ = await self._engine.do(lambda api: create(api, order, surroundings))
            try:
                if order.said is None:
                    await self._engine.do(lambda api: api.start(id_))
                else:
                    await self._engine.start_with_input(id_, order.said)
            except BaseException:
                await asyncio.shield(self._engine.remove(id_))
                raise
            self._ids[order.mark.role, order.mark.instance] = id_
            return id_
        finally:
            self._starting.discard((order.mark.role, order.mark.instance))

    # Ending.

    def came_from(self, process: Process, ancestors: Collection[int]) -> bool:
        """See Runtime; the program of an image is where its shim is, or it is not found."""
        return process.pid in ancestors or process.mark.role == SERVER

    async def stop(self, process: Process, drain_seconds: float) -> None:
        """See Runtime."""
        # A shim needs its own time to stop the server in order after it has drained.
        await self.end(process, drain_seconds + 10.0)

    def is_free(self, port: int) -> bool:
        """See Runtime; nobody else is in an instance's namespace."""
        return True

    async def stop_envoy(self, process: Process) -> None:
        """See Runtime."""
        await self.end(process, _QUIT_SECONDS)

    async def end(self, process: Process, grace_seconds: float) -> None:
        """See Runtime."""
        id_ = self._ids.get((process.mark.role, process.mark.instance))
        if id_ is None:
            return
        await self._engine.stop(id_, grace_seconds)
        await self._put_away(id_, process.mark)
        self._ids.pop((process.mark.role, process.mark.instance), None)

    def forget_bootstraps(self) -> None:
        """See Runtime; each goes with its container."""

    # The ingress.

    async def run_beside(self, envoy: Process, arguments: Sequence[str]) -> str:
        """See Runtime."""
        id_ = self._ids.get((envoy.mark.role, envoy.mark.instance))
        return await self._engine.run_in(id_, [_PYTHON, *arguments]) if id_ else ""

    async def published(self) -> list[Published]:
        """See Runtime."""
        surroundings = await self._surroundings()
        labels = [f"{layout.OWNER}={surroundings.owner}"]
        labels += [f"{PROJECT}={surroundings.project}"] if surroundings.project else []
        listed = [one for label in labels for one in await self._engine.labelled(label)]
        return sorted(
            {each for one in listed for each in layout.published(one, surroundings.owner)},
            key=lambda each: (each.container, each.port),
        )

    async def ingress_hosts(self) -> tuple[str, str] | None:
        """See Runtime."""
        found = await self._ingress()
        hosts = ip_on(found, self._settings.edge), ip_on(found, self._settings.network)
        if not all(hosts):
            networks = f"{self._settings.edge} and {self._settings.network}"
            raise WorkloadError(f"cannot open the ingress: its container has to be on the networks {networks}")
        return hosts

    async def _ingress(self) -> Json:
        surroundings = await self._surroundings()
        for listed in await self._engine.labelled(layout.INGRESS):
            labels = listed.get("Labels") or {}
            ours = not surroundings.project or labels.get(PROJECT) == surroundings.project
            if ours and listed.get("State") == "running" and (found := await self._engine.inspect(listed["Id"])):
                return found
        raise WorkloadError(
            f"cannot open the ingress: no container with the label {layout.INGRESS} runs; see: docker compose ps"
        )

    async def _surroundings(self) -> Surroundings:
        if self._known is None:
            self._known = await look(self._engine, self._settings, self._mesh, str(self._home))
        return self._known

    def _log_of(self, mark: Mark) -> Path:
        return self._log(mark.instance if mark.role == SHIM else f"{mark.instance}.{mark.role}")

    def _log(self, name: str) -> Path:
        return self._home / "logs" / f"{name}.log"
