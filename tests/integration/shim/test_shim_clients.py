"""The inspector's command line and plain HTTP, in both eras, against real servers of each era."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from running_shim import program, running
from tests.conformance.suite import INSPECTOR, node

SERVERS = {
    "everything": ("mcp-server-everything", ["stdio"], "echo", {"message": "hello"}, "Echo: hello", ["legacy"]),
    "time": ("mcp-server-time", [], "get_current_time", {"timezone": "UTC"}, "UTC", ["modern"]),
}


@pytest.fixture(scope="module", params=SERVERS)
def real(request):
    """A shim over a real server, and a call with the expected content of its answer."""
    command, args, tool, arguments, expected, eras = SERVERS[request.param]
    with running(command=program(command), args=args) as shim:
        assert shim.wait_ready().info()["eras"] == eras
        yield shim, tool, arguments, expected


@pytest.fixture
def inspect(tmp_path):
    """The inspector's command line, with a state folder of its own."""

    def run(url, era, method, *words):
        line = [node(), str(INSPECTOR), "--cli", url, "--transport", "http", "--protocol-era", era, "--method", method]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run([*line, *words], capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_lists_and_calls(real, inspect, era):
    shim, tool, arguments, expected = real
    tools = inspect(shim.url, era, "tools/list")["tools"]
    assert tool in [found["name"] for found in tools]
    given = [word for key, text in arguments.items() for word in ("--tool-arg", f"{key}={text}")]
    result = inspect(shim.url, era, "tools/call", "--tool-name", tool, *given)
    assert expected in result["content"][0]["text"]
    assert shim.metric("calls_total", era=era, method="tools/call", outcome="ok") >= 1


def test_a_raw_legacy_client_lists_and_calls(real, legacy):
    shim, tool, arguments, expected = real
    client = legacy(shim)
    tools = client.request("tools/list")[-1]["result"]["tools"]
    assert tool in [found["name"] for found in tools]
    assert expected in client.text(tool, **arguments)
    assert client.call("no-such-tool").keys() & {"error", "result"}


def test_a_raw_modern_client_lists_and_calls(real, modern):
    shim, tool, arguments, expected = real
    client = modern(shim)
    listed = client.request("tools/list")[-1]["result"]
    assert tool in [found["name"] for found in listed["tools"]]
    assert listed["resultType"] == "complete"
    assert listed["ttlMs"] >= 0
    assert listed["cacheScope"] in ("public", "private")
    answer = client.call(tool, **arguments)["result"]
    assert answer["resultType"] == "complete"
    assert expected in answer["content"][0]["text"]
    discovered = client.request("server/discover")[-1]["result"]
    assert discovered["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == shim.info()["server"]["name"]
