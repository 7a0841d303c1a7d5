"""What containers are given of the agent's folders, and whose it is."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcpmesh.errors import SettingsError, WorkloadError
from mcpmesh.kit.marked_process import Mark
from mcpmesh.model.service import ServiceSpec, Stdio
from mcpmesh.settings import ContainerSettings, read_settings
from mcpmesh.workload.containers import layout, mounts
from mcpmesh.workload.containers.layout import HostPaths

SPEC = ServiceSpec("time", Stdio(command="", image="mcp/time", cwd=Path("/mesh")))
MARK = Mark("m", "/home", "shim", "m-time-1", "time")
PLACE = HostPaths({"/": "/", "/mesh": "/mesh"})


@pytest.fixture
def settings(tmp_path: Path) -> ContainerSettings:
    for name in ("sockets", "data"):
        (tmp_path / name).mkdir()
    own = f"{os.getuid()}:{os.getgid()}"
    return ContainerSettings(sockets=tmp_path / "sockets", data=tmp_path / "data", user=own)


@pytest.fixture
def stdio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What serves the program of an image; here one that runs for long."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    program = Path(shutil.copy(sleep, tmp_path / "mcpmesh-stdio"))
    monkeypatch.setattr(layout, "STDIO", str(program))
    return program


@pytest.fixture
def running(settings: ContainerSettings, stdio: Path) -> Iterator[Path]:
    mounts.of_instance(SPEC, MARK, settings, PLACE)
    given = settings.sockets / "bin" / stdio.name
    with subprocess.Popen([given, "600"]) as process:
        yield given
        process.kill()


def test_another_image_is_given_the_program_that_an_earlier_one_runs(
    settings: ContainerSettings, running: Path
) -> None:
    was = running.stat().st_ino
    mounts.of_instance(SPEC, MARK, settings, PLACE)
    assert running.stat().st_ino == was


def test_a_newer_program_takes_the_place_of_one_that_runs(
    settings: ContainerSettings, running: Path, stdio: Path
) -> None:
    stdio.write_bytes(stdio.read_bytes() + b"newer")
    mounts.of_instance(SPEC, MARK, settings, PLACE)
    assert running.read_bytes() == stdio.read_bytes()
    assert os.access(running, os.X_OK)
    assert list(running.parent.iterdir()) == [running]


def test_folders_that_cannot_be_made_are_told_with_the_next_step(settings: ContainerSettings) -> None:
    away = settings.model_copy(update={"sockets": settings.sockets / "away"})
    with pytest.raises(WorkloadError, match=r"cannot make the folders of m-time-1 .*see that the agent may write in"):
        mounts.of_instance(SPEC, MARK, away, PLACE)
    with pytest.raises(WorkloadError, match="see that the agent may write in"):
        mounts.of_envoy(MARK, "{}", away, PLACE)


@pytest.mark.parametrize("user", ["node", "1000:", "1000:staff", "-1"])
def test_a_user_that_is_no_number_is_told_by_the_name_of_its_setting(
    user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCPMESH_CONTAINERS__USER", user)
    with pytest.raises(SettingsError, match="MCPMESH_CONTAINERS__USER"):
        read_settings()


@pytest.mark.parametrize("user", ["1000", "1000:100"])
def test_a_user_is_a_number_with_or_without_its_group(user: str) -> None:
    assert ContainerSettings(user=user).user == user
