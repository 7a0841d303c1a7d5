"""The example catalog: six public servers on one mesh, and every command on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from mcp import Client
from tests.support.mesh import (
    EXAMPLES,
    FAILED,
    GIT_SERVER,
    INPUT,
    NO_AGENT,
    OK,
    REFUSED,
    RealMesh,
    need,
    real_mesh,
    wait_for,
)

# A tool of each server, and what its answer has to hold.
TOOLS: dict[str, tuple[str, dict[str, Any], str]] = {
    "files": ("list_allowed_directories", {}, "files"),
    "memory": ("read_graph", {}, "entities"),
    "sequentialthinking": (
        "sequentialthinking",
        {"thought": "one", "nextThoughtNeeded": False, "thoughtNumber": 1, "totalThoughts": 1},
        "thoughtHistoryLength",
    ),
    "everything": ("get-sum", {"a": 20, "b": 22}, "42"),
    "git": ("git_status", {"repo_path": "."}, ""),
    "time": ("convert_time", {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}, "21:00"),
}


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMesh]:
    """The catalog as it stands in examples/, in a copy of that folder."""
    need(GIT_SERVER, *(EXAMPLES / "node_modules/.bin" / f"mcp-server-{name}" for name in ("filesystem", "memory")))
    folder = tmp_path_factory.mktemp("examples")
    for name in ("mesh.yaml", "files", "data"):
        source = EXAMPLES / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    for name in ("node_modules", ".venv"):
        (folder / name).symlink_to(EXAMPLES / name)
    with real_mesh(folder, name="examples") as mesh:
        mesh.up()
        yield mesh


def test_up_ends_with_a_table_of_services_that_are_ready(examples: RealMesh) -> None:
    table = {line.split()[0]: line.split() for line in examples.output.splitlines() if "/mcp/" in line}
    for name in TOOLS:
        wanted = 2 if name == "everything" else 1
        _, instances, health, tools, address = table[name]
        assert (instances, health) == (f"{wanted}/{wanted}", "ready")
        assert int(tools) > 0
        assert address == f"{examples.ingress}/mcp/{name}"


def test_status_says_what_each_server_is(examples: RealMesh) -> None:
    def well() -> Any:
        done = examples.run("status", "--json", code=None)
        assert done.returncode == OK, done.stdout
        status = json.loads(done.stdout)
        return status["in_sync"] and status

    status = wait_for("all is well", well)
    assert {line["name"] for line in status["services"]} == set(TOOLS)
    for line in status["services"]:
        assert line["server"], line["name"]
        assert line["protocol_versions"], line["name"]
        for instance in line["instances"]:
            assert instance["pid"] in examples.pids("shim", line["name"])
            assert instance["sidecar_pid"] in examples.pids("sidecar", line["name"])


@pytest.mark.parametrize("service", TOOLS)
async def test_the_official_client_lists_and_calls_a_tool_of_each(examples: RealMesh, service: str) -> None:
    tool, arguments, answer = TOOLS[service]
    async with Client(f"{examples.ingress}/mcp/{service}") as client:
        assert tool in {found.name for found in (await client.list_tools()).tools}
        result = await client.call_tool(tool, arguments)
        assert answer in str(result.content)


def test_tools_are_listed_for_one_and_for_all(examples: RealMesh) -> None:
    def of_all() -> Any:
        found = {(tool["service"], tool["name"]) for tool in examples.json("tools")["tools"]}
        # A service that is not ready for a moment has none.
        assert {service for service, _ in found} == set(TOOLS)
        return found

    everywhere = wait_for("all have tools", of_all)
    assert {(service, tool) for service, (tool, _, _) in TOOLS.items()} <= everywhere
    mine = examples.json("tools", "time")["tools"]
    assert {tool["name"] for tool in mine} == {name for service, name in everywhere if service == "time"}
    assert all(tool["input_schema"]["type"] == "object" for tool in mine)


def test_call_prints_the_result_and_says_by_its_exit_code_how_it_went(examples: RealMesh) -> None:
    assert "42" in examples.run("call", "everything", "get-sum", '{"a": 20, "b": 22}').stdout
    assert "42" in examples.run("call", "everything", "get-sum", "--arg", "a=20", "--arg", "b=22").stdout
    *_, last = examples.lines("call", "everything", "get-sum", '{"a": 20, "b": 22}')
    assert "42" in json.dumps(last["result"])
    examples.run("call", "files", "read_text_file", '{"path": "/etc/passwd"}', code=FAILED)
    examples.run("call", "nobody", "x", code=INPUT)
    assert "did you mean" in examples.run("call", "everything", "get-sun", "{}", code=REFUSED).stderr


def test_a_long_call_shows_its_progress(examples: RealMesh) -> None:
    words = ("call", "everything", "trigger-long-running-operation", '{"duration": 2, "steps": 4}')
    messages = examples.lines(*words)
    assert [m["params"]["progress"] for m in messages[:-1] if m.get("method") == "notifications/progress"] == [
        1,
        2,
        3,
        4,
    ]
    assert "result" in messages[-1]


def test_logs_plan_and_validate_speak_json(examples: RealMesh) -> None:
    lines = [item["line"] for item in examples.lines("logs", "everything")]
    assert any("Starting default (STDIO) server" in line for line in lines)
    assert len(examples.lines("logs", "everything", "-n", "2")) == 2
    wait_for("nothing is to do", examples.nothing_to_do)
    found = examples.json("validate", str(examples.catalog))
    assert found["valid"]
    assert set(found["services"]) == set(TOOLS)


def test_up_again_attaches_and_changes_nothing(examples: RealMesh) -> None:
    before = examples.lasting()
    assert "runs already" in examples.up().stderr
    assert examples.undisturbed(before)


def test_what_is_registered_is_what_runs(examples: RealMesh) -> None:
    services = examples.ask_consul("/v1/agent/services")
    for line in examples.status()["services"]:
        for instance in line["instances"]:
            registered = services[instance["id"]]
            assert registered["Port"] == instance["port"]
            assert registered["Meta"]["mcpmesh-tools"] == str(line["tools"])
            assert registered["Meta"]["mcpmesh-server"]
            assert services[f"{instance['id']}-sidecar"]["Port"] == instance["sidecar_port"]
    assert services["examples-time-1-" + digest(services)]["Tags"] == ["python"]


def digest(services: dict[str, Any]) -> str:
    return next(id_.rpartition("-")[2] for id_ in services if id_.startswith("examples-time-1-") and "side" not in id_)


def test_an_upstream_is_reached_at_the_address_that_its_caller_is_told(examples: RealMesh) -> None:
    shim = examples.one("shim", "sequentialthinking")
    port = shim.mark.ports["upstream:memory"]
    assert port in examples.still_held({port})


def test_down_leaves_nothing(examples: RealMesh) -> None:
    ports = examples.held_ports()
    assert len(ports) > 20
    examples.down()
    assert examples.processes() == []
    assert examples.still_held(ports) == set()
    assert list(examples.scratch.iterdir()) == []
    assert list(examples.home.glob("envoy/*")) == []
    examples.run("status", code=NO_AGENT)
