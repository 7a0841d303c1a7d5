"""Proxies in front of a shim decide by headers: the server gets nothing that the headers deny, in both eras."""

from __future__ import annotations

import json

import pytest
from running_shim import ACCEPT, MODERN

ENCODED = {"plain": "eu", "accented": "=?base64?w7w=?="}


@pytest.mark.parametrize("name", ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Param-Region"])
@pytest.mark.parametrize("second", ["the same", "another"])
def test_a_modern_header_given_twice_is_refused(plain, modern, name, second):
    client = modern(plain)
    body = client.body("tools/call", {"name": "mirrored", "arguments": {"region": "eu"}}, id="mine")
    headers = {**client.headers(body), "Mcp-Param-Region": "eu"}
    again = headers[name] if second == "the same" else "other"
    for pairs in ([*headers.items(), (name, again)], [(name, again), *headers.items()]):
        response = client.http.post("/mcp", json=body, headers=pairs)
        assert (response.status_code, response.json()["error"]["code"]) == (400, -32020)
        assert response.json()["id"] == "mine"


@pytest.mark.parametrize("name", ["MCP-Protocol-Version", "Mcp-Session-Id"])
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_a_session_header_given_twice_is_refused(plain, legacy, name, method):
    client = legacy(plain)
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"} if method == "POST" else None
    other = MODERN if name == "MCP-Protocol-Version" else "0" * 32
    response = client.http.request(method, "/mcp", json=body, headers=[(name, other), *client.headers.items()])
    assert (response.status_code, response.json()["error"]["code"]) == (400, -32020)
    assert client.text("echo", text="still open") == "still open"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Mcp-Method": "tools/call", "Mcp-Name": "echo"}, 200),
        ({"Mcp-Method": "tools/list"}, 400),
        ({"Mcp-Method": "tools/call", "Mcp-Name": "die"}, 400),
        ({"Mcp-Name": "die"}, 400),
        ({"Mcp-Name": "=?base64?ZWNobw==?="}, 400),
    ],
)
@pytest.mark.parametrize("isolation", ["session", "shared"])
def test_a_legacy_call_must_agree_with_its_headers(plain, start, legacy, isolation, headers, status):
    client = legacy(plain if isolation == "session" else start(isolation=isolation))
    body = {"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "x"}}}
    response = client.post(body, **headers)
    assert response.status_code == status
    assert response.json()["id"] == 4
    if status == 400:
        assert response.json()["error"]["code"] == -32020


def test_initialize_must_agree_with_its_headers(plain):
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}
    response = plain.http.post("/mcp", json=body, headers={**ACCEPT, "Mcp-Method": "tools/list"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize(("value", "header"), [("eu", "eu"), ("ü", "=?base64?w7w=?="), (" x", "=?base64?IHg=?=")])
def test_a_mirrored_parameter_is_compared_after_decoding(plain, modern, value, header):
    client = modern(plain)
    body = client.body("tools/call", {"name": "mirrored", "arguments": {"region": value}})
    assert "Unknown tool" in client.post(body, Mcp_Param_Region=header).text
    other = client.body("tools/call", {"name": "mirrored", "arguments": {"region": "us"}})
    assert client.post(other, Mcp_Param_Region=header).json()["error"]["code"] == -32020


def test_a_mirrored_parameter_is_compared_whatever_else_the_arguments_hold(plain, modern):
    client = modern(plain)
    for beside in ("1" * 40, "1e400"):
        body = client.body("tools/call", {"name": "mirrored", "arguments": {"region": "us", "beside": "BESIDE"}})
        content = json.dumps(body).replace('"BESIDE"', beside)
        for told, refused in ((None, True), ("eu", True), ("us", False)):
            headers = {**client.headers(body), **({"Mcp-Param-Region": told} if told else {})}
            error = plain.http.post("/mcp", content=content, headers=headers).json()["error"]
            assert (error["code"] == -32020) is refused


@pytest.mark.parametrize("header", ["=?base64?!?=", "=?BASE64?w7w=?=", "=?base64?w7w?=", "=?base64?/w==?="])
def test_a_broken_encoding_of_a_parameter_is_refused(plain, modern, header):
    client = modern(plain)
    body = client.body("tools/call", {"name": "mirrored", "arguments": {"region": "ü"}})
    response = client.post(body, Mcp_Param_Region=header)
    assert (response.status_code, response.json()["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize("method", ["prompts/get", "resources/read"])
def test_prompts_and_resources_are_named_too(plain, modern, method):
    client = modern(plain)
    key = {"prompts/get": "name", "resources/read": "uri"}[method]
    body = client.body(method, {key: "fake://one"})
    for name in (None, "fake://two"):
        response = client.post(body, Mcp_Name=name)
        assert (response.status_code, response.json()["error"]["code"]) == (400, -32020)
    assert client.post(body).json().get("error", {}).get("code") != -32020


@pytest.mark.parametrize("other", ["Name", "NAME", "nAme"])
def test_a_second_name_in_other_letters_is_refused_since_some_servers_would_take_it(plain, modern, other):
    client = modern(plain)
    body = client.body("tools/call", {"name": "echo", other: "die", "arguments": {other: "is fine here"}})
    response = client.post(body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, -32602)
    del body["params"][other]
    assert client.post(body).status_code == 200


def test_the_last_of_two_equal_names_is_compared(plain, modern):
    client = modern(plain)
    body = client.body("tools/call", {"name": "echo", "arguments": {}})
    content = json.dumps(body).replace('"name": "echo"', '"name": "echo", "name": "die"')
    response = plain.http.post("/mcp", content=content, headers=client.headers(body))
    assert (response.status_code, response.json()["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize("path", ["/health", "/ready", "/info", "/metrics", "/mcp"])
@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_every_endpoint_checks_host_and_origin(plain, path, headers):
    assert plain.http.get(path, headers={"Accept": "text/event-stream", **headers}).status_code == 403
