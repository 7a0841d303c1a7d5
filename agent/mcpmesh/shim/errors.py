"""Failures: what a caller gets when the shim, not the server, answers with an error.

The codes are JSON-RPC's and those of MCP 2026-07-28 (basic/index.mdx). When
the shim itself fails a call, the code is -32603 and `data.reason` names the
case, since MCP reserves the rest of the range.

    Failure
      unavailable()    503, nothing was started: retry, here or elsewhere
      answer_lost()    the server got the call: do not retry blindly
      refused()        the request itself is wrong: retrying does not help
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from mcpmesh.shim.jsonrpc import codec

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
HEADER_MISMATCH: Final = -32020
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022

# 2026-07-28/basic/transports/streamable-http.mdx; other codes travel with 200.
MODERN_STATUS: Final = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
    METHOD_NOT_FOUND: 404,
}

NOTHING_STARTED: Final = "; nothing was started"


@dataclass(frozen=True, slots=True)
class Failure(Exception):
    """A JSON-RPC error, and the HTTP status to send it with when the answer has not begun.

    `retry_after` (seconds) is set only when nothing was started.
    """

    code: int
    message: str
    data: dict[str, Any] | None = None
    status: int = 200
    retry_after: int | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The `error` member."""
        return codec.error_body(self.code, self.message, self.data)

    @property
    def reason(self) -> str:
        """The shim's own case, as in `data.reason`; empty for other failures."""
        return str((self.data or {}).get("reason", ""))

    def __str__(self) -> str:
        return self.message


def header_lines(failure: Failure) -> bytes:
    """The header lines that a failure adds to its answer."""
    lines = b"".join(f"{key}: {text}\r\n".encode("latin-1") for key, text in failure.headers.items())
    return lines if failure.retry_after is None else lines + b"retry-after: %d\r\n" % failure.retry_after


def unavailable(message: str, reason: str, retry_after: int = 1) -> Failure:
    """503: the call was not started and may be retried, here or elsewhere."""
    return Failure(
        INTERNAL_ERROR,
        message + NOTHING_STARTED,
        {"reason": reason, "started": False},
        status=503,
        retry_after=retry_after,
        # A caller's proxy in the mesh looks for this header before it tries another instance.
        headers={"X-Mcpmesh-Not-Started": "1"},
    )


def answer_lost(message: str, reason: str, **more: Any) -> Failure:
    """The server got the call and its answer will not come; the call may have taken effect."""
    return Failure(INTERNAL_ERROR, message, {"reason": reason, "started": True, **more})


def refused(status: int, message: str, code: int = INVALID_REQUEST, **headers: str) -> Failure:
    """The request is wrong as HTTP or JSON-RPC; sending it again is refused again."""
    return Failure(code, message, status=status, headers={key.replace("_", "-"): text for key, text in headers.items()})
