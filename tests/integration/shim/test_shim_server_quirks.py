"""Quirks of the real servers, with a fake server that has them. With the real ones: tests/integration/twenty.

| server | manner | where |
|---|---|---|
| claude-flow | its list of tools is one line of 263 kB | `test_a_tool_list_of_a_quarter_megabyte_is_read` |
| claude-flow, nx-mcp | says that it has resources, and answers their list with -32601 | here |
| ruv-swarm | log lines and a notification of no meaning on stdout | `test_rubbish_on_stdout_is_counted_…` |
| ruv-swarm, extended-memory | ping is answered with -32601, -32603 | here |
| ruv-swarm, github in Go | ends at its start: another Node, no token | `test_a_server_that_dies_at_its_start_…` |
| files | asks its client for roots as soon as it may | here |
| context7, ddg | a failure is ordinary text, "no results" | here |
| compass-mcp | a failure is -32603 | here |
| ddg | log messages in the middle of a call | here |
| sequentialthinking | state in the process | here |
| memory-bank | its list fails until its folder exists | here |
| claude-flow, memory-bank | writes files where it was started | here |
| nx-mcp | exits with 1 at stdin's end and at SIGTERM | here |
| ultimatecoder | answers nothing else while a call runs | here |
| playwright-mcp, npx | many processes, wrappers that leave theirs behind | `test_nothing_is_left_however_stubborn_…` |
| language-server, postgres-mcp | ignores stdin's end, SIGTERM, SIGINT | `test_nothing_is_left_however_stubborn_…` |
| postgres-mcp | answers nothing for long while its database is down | here |
| context7 | speaks both eras, and goes by `initialize` once it heard that | here |
| server-postgres | needs seconds to leave after stdin's end | here |

The tests that are not here are in `test_shim_processes.py`.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from running_shim import events, until


def test_a_list_that_the_server_announces_but_lacks_is_only_an_error(start, legacy, modern):
    shim = start("--no-lists")
    assert shim.info()["capabilities"]["resources"]
    for client in (legacy(shim), modern(shim)):
        for method in ("resources/list", "prompts/list"):
            assert client.request(method)[-1]["error"]["code"] == -32601
        assert client.text("echo", text="as before") == "as before"
    assert shim.state()["state"] == "ready"


@pytest.mark.parametrize("code", ["-32601", "-32603"])
def test_an_error_to_a_ping_proves_that_the_server_answers(start, legacy, code):
    shim = start("--no-ping", code, limits={"probe_seconds": 0.05, "probe_timeout_seconds": 120, "spares": 0})
    before = shim.servers()
    for _ in range(5):
        time.sleep(0.06)  # long enough for the next /ready to probe the server
        assert shim.state()["state"] == "ready"
    assert shim.servers() == before
    assert legacy(shim).request("ping")[-1]["error"]["code"] == int(code)


def test_a_server_that_asks_for_roots_at_once_gets_those_of_its_client(start, legacy):
    client = legacy(start("--ask-roots-at-once"), {"roots": {}})
    with client.listen() as stream:
        question = next(events(stream))
        assert question["method"] == "roots/list"
        client.respond(question["id"], {"roots": [{"uri": "file:///mine"}]})
    assert client.text("echo", text="go on") == "go on"


@pytest.mark.parametrize("isolation", ["session", "shared", "request"])
def test_a_server_that_asks_for_roots_at_once_serves_clients_without_any(start, legacy, modern, isolation):
    shim = start("--ask-roots-at-once", isolation=isolation)
    for client in (legacy(shim), modern(shim)):
        assert client.text("echo", text="go on") == "go on"


def test_a_failure_in_ordinary_text_counts_as_an_answer(start, legacy, modern):
    shim = start()
    said = "No results were found for your search query. This could be due to bot detection."
    for client in (legacy(shim), modern(shim)):
        result = client.call("echo", text=said)["result"]
        assert result["content"] == [{"type": "text", "text": said}]
        assert not result.get("isError")
    assert shim.metric("calls_total", method="tools/call", outcome="ok") == 2
    assert shim.metric("calls_total", method="tools/call", outcome="error") == 0


def test_a_list_that_fails_until_there_is_a_folder_is_an_error_until_then(start, legacy, modern, tmp_path):
    for kind, folder in ((legacy, tmp_path / "one"), (modern, tmp_path / "two")):
        shim = start()
        client = kind(shim)
        error = client.call("list_kept", folder=str(folder))["error"]
        assert (error["code"], "ENOENT" in error["message"]) == (-32603, True)
        client.call("keep", file=str(folder / "note.md"))
        assert client.text("list_kept", folder=str(folder)) == '["note.md"]'
        assert shim.state()["state"] == "ready"


@pytest.mark.parametrize("isolation", ["session", "shared", "request"])
def test_files_that_a_server_writes_are_in_its_working_directory(start, legacy, modern, tmp_path, isolation):
    shim = start(isolation=isolation, cwd=str(tmp_path))
    legacy(shim).call("keep", file="of-a-session")
    modern(shim).call("keep", file="of-a-call")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["of-a-call", "of-a-session"]


def test_an_error_keeps_its_code_and_message(start, legacy, modern):
    shim = start()
    for client in (legacy(shim), modern(shim)):
        error = client.call("error", code=-32603, message="MCP error: fetch failed")["error"]
        assert (error["code"], error["message"]) == (-32603, "MCP error: fetch failed")


def test_log_messages_of_a_call_come_before_its_answer_to_clients_that_want_them(start, legacy, modern):
    shim = start()
    *notes, answer = legacy(shim).request("tools/call", {"name": "log", "arguments": {"data": "searching"}})
    assert [note["params"]["data"] for note in notes] == ["searching"]
    assert answer["result"]
    level = {"io.modelcontextprotocol/logLevel": "debug"}
    *notes, _ = modern(shim).request("tools/call", {"name": "log", "arguments": {"data": "searching"}}, **level)
    assert [note["params"]["data"] for note in notes] == ["searching"]
    assert len(modern(shim).request("tools/call", {"name": "log", "arguments": {}})) == 1


def test_state_in_a_process_belongs_to_one_session(start, legacy):
    shim = start()
    one, two = legacy(shim), legacy(shim)
    one.call("echo")
    assert one.text("seen").count("tools/call") == 2
    assert two.text("seen").count("tools/call") == 1


def test_a_server_that_exits_with_an_error_when_it_is_stopped_has_not_failed(start, legacy):
    shim = start("--exit-code", "1", limits={"spares": 0})
    client = legacy(shim)
    client.http.delete("/mcp", headers=client.headers)
    until(lambda: shim.info()["children"] == 1)
    assert shim.state()["state"] == "ready"
    assert shim.stop() == 0
    assert not [line for line in shim.lines if "exited with code 1" in line]


def test_a_server_that_handles_one_call_at_a_time_is_waited_for(start, legacy, modern, gate):
    held = gate()
    shim = start("--one-at-a-time", limits={"probe_seconds": 0.05, "probe_timeout_seconds": 0.1})
    client = modern(shim)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(client.call, "hold", gate=held.path)
        held.reached()
        next_in_line = pool.submit(modern(shim).text, "echo", text="my turn")
        assert legacy(shim).text("echo", text="its own process") == "its own process"
        assert not slow.done()
        assert shim.state()["state"] == "ready"
        held.open()
        assert next_in_line.result() == "my turn"
        assert slow.result()["result"]["content"][0]["text"] == "let go"


def test_the_era_of_a_server_that_is_silent_longer_than_a_probe_is_still_found(start, legacy, modern, gate):
    held = gate()
    # Past SILENCE_SECONDS of handshake.py: server/discover and initialize both wait for it.
    shim = start("--start-at", held.path, "--slow-start", "3.5", ready=False)
    assert shim.state()["state"] == "starting"
    held.open()
    with ThreadPoolExecutor(2) as pool:
        early = [pool.submit(kind(shim).text, "echo", text="early") for kind in (modern, legacy)]
        assert [call.result() for call in early] == ["early", "early"]
    assert shim.info()["eras"] == ["legacy"]
    assert shim.metric("server_exits_total") == 0


def test_a_slow_server_with_one_call_at_a_time_becomes_ready(start, modern):
    shim = start("--slow-start", "3.5", limits={"calls_per_child": 1})
    assert modern(shim).text("echo", text="one at a time") == "one at a time"
    assert shim.metric("server_exits_total") == 0


def test_a_slow_server_that_keeps_the_last_era_it_was_asked_in_is_asked_in_one_only(start, modern, legacy):
    shim = start("--both-eras", "--slow-start", "3.5", isolation="shared")
    for client in (modern(shim), legacy(shim)):
        assert client.text("echo", text="as one") == "as one"
    discovered = modern(shim).request("tools/list")[-1]["result"]
    assert discovered["resultType"] == "complete"
    assert shim.info()["eras"] == ["modern"]
    assert shim.metric("server_exits_total") == 0
    assert not [line for line in shim.lines if "failure" in line]


def test_a_server_that_exits_slowly_gets_its_time(start, legacy):
    # Longer than any wait here: a server that needed a second signal would fail the test.
    shim = start("--slow-exit", "0.8", "--exit-code", "0", limits={"spares": 0, "stop_seconds": 600})
    client = legacy(shim)
    began = time.monotonic()
    client.http.delete("/mcp", headers=client.headers)
    until(lambda: shim.info()["children"] == 1)
    assert time.monotonic() - began > 0.7
    assert shim.stop() == 0
