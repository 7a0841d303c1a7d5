"""Pure decisions: heads, header values, mirrored parameters, capabilities, translation."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpmesh.shim.errors import Failure
from mcpmesh.shim.http.request_head import BadRequest, Head, HeadTemplate, HostRules, parse
from mcpmesh.shim.protocol import modern_request, param_headers, translation
from mcpmesh.shim.server.remote_headers import header_value

RULES = HostRules(["mesh.example"], ["https://app.example"])


def head(*lines: str, first: str = "POST /mcp HTTP/1.1", host: str = "Host: localhost"):
    text = "\r\n".join([first, host, *lines]) + "\r\n\r\n"
    return parse(text.encode("latin-1"), RULES)[0]


def test_a_head_is_read():
    found = head("Content-Length: 12", "Accept: application/json, text/event-stream", "Content-Type: application/json")
    assert (found.method, found.path, found.length) == (b"POST", b"/mcp", 12)
    assert found.accepts_json
    assert found.accepts_sse
    assert found.body_json
    assert found.keep_alive
    assert found.rejection is None


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 1", "Content-Length: 2"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: -1"],
        ["Content-Length: 1x"],
        ["Bad Name: x"],
        ["Host: other"],
        ["Upgrade: websocket", "Connection: Upgrade"],
    ],
)
def test_an_ambiguous_head_is_refused(lines):
    with pytest.raises(BadRequest):
        head(*lines)


def request_head(length: object, session: str = "s1", name: str = "Content-Length") -> bytes:
    return f"POST /mcp HTTP/1.1\r\nHost: localhost\r\n{name}: {length}\r\nMcp-Session-Id: {session}\r\n\r\n".encode()


SESSIONS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)


@given(
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    SESSIONS,
    SESSIONS,
    st.sampled_from(["Content-Length", "content-length"]),
)
def test_a_repeated_head_is_recognized_whatever_its_length_and_session(first, second, one, other, name):
    data = request_head(first, one, name)
    known = HeadTemplate(parse(data, RULES)[0], data)
    again = request_head(second, other, name)
    assert known.end_in(again + b'{"a":1}') == len(again)
    fresh = parse(again, RULES)[0]
    # A GET's length is not used.
    fresh.headers[b"content-length"] = known.head.headers[b"content-length"]
    assert {slot: getattr(known.head, slot) for slot in Head.__slots__} == {
        slot: getattr(fresh, slot) for slot in Head.__slots__
    }


def proxied(number: int) -> bytes:
    """A request as Envoy and Kong forward it."""
    lines = (
        "POST /mcp HTTP/1.1",
        "host: localhost",
        f"x-request-id: 4b3c-{number}",
        "accept: */*",
        f"X-Kong-Request-Id: {number}",
    )
    return "\r\n".join([*lines, f"content-length: {number}", "", ""]).encode()


def test_a_repeated_head_is_recognized_whatever_the_proxys_request_ids():
    known = HeadTemplate(parse(proxied(1), RULES)[0], proxied(1))
    assert known.end_in(proxied(23)) == len(proxied(23))
    assert known.head.length == 23
    assert known.end_in(proxied(4).replace(b"*/*", b"*")) == 0


def test_a_head_with_a_repeated_header_is_recognized_only_unchanged():
    data = request_head("7\r\nMcp-Session-Id: s0")
    known = HeadTemplate(parse(data, RULES)[0], data)
    assert known.end_in(data) == len(data) and known.head.duplicated == "Mcp-Session-Id"
    assert known.end_in(data.replace(b"s0", b"s2")) == 0


@pytest.mark.parametrize(
    "other",
    [
        request_head(5, session=""),
        request_head(5, session=" s2"),
        request_head(5, session="s2 "),
        request_head(5, session="s 2"),
        request_head(5, session="s\x7f"),
        request_head(5, session="s2" * 65),
        request_head(5, session="s2\r\nX: y"),
        request_head(5, session="s2\nX: y"),
        request_head(5, session="s2\r\nMcp-Session-Id: s3"),
        request_head("5\r\nX: y"),
        request_head("5\r\nContent-Length: 6"),
        request_head("-5"),
        request_head("+5"),
        request_head("5 "),
        request_head(""),
        request_head("5" * 13),
        request_head(5)[:-2],
        request_head(5, name="Transfer-Encoding"),
        b"GET / HTTP/1.1\r\n\r\n",
        b"",
    ],
)
def test_a_head_that_differs_in_more_is_not_recognized(other):
    data = request_head(7)
    known = HeadTemplate(parse(data, RULES)[0], data)
    assert known.end_in(other) == 0
    assert (known.head.length, known.head.session, known.head.headers[b"mcp-session-id"]) == (7, "s1", b"s1")


def test_a_head_without_a_body_is_recognized_only_unchanged():
    data = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    known = HeadTemplate(parse(data, RULES)[0], data)
    assert known.end_in(data) == len(data)
    assert known.end_in(data.replace(b"health", b"ready")) == 0


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json, text/event-stream", (True, True)),
        ("text/event-stream;q=0.5,application/json;charset=utf-8", (True, True)),
        ("*/*", (True, True)),
        ("application/*, text/*", (True, True)),
        ("application/json", (True, False)),
        ("text/event-stream", (False, True)),
        ("application/json, text/event-stream;q=0", (True, False)),
        ("text/html", (False, False)),
    ],
)
def test_media_ranges_are_parsed(accept, expected):
    found = head(f"Accept: {accept}")
    assert (found.accepts_json, found.accepts_sse) == expected


def test_without_accept_nothing_is_accepted():
    assert not head().accepts_json


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:9000", "[::1]:9", "mesh.example:8000"])
def test_loopback_and_configured_hosts_are_allowed(host):
    assert head(host=f"Host: {host}").rejection is None


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "1.2.3.4"]
)
def test_other_hosts_are_refused(host):
    found = head(host=f"Host: {host}").rejection
    assert found is not None
    assert found[0] == 403


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5", "https://app.example", "https://APP.example"],
)
def test_loopback_and_configured_origins_are_allowed(origin):
    assert head(f"Origin: {origin}").rejection is None


@pytest.mark.parametrize("configured", ["https://Docs.Example", "https://docs.example/"])
def test_an_origin_is_configured_in_any_case_and_with_or_without_a_slash(configured):
    lines = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: https://docs.example\r\nContent-Length: 0\r\n\r\n"
    found = parse(lines, HostRules([], [configured]))
    assert found is not None
    assert found[0].rejection is None


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost.evil", "file://localhost"])
def test_other_origins_are_refused(origin):
    found = head(f"Origin: {origin}").rejection
    assert found is not None
    assert found[0] == 403


def test_white_space_around_a_value_is_no_part_of_it():
    assert head("Mcp-Name: \t echo  \t").mcp_name == "echo"


@pytest.mark.parametrize("name", ["Mcp-Name", "MCP-METHOD", "Mcp-Protocol-Version", "Mcp-Param-Region"])
def test_a_repeated_routing_header_is_noted(name):
    assert head(f"{name}: a", f"{name.lower()}: b").duplicated is not None


@given(st.text())
def test_what_one_side_encodes_the_other_decodes(text):
    value = header_value(text)
    assert value.isascii()
    assert "\n" not in value
    assert modern_request.decode_header_value(value, strict=True) == text


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_a_needless_encoding_is_malformed_in_strict_mode(text):
    encoded = f"=?base64?{base64.b64encode(text.encode()).decode()}?="
    if not (text.startswith("=?base64?") and text.endswith("?=")):
        assert modern_request.decode_header_value(encoded, strict=True) is None
    assert modern_request.decode_header_value(encoded) == text


@pytest.mark.parametrize("value", ["=?base64?SGVsbG8?=", "=?base64?!!!?=", "=?base64?/w==?=", "caf\xe9", "a\x7f"])
def test_broken_values_decode_to_nothing(value):
    assert modern_request.decode_header_value(value) is None


def schema(**properties):
    return {"type": "object", "properties": properties}


REGION = {"type": "string", "x-mcp-header": "Region"}


def test_declared_parameters_are_found_in_nested_objects():
    found = param_headers.declared_params(schema(a=schema(b=REGION), n={"type": "integer", "x-mcp-header": "N"}))
    assert {(parameter.path, parameter.header) for parameter in found} == {
        (("a", "b"), b"mcp-param-region"),
        (("n",), b"mcp-param-n"),
    }


def test_a_schema_without_end_declares_nothing():
    within = param_headers.MAX_NODES - 5  # the root, its type, the parameter, its type, and `required` itself
    assert param_headers.declared_params({**schema(a=REGION), "required": ["a"] * within}) != ()
    assert param_headers.declared_params({**schema(a=REGION), "required": ["a"] * (within + 1)}) == ()


def test_what_is_no_schema_is_passed_over_and_the_search_goes_on():
    found = param_headers.declared_params({**schema(a=REGION), "title": "text", "x": [None, 1, {"y": 2}]})
    assert [parameter.path for parameter in found] == [("a",)]


def url_error(data: object, code: int = -32042) -> bytes:
    return json.dumps({"code": code, "message": "visit first (-32042)", "data": data}).encode()


def test_the_addresses_to_visit_first_become_input_requests():
    first = {"mode": "url", "url": "https://a.example", "message": "sign in", "elicitationId": "1"}
    assert translation.url_elicitations(url_error({"elicitations": [first, {"url": "https://b.example"}]})) == {
        "u0": {
            "method": "elicitation/create",
            "params": {"mode": "url", "url": "https://a.example", "message": "sign in"},
        },
        "u1": {"method": "elicitation/create", "params": {"mode": "url", "url": "https://b.example"}},
    }


@pytest.mark.parametrize(
    "error",
    [
        url_error(None),
        url_error(["elicitations"]),
        url_error({}),
        url_error({"elicitations": "https://a.example"}),
        url_error({"elicitations": {}}),
        url_error({"elicitations": [{"url": "https://a.example"}, "b"]}),
        url_error({"elicitations": []}, code=-32000),
        b"-32042",
    ],
)
def test_an_error_without_addresses_to_visit_stays_an_error(error):
    assert translation.url_elicitations(error) is None


@pytest.mark.parametrize(
    "broken",
    [
        schema(a={**REGION, "type": "number"}),
        schema(a={**REGION, "type": "object"}),
        schema(a={**REGION, "x-mcp-header": ""}),
        schema(a={**REGION, "x-mcp-header": "two words"}),
        schema(a=REGION, b={**REGION, "x-mcp-header": "REGION"}),
        schema(a={"type": "array", "items": REGION}),
        {"type": "object", "anyOf": [schema(a=REGION)]},
        {**schema(), "x-mcp-header": "Root", "type": "string"},
    ],
)
def test_a_tool_whose_annotations_break_a_rule_declares_nothing(broken):
    assert param_headers.declared_params(broken) == ()


@pytest.mark.parametrize(
    ("kind", "value", "header", "right"),
    [
        ("string", "eu", "eu", True),
        ("string", "eu", "us", False),
        ("string", "eu", None, False),
        ("string", None, None, True),
        ("string", None, "eu", False),
        ("integer", 42, "42", True),
        ("integer", 42, "42.0", True),
        ("integer", 42, "43", False),
        ("integer", 42, "4.2e1", False),
        ("boolean", True, "true", True),
        ("boolean", True, "True", False),
        ("boolean", False, "false", True),
    ],
)
def test_headers_and_arguments_must_agree(kind, value, header, right):
    declared = param_headers.declared_params(schema(a={"type": kind, "x-mcp-header": "A"}))
    lines = [f"Mcp-Param-A: {header}"] if header is not None else []
    params = json.dumps({"arguments": {"a": value} if value is not None else {}}).encode()
    if right:
        param_headers.check_param_headers(declared, head(*lines), params)
    else:
        with pytest.raises(Failure):
            param_headers.check_param_headers(declared, head(*lines), params)


@pytest.mark.parametrize(
    ("method", "params", "capabilities", "lacks"),
    [
        ("sampling/createMessage", b"{}", {}, {"sampling": {}}),
        ("sampling/createMessage", b"{}", {"sampling": {}}, None),
        ("roots/list", b"", {}, {"roots": {}}),
        ("elicitation/create", b"{}", {"elicitation": {}}, None),
        ("elicitation/create", b'{"mode":"url"}', {"elicitation": {}}, {"elicitation": {"url": {}}}),
        ("elicitation/create", b'{"mode":"url"}', {"elicitation": {"url": {}}}, None),
        ("anything/else", b"", {"sampling": {}}, {}),
    ],
)
def test_the_missing_capability_of_a_server_request_is_found(method, params, capabilities, lacks):
    assert translation.missing_capability(method, params, capabilities) == lacks


@pytest.mark.parametrize("result", [b"{}", b"{ }", b'{"content":[]}', b' {"tools":[1]}'])
@pytest.mark.parametrize("method", ["tools/call", "tools/list"])
def test_a_modern_result_is_the_legacy_one_with_the_required_members(result, method):
    dressed = json.loads(translation.to_modern_result(result, method, {"name": "s"}))
    for key, value in json.loads(result).items():
        assert dressed[key] == value
    assert dressed["resultType"] == "complete"
    assert ("ttlMs" in dressed) == (method == "tools/list")
    assert dressed["_meta"]["io.modelcontextprotocol/serverInfo"] == {"name": "s"}


def test_a_results_own_metadata_is_not_overwritten():
    assert json.loads(translation.to_modern_result(b'{"_meta":{"a":1}}', "tools/call", {"name": "s"}))["_meta"] == {
        "a": 1
    }


@pytest.mark.parametrize("slash", ["/", "\\/", "\\u002f"])
def test_a_request_is_modern_however_the_slash_of_the_key_is_written(slash):
    params = f'{{"_meta":{{"io.modelcontextprotocol{slash}protocolVersion":"2026-07-28"}}}}'
    assert modern_request.claims_modern(params.encode())
    assert not modern_request.claims_modern(b'{"protocolVersion":"2025-11-25"}')
