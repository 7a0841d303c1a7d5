"""compose.yaml in a new checkout, under a strict umask."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.e2e.composed import ROOT, docker
from tests.support.ports import OWN_PORTS

SOMEBODY = 1000


@pytest.mark.parametrize("over", [[], ["compose.api-gateway.yaml"], ["compose.proxy.yaml"]])
def test_our_image_is_never_pulled(over: list[str]) -> None:
    files = [word for name in ("compose.yaml", *over) for word in ("--file", str(ROOT / name))]
    found = json.loads(docker("compose", "--env-file", os.devnull, *files, "config", "--format", "json"))["services"]
    ours = {name: service for name, service in found.items() if service["image"] == "mcpmesh:local"}
    assert {name: service.get("pull_policy") for name, service in ours.items()} == dict.fromkeys(ours, "never")
    assert ours.keys() >= {"agent", "servers"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_consul_starts_from_a_checkout_that_only_its_owner_may_read(alone: None, tmp_path: Path) -> None:
    shutil.copy(ROOT / "compose.yaml", tmp_path)
    shutil.copytree(ROOT / "consul", tmp_path / "consul")
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY)
        path.chmod(0o700 if path.is_dir() else 0o600)
    environment = {
        **os.environ,
        "COMPOSE_PROJECT_NAME": f"mcpmesh-checkout-{os.urandom(4).hex()}",
        "CONSUL_PORT": str(OWN_PORTS.take()),
    }

    def compose(*words: str) -> subprocess.CompletedProcess[str]:
        argv = ["docker", "compose", *words]
        return subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    try:
        done = compose("up", "-d", "--no-deps", "--wait", "consul")
        assert done.returncode == 0, done.stderr + compose("logs", "consul").stdout
    finally:
        compose("down", "-v")
