"""Downloads Consul's official release; nothing is unpacked before its SHA-256 was compared.

The zip has to have the SHA-256 in the site's own SHA256SUMS. Where the address
is https, every redirect has to be https too, since only TLS protects the sums.
It writes only into the folder that it is given.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
import re
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx

from mcpmesh.errors import Broken, SettingsError, Unreachable

# The zips have about 60 MiB; a mirror that sends far more sends something else.
MAX_BYTES = 512 * 1024 * 1024
MIB = 1024 * 1024

Progress = Callable[[str], None]


async def download(
    version: str,
    scratch: Path,
    progress: Progress,
    *,
    releases: str,
    connect_seconds: float,
    stall_seconds: float,
    download_seconds: float,
    progress_seconds: float,
) -> Path:
    """Downloads and unpacks the official release `version` for this machine into `scratch`; returns the executable.

    `releases` is laid out as the official site is: VERSION/consul_VERSION_SHA256SUMS
    beside the zips. Raises Unreachable where a retry may help, Broken where the
    site sends something else, SettingsError where `releases` is no address. A
    cancel takes effect when nothing writes to `scratch` any more.
    """
    name = f"consul_{version}_{_platform()}.zip"
    base = f"{releases.rstrip('/')}/{version}"
    sums, archive = scratch / "SHA256SUMS", scratch / name
    limits = httpx.Timeout(stall_seconds, connect=connect_seconds)
    try:
        async with (
            asyncio.timeout(download_seconds),
            httpx.AsyncClient(timeout=limits, follow_redirects=True, headers={"Accept-Encoding": "identity"}) as http,
        ):
            await _fetch(http, f"{base}/consul_{version}_SHA256SUMS", sums)
            expected = expected_sum(sums.read_text(encoding="utf-8", errors="replace"), name)
            progress(f"downloading {base}/{name}")
            actual = await _fetch(http, f"{base}/{name}", archive, _throttled(progress, progress_seconds))
    except TimeoutError as error:
        raise Unreachable(f"cannot download {base}/{name}: not done in {download_seconds:.0f} s") from error
    if actual != expected:
        raise Broken(
            f"cannot trust {base}/{name}: its SHA-256 is {actual}, SHA256SUMS says {expected}; nothing of it was used"
        )
    unpacking = asyncio.ensure_future(asyncio.to_thread(_unpack, archive, scratch))
    try:
        return await asyncio.shield(unpacking)
    except asyncio.CancelledError:
        # A thread can't be cancelled; it would still write while the folder is being removed.
        await asyncio.gather(unpacking, return_exceptions=True)
        raise


def expected_sum(sums: str, name: str) -> str:
    """The SHA-256 of the file `name`, in lower-case hex, from the text of a SHA256SUMS file; Broken without one."""
    for line in sums.splitlines():
        match line.split():
            case [digest, file] if file.lstrip("*") == name and re.fullmatch(r"[0-9a-fA-F]{64}", digest):
                return digest.lower()
    raise Broken(f"cannot verify {name}: SHA256SUMS does not list it; is there a release for this platform?")


async def _fetch(http: httpx.AsyncClient, url: str, to: Path, tell: Progress | None = None) -> str:
    """Writes the body of `url` to the file `to`; returns its SHA-256 in lower-case hex."""
    digest, done = hashlib.sha256(), 0
    try:
        # Not opened in a thread: after a cancel nothing would close it.
        with to.open("wb") as file:
            async with http.stream("GET", url) as response:
                # One step without TLS, and the sums prove nothing.
                if url.startswith("https:") and any(hop.url.scheme != "https" for hop in (*response.history, response)):
                    raise Broken(f"cannot download {url}: it redirects to plain HTTP; use another mirror")
                response.raise_for_status()
                size = int(response.headers.get("content-length", 0)) / MIB
                async for chunk in response.aiter_raw():
                    done += len(chunk)
                    if done > MAX_BYTES:
                        raise Broken(f"cannot download {url}: it is larger than {MAX_BYTES // MIB} MiB")
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


def _throttled(progress: Progress, seconds: float) -> Progress:
    """Calls `progress` at most once in `seconds`."""
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
