"""JSON that is right and odd, in every place that the shim looks at: answered, and nothing of it breaks the shim."""

from __future__ import annotations

import json
import sys

import pytest
from shim_running import MODERN, running

# Each as it stands in the text, since Python can't write some of them.
ODD = {
    "a long integer": "1" * 40,
    "a large number": "1e400",
    "half a character": r'"\ud800"',
    "a null character": r'"\u0000"',
    "nothing": "null",
    "a truth": "true",
    "a fraction": "0.5",
    "a list": "[[], {}]",
    "an object": '{"a": {"b": 11111111111111111111111111111}}',
    "many levels": "[" * 800 + "]" * 800,
    "the same key twice": '{"name": "echo", "name": "die"}',
    "a line break": '"a\\nb"',
}
HERE = "HERE"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
}
# Method and params with one place to fill.
MODERN_PLACES = {
    "params": ("tools/call", HERE),
    "meta": ("tools/call", {"name": "echo", "_meta": HERE}),
    "version": ("tools/call", {"name": "echo", "_meta": {**META, "io.modelcontextprotocol/protocolVersion": HERE}}),
    "capabilities": (
        "tools/call",
        {"name": "echo", "_meta": {**META, "io.modelcontextprotocol/clientCapabilities": HERE}},
    ),
    "a capability": (
        "tools/call",
        {"name": "echo", "_meta": {**META, "io.modelcontextprotocol/clientCapabilities": {"elicitation": HERE}}},
    ),
    "log level": ("tools/call", {"name": "echo", "_meta": {**META, "io.modelcontextprotocol/logLevel": HERE}}),
    "progress token": ("tools/call", {"name": "echo", "_meta": {**META, "progressToken": HERE}}),
    "trace": ("tools/call", {"name": "echo", "_meta": {**META, "traceparent": HERE}}),
    "name": ("tools/call", {"name": HERE, "_meta": META}),
    "arguments": ("tools/call", {"name": "echo", "arguments": HERE, "_meta": META}),
    "an argument": ("tools/call", {"name": "echo", "arguments": {"region": HERE}, "_meta": META}),
    "state": ("tools/call", {"name": "echo", "requestState": HERE, "_meta": META}),
    "responses": ("tools/call", {"name": "echo", "requestState": "x", "inputResponses": HERE, "_meta": META}),
    "uri": ("resources/read", {"uri": HERE, "_meta": META}),
    "filter": ("tools/list", {"notifications": HERE, "_meta": META}),
    "wanted": ("subscriptions/listen", {"notifications": HERE, "_meta": META}),
}
LEGACY_PLACES = {
    "params": ("tools/call", HERE),
    "meta": ("tools/call", {"name": "echo", "_meta": HERE}),
    "progress token": ("tools/call", {"name": "echo", "_meta": {"progressToken": HERE}}),
    "name": ("tools/call", {"name": HERE}),
    "level": ("logging/setLevel", {"level": HERE}),
    "uri": ("resources/subscribe", {"uri": HERE}),
    "cursor": ("tools/list", {"cursor": HERE}),
    "cancelled": ("notifications/cancelled", {"requestId": HERE}),
    "cancel params": ("notifications/cancelled", HERE),
}
FINE = frozenset((200, 202, 400, 404))


# Answers whatever comes, in one era: what is tried here is the shim.
PATIENT = """
import json, sys
modern = sys.argv[1] == "modern"
mirrored = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
can = {"tools": {}, "resources": {"subscribe": True}, "logging": {}}
for line in sys.stdin:
    message = json.loads(line)
    method, params = message.get("method"), message.get("params")
    if method is None or "id" not in message:
        continue
    result = {"content": [{"type": "text", "text": "fine"}]}
    if method == ("initialize" if modern else "server/discover"):
        result = None
    elif method == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": can, "serverInfo": {"name": "patient"}}
    elif method == "server/discover":
        result = {"supportedVersions": ["2026-07-28"], "capabilities": can, "ttlMs": 0, "cacheScope": "private"}
    elif method == "tools/list":
        result = {"tools": [{"name": "echo", "inputSchema": mirrored}]}
    answer = {"result": result} if result else {"error": {"code": -32601, "message": "no"}}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)
"""


@pytest.fixture(scope="module", params=[("legacy", "session"), ("legacy", "shared"), ("modern", "session")])
def shim(request):
    """A shim over a server of one era."""
    era, isolation = request.param
    server = {"command": sys.executable, "args": ["-c", PATIENT, era]}
    with running(**server, isolation=isolation, request_seconds=1.5, limits={"children": 300}) as running_shim:
        yield running_shim.wait_ready()


def filled(message, odd):
    return json.dumps(message).replace(json.dumps(HERE), odd).encode()


def sound(shim):
    """Nothing that is a bug was logged, and the server lives."""
    assert shim.metric("server_exits_total") == 0
    told = [line for line in shim.lines if "mcpmesh/shim/" in line or "a bug in" in line or "Fatal error" in line]
    assert not told, "\n".join(shim.lines[-40:])


@pytest.mark.parametrize("place", MODERN_PLACES)
def test_odd_values_in_a_modern_request(shim, modern, place):
    client = modern(shim, timeout=20)
    method, params = MODERN_PLACES[place]
    subscribes = method == "subscriptions/listen"
    for name, odd in ODD.items():
        headers = {**client.headers({"method": "tools/list"}), "Mcp-Method": method, "Mcp-Name": "echo"}
        headers |= {"Mcp-Param-Region": "eu"} if "argument" in place else {}
        body = filled({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, odd)
        with client.http.stream("POST", "/mcp", content=body, headers=headers) as response:
            assert response.status_code in FINE, (name, response.status_code)
            if not subscribes or response.status_code != 200:
                assert response.read(), name
    sound(shim)
    assert client.text("echo", text="fine") == "fine"


@pytest.mark.parametrize("place", LEGACY_PLACES)
def test_odd_values_in_a_sessions_message(shim, legacy, place):
    client = legacy(shim, {"elicitation": {}}, timeout=20)
    method, params = LEGACY_PLACES[place]
    for name, odd in ODD.items():
        id = {} if method.startswith("notifications/") else {"id": 1}
        body = filled({"jsonrpc": "2.0", **id, "method": method, "params": params}, odd)
        response = client.http.post("/mcp", content=body, headers=client.headers)
        assert response.status_code in FINE, (name, response.status_code)
    sound(shim)
    fresh = legacy(shim)
    assert fresh.text("echo", text="fine") == "fine"


@pytest.mark.parametrize("member", ["id", "method", "jsonrpc", "result", "error"])
def test_odd_members_of_a_message(shim, legacy, member):
    client = legacy(shim, timeout=20)
    base = (
        {"jsonrpc": "2.0", "id": 7} if member in ("result", "error") else {"jsonrpc": "2.0", "id": 7, "method": "ping"}
    )
    for name, odd in ODD.items():
        response = client.http.post("/mcp", content=filled({**base, member: HERE}, odd), headers=client.headers)
        assert response.status_code in FINE, (name, response.status_code)
    sound(shim)
    assert legacy(shim).text("echo", text="fine") == "fine"


@pytest.mark.parametrize("member", ["protocolVersion", "capabilities", "clientInfo"])
def test_odd_values_in_initialize(shim, legacy, member):
    for name, odd in ODD.items():
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}, member: HERE}
        body = filled({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}, odd)
        headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        response = shim.http.post("/mcp", content=body, headers=headers)
        assert response.status_code in FINE, (name, response.status_code)
    sound(shim)
    assert legacy(shim).text("echo", text="fine") == "fine"
