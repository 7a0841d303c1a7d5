"""Clients of each era at servers of the other era: what is translated."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from running_shim import MODERN, events, until

# A legacy server's requests, each with the capability that it needs and an answer.
QUESTIONS = {
    "sample": ("sampling/createMessage", {"sampling": {}}, {"role": "assistant", "model": "m", "content": {}}),
    "elicit": ("elicitation/create", {"elicitation": {}}, {"action": "accept", "content": {"name": "Ada"}}),
    "roots": ("roots/list", {"roots": {}}, {"roots": [{"uri": "file:///home"}]}),
}


@pytest.mark.parametrize("isolation", ["session", "shared", "request"])
@pytest.mark.parametrize("tool", QUESTIONS)
def test_each_kind_of_server_request_of_a_legacy_server_becomes_input(start, modern, tool, isolation):
    method, capabilities, answer = QUESTIONS[tool]
    client = modern(start(isolation=isolation), capabilities)
    asked = client.call(tool)["result"]
    assert asked["resultType"] == "input_required"
    ((key, request),) = asked["inputRequests"].items()
    assert request["method"] == method
    more = {"requestState": asked["requestState"], "inputResponses": {key: answer}}
    result = client.call(tool, id=2, more=more)["result"]
    assert result["resultType"] == "complete"
    assert json.loads(result["content"][0]["text"]) == answer


@pytest.mark.parametrize("odd", ["1" * 40, '{"n": 1e400}', '{"b": 1, "a": 2}'])
def test_a_call_with_unreadable_arguments_can_be_asked_and_retried(plain, modern, odd):
    client = modern(plain, {"elicitation": {}})

    def call(**params):
        body = client.body("tools/call", {"name": "elicit", "arguments": {"odd": "ODD"}, **params})
        content = json.dumps(body).replace('"ODD"', odd)
        return plain.http.post("/mcp", content=content, headers=client.headers(body)).json()["result"]

    asked = call()
    (key,) = asked["inputRequests"]
    answer = call(requestState=asked["requestState"], inputResponses={key: {"action": "accept"}})
    assert json.loads(answer["content"][0]["text"]) == {"action": "accept"}


def test_a_legacy_server_is_subscribed_and_unsubscribed(start, modern):
    shim = start()
    client, other = modern(shim), modern(shim)
    wanted = {"notifications": {"resourceSubscriptions": ["fake://one"]}}
    with client.stream("subscriptions/listen", wanted, id="s") as response:
        assert next(events(response))["method"] == "notifications/subscriptions/acknowledged"
        assert other.text("seen").count("resources/subscribe") == 1
    until(lambda: "resources/unsubscribe" in other.text("seen"))


def test_a_subscription_that_a_legacy_server_does_not_support_is_not_acknowledged(start, modern):
    client = modern(start())
    wanted = {"notifications": {"toolsListChanged": True, "resourceSubscriptions": [], "noSuchThing": True}}
    with client.stream("subscriptions/listen", wanted) as response:
        first = next(events(response))
    assert first["params"]["notifications"] == {"toolsListChanged": True, "resourceSubscriptions": []}


def test_notifications_of_a_call_never_come_on_a_subscription(start, modern):
    shim = start()
    client, other = modern(shim), modern(shim)
    with client.stream("subscriptions/listen", {"notifications": {"toolsListChanged": True}}) as response:
        stream = events(response)
        next(stream)
        other.request("tools/call", {"name": "progress", "arguments": {"steps": 2}}, progressToken="t")
        other.request("tools/call", {"name": "log", "arguments": {}}, **{"io.modelcontextprotocol/logLevel": "debug"})
        other.call("change", method="notifications/tools/list_changed")
        assert next(stream)["method"] == "notifications/tools/list_changed"


@pytest.mark.parametrize("words", [[], ["--modern"]], ids=["legacy server", "modern server"])
@pytest.mark.parametrize("isolation", ["session", "shared"])
def test_a_legacy_clients_cancel_reaches_a_server_of_either_era(start, legacy, gate, words, isolation):
    client, held = legacy(start(*words, isolation=isolation)), gate()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.call, "hold", "mine", gate=held.path)
        held.reached()
        client.notify("notifications/cancelled", {"requestId": "mine", "reason": "no more"})
        until(lambda: json.loads(client.text("cancelled")))
        assert call.result()["error"]["data"]["reason"] == "cancelled"


@pytest.mark.parametrize("words", [[], ["--modern"]], ids=["legacy server", "modern server"])
def test_a_servers_errors_reach_a_legacy_client_as_they_are(start, legacy, words):
    client = legacy(start(*words))
    for method, params, code in (("no/such", {}, -32601), ("tools/call", {"name": "no-such"}, -32602)):
        response = client.post({"jsonrpc": "2.0", "id": "e", "method": method, "params": params})
        assert (response.status_code, response.json()["id"], response.json()["error"]["code"]) == (200, "e", code)


ERRORS = [("no/such", {}, 404, -32601), ("tools/call", {"name": "no-such"}, 400, -32602)]


@pytest.mark.parametrize("words", [[], ["--modern"]], ids=["legacy server", "modern server"])
@pytest.mark.parametrize(("method", "params", "status", "code"), ERRORS)
def test_a_servers_errors_have_their_status_in_the_modern_era(start, modern, words, method, params, status, code):
    client = modern(start(*words))
    response = client.post(client.body(method, params, id="e"))
    assert (response.status_code, response.json()["id"], response.json()["error"]["code"]) == (status, "e", code)


def test_a_call_that_takes_too_long_ends_with_an_error(start, modern):
    error = modern(start(request_seconds=1.5)).call("never")["error"]
    assert (error["code"], error["data"]) == (-32603, {"reason": "timeout", "started": True})


def test_an_error_after_a_stream_has_begun_is_its_last_event(start, modern):
    shim = start(limits={"sse_after_seconds": 0.2})
    with modern(shim).stream("tools/call", {"name": "never"}) as response:
        assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream")
        assert "exited with code 3" in modern(shim).call("die")["error"]["message"]
        (last,) = events(response)
    assert (last["error"]["code"], last["error"]["data"]["reason"]) == (-32603, "server-exited")


@pytest.mark.parametrize("words", [[], ["--modern"]], ids=["legacy server", "modern server"])
def test_outcomes_of_modern_calls_are_counted_although_http_says_200(start, modern, words):
    shim = start(*words)
    client = modern(shim, {"elicitation": {}})
    client.call("echo")
    client.call("fail")
    client.call("no-such")
    client.call("input" if words else "elicit")
    client.request("no/such")
    client.call("die")
    counted = {"ok": 1, "tool_error": 1, "error": 1, "failed": 1, **({} if words else {"input_required": 1})}
    counted["ok"] += len(words)  # a modern server's own request for input is its result
    for outcome, count in counted.items():
        assert shim.metric("calls_total", era="modern", method="tools/call", outcome=outcome) == count, outcome
    assert shim.metric("calls_total", era="modern", method="other", outcome="error") == 1


# Trace context.


class Remote(BaseHTTPRequestHandler):
    """A modern server on HTTP that keeps the headers of its requests."""

    heads: list[dict[str, str]]

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        result = {"resultType": "complete", "content": []}
        if message["method"] == "server/discover":
            result = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "public"}
        elif message["method"] == "tools/list":
            result = {"tools": []}
        else:
            self.server.heads.append({key.lower(): text for key, text in self.headers.items()})
        answer = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture
def remote():
    with ThreadingHTTPServer(("127.0.0.1", 0), Remote) as server:
        server.heads = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_trace_context_of_the_metadata_reaches_a_remote_servers_headers(start, remote, modern):
    shim = start(url=f"http://127.0.0.1:{remote.server_port}/mcp")
    client = modern(shim)
    told = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1"}
    client.call("x", meta={**told, "baggage": "k=v"})
    head = remote.heads[-1]
    assert {key: head[key] for key in (*told, "baggage")} == {**told, "baggage": "k=v"}
    body = client.body("tools/call", {"name": "x", "arguments": {}})
    client.post(body, traceparent="00-1-2-00")
    assert remote.heads[-1]["traceparent"] == "00-1-2-00"
    client.call("x", meta={"traceparent": "two\r\nlines"})
    assert "traceparent" not in remote.heads[-1]


@pytest.mark.parametrize("words", [[], ["--modern"]], ids=["legacy server", "modern server"])
def test_a_legacy_clients_trace_context_reaches_the_server(start, legacy, words):
    client = legacy(start(*words))
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "meta"}}
    response = client.post(body, traceparent="00-aa-bb-01", baggage="k=v")
    said = json.loads(response.json()["result"]["content"][0]["text"])
    assert (said["traceparent"], said["baggage"]) == ("00-aa-bb-01", "k=v")
