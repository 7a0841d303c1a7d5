"""Consul's binary: found or made, and never handed out before it answered `consul version`.

The ways, in order: a configured path, `consul` on PATH, the cache, the
official release (its SHA-256 compared before anything is unpacked), a build
with Go from `consul/build`. A binary enters the cache by one rename, so what
is there is whole. Two makers are kept apart by a lock that the kernel lets go
of when its holder dies; what a killed maker left is removed by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import httpx

from mcpmesh.errors import Broken, MeshError, SettingsError, Unreachable
from mcpmesh.kit.resources import handed
from mcpmesh.settings import ConsulSettings, read_settings

# From the first on, below the second. The tests run the pinned version; its
# neighbours are taken because people have them installed already.
SUPPORTED = ((1, 21), (1, 23))

MODULE = "github.com/hashicorp/consul"
# The zips have about 60 MiB; a mirror that sends far more sends something else.
LARGEST_BYTES = 512 * 1024 * 1024
# `consul version` answers in 0.1 s; a machine that is building needs longer.
VERSION_SECONDS = 30.0
LOCK_POLL_SECONDS = 0.2
TERM_SECONDS = 5.0
MIB = 1024 * 1024

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Sources:
    """Where a missing binary comes from; all times in seconds.

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
    version: str,
    *,
    cache_dir: Path,
    configured: Path | None,
    progress: Progress,
    sources: Sources = OFFICIAL,
) -> Path:
    """The path of a Consul that runs: `version`, or a supported one that the person has chosen or installed.

    Raises MeshError where a configured path is no Consul, and where every way
    failed; the message names each of them with its reason. Cancelled, it
    leaves neither a process nor a partial file.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise SettingsError(f'cannot prepare Consul "{version}": a version looks like 1.22.5')
    if configured is not None:
        found = await version_of(configured)
        if not supported(found):
            progress(
                f"Consul {found} at {configured} is outside the supported range, {_range()}; using it all the same"
            )
        return configured
    installed = await _on_path(progress)
    if installed is not None:
        return installed
    home = cache_dir / "consul"
    try:
        return await _cached_or_made(version, home, progress, sources)
    except OSError as error:
        raise MeshError(f"cannot keep Consul in {home}: {error}; make it writable or choose another cache") from error


async def version_of(binary: Path) -> str:
    """The version that `binary` says of itself, such as "1.22.5"; MeshError where it does not run or is no Consul."""
    try:
        process = await asyncio.create_subprocess_exec(
            binary,
            "version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise MeshError(f"cannot run {binary}: {error.strerror}; is it Consul's executable?") from error
    try:
        async with asyncio.timeout(VERSION_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise MeshError(f"cannot use {binary}: no answer to `version` in {VERSION_SECONDS:.0f} s") from error
    finally:
        await _stop(process)
    match = re.match(rb"Consul v(\d+\.\d+\.\d+\S*)", output)
    if process.returncode != 0 or match is None:
        raise MeshError(f"cannot use {binary}: its answer to `version` is not Consul's; name Consul's executable")
    return match[1].decode()


def supported(version: str) -> bool:
    """Whether `version` lies in the range that an installed one is taken from."""
    match = re.match(r"(\d+)\.(\d+)\.", version)
    return match is not None and SUPPORTED[0] <= (int(match[1]), int(match[2])) < SUPPORTED[1]


def expected_sum(sums: str, name: str) -> str:
    """The SHA-256 of the file `name`, in lower-case hex, from the text of a SHA256SUMS file; Broken where absent."""
    for line in sums.splitlines():
        match line.split():
            case [digest, file] if file.lstrip("*") == name and re.fullmatch(r"[0-9a-fA-F]{64}", digest):
                return digest.lower()
    raise Broken(f"cannot verify {name}: SHA256SUMS does not list it; is there a release for this platform?")


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
        progress(f"{error}; passing over it")
        return None
    if supported(found):
        return Path(name)
    progress(f"Consul {found} at {name} is outside the supported range, {_range()}; passing over it")
    return None


async def _cached_or_made(version: str, home: Path, progress: Progress, sources: Sources) -> Path:
    target = home / version / "consul"
    if await _whole(target, version, progress):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    async with _locked(home / ".lock", progress, sources.download_seconds + sources.build_seconds):
        if not await _whole(target, version, progress):
            await _make(version, target, progress, sources)
    return target


async def _whole(binary: Path, version: str, progress: Progress) -> bool:
    if not await asyncio.to_thread(binary.exists):
        return False
    try:
        found = await version_of(binary)
    except MeshError as error:
        progress(f"{error}; making it anew")
        return False
    if found != version:
        progress(f"{binary} is Consul {found}; making {version} anew")
    return found == version


@contextlib.asynccontextmanager
async def _locked(path: Path, progress: Progress, seconds: float) -> AsyncIterator[None]:
    with _opened(path) as file:
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


async def _make(version: str, target: Path, progress: Progress, sources: Sources) -> None:
    home = target.parent
    for left in home.glob(".making-*"):
        shutil.rmtree(left, ignore_errors=True)
    failures: list[MeshError] = []
    for way in (_download, _build):
        scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=home))
        try:
            binary = await way(version, scratch, progress, sources)
            found = await version_of(binary)
            if found != version:
                raise Broken(f"cannot use what was made: it is Consul {found}, not {version}")
            binary.replace(target)
            progress(f"Consul {version} is at {target}")
            return
        except MeshError as error:
            if way is _download:
                progress(f"{error}; building it instead")
            failures.append(error)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    kind = Unreachable if any(isinstance(failure, Unreachable) for failure in failures) else MeshError
    raise kind(
        f"cannot get Consul {version}; no supported one ({_range()}) is on PATH, and each other way failed:\n"
        + "\n".join(f"  - {failure}" for failure in failures)
        + "\nMend one of these, or name a Consul by MCPMESH_CONSUL__BINARY, and try again."
    )


async def _download(version: str, scratch: Path, progress: Progress, sources: Sources) -> Path:
    name = f"consul_{version}_{_platform()}.zip"
    base = f"{sources.releases.rstrip('/')}/{version}"
    sums, archive = scratch / "SHA256SUMS", scratch / name
    limits = httpx.Timeout(sources.stall_seconds, connect=sources.connect_seconds)
    try:
        async with (
            asyncio.timeout(sources.download_seconds),
            httpx.AsyncClient(timeout=limits, follow_redirects=True, headers={"Accept-Encoding": "identity"}) as http,
        ):
            await _fetch(http, f"{base}/consul_{version}_SHA256SUMS", sums)
            expected = expected_sum(sums.read_text(encoding="utf-8", errors="replace"), name)
            progress(f"downloading {base}/{name}")
            actual = await _fetch(http, f"{base}/{name}", archive, _seldom(progress, sources.progress_seconds))
    except TimeoutError as error:
        raise Unreachable(f"cannot download {base}/{name}: not done in {sources.download_seconds:.0f} s") from error
    if actual != expected:
        raise Broken(
            f"cannot trust {base}/{name}: its SHA-256 is {actual}, SHA256SUMS says {expected}; nothing of it was used"
        )
    unpacking = asyncio.ensure_future(asyncio.to_thread(_unpack, archive, scratch))
    try:
        return await asyncio.shield(unpacking)
    except asyncio.CancelledError:
        # A thread can't be cancelled, and would go on writing behind whoever cleans up.
        await asyncio.gather(unpacking, return_exceptions=True)
        raise


async def _fetch(http: httpx.AsyncClient, url: str, to: Path, tell: Progress | None = None) -> str:
    """Writes the body of `url` to the file `to`; its SHA-256 in lower-case hex."""
    digest, done = hashlib.sha256(), 0
    try:
        with _opened(to) as file:
            async with http.stream("GET", url) as response:
                # One step without TLS would void what vouches for the sums.
                if url.startswith("https:") and any(hop.url.scheme != "https" for hop in (*response.history, response)):
                    raise Broken(f"cannot download {url}: it redirects to plain HTTP; use another mirror")
                response.raise_for_status()
                size = int(response.headers.get("content-length", 0)) / MIB
                async for chunk in response.aiter_raw():
                    done += len(chunk)
                    if done > LARGEST_BYTES:
                        raise Broken(f"cannot download {url}: it is larger than {LARGEST_BYTES // MIB} MiB")
                    digest.update(chunk)
                    file.write(chunk)
                    if tell is not None:
                        tell(f"downloading Consul: {done / MIB:.1f} of {size:.1f} MiB")
    except httpx.HTTPStatusError as error:
        raise Broken(f"cannot download {url}: HTTP {error.response.status_code}") from error
    except httpx.HTTPError as error:
        raise Unreachable(f"cannot download {url}: {str(error) or type(error).__name__}") from error
    except httpx.InvalidURL as error:
        raise SettingsError(f"cannot download {url}: {error}; correct the address of the releases") from error
    return digest.hexdigest()


def _opened(path: Path) -> BinaryIO:
    """Opened here and not in a thread: cancelled meanwhile, nobody would close what the thread opens."""
    return path.open("wb")


def _seldom(progress: Progress, seconds: float) -> Progress:
    """`progress`, but at most one line in `seconds`."""
    due = time.monotonic() + seconds

    def tell(line: str) -> None:
        nonlocal due
        if time.monotonic() >= due:
            progress(line)
            due = time.monotonic() + seconds

    return tell


def _unpack(archive: Path, scratch: Path) -> Path:
    binary = scratch / "consul"
    try:
        with zipfile.ZipFile(archive) as zipped, zipped.open("consul") as packed, binary.open("wb") as file:
            shutil.copyfileobj(packed, file, MIB)
    except (zipfile.BadZipFile, KeyError) as error:
        raise Broken(f"cannot unpack {archive.name}: {error}") from error
    binary.chmod(0o755)
    return binary


def _platform() -> str:
    machines = {"x86_64": "amd64", "aarch64": "arm64"}
    machine = platform.machine().lower()
    return f"{platform.system().lower()}_{machines.get(machine, machine)}"


async def _build(version: str, scratch: Path, progress: Progress, sources: Sources) -> Path:
    pins = sources.build or handed("consul/build")
    work, temporary, binary = scratch / "build", scratch / "tmp", scratch / "consul"
    work.mkdir()
    temporary.mkdir()
    for name in ("go.mod", "go.sum"):
        shutil.copy(pins / name, work)
    module = (work / "go.mod").read_text(encoding="utf-8")
    if not re.search(rf"(?m)^\s*(require\s+)?{re.escape(MODULE)} v{re.escape(version)}\b", module):
        raise MeshError(f"cannot build Consul {version}: {pins / 'go.mod'} pins another version")
    needed = re.search(r"(?m)^go (\S+)", module)
    wanted = f"install Go {needed[1] if needed else ''} or later (https://go.dev/dl) and put it on PATH"
    go = shutil.which("go")
    if go is None:
        raise MeshError(f"cannot build Consul {version}: there is no `go` on PATH; {wanted}")
    progress(f"building Consul {version} with Go, once for this machine; some 2,000 packages, 10 minutes on two cores")
    # fmt: off
    process = await asyncio.create_subprocess_exec(
        *_mortal(), go, "build", "-v", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", binary, MODULE,
        cwd=work,
        env=os.environ | {"CGO_ENABLED": "0", "GOWORK": "off", "GOTMPDIR": str(temporary)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    # fmt: on
    try:
        async with asyncio.timeout(sources.build_seconds):
            seen = await _follow(process, progress, sources.progress_seconds)
    except TimeoutError as error:
        raise MeshError(f"cannot build Consul {version}: not done in {sources.build_seconds:.0f} s") from error
    finally:
        await _stop(process)
    if process.returncode != 0:
        said = "\n    ".join(seen.tail) or "it said nothing"
        raise MeshError(f"cannot build Consul {version}: go ended with {process.returncode}; {wanted}:\n    {said}")
    return binary


@dataclass
class _Seen:
    """What `go build -v` has said so far."""

    modules: int = 0
    packages: int = 0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=8))

    def line(self, line: str) -> None:
        if line.startswith("go: downloading "):
            self.modules += 1
        elif re.fullmatch(r"[\w./~+-]+", line):
            self.packages += 1
        elif line.strip():
            self.tail.append(line)


def _mortal() -> tuple[str, ...]:
    """What makes a command end with us even where we are killed -9: util-linux's setpriv, where it is there."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()


async def _follow(process: asyncio.subprocess.Process, progress: Progress, every: float) -> _Seen:
    assert process.stderr is not None
    stderr, seen, began = process.stderr, _Seen(), time.monotonic()

    async def read() -> None:
        async for line in stderr:
            seen.line(line.decode(errors="replace").rstrip())
        await process.wait()

    reading = asyncio.create_task(read(), name="go build output")
    try:
        while not reading.done():
            await asyncio.wait({reading}, timeout=every)
            minutes, seconds = divmod(int(time.monotonic() - began), 60)
            progress(
                f"building Consul: {minutes}:{seconds:02d} elapsed, "
                f"{seen.modules} modules downloaded, {seen.packages} packages compiled"
            )
        await reading
    finally:
        reading.cancel()
    return seen


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ends the process group where it still runs: TERM, then KILL, also when cancelled meanwhile."""
    if process.returncode is not None:
        return
    try:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), TERM_SECONDS)
    finally:
        if process.returncode is None:
            _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def main() -> None:
    """`python -m mcpmesh.consul.binary`: prepares Consul as settings say; its path on stdout, progress on stderr."""

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
