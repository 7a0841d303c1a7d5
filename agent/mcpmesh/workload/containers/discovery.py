"""What of our containers runs; what has ended is put away on the way, its last words kept.

A namespace ends with the shim that made it, so an Envoy that was left behind
goes too. Nothing that does not carry this mesh's owner is looked at, let alone
touched.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.kit.unix_http import socket_host
from mcpmesh.settings import ContainerSettings
from mcpmesh.workload.containers import inventory, layout
from mcpmesh.workload.containers.agent_environment import EnvironmentReader, ip_on
from mcpmesh.workload.containers.container_ids import ContainerIds, Key
from mcpmesh.workload.containers.docker_engine import DockerEngine, Json
from mcpmesh.workload.containers.docker_events import ContainerChanges
from mcpmesh.workload.containers.log_copier import LogCopier
from mcpmesh.workload.log_tail import last_line
from mcpmesh.workload.runtime import SHIM

# A program whose shim is gone has nobody to answer, an Envoy nobody to serve.
_BEREFT_SECONDS = 2.0


class ContainerDiscovery:
    """Looks, and puts away."""

    def __init__(
        self,
        engine: DockerEngine,
        known: ContainerIds,
        around: EnvironmentReader,
        settings: ContainerSettings,
        home: Path,
    ) -> None:
        self._engine = engine
        self._known = known
        self._around = around
        self._settings = settings
        self._logs = home / "logs"
        self._watch = ContainerChanges(engine)
        self._pump = LogCopier(engine)
        self._looking = asyncio.Lock()

    async def close(self) -> None:
        """Lets go of everything; what runs, runs on."""
        await self._watch.close()
        await self._pump.close()

    async def found(self) -> list[Process]:
        """All that runs; what has ended is put away, and so is an Envoy whose namespace has."""
        # Two at once would put away the same, and the later one the folder of what was started again since.
        async with self._looking:
            surroundings = await self._around()
            label, before = f"{layout.OWNER}={surroundings.owner}", self._known.all()
            self._watch.begin(label)
            there = await inventory.look(self._engine, label)
            found: list[Process] = []
            ids: dict[Key, str] = {}
            over: dict[str, Mark] = {}
            for id_, inspected in there.items():
                if inspected is None or inventory.label(inspected, layout.OWNER) != surroundings.owner:
                    continue
                mark = Mark.parse(inventory.label(inspected, layout.MARK))
                if mark is None:
                    continue
                if inventory.over(inspected, there):
                    over[id_] = mark
                    continue
                holder = there.get(inventory.joined(inspected)) or inspected
                found.append(self._process(mark, inspected, holder))
                ids[mark.role, mark.instance] = id_
                self._pump.begin(id_, self._log_of(mark))
            self._known.seen(ids, before)
            await self._clear(over, label)
            return found

    async def change(self) -> None:
        """Returns when any of our containers starts or ends."""
        await self._watch.change()

    async def last_words(self, name: str) -> str:
        """The last line in the log of that name."""
        return await asyncio.to_thread(last_line, self._log(name))

    async def put_away(self, id_: str, mark: Mark) -> None:
        """Removes a container that has ended, once its last words are in the mesh's logs."""
        await self._pump.end(id_, self._log_of(mark))
        await self._engine.remove(id_)
        await asyncio.to_thread(shutil.rmtree, self._settings.sockets / layout.folder(mark), ignore_errors=True)

    async def _clear(self, over: Mapping[str, Mark], label: str) -> None:
        """Puts away what another look finds over too: at the first, what it waits for may have been starting."""
        ended = {id_: mark for id_, mark in over.items() if not self._known.is_starting(mark)}
        there = await inventory.look(self._engine, label) if ended else {}
        for id_, mark in ended.items():
            inspected = there.get(id_)
            if inspected is not None and inventory.over(inspected, there):
                # It may still run, where what it was started beside has gone: its words would have no end.
                await self._engine.stop(id_, _BEREFT_SECONDS)
                await self.put_away(id_, mark)

    def _process(self, mark: Mark, inspected: Json, holder: Json) -> Process:
        socket = "shim" if mark.role == SHIM else "admin"
        inner = socket_host(layout.folder(mark), socket)
        return Process(int(inspected["State"]["Pid"]), mark, ip_on(holder, self._settings.network), inner)

    def _log_of(self, mark: Mark) -> Path:
        return self._log(mark.instance if mark.role == SHIM else f"{mark.instance}.{mark.role}")

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"
