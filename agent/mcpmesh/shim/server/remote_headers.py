"""The headers of messages to a remote server, in its era; every value is valid in a header.

Follows 2026-07-28/basic/transports/streamable-http.mdx (Request Metadata) and
2025-11-25/basic/transports.mdx (Session Management, Protocol Version Header).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

from mcpmesh.shim.config import HEADER_VALUE
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.meta_keys import VERSION_KEY
from mcpmesh.shim.protocol.modern_request import NAME_KEYS
from mcpmesh.shim.protocol.param_headers import ParamHeaders, argument_value
from mcpmesh.shim.protocol.server_info import ServerInfo

TRACE: Final = ("traceparent", "tracestate", "baggage")
_ENCODED = re.compile(r"=\?base64\?.*\?=")


def header_value(text: str) -> str:
    """A text in the form that the modern transport has for header values."""
    if HEADER_VALUE.fullmatch(text) and not _ENCODED.fullmatch(text):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


class RemoteHeaders:
    """The headers for one remote server. `session_id` and `version` are set once it opened a legacy session."""

    def __init__(self, configured: Mapping[str, str], server_info: ServerInfo) -> None:
        # In lower case, so that the protocol's own header replaces a configured one of the same name.
        self._configured = {name.lower(): text for name, text in configured.items()}
        self._server_info = server_info
        self._param_headers = ParamHeaders()
        self.session_id: str | None = None
        self.version: str | None = None

    def for_message(self, message: Any) -> dict[str, str]:
        """The headers of a POST; raises Malformed if the message can't be read."""
        params: dict[str, Any] = codec.members(message.params) if message.params else {}
        meta: dict[str, Any] = codec.members(params["_meta"]) if "_meta" in params else {}
        headers = {
            **self._configured,
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
        }
        for key in TRACE:
            if key in meta and isinstance(value := codec.decode(meta[key]), str) and HEADER_VALUE.fullmatch(value):
                headers[key] = value
        # The key is decoded, not searched for as bytes, since PHP escapes the slash in it.
        if self.version is None and VERSION_KEY in meta:
            return headers | self._modern(message.method, params, codec.decode(meta[VERSION_KEY]))
        return headers | self._legacy()

    def for_session(self) -> dict[str, str]:
        """The headers of a GET or DELETE, which only the legacy era has."""
        return self._configured | self._legacy()

    def _modern(self, method: Any, params: dict[str, Any], version: Any) -> dict[str, str]:
        headers = {"mcp-protocol-version": header_value(str(version)), "mcp-method": header_value(str(method))}
        if (key := NAME_KEYS.get(method)) is not None and key in params:
            name = str(codec.decode(params[key]))
            headers["mcp-name"] = header_value(name)
            if method == "tools/call":
                headers |= self._mirrored_params(name, params)
        return headers

    def _mirrored_params(self, tool: str, params: dict[str, Any]) -> dict[str, str]:
        headers: dict[str, str] = {}
        for parameter in self._param_headers.for_tool(self._server_info.tools, tool):
            value = argument_value(params.get("arguments", b"{}"), parameter.path)
            if isinstance(value, bool):
                value = "true" if value else "false"
            if isinstance(value, str | int | float):
                headers[parameter.header.decode()] = header_value(str(value))
        return headers

    def _legacy(self) -> dict[str, str]:
        headers = {"mcp-session-id": self.session_id, "mcp-protocol-version": self.version}
        return {name: text for name, text in headers.items() if text is not None}
