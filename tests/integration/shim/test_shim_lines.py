"""Lines between the shim and a server: long ones, odd ones and invalid ones."""

from __future__ import annotations

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running_shim import until

from mcpmesh.shim.server.stdio_process import WIDE_PIPE_BYTES


def test_rubbish_on_stdout_is_counted_and_logged_and_breaks_nothing(start, legacy):
    shim = start("--noise")
    assert legacy(shim).text("rubbish") == "still here"
    assert shim.metric("rubbish_lines_total") >= 5
    shim.says("this is no JSON")


def test_a_second_answer_is_dropped(start, legacy, modern):
    shim = start()
    for client in (legacy(shim), modern(shim)):
        assert client.text("twice") == "first"
        assert client.text("echo", text="next") == "next"
    # The server writes a second answer while the first one is on its way.
    until(lambda: shim.metric("stray_messages_total") == 2)


def test_lines_of_many_mebibytes_pass(plain, legacy, modern):
    size = 20 * 1024 * 1024
    for client in (legacy(plain), modern(plain)):
        assert len(client.text("big", bytes=size)) == size


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 262_144, 1_048_576])
def test_lines_around_the_sizes_of_pipes_pass(plain, legacy, size):
    assert len(legacy(plain).text("big", bytes=size)) == size


def test_a_server_has_a_wide_pipe_once_it_has_had_a_long_answer(start, legacy):
    shim = start(isolation="shared")
    client = legacy(shim)
    assert client.text("echo", text="short") == "short"
    assert max(pipe_sizes(shim.process.pid)) < WIDE_PIPE_BYTES
    assert len(client.text("big", bytes=WIDE_PIPE_BYTES)) == WIDE_PIPE_BYTES
    assert sorted(pipe_sizes(shim.process.pid))[-2:] == [65_536, WIDE_PIPE_BYTES]


def pipe_sizes(pid):
    """The sizes of the pipes that a process has open."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(path).startswith("pipe:"):
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            found.append(fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ))
            os.close(fd)
    return found


def test_large_arguments_pass(plain, legacy):
    assert legacy(plain).text("echo", text="z" * 5_000_000) == "z" * 5_000_000


def test_a_line_over_the_limit_fails_its_call_and_no_other(start, legacy, gate):
    held = gate()
    shim = start(limits={"line_bytes": 100_000})
    client = legacy(shim)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(client.call, "hold", gate=held.path)
        held.reached()
        error = client.call("big", bytes=200_000)["error"]
        assert "limits.line_bytes" in error["message"]
        held.open()
        assert slow.result()["result"]
    assert shim.metric("oversize_lines_total") == 1


def test_a_tool_list_of_a_quarter_megabyte_is_read(start, modern):
    shim = start("--many-tools", "353")
    assert len(shim.info()["tools"]) > 353
    assert len(modern(shim).request("tools/list")[0]["result"]["tools"]) > 353


def test_white_space_between_tokens_breaks_no_stream(plain, legacy):
    client = legacy(plain)
    assert client.text("spread") == "spread"
    note, answer = client.request("tools/call", {"name": "spread_note", "_meta": {"progressToken": "t"}})
    assert note["params"] == {"progressToken": "t", "progress": 1}
    assert answer["result"]["content"][0]["text"] == "noted"
