"""Real public servers behind the shim, with the official SDK as client in all its modes."""

from __future__ import annotations

import asyncio
import sys

import pytest
from mcp import Client
from running_shim import ROOT, program

MODES = ["auto", "legacy", "2026-07-28"]
SERVERS = {
    "filesystem": ("mcp-server-filesystem", ["{}"], "list_directory", {"path": "{}"}, "hello.txt"),
    "memory": ("mcp-server-memory", [], "read_graph", {}, "entities"),
    "sequential-thinking": (
        "mcp-server-sequential-thinking",
        [],
        "sequentialthinking",
        {"thought": "t", "nextThoughtNeeded": False, "thoughtNumber": 1, "totalThoughts": 1},
        "thoughtHistoryLength",
    ),
    "everything": ("mcp-server-everything", [], "echo", {"message": "hello"}, "Echo: hello"),
    "git": ("mcp-server-git", ["--repository", "{}"], "git_status", {"repo_path": "{}"}, "status"),
    "time": ("mcp-server-time", [], "get_current_time", {"timezone": "UTC"}, "UTC"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory that is a git repository with one file."""
    import subprocess

    path = tmp_path_factory.mktemp("place")
    (path / "hello.txt").write_text("hello")
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    return path


@pytest.mark.parametrize("name", SERVERS)
def test_a_real_server_answers_the_official_client_in_every_mode(start, place, tmp_path, name):
    command, args, tool, arguments, expected = SERVERS[name]
    shim = start(
        command=program(command),
        args=[word.format(place) for word in args],
        env={"MEMORY_FILE_PATH": str(tmp_path / "memory.json")},
    )
    filled = {key: text.format(place) if isinstance(text, str) else text for key, text in arguments.items()}

    async def use(mode):
        async with Client(shim.url, mode=mode) as client:
            tools = await client.list_tools()
            assert tool in [item.name for item in tools.tools]
            result = await client.call_tool(tool, filled)
            assert not result.is_error
            return "".join(getattr(part, "text", "") for part in result.content)

    for mode in MODES:
        assert expected in asyncio.run(use(mode))
    info = shim.info()
    assert info["server"]["name"]
    assert len(info["tools"]) >= 1


@pytest.fixture(scope="module", params=["both", "legacy", "modern"])
def conformant(request):
    """The SDK's own server, in both eras or in one only."""
    from running_shim import running

    server = str(ROOT / "tests/conformance/server")
    with running(command=sys.executable, args=[server, request.param]) as shim:
        yield shim.wait_ready()


@pytest.mark.parametrize("mode", MODES)
def test_the_official_client_answers_server_requests_during_a_call(conformant, mode):
    import mcp_types as types

    async def sample(context, params):
        return types.CreateMessageResult(
            role="assistant", content=types.TextContent(type="text", text="sampled"), model="m"
        )

    async def elicit(context, params):
        return types.ElicitResult(action="accept", content={"username": "ada", "email": "a@b"})

    async def use():
        async with Client(conformant.url, mode=mode, sampling_callback=sample, elicitation_callback=elicit) as client:
            sampled = await client.call_tool("test_sampling", {"prompt": "p"})
            elicited = await client.call_tool("test_elicitation", {"message": "m"})
            return sampled.content[0].text, elicited.content[0].text

    sampled, elicited = asyncio.run(use())
    assert "sampled" in sampled
    assert "ada" in elicited


@pytest.mark.parametrize("mode", MODES)
def test_progress_reaches_the_official_client(conformant, mode):
    async def use():
        seen = []

        async def progress(now, total, message):
            seen.append(now)

        async with Client(conformant.url, mode=mode) as client:
            await client.call_tool("test_tool_with_progress", {}, progress_callback=progress)
        return seen

    assert asyncio.run(use()) == [0, 50, 100]
