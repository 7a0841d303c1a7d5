"""JSON-RPC messages as bytes: decode what routing needs, leave the rest untouched.

Params and results stay raw spans of the message they arrived in, so numbers,
key order and escapes reach the other side unchanged. This module builds only
the envelope around them. Every outgoing message is one line: raw line breaks
are legal between JSON tokens only, so they become spaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import UNSET as UNSET
from msgspec import Raw as Raw
from msgspec import Struct, UnsetType

Buffer: TypeAlias = bytes | memoryview | Raw
Id: TypeAlias = int | str

# The id of a longer line is found by the line's shape; parsing a long line whole costs up to a millisecond per MiB.
SHAPE_BYTES: Final = 64 * 1024
EMPTY: Final = Raw()


class Malformed(Exception):
    """Not JSON, or not a JSON-RPC message; the text says why."""


class NotJsonRpc(Malformed):
    """Valid JSON, but not a JSON-RPC message."""


class Message(Struct, gc=False):
    """A JSON-RPC message in either direction. Absent members are UNSET (scalars) or empty (spans).

    The result of a long answer is a memoryview; like any span it is only used as bytes.
    """

    jsonrpc: str | UnsetType = UNSET
    id: Id | UnsetType | None = UNSET
    method: str | UnsetType = UNSET
    params: Raw = EMPTY
    result: Raw = EMPTY
    error: Raw = EMPTY


_message = msgspec.json.Decoder(Message)
_batch = msgspec.json.Decoder(list[Raw])
_members = msgspec.json.Decoder(dict[str, Raw])
_any = msgspec.json.Decoder()
encode = msgspec.json.Encoder().encode

_ANSWER_HEAD = re.compile(rb'\{"jsonrpc":"2\.0","id":(-?\d{1,18}),"result":(?=[{\[])')
_ANSWER_END = re.compile(rb"(?<=[}\]])\s*\}\s*\Z")
# A server whose answers begin like this begins all its messages like this. A longer text is found faster.
_MESSAGE_START = b'{"jsonrpc":"2.0",'


def parse(data: Buffer) -> Message:
    """Decode one JSON-RPC message; raises Malformed, also for nesting that is too deep."""
    try:
        return _message.decode(data)
    except msgspec.ValidationError as error:
        raise NotJsonRpc(str(error)) from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error


def parse_batch(data: Buffer) -> list[Raw]:
    """Split a JSON-RPC batch into its undecoded messages; raises Malformed."""
    try:
        return _batch.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error


def parse_line(line: bytes) -> Message:
    """Decode one line of a server; raises Malformed.

    Of a long answer with the usual shape only the id and the end are parsed, so `line` must be a whole line.
    """
    if len(line) > SHAPE_BYTES and (head := _ANSWER_HEAD.match(line)) is not None:
        end = _ANSWER_END.search(line, len(line) - 96)
        # Another thread of the server may have written a second message into the middle of the first.
        if end is not None and line.find(_MESSAGE_START, head.end()) < 0:
            return Message(id=int(head[1]), result=memoryview(line)[head.end() : end.start()])  # type: ignore[arg-type]
    return parse(line)


def members(data: Buffer) -> dict[str, Any]:
    """Decode a JSON object into its members, each a raw span; raises Malformed."""
    try:
        return _members.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error


def decode(data: Buffer) -> Any:
    """Decode a whole JSON value into Python objects; raises Malformed."""
    try:
        return _any.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error


def one_line(data: bytes) -> bytes:
    """Return the same JSON without raw line breaks."""
    if b"\n" in data:
        data = data.replace(b"\n", b" ")
    if b"\r" in data:
        data = data.replace(b"\r", b" ")
    return data


_methods: dict[str, bytes] = {}


def method_json(method: str) -> bytes:
    """Encode a method's name as JSON; short ones are cached, up to 256."""
    encoded = _methods.get(method)
    if encoded is None:
        encoded = encode(method)
        if len(_methods) < 256 and len(encoded) < 64:
            _methods[method] = encoded
    return encoded


def id_json(value: Id | UnsetType | None) -> bytes:
    """Encode an id as JSON."""
    return b"%d" % value if type(value) is int else encode(value)


def request(id: int, method: str, params: Buffer) -> bytes:
    """Build a request as one line with its line break; empty params are left out."""
    return bare_request(b"%d" % id, method, params) + b"\n"


def bare_request(id: bytes, method: str, params: Buffer) -> bytes:
    """Build a request without a line break at its end; `id` is JSON already."""
    if params:
        parts = (b'{"jsonrpc":"2.0","id":', id, b',"method":', method_json(method), b',"params":', params, b"}")
        return one_line(b"".join(parts))
    return b'{"jsonrpc":"2.0","id":%b,"method":%b}' % (id, method_json(method))


def notification(method: str, params: Buffer = b"") -> bytes:
    """Build a notification without a line break at its end."""
    if params:
        return one_line(b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (method_json(method), bytes(params)))
    return b'{"jsonrpc":"2.0","method":%b}' % method_json(method)


def result_pieces(id: bytes, result: Buffer) -> list[Buffer]:
    """Build a result message in pieces, so that a long result is not copied."""
    return [b'{"jsonrpc":"2.0","id":' + id + b',"result":', result, b"}"]


def error_pieces(id: bytes, error: Buffer) -> list[Buffer]:
    """Build an error message in pieces."""
    return [b'{"jsonrpc":"2.0","id":' + id + b',"error":', error, b"}"]


def error_body(code: int, message: str, data: Mapping[str, Any] | None = None) -> bytes:
    """Build the `error` member of an answer."""
    body: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        body["data"] = data
    return encode(body)


_ID = rb'"id":\s*(-?\d{1,18}|"[\w.:-]{1,64}")\s*'
_ID_AT_HEAD = re.compile(rb'\{(?:"jsonrpc":\s*"2\.0",\s*)?' + _ID + rb",")
_ID_AT_TAIL = re.compile(rb",\s*" + _ID + rb'(?:,\s*"jsonrpc":\s*"2\.0"\s*)?\}\s*\Z')


def find_id(head: bytes, tail: bytes) -> Id | None:
    """Find the id of a message of which only both ends are known; string ids only in a plain form."""
    found = _ID_AT_HEAD.match(head) or _ID_AT_TAIL.search(tail[-128:])
    return decode(found[1]) if found else None
