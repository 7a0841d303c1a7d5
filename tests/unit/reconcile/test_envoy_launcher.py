"""What an Envoy is started with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.plan.samples import INGRESS, INGRESS_ID, MESH

from mcpmesh.envoy import envoy_program
from mcpmesh.envoy.bootstrap import ConsulAddress
from mcpmesh.plan.actions import StartSidecar
from mcpmesh.reconcile.envoy_launcher import EnvoyLauncher
from mcpmesh.settings import EnvoySettings

# Prints a bootstrap that has the arguments of the call.
CONSUL = """#!/bin/sh
printf '{"arguments": "%s"}' "$*"
"""


def launcher(folder: Path) -> EnvoyLauncher:
    consul = folder / "consul"
    consul.write_text(CONSUL)
    consul.chmod(0o700)
    address = ConsulAddress(consul, "http://127.0.0.1:8500", "127.0.0.1:8502")
    return EnvoyLauncher(MESH, folder, address, Path("/bin/envoy"), EnvoySettings(concurrency=3, drain_seconds=4))


def test_the_command_line_has_the_settings(tmp_path: Path) -> None:
    launch = launcher(tmp_path).launch(StartSidecar("id", "id-sidecar", "files", 20002))
    path = tmp_path / "bootstrap.json"
    assert list(launch.arguments(path)) == envoy_program.arguments(
        Path("/bin/envoy"), path, concurrency=3, drain_seconds=4
    )


@pytest.mark.parametrize(
    ("action", "proxy", "gateway"),
    [
        (StartSidecar("id", "id-sidecar", "files", 20002), "id-sidecar", False),
        (StartSidecar(INGRESS_ID, INGRESS_ID, INGRESS, 8000, gateway=True), INGRESS_ID, True),
    ],
)
async def test_the_bootstrap_is_that_of_the_registered_proxy(
    tmp_path: Path, action: StartSidecar, proxy: str, gateway: bool
) -> None:
    arguments = json.loads(await launcher(tmp_path).launch(action).bootstrap(19000))["arguments"]
    assert f"-proxy-id {proxy} -admin-bind 127.0.0.1:19000" in arguments
    assert ("-gateway api" in arguments) is gateway
