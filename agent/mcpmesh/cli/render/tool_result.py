"""What a called tool said, for people: text as text, the rest in a line each."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from mcpmesh.cli import exit_codes
from mcpmesh.cli.render.output import Output


class Answer:
    """Takes the JSON-RPC messages of one call as they come."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._response: dict[str, Any] | None = None

    def take(self, message: dict[str, Any]) -> None:
        """Shows one message, or keeps it where it is the response."""
        if self._output.json:
            self._output.item(message)
        if "method" not in message:
            self._response = message
        elif not self._output.json:
            self._notice(str(message["method"]), message.get("params"))

    def code(self, service: str, tool: str) -> int:
        """Shows the response; the exit code that it means."""
        response = self._response or {}
        error, result = response.get("error"), response.get("result")
        if isinstance(error, dict):
            return self._fail(f"cannot call {tool} of {service}: {error.get('message')} ({error.get('code')})")
        if not isinstance(result, dict):
            return self._fail(f"cannot call {tool} of {service}: no response came; see: mcpmesh logs {service}")
        if result.get("resultType") == "input_required":
            return self._fail(f"cannot finish {tool} of {service}: it asks its client for input, which needs a client")
        if not self._output.json:
            self._show(result)
        if result.get("isError"):
            return self._fail(f"cannot do {tool} of {service}: the tool reports an error, above")
        return exit_codes.OK

    def _fail(self, sentence: str) -> int:
        self._output.note(("error: ", "bold red"), sentence)
        return exit_codes.FAILED

    def _notice(self, method: str, params: Any) -> None:
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
            self._output.line(_block(block) if isinstance(block, dict) else str(block))
        if not blocks and result.get("structuredContent") is not None:
            self._output.line(json.dumps(result["structuredContent"], indent=2, ensure_ascii=False))


def _progress(params: dict[str, Any]) -> str:
    done, total = params.get("progress"), params.get("total")
    if isinstance(done, int | float) and isinstance(total, int | float) and total > 0:
        return f"{done / total:.0%}"
    return str(done)


def _block(block: dict[str, Any]) -> str:
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
