"""The rules for a request of the modern era: its metadata is in the body, mirrored in headers, and must agree.

Follows 2026-07-28/basic/transports/streamable-http.mdx (Server Validation) and
basic/index.mdx (per-request fields), in the order of the official SDK: shape of
`_meta`, then headers against the body, then the version.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from mcpmesh.shim.errors import HEADER_MISMATCH, INVALID_PARAMS, UNSUPPORTED_VERSION, Failure
from mcpmesh.shim.http.request_head import Head
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.meta_keys import (
    CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    LOG_LEVEL_KEY,
    PROGRESS_TOKEN,
    VERSION_KEY,
)
from mcpmesh.shim.protocol.versions import MODERN, SUPPORTED

NAME_KEYS: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

_VERSION = VERSION_KEY.rpartition("/")[2].encode()
_ENCODED = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)
_PLAIN = re.compile(r"[\x20-\x7e]*")


class RequestMeta(Struct, gc=False):
    """The `_meta` of a modern request."""

    version: str | UnsetType = msgspec.field(name=VERSION_KEY, default=UNSET)
    capabilities: Raw = msgspec.field(name=CAPABILITIES_KEY, default=codec.EMPTY)
    client_info: Raw = msgspec.field(name=CLIENT_INFO_KEY, default=codec.EMPTY)
    log_level: str | UnsetType | None = msgspec.field(name=LOG_LEVEL_KEY, default=UNSET)
    progress_token: int | str | UnsetType | None = msgspec.field(name=PROGRESS_TOKEN, default=UNSET)


class _Bare(Struct, gc=False):
    meta: RequestMeta | UnsetType = msgspec.field(name="_meta", default=UNSET)


class _Named(Struct, gc=False):
    meta: RequestMeta | UnsetType = msgspec.field(name="_meta", default=UNSET)
    name: str | UnsetType | None = UNSET


class _Located(Struct, gc=False):
    meta: RequestMeta | UnsetType = msgspec.field(name="_meta", default=UNSET)
    name: str | UnsetType | None = msgspec.field(name="uri", default=UNSET)


_bare = msgspec.json.Decoder(_Bare)
_decoders: dict[str, Any] = {
    "tools/call": msgspec.json.Decoder(_Named),
    "prompts/get": msgspec.json.Decoder(_Named),
    "resources/read": msgspec.json.Decoder(_Located),
}


def claims_modern(params: codec.Buffer) -> bool:
    """Whether a request's body says that it is modern: the key is reserved, so no legacy request has it."""
    # Only the part behind the slash is searched, since PHP escapes slashes.
    if _VERSION not in bytes(params):
        return False
    try:
        meta = codec.members(params).get("_meta")
        return meta is not None and VERSION_KEY in codec.members(meta)
    except codec.Malformed:
        return False


def check_request(head: Head, method: str, params: codec.Buffer) -> tuple[RequestMeta, str]:
    """The request's metadata and the name or URI that it calls; raises Failure as the specification demands."""
    if head.duplicated is not None:
        raise header_mismatch(f"the header {head.duplicated} appears more than once")
    try:
        body = _decoders.get(method, _bare).decode(params or b"{}")
    except (msgspec.MsgspecError, RecursionError) as error:
        raise invalid_params(f"the params are not as {method} has them ({error})") from None
    meta = body.meta
    if meta is UNSET:
        raise invalid_params(f"params._meta is missing; it must carry {VERSION_KEY} and {CAPABILITIES_KEY}")
    if meta.version is UNSET or not meta.capabilities:
        missing = VERSION_KEY if meta.version is UNSET else CAPABILITIES_KEY
        raise invalid_params(f"params._meta lacks {missing}")
    if not bytes(meta.capabilities).startswith(b"{"):
        raise invalid_params(f"params._meta: {CAPABILITIES_KEY} must be an object")
    if head.version is None:
        raise header_mismatch("the header MCP-Protocol-Version is missing")
    if head.version != meta.version:
        raise header_mismatch(f"the header MCP-Protocol-Version says {head.version!r}, the body {meta.version!r}")
    if head.mcp_method is None:
        raise header_mismatch("the header Mcp-Method is missing")
    if head.mcp_method != method:
        raise header_mismatch(f"the header Mcp-Method says {head.mcp_method!r}, the body {method!r}")
    if method in NAME_KEYS:
        _check_name(head, method, body.name, params)
    if meta.version != MODERN:
        raise unsupported_version(str(meta.version))
    if isinstance(meta.log_level, str) and meta.log_level not in LOG_LEVELS:
        raise invalid_params(f"params._meta: {LOG_LEVEL_KEY} must be one of {', '.join(LOG_LEVELS)}")
    return meta, body.name if method in NAME_KEYS else ""


def _check_name(head: Head, method: str, name: Any, params: codec.Buffer) -> None:
    key = NAME_KEYS[method]
    check_single_spelling(key, codec.members(params or b"{}"))
    if name is UNSET or name is None:
        raise invalid_params(f"params.{key} is missing")
    if head.mcp_name is None:
        raise header_mismatch("the header Mcp-Name is missing")
    header = decode_header_value(head.mcp_name, strict=True)
    if header is None:
        raise header_mismatch("the header Mcp-Name is malformed")
    if header != name:
        raise header_mismatch(f"the header Mcp-Name says {header!r}, params.{key} {name!r}")


def check_single_spelling(key: str, params: Mapping[str, Any]) -> None:
    """Raise Failure if a server could read another member than the one that was compared with the header."""
    # Go's encoding/json matches members in any case, so a server could call a name that no header had.
    for member in params:
        if member != key and member.lower() == key:
            raise invalid_params(f"params.{member} could be taken for params.{key}")


def decode_header_value(value: str, strict: bool = False) -> str | None:
    """A header's value, decoded if it has the Base64 form; None when it is malformed.

    With `strict`, a value that is encoded without need counts as malformed: it
    must not evade a policy that matches headers literally.
    """
    found = _ENCODED.fullmatch(value)
    if found is None:
        return value if _PLAIN.fullmatch(value) else None
    try:
        raw = base64.b64decode(found[1], validate=True)
        text = raw.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    if base64.b64encode(raw).decode() != found[1]:
        return None
    needed = not strict or not _PLAIN.fullmatch(text) or text != text.strip() or _ENCODED.fullmatch(text) is not None
    return text if needed else None


def invalid_params(message: str) -> Failure:
    """The failure -32602 with HTTP 400."""
    return Failure(INVALID_PARAMS, message, status=400)


def header_mismatch(message: str) -> Failure:
    """The failure -32020 with HTTP 400."""
    return Failure(HEADER_MISMATCH, f"Header mismatch: {message}", status=400)


def unsupported_version(requested: str) -> Failure:
    """The failure -32022 with HTTP 400; it lists the supported revisions."""
    return Failure(
        UNSUPPORTED_VERSION,
        "Unsupported protocol version",
        {"supported": list(SUPPORTED), "requested": requested},
        status=400,
    )
