"""Calls that wait for their client's input, and the signed state that finds them again.

The state is a token of this process: it names the call, says when it ends and
which request it belongs to, and is signed, so a state that was changed, is
old, belongs to another request or was used before is refused. Behind the
signed part stands the address of this instance, where that was told, so that a
caller's proxy can send the retry here (docs/decisions/0014).
"""

from __future__ import annotations

import binascii
import os
import re
import time
from _operator import _compare_digest as compare_digest
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from mcpmesh.shim.errors import Failure
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.modern_request import invalid

if TYPE_CHECKING:
    from mcpmesh.shim.app import App

SIGNATURE_BYTES: Final = 16
_ADDRESS = re.compile(r"@[0-9A-Fa-f.:\[\]]+:[0-9]+\Z")
RETRYS_OWN: Final = frozenset(("_meta", "inputResponses", "requestState"))


def request_digest(method: str, params: dict[str, Any]) -> bytes:
    """What two requests must share to be one request and its retry: method and params without the retry's own."""
    import hashlib  # here and not at the start of every shim

    lasting = {key: _comparable(item) for key, item in params.items() if key not in RETRYS_OWN}
    return hashlib.sha256(msgspec.json.encode([method, lasting], order="sorted")).digest()[:16]


def _comparable(item: codec.Buffer) -> Any:
    """A value, so that its members' order does not count; as it stands where it can't be read."""
    try:
        return codec.value(item)
    except codec.Malformed:
        return bytes(item).decode("latin-1")


def without_address(state: str) -> str:
    """A state as it was before an instance put its address behind it."""
    return _ADDRESS.sub("", state)


class Waiter(Protocol):
    """What waits for its client's input."""

    def abandon(self, reason: str) -> None:
        """The client did not come back in time."""

    def hindered(self) -> Failure | None:
        """Why it can't go on now, though its client came back."""


@dataclass(frozen=True, slots=True)
class Held:
    """A waiter, and the request that it belongs to."""

    waiter: Waiter
    digest: bytes


class Suspended:
    """The calls of one shim that wait for input."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.address = f"@{app.config.affinity}" if app.config.affinity else ""
        self._key = os.urandom(32)
        self._held: dict[str, Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def holds(self, waiter: object) -> bool:
        """Whether it waits."""
        return any(held.waiter is waiter for held in self._held.values())

    def hold(self, waiter: Waiter, method: str, params: dict[str, Any]) -> str | None:
        """Let a call wait; answers its state, or None when too many wait.

        Where each waits in a process of its own, at most half of all processes do; the oldest makes room.
        """
        limits = self.app.limits
        if len(self._held) >= limits.suspended:
            return None
        if self.app.config.isolation == "request" and len(self._held) >= max(1, limits.children // 2):
            # Each keeps a process, and other calls need some too.
            self._lapse(next(iter(self._held)), "newer calls that wait for input needed its process")
        name = os.urandom(9).hex()
        self._held[name] = Held(waiter, request_digest(method, params))
        self.app.later(limits.input_seconds, lambda: self._lapse(name))
        return self._sign({"c": name, "e": int(time.time() + limits.input_seconds), "i": self.app.config.instance})

    def again(self, method: str, params: dict[str, Any]) -> str:
        """A state for a request that is over and to be sent as a new one after its client did what was asked."""
        return self._sign(
            {"d": request_digest(method, params).hex(), "e": int(time.time() + self.app.limits.input_seconds)}
        )

    def take(self, state: str, method: str, params: dict[str, Any]) -> Waiter | None:
        """What waits under a state, which is used up by this; None when there is nothing to go on with.

        Raises Failure.
        """
        payload = self._verify(without_address(state))
        held = self._held.get(payload.get("c", ""))
        lapsed = payload["e"] < time.time()
        if lapsed or (held is None and "c" in payload):
            raise invalid("requestState has lapsed or was used before; send the request again without it")
        if request_digest(method, params) != (held.digest if held else bytes.fromhex(payload["d"])):
            raise invalid("requestState belongs to another request")
        if held is None:
            return None
        if (failure := held.waiter.hindered()) is not None:
            raise failure
        del self._held[payload["c"]]
        return held.waiter

    def _lapse(self, name: str, reason: str = "the client did not answer in time") -> None:
        held = self._held.pop(name, None)
        if held is not None:
            held.waiter.abandon(reason)

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
            raise invalid("requestState is not one of this server's") from None
        body = raw[SIGNATURE_BYTES:]
        if not compare_digest(raw[:SIGNATURE_BYTES], self._signature(body)):
            raise invalid("requestState is not one of this instance's, or was changed; send the request without it")
        return codec.value(body)  # type: ignore[no-any-return]
