"""The environment that kong/compose.sh gives Kong in compose.yaml, before the image's own entrypoint runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]


def environment(folder: Path, **given: str) -> dict[str, str]:
    """The environment that kong/compose.sh makes of the given one, in a container with the address 10.0.0.7."""
    getent = folder / "getent"
    getent.write_text("#!/bin/sh\necho 10.0.0.7 kong-edge\n")
    getent.chmod(0o755)
    script = ROOT / "kong" / "compose.sh"
    found = subprocess.run(
        ["/bin/sh", "-c", "trap env EXIT; . " + str(script)],
        env={"PATH": f"{folder}:{os.defpath}", **given},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return dict(line.split("=", 1) for line in found.stdout.splitlines())


def test_kong_answers_503_until_it_has_a_document(tmp_path: Path) -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["kong"]
    assert "./kong:/mcpmesh:ro" in service["volumes"]
    assert environment(tmp_path)["KONG_DECLARATIVE_CONFIG"] == "/mcpmesh/waiting.yml"
    (route,) = yaml.safe_load((ROOT / "kong" / "waiting.yml").read_text())["routes"]
    assert route["paths"] == ["/"] and route["plugins"][0]["config"]["status_code"] == 503


def test_kong_listens_on_mesh_edge_alone(tmp_path: Path) -> None:
    found = environment(tmp_path)
    assert (found["KONG_PROXY_LISTEN"], found["KONG_ADMIN_LISTEN"]) == ("10.0.0.7:8000", "10.0.0.7:8001")
    assert found["KONG_STATUS_LISTEN"] == found["KONG_ADMIN_GUI_LISTEN"] == "off"


def test_kong_creates_spans_only_when_it_is_told_to(tmp_path: Path) -> None:
    key = "KONG_TRACING_INSTRUMENTATIONS"
    # Compose passes an empty value where the user has set no URL for spans.
    assert environment(tmp_path, **{key: ""})[key] == "off"
    assert environment(tmp_path, **{key: "request,router,balancer"})[key] == "request,router,balancer"
