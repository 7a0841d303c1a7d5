"""/health, /ready, /info, /metrics, the configuration and the command line."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from running_shim import FAKE, ROOT, SHIM, descendants, until


def test_health_is_200_whatever_the_server_does(start):
    shim = start("--die-at-start", ready=False)
    assert shim.http.get("/health").status_code == 200
    assert shim.http.get("/ready").status_code == 503


def test_info_has_the_servers_identity_and_capabilities(start, legacy):
    shim = start()
    legacy(shim)
    info = shim.info()
    assert info["name"] == "test"
    assert info["instance"] == shim.mark
    assert info["pid"] == shim.process.pid
    assert info["server"] == {"name": "fake", "version": "1.2.3"}
    assert info["protocol_versions"] == ["2025-11-25"]
    assert info["eras"] == ["legacy"]
    assert info["capabilities"]["logging"] == {}
    assert info["sessions"] == 1
    assert info["children"] >= 2
    echo = next(tool for tool in info["tools"] if tool["name"] == "echo")
    canonical = json.dumps({"name": "echo", "inputSchema": {"type": "object"}}, sort_keys=True, separators=(",", ":"))
    assert echo["digest"] == hashlib.sha256(canonical.encode()).hexdigest()


def test_info_has_both_eras_of_a_server_that_speaks_both(start, legacy):
    server = str(ROOT / "tests/conformance/server")
    shim = start(command=sys.executable, args=[server])
    assert shim.info()["eras"] == ["modern"]
    legacy(shim)
    assert shim.info()["eras"] == ["legacy", "modern"]
    assert shim.info()["protocol_versions"] == ["2025-11-25", "2026-07-28"]


def test_metrics_count_outcomes_although_http_says_200(start, legacy):
    shim = start()
    client = legacy(shim)
    client.call("echo")
    client.call("fail")
    client.call("nonsense")
    client.request("no/such/method")
    client.call("die")
    assert shim.metric("calls_total", method="tools/call", outcome="ok") == 1
    assert shim.metric("calls_total", method="tools/call", outcome="tool_error") == 1
    assert shim.metric("calls_total", method="tools/call", outcome="error") == 1
    assert shim.metric("calls_total", method="tools/call", outcome="failed") == 1
    assert shim.metric("calls_total", method="other", outcome="error") == 1
    assert shim.metric("call_seconds_count", method="tools/call") == 4
    assert shim.metric("up", service="test") == 1
    assert shim.http.get("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")


def run(*words, config=None, environment=None):
    return subprocess.run(
        [*SHIM, *words],
        input=json.dumps(config).encode() if config is not None else b"",
        capture_output=True,
        timeout=60,
        env={**os.environ, **(environment or {})},
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, ["command", "url"]),
        ({"command": "x", "url": "http://x"}, ["command", "url"]),
        ({"command": "x", "colour": 1}, ["colour", "known"]),
        ({"command": "x", "limits": {"lines": 1}}, ["lines", "line_bytes"]),
        ({"command": "x", "limits": {"sessions": "many"}}, ["sessions", "number"]),
        ({"command": "x", "port": 70000}, ["port", "65535"]),
        ({"command": "x", "isolation": "none"}, ["isolation", "session, shared, request"]),
        ({"command": "x", "args": "one"}, ["args", "list"]),
        ({"command": "x", "env": {"A": 1}}, ["env", "object"]),
        ({"url": "ftp://x"}, ["url", "http"]),
        ([], ["object"]),
    ],
)
def test_a_bad_configuration_is_reported_in_one_sentence(config, words):
    done = run("--config", "-", config=config)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("mcpmesh-shim: cannot ")
    assert all(word in line for word in words)


def test_a_bad_value_is_not_repeated_since_it_may_be_a_secret():
    done = run("--config", "-", config={"command": "x", "env": {"TOKEN": ["s3cret"]}})
    assert done.returncode == 2
    assert b"s3cret" not in done.stderr


def test_a_configuration_that_is_not_json_is_reported():
    done = subprocess.run([*SHIM, "--config", "-"], input=b"name: files", capture_output=True, timeout=60)
    assert done.returncode == 2
    assert b"it is no JSON" in done.stderr


def test_a_taken_port_is_reported():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run("--config", "-", config={"command": "x", "port": port})
    assert done.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr.decode()


def test_help_names_the_options_and_endpoints():
    text = run("--help").stdout.decode()
    for word in ("--port", "--isolation", "--config", "/ready", "exit codes", "--"):
        assert word in text


def test_it_runs_by_itself_from_the_command_line():
    words = ["--port", "0", "--isolation", "shared", "--", sys.executable, FAKE, "--noise"]
    process = subprocess.Popen([*SHIM, *words], stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        first = process.stderr.readline().decode()
        port = int(first.rpartition(":")[2])
        import httpx

        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as http:
            until(lambda: http.get("/ready").status_code == 200)
            assert http.get("/info").json()["isolation"] == "shared"
        below = descendants(process.pid)
        assert below
    finally:
        process.terminate()
        process.wait(60)
        process.stderr.close()
    assert process.returncode == 0


def test_it_listens_on_loopback_only(start):
    # Without a spare that starts meanwhile the descriptors stay the same.
    shim = start(limits={"spares": 0})
    sockets = {os.readlink(entry) for entry in Path(f"/proc/{shim.process.pid}/fd").iterdir()}
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table]
    listening = [words[1] for words in lines if words[3] == "0A" and f"socket:[{words[9]}]" in sockets]
    assert listening == [f"0100007F:{shim.port:04X}"]


def test_the_installed_program_is_the_same_program():
    from importlib.metadata import entry_points

    (entry,) = [entry for entry in entry_points(group="console_scripts") if entry.name == "mcpmesh-shim"]
    assert entry.value == "mcpmesh.shim:main"
