"""Quirks of the real servers, with the real ones. With a fake: tests/integration/shim/test_shim_server_quirks.py."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from running_shim import Legacy, Modern, Shim, events, marked, running, until
from tests.integration.twenty.postgres import programs
from tests.integration.twenty.servers import SERVERS, TWENTY, shim_config

Serve = Callable[..., Shim]
SOON = {"spares": 0, "stop_seconds": 0.5, "probe_seconds": 0.05}


@pytest.fixture
def serve(home: Path) -> Iterator[Serve]:
    """A shim over one of the twenty; stopped after the test, and nothing may be left of it."""
    with ExitStack() as stack:

        def begin(name: str, **more: Any) -> Shim:
            program = TWENTY / SERVERS[name].program
            assert program.exists(), f"{program} is not installed; run: make twenty"
            config = {**shim_config(name, home), "limits": SOON, **more}
            return stack.enter_context(running(**config)).wait_ready(60)

        yield begin


@pytest.fixture
def clients() -> Iterator[Callable[..., Any]]:
    """Raw clients of either era, closed after the test."""
    with ExitStack() as stack:

        def begin(kind: Any, *words: Any) -> Any:
            client = kind(*words)
            stack.callback(client.close)
            return client

        yield begin


def words_of(answer: dict[str, Any]) -> str:
    return " ".join(part.get("text", "") for part in answer["result"]["content"])


def test_claude_flow_lists_its_tools_in_one_very_long_line(serve: Serve, clients: Any) -> None:
    shim = serve("claude-flow")
    for kind in (Legacy, Modern):
        answer = clients(kind, shim).request("tools/list")[-1]
        assert len(answer["result"]["tools"]) > 300
        assert len(json.dumps(answer)) > 200_000


def test_claude_flow_writes_into_the_folder_where_it_is_started(serve: Serve, clients: Any, tmp_path: Path) -> None:
    client = clients(Legacy, serve("claude-flow", cwd=str(tmp_path)))
    client.call("agent_spawn", agentType="coder")
    until(lambda: list(tmp_path.glob(".claude-flow/agents/*")))


@pytest.mark.parametrize("name", ["claude-flow", "nx-mcp"])
def test_a_list_of_resources_that_is_not_there_harms_nothing(serve: Serve, clients: Any, name: str) -> None:
    shim = serve(name)
    client = clients(Legacy, shim)
    assert "resources" in shim.info()["capabilities"]
    assert client.request("resources/list")[-1]["error"]["code"] == -32601
    assert client.request("tools/list")[-1]["result"]["tools"]


def test_ruv_swarm_logs_on_stdout_and_answers_no_ping(serve: Serve, clients: Any) -> None:
    shim = serve("ruv-swarm")
    client = clients(Legacy, shim)
    assert "error" in client.request("ping")[-1]
    before = shim.metric("rubbish_lines_total")
    assert before > 0, "it logs its start on stdout"
    assert "swarm" in words_of(client.call("swarm_init", topology="mesh"))
    assert shim.metric("rubbish_lines_total") > before, "and each call"
    assert stays_ready(shim)


def test_extended_memory_answers_ping_with_an_error(serve: Serve, clients: Any) -> None:
    shim = serve("extended-memory")
    assert clients(Legacy, shim).request("ping")[-1]["error"]["code"] == -32603
    assert stays_ready(shim)


def stays_ready(shim: Shim) -> bool:
    """Whether probes, however they are answered, leave its server in place."""
    before = shim.servers()
    for _ in range(3):
        time.sleep(0.06)  # longer than probe_seconds
        assert shim.state()["state"] == "ready"
    return shim.servers() == before


def test_ddg_logs_in_the_middle_of_a_call_and_tells_a_failure_as_ordinary_text(serve: Serve, clients: Any) -> None:
    shim = serve("ddg")
    search = {"name": "search", "arguments": {"query": "mcp"}}
    # A search may take long where the internet is behind a firewall.
    modern, legacy = clients(Modern, shim, None, 90.0), clients(Legacy, shim, None, "2025-11-25", 90.0)
    for messages in (
        modern.request("tools/call", search, **{"io.modelcontextprotocol/logLevel": "debug"}),
        legacy.request("tools/call", search),
    ):
        *notes, answer = messages
        assert {note["method"] for note in notes} == {"notifications/message"}
        assert "mcp" in notes[0]["params"]["data"]
        assert words_of(answer)
        assert not answer["result"].get("isError")


def test_files_asks_its_client_for_roots_where_it_has_some(serve: Serve, clients: Any, home: Path) -> None:
    client = clients(Legacy, serve("files"), {"roots": {"listChanged": True}})
    with client.listen() as stream:
        question = next(events(stream))
        assert question["method"] == "roots/list"
        client.respond(question["id"], {"roots": [{"uri": (home / "workspace").as_uri(), "name": "mine"}]})
    until(lambda: "workspace" in words_of(client.call("list_allowed_directories")))


def test_sequentialthinking_keeps_its_thoughts_in_the_process(serve: Serve, clients: Any) -> None:
    shim = serve("sequentialthinking")
    one, two = clients(Legacy, shim), clients(Legacy, shim)
    thought = {"thought": "t", "nextThoughtNeeded": True, "thoughtNumber": 1, "totalThoughts": 2}
    assert '"thoughtHistoryLength": 1' in words_of(one.call("sequentialthinking", **thought))
    assert '"thoughtHistoryLength": 2' in words_of(one.call("sequentialthinking", **thought))
    assert '"thoughtHistoryLength": 1' in words_of(two.call("sequentialthinking", **thought))


def test_fetch_refuses_its_own_network_unless_it_is_told_otherwise(serve: Serve, clients: Any, web: str) -> None:
    careful = serve("http-fetch", args=["--ignore-robots-txt"])
    assert "Greetings" not in json.dumps(clients(Modern, careful).call("fetch", url=web))
    assert "Greetings" in words_of(clients(Modern, serve("http-fetch")).call("fetch", url=web))


def test_nx_leaves_with_an_error_and_the_shim_without(serve: Serve, clients: Any) -> None:
    shim = serve("nx-mcp")
    client = clients(Legacy, shim)
    client.http.delete("/mcp", headers=client.headers)
    until(lambda: shim.info()["children"] == 1)
    assert shim.state()["state"] == "ready"
    assert shim.stop() == 0


def test_memory_bank_has_projects_once_there_is_something_in_it(serve: Serve, clients: Any, tmp_path: Path) -> None:
    shim = serve("memory-bank-mcp", env={"MEMORY_BANK_ROOT": str(tmp_path / "bank")})
    client = clients(Legacy, shim)
    before = client.call("list_projects")
    assert "error" in before or before["result"].get("isError") or not words_of(before).strip("[] \n")
    client.call("memory_bank_write", projectName="one", fileName="note.md", content="words")
    assert "one" in words_of(client.call("list_projects"))


@pytest.mark.parametrize("end", ["DELETE", "SIGTERM", "SIGKILL"])
def test_a_browser_ends_with_its_session_and_with_its_shim(serve: Serve, clients: Any, web: str, end: str) -> None:
    shim = serve("playwright-mcp")
    client = clients(Legacy, shim)
    assert "A page" in words_of(client.call("browser_navigate", url=web))
    alone = len(shim.servers())
    assert alone > 5, "a browser is many processes"
    if end == "DELETE":
        client.http.delete("/mcp", headers=client.headers)
        until(lambda: len(shim.servers()) == 1)
        return
    shim.process.send_signal(getattr(signal, end))
    shim.process.wait(30)
    until(lambda: not marked(shim.mark))
    shim.stop()


def test_the_language_server_ignores_the_end_of_its_input_and_goes_with_all_that_it_started(serve: Serve) -> None:
    shim = serve("language-server")
    until(lambda: len(shim.servers()) >= 2)
    began = time.monotonic()
    assert shim.stop() == 0
    assert 0.5 <= time.monotonic() - began < 10


@pytest.fixture(scope="module")
def github_in_go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The successor of the npm package, built."""
    program = tmp_path_factory.mktemp("github") / "github-mcp-server"
    package = "github.com/github/github-mcp-server/cmd/github-mcp-server"
    build = ["go", "build", "-trimpath", "-o", str(program), package]
    subprocess.run(build, cwd=Path(__file__).parent / "github", check=True)
    return program


def test_github_in_go_ends_at_its_start_without_a_token_and_serves_with_one(github_in_go: Path) -> None:
    config = {"command": str(github_in_go), "args": ["stdio"], "limits": {"spares": 0, "backoff_seconds": 0.05}}
    without = {**config, "env": {"GITHUB_PERSONAL_ACCESS_TOKEN": ""}}
    with running(**without) as shim:
        state = until(lambda: (now := shim.state())["state"] in ("restarting", "crash-loop") and now)
        assert state["exit_code"] == 1
        assert "exited with code 1" in state["error"]
        assert any("GITHUB_PERSONAL_ACCESS_TOKEN not set" in line for line in state["output"])
    with running(**{**config, "env": {"GITHUB_PERSONAL_ACCESS_TOKEN": "none"}}) as shim:
        assert "search_repositories" in {tool["name"] for tool in shim.wait_ready().info()["tools"]}


@pytest.mark.parametrize(("stop_seconds", "least", "most"), [(0.5, 0.5, 5.0), (20.0, 5.0, 19.0)])
def test_postgres_needs_seconds_to_leave_after_a_query_or_is_told_to(
    serve: Serve, clients: Any, database_url: str, stop_seconds: float, least: float, most: float
) -> None:
    assert programs() is not None, "no PostgreSQL is installed; on Debian and Ubuntu: apt install postgresql"
    shim = serve("postgres", args=[database_url], limits={**SOON, "stop_seconds": stop_seconds})
    assert "42" in words_of(clients(Modern, shim).call("query", sql="select 40 + 2 as answer"))
    began = time.monotonic()
    assert shim.stop() == 0
    assert least <= time.monotonic() - began < most


def test_postgres_says_what_it_misses_and_leaves(serve: Serve, clients: Any) -> None:
    shim = serve("postgres", args=["postgresql://postgres@127.0.0.1:1/none"])
    answer = clients(Modern, shim).call("query", sql="select 1")
    assert "ECONNREFUSED" in json.dumps(answer)
    assert shim.stop() == 0
