"""Lists our running containers, and removes ended ones once their last output is in the logs.

A network namespace ends with the shim that made it, so an Envoy whose shim has
ended is removed too. Containers without this mesh's owner label are not
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
from mcpmesh.workload.containers import container_naming
from mcpmesh.workload.containers.agent_environment import EnvironmentReader, address_on
from mcpmesh.workload.containers.container_ids import ContainerIds, Key
from mcpmesh.workload.containers.docker_engine import DockerEngine
from mcpmesh.workload.containers.docker_events import ContainerChanges
from mcpmesh.workload.containers.inventory import Inventory, is_over, label, namespace_holder, take_inventory
from mcpmesh.workload.containers.log_copier import LogCopier
from mcpmesh.workload.log_tail import last_line
from mcpmesh.workload.runtime import SHIM

# A server without its shim has nothing to answer, an Envoy without its instance nothing to serve.
_ORPHAN_SECONDS = 2.0


class ContainerDiscovery:
    """Lists containers; removes those that are over."""

    def __init__(
        self,
        engine: DockerEngine,
        ids: ContainerIds,
        environment: EnvironmentReader,
        log_copier: LogCopier,
        settings: ContainerSettings,
        home: Path,
    ) -> None:
        self._engine = engine
        self._ids = ids
        self._environment = environment
        self._settings = settings
        self._logs = home / "logs"
        self._changes = ContainerChanges(engine)
        self._log_copier = log_copier
        self._listing = asyncio.Lock()

    async def close(self) -> None:
        """Stops listening and copying; what runs keeps running."""
        await self._changes.close()
        await self._log_copier.close()

    async def list_processes(self) -> list[Process]:
        """Everything that runs; removes what has ended, and Envoys whose namespace has."""
        # Two at once would both remove the same, and the later one the folder of what was started again since.
        async with self._listing:
            owner = (await self._environment.read()).owner
            owner_label, ids_before = f"{container_naming.OWNER}={owner}", self._ids.copy()
            self._changes.start(owner_label)
            inventory = await take_inventory(self._engine, owner_label)
            running, over = _sorted_out(inventory, owner)
            for id_, mark in running.items():
                self._log_copier.start(id_, self._log_of(mark))
            listed: dict[Key, str] = {(mark.role, mark.instance): id_ for id_, mark in running.items()}
            self._ids.update(listed, ids_before)
            await self._remove_over(over, owner_label)
            return [self._process(mark, id_, inventory) for id_, mark in running.items()]

    async def wait_for_change(self) -> None:
        """Returns when any of our containers starts or ends."""
        await self._changes.wait_for_change()

    async def last_log_line(self, name: str) -> str:
        """The last line in the log of that name."""
        return await asyncio.to_thread(last_line, self._log(name))

    async def remove(self, id_: str, mark: Mark) -> None:
        """Removes a container that has ended, once all its output is in the mesh's logs."""
        await self._log_copier.finish(id_, self._log_of(mark))
        await self._engine.remove(id_)
        await asyncio.to_thread(
            shutil.rmtree, self._settings.sockets / container_naming.folder(mark), ignore_errors=True
        )

    async def _remove_over(self, over: Mapping[str, Mark], owner_label: str) -> None:
        """Removes what a second inventory finds over too: at the first, what it needs may have been starting."""
        candidates = {id_: mark for id_, mark in over.items() if not self._ids.is_starting(mark)}
        inventory = await take_inventory(self._engine, owner_label) if candidates else {}
        for id_, mark in candidates.items():
            inspected = inventory.get(id_)
            if inspected is not None and is_over(inspected, inventory):
                # It may still run without the container that it needs; its output would not end.
                await self._engine.stop(id_, _ORPHAN_SECONDS)
                await self.remove(id_, mark)

    def _process(self, mark: Mark, id_: str, inventory: Inventory) -> Process:
        inspected = inventory[id_]
        assert inspected is not None
        holder = inventory.get(namespace_holder(inspected)) or inspected
        private_host = socket_host(container_naming.folder(mark), "shim" if mark.role == SHIM else "admin")
        pid = int(inspected["State"]["Pid"])
        return Process(pid, mark, address_on(holder, self._settings.network), private_host)

    def _log_of(self, mark: Mark) -> Path:
        return self._log(mark.instance if mark.role == SHIM else f"{mark.instance}.{mark.role}")

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


def _sorted_out(inventory: Inventory, owner: str) -> tuple[dict[str, Mark], dict[str, Mark]]:
    """The marks of the owner's containers by id: those that run, and those that are over."""
    running: dict[str, Mark] = {}
    over: dict[str, Mark] = {}
    for id_, inspected in inventory.items():
        if inspected is None or label(inspected, container_naming.OWNER) != owner:
            continue
        mark = Mark.parse(label(inspected, container_naming.MARK))
        if mark is not None:
            (over if is_over(inspected, inventory) else running)[id_] = mark
    return running, over
