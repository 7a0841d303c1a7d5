"""Remote servers with quirks: no call hangs, and nothing of one caller reaches another."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_remote import INITIALIZED, Answer, standing
from running_shim import running, until

MODERN_RESULT = {
    "resultType": "complete",
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "ttlMs": 0,
    "cacheScope": "private",
}


def bugs(shim) -> list[str]:
    return [line for line in shim.lines if "never retrieved" in line or "a bug in" in line or "Traceback" in line]


# Requests to the remote server.


def test_a_method_outside_ascii_is_answered(start, legacy):
    shim = start(url=start("--modern").url, isolation="shared")
    (answer,) = legacy(shim).request("r\u00e9sum\u00e9")
    assert "error" in answer
    assert not bugs(shim)


def test_an_escaped_slash_in_the_version_key_is_understood_for_a_modern_remote(start, modern):
    client = modern(start(url=start("--modern").url, isolation="shared"))
    body = client.body("tools/call", {"name": "echo", "arguments": {"text": "hi"}})
    escaped = json.dumps(body).replace("/", "\\/")
    answer = client.http.post("/mcp", content=escaped, headers=client.headers(body))
    assert answer.json()["result"]["content"] == [{"type": "text", "text": "hi"}]


def test_a_configured_media_type_is_not_sent_twice(legacy):
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    with standing() as (remote, url), running(url=url, headers=headers) as shim:
        legacy(shim.wait_ready()).text("any")
    (sent,) = remote.of("tools/call")
    assert sent.get_all("content-type") == ["application/json"]
    assert sent.get_all("accept") == ["application/json, text/event-stream"]


# Cookies.


def cookies(message: dict) -> Answer | None:
    """Sets a route cookie for each session, and a cookie that names the caller at each call."""
    if message["method"] == "initialize":
        return Answer(INITIALIZED, Set_Cookie=f"route={message['params']['clientInfo']['name']}", Mcp_Session_Id="s")
    if message["method"] == "tools/call":
        result = {"content": [{"type": "text", "text": "done"}]}
        return Answer(result, Set_Cookie=f"caller={message['params']['arguments']['text']}")
    return None


def test_cookies_of_a_session_are_sent_and_those_of_a_call_are_not(legacy):
    with standing(cookies) as (remote, url), running(url=url, isolation="shared") as shim:
        one, other = legacy(shim.wait_ready()), legacy(shim)
        for client, text in ((one, "one"), (other, "other"), (one, "again")):
            client.text("any", text=text)
    assert [sent["cookie"] for sent in remote.of("tools/call")] == ["route=mcpmesh-shim"] * 3


def test_each_session_with_a_connection_of_its_own_has_its_own_cookie(legacy):
    with standing(cookies) as (remote, url), running(url=url, isolation="session") as shim:
        client = legacy(shim.wait_ready())
        client.text("any", text="one")
        client.text("any", text="again")
    assert [sent["cookie"] for sent in remote.of("tools/call")] == ["route=raw"] * 2


def test_a_modern_remotes_cookies_are_not_kept(modern):
    def answer(message: dict) -> Answer:
        result = {"server/discover": MODERN_RESULT, "tools/list": {"tools": []}}.get(message["method"])
        return Answer(result or {"resultType": "complete", "content": []}, Set_Cookie="caller=somebody")

    with standing(answer) as (remote, url), running(url=url, isolation="shared") as shim:
        for client in (modern(shim.wait_ready()), modern(shim)):
            assert "result" in client.call("any")
    assert [sent["cookie"] for sent in remote.of("tools/call")] == [None, None]


# Answers of the remote server.


def test_an_initialize_result_that_is_no_object_is_reported(start):
    with standing(lambda message: Answer([1]) if message["method"] == "initialize" else None) as (_, url):
        shim = start(url=url, ready=False)
        until(lambda: "answered initialize with" in shim.state().get("error", ""))
        assert not bugs(shim)


def test_a_session_id_or_version_that_is_no_valid_header_is_not_sent_back(legacy):
    def answer(message: dict) -> Answer | None:
        if message["method"] == "initialize":
            return Answer({**INITIALIZED, "protocolVersion": "2025-11-25\u00e9"}, Mcp_Session_Id="s\u00e9")
        return None

    with standing(answer) as (remote, url), running(url=url, isolation="shared") as shim:
        assert legacy(shim.wait_ready()).text("any") == "done"
        assert not bugs(shim)
    (sent,) = remote.of("tools/call")
    assert (sent["mcp-session-id"], sent["mcp-protocol-version"]) == (None, None)


def event(message: dict, lines: int) -> bytes:
    """A message as an event of that many lines, broken between tokens."""
    text = json.dumps(message)
    parts = text.split(", ", lines - 1) if lines > 1 else [text]
    return ",\n".join(parts).replace("\n", "\ndata: ").join(("data: ", "\n\n")).encode()


@pytest.mark.parametrize("lines", [1, 20_000], ids=["one line", "many lines"])
def test_an_answer_over_the_limit_fails_its_own_call_alone(legacy, lines):
    beside = threading.Event()

    def answer(message: dict) -> Answer | None:
        if message["method"] != "tools/call":
            return None
        if message["params"]["arguments"].get("wait"):
            beside.wait(60)
            return None
        # Its id can't be found without reading the whole message.
        whole = {"result": {"content": [1] * 100_000}, "id": message["id"], "more": "x" * 200, "jsonrpc": "2.0"}
        return Answer(events=event(whole, lines))

    limits = {"line_bytes": 100_000}
    with standing(answer) as (_, url), running(url=url, isolation="shared", limits=limits) as shim:
        client, other = legacy(shim.wait_ready()), legacy(shim)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(other.text, "any", wait=True)
            try:
                until(lambda: shim.info()["in_flight"] == 1)
                data = client.call("any")["error"]["data"]
            finally:
                beside.set()
            assert (data["reason"], data["started"]) == ("answer-too-long", True)
            assert waiting.result() == "done"
        assert shim.metric("oversize_lines_total") == 1


def test_a_notification_over_the_limit_does_not_lose_the_answer_after_it(legacy):
    def answer(message: dict) -> Answer | None:
        if message["method"] != "tools/call":
            return None
        note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * 200_000}}
        result = {"content": [{"type": "text", "text": "done"}]}
        return Answer(events=event(note, 1) + event({"jsonrpc": "2.0", "id": message["id"], "result": result}, 1))

    limits = {"line_bytes": 100_000}
    with standing(answer) as (_, url), running(url=url, isolation="shared", limits=limits) as shim:
        assert legacy(shim.wait_ready()).text("any") == "done"
        assert shim.metric("oversize_lines_total") == 1
