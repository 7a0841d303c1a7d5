"""The settings in `.env` reach the agent."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.composed import ROOT

from mcpmesh.catalog.loader import load
from mcpmesh.ingress.kong.plugins import plugins
from mcpmesh.model.service import Stdio
from mcpmesh.settings import read_settings


def services(folder: Path) -> dict[str, Any]:
    """compose.yaml as Compose reads it for a project in `folder`."""
    words = ["docker", "compose", "-f", str(ROOT / "compose.yaml"), "--project-directory", str(folder)]
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_CONFIG") if name in os.environ}
    done = subprocess.run(
        [*words, "config", "--format", "json"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


def of_agent(folder: Path) -> dict[str, str]:
    """The environment of the agent."""
    # Compose prints it escaped, as it would read it again.
    return {name: value.replace("$$", "$") for name, value in services(folder)["agent"]["environment"].items()}


def put_on(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MCPMESH_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_a_setting_in_env_is_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(
        "MCPMESH_KONG__KEY_AUTH=true\nMCPMESH_CONTAINERS__MEMORY_MEBIBYTES=300\nLOG_LEVEL=debug\n"
    )
    put_on(of_agent(tmp_path), monkeypatch)
    settings = read_settings()
    assert "key-auth" in [plugin["name"] for plugin in plugins(settings.kong)]
    assert settings.containers.memory_mebibytes == 300
    assert settings.agent.log_level == "debug"


def test_a_variable_in_env_is_available_to_the_catalog(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ZONE='Asia/$Tokyo'\n")
    catalog = tmp_path / "mesh.yaml"
    catalog.write_text('{version: 1, services: {time: {command: clock, args: ["${ZONE}"]}}}')
    start = load([catalog], of_agent(tmp_path)).services["time"].start
    assert isinstance(start, Stdio) and start.args == ("Asia/$Tokyo",)


def test_settings_that_compose_yaml_sets_take_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = of_agent(tmp_path)
    (tmp_path / ".env").write_text("MCPMESH_RUNTIME=processes\nMCPMESH_CONSUL__ADDRESS=http://elsewhere:8500\n")
    assert of_agent(tmp_path) == without
    put_on(without, monkeypatch)
    assert read_settings().runtime == "containers"


def test_env_reaches_only_the_agent(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TOKEN=correct-horse\n")
    found = services(tmp_path)
    assert [name for name, service in found.items() if "correct-horse" in json.dumps(service)] == ["agent"]
