"""The folders that are mounted into containers, created before these start."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mcpmesh.errors import WorkloadError
from mcpmesh.kit.marked_process import Mark
from mcpmesh.model.service import ServiceSpec, Stdio
from mcpmesh.settings import ContainerSettings
from mcpmesh.workload.containers import container_naming
from mcpmesh.workload.containers.container_naming import HostPaths
from mcpmesh.workload.runtime import SERVER


@dataclass(frozen=True)
class InstanceMounts:
    """An instance's user ("uid:gid"), its working directory, and Docker's binds by what they are for."""

    user: str
    cwd: str
    shim: Sequence[str]
    stdio: Sequence[str]
    data: Sequence[str]
    programs: Sequence[str]


def create_instance_mounts(
    spec: ServiceSpec,
    mark: Mark,
    settings: ContainerSettings,
    host_paths: HostPaths,
    stdio_program: Path = Path(container_naming.STDIO_PROGRAM),
) -> InstanceMounts:
    """Creates the folders; raises WorkloadError where one of the catalog's is missing or can't be shared."""
    start = spec.start
    # The catalog's own folder holds other services' secrets: only one below it is shared.
    is_shared = isinstance(start, Stdio) and str(start.cwd) not in host_paths.mounts
    cwd = start.cwd if isinstance(start, Stdio) and is_shared else None
    if cwd is not None and not cwd.is_dir():
        raise WorkloadError(f'cannot start "{spec.name}": its working directory {cwd} does not exist')
    uid, gid = _user(settings, cwd)
    data, sockets = settings.data / spec.name, settings.sockets / container_naming.folder(mark)
    stdio, programs = settings.sockets / container_naming.folder(replace(mark, role=SERVER)), settings.sockets / "bin"
    image = start.image if isinstance(start, Stdio) else None
    with _reporting_failure(mark, settings):
        for folder in (data, sockets, *((stdio,) if image else ())):
            folder.mkdir(mode=0o700, exist_ok=True)
            os.chown(folder, uid, gid)
        if image:
            # An image chooses its own user; only these two containers get the folders.
            data.chmod(0o777)
            stdio.chmod(0o777)
            programs.mkdir(exist_ok=True)
            _install(stdio_program, programs)
    data_binds = [f"{on_host(host_paths, data)}:{container_naming.DATA_INSIDE}"]
    data_binds += [f"{on_host(host_paths, cwd)}:{cwd}"] if cwd else []
    return InstanceMounts(
        user=f"{uid}:{gid}",
        cwd=str(cwd) if cwd else container_naming.DATA_INSIDE,
        shim=[f"{on_host(host_paths, sockets)}:{container_naming.SOCKETS_INSIDE}"],
        stdio=[f"{on_host(host_paths, stdio)}:{container_naming.STDIO_INSIDE}"],
        data=data_binds,
        programs=[f"{on_host(host_paths, programs)}:{container_naming.PROGRAMS_INSIDE}:ro"],
    )


def create_envoy_mounts(mark: Mark, bootstrap: str, settings: ContainerSettings, host_paths: HostPaths) -> list[str]:
    """Creates an Envoy's folder with its bootstrap (0600, since it holds Consul's token); returns the binds."""
    folder = settings.sockets / container_naming.folder(mark)
    with _reporting_failure(mark, settings):
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "admin.sock").unlink(missing_ok=True)
        path = folder / container_naming.BOOTSTRAP
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(bootstrap)
        for created in (folder, path):
            os.chown(created, container_naming.NOBODY, container_naming.NOBODY)
    consul = settings.sockets / "consul"
    return [
        f"{on_host(host_paths, folder)}:{container_naming.SOCKETS_INSIDE}",
        f"{on_host(host_paths, consul)}:{container_naming.CONSUL_INSIDE}:ro",
    ]


def on_host(host_paths: HostPaths, path: Path) -> str:
    """The host's path of a folder of ours; raises WorkloadError where it is in no volume."""
    found = host_paths.find(path)
    if found is None:
        raise WorkloadError(f"cannot share {path} with a container: it is in no volume of the agent's")
    return found


@contextmanager
def _reporting_failure(mark: Mark, settings: ContainerSettings) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkloadError(
            f"cannot make the folders of {mark.instance} ({error}); "
            f"see that the agent may write in {settings.sockets} and {settings.data}, and that there is space"
        ) from error


def _install(program: Path, folder: Path) -> None:
    """Replaces a program in one step, also while containers run an earlier one; does nothing where it is the same."""
    new, installed = program.stat(), folder / program.name
    if installed.exists() and (old := installed.stat()).st_size == new.st_size and old.st_mtime_ns == new.st_mtime_ns:
        return
    with TemporaryDirectory(dir=folder) as scratch:
        Path(shutil.copy2(program, scratch)).replace(installed)


def _user(settings: ContainerSettings, cwd: Path | None) -> tuple[int, int]:
    """The user and group of an instance: the setting's, else the owner of its folder unless that is root."""
    if settings.user:
        user, _, group = settings.user.partition(":")
        return int(user), int(group or user)
    if cwd is not None and (owner := cwd.stat()).st_uid:
        return owner.st_uid, owner.st_gid
    return container_naming.NOBODY, container_naming.NOBODY
