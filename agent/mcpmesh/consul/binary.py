"""Consul's binary: found, downloaded or built, and used only after it answered `consul version`.

The sources, in order: a configured path, `consul` on PATH, the cache, the
official release (its SHA-256 is compared before anything is unpacked), a build
with Go from `consul/build`. A binary enters the cache by one rename, so a
cached one is complete. A lock, which the kernel releases when its holder dies,
lets one process at a time fill the cache; the next one removes what a killed
one left.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import re
import shutil
import signal
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from mcpmesh.consul.go_build import build, end_process_group
from mcpmesh.consul.release_download import Progress, download
from mcpmesh.errors import Broken, MeshError, SettingsError, Unreachable
from mcpmesh.kit.packaged_files import resource_path
from mcpmesh.settings import ConsulSettings, read_settings

# From the first, below the second. The tests run the pinned version; its neighbours
# are accepted since many people have them installed.
SUPPORTED = ((1, 21), (1, 23))

# `consul version` answers in 0.1 s; a machine that is building needs longer.
VERSION_SECONDS = 30.0
LOCK_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Sources:
    """The sources of a missing binary; all times in seconds.

    `releases` is laid out as the official site is: VERSION/consul_VERSION_SHA256SUMS
    beside the zips. `build` holds the go.mod and go.sum that pin the version.
    """

    releases: str = ConsulSettings().release_url
    build: Path | None = None
    connect_seconds: float = 10.0
    stall_seconds: float = 30.0
    download_seconds: float = 900.0
    build_seconds: float = 3600.0
    progress_seconds: float = 5.0


OFFICIAL = Sources()


async def find_or_make(
    version: str, *, cache_dir: Path, configured: Path | None, progress: Progress, sources: Sources = OFFICIAL
) -> Path:
    """The path of a Consul that runs: of `version`, or a supported one that the user has configured or installed.

    Raises MeshError where a configured path is no Consul, and where every
    source failed; the message names each with its reason. When cancelled, it
    leaves neither a process nor a partial file.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise SettingsError(f'cannot prepare Consul "{version}": a version looks like 1.22.5')
    if configured is not None:
        found = await version_of(configured)
        if not is_supported(found):
            progress(f"Consul {found} at {configured} is outside the supported range, {_range()}; using it anyway")
        return configured
    installed = await _on_path(progress)
    if installed is not None:
        return installed
    home = cache_dir / "consul"
    try:
        return await _from_cache(version, home, progress, sources)
    except OSError as error:
        raise MeshError(f"cannot keep Consul in {home}: {error}; make it writable or choose another cache") from error


async def version_of(binary: Path) -> str:
    """The version that `binary` reports, such as "1.22.5"; MeshError where it does not run or is no Consul."""
    try:
        process = await asyncio.create_subprocess_exec(
            binary, "version", stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, start_new_session=True
        )
    except OSError as error:
        raise MeshError(f"cannot run {binary}: {error.strerror}; is it Consul's executable?") from error
    try:
        async with asyncio.timeout(VERSION_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise MeshError(f"cannot use {binary}: no answer to `version` in {VERSION_SECONDS:.0f} s") from error
    finally:
        await end_process_group(process)
    match = re.match(rb"Consul v(\d+\.\d+\.\d+\S*)", output)
    if process.returncode != 0 or match is None:
        raise MeshError(f"cannot use {binary}: its answer to `version` is not Consul's; name Consul's executable")
    return match[1].decode()


def is_supported(version: str) -> bool:
    """Whether `version` is in the range `SUPPORTED`."""
    match = re.match(r"(\d+)\.(\d+)\.", version)
    return match is not None and SUPPORTED[0] <= (int(match[1]), int(match[2])) < SUPPORTED[1]


def _range() -> str:
    (low, high) = (".".join(map(str, bound)) for bound in SUPPORTED)
    return f">={low},<{high}"


async def _on_path(progress: Progress) -> Path | None:
    name = shutil.which("consul")
    if name is None:
        return None
    try:
        found = await version_of(Path(name))
    except MeshError as error:
        progress(f"{error}; ignoring it")
        return None
    if is_supported(found):
        return Path(name)
    progress(f"Consul {found} at {name} is outside the supported range, {_range()}; ignoring it")
    return None


async def _from_cache(version: str, home: Path, progress: Progress, sources: Sources) -> Path:
    target = home / version / "consul"
    if await _is_usable(target, version, progress):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    async with _locked(home / ".lock", progress, sources.download_seconds + sources.build_seconds):
        if not await _is_usable(target, version, progress):
            await _fill_cache(version, target, progress, sources)
    return target


async def _is_usable(binary: Path, version: str, progress: Progress) -> bool:
    if not await asyncio.to_thread(binary.exists):
        return False
    try:
        found = await version_of(binary)
    except MeshError as error:
        progress(f"{error}; replacing it")
        return False
    if found != version:
        progress(f"{binary} is Consul {found}; replacing it by {version}")
    return found == version


@contextlib.asynccontextmanager
async def _locked(path: Path, progress: Progress, seconds: float) -> AsyncIterator[None]:
    # Not opened in a thread: after a cancel nothing would close it.
    with path.open("wb") as file:
        deadline = time.monotonic() + seconds
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise MeshError(f"cannot prepare Consul: another process holds {path}; end it first") from None
            if not waiting:
                progress("another process is preparing Consul; waiting for it")
                waiting = True
            await asyncio.sleep(LOCK_POLL_SECONDS)
        yield


async def _fill_cache(version: str, target: Path, progress: Progress, sources: Sources) -> None:
    home = target.parent
    for leftover in home.glob(".making-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    failures: list[MeshError] = []
    for source in (_download, _build):
        scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=home))
        try:
            binary = await source(version, scratch, progress, sources)
            found = await version_of(binary)
            if found != version:
                raise Broken(f"cannot use the result: it is Consul {found}, not {version}")
            binary.replace(target)
            progress(f"Consul {version} is at {target}")
            return
        except MeshError as error:
            if source is _download:
                progress(f"{error}; building it instead")
            failures.append(error)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    kind = Unreachable if any(isinstance(failure, Unreachable) for failure in failures) else MeshError
    raise kind(
        f"cannot get Consul {version}; no supported one ({_range()}) is on PATH, and every other source failed:\n"
        + "\n".join(f"  - {failure}" for failure in failures)
        + "\nFix one of these, or name a Consul by MCPMESH_CONSUL__BINARY, and try again."
    )


async def _download(version: str, scratch: Path, progress: Progress, sources: Sources) -> Path:
    return await download(
        version,
        scratch,
        progress,
        releases=sources.releases,
        connect_seconds=sources.connect_seconds,
        stall_seconds=sources.stall_seconds,
        download_seconds=sources.download_seconds,
        progress_seconds=sources.progress_seconds,
    )


async def _build(version: str, scratch: Path, progress: Progress, sources: Sources) -> Path:
    return await build(
        version,
        scratch,
        progress,
        pins=sources.build or resource_path("consul/build"),
        build_seconds=sources.build_seconds,
        progress_seconds=sources.progress_seconds,
    )


def main() -> None:
    """`python -m mcpmesh.consul.binary`: prepares Consul by the settings; its path on stdout, progress on stderr."""

    async def prepare() -> Path:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        settings = read_settings()
        return await find_or_make(
            settings.consul.version,
            cache_dir=settings.cache_dir,
            configured=settings.consul.binary,
            progress=lambda line: print(line, file=sys.stderr, flush=True),
            sources=Sources(releases=settings.consul.release_url),
        )

    try:
        print(asyncio.run(prepare()))
    except MeshError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except asyncio.CancelledError:
        sys.exit(143)


if __name__ == "__main__":
    main()
