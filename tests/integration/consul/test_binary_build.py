"""The build with the real Go, of a small module that goes by Consul's name and comes from a folder.

The build of Consul itself takes 10 minutes; `make setup` makes it where no
release is within reach.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mcpmesh.consul.binary import Sources, find_or_make
from mcpmesh.errors import MeshError

VERSION = "1.22.5"
MODULE = "github.com/hashicorp/consul"
# println needs no other package, so that this compiles in a second or two.
CONSUL = f'package main\n\nfunc main() {{ println("Consul v{VERSION}") }}\n'


def publish(proxy: Path, source: str) -> None:
    """A module proxy in the folder `proxy` that has the one version of the one module."""
    versions = proxy / MODULE / "@v"
    versions.mkdir(parents=True)
    (versions / f"v{VERSION}.info").write_text(f'{{"Version": "v{VERSION}"}}')
    (versions / f"v{VERSION}.mod").write_text(f"module {MODULE}\n\ngo 1.21\n")
    with zipfile.ZipFile(versions / f"v{VERSION}.zip", "w") as archive:
        archive.writestr(f"{MODULE}@v{VERSION}/go.mod", f"module {MODULE}\n\ngo 1.21\n")
        archive.writestr(f"{MODULE}@v{VERSION}/main.go", source)


@dataclass
class Builder:
    """The folders of one test's build, with a module cache of its own."""

    folder: Path
    environment: pytest.MonkeyPatch
    progress: list[str] = field(default_factory=list)

    @property
    def cache(self) -> Path:
        return self.folder / "mcpmesh"

    def pin(self, source: str) -> None:
        """A go.mod and a go.sum for `source`, as Go itself writes them; the module cache is empty afterwards."""
        publish(self.folder / "proxy", source)
        self.fetch_from((self.folder / "proxy").as_uri())
        pins = self.folder / "pins"
        pins.mkdir()
        (pins / "go.mod").write_text(f"module pins\n\ngo 1.21\n\nrequire {MODULE} v{VERSION} // indirect\n")
        subprocess.run(["go", "mod", "download", f"{MODULE}@v{VERSION}"], cwd=pins, check=True, timeout=120)
        shutil.rmtree(self.folder / "modules")

    def fetch_from(self, proxy: str) -> None:
        """Makes Go download modules only from the address `proxy`."""
        self.environment.setenv("GOPROXY", proxy)

    def sources(self) -> Sources:
        return Sources(releases="http://127.0.0.1:1/consul", build=self.folder / "pins", progress_seconds=0.2)

    async def prepare_by_command(self) -> asyncio.subprocess.Process:
        """Runs the build as a program of its own, with the real consul/build."""
        settings = {"XDG_CACHE_HOME": str(self.folder), "MCPMESH_CONSUL__RELEASE_URL": "http://127.0.0.1:1/consul"}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mcpmesh.consul.binary", env=os.environ | settings, stderr=asyncio.subprocess.PIPE
        )

    async def prepare(self) -> Path:
        return await find_or_make(
            VERSION, cache_dir=self.cache, configured=None, progress=self.progress.append, sources=self.sources()
        )

    def processes(self) -> set[int]:
        """The live processes of this build."""
        mark = f"GOTMPDIR={self.folder}".encode()
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes():
                    found.add(int(process.name))
            except OSError:  # another user's, or gone meanwhile
                continue
        return found

    def left(self) -> list[Path]:
        """The files that the build left."""
        return list(self.cache.rglob(".making-*"))


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    """A builder that finds Go on PATH, and no Consul."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("go", "setpriv"):
        found = shutil.which(name)
        assert found is not None, f"{name} is missing: these tests build for real"
        (tools / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))
    environment = {"GOMODCACHE": str(tmp_path / "modules"), "GOFLAGS": "-modcacherw", "GONOSUMDB": "*"}
    # Unless its telemetry is off, Go starts a process once a day that outlives it.
    (tmp_path / "config/go/telemetry").mkdir(parents=True)
    (tmp_path / "config/go/telemetry/mode").write_text("off")
    environment["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Builder(tmp_path, monkeypatch)


async def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Returns when `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.02)


@pytest.fixture
async def silent(builder: Builder) -> AsyncIterator[asyncio.Event]:
    """A module proxy that never answers; set once it gets a request."""
    builder.pin(CONSUL)
    asked = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        try:
            while await reader.read(1024):
                pass
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        builder.fetch_from(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        yield asked


async def test_without_a_release_consul_is_built_with_go(builder: Builder) -> None:
    builder.pin(CONSUL)
    found = await builder.prepare()
    assert found == builder.cache / "consul" / VERSION / "consul"
    assert builder.progress[0].startswith("cannot download http://127.0.0.1:1/consul/")
    assert builder.progress[1].startswith(f"building Consul {VERSION} with Go, once for this machine")
    assert builder.progress[-1] == f"Consul {VERSION} is at {found}"
    elapsed = [line for line in builder.progress if " elapsed, " in line]
    assert elapsed, "no line of progress"
    assert elapsed[-1].endswith("packages compiled")
    assert builder.left() == []
    builder.progress.clear()
    assert await builder.prepare() == found
    assert builder.progress == []


async def test_a_module_with_another_checksum_is_not_built(builder: Builder) -> None:
    builder.pin(CONSUL)
    shutil.rmtree(builder.folder / "proxy")
    publish(builder.folder / "proxy", CONSUL + "\n// and more\n")
    with pytest.raises(MeshError, match="checksum mismatch"):
        await builder.prepare()
    assert builder.left() == []


async def test_a_failed_build_shows_the_output_of_go(builder: Builder) -> None:
    builder.pin("package main\n\nfunc main() { undefined() }\n")
    with pytest.raises(MeshError, match=r"go ended with 1; (.|\n)*main\.go:3:15: undefined: undefined"):
        await builder.prepare()
    assert builder.left() == []


async def test_a_cancelled_build_leaves_neither_processes_nor_files(builder: Builder, silent: asyncio.Event) -> None:
    building = asyncio.create_task(builder.prepare())
    async with asyncio.timeout(120):
        await silent.wait()
    assert builder.processes()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    # The processes that Go has started end with it, a moment later.
    await until(lambda: not builder.processes())
    assert builder.left() == []


async def test_a_waiting_process_takes_over_when_the_building_one_is_killed(
    builder: Builder, silent: asyncio.Event
) -> None:
    first = await builder.prepare_by_command()
    async with asyncio.timeout(120):
        await silent.wait()
    second = asyncio.create_task(builder.prepare())
    await until(lambda: "another process is preparing Consul; waiting for it" in builder.progress)
    builder.fetch_from((builder.folder / "proxy").as_uri())
    first.kill()
    await first.communicate()
    assert await second == builder.cache / "consul" / VERSION / "consul"
    await until(lambda: not builder.processes())
    assert builder.left() == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_the_command_stops_in_order_on_sigterm(
    number: signal.Signals, status: int, builder: Builder, silent: asyncio.Event
) -> None:
    maker = await builder.prepare_by_command()
    async with asyncio.timeout(120):
        await silent.wait()
        maker.send_signal(number)
        _, progress = await maker.communicate()
    assert maker.returncode == status
    assert b"Traceback" not in progress
    await until(lambda: not builder.processes())
    assert builder.left() == []
