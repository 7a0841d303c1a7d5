"""The commands that ask the agent, and the output and exit codes that scripts rely on."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from tests.unit.cli.conftest import SECONDS, Agent, Mesh, read_until

from mcpmesh.errors import CatalogError, Problem, Refused, Unreachable
from mcpmesh.model.agent_reports import Claim, Step, Tool

FAILED = Claim("time", "its port is the shim's", False, "connected to 11105: nobody listens", "mcpmesh logs time")


def test_verify_shows_each_claim_with_its_evidence(mesh: Mesh, agent: Agent) -> None:
    result = mesh.run("verify")
    assert result.exit_code == 0
    assert result.stdout == "✓ files: it answers\n  tools/list gave 14\n1 claim, 0 failed\n"


def test_verify_names_the_next_step_of_what_failed(mesh: Mesh, agent: Agent) -> None:
    agent.operations.claims.append(FAILED)
    result = mesh.run("verify", "files")
    assert result.exit_code == 1
    assert result.stdout.endswith(
        "✗ time: its port is the shim's\n  connected to 11105: nobody listens\n  next: mcpmesh logs time\n"
        "2 claims, 1 failed\n"
    )
    assert agent.operations.asked == [("verify", "files")]


def test_verify_as_json_ends_with_a_summary(mesh: Mesh, agent: Agent) -> None:
    agent.operations.claims.append(FAILED)
    result = mesh.run("verify", "--json")
    assert result.exit_code == 1
    printed = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.get("ok") for line in printed] == [True, False, None]
    assert printed[-1] == {"summary": {"claims": 2, "failed": 1}}


def test_verify_that_ends_early_is_an_error(mesh: Mesh, agent: Agent) -> None:
    agent.operations.late_error = Unreachable("cannot reach Consul: gone")
    result = mesh.run("verify")
    assert result.exit_code == 6
    assert "error: cannot reach Consul: gone" in result.stderr
    assert "0 failed" not in result.stdout


def test_the_document_for_kong_is_printed_as_yaml_without_secrets(mesh: Mesh, agent: Agent) -> None:
    result = mesh.run("ingress", "render")
    assert result.exit_code == 0
    assert result.stdout == "_format_version: '3.0'\nservices: []\nconsumers:\n- username: '***'\n"
    assert agent.operations.asked == [("ingress_document", False)]


def test_the_document_for_kong_is_printed_as_json_with_secrets_where_asked(mesh: Mesh, agent: Agent) -> None:
    result = mesh.run("ingress", "render", "--secrets", "--json")
    assert json.loads(result.stdout)["consumers"] == [{"username": "ada"}]


def test_without_kong_there_is_no_document_and_the_next_step_is_named(mesh: Mesh, agent: Agent) -> None:
    agent.operations.error = Refused("cannot render a document: the ingress is Consul's API gateway")
    result = mesh.run("ingress", "render")
    assert result.exit_code == 6 and "API gateway" in result.stderr


def test_tools_are_listed_by_service(mesh: Mesh, agent: Agent) -> None:
    agent.operations.offered.append(Tool("time", "now"))
    result = mesh.run("tools")
    assert result.exit_code == 0
    assert result.stdout == "files (1 tool)\n  read_file  Reads a file.\ntime (1 tool)\n  now  \n"


def test_tools_with_their_schema(mesh: Mesh, agent: Agent) -> None:
    result = mesh.run("tools", "files", "--schema")
    assert '      "type": "object",\n' in result.stdout
    assert json.loads(mesh.run("tools", "--json").stdout)["tools"][0]["input_schema"]["type"] == "object"


def test_logs_are_shown_as_they_are(mesh: Mesh, agent: Agent) -> None:
    agent.operations.log = ["[red]not markup[/red]", ":smile: é " + "x" * 200, ""]
    result = mesh.run("logs", "files", "-n", "5")
    assert result.exit_code == 0
    assert result.stdout == "\n".join(agent.operations.log) + "\n"
    assert agent.operations.asked == [("logs", "files", 5, False)]
    printed = [json.loads(line) for line in mesh.run("logs", "files", "--json").stdout.splitlines()]
    assert printed == [{"line": line} for line in agent.operations.log]


def test_followed_logs_end_by_interrupt(mesh: Mesh, agent: Agent) -> None:
    with mesh.start("logs", "files", "-f") as following:
        read_until(following, "second line")
        following.send_signal(signal.SIGINT)
        assert following.wait(SECONDS) == 0


def test_a_pipe_that_closes_is_no_error(mesh: Mesh, agent: Agent) -> None:
    agent.operations.log = ["a line"] * 100_000
    with mesh.start("logs", "files", "-n", "100000", stderr=subprocess.PIPE) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        reading.stdout.readline()
        reading.stdout.close()
        assert "Traceback" not in reading.stderr.read()
        reading.wait(SECONDS)


def test_plan_says_what_it_would_do(mesh: Mesh, agent: Agent) -> None:
    agent.operations.steps = [Step("files", "start files-3"), Step("time", "wait for Consul", waiting=True)]
    result = mesh.run("plan", "-f", str(mesh.catalog))
    assert result.exit_code == 0
    assert result.stdout == "~ files: start files-3\n… time: wait for Consul\n1 step to do; nothing was done\n"
    assert agent.operations.asked == [("plan", mesh.catalog)]


def test_plan_tells_scripts_of_changes_when_asked_to(mesh: Mesh, agent: Agent) -> None:
    assert mesh.run("plan", "--exit-code").exit_code == 0
    agent.operations.steps = [Step("time", "wait for Consul", waiting=True)]
    assert mesh.run("plan", "--exit-code").exit_code == 0
    agent.operations.steps = [Step("files", "start files-3")]
    assert mesh.run("plan", "--exit-code").exit_code == 7
    assert mesh.run("plan").exit_code == 0


def test_plan_for_a_bad_catalog_lists_its_mistakes(mesh: Mesh, agent: Agent) -> None:
    agent.operations.error = CatalogError([Problem(mesh.catalog, 3, "services.files", "no command")])
    result = mesh.run("plan", "-f", str(mesh.catalog))
    assert result.exit_code == 2
    assert result.stderr == f"error: {mesh.catalog}:3: services.files: no command\n"


@pytest.mark.parametrize(("command", "key"), [("pause", "paused"), ("resume", "resumed"), ("reload", "reloaded")])
def test_pause_resume_and_reload(mesh: Mesh, agent: Agent, command: str, key: str) -> None:
    result = mesh.run(command)
    assert result.exit_code == 0
    assert result.stdout.startswith('mesh "default" ')
    assert json.loads(mesh.run(command, "--json").stdout) == {key: "default"}
    assert agent.operations.asked == [(command,), (command,)]


def test_a_refusal_of_the_agent_is_shown_as_it_is(mesh: Mesh, agent: Agent) -> None:
    agent.operations.error = Refused("cannot pause: it is going down")
    result = mesh.run("pause")
    assert (result.exit_code, result.stdout) == (6, "")
    assert result.stderr == "error: cannot pause: it is going down\n"


def test_with_json_an_error_is_json_too(mesh: Mesh, agent: Agent) -> None:
    agent.operations.error = Refused("cannot pause: it is going down")
    result = mesh.run("pause", "--json")
    assert json.loads(result.stdout) == {
        "error": {
            "type": "urn:mcpmesh:refused",
            "title": "Refused",
            "status": 409,
            "detail": "cannot pause: it is going down",
        }
    }


@pytest.mark.parametrize(
    "command",
    [["status"], ["verify"], ["tools"], ["call", "files", "x"], ["logs", "files"], ["plan"], ["pause"], ["reload"]],
)
def test_without_an_agent_every_command_shows_how_to_start_one(mesh: Mesh, command: list[str]) -> None:
    result = mesh.run(*command)
    assert result.exit_code == 3
    assert result.stderr == (
        'error: cannot reach the agent of mesh "default": none is running; start it with: mcpmesh up -f mesh.yaml\n'
    )


def test_a_dead_agent_is_not_taken_for_one_that_never_started(mesh: Mesh, agent: Agent) -> None:
    agent.die()
    result = mesh.run("status")
    assert result.exit_code == 3
    assert "died without taking its services down" in result.stderr
    assert "mcpmesh down" in result.stderr


@pytest.mark.parametrize("command", [["verify", "fils"], ["tools", "fils"], ["logs", "fils"], ["call", "fils", "x"]])
def test_an_unknown_service_is_an_input_error_with_a_suggestion(mesh: Mesh, agent: Agent, command: list[str]) -> None:
    result = mesh.run(*command)
    assert result.exit_code == 2
    assert 'did you mean "files"?' in result.stderr


def test_the_mesh_is_named_before_or_after_the_command(mesh: Mesh) -> None:
    for command in (["--name", "staging", "status"], ["status", "--name", "staging"]):
        assert 'mesh "staging": none is running' in mesh.run(*command).stderr
    assert 'mesh "b"' in mesh.run("--name", "a", "status", "--name", "b").stderr


@pytest.mark.parametrize("name", ["../default", "Default", "a_b", "-a", "a-", "", "a" * 64, "a/b", "é", "a\n"])
def test_a_name_that_is_no_dns_label_is_refused(mesh: Mesh, name: str) -> None:
    result = mesh.run(f"--name={name}", "status")
    assert result.exit_code == 2
    assert "must be a DNS label" in result.stderr


def test_a_mesh_does_not_answer_for_another(mesh: Mesh, agent: Agent) -> None:
    assert mesh.run("status").exit_code == 0
    assert mesh.run("--name", "other", "status").exit_code == 3


def test_a_wrong_setting_is_named(mesh: Mesh) -> None:
    result = mesh.run("status", MCPMESH_INGRESS__PORT="many")
    assert result.exit_code == 2
    assert "MCPMESH_INGRESS__PORT" in result.stderr


def test_a_token_that_others_can_read_is_not_used(mesh: Mesh, agent: Agent) -> None:
    (mesh.home / "token").chmod(0o640)
    result = mesh.run("status")
    assert result.exit_code == 6
    assert "chmod 600" in result.stderr


def test_down_through_the_agent(mesh: Mesh, agent: Agent) -> None:
    result = mesh.run("down")
    assert result.exit_code == 0
    assert "files: drained" in result.stderr
    assert result.stdout == 'mesh "default" is down\n'
    assert mesh.run("status").exit_code == 3


def test_down_as_json(mesh: Mesh, agent: Agent) -> None:
    printed = [json.loads(line) for line in mesh.run("down", "--json").stdout.splitlines()]
    assert [line["event"]["sentence"] for line in printed[:-1]] == agent.operations.down_events
    assert printed[-1] == {"down": {"mesh": "default", "by_agent": True, "stopped": 0}}


def test_down_with_nothing_running_is_fine(mesh: Mesh) -> None:
    result = mesh.run("down")
    assert result.exit_code == 0
    assert result.stdout == 'mesh "default" was not running: nothing to stop\n'


def test_down_after_an_agent_that_died_cleans_up(mesh: Mesh, agent: Agent) -> None:
    agent.die()
    result = mesh.run("down")
    assert result.exit_code == 0
    assert result.stdout == 'mesh "default" was not running: nothing to stop\n'
    assert "none is running" in mesh.run("status").stderr


def test_down_shows_why_the_agent_could_not_finish(mesh: Mesh, agent: Agent) -> None:
    agent.operations.late_error = Refused("cannot stop files: process 7 does not die")
    result = mesh.run("down")
    assert result.exit_code == 6
    assert "process 7 does not die" in result.stderr


def test_a_missing_file_is_an_input_error(mesh: Mesh) -> None:
    for command in (["validate", "no.yaml"], ["up", "-f", "no.yaml"], ["plan", "-f", "no.yaml"], ["import", "no.yaml"]):
        result = mesh.run(*command)
        assert result.exit_code == 2
        assert result.stderr == "error: no.yaml: there is no such file\n"
    assert "is a folder" in mesh.run("validate", str(Path(mesh.folder))).stderr
