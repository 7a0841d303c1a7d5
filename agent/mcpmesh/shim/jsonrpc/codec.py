"""JSON-RPC as bytes: find what routing needs, leave the rest as it came.

Params and results are carried as raw spans of the message they arrived in, so
numbers, key order and escapes reach the other side untouched. What is built
here is only the envelope around them. Every outgoing line is one line: raw
line breaks are legal between JSON tokens only, so they become spaces.
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

VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY: Final = "io.modelcontextprotocol/clientCapabilities"
CLIENT_INFO_KEY: Final = "io.modelcontextprotocol/clientInfo"
SERVER_INFO_KEY: Final = "io.modelcontextprotocol/serverInfo"
LOG_LEVEL_KEY: Final = "io.modelcontextprotocol/logLevel"
SUBSCRIPTION_KEY: Final = "io.modelcontextprotocol/subscriptionId"

# Lines above this are searched for their id by shape; parsing all of a long one costs up to a millisecond per MiB.
SHAPE_BYTES: Final = 64 * 1024
EMPTY: Final = Raw()


class Malformed(Exception):
    """Not JSON, or not a JSON-RPC message; the message says why."""


class Unfit(Malformed):
    """JSON, but not as JSON-RPC has it."""


class Message(Struct, gc=False):
    """A JSON-RPC message in either direction. What is absent is UNSET (scalars) or empty (spans).

    The result of a long answer is a memoryview; it is used as bytes only, like any span.
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
# A server that writes its answers so begins all its messages so. Longer is faster to look for.
_BEGINNING = b'{"jsonrpc":"2.0",'


def parse(data: Buffer) -> Message:
    """One JSON-RPC message; raises Malformed, also for nesting too deep to follow."""
    try:
        return _message.decode(data)
    except msgspec.ValidationError as error:
        raise Unfit(str(error)) from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error


def parse_batch(data: Buffer) -> list[Raw]:
    """The messages of a JSON-RPC batch, unparsed; raises Malformed."""
    try:
        return _batch.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error


def parse_line(line: bytes) -> Message:
    """A server's line; raises Malformed.

    A long answer of a usual shape is not parsed beyond its id and its end, so it has to be a whole line.
    """
    if len(line) > SHAPE_BYTES and (head := _ANSWER_HEAD.match(line)) is not None:
        end = _ANSWER_END.search(line, len(line) - 96)
        # A second message in it was written by another thread of the server, into the middle of the first.
        if end is not None and line.find(_BEGINNING, head.end()) < 0:
            return Message(id=int(head[1]), result=memoryview(line)[head.end() : end.start()])  # type: ignore[arg-type]
    return parse(line)


def members(data: Buffer) -> dict[str, Any]:
    """The members of a JSON object, each as a raw span; raises Malformed."""
    try:
        return _members.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error


def value(data: Buffer) -> Any:
    """A whole JSON value as Python objects; raises Malformed."""
    try:
        return _any.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error


def one_line(data: bytes) -> bytes:
    """The same JSON without raw line breaks."""
    if b"\n" in data:
        data = data.replace(b"\n", b" ")
    if b"\r" in data:
        data = data.replace(b"\r", b" ")
    return data


_methods: dict[str, bytes] = {}


def method_json(method: str) -> bytes:
    """A method's name as JSON; the common ones are remembered."""
    known = _methods.get(method)
    if known is None:
        known = encode(method)
        if len(_methods) < 256 and len(known) < 64:
            _methods[method] = known
    return known


def id_json(value: Id | UnsetType | None) -> bytes:
    """An id as JSON."""
    return b"%d" % value if type(value) is int else encode(value)


def request(id: int, method: str, params: Buffer) -> bytes:
    """A request as one line, its line break included; empty params are left out."""
    return bare_request(b"%d" % id, method, params) + b"\n"


def bare_request(id: bytes, method: str, params: Buffer) -> bytes:
    """A request without a line break at its end; the id is JSON already."""
    if params:
        parts = (b'{"jsonrpc":"2.0","id":', id, b',"method":', method_json(method), b',"params":', params, b"}")
        return one_line(b"".join(parts))
    return b'{"jsonrpc":"2.0","id":%b,"method":%b}' % (id, method_json(method))


def notification(method: str, params: Buffer = b"") -> bytes:
    """A notification without a line break at its end."""
    if params:
        return one_line(b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (method_json(method), bytes(params)))
    return b'{"jsonrpc":"2.0","method":%b}' % method_json(method)


def result_pieces(id: bytes, result: Buffer) -> list[Buffer]:
    """A result message in pieces, so that a long result need not be copied."""
    return [b'{"jsonrpc":"2.0","id":' + id + b',"result":', result, b"}"]


def error_pieces(id: bytes, error: Buffer) -> list[Buffer]:
    """An error message in pieces."""
    return [b'{"jsonrpc":"2.0","id":' + id + b',"error":', error, b"}"]


def error_body(code: int, message: str, data: Mapping[str, Any] | None = None) -> bytes:
    """The error member of an answer."""
    body: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        body["data"] = data
    return encode(body)


_ID = rb'"id":\s*(-?\d{1,18}|"[\w.:-]{1,64}")\s*'
_ID_AT_HEAD = re.compile(rb'\{(?:"jsonrpc":\s*"2\.0",\s*)?' + _ID + rb",")
_ID_AT_TAIL = re.compile(rb",\s*" + _ID + rb'(?:,\s*"jsonrpc":\s*"2\.0"\s*)?\}\s*\Z')


def find_id(head: bytes, tail: bytes) -> Id | None:
    """The id of a message of which only the two ends were kept; of texts only plain ones are found."""
    found = _ID_AT_HEAD.match(head) or _ID_AT_TAIL.search(tail[-128:])
    return value(found[1]) if found else None
