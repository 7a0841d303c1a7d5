"""Help is quick, has examples and fits 80 columns; completion is quick and silent."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.api.fake_operations import FILES, STATUS
from tests.unit.cli.conftest import Agent, Mesh, until

from mcpmesh.cli import exit_codes
from mcpmesh.cli.app import app

COMMANDS = [command.name for command in app.registered_commands if command.name]
DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS)])
def test_help_fits_80_columns_and_has_an_example(mesh: Mesh, command: list[str]) -> None:
    result = mesh.run(*command, "--help")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    if command not in (["pause"], ["resume"], ["reload"]):
        assert "\n    mcpmesh " in result.stdout or "| mcpmesh " in result.stdout
    assert "..." not in result.stdout.replace("]...", "").replace("}...", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json_and_is_documented(mesh: Mesh, command: str) -> None:
    assert "--json" in mesh.run(command, "--help").stdout
    assert f"mcpmesh {command}" in (DOCS / "cli.md").read_text()


def test_exit_codes_are_in_help_and_in_the_documentation(mesh: Mesh) -> None:
    shown, written = mesh.run("--help").stdout, (DOCS / "cli.md").read_text()
    for code, meaning in exit_codes.TABLE:
        assert f"{code:>5}  {meaning}" in shown
        assert f"| {code} | {meaning} |" in written


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "import mcpmesh.cli.app\n"
        "heavy = {'pydantic', 'httpx', 'fastapi', 'uvicorn', 'asyncio', 'rich.console', 'yaml', 'consul', 'uvloop'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


def test_the_version(mesh: Mesh) -> None:
    assert mesh.run("--version").stdout.startswith("mcpmesh 0.")
    for arguments in (["--json", "--version"], ["--version", "--json"]):
        assert json.loads(mesh.run(*arguments).stdout)["version"].startswith("0.")


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_without_a_command_it_shows_its_help(mesh: Mesh, arguments: list[str]) -> None:
    result = mesh.run(*arguments)
    assert result.exit_code == 2
    assert "Usage: mcpmesh" in result.output


def complete(mesh: Mesh, words: str) -> list[str]:
    """The words that bash would offer for the last word."""
    environment = {"_MCPMESH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    with mesh.start(stderr=subprocess.PIPE, **environment) as shell:
        assert shell.stdout is not None and shell.stderr is not None
        words_offered = shell.stdout.read().split()
        assert shell.stderr.read() == ""
    return words_offered


def test_the_shell_completes_services_and_tools_of_the_running_mesh(mesh: Mesh, agent: Agent) -> None:
    agent.operations.mesh_status = replace(STATUS, services=(FILES, replace(FILES, name="time")))
    # Completion gives up on an agent that stalls for a second.
    until(lambda: complete(mesh, "mcpmesh logs fi") == ["files"])
    until(lambda: complete(mesh, "mcpmesh verify ") == ["files", "time"])
    until(lambda: complete(mesh, "mcpmesh call files read") == ["read_file"])
    assert complete(mesh, "mcpmesh sta") == ["status"]


def test_completion_is_silent_without_an_agent(mesh: Mesh) -> None:
    assert complete(mesh, "mcpmesh logs fi") == []


def test_completion_is_silent_about_another_mesh(mesh: Mesh, agent: Agent) -> None:
    assert complete(mesh, "mcpmesh --name other logs fi") == []
    until(lambda: complete(mesh, "mcpmesh --name default logs fi") == ["files"])
