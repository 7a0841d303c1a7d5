"""Which of the agent's folders containers get, and who owns them."""

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
from mcpmesh.workload.containers.container_naming import HostPaths
from mcpmesh.workload.containers.mounts import create_envoy_mounts, create_instance_mounts

SPEC = ServiceSpec("time", Stdio(command="", image="mcp/time", cwd=Path("/mesh")))
MARK = Mark("m", "/home", "shim", "m-time-1", "time")
HOST_PATHS = HostPaths({"/": "/", "/mesh": "/mesh"})


@pytest.fixture
def settings(tmp_path: Path) -> ContainerSettings:
    for name in ("sockets", "data"):
        (tmp_path / name).mkdir()
    own = f"{os.getuid()}:{os.getgid()}"
    return ContainerSettings(sockets=tmp_path / "sockets", data=tmp_path / "data", user=own)


@pytest.fixture
def stdio(tmp_path: Path) -> Path:
    """In place of mcpmesh-stdio: a program that runs for long."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    return Path(shutil.copy(sleep, tmp_path / "mcpmesh-stdio"))


@pytest.fixture
def running(settings: ContainerSettings, stdio: Path) -> Iterator[Path]:
    create_instance_mounts(SPEC, MARK, settings, HOST_PATHS, stdio)
    installed = settings.sockets / "bin" / stdio.name
    with subprocess.Popen([installed, "600"]) as process:
        yield installed
        process.kill()


def test_a_program_that_is_installed_already_is_not_replaced(
    settings: ContainerSettings, running: Path, stdio: Path
) -> None:
    before = running.stat().st_ino
    create_instance_mounts(SPEC, MARK, settings, HOST_PATHS, stdio)
    assert running.stat().st_ino == before


def test_a_newer_program_replaces_one_that_runs(settings: ContainerSettings, running: Path, stdio: Path) -> None:
    stdio.write_bytes(stdio.read_bytes() + b"newer")
    create_instance_mounts(SPEC, MARK, settings, HOST_PATHS, stdio)
    assert running.read_bytes() == stdio.read_bytes()
    assert os.access(running, os.X_OK)
    assert list(running.parent.iterdir()) == [running]


def test_folders_that_cannot_be_made_are_an_error_with_the_next_step(settings: ContainerSettings) -> None:
    missing = settings.model_copy(update={"sockets": settings.sockets / "away"})
    with pytest.raises(WorkloadError, match=r"cannot make the folders of m-time-1 .*see that the agent may write in"):
        create_instance_mounts(SPEC, MARK, missing, HOST_PATHS)
    with pytest.raises(WorkloadError, match="see that the agent may write in"):
        create_envoy_mounts(MARK, "{}", missing, HOST_PATHS)


@pytest.mark.parametrize("user", ["node", "1000:", "1000:staff", "-1"])
def test_a_user_that_is_no_number_is_an_error_with_the_name_of_its_setting(
    user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCPMESH_CONTAINERS__USER", user)
    with pytest.raises(SettingsError, match="MCPMESH_CONTAINERS__USER"):
        read_settings()


@pytest.mark.parametrize("user", ["1000", "1000:100"])
def test_a_user_is_a_number_with_or_without_a_group(user: str) -> None:
    assert ContainerSettings(user=user).user == user
