"""Which Consul is used, and which is ignored."""

from pathlib import Path

import pytest

from mcpmesh.consul.binary import Sources, find_or_make, is_supported, version_of
from mcpmesh.consul.release_download import expected_sum
from mcpmesh.errors import Broken, MeshError, SettingsError
from mcpmesh.kit.packaged_files import resource_path
from mcpmesh.settings import ConsulSettings

VERSION = "1.22.5"
DIGEST = "ab" * 32


def program(path: Path, answer: str, status: int = 0) -> Path:
    """An executable that gives `answer` to everything."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{answer}'\nexit {status}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH, empty."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def unreachable(tmp_path: Path) -> Sources:
    """No release within reach, and nothing to build."""
    pins = tmp_path / "pins"
    pins.mkdir()
    (pins / "go.mod").write_text("module pins\n\nrequire github.com/hashicorp/consul v0.0.1\n")
    (pins / "go.sum").touch()
    return Sources(releases="http://127.0.0.1:1/consul", build=pins)


def cached(cache: Path, answer: str = f"Consul v{VERSION}") -> Path:
    return program(cache / "consul" / VERSION / "consul", answer)


async def find(cache: Path, sources: Sources, configured: Path | None = None) -> tuple[Path, list[str]]:
    progress: list[str] = []
    found = await find_or_make(
        VERSION, cache_dir=cache, configured=configured, progress=progress.append, sources=sources
    )
    return found, progress


def test_the_build_and_the_settings_name_the_same_version() -> None:
    pinned = f"github.com/hashicorp/consul v{ConsulSettings().version} "
    assert pinned in (resource_path("consul/build") / "go.mod").read_text()


@pytest.mark.parametrize("version", ["1.21.0", "1.22.5", "1.22.7+ent"])
def test_version_of_the_range_is_supported(version: str) -> None:
    assert is_supported(version)


@pytest.mark.parametrize("version", ["1.20.9", "1.23.0", "2.0.0", "0.1.0", "nonsense"])
def test_nothing_outside_the_range_is_supported(version: str) -> None:
    assert not is_supported(version)


def test_a_sum_is_found_by_the_whole_name_of_the_file() -> None:
    sums = f"{'00' * 32}  consul.zip.sig\n{DIGEST.upper()} *consul.zip\n"
    assert expected_sum(sums, "consul.zip") == DIGEST


@pytest.mark.parametrize("sums", ["", "<html>not found</html>", f"{DIGEST}  other.zip", "abc  consul.zip"])
def test_a_file_that_is_not_listed_cannot_be_verified(sums: str) -> None:
    with pytest.raises(Broken, match=r"cannot verify consul\.zip"):
        expected_sum(sums, "consul.zip")


async def test_a_configured_program_wins_over_path_and_cache(path: Path, tmp_path: Path, unreachable: Sources) -> None:
    program(path / "consul", "Consul v1.22.4")
    cached(tmp_path / "cache")
    mine = program(tmp_path / "mine", "Consul v1.22.3")
    assert await find(tmp_path / "cache", unreachable, configured=mine) == (mine, [])


async def test_a_configured_version_outside_the_range_is_used_and_reported(
    path: Path, tmp_path: Path, unreachable: Sources
) -> None:
    mine = program(tmp_path / "mine", "Consul v1.30.0")
    found, progress = await find(tmp_path / "cache", unreachable, configured=mine)
    assert found == mine
    assert progress == [f"Consul 1.30.0 at {mine} is outside the supported range, >=1.21,<1.23; using it anyway"]


async def test_a_configured_program_that_is_not_consul_is_an_error(
    path: Path, tmp_path: Path, unreachable: Sources
) -> None:
    with pytest.raises(MeshError, match="not Consul's"):
        await find(tmp_path / "cache", unreachable, configured=program(tmp_path / "mine", "Nomad v1.9.0"))


async def test_a_configured_program_that_is_missing_is_an_error(
    path: Path, tmp_path: Path, unreachable: Sources
) -> None:
    with pytest.raises(MeshError, match="No such file"):
        await find(tmp_path / "cache", unreachable, configured=tmp_path / "mine")


async def test_a_program_that_prints_a_version_but_fails_is_not_consul(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match="not Consul's"):
        await version_of(program(tmp_path / "mine", "Consul v1.22.5", status=1))


async def test_a_supported_consul_on_path_wins_over_the_cache(path: Path, tmp_path: Path, unreachable: Sources) -> None:
    installed = program(path / "consul", "Consul v1.21.1")
    cached(tmp_path / "cache")
    assert await find(tmp_path / "cache", unreachable) == (installed, [])


async def test_an_unsupported_consul_on_path_is_ignored_and_reported(
    path: Path, tmp_path: Path, unreachable: Sources
) -> None:
    program(path / "consul", "Consul v1.15.0")
    in_cache = cached(tmp_path / "cache")
    found, progress = await find(tmp_path / "cache", unreachable)
    assert found == in_cache
    assert progress == [f"Consul 1.15.0 at {path / 'consul'} is outside the supported range, >=1.21,<1.23; ignoring it"]


async def test_another_program_named_consul_on_path_is_ignored(
    path: Path, tmp_path: Path, unreachable: Sources
) -> None:
    program(path / "consul", "a game console")
    in_cache = cached(tmp_path / "cache")
    found, progress = await find(tmp_path / "cache", unreachable)
    assert found == in_cache
    assert [line.rpartition("; ")[2] for line in progress] == ["ignoring it"]


async def test_a_damaged_cache_is_not_used(path: Path, tmp_path: Path, unreachable: Sources) -> None:
    cached(tmp_path / "cache", answer="")
    with pytest.raises(MeshError, match="cannot get Consul"):
        await find(tmp_path / "cache", unreachable)


async def test_when_every_source_fails_each_is_named_with_its_reason(
    path: Path, tmp_path: Path, unreachable: Sources
) -> None:
    with pytest.raises(MeshError) as caught:
        await find(tmp_path / "cache", unreachable)
    first, download, build, step = str(caught.value).splitlines()
    assert first.startswith("cannot get Consul 1.22.5; no supported one (>=1.21,<1.23) is on PATH")
    assert download.startswith("  - cannot download http://127.0.0.1:1/consul/1.22.5/consul_1.22.5_SHA256SUMS: ")
    assert build.startswith("  - cannot build Consul 1.22.5: ")
    assert "MCPMESH_CONSUL__BINARY" in step


async def test_a_cache_that_cannot_be_written_is_named(path: Path, tmp_path: Path, unreachable: Sources) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(MeshError, match=r"cannot keep Consul in .*cache"):
        await find(tmp_path / "cache", unreachable)


@pytest.mark.parametrize("version", ["../../etc", "1.22", "v1.22.5", ""])
async def test_a_malformed_version_is_an_error(version: str, tmp_path: Path, unreachable: Sources) -> None:
    with pytest.raises(SettingsError, match="a version looks like"):
        await find_or_make(version, cache_dir=tmp_path, configured=None, progress=print, sources=unreachable)
