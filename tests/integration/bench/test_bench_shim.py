"""The harness of `make bench-shim` measures, notices wrong answers and leaves no process behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from bench.shim.load import SHAPES
from bench.shim.packages import own_programs
from bench.shim.rounds import InterleavedRun
from bench.shim.systems import OURS, System

from mcpmesh.shim.server.guard_process import PR_SET_CHILD_SUBREAPER, children_of, prctl

ROOT = Path(__file__).parents[3]


def ignore(_message: str) -> None:
    """Takes progress messages, which these tests don't check."""


@pytest.fixture(scope="module")
def programs() -> Path:
    return own_programs(ignore)


def alive(pids: set[int], seconds: float = 30.0) -> set[int]:
    """Waits for child processes of the test to end and reaps them; returns those that still run."""
    deadline = time.monotonic() + seconds
    while pids and time.monotonic() < deadline:
        pids = {pid for pid in pids if os.waitpid(pid, os.WNOHANG) == (0, 0)}
        time.sleep(0.01)
    return pids


@contextmanager
def adopting() -> Iterator[None]:
    """Makes processes that a child leaves behind children of the test, so that they are found."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0)


def test_a_quick_run_measures_all_that_a_long_one_does_and_leaves_no_process(tmp_path: Path) -> None:
    before = set(children_of(os.getpid()))
    with adopting():
        done = subprocess.run(
            [sys.executable, "-m", "bench.shim", "--quick", "--only", "static", "--only", OURS, "--out", str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=360,
        )
        assert done.returncode == 0, done.stderr
        assert alive(set(children_of(os.getpid())) - before) == set()
    results = json.loads((tmp_path / "shim.json").read_text())
    present = {system["name"]: system for system in results["systems"] if not system["absent"]}
    assert set(present) == {"static Go server", OURS, f"{OURS} shared", f"{OURS} modern", f"{OURS} translated"}
    for name, system in present.items():
        assert system["idle"]["rss"] > 1 and system["after"]["rss"] > 1, name
        wanted = {shape.key for shape in SHAPES} - ({"sessions"} if name.endswith(("modern", "translated")) else set())
        assert set(system["shapes"]) == wanted, name
        for key, shape in system["shapes"].items():
            assert shape["calls"] > 0 and shape["per_second"][0] > 0 and shape["cpu_ms"][0] > 0, (name, key)
            assert shape["crossed"] == shape["wrong"] == shape["failed"] == 0, (name, key, system["faults"])
    assert present[OURS]["left"] == {"term": 0, "kill": 0}
    assert results["own"]["starts"][0]["cpu_ms"] > 0
    page = (tmp_path / "shim.md").read_text()
    assert "agentgateway (Rust) | not measured" in page
    assert page.count("| met |") + page.count("| **not met** |") == len(
        [b for b in results["bars"] if b["met"] is not None]
    )


class Liar(BaseHTTPRequestHandler):
    """An MCP server whose tool answers every third call with another caller's text."""

    protocol_version = "HTTP/1.1"
    calls = 0

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        result: dict[str, Any] = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}}
        if message["method"] == "tools/call":
            Liar.calls += 1
            text = message["params"]["arguments"]["text"]
            result = {"content": [{"type": "text", "text": text if Liar.calls % 3 else "c9-w9-n9-"}]}
        body = (
            json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode() if "id" in message else b""
        )
        self.send_response(200 if body else 202)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_an_answer_that_is_another_callers_is_counted_as_crossed(programs: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/mcp"
        try:
            # The longer durations are for busy machines.
            for duration in ("300ms", "3s", "30s"):
                Liar.calls = 0
                line = [programs / "load", "-for", duration, url]
                done = subprocess.run(line, input="\n\n", capture_output=True, text=True, timeout=120)
                ready, tally = done.stdout.splitlines()
                counted = json.loads(tally)
                if counted["calls"] >= 3:
                    break
        finally:
            server.shutdown()
    assert ready == "ready"
    assert counted["crossed"] == counted["calls"] // 3 > 0
    assert counted["wrong"] == counted["failed"] == 0
    assert re.search(r'asked \d+ "c0-w0-n3-\.*", answered', counted["fault"])


def test_a_system_that_does_not_start_is_named_with_its_reason(tmp_path: Path, programs: Path) -> None:
    silent = System("silent", lambda _: [sys.executable, "-c", "import sys; sys.exit('no port left')"])
    missing = System("missing", lambda _: ["/nowhere/at-all"])
    run = InterleavedRun([silent, missing], programs, tmp_path, 0.1, ignore)
    run.install()
    with run.running():
        assert run.present == []
    assert [row.absent for row in run.rows] == [
        "not measured: it ended with code 1: no port left",
        "not measured: cannot start /nowhere/at-all: No such file or directory",
    ]
