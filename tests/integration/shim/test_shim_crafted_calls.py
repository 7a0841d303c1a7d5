"""Calls that are crafted, refused, cancelled or early: none evades a policy, runs twice or stays unanswered."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from running_shim import FAKE, events, impatient, messages, running, until


def test_a_legacy_call_with_a_second_name_in_other_letters_is_refused(plain, legacy):
    params = {"name": "echo", "Name": "die", "arguments": {}}
    answer = legacy(plain).post(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
        **{"Mcp-Method": "tools/call", "Mcp-Name": "echo"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32602)


def test_a_notification_reaches_the_server_without_members_that_could_make_it_a_call(legacy, tmp_path):
    heard = tmp_path / "heard"
    script = f'tee -a "{heard}" | exec "{sys.executable}" "{FAKE}"'
    with running(command="sh", args=["-c", script]) as shim:
        client = legacy(shim.wait_ready())
        crafted = {"method": "notifications/x", "Method": "tools/call", "Id": 7, "params": {"name": "die"}}
        assert client.post({"jsonrpc": "2.0", **crafted}).status_code == 202
        assert client.text("echo", text="still here") == "still here"
    lines = [json.loads(line) for line in heard.read_text().splitlines()]
    (notification,) = [line for line in lines if line.get("method") == "notifications/x"]
    assert notification == {"jsonrpc": "2.0", "method": "notifications/x", "params": {"name": "die"}}


def test_a_notification_in_a_batch_is_compared_with_the_headers_too(plain, legacy):
    client = legacy(plain, version="2025-03-26")
    batch = [
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/x"},
    ]
    answer = client.post(batch, **{"Mcp-Method": "ping"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)
    assert [one["id"] for one in messages(client.post(batch))[0]] == [1]


def test_a_batch_of_which_a_call_was_started_does_not_say_that_nothing_was(start, legacy):
    shim = start(limits={"calls_per_child": 1})
    client = legacy(shim, version="2025-03-26")
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "sleep", "arguments": {"seconds": 0}}}
    answer = client.post([call, {"jsonrpc": "2.0", "method": "notifications/x"}])
    assert answer.status_code == 200
    assert [one["result"]["content"][0]["text"] for one in answer.json()] == ["slept 0"]
    assert shim.metric("dropped_notifications_total") == 1


def test_an_unreadable_call_before_the_server_is_ready_is_answered(start, modern):
    client = modern(start("--slow-start", "1", ready=False), {"x": "1e999"})
    body = client.body("tools/call", {"name": "echo", "arguments": {}})
    unreadable = json.dumps(body).replace('"1e999"', "1e999")
    answer = client.http.post("/mcp", content=unreadable, headers=client.headers(body))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32602)


def test_an_answer_that_comes_after_the_cancel_does_not_send_the_call_again(start, legacy):
    client = legacy(start("--modern"), {"elicitation": {}})
    with client.stream("tools/call", {"name": "input", "arguments": {}}) as response:
        question = next(events(response))
        assert question["method"] == "elicitation/create"
        client.notify("notifications/cancelled", {"requestId": 1})
        client.respond(question["id"], {"action": "accept", "content": {"name": "late"}})
        seen = json.loads(client.call("seen", id=2)["result"]["content"][0]["text"])
    assert seen.count("tools/call") == 2


def test_a_server_with_all_the_calls_that_it_may_have_takes_a_cancel(start, legacy):
    client = legacy(start(limits={"calls_per_child": 1}))
    with client.stream("tools/call", {"name": "sleep", "arguments": {"seconds": 60}}) as response:
        client.notify("notifications/cancelled", {"requestId": 1})
        (answer,) = events(response)
    assert "cancelled" in answer["error"]["message"]


def test_a_call_that_is_cancelled_before_it_has_a_process_is_not_sent(legacy, tmp_path, gate):
    heard, held = tmp_path / "heard", gate()
    script = f'tee -a "{heard}" | exec "{sys.executable}" "{FAKE}" --start-at "{held.path}"'
    held.open()
    config = {"command": "sh", "args": ["-c", script], "isolation": "request", "limits": {"spares": 0}}
    with running(**config) as shim:
        client = legacy(shim.wait_ready())
        held.shut()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(client.call, "never")
            held.reached()
            client.notify("notifications/cancelled", {"requestId": 1})
            assert answer.result()["error"]["data"]["reason"] == "cancelled"
        held.open()
        until(lambda: shim.info()["children"] == 1)
    assert "tools/list" in heard.read_text()
    assert "tools/call" not in heard.read_text()


def test_a_server_request_for_a_caller_that_left_is_not_sent_to_the_next(start, modern, gate):
    shim, asking, running_on = start(isolation="shared"), gate(), gate()
    leaving, other = modern(shim, {"sampling": {}}), modern(shim, {"sampling": {}})
    with impatient(leaving), pytest.raises(httpx.ReadTimeout):
        leaving.call("sample", prompt="a secret of the one who left", gate=asking.path)
    asking.reached()
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(other.text, "hold", gate=running_on.path)
        running_on.reached()
        asking.open()
        until(lambda: shim.metric("refused_requests_total") == 1)
        running_on.open()
        assert beside.result() == "let go"
