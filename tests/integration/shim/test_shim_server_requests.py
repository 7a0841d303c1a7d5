"""Server requests to a legacy client: only to one with the capability, and none is kept for ever."""

from __future__ import annotations

import json

import pytest
from running_shim import events, until

from mcpmesh.shim.sessions.session import MAX_SERVER_REQUESTS

SAMPLING, ELICITATION, ROOTS = "sampling/createMessage", "elicitation/create", "roots/list"
CAPABILITY = {SAMPLING: "sampling", ELICITATION: "elicitation", ROOTS: "roots"}
ISOLATIONS = pytest.mark.parametrize("isolation", ["session", "shared", "request"])


def asking(*methods):
    """The params of a call at a modern server that requires these inputs."""
    return {"name": "input", "arguments": {"asks": methods}}


def said(message):
    return json.loads(message["result"]["content"][0]["text"])


@ISOLATIONS
@pytest.mark.parametrize("method", CAPABILITY)
def test_each_kind_of_input_of_a_modern_server_becomes_a_server_request_to_a_legacy_client(
    start, legacy, method, isolation
):
    client = legacy(start("--modern", isolation=isolation), {CAPABILITY[method]: {}})
    with client.stream("tools/call", asking(method)) as response:
        stream = events(response)
        question = next(stream)
        assert question["method"] == method
        client.respond(question["id"], {"is": "the answer"})
        assert said(next(stream)) == {"state": "abc", "inputs": {method: {"is": "the answer"}}}


@ISOLATIONS
@pytest.mark.parametrize("lacked", [SAMPLING, ELICITATION])
def test_a_legacy_client_is_not_asked_for_input_that_it_never_offered(start, legacy, lacked, isolation):
    offered = {CAPABILITY[method]: {} for method in CAPABILITY if method != lacked}
    client = legacy(start("--modern", isolation=isolation, request_seconds=60), offered)
    *_, answer = client.request("tools/call", asking(ELICITATION, SAMPLING, ROOTS))
    assert answer["error"] == {
        "code": -32603,
        "message": f"the server needs a client that can be asked for {lacked}",
        "data": {"reason": "missing-capability", "started": True, "requiredCapabilities": {CAPABILITY[lacked]: {}}},
    }
    assert client.text("echo", text="next") == "next"


def test_a_legacy_client_without_roots_has_none(start, legacy):
    client = legacy(start("--modern", request_seconds=60))
    *_, answer = client.request("tools/call", asking(ROOTS))
    assert said(answer) == {"state": "abc", "inputs": {ROOTS: {"roots": []}}}


@pytest.mark.parametrize("isolation", ["session", "shared"])
def test_beyond_the_bound_the_oldest_server_requests_are_refused_and_others_can_be_answered(start, legacy, isolation):
    shim = start(isolation=isolation)
    client = legacy(shim, {"sampling": {}})
    # A dedicated server gets another call of the same session; a shared one gets another session's.
    other = client if isolation == "session" else legacy(shim)
    with client.stream(
        "tools/call", {"name": "pester", "arguments": {"times": MAX_SERVER_REQUESTS + 3, "stay": True}}
    ) as response:
        stream = events(response)
        ids = [next(stream)["id"] for _ in range(MAX_SERVER_REQUESTS + 3)]
        assert len(set(ids)) == len(ids)
        refused = {"p0": "error", "p1": "error", "p2": "error"}
        until(lambda: json.loads(other.text("replies")) == refused)
        assert shim.metric("refused_requests_total") == 3
        client.respond(ids[0], {"too": "late"})
        client.respond(ids[3], {"in": "time"})
        until(lambda: json.loads(other.text("replies")) == {**refused, "p3": "result"})
    assert shim.metric("stray_messages_total") == 1


@pytest.mark.parametrize("isolation", ["shared", "request"])
def test_an_unanswered_server_request_is_refused_when_its_call_ends(start, legacy, tmp_path, isolation):
    shim = start(isolation=isolation)
    client = legacy(shim, {"sampling": {}})
    *questions, answer = client.request("tools/call", {"name": "pester", "arguments": {"times": 3}})
    assert answer["result"]["content"][0]["text"] == "asked"
    assert [question["method"] for question in questions] == [SAMPLING] * 3
    until(lambda: shim.metric("refused_requests_total") == 3)
    if isolation == "shared":
        assert json.loads(client.text("replies")) == {"p0": "error", "p1": "error", "p2": "error"}
    client.respond(questions[0]["id"], {"too": "late"})
    assert shim.metric("stray_messages_total") == 1
