"""From one era's wording to the other's; pure functions on raw JSON.

A modern result must say `resultType`, some must carry cache hints, all should
name the server; a legacy one has none of these and needs none taken off, since
results are open objects. Requests differ in the envelope in `_meta`.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any, Final

from mcpmesh.shim.errors import INVALID_PARAMS
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.server_info import MODERN

CACHED: Final = frozenset(
    ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read")
)
ENVELOPE: Final = (codec.VERSION_KEY, codec.CAPABILITIES_KEY, codec.CLIENT_INFO_KEY, codec.LOG_LEVEL_KEY)
RESOURCE_NOT_FOUND: Final = -32002
ELICITATION_REQUIRED: Final = -32042
PROGRESS: Final = "progressToken"
NO_ROOTS: Final = b'{"roots":[]}'
# 2026-07-28/basic/patterns/mrtr.mdx, Supported Requests.
MAY_ASK: Final = frozenset(("tools/call", "prompts/get", "resources/read"))


_EMPTY: Final = re.compile(rb"\{\s*\}")


def dress(result: codec.Buffer, method: str, server: dict[str, Any]) -> bytes:
    """A legacy result with what a modern one must have, put in front so that the rest stays as it came."""
    raw = bytes(result).lstrip()
    if not raw.startswith(b"{"):
        return raw
    front = b'{"resultType":"complete"'
    if method in CACHED:
        # Nothing is known of its freshness or of who may see it.
        front += b',"ttlMs":0,"cacheScope":"private"'
    if server and b'"_meta"' not in raw:
        front += b',"_meta":' + codec.encode({codec.SERVER_INFO_KEY: server})
    # Joined around a view: a long result is copied once.
    return b"".join((front, b"" if _EMPTY.match(raw) else b",", memoryview(raw)[1:]))


def modern_error(error: codec.Buffer) -> codec.Buffer:
    """A legacy error as a modern one: "resource not found" has another code."""
    if b"-32002" not in bytes(error):
        return error
    whole = codec.value(error)
    if isinstance(whole, dict) and whole.get("code") == RESOURCE_NOT_FOUND:
        whole["code"] = INVALID_PARAMS
        return codec.encode(whole)
    return error


def visits(error: codec.Buffer) -> dict[str, Any] | None:
    """The input requests that 2025-11-25's error "URL elicitation required" amounts to; None for any other error."""
    if b"-32042" not in bytes(error):
        return None
    whole = codec.value(error)
    data = whole.get("data") if isinstance(whole, dict) and whole.get("code") == ELICITATION_REQUIRED else None
    asked = data.get("elicitations") if isinstance(data, dict) else None
    if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
        return None
    return {
        f"u{n}": {
            "method": "elicitation/create",
            "params": {"mode": "url", **{key: item for key, item in one.items() if key != "elicitationId"}},
        }
        for n, one in enumerate(asked)
    }


def strip(params: dict[str, Any], meta: dict[str, Any]) -> bytes:
    """A modern request's params for a legacy server, some of which refuse the envelope."""
    rest = {key: item for key, item in meta.items() if key not in ENVELOPE}
    whole = {key: item for key, item in params.items() if key not in ("_meta", "inputResponses", "requestState")}
    if rest:
        whole["_meta"] = rest
    return codec.encode(whole) if whole else b""


def envelop(params: dict[str, Any], meta: dict[str, Any], client: dict[str, Any], log_level: str | None) -> bytes:
    """A legacy request's params for a modern server: the session's facts become the request's."""
    envelope: dict[str, Any] = {codec.VERSION_KEY: MODERN, codec.CAPABILITIES_KEY: client.get("capabilities", {})}
    if "clientInfo" in client:
        envelope[codec.CLIENT_INFO_KEY] = client["clientInfo"]
    if log_level is not None:
        envelope[codec.LOG_LEVEL_KEY] = log_level
    return codec.encode({**params, "_meta": {**meta, **envelope}})


def split(params: codec.Buffer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Members of params and of their `_meta`, each a raw span; a `_meta` that is no object is left out.

    Both are empty where the params are no object.
    """
    try:
        return parts(params)
    except codec.Malformed:
        with contextlib.suppress(codec.Malformed):
            return {key: item for key, item in codec.members(params).items() if key.casefold() != "_meta"}, {}
        return {}, {}


def parts(params: codec.Buffer) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same, without what a server could take for their `_meta` or its progress token; raises Malformed."""
    whole = codec.members(params) if params else {}
    _only("_meta", whole)
    meta = codec.members(whole["_meta"]) if "_meta" in whole else {}
    if _only(PROGRESS, meta):
        whole["_meta"] = codec.Raw(codec.encode(meta))
    return whole, meta


def _only(key: str, members: dict[str, Any]) -> bool:
    """Whether there was another way to write the same name; Go's encoding/json goes by no letter's case."""
    folded = key.casefold()
    others = [name for name in members if name != key and name.casefold() == folded]
    for name in others:
        del members[name]
    return bool(others)


def lacking(method: str, params: codec.Buffer, capabilities: dict[str, Any]) -> dict[str, Any] | None:
    """The capability that a client lacks to be asked this; None when it can be asked."""
    if method == "sampling/createMessage":
        needed: dict[str, Any] = {"sampling": {}}
    elif method == "roots/list":
        needed = {"roots": {}}
    elif method == "elicitation/create":
        whole, _ = split(params)
        if bytes(whole.get("mode", b'"form"')) == b'"url"':
            has = capabilities.get("elicitation")
            return None if isinstance(has, dict) and "url" in has else {"elicitation": {"url": {}}}
        needed = {"elicitation": {}}
    else:
        return {}
    (key,) = needed
    return None if isinstance(capabilities.get(key), dict) else needed
