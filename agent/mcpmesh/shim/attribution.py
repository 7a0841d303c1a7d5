"""Whom a kept server's own words are for.

A server on stdio does not say which call a request or a log message of its own
belongs to. It is passed on only when there is exactly one caller whom it can
concern: better not asked than another's question shown. A question that could
be several callers' is held for a while, since a call that ends without an
answer to it was not the one that asked; then it is refused, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mcpmesh.shim import modern, wire
from mcpmesh.shim.calls import CallerCall
from mcpmesh.shim.child import Child
from mcpmesh.shim.failure import METHOD_NOT_FOUND
from mcpmesh.shim.process import Exit
from mcpmesh.shim.translate import NO_ROOTS

if TYPE_CHECKING:
    from mcpmesh.shim.app import App

# How long a question waits for its caller to be the only one left.
HOLD_SECONDS: Final = 10.0


@dataclass(eq=False)
class Held:
    """A server's question, and whose it can be."""

    child: Child
    message: Any
    calls: list[CallerCall]
    suspects: set[int]
    """What the server was at work on when it asked: those calls, and ones that were cancelled before."""

    def left(self) -> list[CallerCall]:
        """The calls that still can have caused it, one for each caller."""
        running = {call.caller: call for call in self.calls if self.child.calls.get(call.id) is call}
        return list(running.values())

    def haunted(self) -> bool:
        """Whether a cancelled call that is still at work can have caused it."""
        return any(id in self.child.ghosts for id in self.suspects)


class Attribution:
    """Listens to kept processes."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._held: list[Held] = []

    def asked(self, child: Child, message: Any) -> None:
        if message.method == "ping":
            child.answer(message.id, b"{}")
            return
        child.forget_ghosts()
        calls = [call for call in child.calls.values() if isinstance(call, CallerCall)]
        held = Held(child, message, calls, {*child.ghosts, *(call.id for call in calls)})
        if not self._settle(held):
            self._held.append(held)
            for call in calls:
                if call.askable:
                    self.app.kept.askers.suspect(call.subject)
            self.app.later(HOLD_SECONDS, lambda: self._give_up(held))

    def _settle(self, held: Held) -> bool:
        """Pass a question on or refuse it, when that can be decided."""
        left = held.left()
        if held.haunted():
            return False
        if len(left) == 1:
            left[0].asked = True
            left[0].ask(held.child, held.message)
        elif not left:
            self._refuse(held, "no call runs that it can belong to")
        return len(left) <= 1

    def _give_up(self, held: Held) -> None:
        if held in self._held:
            self._held.remove(held)
            held.child.forget_ghosts()
            if not self._settle(held):
                for call in held.left():
                    call.asked = True
                self._refuse(held, "several callers share the process, and it can't be told whom to ask")

    def _refuse(self, held: Held, reason: str) -> None:
        method = held.message.method
        if method == "roots/list":
            held.child.answer(held.message.id, NO_ROOTS)
            return
        self.app.metrics.count("refused_requests")
        held.child.refuse(held.message.id, METHOD_NOT_FOUND, f"cannot ask for {method}: {reason}")

    def released(self, child: Child) -> None:
        """A call of this process is over: a held question may now have only one caller."""
        if self._held:
            for held in [held for held in self._held if held.child is child]:
                if self._settle(held):
                    self._held.remove(held)

    def notified(self, child: Child, message: Any) -> None:
        self.app.server_notified(message.method)
        if message.method == "notifications/message":
            self._log(child, message)
        elif not self.app.subscriptions.notified(child, message):
            self.app.metrics.count("dropped_notifications")

    def _log(self, child: Child, message: Any) -> None:
        child.forget_ghosts()
        calls = [call for call in child.calls.values() if isinstance(call, CallerCall)]
        if child.modern:
            # Only who opted in may be told anything, so only they can be meant.
            calls = [call for call in calls if call.log_level is not None]
        callers = {call.caller: call for call in calls}
        if len(callers) == 1 and not child.ghosts:
            (call,) = callers.values()
            if call.wants_log(level_of(message.params)):
                call.log(message.params)
                return
        self.app.metrics.count("dropped_notifications")

    def ended(self, child: Child, _exit: Exit) -> None:
        self._held = [held for held in self._held if held.child is not child]
        self.app.subscriptions.ended(child)


def level_of(params: wire.Buffer) -> str:
    """The level of a log message."""
    try:
        level = wire.value(wire.members(params).get("level", b'"info"'))
    except wire.Malformed:
        return "debug"
    return level if level in modern.LOG_LEVELS else "debug"
