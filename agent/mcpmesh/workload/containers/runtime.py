"""Runs the instances of a catalog as containers; each is found again by its labels.

An instance is a shim and an Envoy in one network namespace, which nobody else
is in: loopback there is a boundary. A namespace ends with the shim that made
it, so an Envoy that was left behind goes too. Nothing that does not carry this
mesh's owner is looked at, let alone touched.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcpmesh.errors import WorkloadError
from mcpmesh.kit.process import Mark, Process
from mcpmesh.kit.sockets import client, host_of
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed import Workload
from mcpmesh.model.service import Plain, Remote, ServiceSpec, Stdio
from mcpmesh.settings import Settings
from mcpmesh.workload import shims
from mcpmesh.workload.containers import layout
from mcpmesh.workload.containers.engine import Engine, Json
from mcpmesh.workload.containers.images import Images
from mcpmesh.workload.containers.pump import Pump
from mcpmesh.workload.containers.surroundings import PROJECT, Surroundings, ip_on, look
from mcpmesh.workload.containers.watch import Watch
from mcpmesh.workload.runtime import SHIM, Envoy, Kept, Published
from mcpmesh.workload.words import NONE, last_line

# After `quit` an Envoy needs some tens of milliseconds; beyond this it is stuck.
_QUIT_SECONDS = 2.0
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
        self._starting: set[str] = set()

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
        surroundings = await self._surroundings()
        self._watch.begin(f"{layout.OWNER}={surroundings.owner}")
        lives = await self._lives(f"{layout.OWNER}={surroundings.owner}")
        found: list[Process] = []
        ids: dict[tuple[str, str], str] = {}
        for id_, inspected in lives.items():
            mark = Mark.parse(_label(inspected, layout.MARK)) if inspected else None
            if inspected is None or mark is None or _label(inspected, layout.OWNER) != surroundings.owner:
                continue
            if not inspected["State"]["Running"] or not _has_namespace(inspected, lives):
                if layout.name(mark) not in self._starting:
                    await self._put_away(id_, mark)
                continue
            found.append(self._process(mark, inspected, lives))
            ids[mark.role, mark.instance] = id_
            self._pump.begin(id_, self._log_of(mark))
        self._ids = ids
        return found

    async def _lives(self, label: str) -> dict[str, Json | None]:
        """Ours by their ids, and those in whose network namespaces ours are."""
        lives: dict[str, Json | None] = {}
        ids = {one["Id"] for one in await self._engine.labelled(label)}
        while ids:
            found = await asyncio.gather(*map(self._engine.inspect, ids))
            lives |= dict(zip(ids, found, strict=True))
            joined = {_joined(each).partition("@")[0] for each in found if each}
            ids = joined - lives.keys() - {""}
        return lives

    def _process(self, mark: Mark, inspected: Json, lives: Mapping[str, Json | None]) -> Process:
        socket = "shim" if mark.role == SHIM else "admin"
        inner = host_of(layout.folder(mark), socket)
        holder = lives.get(_joined(inspected).partition("@")[0])
        host = ip_on(holder or inspected, self._settings.network)
        return Process(int(inspected["State"]["Pid"]), mark, host, inner)

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
        return await asyncio.to_thread(last_line, self._log(name)) or NONE

    async def any_end(self, processes: Sequence[Process]) -> None:
        """See Runtime; any change of our containers counts."""
        await self._watch.change()

    # Starting.

    async def start(self, spec: ServiceSpec, instance: Instance, kept: Kept, taken: Collection[int]) -> None:
        """See Runtime; in a namespace of its own an instance has the same ports as every other."""
        if isinstance(spec.start, Plain):
            raise WorkloadError(
                f'cannot run "{spec.name}" in a container: only MCP servers (command, url) are; '
                "run it beside the mesh, or run the mesh without containers"
            )
        surroundings = await self._surroundings()
        await self._images.have(surroundings.image)
        ports = {"http": self._port, "sidecar": self._port + 1, "check": self._port + 2}
        for number, upstream in enumerate(spec.upstreams):
            ports[f"upstream:{upstream.service}"] = upstream.port or self._port + 3 + number
        mark = Mark(self._mesh, str(self._home), SHIM, instance.id, spec.name, instance.digest, ports)
        user, cwd, binds = await asyncio.to_thread(self._folders, spec, mark, surroundings)

        def config(inspected: Json) -> bytes:
            host = ip_on(inspected, self._settings.network)
            told = shims.configuration(spec, instance, ports, f"{host}:{ports['sidecar']}", {host, *self._names})
            return json.dumps({**told, "cwd": cwd, "socket": f"{layout.HERE}/shim.sock"}).encode()

        limits = layout.of_program(self._settings, self._settings.network, binds)
        networks = [self._settings.egress] if spec.egress or isinstance(spec.start, Remote) else []
        await self._run(mark, _SHIM, user, limits, networks=networks, said=config)

    def _folders(self, spec: ServiceSpec, mark: Mark, around: Surroundings) -> tuple[str, str, list[str]]:
        """User, working directory and binds: the socket's folder, the service's /data, and its own `cwd`."""
        start = spec.start
        # The folder of the catalog itself holds other services' secrets: only one below it is shared.
        shared = isinstance(start, Stdio) and str(start.cwd) not in around.place.given
        cwd = start.cwd if isinstance(start, Stdio) and shared else None
        uid, gid = self._user(cwd)
        data = self._settings.data / spec.name
        data.mkdir(mode=0o700, exist_ok=True)
        sockets = self._settings.sockets / layout.folder(mark)
        sockets.mkdir(mode=0o700, exist_ok=True)
        for folder in (data, sockets):
            os.chown(folder, uid, gid)
        binds = [f"{self._outside(around, sockets)}:{layout.HERE}", f"{self._outside(around, data)}:{layout.DATA_HERE}"]
        if cwd is None:
            return f"{uid}:{gid}", layout.DATA_HERE, binds
        return f"{uid}:{gid}", str(cwd), [*binds, f"{self._outside(around, cwd)}:{cwd}"]

    def _user(self, cwd: Path | None) -> tuple[int, int]:
        if self._settings.user:
            user, _, group = self._settings.user.partition(":")
            return int(user), int(group or user)
        if cwd is not None and (owner := cwd.stat()).st_uid:
            return owner.st_uid, owner.st_gid
        return layout.NOBODY, layout.NOBODY

    @staticmethod
    def _outside(around: Surroundings, path: Path) -> str:
        outside = around.place.outside(path)
        if outside is None:
            raise WorkloadError(f"cannot share {path} with a container: it is in no volume of the agent's")
        return outside

    async def start_envoy(self, envoy: Envoy, taken: Collection[int]) -> None:
        """See Runtime; its admin address is a socket that the agent alone can open."""
        surroundings = await self._surroundings()
        mark = replace(envoy.mark, ports={**envoy.mark.ports, "admin": 80})
        holder = await self._holder(mark)
        text = await envoy.bootstrap(Path(layout.HERE, "admin.sock"))
        folder = self._settings.sockets / layout.folder(mark)
        await asyncio.to_thread(_written, folder, text)
        consul = self._settings.sockets / "consul"
        binds = [
            f"{self._outside(surroundings, folder)}:{layout.HERE}",
            f"{self._outside(surroundings, consul)}:{layout.CONSUL_HERE}:ro",
        ]
        limits = layout.of_envoy(self._settings, holder["Id"], binds)
        user = f"{layout.NOBODY}:{layout.NOBODY}"
        command = list(envoy.arguments(Path(layout.HERE, "bootstrap.json")))
        await self._run(mark, command, user, limits, joined=layout.life(holder))

    async def _holder(self, mark: Mark) -> Json:
        """The container whose network namespace an Envoy shares."""
        if mark.service == self._ingress_service:
            return await self._ingress()
        id_ = self._ids.get((SHIM, mark.instance))
        inspected = await self._engine.inspect(id_) if id_ else None
        if inspected is None or not inspected["State"]["Running"]:
            raise WorkloadError(f"cannot start the sidecar of {mark.instance}: no container runs for it")
        return inspected

    async def _run(
        self,
        mark: Mark,
        command: Sequence[str],
        user: str,
        limits: Mapping[str, Any],
        *,
        networks: Sequence[str] = (),
        joined: str = "",
        said: Any = None,
    ) -> None:
        surroundings = await self._surroundings()
        name = layout.name(mark)
        self._starting.add(name)
        try:

            def create(api: Any) -> str:
                found: str = api.create_container(
                    surroundings.image,
                    command=list(command),
                    name=name,
                    user=user,
                    stdin_open=said is not None,
                    environment={"HOME": "/tmp"},  # noqa: S108 - a tmpfs of its own
                    labels=layout.labels(surroundings.owner, mark, joined),
                    entrypoint=[],
                    healthcheck={"test": ["NONE"]},
                    host_config=api.create_host_config(**limits),
                )["Id"]
                for network in networks:
                    api.connect_container_to_network(found, network)
                return found

            id_ = await self._engine.do(create)
            try:
                if said is None:
                    await self._engine.do(lambda api: api.start(id_))
                else:
                    await self._engine.start_with_input(id_, said)
            except BaseException:
                await asyncio.shield(self._engine.remove(id_))
                raise
            self._ids[mark.role, mark.instance] = id_
        finally:
            self._starting.discard(name)

    # Ending.

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


def _label(inspected: Json, label: str) -> str:
    return str((inspected["Config"].get("Labels") or {}).get(label, ""))


def _joined(inspected: Json) -> str:
    return _label(inspected, layout.JOINED)


def _has_namespace(inspected: Json, lives: Mapping[str, Json | None]) -> bool:
    """Whether the container whose network namespace this one is in still lives the same life."""
    joined = _joined(inspected)
    holder = lives.get(joined.partition("@")[0])
    return not joined or bool(holder and holder["State"]["Running"] and layout.life(holder) == joined)


def _written(folder: Path, bootstrap: str) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "admin.sock").unlink(missing_ok=True)
    path = folder / "bootstrap.json"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(bootstrap)
    for each in (folder, path):
        os.chown(each, layout.NOBODY, layout.NOBODY)
