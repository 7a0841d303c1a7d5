"""Calls whose client left, cancelled or never came back: nothing of them stays, and no failure is wrong."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from running_shim import events, impatient, initialize, messages, running, until, within

# How long an impatient client waits for an answer (seconds).
IMPATIENT = httpx.Timeout(60, read=0.5)


def give_up(client, *words, **arguments):
    """Make a call and leave before its answer."""
    with impatient(client), contextlib.suppress(httpx.ReadTimeout):
        client.call(*words, **arguments)


@pytest.mark.parametrize("isolation", ["shared", "session", "request"])
def test_a_call_whose_client_left_keeps_its_deadline(start, legacy, isolation):
    shim = start(isolation=isolation, request_seconds=1.5, limits={"calls_per_child": 1, "children": 2, "spares": 0})
    client = legacy(shim)
    give_up(client, "never")
    until(lambda: "result" in client.call("echo", text="room again"))


def test_a_client_that_leaves_and_then_cancels_frees_its_process(start, legacy):
    shim = start(isolation="request", limits={"spares": 0})
    client = legacy(shim)
    give_up(client, "never", 7)
    client.notify("notifications/cancelled", {"requestId": 7})
    until(lambda: shim.info()["children"] == 1)


def test_an_initialize_that_is_given_up_leaves_no_process(start):
    shim = start("--deaf-to", "raw", limits={"spares": 0})
    with pytest.raises(httpx.ReadTimeout):
        initialize(shim, timeout=IMPATIENT)
    until(lambda: shim.info()["children"] == 1)


def test_an_unanswered_initialize_is_given_up_after_start_seconds(start):
    shim = start("--deaf-to", "raw", limits={"spares": 0}, start_seconds=1.5)
    (answer,) = messages(initialize(shim))
    assert "initialize within 1.5 s (start_seconds)" in answer["error"]["message"]
    until(lambda: shim.info()["children"] == 1)


def test_an_initialize_that_is_given_up_while_the_server_starts_leaves_no_session(start, legacy, gate):
    held = gate()
    shim = start("--start-at", held.path, ready=False, isolation="shared")
    with pytest.raises(httpx.ReadTimeout):
        initialize(shim, timeout=IMPATIENT)
    held.open()
    shim.wait_ready()
    legacy(shim)
    assert shim.info()["sessions"] == 1


@pytest.mark.parametrize("isolation", ["session", "shared"])
def test_a_cancel_means_the_newest_call_of_its_id_that_was_not_cancelled(start, legacy, isolation):
    shim = start(isolation=isolation)
    client = legacy(shim)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(client.call, "never", "same") for _ in range(4)]
        until(lambda: shim.info()["in_flight"] == 4)
        for _ in calls:
            client.notify("notifications/cancelled", {"requestId": "same"})
        assert [call.result()["error"]["data"]["reason"] for call in calls] == ["cancelled"] * 4
        assert len(json.loads(client.text("cancelled"))) == 4


def test_a_session_is_not_ended_for_idleness_right_after_a_long_call(start, legacy):
    shim = start(limits={"session_idle_seconds": 4})

    def come():
        client = legacy(shim)
        assert client.text("sleep", seconds=5) == "slept 5"
        time.sleep(1.2)  # the shim checks for idle sessions once a second
        assert client.text("echo", text="still here") == "still here"

    # Within this time the session was not idle for too long, counted from the last check that found it busy.
    within(5 + 4 - 1, come)


def test_a_second_round_that_finds_no_room_is_not_said_to_be_unstarted(start, legacy, gate):
    held = gate()
    # One for the call, one for the shim's own listen.
    shim = start("--modern", limits={"calls_per_child": 2})
    client, other = legacy(shim, {"elicitation": {}}), legacy(shim)
    with client.stream("tools/call", {"name": "input", "arguments": {}}) as response, ThreadPoolExecutor(1) as pool:
        stream = events(response)
        question = next(stream)
        busy = pool.submit(other.call, "hold", gate=held.path)
        until(lambda: shim.info()["in_flight"] == 2)
        client.respond(question["id"], {"action": "accept", "content": {"name": "Ada"}})
        error = next(stream)["error"]
        assert error["data"] == {"reason": "busy", "started": True}
        assert "nothing was started" not in error["message"]
        held.open()
        busy.result()


def test_params_with_null_metadata_reach_the_server(start, legacy):
    client = legacy(start(isolation="shared"))
    params = {"name": "echo", "arguments": {"text": "all here"}, "_meta": None}
    assert client.request("tools/call", params)[-1]["result"]["content"][0]["text"] == "all here"


def test_a_server_request_over_the_line_limit_is_refused(start, legacy):
    client = legacy(start(limits={"line_bytes": 10_000}), {"sampling": {}})
    assert "request is" in client.text("sample", prompt="x" * 20_000)


# Sends requests for ever and reads no answer; writes to its stderr how many it has sent.
DEAF = """
import json, sys, threading
def flood():
    for n in range(400_000):
        sys.stdout.write('{"jsonrpc":"2.0","id":%d,"method":"ping"}\\n' % n)
    sys.stdout.flush()
    print("flooded", file=sys.stderr, flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    if asked["method"] == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "deaf"}}
    elif asked["method"] == "tools/list":
        result = {"tools": []}
    elif asked["method"] == "tools/call":
        flood()
        threading.Event().wait()
    else:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32601, "message": "no"}}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""


def test_a_server_that_asks_and_does_not_read_does_not_fill_the_memory(modern):
    with running(command=sys.executable, args=["-c", DEAF], limits={"stdin_bytes": 1_000_000}) as shim:
        client = modern(shim.wait_ready())
        give_up(client, "anything")
        until(lambda: "flooded" in shim.lines)
        until(lambda: shim.metric("unread_answers_total") > 100_000)
        status = Path(f"/proc/{shim.process.pid}/status").read_text()
        kibibytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        assert kibibytes < 100_000


def test_a_server_that_goes_on_after_a_cancel_does_not_wait_for_its_clients_answer(start, modern):
    shim = start(limits={"input_seconds": 1}, request_seconds=60)
    assert modern(shim, {"sampling": {}}).call("sample")["result"]["resultType"] == "input_required"
    until(lambda: "did not answer in time" in modern(shim).text("answers"))


def test_the_shims_own_subscription_is_asked_for_again_when_the_server_ends_it(start, legacy):
    shim = start("--modern")
    client = legacy(shim)
    until(lambda: "subscriptions/listen" in client.text("seen"))
    client.call("unsubscribe")
    until(lambda: client.text("seen").count("subscriptions/listen") == 2)
