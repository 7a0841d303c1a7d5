"""A secret of the catalog reaches the server that needs it, and nobody else."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.integration.mesh.conftest import FILED_SECRET, SECRET
from tests.integration.mesh.traffic import call, text_of
from tests.support.mesh import RealMesh

ROLES = ("agent", "consul", "gateway", "guard", "plain", "server", "shim", "sidecar")


def test_secrets_reach_the_server(mesh: RealMesh) -> None:
    said = json.loads(text_of(call(f"{mesh.ingress}/mcp/everything", "get-env")))
    assert said["WORD"] == SECRET
    assert said["TOKEN"] == FILED_SECRET


def test_secrets_stand_in_no_command_line(mesh: RealMesh) -> None:
    listed = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert "mcpmesh.shim" in listed
    assert SECRET not in listed
    assert FILED_SECRET not in listed


def test_secrets_stand_in_the_environment_of_their_server_and_its_agent_alone(mesh: RealMesh) -> None:
    roles = set()
    for pid in mesh.pids():
        with suppress(OSError):  # it has ended meanwhile
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            # By these very bytes: what is about to run another program has that one's role a moment later.
            role = next((role for role in ROLES if f'"role":"{role}"'.encode() in environment), "another")
            roles.add(role)
            # The agent has what it was started with: ${SECRET_WORD} is from there.
            assert SECRET.encode() not in environment or role in ("agent", "server"), role
            assert FILED_SECRET.encode() not in environment or role == "server", role
    assert roles >= {"agent", "server", "shim"}


def test_secrets_are_in_no_file_of_the_mesh_and_no_file_is_for_everybody(mesh: RealMesh) -> None:
    for folder, _, names in os.walk(mesh.home):
        for name in names:
            path = Path(folder, name)
            with suppress(FileNotFoundError):  # Consul writes some anew all the time
                content = path.read_bytes()
                assert SECRET.encode() not in content, path
                assert FILED_SECRET.encode() not in content, path
    assert stat.S_IMODE(mesh.home.stat().st_mode) == 0o700
    for path in [*mesh.home.glob("*"), *mesh.home.glob("logs/*"), *mesh.home.glob("envoy/*")]:
        with suppress(FileNotFoundError):
            assert not stat.S_IMODE(path.stat().st_mode) & stat.S_IRWXO, path


def test_secrets_are_in_no_answer_of_the_agent_and_of_consul(mesh: RealMesh) -> None:
    said = "".join(mesh.api("GET", path).text for path in ("/v1/status", "/v1/events", "/v1/logs/everything"))
    said += mesh.api("POST", "/v1/plan").text
    consul = (
        "agent/services",
        "catalog/services",
        "catalog/service/everything",
        "config/service-defaults",
        "kv/?recurse",
    )
    said += "".join(str(mesh.ask_consul(f"/v1/{path}")) for path in consul)
    for process in mesh.processes("sidecar", "everything"):
        said += mesh.ask_envoy(process, "/config_dump?include_eds")
    assert SECRET not in said
    assert FILED_SECRET not in said


def test_an_error_in_the_catalog_does_not_show_a_secret(mesh: RealMesh, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text('version: 1\nservices:\n  a: {command: "${SECRET_WORD}", instances: "${SECRET_WORD}"}\n')
    done = mesh.run("validate", str(bad), code=None)
    assert done.returncode != 0
    assert SECRET not in done.stdout + done.stderr
