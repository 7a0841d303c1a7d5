"""The download of a release, from a site on loopback that behaves well or badly."""

import asyncio
import hashlib
import io
import platform
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


def packed(**members: str) -> bytes:
    """A zip of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


@dataclass
class Site:
    """A release site: `raw` answers as they are; what isn't there is a 404; `stalls` after these, and before any
    answer while `open` is not set.
    """

    port: int = 0
    raw: dict[str, bytes] = field(default_factory=dict)
    stalls: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
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
            self.asked.append(name)
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
    said: list[str] = field(default_factory=list)

    async def prepare(self, site: Site, stall_seconds: float = 30.0, download_seconds: float = 60.0) -> Path:
        sources = Sources(
            releases=site.url, stall_seconds=stall_seconds, download_seconds=download_seconds, progress_seconds=0
        )
        return await find_or_make(
            VERSION, cache_dir=self.folder, configured=None, progress=self.said.append, sources=sources
        )

    def files(self) -> set[str]:
        """What is kept, the lock aside."""
        return {
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.is_file() and path.stat().st_size
        }


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


async def test_a_release_is_downloaded_verified_and_kept(site: Site, cache: Cache) -> None:
    archive = packed(**{"LICENSE.txt": "x", "consul": CONSUL})
    site.release(archive)
    found = await cache.prepare(site)
    assert found == cache.folder / "consul" / VERSION / "consul"
    assert found.read_text() == CONSUL
    assert found.stat().st_mode & 0o777 == 0o755
    assert cache.files() == {f"consul/{VERSION}/consul"}
    assert site.asked == [SUMS, ZIP]
    assert cache.said[0] == f"downloading {site.url}/{VERSION}/{ZIP}"
    assert cache.said[-1] == f"Consul {VERSION} is at {found}"


async def test_the_progress_names_what_is_there_and_what_is_to_come_in_mib(site: Site, cache: Cache) -> None:
    noise = hashlib.shake_128(b"noise").hexdigest(1024 * 1024)
    site.release(packed(consul=f"{CONSUL}exit\n{noise}"))
    await cache.prepare(site)
    assert "downloading Consul: 1.1 of 1.1 MiB" in cache.said


async def test_what_was_downloaded_is_not_asked_for_again(site: Site, cache: Cache) -> None:
    site.release(packed(consul=CONSUL))
    await cache.prepare(site)
    site.asked.clear()
    cache.said.clear()
    await cache.prepare(site)
    assert (site.asked, cache.said) == ([], [])


async def test_two_at_once_download_it_once(site: Site, cache: Cache) -> None:
    site.release(packed(consul=CONSUL))
    site.open.clear()
    both = asyncio.gather(cache.prepare(site), cache.prepare(site))
    async with asyncio.timeout(60):
        while "another process is preparing Consul; waiting for it" not in cache.said:
            await asyncio.sleep(0.01)
    site.open.set()
    first, second = await both
    assert first == second
    assert site.asked == [SUMS, ZIP]


async def test_a_zip_of_another_checksum_is_never_unpacked(site: Site, cache: Cache) -> None:
    ran = cache.folder.parent / "ran"
    site.release(packed(consul=f"#!/bin/sh\n: > {ran}\necho 'Consul v{VERSION}'\n"), digest="00" * 32)
    with pytest.raises(MeshError, match=f"SHA256SUMS says {'00' * 32}; nothing of it was used"):
        await cache.prepare(site)
    assert not ran.exists()
    assert cache.files() == set()


async def test_a_release_that_is_not_there_is_named_with_its_status(site: Site, cache: Cache) -> None:
    with pytest.raises(MeshError, match=f"cannot download {site.url}/{VERSION}/{SUMS}: HTTP 404"):
        await cache.prepare(site)
    assert cache.files() == set()


async def test_sums_without_the_zip_are_not_enough(site: Site, cache: Cache) -> None:
    site.release(packed(consul=CONSUL))
    site.serve(SUMS, f"{'00' * 32}  another.zip\n".encode())
    with pytest.raises(MeshError, match=f"cannot verify {ZIP}"):
        await cache.prepare(site)
    assert site.asked == [SUMS]


async def test_a_connection_that_is_cut_leaves_nothing(site: Site, cache: Cache) -> None:
    archive = packed(consul=CONSUL)
    site.release(archive)
    site.serve(ZIP, archive[:20], promised=len(archive))
    with pytest.raises(Unreachable, match=f"cannot download {site.url}/{VERSION}/{ZIP}: peer closed"):
        await cache.prepare(site)
    assert cache.files() == set()


async def test_a_zip_that_is_cut_and_claims_to_be_whole_leaves_nothing(site: Site, cache: Cache) -> None:
    archive = packed(consul=CONSUL)
    site.release(archive)
    site.serve(ZIP, archive[:-20])
    with pytest.raises(MeshError, match="cannot trust"):
        await cache.prepare(site)
    assert cache.files() == set()


@pytest.mark.parametrize("archive", [b"not a zip", packed(readme="no consul in it")])
async def test_a_release_without_consul_in_it_is_refused(archive: bytes, site: Site, cache: Cache) -> None:
    site.release(archive)
    with pytest.raises(MeshError, match=f"cannot unpack {ZIP}"):
        await cache.prepare(site)


async def test_a_release_of_another_version_than_it_says_is_refused(site: Site, cache: Cache) -> None:
    site.release(packed(consul="#!/bin/sh\necho 'Consul v1.21.0'\n"))
    with pytest.raises(MeshError, match=r"it is Consul 1\.21\.0, not 1\.22\.5"):
        await cache.prepare(site)
    assert cache.files() == set()


async def test_a_site_that_falls_silent_is_given_up(site: Site, cache: Cache) -> None:
    site.release(packed(consul=CONSUL))
    site.serve(ZIP, b"PK", promised=1_000_000)
    site.stalls.add(ZIP)
    with pytest.raises(Unreachable, match=f"{ZIP}: ReadTimeout"):
        await cache.prepare(site, stall_seconds=1.0)
    assert cache.files() == set()


async def test_a_download_has_an_end_even_where_the_site_is_never_silent_for_long(site: Site, cache: Cache) -> None:
    site.release(packed(consul=CONSUL))
    site.serve(ZIP, b"PK", promised=1_000_000)
    site.stalls.add(ZIP)
    with pytest.raises(Unreachable, match="not done in 0 s"):
        await cache.prepare(site, download_seconds=0.4)
    assert cache.files() == set()


async def test_a_cancelled_download_leaves_nothing(site: Site, cache: Cache) -> None:
    site.release(packed(consul=CONSUL))
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
    site.release(packed(consul=f"{CONSUL}exit\n" + "\0" * 256 * 1024 * 1024))
    preparing = asyncio.create_task(cache.prepare(site))
    async with asyncio.timeout(60):
        while not list(cache.folder.rglob(".making-*/consul")):
            await asyncio.sleep(0.005)
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing
    assert cache.files() == set()


async def test_a_mirror_may_redirect(site: Site, cache: Cache) -> None:
    site.release(packed(consul=CONSUL))
    site.raw["elsewhere.zip"] = site.raw[ZIP]
    site.raw[ZIP] = (
        f"HTTP/1.1 302 Found\r\nLocation: {site.url}/elsewhere.zip\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ).encode()
    await cache.prepare(site)
    assert site.asked == [SUMS, ZIP, "elsewhere.zip"]


async def test_what_a_killed_maker_left_is_removed_by_the_next(site: Site, cache: Cache) -> None:
    left = cache.folder / "consul" / VERSION / ".making-killed"
    left.mkdir(parents=True)
    (left / ZIP).write_text("half of it")
    site.release(packed(consul=CONSUL))
    await cache.prepare(site)
    assert cache.files() == {f"consul/{VERSION}/consul"}
