"""Valid but odd JSON in every place that the shim decodes: it is answered and does not break the shim."""

from __future__ import annotations

import json
import sys

import pytest
from running_shim import MODERN, running, until

# Each in its JSON text, since Python can't write some of them.
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


# Answers anything, in one era: the shim is tested here, not the server.
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


def serves(client):
    """A call that expired, on a busy machine, is repeated."""
    until(lambda: client.call("echo", text="fine").get("result"))
    return True


def sound(shim, exits=0):
    """No bug was logged, and the server runs."""
    assert exits is None or shim.metric("server_exits_total") == exits
    told = [line for line in shim.lines if "mcpmesh/shim/" in line or "a bug in" in line or "Fatal error" in line]
    assert not told, "\n".join(shim.lines[-40:])


@pytest.mark.parametrize("place", MODERN_PLACES)
def test_odd_values_in_a_modern_request(shim, modern, place):
    client = modern(shim)
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
    assert serves(client)


@pytest.mark.parametrize("place", LEGACY_PLACES)
def test_odd_values_in_a_sessions_message(shim, legacy, place):
    client = legacy(shim, {"elicitation": {}})
    method, params = LEGACY_PLACES[place]
    for name, odd in ODD.items():
        id = {} if method.startswith("notifications/") else {"id": 1}
        body = filled({"jsonrpc": "2.0", **id, "method": method, "params": params}, odd)
        response = client.http.post("/mcp", content=body, headers=client.headers)
        assert response.status_code in FINE, (name, response.status_code)
    sound(shim)
    assert serves(legacy(shim))


@pytest.mark.parametrize("member", ["id", "method", "jsonrpc", "result", "error"])
def test_odd_members_of_a_message(shim, legacy, member):
    client = legacy(shim)
    base = (
        {"jsonrpc": "2.0", "id": 7} if member in ("result", "error") else {"jsonrpc": "2.0", "id": 7, "method": "ping"}
    )
    for name, odd in ODD.items():
        response = client.http.post("/mcp", content=filled({**base, member: HERE}, odd), headers=client.headers)
        assert response.status_code in FINE, (name, response.status_code)
    sound(shim)
    assert serves(legacy(shim))


# A server that writes odd lines: the line follows "say" in the tool's name, with ID for the call's id.
ODD_SERVER = PATIENT.replace(
    "    answer = {",
    """    if method == "tools/call" and params["name"].startswith("say"):
        for said in json.loads(params["name"][3:]):
            print(said.replace("ID", str(message["id"])), flush=True)
        continue
    answer = {""",
)
SAID = {
    "error": '{"jsonrpc":"2.0","id":ID,"error":{"code":-32002,"message":"x","data":ODD}}',
    "code": '{"jsonrpc":"2.0","id":ID,"error":{"code":ODD,"message":"-32042"}}',
    "whole error": '{"jsonrpc":"2.0","id":ID,"error":ODD}',
    "whole result": '{"jsonrpc":"2.0","id":ID,"result":ODD}',
    "result": '{"jsonrpc":"2.0","id":ID,"result":{"resultType":"input_required","inputRequests":ODD}}',
    "state": '{"jsonrpc":"2.0","id":ID,"result":{"resultType":"input_required","requestState":ODD}}',
}
NOTED = {
    "token": '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":ODD}}',
    "level": '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":ODD}}',
    "uri": '{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":ODD}}',
    "subscription": '{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":ODD}}',
    "question": '{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":ODD}',
    "mode": '{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"mode":ODD}}',
    "params": '{"jsonrpc":"2.0","method":"notifications/message","params":ODD}',
}
ANSWER = '{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}'


@pytest.fixture(scope="module", params=[("legacy", "session"), ("legacy", "shared"), ("modern", "shared")])
def odd_shim(request):
    """A shim over a server that writes the lines that a call names."""
    era, isolation = request.param
    server = {"command": sys.executable, "args": ["-c", ODD_SERVER, era], "affinity": "127.0.0.1:1"}
    with running(**server, isolation=isolation, request_seconds=2.0) as running_shim:
        yield running_shim.wait_ready()


@pytest.mark.parametrize("said", [*SAID, *NOTED])
def test_odd_lines_of_a_server_end_their_call_at_most(odd_shim, modern, legacy, said):
    client = modern(odd_shim, {"elicitation": {}})
    session = legacy(odd_shim, {"elicitation": {}})
    for name, odd in ODD.items():
        lines = [SAID[said].replace("ODD", odd)] if said in SAID else [NOTED[said].replace("ODD", odd), ANSWER]
        tool = "say" + json.dumps(lines)
        body = client.body("tools/call", {"name": tool, "arguments": {}})
        response = client.post(body)
        assert response.status_code in FINE, (name, response.status_code)
        assert response.content, name
        assert session.request("tools/call", {"name": tool}), name
    sound(odd_shim)
    assert serves(client)


# A text in the patient server's program, and its replacement, where `odd` is the odd value.
GREETINGS = {
    "a legacy version": ("legacy", '"2025-11-25"', "odd"),
    "modern versions": ("modern", '["2026-07-28"]', "odd"),
    "a legacy ability": ("legacy", '"tools": {}', '"tools": odd'),
    "a modern ability": ("modern", '"tools": {}', '"tools": odd'),
    "a name": ("legacy", '{"name": "patient"}', "odd"),
    "a cache's scope": ("modern", '"private"', "odd"),
}


@pytest.mark.parametrize("place", GREETINGS)
def test_a_server_with_an_odd_initialize_result_is_served_or_reported(place, modern):
    era, right, instead = GREETINGS[place]
    server = PATIENT.replace(right, instead).replace(
        "import json, sys", "import json, sys\nodd = json.loads(sys.argv[2])"
    )
    for name in ("a truth", "nothing", "a list", "a fraction", "a long integer"):
        with running(command=sys.executable, args=["-c", server, era, ODD[name]], start_seconds=3.0) as shim:
            until(lambda shim=shim: shim.state()["state"] != "starting")
            assert shim.http.get("/info").status_code == 200
            if shim.state()["state"] == "ready":
                assert serves(modern(shim))
            sound(shim, exits=None)
            assert shim.process.poll() is None


@pytest.mark.parametrize("member", ["protocolVersion", "capabilities", "clientInfo"])
def test_odd_values_in_initialize(shim, legacy, member):
    for name, odd in ODD.items():
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}, member: HERE}
        body = filled({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}, odd)
        headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        response = shim.http.post("/mcp", content=body, headers=headers)
        assert response.status_code in FINE, (name, response.status_code)
    sound(shim)
    assert serves(legacy(shim))
