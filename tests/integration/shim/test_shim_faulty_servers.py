"""Faulty servers, which the shim survives."""

from __future__ import annotations

import os
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running_shim import ACCEPT, FAKE, descendants, messages, running, until

from mcpmesh.shim.server.rlimits import MAX_OPEN_FILES

# Answers its first line with a number that JSON allows and no program can represent.
HUGE_NUMBER = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    if asked["method"] == "initialize":
        said = '"result":{"protocolVersion":"2025-11-25","capabilities":{},"x":1e999}'
    else:
        said = '"error":{"code":-32601,"message":"unknown"}'
    print('{"jsonrpc":"2.0","id":%s,%s}' % (json.dumps(asked["id"]), said), flush=True)
"""


def test_an_unreadable_answer_to_initialize_is_a_failed_start_and_not_the_shims_end():
    with running(command=sys.executable, args=["-c", HUGE_NUMBER], limits={"backoff_seconds": 0.05}) as shim:
        until(lambda: shim.state()["state"] == "crash-loop")
        assert "answered initialize with what can't be read" in shim.state()["error"]
        assert shim.stop() == 0


@pytest.mark.parametrize("quirk", ["--die-unknown", "--mute-unknown"])
def test_the_era_of_the_first_process_is_used_for_a_process_per_call(start, modern, quirk):
    shim = start(quirk, isolation="request", limits={"backoff_seconds": 0.05})
    before = shim.metric("server_exits_total")
    client = modern(shim)
    assert [client.text("echo", text=str(n)) for n in range(4)] == ["0", "1", "2", "3"]
    assert all("server/discover" not in client.text("seen") for _ in range(2))
    # A server asked in the wrong era would have exited.
    assert shim.metric("server_exits_total") == before


def test_the_reason_why_no_process_started_for_a_call_is_consistent(start, modern, tmp_path):
    broken = tmp_path / "broken"
    words = f"[ -e {broken} ] && exit 9; exec {sys.executable} {FAKE}"
    shim = start(command="/bin/sh", args=["-c", words], isolation="request", limits={"spares": 0})
    broken.touch()
    answer = modern(shim).call("echo", text="x")
    assert answer["error"]["message"] == (
        "cannot start another server: it exited with code 9 before it spoke MCP; nothing was started"
    )


@pytest.mark.parametrize(
    "params",
    [
        b'{"name":"echo","arguments":{"text":"x"},"_meta":{"traceparent":1e999}}',
        b'{"name":"echo","arguments":{"text":"x","io.modelcontextprotocol/protocolVersion":1}}',
    ],
)
def test_a_call_to_a_remote_server_whose_headers_cannot_be_built_is_answered(start, legacy, params):
    client = legacy(start(url=start().url))
    body = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":%b}' % params
    answer = client.http.post("/mcp", content=body, headers=client.headers)
    assert messages(answer)[-1]["id"] == 7
    assert client.text("echo", text="next") == "next"


def test_without_free_descriptors_a_session_is_refused_and_nothing_waits(start, legacy):
    shim = start(limits={"spares": 0})
    pid = shim.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    open_files = len(os.listdir(f"/proc/{pid}/fd"))
    # Two pipes and a half.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_files + 5, before[1]))
    for _ in range(3):
        answer = shim.http.post("/mcp", json=body, headers=ACCEPT)
        assert answer.status_code == 503
        assert "cannot start a server: Too many open files; nothing was started" in answer.text
    assert len(os.listdir(f"/proc/{pid}/fd")) == open_files
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert legacy(shim).text("echo", text="again") == "again"
    assert shim.stop() == 0


def test_the_shim_may_open_more_files_than_its_servers(start):
    mine = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert mine[1] > 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, mine[1]))
    try:
        shim = start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, mine)
    assert resource.prlimit(shim.process.pid, resource.RLIMIT_NOFILE)[0] == min(mine[1], MAX_OPEN_FILES)
    assert {resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] for pid in shim.servers()} == {1000}


@pytest.mark.parametrize("bytes", [2_000, 200_000])
def test_half_an_answer_of_a_server_that_exits_is_dropped(start, legacy, bytes):
    client = legacy(start())
    error = client.call("half", bytes=bytes, dies=True)["error"]
    assert error["data"]["reason"] == "server-exited"


@pytest.mark.parametrize("bytes", [2_000, 200_000])
def test_a_line_that_breaks_off_fails_its_call_and_no_other(start, legacy, gate, bytes):
    shim, held = start(isolation="shared"), gate()
    client, other = legacy(shim), legacy(shim)
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(other.text, "hold", gate=held.path)
        until(lambda: shim.info()["in_flight"] == 1)
        assert client.call("half", bytes=bytes, dies=False)["error"]["data"]["reason"] == "answer-unreadable"
        held.open()
        assert beside.result() == "let go"
    assert shim.metric("server_starts_total") == 1


def test_a_guard_without_means_refuses_a_start_and_keeps_what_runs(start, legacy):
    shim = start(limits={"spares": 0})
    client = legacy(shim)
    (guard,) = (
        pid for pid in descendants(shim.process.pid) if b"guard_process.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    usual = resource.prlimit(guard, resource.RLIMIT_NOFILE)
    resource.prlimit(guard, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{guard}/fd")) + 4, usual[1]))
    with pytest.raises(AssertionError, match=r"Too many open files.*nothing was started"):
        legacy(shim)
    assert client.text("echo", text="still here") == "still here"
    resource.prlimit(guard, resource.RLIMIT_NOFILE, usual)
    assert legacy(shim).text("echo", text="and more") == "and more"


def test_a_call_beside_a_server_request_is_not_suspected_for_ever(start, modern, gate):
    shim, first, second = start(), gate(), gate()
    clients = [modern(shim, {"sampling": {}}) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        beside = pool.submit(clients[0].text, "hold", gate=first.path)
        until(lambda: shim.info()["in_flight"] == 1)
        assert "for which caller" in clients[1].text("sample")
        first.open()
        assert beside.result() == "let go"
        assert clients[0].text("hold", gate=first.path) == "let go"
        before = shim.metric("server_starts_total")
        assert list(pool.map(lambda client: client.text("sleep", seconds=0.5), clients[2:])) == ["slept 0.5"] * 4
        assert shim.metric("server_starts_total") == before
        # The shim knows now that it asks, and gives it a process for itself.
        busy = pool.submit(clients[0].text, "hold", gate=second.path)
        until(lambda: shim.info()["in_flight"] == 1)
        assert clients[1].call("sample")["result"]["resultType"] == "input_required"
        second.open()
        assert busy.result() == "let go"
        # Other calls don't go where a server request waits; they share another process.
        assert list(pool.map(lambda client: client.text("sleep", seconds=0.5), clients[2:])) == ["slept 0.5"] * 4
        assert shim.metric("server_starts_total") <= before + 1
