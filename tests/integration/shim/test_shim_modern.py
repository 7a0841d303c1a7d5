"""The modern era over a server of either era: rules, multiplexing, input, subscriptions, cancels."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from running_shim import MODERN, events, messages, posted, until

VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
LOG_LEVEL = "io.modelcontextprotocol/logLevel"
BOTH = pytest.mark.parametrize("era", [[], ["--modern"]], ids=["legacy server", "modern server"])


@pytest.fixture(scope="module", params=[[], ["--modern"]], ids=["legacy server", "modern server"])
def either(request):
    """A shim over a server of each era."""
    from running_shim import running

    with running(*request.param) as shim:
        yield shim.wait_ready()


def test_calls_are_answered_with_what_this_revision_requires(either, modern):
    client = modern(either)
    result = client.call("echo", text="hello")["result"]
    assert result["content"] == [{"type": "text", "text": "hello"}]
    assert result["resultType"] == "complete"


@pytest.mark.parametrize("method", ["server/discover", "tools/list", "resources/list", "resources/read"])
def test_lists_and_reads_carry_cache_hints(either, modern, method):
    params = {"uri": "fake://one"} if method == "resources/read" else None
    (answer,) = modern(either).request(method, params)
    assert answer["result"]["resultType"] == "complete"
    if either.info()["eras"] == ["legacy"] or method == "server/discover":  # a modern server's own result passes
        assert answer["result"]["ttlMs"] >= 0
        assert answer["result"]["cacheScope"] in ("public", "private")


def test_discover_has_both_eras_and_the_servers_identity(either, modern):
    result = modern(either).request("server/discover")[0]["result"]
    assert result["supportedVersions"][0] == MODERN
    assert "2025-11-25" in result["supportedVersions"]
    assert result["capabilities"]["tools"] == {"listChanged": True}
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "fake"


def test_the_envelope_reaches_a_modern_server_and_not_a_legacy_one(either, modern):
    meta = json.loads(modern(either, {"roots": {}}).call("meta", meta={"x.y/z": 1})["result"]["content"][0]["text"])
    assert meta["x.y/z"] == 1
    if either.info()["eras"] == ["modern"]:
        assert meta[VERSION] == MODERN
        assert meta[CAPABILITIES] == {"roots": {}}
    else:
        assert not [key for key in meta if key.startswith("io.modelcontextprotocol/")]


def test_many_callers_use_the_same_ids_and_tokens_and_none_is_crossed(either, modern):
    clients = [modern(either) for _ in range(8)]

    def run(n):
        client = clients[n % 8]
        params = {"name": "progress", "arguments": {"steps": 2}}
        *notes, last = client.request("tools/call", params, id=1, progressToken=f"mine-{n}")
        assert {note["params"]["progressToken"] for note in notes} == {f"mine-{n}"}
        assert len(notes) == 2
        assert last["id"] == 1
        return client.call("echo", id=1, text=f"t{n}")["result"]["content"][0]["text"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(160))) == [f"t{n}" for n in range(160)]


WRONG = {
    "no version header": ({"MCP_Protocol_Version": None}, 400, -32020),
    "another version": ({"MCP_Protocol_Version": "2025-11-25"}, 400, -32020),
    "no method": ({"Mcp_Method": None}, 400, -32020),
    "another method": ({"Mcp_Method": "tools/list"}, 400, -32020),
    "method in capitals": ({"Mcp_Method": "TOOLS/CALL"}, 400, -32020),
    "no name": ({"Mcp_Name": None}, 400, -32020),
    "another name": ({"Mcp_Name": "delete_file"}, 400, -32020),
    "needlessly encoded name": ({"Mcp_Name": "=?base64?ZWNobw==?="}, 400, -32020),
    "broken encoding": ({"Mcp_Name": "=?base64?!!!?="}, 400, -32020),
    "encoding in capitals": ({"Mcp_Name": "=?BASE64?ZWNobw==?="}, 400, -32020),
    "no event stream": ({"Accept": "application/json"}, 406, -32600),
    "other content": ({"Content_Type": "text/plain"}, 415, -32600),
    "foreign origin": ({"Origin": "http://evil.example"}, 403, -32600),
}


@pytest.mark.parametrize("case", WRONG)
def test_headers_that_differ_from_the_body_are_refused(plain, modern, case):
    headers, status, code = WRONG[case]
    client = modern(plain)
    response = client.post(client.body("tools/call", {"name": "echo", "arguments": {}}, id="mine"), **headers)
    assert response.status_code == status
    assert response.json()["error"]["code"] == code


def test_a_header_given_twice_is_refused(plain, modern):
    client = modern(plain)
    body = client.body("tools/call", {"name": "echo", "arguments": {}})
    headers = [*client.headers(body).items(), ("Mcp-Name", "echo")]
    response = client.http.post("/mcp", json=body, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (400, -32020)


def test_names_that_need_it_are_encoded(plain, modern):
    client = modern(plain)
    body = client.body("tools/call", {"name": "ünknown", "arguments": {}})
    response = client.post({**body, "params": {**body["params"]}}, Mcp_Name="=?base64?w7xua25vd24=?=")
    assert response.json()["error"]["message"] == "Unknown tool: ünknown"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        (None, -32602),
        ({}, -32602),
        ({"_meta": {}}, -32602),
        ({"_meta": {VERSION: MODERN}}, -32602),
        ({"_meta": {CAPABILITIES: {}}}, -32602),
        ({"_meta": {VERSION: 5, CAPABILITIES: {}}}, -32602),
        ({"_meta": {VERSION: MODERN, CAPABILITIES: []}}, -32602),
        ({"_meta": {VERSION: MODERN, CAPABILITIES: {}, LOG_LEVEL: "loud"}}, -32602),
    ],
)
def test_requests_without_their_metadata_are_refused(plain, modern, params, code):
    client = modern(plain)
    body = {"jsonrpc": "2.0", "id": 7, "method": "tools/list", **({"params": params} if params is not None else {})}
    response = client.post(body)
    assert response.status_code == 400
    assert response.json()["id"] == 7
    assert response.json()["error"]["code"] == code


def test_an_unknown_version_is_told_what_is_supported(plain, modern):
    client = modern(plain)
    body = client.body("tools/list", **{VERSION: "2199-01-01"})
    response = client.post(body, MCP_Protocol_Version="2199-01-01")
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, -32022)
    assert MODERN in error["data"]["supported"]
    assert error["data"]["requested"] == "2199-01-01"


@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "no/such"])
def test_unknown_methods_get_404(either, modern, method):
    client = modern(either)
    response = client.post(client.body(method, id=3))
    assert (response.status_code, response.json()["error"]["code"], response.json()["id"]) == (404, -32601, 3)


def test_get_and_delete_are_not_offered_in_this_revision(plain):
    for method in ("GET", "DELETE"):
        headers = {"MCP-Protocol-Version": MODERN, "Accept": "text/event-stream"}
        response = plain.http.request(method, "/mcp", headers=headers)
        assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_a_session_id_is_ignored_and_none_is_given(plain, modern):
    client = modern(plain)
    response = client.post(client.body("tools/list"), Mcp_Session_Id="whatever", Last_Event_ID="3")
    assert response.status_code == 200
    assert "mcp-session-id" not in response.headers


def test_a_missing_resource_has_the_modern_error_code(plain, modern):
    client = modern(plain)
    response = client.post(client.body("resources/read", {"uri": "fake://none"}))
    assert (response.status_code, response.json()["error"]["code"]) == (400, -32602)


def test_a_notification_is_accepted(plain, modern):
    client = modern(plain)
    body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    assert client.post(body).status_code == 202
    answer = client.post(body, Mcp_Method="notifications/progress")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)


@BOTH
def test_closing_the_stream_cancels_the_call_at_the_server(start, modern, gate, era):
    shim = start(*era)
    client, other = modern(shim), modern(shim)
    params = {"name": "progress", "arguments": {"steps": 1, "gate": gate().path}}
    with client.stream("tools/call", params, progressToken=1) as response:
        next(events(response))
    until(lambda: json.loads(other.text("cancelled")))


def test_closing_the_connection_of_a_silent_call_cancels_it_too(start, modern, gate):
    shim, held = start(), gate()
    client, other = modern(shim), modern(shim)
    body = client.body("tools/call", {"name": "hold", "arguments": {"gate": held.path}})
    with posted(shim, client.headers(body), body):
        held.reached()
    until(lambda: json.loads(other.text("cancelled")))
    assert shim.metric("calls_total", outcome="cancelled") == 1


def test_log_messages_go_only_to_clients_that_asked_from_their_level_on(either, modern):
    client = modern(either)
    assert len(client.request("tools/call", {"name": "log", "arguments": {"level": "error"}})) == 1
    quiet = client.request("tools/call", {"name": "log", "arguments": {"level": "info"}}, **{LOG_LEVEL: "warning"})
    assert len(quiet) == 1
    note, answer = client.request(
        "tools/call", {"name": "log", "arguments": {"level": "error", "data": "d"}}, **{LOG_LEVEL: "warning"}
    )
    assert note["method"] == "notifications/message"
    assert note["params"]["data"] == "d"
    assert answer["result"]["resultType"] == "complete"


def test_mirrored_parameters_must_equal_the_arguments(plain, modern):
    client = modern(plain)
    body = client.body("tools/call", {"name": "mirrored", "arguments": {"region": "eu"}})
    assert client.post(body).status_code == 400
    assert client.post(body, Mcp_Param_Region="us").status_code == 400
    assert "Unknown tool" in client.post(body, Mcp_Param_Region="eu").text
    without = client.body("tools/call", {"name": "mirrored", "arguments": {}})
    assert client.post(without, Mcp_Param_Region="eu").json()["error"]["code"] == -32020


# Input during a call.


def test_a_legacy_servers_request_becomes_input_required_and_the_retry_continues(plain, modern):
    client = modern(plain, {"sampling": {}})
    params = {"name": "sample", "arguments": {"prompt": "hm?"}}
    asked = client.request("tools/call", params, id=1)[0]["result"]
    assert asked["resultType"] == "input_required"
    ((key, request),) = asked["inputRequests"].items()
    assert request["method"] == "sampling/createMessage"
    assert request["params"]["messages"][0]["content"]["text"] == "hm?"
    more = {"requestState": asked["requestState"], "inputResponses": {key: {"model": "m", "role": "assistant"}}}
    answer = client.call("sample", id=2, more=more, prompt="hm?")
    assert answer["id"] == 2
    assert answer["result"]["resultType"] == "complete"
    assert json.loads(answer["result"]["content"][0]["text"])["model"] == "m"
    assert client.text("seen").count("tools/call") >= 1


def test_several_server_requests_at_once_go_to_the_client_at_once(plain, modern):
    client = modern(plain, {"sampling": {}, "elicitation": {}})
    asked = client.call("both")["result"]
    assert {request["method"] for request in asked["inputRequests"].values()} == {
        "sampling/createMessage",
        "elicitation/create",
    }
    first, second = asked["inputRequests"]
    more = {"requestState": asked["requestState"], "inputResponses": {first: {"a": 1}}}
    again = client.call("both", more=more)["result"]
    assert list(again["inputRequests"]) == [second]
    more = {"requestState": again["requestState"], "inputResponses": {second: {"b": 2}, "unknown": {}}}
    assert client.call("both", more=more)["result"]["resultType"] == "complete"


def test_successive_server_requests_take_one_round_each(plain, modern):
    client = modern(plain, {"sampling": {}})
    answer = client.call("sample_twice")["result"]
    states = []
    for n in range(2):
        (key,) = answer["inputRequests"]
        states.append(answer["requestState"])
        more = {"requestState": answer["requestState"], "inputResponses": {key: {"n": n}}}
        answer = client.call("sample_twice", more=more)["result"]
    assert json.loads(answer["content"][0]["text"]) == [{"n": 0}, {"n": 1}]
    assert states[0] != states[1]


@pytest.mark.parametrize("how", ["changed", "foreign", "used", "other arguments", "other tool"])
def test_a_wrong_state_is_refused(plain, modern, how):
    client = modern(plain, {"sampling": {}})
    asked = client.call("sample", prompt="p")["result"]
    (key,) = asked["inputRequests"]
    state, tool, prompt = asked["requestState"], "sample", "p"
    responses = {key: {"ok": True}}
    if how == "changed":
        state = state[:-4] + ("AAAA" if not state.endswith("AAAA") else "BBBB")
    elif how == "foreign":
        state = "bm90IG91cnM"
    elif how == "used":
        client.call("sample", more={"requestState": state, "inputResponses": responses}, prompt="p")
    elif how == "other arguments":
        prompt = "q"
    else:
        tool = "elicit"
    answer = client.call(tool, more={"requestState": state, "inputResponses": responses}, prompt=prompt)
    assert answer["error"]["code"] == -32602


def test_a_client_that_cannot_be_asked_is_not_asked_and_the_server_is_told(start, modern):
    shim = start()
    assert "the client can't be asked for sampling/createMessage" in modern(shim).text("sample")
    assert shim.metric("refused_requests_total") == 1


def test_a_client_without_roots_has_none(plain, modern):
    assert json.loads(modern(plain).text("roots")) == {"roots": []}


def test_input_that_does_not_come_in_time_ends_the_call(start, modern):
    shim = start(limits={"input_seconds": 0.3})
    client = modern(shim, {"sampling": {}})
    asked = client.call("sample")["result"]
    until(lambda: json.loads(client.text("cancelled")))
    more = {"requestState": asked["requestState"], "inputResponses": {key: {} for key in asked["inputRequests"]}}
    assert client.call("sample", more=more)["error"]["code"] == -32602
    assert shim.metric("suspended") == 0


def test_server_requests_of_two_callers_never_cross(start, modern):
    shim = start()
    clients = [modern(shim, {"sampling": {}}) for _ in range(4)]

    def run(n):
        client = clients[n]
        asked = client.call("sample", id=1, prompt=f"secret {n}").get("result")
        if asked is None or "inputRequests" not in asked:
            return None  # asked while the caller was unclear: refused, never shown to another
        ((key, request),) = asked["inputRequests"].items()
        assert request["params"]["messages"][0]["content"]["text"] == f"secret {n}"
        more = {"requestState": asked["requestState"], "inputResponses": {key: {"for": n}}}
        answer = client.call("sample", id=1, more=more, prompt=f"secret {n}")["result"]
        assert json.loads(answer["content"][0]["text"]) == {"for": n}
        return n

    with ThreadPoolExecutor(4) as pool:
        alone = [run(n) for n in range(2)]
        assert alone == [0, 1]
        assert list(pool.map(run, range(4))) == [0, 1, 2, 3]


def test_a_modern_servers_input_requests_pass_as_they_are(start, modern):
    client = modern(start("--modern"), {"elicitation": {}})
    asked = client.call("input")["result"]
    assert asked["requestState"] == "abc"
    more = {"requestState": "abc", "inputResponses": {"name": {"action": "accept"}}}
    said = json.loads(client.call("input", more=more)["result"]["content"][0]["text"])
    assert said == {"state": "abc", "inputs": {"name": {"action": "accept"}}}


def test_url_elicitations_become_input_and_the_retry_is_a_new_call(start, modern):
    shim = start()
    client = modern(shim, {"elicitation": {"url": {}}})
    asked = client.call("visit")["result"]
    (request,) = asked["inputRequests"].values()
    assert request["method"] == "elicitation/create"
    assert request["params"] == {"mode": "url", "message": "log in", "url": "https://example.test/login"}
    more = {"requestState": asked["requestState"], "inputResponses": {"u0": {"action": "accept"}}}
    assert client.call("visit", more=more)["result"]["content"][0]["text"] == "visited"
    assert client.call("visit", more={"requestState": asked["requestState"]}, other=1)["error"]["code"] == -32602


def test_a_client_without_url_elicitation_is_told_what_it_lacks(start, modern):
    client = modern(start(), {"elicitation": {}})
    error = client.call("visit")["error"]
    assert (error["code"], error["data"]["requiredCapabilities"]) == (-32021, {"elicitation": {"url": {}}})


def test_an_answer_that_is_no_object_is_asked_for_again(plain, modern):
    client = modern(plain, {"sampling": {}})
    asked = client.call("sample")["result"]
    (key,) = asked["inputRequests"]
    more = {"requestState": asked["requestState"], "inputResponses": {key: 12345}}
    assert list(client.call("sample", more=more)["result"]["inputRequests"]) == [key]


# Subscriptions.


def test_a_subscription_is_acknowledged_first_and_gets_only_what_it_asked_for(either, modern):
    client, other = modern(either), modern(either)
    wanted = {"toolsListChanged": True, "resourceSubscriptions": ["fake://one"]}
    with client.stream("subscriptions/listen", {"notifications": wanted}, id="sub") as response:
        assert response.headers["content-type"] == "text/event-stream"
        stream = events(response)
        first = next(stream)
        assert first["method"] == "notifications/subscriptions/acknowledged"
        assert first["params"]["notifications"] == wanted
        if either.info()["eras"] == ["legacy"]:
            other.call("change", method="notifications/prompts/list_changed")
            other.call("change", method="notifications/resources/updated", uri="fake://two")
        other.call("change", method="notifications/resources/updated", uri="fake://one")
        second = next(stream)
        other.call("change", method="notifications/tools/list_changed")
        third = next(stream)
    assert [second["method"], third["method"]] == [
        "notifications/resources/updated",
        "notifications/tools/list_changed",
    ]
    assert second["params"]["uri"] == "fake://one"
    assert {note["params"]["_meta"][SUBSCRIPTION] for note in (first, second, third)} == {"sub"}


def test_two_subscriptions_with_one_id_both_get_changes(either, modern):
    one, two, other = modern(either), modern(either), modern(either)
    wanted = {"notifications": {"toolsListChanged": True}}
    with one.stream("subscriptions/listen", wanted, id=1) as a, two.stream("subscriptions/listen", wanted, id=1) as b:
        streams = [events(a), events(b)]
        for stream in streams:
            next(stream)
        other.call("change", method="notifications/tools/list_changed")
        heard = [next(stream) for stream in streams]
    assert [note["params"]["_meta"][SUBSCRIPTION] for note in heard] == [1, 1]


# Trace context.


def test_trace_context_of_the_headers_reaches_the_server(either, modern):
    client = modern(either)
    body = client.body("tools/call", {"name": "meta", "arguments": {}})
    response = client.post(body, traceparent="00-aa-bb-01", tracestate="x=1")
    said = json.loads(messages(response)[0]["result"]["content"][0]["text"])
    assert (said["traceparent"], said["tracestate"]) == ("00-aa-bb-01", "x=1")
    body = client.body("tools/call", {"name": "meta", "arguments": {}}, traceparent="00-own-01")
    said = json.loads(messages(client.post(body, traceparent="00-aa-bb-01"))[0]["result"]["content"][0]["text"])
    assert said["traceparent"] == "00-own-01"
