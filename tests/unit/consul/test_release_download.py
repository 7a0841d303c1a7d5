"""The download of a release, from a site on loopback that behaves well or badly."""

from __future__ import annotations

import asyncio
import hashlib
import io
import platform
import re
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mcpmesh.consul.binary import Sources, find_or_make
from mcpmesh.errors import MeshError, Unreachable

VERSION = "1.22.5"
CONSUL = f"#!/bin/sh\necho 'Consul v{VERSION}'\n"
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
ZIP = f"consul_{VERSION}_{platform.system().lower()}_{MACHINE}.zip"
SUMS = f"consul_{VERSION}_SHA256SUMS"


def zipped(**members: str) -> bytes:
    """A zip of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


@dataclass
class Site:
    """A release site. `raw` are whole answers by file name; every other name is a 404.

    After a file in `stalls` it keeps the connection open without a word. It answers only while `open` is set.
    """

    port: int = 0
    raw: dict[str, bytes] = field(default_factory=dict)
    stalls: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/consul"

    def serve(self, name: str, body: bytes, promised: int | None = None) -> None:
        """`body` under `name`, with a Content-Length of `promised` bytes."""
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {promised or len(body)}\r\nConnection: close\r\n\r\n"
        self.raw[name] = head.encode() + body

    def release(self, archive: bytes, digest: str | None = None) -> None:
        """A whole release, with `digest` (the right one by default) in its sums."""
        self.serve(ZIP, archive)
        self.serve(SUMS, f"{digest or hashlib.sha256(archive).hexdigest()}  {ZIP}\n".encode())

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            name = (await reader.readline()).split()[1].decode().rpartition("/")[2]
            self.requests.append(name)
            await self.open.wait()
            writer.write(
                self.raw.get(name, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            )
            await writer.drain()
            if name in self.stalls:
                self.stalled.set()
                while await reader.read(1024):  # until the client goes
                    pass
        finally:
            writer.close()


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A site without a release; neither Consul nor Go is on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    site = Site()
    server = await asyncio.start_server(site.answer, "127.0.0.1", 0)
    async with server:
        site.port = server.sockets[0].getsockname()[1]
        yield site


@dataclass
class Cache:
    folder: Path
    progress: list[str] = field(default_factory=list)

    async def prepare(self, site: Site, stall_seconds: float = 30.0, download_seconds: float = 60.0) -> Path:
        sources = Sources(
            releases=site.url, stall_seconds=stall_seconds, download_seconds=download_seconds, progress_seconds=0
        )
        return await find_or_make(
            VERSION, cache_dir=self.folder, configured=None, progress=self.progress.append, sources=sources
        )

    def files(self) -> set[str]:
        """The files in the cache, without the lock."""
        return {
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.is_file() and path.stat().st_size
        }


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


async def test_a_release_is_downloaded_verified_and_kept(site: Site, cache: Cache) -> None:
    archive = zipped(**{"LICENSE.txt": "x", "consul": CONSUL})
    site.release(archive)
    found = await cache.prepare(site)
    assert found == cache.folder / "consul" / VERSION / "consul"
    assert found.read_text() == CONSUL
    assert found.stat().st_mode & 0o777 == 0o755
    assert cache.files() == {f"consul/{VERSION}/consul"}
    assert site.requests == [SUMS, ZIP]
    assert cache.progress[0] == f"downloading {site.url}/{VERSION}/{ZIP}"
    assert cache.progress[-1] == f"Consul {VERSION} is at {found}"


async def test_the_progress_names_the_size_so_far_and_the_whole_size_in_mib(site: Site, cache: Cache) -> None:
    noise = hashlib.shake_128(b"noise").hexdigest(1024 * 1024)
    site.release(zipped(consul=f"{CONSUL}exit\n{noise}"))
    await cache.prepare(site)
    assert any(re.fullmatch(r"downloading Consul: (1\.\d) of \1 MiB", line) for line in cache.progress)


async def test_a_cached_release_is_not_downloaded_again(site: Site, cache: Cache) -> None:
    site.release(zipped(consul=CONSUL))
    await cache.prepare(site)
    site.requests.clear()
    cache.progress.clear()
    await cache.prepare(site)
    assert (site.requests, cache.progress) == ([], [])


async def test_of_two_at_once_only_one_downloads(site: Site, cache: Cache) -> None:
    site.release(zipped(consul=CONSUL))
    site.open.clear()
    both = asyncio.gather(cache.prepare(site), cache.prepare(site))
    async with asyncio.timeout(60):
        while "another process is preparing Consul; waiting for it" not in cache.progress:
            await asyncio.sleep(0.01)
    site.open.set()
    first, second = await both
    assert first == second
    assert site.requests == [SUMS, ZIP]


async def test_a_zip_of_another_checksum_is_never_unzipped(site: Site, cache: Cache) -> None:
    ran = cache.folder.parent / "ran"
    site.release(zipped(consul=f"#!/bin/sh\n: > {ran}\necho 'Consul v{VERSION}'\n"), digest="00" * 32)
    with pytest.raises(MeshError, match=f"SHA256SUMS says {'00' * 32}; nothing of it was used"):
        await cache.prepare(site)
    assert not ran.exists()
    assert cache.files() == set()


async def test_a_missing_release_is_an_error_with_its_status(site: Site, cache: Cache) -> None:
    with pytest.raises(MeshError, match=f"cannot download {site.url}/{VERSION}/{SUMS}: HTTP 404"):
        await cache.prepare(site)
    assert [line.rpartition("; ")[2] for line in cache.progress] == ["building it instead"]
    assert cache.files() == set()


async def test_sums_without_the_zip_are_not_enough(site: Site, cache: Cache) -> None:
    site.release(zipped(consul=CONSUL))
    site.serve(SUMS, f"{'00' * 32}  another.zip\n".encode())
    with pytest.raises(MeshError, match=f"cannot verify {ZIP}"):
        await cache.prepare(site)
    assert site.requests == [SUMS]


async def test_a_broken_connection_leaves_nothing(site: Site, cache: Cache) -> None:
    archive = zipped(consul=CONSUL)
    site.release(archive)
    site.serve(ZIP, archive[:20], promised=len(archive))
    with pytest.raises(Unreachable, match=f"cannot download {site.url}/{VERSION}/{ZIP}: peer closed"):
        await cache.prepare(site)
    assert cache.files() == set()


async def test_a_truncated_zip_leaves_nothing(site: Site, cache: Cache) -> None:
    archive = zipped(consul=CONSUL)
    site.release(archive)
    site.serve(ZIP, archive[:-20])
    with pytest.raises(MeshError, match="cannot trust"):
        await cache.prepare(site)
    assert cache.files() == set()


@pytest.mark.parametrize("archive", [b"not a zip", zipped(readme="no consul in it")])
async def test_a_release_without_consul_in_it_is_refused(archive: bytes, site: Site, cache: Cache) -> None:
    site.release(archive)
    with pytest.raises(MeshError, match=f"cannot unpack {ZIP}"):
        await cache.prepare(site)


async def test_a_release_with_a_binary_of_another_version_is_refused(site: Site, cache: Cache) -> None:
    site.release(zipped(consul="#!/bin/sh\necho 'Consul v1.21.0'\n"))
    with pytest.raises(MeshError, match=r"it is Consul 1\.21\.0, not 1\.22\.5"):
        await cache.prepare(site)
    assert cache.files() == set()


async def test_a_site_that_stops_sending_is_given_up(site: Site, cache: Cache) -> None:
    site.release(zipped(consul=CONSUL))
    site.serve(ZIP, b"PK", promised=1_000_000)
    site.stalls.add(ZIP)
    with pytest.raises(Unreachable, match=f"{ZIP}: ReadTimeout"):
        await cache.prepare(site, stall_seconds=0.2)
    assert cache.files() == set()


async def test_a_download_that_never_ends_is_given_up(site: Site, cache: Cache) -> None:
    site.release(zipped(consul=CONSUL))
    site.serve(ZIP, b"PK", promised=1_000_000)
    site.stalls.add(ZIP)
    with pytest.raises(Unreachable, match="not done in 0 s"):
        await cache.prepare(site, download_seconds=0.2)
    assert cache.files() == set()


async def test_a_cancelled_download_leaves_nothing(site: Site, cache: Cache) -> None:
    site.release(zipped(consul=CONSUL))
    site.serve(ZIP, b"PK", promised=1_000_000)
    site.stalls.add(ZIP)
    preparing = asyncio.create_task(cache.prepare(site))
    async with asyncio.timeout(60):
        await site.stalled.wait()
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing
    assert cache.files() == set()


async def test_a_cancel_while_it_is_unpacked_leaves_nothing(site: Site, cache: Cache) -> None:
    site.release(zipped(consul=f"{CONSUL}exit\n" + "\0" * 64 * 1024 * 1024))
    preparing = asyncio.create_task(cache.prepare(site))
    async with asyncio.timeout(60):
        while not list(cache.folder.rglob(".making-*/consul")):
            await asyncio.sleep(0.005)
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing
    assert cache.files() == set()


async def test_a_mirror_may_redirect(site: Site, cache: Cache) -> None:
    site.release(zipped(consul=CONSUL))
    site.raw["elsewhere.zip"] = site.raw[ZIP]
    site.raw[ZIP] = (
        f"HTTP/1.1 302 Found\r\nLocation: {site.url}/elsewhere.zip\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ).encode()
    await cache.prepare(site)
    assert site.requests == [SUMS, ZIP, "elsewhere.zip"]


async def test_what_a_killed_process_left_is_removed_by_the_next(site: Site, cache: Cache) -> None:
    leftover = cache.folder / "consul" / VERSION / ".making-killed"
    leftover.mkdir(parents=True)
    (leftover / ZIP).write_text("half of it")
    site.release(zipped(consul=CONSUL))
    await cache.prepare(site)
    assert cache.files() == {f"consul/{VERSION}/consul"}
