"""Isolation shared, over servers of either era, and isolation request."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from running_shim import events, running, until


@pytest.fixture(scope="module", params=[[], ["--modern"]], ids=["legacy server", "modern server"])
def shared(request):
    """A shim in shared isolation over a server of each era."""
    with running(*request.param, isolation="shared") as shim:
        yield shim.wait_ready()


def test_all_sessions_and_modern_callers_share_one_process(shared, legacy, modern):
    clients = [legacy(shared), legacy(shared), modern(shared)]
    assert len({client.text("pid") for client in clients}) == 1
    assert shared.info()["children"] == 1


def test_a_modern_only_server_serves_legacy_sessions(start, legacy):
    shim = start("--modern")
    client = legacy(shim)
    assert client.initialized["protocolVersion"] == "2025-11-25"
    assert client.initialized["serverInfo"]["name"] == "fake"
    assert client.initialized["capabilities"]["tools"]
    assert client.text("echo", text="translated") == "translated"
    assert client.request("ping")[-1]["result"] == {}
    assert shim.info()["eras"] == ["modern"]


def test_sessions_use_the_same_ids_and_tokens_and_none_is_crossed(shared, legacy):
    clients = [legacy(shared) for _ in range(6)]

    def run(n):
        client = clients[n % 6]
        params = {"name": "progress", "arguments": {"steps": 2}, "_meta": {"progressToken": f"mine-{n}"}}
        *notes, last = client.request("tools/call", params, id=1)
        assert [note["params"]["progressToken"] for note in notes] == [f"mine-{n}"] * 2
        assert last["id"] == 1
        return client.call("echo", id=1, text=f"t{n}")["result"]["content"][0]["text"]

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(run, range(120))) == [f"t{n}" for n in range(120)]


def test_each_session_has_a_log_level_of_its_own(shared, legacy):
    curious, calm = legacy(shared), legacy(shared)
    assert curious.request("logging/setLevel", {"level": "debug"})[-1]["result"] == {}
    assert calm.request("logging/setLevel", {"level": "error"})[-1]["result"] == {}
    assert len(curious.request("tools/call", {"name": "log", "arguments": {"level": "info"}})) == 2
    assert len(calm.request("tools/call", {"name": "log", "arguments": {"level": "info"}})) == 1
    assert curious.request("logging/setLevel", {"level": "loud"})[-1]["error"]["code"] == -32602


def test_changes_go_to_every_session_and_updates_to_subscribers(shared, legacy):
    one, two = legacy(shared), legacy(shared)
    assert one.request("resources/subscribe", {"uri": "fake://one"})[-1]["result"] == {}
    until(lambda: "subscriptions/listen" in two.text("seen") or "resources/subscribe" in two.text("seen"))
    with one.listen() as first, two.listen() as second:
        hears_one, hears_two = events(first), events(second)
        trigger = legacy(shared)
        trigger.call("change", method="notifications/resources/updated", uri="fake://one")
        trigger.call("change", method="notifications/tools/list_changed")
        assert next(hears_one)["params"]["uri"] == "fake://one"
        assert next(hears_one)["method"] == "notifications/tools/list_changed"
        assert next(hears_two)["method"] == "notifications/tools/list_changed"
    assert one.request("resources/unsubscribe", {"uri": "fake://one"})[-1]["result"] == {}


def test_a_cancel_of_one_session_does_not_touch_the_others_call_of_the_same_id(start, legacy, gate):
    shim, held = start(isolation="shared"), gate()
    one, two = legacy(shim), legacy(shim)
    with ThreadPoolExecutor(2) as pool:
        mine = pool.submit(one.call, "never", "same")
        other = pool.submit(two.call, "hold", "same", gate=held.path)
        until(lambda: shim.info()["in_flight"] == 2)
        one.notify("notifications/cancelled", {"requestId": "same"})
        assert mine.result()["error"]["data"]["reason"] == "cancelled"
        held.open()
        assert other.result()["result"]["content"][0]["text"] == "let go"


def test_a_shared_legacy_servers_request_reaches_its_only_caller(start, legacy):
    shim = start(isolation="shared")
    client, other = legacy(shim, {"sampling": {}}), legacy(shim, {"sampling": {}})
    with client.stream("tools/call", {"name": "sample", "arguments": {"prompt": "p"}}) as response:
        stream = events(response)
        question = next(stream)
        client.respond(question["id"], {"said": "this"})
        assert json.loads(next(stream)["result"]["content"][0]["text"]) == {"said": "this"}
    assert other.text("echo", text="x") == "x"


def test_a_server_request_that_could_belong_to_several_callers_is_refused(start, legacy, gate):
    shim, held = start(isolation="shared"), gate()
    client, other = legacy(shim, {"sampling": {}}), legacy(shim, {"sampling": {}})
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(other.request, "tools/call", {"name": "hold", "arguments": {"gate": held.path}})
        until(lambda: shim.info()["in_flight"] == 1)
        assert "for which caller" in client.text("sample", prompt="p")
        held.open()
        assert len(busy.result()) == 1
    assert shim.metric("refused_requests_total") == 1


def test_a_client_that_cannot_be_asked_is_not_asked(start, legacy):
    shim = start(isolation="shared")
    client = legacy(shim)
    assert "can't be asked" in client.text("sample")
    assert json.loads(client.text("roots")) == {"roots": []}


def test_a_modern_servers_input_request_becomes_a_server_request_to_the_legacy_client(start, legacy):
    shim = start("--modern")
    client = legacy(shim, {"elicitation": {}})
    with client.stream("tools/call", {"name": "input", "arguments": {}}) as response:
        stream = events(response)
        question = next(stream)
        assert question["method"] == "elicitation/create"
        client.respond(question["id"], {"action": "accept", "content": {"name": "Ada"}})
        said = json.loads(next(stream)["result"]["content"][0]["text"])
    assert said == {"state": "abc", "inputs": {"name": {"action": "accept", "content": {"name": "Ada"}}}}


def test_a_refused_server_request_fails_the_call(start, legacy):
    client = legacy(start("--modern"), {"elicitation": {}})
    with client.stream("tools/call", {"name": "input", "arguments": {}}) as response:
        stream = events(response)
        question = next(stream)
        client.post({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "no"}})
        assert next(stream)["error"] == {"code": -1, "message": "no"}


def test_sessions_outlive_the_shared_process(start, legacy):
    shim = start(isolation="shared", limits={"backoff_seconds": 0.05})
    client = legacy(shim)
    assert "exited with code 3" in client.call("die")["error"]["message"]
    shim.wait_ready()
    assert client.text("echo", text="same session") == "same session"


def test_deleting_a_shared_session_cancels_its_calls(start, legacy):
    shim = start(isolation="shared")
    client, other = legacy(shim), legacy(shim)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.call, "never")
        until(lambda: shim.info()["in_flight"] == 1)
        client.http.delete("/mcp", headers=client.headers)
        assert call.result()["error"]["data"]["reason"] == "session-ended"
    until(lambda: json.loads(other.text("cancelled")))


@pytest.mark.parametrize("words", [[], ["--modern"]], ids=["legacy server", "modern server"])
def test_each_call_has_its_own_process(start, legacy, modern, words):
    shim = start(*words, isolation="request", limits={"children": 12})
    clients = [legacy(shim), legacy(shim), modern(shim)]
    pids = [client.text("pid") for client in clients for _ in range(2)]
    assert len(set(pids)) == 6
    until(lambda: shim.info()["children"] <= 2)


def test_a_call_that_kills_its_process_harms_no_other(start, legacy, gate):
    shim, held = start(isolation="request"), gate()
    client, other = legacy(shim), legacy(shim)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(other.call, "hold", gate=held.path)
        held.reached()
        assert "exited with code 3" in client.call("die")["error"]["message"]
        held.open()
        assert slow.result()["result"]
    assert shim.state()["state"] == "ready"
