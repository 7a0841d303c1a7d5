"""Translation of requests, results and errors between the eras; pure functions on raw JSON.

A modern result must have `resultType`, some must have cache hints, all should
name the server. A legacy result has none of these; a legacy client accepts
them, since results are open objects. Requests differ in the envelope in `_meta`.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any, Final

from mcpmesh.shim.errors import INVALID_PARAMS
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.meta_keys import (
    CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    LOG_LEVEL_KEY,
    PROGRESS_TOKEN,
    SERVER_INFO_KEY,
    VERSION_KEY,
)
from mcpmesh.shim.protocol.versions import MODERN

CACHEABLE_METHODS: Final = frozenset(
    ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read")
)
ENVELOPE: Final = (VERSION_KEY, CAPABILITIES_KEY, CLIENT_INFO_KEY, LOG_LEVEL_KEY)
RESOURCE_NOT_FOUND: Final = -32002
ELICITATION_REQUIRED: Final = -32042
NO_ROOTS: Final = b'{"roots":[]}'
# 2026-07-28/basic/patterns/mrtr.mdx, Supported Requests.
INPUT_METHODS: Final = frozenset(("tools/call", "prompts/get", "resources/read"))


_EMPTY: Final = re.compile(rb"\{\s*\}")


def to_modern_result(result: codec.Buffer, method: str, server: dict[str, Any]) -> bytes:
    """A legacy result with the members that a modern one must have; they go first, so the rest stays unchanged."""
    raw = bytes(result).lstrip()
    if not raw.startswith(b"{"):
        return raw
    front = b'{"resultType":"complete"'
    if method in CACHEABLE_METHODS:
        # How long it is fresh, and whether others may see it, is unknown.
        front += b',"ttlMs":0,"cacheScope":"private"'
    if server and b'"_meta"' not in raw:
        front += b',"_meta":' + codec.encode({SERVER_INFO_KEY: server})
    # Joined with a view, so that a long result is copied only once.
    return b"".join((front, b"" if _EMPTY.match(raw) else b",", memoryview(raw)[1:]))


def to_modern_error(error: codec.Buffer) -> codec.Buffer:
    """A legacy error as a modern one: "resource not found" has a different code."""
    if b"-32002" not in bytes(error):
        return error
    whole = codec.decode(error)
    if isinstance(whole, dict) and whole.get("code") == RESOURCE_NOT_FOUND:
        whole["code"] = INVALID_PARAMS
        return codec.encode(whole)
    return error


def url_elicitations(error: codec.Buffer) -> dict[str, Any] | None:
    """The input requests that the error "URL elicitation required" of 2025-11-25 stands for; None for other errors."""
    if b"-32042" not in bytes(error):
        return None
    whole = codec.decode(error)
    data = whole.get("data") if isinstance(whole, dict) and whole.get("code") == ELICITATION_REQUIRED else None
    elicitations = data.get("elicitations") if isinstance(data, dict) else None
    if not isinstance(elicitations, list) or not all(isinstance(one, dict) for one in elicitations):
        return None
    return {
        f"u{n}": {
            "method": "elicitation/create",
            "params": {"mode": "url", **{key: item for key, item in one.items() if key != "elicitationId"}},
        }
        for n, one in enumerate(elicitations)
    }


def to_legacy_params(params: dict[str, Any], meta: dict[str, Any]) -> bytes:
    """A modern request's params for a legacy server, without the envelope, which some servers refuse."""
    rest = {key: item for key, item in meta.items() if key not in ENVELOPE}
    whole = {key: item for key, item in params.items() if key not in ("_meta", "inputResponses", "requestState")}
    if rest:
        whole["_meta"] = rest
    return codec.encode(whole) if whole else b""


def to_modern_params(
    params: dict[str, Any], meta: dict[str, Any], client: dict[str, Any], log_level: str | None
) -> bytes:
    """A legacy request's params for a modern server: the envelope repeats what the session's client declared."""
    envelope: dict[str, Any] = {VERSION_KEY: MODERN, CAPABILITIES_KEY: client.get("capabilities", {})}
    if "clientInfo" in client:
        envelope[CLIENT_INFO_KEY] = client["clientInfo"]
    if log_level is not None:
        envelope[LOG_LEVEL_KEY] = log_level
    return codec.encode({**params, "_meta": {**meta, **envelope}})


def split_meta(params: codec.Buffer) -> tuple[dict[str, Any], dict[str, Any]]:
    """The members of params and of their `_meta`, each a raw span; a `_meta` that is not an object is left out.

    Both are empty when the params are not an object.
    """
    try:
        return split_meta_strictly(params)
    except codec.Malformed:
        with contextlib.suppress(codec.Malformed):
            return {key: item for key, item in codec.members(params).items() if key.casefold() != "_meta"}, {}
        return {}, {}


def split_meta_strictly(params: codec.Buffer) -> tuple[dict[str, Any], dict[str, Any]]:
    """As split_meta, but raises Malformed.

    Both leave out members that a server could mistake for `_meta` or its progress token.
    """
    whole = codec.members(params) if params else {}
    _drop_other_spellings("_meta", whole)
    meta = codec.members(whole["_meta"]) if "_meta" in whole else {}
    if _drop_other_spellings(PROGRESS_TOKEN, meta):
        whole["_meta"] = codec.Raw(codec.encode(meta))
    return whole, meta


def _drop_other_spellings(key: str, members: dict[str, Any]) -> bool:
    """Drop members that differ from `key` in case only; returns whether there were any.

    Go's encoding/json ignores case.
    """
    folded = key.casefold()
    others = [name for name in members if name != key and name.casefold() == folded]
    for name in others:
        del members[name]
    return bool(others)


def missing_capability(method: str, params: codec.Buffer, capabilities: dict[str, Any]) -> dict[str, Any] | None:
    """The capability that a client lacks for this server request; None when it has it, empty for unknown methods."""
    if method == "sampling/createMessage":
        needed: dict[str, Any] = {"sampling": {}}
    elif method == "roots/list":
        needed = {"roots": {}}
    elif method == "elicitation/create":
        whole, _ = split_meta(params)
        if bytes(whole.get("mode", b'"form"')) == b'"url"':
            elicitation = capabilities.get("elicitation")
            return None if isinstance(elicitation, dict) and "url" in elicitation else {"elicitation": {"url": {}}}
        needed = {"elicitation": {}}
    else:
        return {}
    (key,) = needed
    return None if isinstance(capabilities.get(key), dict) else needed
