"""Where a request goes, in which era, and why it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.shim.in_process import LEGACY, META, MODERN, Client, Shim

Make = Callable[..., Shim]
JSON = "application/json"
BOTH = "application/json, text/event-stream"
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@pytest.fixture
def shim(make: Make) -> Shim:
    return make(isolation="shared")


def refusal(client: Client) -> tuple[int, int, str]:
    """Status, code and sentence of a refusal."""
    error = json.loads(client.body)["error"]
    return client.status, error["code"], error["message"]


def post(shim: Shim, body: bytes, **headers: str) -> Client:
    """A POST with these headers alone; an underscore stands for a dash."""
    base = {"accept": BOTH, "content_type": JSON, **headers}
    return shim.http("POST", "/mcp", {key.replace("_", "-"): text for key, text in base.items() if text}, body)


# HTTP.


@pytest.mark.parametrize("path", ["/", "/mcp2", "/MCP", "/health/"])
def test_an_unknown_path_is_refused(shim: Shim, path: str):
    assert refusal(shim.get(path)) == (404, -32600, "here are /mcp, /health, /ready, /info and /metrics")


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/mcp?x=1"])
def test_mcp_is_served_with_and_without_a_slash(shim: Shim, path: str):
    headers = {"accept": BOTH, "content-type": JSON}
    assert (
        refusal(shim.http("POST", path, headers, PING))[2] == "the header Mcp-Session-Id is missing; initialize first"
    )


@pytest.mark.parametrize("path", ["/health", "/ready", "/info", "/metrics"])
def test_the_plain_endpoints_are_read_only(shim: Shim, path: str):
    assert shim.http("GET", path, {}).status == 200
    assert shim.http("HEAD", path, {}).status == 200
    refused = shim.http("POST", path, {}, b"{}")
    assert refusal(refused) == (405, -32600, "only GET and HEAD are offered here")
    assert refused.headers["allow" if "allow" in refused.headers else "Allow"] == "GET, HEAD"


def test_a_head_has_no_body(shim: Shim):
    answer = shim.http("HEAD", "/health", {})
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == "18"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "HEAD"])
def test_other_methods_at_mcp_are_refused(shim: Shim, method: str):
    refused = shim.http(method, "/mcp", {})
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, POST, DELETE")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_the_modern_revision_has_post_only(shim: Shim, method: str):
    refused = shim.http(method, "/mcp", {"mcp-protocol-version": MODERN, "accept": "text/event-stream"})
    assert refusal(refused) == (405, -32600, "this revision of the protocol has POST only")
    assert refused.headers["Allow"] == "POST"


@pytest.mark.parametrize("accept", ["", JSON, "text/event-stream", "text/html"])
def test_a_client_that_does_not_accept_both_kinds_of_answer_is_refused(shim: Shim, accept: str):
    sentence = "the header Accept must list application/json and text/event-stream"
    assert refusal(post(shim, PING, accept=accept)) == (406, -32600, sentence)


def test_a_stream_needs_a_client_that_accepts_one(shim: Shim):
    refused = shim.http("GET", "/mcp", {"accept": JSON})
    assert refusal(refused) == (406, -32600, "the header Accept must list text/event-stream")


def test_a_body_that_is_not_plain_json_is_refused(shim: Shim):
    assert refusal(post(shim, PING, content_type="text/plain")) == (
        415, -32600, "the header Content-Type must be application/json",
    )  # fmt: skip
    encoded = post(shim, PING, content_encoding="gzip")
    assert refusal(encoded) == (415, -32600, "the body must be sent without a Content-Encoding")
    assert encoded.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', -32700, "Parse error: the body is not UTF-8"),
        (b'{"jsonrpc":"2.0"', -32700, "Parse error: "),
        (b"", -32700, "Parse error: "),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, "Invalid request: "),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600, 'Invalid request: "jsonrpc" must be "2.0"'),
        (b'{"id":1,"method":"ping"}', -32600, 'Invalid request: "jsonrpc" must be "2.0"'),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, "Invalid request: an id must not be null"),
        (b'{"jsonrpc":"2.0","id":1}', -32600, "neither a request, a notification nor a response"),
        (b'{"jsonrpc":"2.0","result":{}}', -32600, "neither a request, a notification nor a response"),
        (b'{"jsonrpc":"2.0","id":null,"result":{}}', -32600, "neither a request, a notification nor a response"),
    ],
)
def test_what_is_no_json_rpc_message_is_refused(shim: Shim, body: bytes, code: int, words: str):
    status, actual, sentence = refusal(post(shim, body))
    assert (status, actual) == (400, code)
    assert words in sentence


# Which era.


def test_a_request_is_modern_if_its_header_says_so(shim: Shim):
    refused = post(shim, PING, mcp_protocol_version=MODERN)
    sentence = f"params._meta is missing; it must carry {META}protocolVersion and {META}clientCapabilities"
    assert refusal(refused) == (400, -32602, sentence)


def test_a_request_is_modern_if_its_body_says_so(shim: Shim):
    meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    refused = shim.post({"id": 5, "method": "tools/list", "params": {"_meta": meta}})
    assert refusal(refused) == (400, -32020, "Header mismatch: the header MCP-Protocol-Version is missing")
    assert json.loads(refused.body)["id"] == 5


def test_an_unknown_revision_is_told_what_is_supported(shim: Shim):
    meta = {f"{META}protocolVersion": "2030-01-01", f"{META}clientCapabilities": {}}
    headers = {"mcp-protocol-version": "2030-01-01", "mcp-method": "tools/list"}
    refused = shim.post({"id": 1, "method": "tools/list", "params": {"_meta": meta}}, headers=headers)
    assert (refused.status, refused.error) == (400, {
        "code": -32022, "message": "Unsupported protocol version",
        "data": {"supported": [MODERN, LEGACY, "2025-06-18", "2025-03-26", "2024-11-05"], "requested": "2030-01-01"},
    })  # fmt: skip
    notified = shim.post({"method": "notifications/x"}, headers={"mcp-protocol-version": "2030-01-01"})
    assert (notified.status, notified.error["code"]) == (400, -32022)


def test_an_unknown_revision_in_a_session_is_refused_as_such(shim: Shim):
    session = shim.session()
    refused = shim.post({"id": 1, "method": "ping"}, session.id, {"mcp-protocol-version": "2030-01-01"})
    assert refusal(refused) == (400, -32600, "MCP-Protocol-Version '2030-01-01' is not supported in a session")


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", LEGACY])
def test_every_legacy_revision_is_taken_in_a_session(shim: Shim, version: str):
    session = shim.session()
    answer = shim.post({"id": 1, "method": "ping"}, session.id, {"mcp-protocol-version": version})
    assert answer.messages == [{"jsonrpc": "2.0", "id": 1, "result": {}}]


# Modern.


def test_a_modern_client_sends_no_responses(shim: Shim):
    refused = shim.post({"id": 1, "result": {}}, headers={"mcp-protocol-version": MODERN})
    sentence = "Invalid request: clients send no responses in this revision of the protocol"
    assert refusal(refused) == (400, -32600, sentence)


def test_a_modern_notification_is_accepted_and_goes_nowhere(shim: Shim):
    before = len(shim.server.received)
    accepted = shim.post({"method": "notifications/x"}, headers={"mcp-protocol-version": MODERN})
    assert (accepted.status, accepted.body) == (202, b"")
    assert len(shim.server.received) == before


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({}, "the header Mcp-Method is missing"),
        ({"mcp-method": "tools/call"}, "the header Mcp-Name is missing"),
        ({"mcp-method": "tools/list"}, "the header Mcp-Method says 'tools/list', the body 'tools/call'"),
        ({"mcp-method": "tools/call", "mcp-name": "no"}, "the header Mcp-Name says 'no', params.name 'echo'"),
        ({"mcp-method": "tools/call", "mcp-name": "=?base64?ZWNobw==?="}, "the header Mcp-Name is malformed"),
    ],
)
def test_the_headers_of_a_modern_request_must_agree_with_its_body(shim: Shim, headers: dict[str, str], sentence: str):
    meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    message = {"id": 1, "method": "tools/call", "params": {"name": "echo", "_meta": meta}}
    refused = shim.post(message, headers={"mcp-protocol-version": MODERN, **headers})
    assert refusal(refused) == (400, -32020, f"Header mismatch: {sentence}")


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({f"{META}protocolVersion": None}, -32602, "the params are not as tools/list has them"),
        ({f"{META}clientCapabilities": []}, -32602, f"{META}clientCapabilities must be an object"),
        ({f"{META}logLevel": "loud"}, -32602, f"{META}logLevel must be one of debug, info, notice"),
        ({f"{META}protocolVersion": "2025-11-25"}, -32020, "the header MCP-Protocol-Version says"),
    ],
)
def test_the_metadata_of_a_modern_request_is_checked(shim: Shim, change: dict[str, Any], code: int, words: str):
    refused = shim.modern("tools/list", meta=change)
    assert refusal(refused)[:2] == (400, code)
    assert words in refused.error["message"]


@pytest.mark.parametrize("lacking", ["protocolVersion", "clientCapabilities"])
def test_metadata_that_a_modern_request_lacks_is_named(shim: Shim, lacking: str):
    meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    del meta[f"{META}{lacking}"]
    headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/list"}
    refused = shim.post({"id": 1, "method": "tools/list", "params": {"_meta": meta}}, headers=headers)
    assert refusal(refused) == (400, -32602, f"params._meta lacks {META}{lacking}")


@pytest.mark.parametrize("params", [{}, {"name": None}, {"Name": "echo"}])
def test_a_modern_call_without_one_clear_name_is_refused(shim: Shim, params: dict[str, Any]):
    meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    message = {"id": 1, "method": "tools/call", "params": {**params, "_meta": meta}}
    headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "echo"}
    assert refusal(shim.post(message, headers=headers))[:2] == (400, -32602)


@pytest.mark.parametrize(
    "method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"]
)
def test_methods_of_the_legacy_era_are_gone_in_the_modern_one(shim: Shim, method: str):
    refused = shim.modern(method)
    assert refusal(refused) == (404, -32601, f"Method not found: {method}")


def test_discover_is_answered_by_the_shim(make: Make):
    shim = make(isolation="shared", era=MODERN, capabilities={"tools": {}, "tasks": {}, "odd": 1})
    before = len(shim.server.received)
    answer = shim.modern("server/discover", id="d")
    assert answer.messages[0] == {
        "jsonrpc": "2.0", "id": "d",
        "result": {
            "resultType": "complete",
            "supportedVersions": [MODERN, LEGACY, "2025-06-18", "2025-03-26", "2024-11-05"],
            "capabilities": {"tools": {}},
            "ttlMs": 0, "cacheScope": "private",
            "_meta": {f"{META}serverInfo": {"name": "fake", "version": "1"}},
        },
    }  # fmt: skip
    assert len(shim.server.received) == before
    assert shim.outcomes[("modern", "server/discover", "ok")] == 1


def test_a_tools_mirrored_arguments_are_compared_with_their_headers(make: Make):
    shim = make(isolation="shared", start=False)
    schema = {"type": "object", "properties": {"city": {"type": "string", "x-mcp-header": "City"}}}
    shim.automatic["tools/list"] = {"result": {"tools": [{"name": "weather", "inputSchema": schema}]}}
    shim.settle()
    refused = shim.modern("tools/call", {"name": "weather", "arguments": {"city": "Oslo"}})
    assert refused.error["code"] == -32020
    assert refused.error["message"].endswith("the header mcp-param-city is missing for the argument city")
    assert "tools/call" not in shim.server.methods()
    assert shim.modern("tools/call", {"name": "other", "arguments": {"city": "Oslo"}}).status == 0


def test_a_modern_call_waits_for_the_server(make: Make):
    shim = make(isolation="shared", start=False)
    del shim.automatic["initialize"]
    call = shim.modern("tools/call", {"name": "echo"})
    assert call.status == 0
    shim.servers[0].answer(shim.servers[0].calls[0], {"protocolVersion": LEGACY, "capabilities": {"tools": {}}})
    (sent,) = [message for message in shim.server.calls if message["method"] == "tools/call"]
    shim.server.answer(sent, {"content": []})
    assert call.result["content"] == []
    assert shim.app.connections.in_flight == 0


def test_of_a_waiting_call_whose_client_left_nothing_is_sent(make: Make):
    shim = make(isolation="shared", start=False)
    del shim.automatic["initialize"]
    call = shim.modern("tools/call", {"name": "echo"})
    call.leave()
    shim.servers[0].answer(shim.servers[0].calls[0], {"protocolVersion": LEGACY, "capabilities": {}})
    assert "tools/call" not in shim.server.methods()


def test_no_more_calls_wait_for_the_server_than_the_limit(make: Make):
    shim = make(isolation="shared", start=False, limits={"waiting": 2})
    del shim.automatic["initialize"]
    calls = [shim.modern("tools/call", {"name": "echo"}, id=n) for n in range(3)]
    assert [call.status for call in calls] == [0, 0, 503]
    assert calls[2].error["message"] == "cannot take the call: 2 wait for a server already; nothing was started"
    assert calls[2].headers["X-Mcpmesh-Not-Started"] == "1"
    assert calls[2].headers["retry-after"] == "1"
    shim.servers[0].answer(shim.servers[0].calls[0], {"protocolVersion": LEGACY, "capabilities": {}})
    assert [message["method"] for message in shim.server.calls].count("tools/call") == 2
    # All that waited are off the count again.
    assert shim.modern("tools/call", {"name": "echo"}).status == 0


def test_a_call_that_waits_fails_when_the_server_does(make: Make):
    shim = make(isolation="shared", start=False)
    del shim.automatic["initialize"]
    call = shim.modern("tools/call", {"name": "echo"}, id=9)
    shim.servers[0].exit_with()
    assert (call.status, call.messages[0]["id"], call.error["data"]["reason"]) == (503, 9, "restarting")
    assert "exited with code 1" in call.error["message"]


def test_unreadable_params_are_refused_not_a_bug(shim: Shim):
    session = shim.session()
    refused = shim.http(
        "POST", "/mcp",
        {"accept": BOTH, "content-type": JSON, "mcp-session-id": session.id},
        b'{"jsonrpc":"2.0","id":3,"method":"logging/setLevel","params":{"level":1e99999}}',
    )  # fmt: skip
    assert (refused.status, refused.error["code"]) == (400, -32602)
    assert refused.error["message"].startswith("the params can't be read (")


# Legacy.


def test_a_request_without_a_session_is_refused(shim: Shim):
    assert refusal(post(shim, PING)) == (400, -32600, "the header Mcp-Session-Id is missing; initialize first")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_session_is_not_found(shim: Shim, method: str):
    headers = {"accept": "text/event-stream", "mcp-session-id": "x"}
    sentence = "the session is not known here or has ended; initialize again"
    assert refusal(shim.http(method, "/mcp", headers)) == (404, -32600, sentence)
    assert refusal(shim.post({"id": 1, "method": "ping"}, "x"))[0] == 404


def test_a_header_that_appears_twice_is_refused(shim: Shim):
    session = shim.session()
    head = (
        f"POST /mcp HTTP/1.1\r\nhost: localhost\r\naccept: {BOTH}\r\ncontent-type: {JSON}\r\n"
        f"mcp-session-id: {session.id}\r\nmcp-session-id: {session.id}\r\n"
    )
    for body in (PING, b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}'):
        refused = Client(shim).send(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        sentence = "Header mismatch: the header mcp-session-id appears more than once"
        assert refusal(refused) == (400, -32020, sentence)


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({"mcp-method": "tools/list"}, "the header Mcp-Method says 'tools/list', the body 'tools/call'"),
        ({"mcp-name": "other"}, "the header Mcp-Name says 'other', the body 'echo'"),
        ({"mcp-name": "=?base64?ZWNobw==?="}, "the header Mcp-Name says '=?base64?ZWNobw==?=', the body 'echo'"),
    ],
)
def test_modern_headers_on_a_legacy_request_must_agree_with_it(shim: Shim, headers: dict[str, str], sentence: str):
    session = shim.session()
    message = {"id": 1, "method": "tools/call", "params": {"name": "echo"}}
    refused = shim.post(message, session.id, headers)
    assert refusal(refused) == (400, -32020, f"Header mismatch: {sentence}")
    assert shim.post(message, session.id, {"mcp-method": "tools/call", "mcp-name": "echo"}).status == 0


def test_responses_and_notifications_are_accepted_without_an_answer(shim: Shim):
    session = shim.session()
    assert [(c.status, c.body) for c in (session.notify("notifications/x"), session.answer(7, {}))] == [(202, b"")] * 2


def test_each_request_counts_as_use_of_the_session(make: Make):
    shim = make(isolation="shared", limits={"session_idle_seconds": 100})
    session = shim.session()
    for send in (
        lambda: session.request("ping"),
        lambda: session.notify("notifications/x"),
        lambda: session.answer(7, {}),
        lambda: shim.post([{"method": "notifications/x"}], session.id),
    ):
        shim.advance(80)
        assert send().status in (200, 202)
    shim.advance(102)
    assert session.request("ping").status == 404


# Batches.


def test_a_batch_is_answered_as_a_whole(shim: Shim):
    session = shim.session()
    messages: list[Any] = [
        {"id": 1, "method": "tools/call", "params": {"name": "a"}},
        {"method": "notifications/x"},
        {"id": 2, "method": "ping"},
        {"id": 3, "method": "tools/call", "params": {"name": "b"}},
    ]
    batch = shim.post(messages, session.id)
    first, second = shim.server.calls[-2:]
    shim.server.answer(second, {"b": 1})
    assert batch.status == 0
    shim.server.answer(first, {"a": 1})
    assert [(answer["id"], answer["result"]) for answer in batch.messages[0]] == [(2, {}), (3, {"b": 1}), (1, {"a": 1})]


def test_a_batch_of_notifications_is_accepted(shim: Shim):
    session = shim.session()
    assert shim.post([{"method": "notifications/x"}, {"id": 1, "result": {}}], session.id).status == 202


@pytest.mark.parametrize("version", ["2025-06-18", LEGACY, MODERN])
def test_later_revisions_have_no_batches(shim: Shim, version: str):
    session = shim.session()
    refused = shim.post([{"id": 1, "method": "ping"}], session.id, {"mcp-protocol-version": version})
    assert refusal(refused) == (400, -32600, "Invalid request: this revision of the protocol has no batches")


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26"])
def test_the_first_revisions_have_batches(shim: Shim, version: str):
    session = shim.session()
    assert shim.post([{"id": 1, "method": "ping"}], session.id, {"mcp-protocol-version": version}).status == 200


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "a batch has 1 to 1000 messages"),
        ([{"method": "x"}] * 1001, "a batch has 1 to 1000 messages"),
        ([{"id": 1, "method": "initialize"}], "initialize can't be part of a batch"),
        ([{"id": 1, "method": "ping"}, {"id": None, "method": "ping"}], "an id must not be null"),
    ],
)
def test_a_batch_that_is_wrong_is_refused_as_a_whole(shim: Shim, messages: list[Any], words: str):
    session = shim.session()
    before = len(shim.server.received)
    refused = shim.post(messages, session.id)
    assert (refused.status, len(shim.server.received)) == (400, before)
    assert words in refused.error["message"]


def test_a_batch_of_the_longest_length_is_taken(shim: Shim):
    session = shim.session()
    assert shim.post([{"method": "notifications/x"}] * 1000, session.id).status == 202


def test_a_batch_that_is_no_json_is_refused(shim: Shim):
    session = shim.session()
    refused = post(shim, b" [1,", mcp_session_id=session.id)
    assert refusal(refused)[:2] == (400, -32700)


def test_a_batch_with_a_notification_that_its_header_denies_is_refused_as_a_whole(shim: Shim):
    session = shim.session()
    batch = [{"id": 1, "method": "ping"}, {"method": "notifications/x"}]
    refused = shim.post(batch, session.id, {"mcp-method": "ping"})
    assert refusal(refused)[:2] == (400, -32020)


def test_a_request_of_a_batch_fails_alone(shim: Shim):
    session = shim.session()
    answer = shim.post([{"id": 1, "method": "logging/setLevel"}, {"id": 2, "method": "ping"}], session.id)
    first, second = answer.messages[0]
    assert (first["id"], first["error"]["code"], second) == (1, -32602, {"jsonrpc": "2.0", "id": 2, "result": {}})


def test_in_a_batch_a_message_that_the_server_can_not_take_is_dropped_unless_it_is_the_first(make: Make):
    shim = make(isolation="session")
    session = shim.session()
    server = shim.servers[1]
    server.waiting_bytes = shim.config.limits.stdin_bytes + 1
    notes = [{"method": "notifications/a"}, {"method": "notifications/b"}]
    refused = shim.post(notes, session.id)
    assert (refused.status, refused.error["data"]["reason"]) == (503, "server-stalled")
    mixed = shim.post([{"id": 5, "result": {}}, *notes], session.id)
    assert (mixed.status, shim.events["dropped_notifications"]) == (202, 2)


# Draining.


def test_a_shim_that_drains_takes_no_new_calls_and_sessions(make: Make):
    shim = make(isolation="shared", drain_seconds=50)
    session = shim.session()
    running = session.call("slow")
    draining = shim.drain()
    refused = [session.call("late"), shim.modern("tools/call", {"name": "late"}), shim.initialize()]
    assert [(call.status, call.headers["retry-after"], call.headers["connection"]) for call in refused] == [
        (503, "2", "close")
    ] * 3
    assert [call.error["message"] for call in refused] == [
        "cannot take the call: the shim is stopping; nothing was started",
        "cannot take the call: the shim is stopping; nothing was started",
        "cannot open a session: the shim is stopping; nothing was started",
    ]
    assert session.answer(1, {}).status == 202
    shim.server.answer(shim.server.calls[-1], {"late": False})
    shim.advance(1)
    assert (running.result, draining.result()) == ({"late": False}, 0)
