"""Calls are counted once, by their outcome, whether the server or the shim answers."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from running_shim import FAKE, events, impatient, posted, until

ISOLATIONS = pytest.mark.parametrize("isolation", ["session", "shared"])


def outcomes(shim, method):
    """The number of a method's calls by outcome."""
    found = ("ok", "error", "tool_error", "input_required", "failed", "cancelled")
    counts = {outcome: int(shim.metric("calls_total", method=method, outcome=outcome)) for outcome in found}
    return {outcome: count for outcome, count in counts.items() if count}


@ISOLATIONS
def test_a_call_that_its_client_cancels_counts_as_cancelled(start, legacy, isolation):
    shim = start(isolation=isolation)
    client = legacy(shim)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.call, "never", "mine")
        until(lambda: shim.info()["in_flight"] == 1)
        client.notify("notifications/cancelled", {"requestId": "mine"})
        assert call.result()["error"]["data"] == {"reason": "cancelled"}
    assert outcomes(shim, "tools/call") == {"cancelled": 1}


@ISOLATIONS
def test_a_cancelled_call_whose_client_left_is_given_up_too(start, legacy, isolation):
    shim = start(isolation=isolation, limits={"calls_per_child": 1})
    client = legacy(shim)
    body = {"jsonrpc": "2.0", "id": "mine", "method": "tools/call", "params": {"name": "never", "arguments": {}}}
    with posted(shim, client.headers, body):
        until(lambda: shim.info()["in_flight"] == 1)
    until(lambda: shim.info()["in_flight"] == 0)
    client.notify("notifications/cancelled", {"requestId": "mine"})
    until(lambda: outcomes(shim, "tools/call") == {"cancelled": 1})
    assert client.text("echo", text="there is room") == "there is room"


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_call_whose_client_left_before_its_process_failed_to_start_counts_once(start, request, gate, tmp_path, era):
    broken, held = tmp_path / "broken", gate()
    waits = f'while [ ! -e "{held.path}" ]; do sleep 0.05; done'
    words = f'[ -e "{broken}" ] && {{ {waits}; exit 9; }}; exec "{sys.executable}" "{FAKE}"'
    shim = start(command="sh", args=["-c", words], isolation="request", limits={"spares": 0})
    client = request.getfixturevalue(era)(shim)
    broken.touch()
    with impatient(client), pytest.raises(httpx.ReadTimeout):
        client.call("echo", text="too late")
    until(lambda: shim.metric("connections") == 1)  # ours
    held.open()
    until(lambda: shim.metric("server_starts_total") == 2 and shim.info()["children"] == 1)
    # The process exits shortly before the call that waited for it is given up.
    until(lambda: outcomes(shim, "tools/call"))
    assert outcomes(shim, "tools/call") == {"cancelled": 1}


@ISOLATIONS
def test_answers_of_the_shim_are_counted_like_those_of_a_server(start, legacy, isolation):
    shim = start(isolation=isolation)
    client = legacy(shim)
    client.request("ping")
    client.request("logging/setLevel", {"level": "debug"})
    client.request("resources/subscribe", {"uri": "fake://one"})
    client.request("resources/unsubscribe", {"uri": "fake://one"})
    methods = ("ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe")
    assert [outcomes(shim, method) for method in methods] == [{"ok": 1}] * 4


@pytest.mark.parametrize(
    ("method", "params"), [("logging/setLevel", {"level": "loud"}), ("resources/subscribe", {"no": "uri"})]
)
def test_refusals_of_the_shim_are_counted_as_errors(start, legacy, method, params):
    shim = start(isolation="shared")
    (answer,) = legacy(shim).request(method, params)
    assert answer["error"]["code"] == -32602
    assert outcomes(shim, method) == {"error": 1}


def test_a_subscription_that_the_server_refuses_is_counted_as_an_error(start, legacy):
    shim = start("--no-subscriptions", isolation="shared")
    (answer,) = legacy(shim).request("resources/subscribe", {"uri": "fake://one"})
    assert answer["error"]["code"] == -32601
    assert outcomes(shim, "resources/subscribe") == {"error": 1}


def test_a_call_whose_client_refuses_the_server_request_is_counted(start, legacy):
    shim = start("--modern")
    client = legacy(shim, {"elicitation": {}})
    with client.stream("tools/call", {"name": "input", "arguments": {}}) as response:
        stream = events(response)
        client.post({"jsonrpc": "2.0", "id": next(stream)["id"], "error": {"code": -1, "message": "no"}})
        assert next(stream)["error"] == {"code": -1, "message": "no"}
    assert outcomes(shim, "tools/call") == {"error": 1}


@pytest.mark.parametrize("words", [[], ["--modern"]], ids=["legacy server", "modern server"])
@ISOLATIONS
def test_the_opening_of_a_session_is_counted_once(start, legacy, words, isolation):
    shim = start(*words, isolation=isolation)
    legacy(shim)
    assert outcomes(shim, "initialize") == {"ok": 1}
