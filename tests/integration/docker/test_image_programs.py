"""Every example server in our image starts and answers."""

from __future__ import annotations

import json
import re
import subprocess
import threading

import pytest
from tests.e2e.composed import ROOT, docker

# The arguments that some of them need.
ARGUMENTS = {
    "mcp-server-filesystem": ["/tmp"],
    "mcp-server-everything": ["stdio"],
}


def programs() -> list[str]:
    """The servers of both package lists of the image; a program has the name of its package."""
    npm = json.loads((ROOT / "examples" / "package.json").read_text())["dependencies"]
    pip = re.findall(r"^(mcp-server-[a-z-]+)==", (ROOT / "examples" / "requirements.txt").read_text(), re.MULTILINE)
    return sorted([f"mcp-{name.partition('/')[2]}" for name in npm] + pip)


def ask(image: str, argv: list[str]) -> dict[str, object]:
    """Its answer to `initialize`, in a container with the limits that the agent sets."""
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    limits = ["--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--user", "65532:65532"]
    started = subprocess.Popen(
        ["docker", "run", "--rm", "-i", *limits, "--env", "HOME=/tmp", image, *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdin and started.stdout and started.stderr
    bound = threading.Timer(180, started.kill)
    bound.start()
    try:
        started.stdin.write(line + "\n")
        started.stdin.flush()
        answer = started.stdout.readline()
    finally:
        started.stdin.close()
        error = started.stderr.read()
        started.stdout.close()
        started.stderr.close()
        started.wait()
        bound.cancel()
    assert answer, error[-1000:]
    found: dict[str, object] = json.loads(answer)
    return found


@pytest.mark.parametrize("program", programs())
def test_a_server_of_the_image_answers(image: str, program: str) -> None:
    answer = ask(image, [program, *ARGUMENTS.get(program, [])])
    assert isinstance(answer.get("result"), dict) and answer["result"]["serverInfo"], answer  # type: ignore[index]


def test_the_image_has_the_runtimes_of_commands(image: str) -> None:
    said = docker("run", "--rm", "--network", "none", image, "sh", "-c", "node -v; npx -v; python3 -V; git --version")
    assert re.fullmatch(r"v24\.\S+\n[0-9.]+\nPython 3\.11\.\S+\ngit version 2\S+", said), said
