"""The result of a tool for people: text as it is, other content as one line each."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from mcpmesh.cli import exit_codes
from mcpmesh.cli.render.output import Output


class ToolResult:
    """Shows the JSON-RPC messages of one call as they arrive."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._response: dict[str, Any] | None = None

    def take(self, message: dict[str, Any]) -> None:
        """Shows a notification; keeps the response for `finish`. With --json every message is a line."""
        if self._output.json:
            self._output.item(message)
        if "method" not in message:
            self._response = message
        elif not self._output.json:
            self._show_notification(str(message["method"]), message.get("params"))

    def finish(self, service: str, tool: str) -> int:
        """Shows the response and returns the exit code that follows from it."""
        response = self._response or {}
        error, result = response.get("error"), response.get("result")
        if isinstance(error, dict):
            return self._fail(f"cannot call {tool} of {service}: {error.get('message')} ({error.get('code')})")
        if not isinstance(result, dict):
            return self._fail(f"cannot call {tool} of {service}: no response came; see: mcpmesh logs {service}")
        if result.get("resultType") == "input_required":
            return self._fail(f"cannot finish {tool} of {service}: it asks its client for input; use an MCP client")
        if not self._output.json:
            self._show(result)
        if result.get("isError"):
            return self._fail(f"cannot finish {tool} of {service}: the tool reports an error, see above")
        return exit_codes.OK

    def _fail(self, sentence: str) -> int:
        self._output.note(("error: ", "bold red"), sentence)
        return exit_codes.FAILED

    def _show_notification(self, method: str, params: Any) -> None:
        if not isinstance(params, dict):
            return
        if method == "notifications/progress":
            self._output.note((f"{_progress(params)} {params.get('message') or ''}".strip(), "dim"))
        elif method == "notifications/message":
            data = params.get("data")
            text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
            self._output.note((f"{params.get('level', 'info')}: {text}", "dim"))

    def _show(self, result: dict[str, Any]) -> None:
        content = result.get("content")
        blocks = content if isinstance(content, list) else []
        for block in blocks:
            self._output.line(_block_text(block) if isinstance(block, dict) else str(block))
        if not blocks and result.get("structuredContent") is not None:
            self._output.line(json.dumps(result["structuredContent"], indent=2, ensure_ascii=False))


def _progress(params: dict[str, Any]) -> str:
    progress, total = params.get("progress"), params.get("total")
    if isinstance(progress, int | float) and isinstance(total, int | float) and total > 0:
        return f"{progress / total:.0%}"
    return str(progress)


def _block_text(block: dict[str, Any]) -> str:
    kind = block.get("type")
    if kind == "text":
        return str(block.get("text", ""))
    if kind in ("image", "audio"):
        return f"[{kind} {block.get('mimeType', 'of unknown type')}, {_size(block.get('data'))}]"
    if kind == "resource_link":
        return f"[resource {block.get('uri')}]"
    resource = block.get("resource")
    if kind == "resource" and isinstance(resource, dict):
        if "text" in resource:
            return str(resource["text"])
        return f"[resource {resource.get('uri')}, {_size(resource.get('blob'))}]"
    return json.dumps(block, ensure_ascii=False)


def _size(data: Any) -> str:
    try:
        return f"{len(base64.b64decode(str(data), validate=True)):,} bytes"
    except (binascii.Error, ValueError):
        return "unreadable"
