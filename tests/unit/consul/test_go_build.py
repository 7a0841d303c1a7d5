"""The build of Consul with a stand-in for Go: a shell script that prints what `go build -v` prints."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mcpmesh.consul import go_build
from mcpmesh.errors import MeshError

VERSION = "1.22.5"
GO_MOD = f"module pins\n\ngo 1.25\n\nrequire github.com/hashicorp/consul v{VERSION} // indirect\n"


@dataclass
class Build:
    """One build below `folder`; its stand-in for Go is the only program on PATH beside the system's shell tools."""

    folder: Path
    progress: list[str] = field(default_factory=list)

    def go(self, script: str) -> None:
        """Makes `script` the program `go`; it may use $OUTPUT, the path after `-o`."""
        path = self.folder / "bin" / "go"
        find_output = 'for word; do [ "$before" != -o ] || OUTPUT=$word; before=$word; done\n'
        path.write_text(f'#!/bin/sh\nprintf \'%s\\n\' "$PWD" "$*" > {self.folder}/call\n{find_output}{script}\n')
        path.chmod(0o755)

    @property
    def call(self) -> list[str]:
        """The working directory and the arguments of the call."""
        return (self.folder / "call").read_text().splitlines()

    async def run(self, build_seconds: float = 60.0, progress_seconds: float = 0.01) -> Path:
        return await go_build.build(
            VERSION,
            self.folder / "scratch",
            self.progress.append,
            pins=self.folder / "pins",
            build_seconds=build_seconds,
            progress_seconds=progress_seconds,
        )


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    for name in ("bin", "scratch", "pins"):
        (tmp_path / name).mkdir()
    (tmp_path / "pins" / "go.mod").write_text(GO_MOD)
    (tmp_path / "pins" / "go.sum").write_text("sums\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.defpath}")
    return Build(tmp_path)


async def ended(pid_file: Path) -> None:
    """Returns when the process with the pid in that file has ended; its signal has been sent before."""
    process = Path("/proc", pid_file.read_text().strip(), "exe")
    async with asyncio.timeout(60):
        while process.exists():
            await asyncio.sleep(0.005)


async def test_the_pinned_module_is_built_from_a_copy_of_the_pins(build: Build) -> None:
    build.go('cat go.mod go.sum > "$OUTPUT"')
    binary = await build.run()
    assert binary == build.folder / "scratch" / "consul" and binary.read_text() == f"{GO_MOD}sums\n"
    folder, arguments = build.call
    assert folder == str(build.folder / "scratch" / "build")
    assert arguments == (f"build -v -mod=readonly -trimpath -ldflags -s -w -o {binary} github.com/hashicorp/consul")


async def test_the_build_has_no_cgo_no_workspace_and_its_own_temporary_folder(build: Build) -> None:
    build.go('printf "%s %s %s" "$CGO_ENABLED" "$GOWORK" "$GOTMPDIR" > "$OUTPUT"')
    assert (await build.run()).read_text() == f"0 off {build.folder / 'scratch' / 'tmp'}"


async def test_modules_and_packages_are_counted_in_the_progress(build: Build) -> None:
    build.go(
        "printf 'go: downloading a v1\\ngo: downloading b v1\\ninternal/cpu\\nexample.org/a\\nexample.org/b\\n' >&2\n"
        'touch "$OUTPUT"'
    )
    await build.run()
    first, *_, last = build.progress
    assert (
        first
        == f"building Consul {VERSION} with Go, once for this machine; some 2,000 packages, 10 minutes on two cores"
    )
    assert last == "building Consul: 0:00 elapsed, 2 modules downloaded, 3 packages compiled"


async def test_a_failure_is_reported_with_the_last_lines_of_output(build: Build) -> None:
    build.go('for number in 0 1 2 3 4 5 6 7 8; do echo "line: $number"; done >&2; exit 3')
    with pytest.raises(MeshError) as caught:
        await build.run()
    assert str(caught.value) == (
        f"cannot build Consul {VERSION}: go ended with 3; install Go 1.25 or later (https://go.dev/dl) and put it on "
        "PATH:\n" + "\n".join(f"    line: {number}" for number in range(1, 9))
    )


async def test_a_failure_without_output_says_so(build: Build) -> None:
    build.go("exit 1")
    with pytest.raises(MeshError, match=r"go ended with 1; .*:\n    no output$"):
        await build.run()


async def test_pins_of_another_version_are_refused(build: Build) -> None:
    (build.folder / "pins" / "go.mod").write_text(GO_MOD.replace(VERSION, f"{VERSION}9"))
    build.go("exit 1")
    with pytest.raises(MeshError, match=f"{re.escape(str(build.folder / 'pins' / 'go.mod'))} pins another version"):
        await build.run()
    assert not (build.folder / "call").exists()


async def test_without_go_the_next_step_is_named(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(build.folder / "bin"))
    with pytest.raises(MeshError, match=r"there is no `go` on PATH; install Go 1\.25 or later"):
        await build.run()


async def test_a_build_that_takes_too_long_is_ended_with_all_its_processes(build: Build) -> None:
    build.go(f"sleep 600 & echo $! > {build.folder}/child; wait")
    with pytest.raises(MeshError, match=f"cannot build Consul {VERSION}: not done in 0 s"):
        await build.run(build_seconds=0.3)
    await ended(build.folder / "child")


async def test_a_cancelled_build_ends_its_processes(build: Build) -> None:
    build.go(f"echo $$ > {build.folder}/pid; exec sleep 600")
    building = asyncio.create_task(build.run())
    async with asyncio.timeout(60):
        while not (build.folder / "pid").exists() or not (build.folder / "pid").read_text():
            await asyncio.sleep(0.005)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    await ended(build.folder / "pid")
