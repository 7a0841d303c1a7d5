"""The folders that containers are given, made before they start."""

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
from mcpmesh.workload.containers import layout
from mcpmesh.workload.containers.layout import HostPaths
from mcpmesh.workload.runtime import SERVER


@dataclass(frozen=True)
class InstanceMounts:
    """What an instance is given: the user that owns it, where it works, and binds by what they are for."""

    user: str
    cwd: str
    shim: Sequence[str]
    stdio: Sequence[str]
    data: Sequence[str]
    programs: Sequence[str]


def of_instance(spec: ServiceSpec, mark: Mark, settings: ContainerSettings, place: HostPaths) -> InstanceMounts:
    """Makes them; raises WorkloadError where a folder of the catalog's is not there, or can't be shared."""
    start = spec.start
    # The folder of the catalog itself holds other services' secrets: only one below it is shared.
    shared = isinstance(start, Stdio) and str(start.cwd) not in place.given
    cwd = start.cwd if isinstance(start, Stdio) and shared else None
    if cwd is not None and not cwd.is_dir():
        raise WorkloadError(f'cannot start "{spec.name}": its working directory {cwd} does not exist')
    uid, gid = _user(settings, cwd)
    data, sockets = settings.data / spec.name, settings.sockets / layout.folder(mark)
    stdio, programs = settings.sockets / layout.folder(replace(mark, role=SERVER)), settings.sockets / "bin"
    image = start.image if isinstance(start, Stdio) else None
    with _making(mark, settings):
        for folder in (data, sockets, *((stdio,) if image else ())):
            folder.mkdir(mode=0o700, exist_ok=True)
            os.chown(folder, uid, gid)
        if image:
            # The user of an image is its own choice; nobody but these two containers is given these.
            data.chmod(0o777)
            stdio.chmod(0o777)
            programs.mkdir(exist_ok=True)
            _install(Path(layout.STDIO), programs)
    owned = [f"{outside(place, data)}:{layout.DATA_HERE}"]
    owned += [f"{outside(place, cwd)}:{cwd}"] if cwd else []
    return InstanceMounts(
        user=f"{uid}:{gid}",
        cwd=str(cwd) if cwd else layout.DATA_HERE,
        shim=[f"{outside(place, sockets)}:{layout.HERE}"],
        stdio=[f"{outside(place, stdio)}:{layout.STDIO_HERE}"],
        data=owned,
        programs=[f"{outside(place, programs)}:{layout.PROGRAMS_HERE}:ro"],
    )


def of_envoy(mark: Mark, bootstrap: str, settings: ContainerSettings, place: HostPaths) -> list[str]:
    """Makes an Envoy's folder, with its bootstrap (0600, since it holds Consul's token); returns the binds."""
    folder = settings.sockets / layout.folder(mark)
    with _making(mark, settings):
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "admin.sock").unlink(missing_ok=True)
        path = folder / layout.BOOTSTRAP
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(bootstrap)
        for each in (folder, path):
            os.chown(each, layout.NOBODY, layout.NOBODY)
    consul = settings.sockets / "consul"
    return [f"{outside(place, folder)}:{layout.HERE}", f"{outside(place, consul)}:{layout.CONSUL_HERE}:ro"]


def outside(place: HostPaths, path: Path) -> str:
    """Where Docker has a folder of ours; raises WorkloadError where it has not."""
    found = place.outside(path)
    if found is None:
        raise WorkloadError(f"cannot share {path} with a container: it is in no volume of the agent's")
    return found


@contextmanager
def _making(mark: Mark, settings: ContainerSettings) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkloadError(
            f"cannot make the folders of {mark.instance} ({error}); "
            f"see that the agent may write in {settings.sockets} and {settings.data}, and that there is space"
        ) from error


def _install(program: Path, folder: Path) -> None:
    """Puts a program there whole, also where containers run an earlier one; not again where it is the same."""
    new, there = program.stat(), folder / program.name
    if there.exists() and (old := there.stat()).st_size == new.st_size and old.st_mtime_ns == new.st_mtime_ns:
        return
    with TemporaryDirectory(dir=folder) as making:
        Path(shutil.copy2(program, making)).replace(there)


def _user(settings: ContainerSettings, cwd: Path | None) -> tuple[int, int]:
    if settings.user:
        user, _, group = settings.user.partition(":")
        return int(user), int(group or user)
    if cwd is not None and (owner := cwd.stat()).st_uid:
        return owner.st_uid, owner.st_gid
    return layout.NOBODY, layout.NOBODY
