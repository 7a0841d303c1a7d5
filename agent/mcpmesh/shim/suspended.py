"""Calls that wait for their client's input, and the signed state that finds them again.

The state is a token of this process: it names the call, says when it ends and
which request it belongs to, and is signed, so a state that was changed, is
old, belongs to another request or was used before is refused.
"""

from __future__ import annotations

import binascii
import os
import time
from _operator import _compare_digest as compare_digest
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mcpmesh.shim import wire
from mcpmesh.shim.modern import invalid

if TYPE_CHECKING:
    from mcpmesh.shim.app import App
    from mcpmesh.shim.translated import TranslatedCall

SIGNATURE_BYTES: Final = 16
RETRYS_OWN: Final = frozenset(("_meta", "inputResponses", "requestState"))


def request_digest(method: str, params: dict[str, Any]) -> bytes:
    """What two requests must share to be one request and its retry: method and params without the retry's own."""
    import hashlib  # here and not at the start of every shim

    lasting = {key: wire.value(item) for key, item in params.items() if key not in RETRYS_OWN}
    return hashlib.sha256(msgspec.json.encode([method, lasting], order="sorted")).digest()[:16]


class Suspended:
    """The calls of one shim that wait for input."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._key = os.urandom(32)
        self._calls: dict[str, TranslatedCall] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def holds(self, call: TranslatedCall) -> bool:
        """Whether the call waits."""
        return call in self._calls.values()

    def hold(self, call: TranslatedCall) -> str | None:
        """Let a call wait; answers its state, or None when too many wait."""
        limits = self.app.limits
        if len(self._calls) >= limits.suspended:
            return None
        name = os.urandom(9).hex()
        self._calls[name] = call
        self.app.later(limits.input_seconds, lambda: self._lapse(name))
        return self._sign({"c": name, "e": int(time.time() + limits.input_seconds), "i": self.app.config.instance})

    def again(self, method: str, params: dict[str, Any]) -> str:
        """A state for a request that is over and to be sent as a new one after its client did what was asked."""
        return self._sign(
            {"d": request_digest(method, params).hex(), "e": int(time.time() + self.app.limits.input_seconds)}
        )

    def take(self, state: str, method: str, params: dict[str, Any]) -> TranslatedCall | None:
        """The call of a state, which is used up by this; None when there is none to go on with. Raises Failure."""
        payload = self._verify(state)
        digest = request_digest(method, params)
        call = self._calls.get(payload.get("c", ""))
        lapsed = payload["e"] < time.time()
        if lapsed or (call is None and "c" in payload):
            raise invalid("requestState has lapsed or was used before; send the request again without it")
        if digest != (request_digest(call.method, call.params) if call else bytes.fromhex(payload["d"])):
            raise invalid("requestState belongs to another request")
        if call is not None:
            del self._calls[payload["c"]]
        return call

    def _lapse(self, name: str) -> None:
        call = self._calls.pop(name, None)
        if call is not None:
            call.abandon("the client did not answer in time")

    def _sign(self, payload: dict[str, Any]) -> str:
        body = wire.encode(payload)
        return binascii.b2a_base64(self._signature(body) + body, newline=False).decode()

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
        return wire.value(body)  # type: ignore[no-any-return]
