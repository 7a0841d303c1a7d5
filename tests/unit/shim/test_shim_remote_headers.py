"""The headers of messages to a remote server, and what becomes of a call that can't be sent."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from mcpmesh.shim.config import build
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.meta_keys import VERSION_KEY
from mcpmesh.shim.protocol.server_info import ServerInfo
from mcpmesh.shim.protocol.versions import MODERN
from mcpmesh.shim.server.remote_headers import RemoteHeaders
from mcpmesh.shim.server.remote_http import RemoteHttpServer

JSON = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


def message(method: str, params: str) -> Any:
    return codec.parse(f'{{"jsonrpc":"2.0","id":1,"method":{json.dumps(method)},"params":{params}}}'.encode())


def test_the_modern_headers_are_found_however_the_body_escapes_the_keys():
    meta = '{"io.modelcontextprotocol\\/protocolVersion":"2026-07-28"}'
    call = message("tools/call", f'{{"na\\u006de":"echo","_m\\u0065ta":{meta}}}')
    modern = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "echo"}
    assert RemoteHeaders({}, ServerInfo()).for_message(call) == JSON | modern


def test_a_method_outside_ascii_is_encoded():
    call = message("r\u00e9sum\u00e9", f'{{"_meta":{{"{VERSION_KEY}":"{MODERN}"}}}}')
    assert RemoteHeaders({}, ServerInfo()).for_message(call)["mcp-method"] == "=?base64?csOpc3Vtw6k=?="


def test_a_legacy_session_gets_legacy_headers_whatever_the_body_says():
    headers = RemoteHeaders({}, ServerInfo())
    headers.session_id, headers.version = "s1", "2025-11-25"
    call = message("tools/call", f'{{"name":"echo","_meta":{{"{VERSION_KEY}":"{MODERN}"}}}}')
    assert headers.for_message(call) == JSON | {"mcp-session-id": "s1", "mcp-protocol-version": "2025-11-25"}


def test_the_protocols_header_replaces_a_configured_one():
    headers = RemoteHeaders(
        {"Content-Type": "application/json; charset=utf-8", "Accept": "*/*", "X-Key": "1"}, ServerInfo()
    )
    assert headers.for_message(message("ping", "{}")) == JSON | {"x-key": "1"}


async def test_a_call_at_which_the_shim_has_a_bug_is_answered_and_the_bug_logged(capfd: pytest.CaptureFixture[str]):
    profile = ServerInfo()
    profile.tools = [None]  # type: ignore[list-item]  # nothing here expects it
    remote = RemoteHttpServer(build({"url": "http://127.0.0.1:1/mcp"}), profile, line_bytes=1024)
    answers: asyncio.Queue[bytes] = asyncio.Queue()
    remote.on_line = answers.put_nowait
    try:
        params = {"name": "echo", "_meta": {VERSION_KEY: MODERN}}
        remote.write(codec.request(5, "tools/call", codec.encode(params)))
        answer = json.loads(await asyncio.wait_for(answers.get(), 60))
    finally:
        await remote.stop(1)
    assert (answer["id"], answer["error"]["data"]["started"]) == (5, True)
    assert "a bug in a remote call, please report it: Traceback" in capfd.readouterr().err
