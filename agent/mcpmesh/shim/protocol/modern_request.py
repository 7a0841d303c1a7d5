"""The modern era's request rules: metadata in the body, mirrored in headers, checked against each other.

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
from mcpmesh.shim.http.head import Head
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.server_info import MODERN, SUPPORTED

NAMED: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

_VERSION = codec.VERSION_KEY.rpartition("/")[2].encode()
_ENCODED = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)
_PLAIN = re.compile(r"[\x20-\x7e]*")


class Meta(Struct, gc=False):
    """What a modern request says about itself."""

    version: str | UnsetType = msgspec.field(name=codec.VERSION_KEY, default=UNSET)
    capabilities: Raw = msgspec.field(name=codec.CAPABILITIES_KEY, default=codec.EMPTY)
    client_info: Raw = msgspec.field(name=codec.CLIENT_INFO_KEY, default=codec.EMPTY)
    log_level: str | UnsetType | None = msgspec.field(name=codec.LOG_LEVEL_KEY, default=UNSET)
    progress_token: int | str | UnsetType | None = msgspec.field(name="progressToken", default=UNSET)


class _Bare(Struct, gc=False):
    meta: Meta | UnsetType = msgspec.field(name="_meta", default=UNSET)


class _Named(Struct, gc=False):
    meta: Meta | UnsetType = msgspec.field(name="_meta", default=UNSET)
    name: str | UnsetType | None = UNSET


class _Located(Struct, gc=False):
    meta: Meta | UnsetType = msgspec.field(name="_meta", default=UNSET)
    name: str | UnsetType | None = msgspec.field(name="uri", default=UNSET)


_bare = msgspec.json.Decoder(_Bare)
_decoders: dict[str, Any] = {
    "tools/call": msgspec.json.Decoder(_Named),
    "prompts/get": msgspec.json.Decoder(_Named),
    "resources/read": msgspec.json.Decoder(_Located),
}


def mentions_version(params: codec.Buffer) -> bool:
    """Whether a request claims to be modern: the key is reserved, so no legacy request has it."""
    # The slash in it may be escaped, as PHP does it.
    if _VERSION not in bytes(params):
        return False
    try:
        meta = codec.members(params).get("_meta")
        return meta is not None and codec.VERSION_KEY in codec.members(meta)
    except codec.Malformed:
        return False


def check(head: Head, method: str, params: codec.Buffer) -> tuple[Meta, str]:
    """The request's metadata, and the name of what it calls; raises Failure as the specification says."""
    if head.duplicated is not None:
        raise mismatch(f"the header {head.duplicated} appears more than once")
    try:
        body = _decoders.get(method, _bare).decode(params or b"{}")
    except (msgspec.MsgspecError, RecursionError) as error:
        raise invalid(f"the params are not as {method} has them ({error})") from None
    meta = body.meta
    if meta is UNSET:
        raise invalid(f"params._meta is missing; it must carry {codec.VERSION_KEY} and {codec.CAPABILITIES_KEY}")
    if meta.version is UNSET or not meta.capabilities:
        missing = codec.VERSION_KEY if meta.version is UNSET else codec.CAPABILITIES_KEY
        raise invalid(f"params._meta lacks {missing}")
    if not bytes(meta.capabilities).startswith(b"{"):
        raise invalid(f"params._meta: {codec.CAPABILITIES_KEY} must be an object")
    if head.version is None:
        raise mismatch("the header MCP-Protocol-Version is missing")
    if head.version != meta.version:
        raise mismatch(f"the header MCP-Protocol-Version says {head.version!r}, the body {meta.version!r}")
    if head.mcp_method is None:
        raise mismatch("the header Mcp-Method is missing")
    if head.mcp_method != method:
        raise mismatch(f"the header Mcp-Method says {head.mcp_method!r}, the body {method!r}")
    if method in NAMED:
        _check_name(head, method, body.name, params)
    if meta.version != MODERN:
        raise unsupported(str(meta.version))
    if isinstance(meta.log_level, str) and meta.log_level not in LOG_LEVELS:
        raise invalid(f"params._meta: {codec.LOG_LEVEL_KEY} must be one of {', '.join(LOG_LEVELS)}")
    return meta, body.name if method in NAMED else ""


def _check_name(head: Head, method: str, name: Any, params: codec.Buffer) -> None:
    key = NAMED[method]
    one_reading(key, codec.members(params or b"{}"))
    if name is UNSET or name is None:
        raise invalid(f"params.{key} is missing")
    if head.mcp_name is None:
        raise mismatch("the header Mcp-Name is missing")
    told = decode(head.mcp_name, strict=True)
    if told is None:
        raise mismatch("the header Mcp-Name is malformed")
    if told != name:
        raise mismatch(f"the header Mcp-Name says {told!r}, params.{key} {name!r}")


def one_reading(key: str, params: Mapping[str, Any]) -> None:
    """Raises Failure where a server may read another member than the one that was compared with the header."""
    # Go's encoding/json takes members of any case, so a server may call what no header said.
    for member in params:
        if member != key and member.lower() == key:
            raise invalid(f"params.{member} could be taken for params.{key}")


def decode(value: str, strict: bool = False) -> str | None:
    """A header's value, decoded where it is in the Base64 form; None when it is malformed.

    With `strict`, a value that needed no encoding but is encoded counts as
    malformed: a policy that matches headers literally must not be passed by it.
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


def invalid(message: str) -> Failure:
    """-32602 with 400."""
    return Failure(INVALID_PARAMS, message, status=400)


def mismatch(message: str) -> Failure:
    """-32020 with 400."""
    return Failure(HEADER_MISMATCH, f"Header mismatch: {message}", status=400)


def unsupported(requested: str) -> Failure:
    """-32022 with 400 and what is supported."""
    return Failure(
        UNSUPPORTED_VERSION,
        "Unsupported protocol version",
        {"supported": list(SUPPORTED), "requested": requested},
        status=400,
    )
