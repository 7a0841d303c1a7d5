"""Catalog files are checked, converted and described without any agent."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import yaml
from tests.unit.cli.conftest import Mesh

MCP = {"mcpServers": {"files": {"command": "cat", "env": {"TOKEN": "${TOKEN}"}}}}


def test_a_valid_catalog(mesh: Mesh) -> None:
    result = mesh.run("validate", str(mesh.catalog))
    assert (result.exit_code, result.stdout) == (0, f"{mesh.catalog}: valid, 1 service\n")
    printed = json.loads(mesh.run("validate", str(mesh.catalog), "--json").stdout)
    assert printed == {"valid": True, "problems": [], "services": ["files"], "warnings": []}


def test_every_mistake_has_its_line(mesh: Mesh) -> None:
    mesh.catalog.write_text("version: 1\nservices:\n  files:\n    comand: cat\n  time:\n    instances: many\n")
    result = mesh.run("validate", str(mesh.catalog))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"error: {mesh.catalog}:4: " in result.stderr
    assert f"error: {mesh.catalog}:6: " in result.stderr
    printed = json.loads(mesh.run("validate", str(mesh.catalog), "--json").stdout)
    assert printed["valid"] is False
    assert {problem["line"] for problem in printed["problems"]} >= {4, 6}


def test_a_secret_is_not_shown_by_any_of_it(mesh: Mesh) -> None:
    mesh.catalog.write_text("version: 1\nservices:\n  files:\n    command: cat\n    env: {KEY: hunter2}\n    x: 1\n")
    for options in ([], ["--json"]):
        result = mesh.run("validate", str(mesh.catalog), *options)
        assert result.exit_code == 2
        assert "hunter2" not in result.output


def test_an_import_is_as_private_as_its_source_and_can_be_used(mesh: Mesh) -> None:
    source, to = mesh.folder / ".mcp.json", mesh.folder / "new.yaml"
    source.write_text(json.dumps(MCP))
    source.chmod(0o600)
    result = mesh.run("import", str(source), "-o", str(to))
    assert result.exit_code == 0
    assert f"mcpmesh up -f {to}" in result.stdout
    assert stat.S_IMODE(to.stat().st_mode) == 0o600
    assert "${TOKEN}" in to.read_text()
    assert mesh.run("validate", str(to), TOKEN="x").exit_code == 0


def test_an_import_replaces_nothing_unasked(mesh: Mesh) -> None:
    source = mesh.folder / ".mcp.json"
    source.write_text(json.dumps(MCP))
    before = mesh.catalog.read_text()
    result = mesh.run("import", str(source), "-o", str(mesh.catalog))
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert mesh.catalog.read_text() == before
    assert mesh.run("import", str(source), "-o", str(mesh.catalog), "--force").exit_code == 0
    assert mesh.catalog.read_text() != before


def test_an_import_to_stdout_is_the_file_alone(mesh: Mesh) -> None:
    source = mesh.folder / ".mcp.json"
    source.write_text(json.dumps(MCP))
    result = mesh.run("import", str(source), "-o", "-")
    assert yaml.safe_load(result.stdout)["services"]["files"]["command"] == "cat"
    assert not (Path.cwd() / "-").exists()


def test_a_file_that_cannot_be_written_is_named(mesh: Mesh) -> None:
    source = mesh.folder / ".mcp.json"
    source.write_text(json.dumps(MCP))
    result = mesh.run("import", str(source), "-o", str(mesh.folder / "none" / "mesh.yaml"))
    assert result.exit_code == 2
    assert "cannot write it: No such file or directory" in result.stderr


def test_the_schema_is_json(mesh: Mesh) -> None:
    assert "services" in json.loads(mesh.run("schema").stdout)["properties"]
