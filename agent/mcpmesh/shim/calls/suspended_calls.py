"""Calls that wait for their client's input, and the signed `requestState` by which the client's retry finds them.

The state is a token of this shim: it names the call, its expiry and the request
that it belongs to, and is signed. A state that was changed, has expired, belongs
to another request or was used before is refused. The address of this instance
follows the signed part, if it is configured, so that a caller's proxy can send
the retry here (docs/decisions/0014).
"""

from __future__ import annotations

import binascii
import os
import re
from _operator import _compare_digest as compare_digest
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from mcpmesh.shim.context import Context
from mcpmesh.shim.errors import Failure
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.modern_request import invalid_params

SIGNATURE_BYTES: Final = 16
DIGEST_BYTES: Final = 16
_ADDRESS = re.compile(r"@[0-9A-Fa-f.:\[\]]+:[0-9]+\Z")
# Members in which a retry differs from its request.
RETRY_MEMBERS: Final = frozenset(("_meta", "inputResponses", "requestState"))


def request_digest(method: str, params: dict[str, Any]) -> bytes:
    """The same for a request and its retry: a digest of the method and the params without RETRY_MEMBERS."""
    import hashlib  # imported here, so that it does not slow down the start of every shim

    lasting = {key: _comparable(item) for key, item in params.items() if key not in RETRY_MEMBERS}
    return hashlib.sha256(msgspec.json.encode([method, lasting], order="sorted")).digest()[:DIGEST_BYTES]


def _comparable(item: codec.Buffer) -> Any:
    """The decoded value, so that the order of members does not count; the raw text if it can't be decoded."""
    try:
        return codec.decode(item)
    except codec.Malformed:
        return bytes(item).decode("latin-1")


def without_address(state: str) -> str:
    """A state without the address that an instance appended to it."""
    return _ADDRESS.sub("", state)


class Suspendable(Protocol):
    """A call, or its server, that waits for the client's input."""

    def abandon(self, reason: str) -> None:
        """The client did not come back in time."""

    def obstacle(self) -> Failure | None:
        """Why it can't go on now, though the client came back; None if it can."""


@dataclass(frozen=True, slots=True)
class _Suspension:
    call: Suspendable
    digest: bytes
    """Of the request that it belongs to."""


class SuspendedCalls:
    """The calls of one shim that wait for input."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.address = f"@{context.config.affinity}" if context.config.affinity else ""
        self._key = os.urandom(32)
        self._suspensions: dict[str, _Suspension] = {}

    def __len__(self) -> int:
        return len(self._suspensions)

    def holds(self, call: object) -> bool:
        """Whether this call waits."""
        return any(suspension.call is call for suspension in self._suspensions.values())

    def suspend(self, call: Suspendable, method: str, params: dict[str, Any]) -> str | None:
        """Let a call wait; returns its state, or None when too many wait.

        In request isolation each waits in a process of its own. So at most half of all processes wait, and the oldest
        makes room.
        """
        limits = self.context.limits
        if len(self._suspensions) >= limits.suspended:
            return None
        if self.context.config.isolation == "request" and len(self._suspensions) >= max(1, limits.children // 2):
            self._expire(next(iter(self._suspensions)), "newer calls that wait for input needed its process")
        name = os.urandom(9).hex()
        self._suspensions[name] = _Suspension(call, request_digest(method, params))
        self.context.later(limits.input_seconds, lambda: self._expire(name))
        return self._sign({"c": name, "e": self._expiry(), "i": self.context.config.instance})

    def state_for_new_call(self, method: str, params: dict[str, Any]) -> str:
        """A state for a request that has ended: with it, the client's retry is sent as a new call."""
        return self._sign({"d": request_digest(method, params).hex(), "e": self._expiry()})

    def _expiry(self) -> int:
        return int(self.context.wall_clock() + self.context.limits.input_seconds)

    def take(self, state: str, method: str, params: dict[str, Any]) -> Suspendable | None:
        """The call that waits under a state, which is used up; None if the retry is to be sent as a new call.

        Raises Failure.
        """
        payload = self._verify(without_address(state))
        suspension = self._suspensions.get(payload.get("c", ""))
        expired = payload["e"] < self.context.wall_clock()
        if expired or (suspension is None and "c" in payload):
            raise invalid_params("requestState has lapsed or was used before; send the request again without it")
        if request_digest(method, params) != (suspension.digest if suspension else bytes.fromhex(payload["d"])):
            raise invalid_params("requestState belongs to another request")
        if suspension is None:
            return None
        if (failure := suspension.call.obstacle()) is not None:
            raise failure
        del self._suspensions[payload["c"]]
        return suspension.call

    def _expire(self, name: str, reason: str = "the client did not answer in time") -> None:
        suspension = self._suspensions.pop(name, None)
        if suspension is not None:
            suspension.call.abandon(reason)

    def _sign(self, payload: dict[str, Any]) -> str:
        body = codec.encode(payload)
        return binascii.b2a_base64(self._signature(body) + body, newline=False).decode() + self.address

    def _signature(self, body: bytes) -> bytes:
        import hmac

        return hmac.digest(self._key, body, "sha256")[:SIGNATURE_BYTES]

    def _verify(self, state: str) -> dict[str, Any]:
        try:
            raw = binascii.a2b_base64(state.encode(), strict_mode=True)
        except ValueError:
            raise invalid_params("requestState is not one of this server's") from None
        body = raw[SIGNATURE_BYTES:]
        if not compare_digest(raw[:SIGNATURE_BYTES], self._signature(body)):
            sentence = "requestState is not one of this instance's, or was changed; send the request without it"
            raise invalid_params(sentence)
        return codec.decode(body)  # type: ignore[no-any-return]
