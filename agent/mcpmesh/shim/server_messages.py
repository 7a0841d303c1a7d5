"""Whom a kept server's own words are for.

A server on stdio does not say which call a request or a log message of its own
belongs to. It is passed on only when exactly one caller has a call there, and
no call is there that was given up and may still be at work: better not asked
than another's question shown (docs/decisions/0012).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcpmesh.shim.calls.multiplexed_call import CallerCall
from mcpmesh.shim.errors import METHOD_NOT_FOUND
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import modern_request
from mcpmesh.shim.protocol.translation import NO_ROOTS
from mcpmesh.shim.server.peer import Child
from mcpmesh.shim.server.stdio_process import Exit

if TYPE_CHECKING:
    from mcpmesh.shim.app import App


class Attribution:
    """Listens to kept processes."""

    def __init__(self, app: App) -> None:
        self.app = app

    def asked(self, child: Child, message: Any) -> None:
        if message.method == "ping":
            child.answer_itself(message.id, b"{}")
            return
        calls = [call for call in calls_of_clients(child) if call.may_ask]
        callers = {call.caller: call for call in calls}
        if len(callers) == 1 and not child.haunted:
            (call,) = callers.values()
            call.asked = True
            call.ask(child, message)
            return
        for call in calls:
            call.asked = True
            if call.askable:
                self.app.kept.askers.suspect(call.subject)
        self._refuse(child, message, "it can't be told for which caller" if calls else "no caller is there")

    def _refuse(self, child: Child, message: Any, reason: str) -> None:
        if message.method == "roots/list":
            child.answer_itself(message.id, NO_ROOTS)
            return
        self.app.metrics.count("refused_requests")
        child.refuse(message.id, METHOD_NOT_FOUND, f"cannot ask for {message.method}: {reason}")

    def notified(self, child: Child, message: Any) -> None:
        self.app.server_notified(message.method)
        if message.method == "notifications/message":
            self._log(child, message)
        elif not self.app.subscriptions.notified(child, message):
            self.app.metrics.count("dropped_notifications")

    def _log(self, child: Child, message: Any) -> None:
        callers = {call.caller: call for call in calls_of_clients(child)}
        if len(callers) == 1 and not child.haunted_lately:
            (call,) = callers.values()
            if call.wants_log(level_of(message.params)):
                call.log(message.params)
                return
        self.app.metrics.count("dropped_notifications")

    def ended(self, child: Child, _exit: Exit) -> None:
        self.app.subscriptions.ended(child)


def calls_of_clients(child: Child) -> list[CallerCall]:
    """The calls at a process of which it may speak; a subscription is none."""
    return [call for call in child.calls.values() if isinstance(call, CallerCall) and call.at_work]


def level_of(params: codec.Buffer) -> str:
    """The level of a log message."""
    try:
        level = codec.value(codec.members(params).get("level", b'"info"'))
    except codec.Malformed:
        return "debug"
    return level if level in modern_request.LOG_LEVELS else "debug"
