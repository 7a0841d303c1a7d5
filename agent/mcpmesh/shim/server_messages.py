"""Attribution: for which caller a shared server's requests and log messages are.

A server on stdio does not say which call its request or log message belongs to.
It is passed on only when exactly one caller has a call there, and no abandoned
call may still be running: no answer is better than another caller's question
(docs/decisions/0012).
"""

from __future__ import annotations

from typing import Any

from mcpmesh.shim.calls.call_context import CallContext
from mcpmesh.shim.calls.multiplexed_call import MultiplexedCall
from mcpmesh.shim.errors import METHOD_NOT_FOUND
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.modern_request import LOG_LEVELS
from mcpmesh.shim.protocol.translation import NO_ROOTS
from mcpmesh.shim.server.channel import ServerExit
from mcpmesh.shim.server.peer import Peer
from mcpmesh.shim.server.tool_list import ToolListRefresher
from mcpmesh.shim.subscriptions.hub import SubscriptionHub


class ServerMessages:
    """Receives the messages of shared servers (a PeerListener)."""

    def __init__(self, call_context: CallContext, hub: SubscriptionHub, tool_list: ToolListRefresher) -> None:
        self.metrics = call_context.context.metrics
        self.history = call_context.history
        self.hub = hub
        self.tool_list = tool_list

    def server_request(self, peer: Peer, message: Any) -> None:
        if message.method == "ping":
            peer.answer_from_shim(message.id, b"{}")
            return
        calls = [call for call in client_calls(peer) if call.may_ask_client]
        callers = {call.caller: call for call in calls}
        if len(callers) == 1 and not peer.has_abandoned_calls:
            (call,) = callers.values()
            call.led_to_server_request = True
            call.server_request(peer, message)
            return
        for call in calls:
            call.led_to_server_request = True
            if call.can_ask_client:
                self.history.suspect(call.target)
        self._refuse(peer, message, "it can't be told for which caller" if calls else "no caller is there")

    def _refuse(self, peer: Peer, message: Any, reason: str) -> None:
        if message.method == "roots/list":
            peer.answer_from_shim(message.id, NO_ROOTS)
            return
        self.metrics.count("refused_requests")
        peer.refuse(message.id, METHOD_NOT_FOUND, f"cannot ask for {message.method}: {reason}")

    def server_notification(self, peer: Peer, message: Any) -> None:
        self.tool_list.notification(message.method)
        if message.method == "notifications/message":
            self._log_message(peer, message)
        elif not self.hub.server_notification(peer, message):
            self.metrics.count("dropped_notifications")

    def _log_message(self, peer: Peer, message: Any) -> None:
        callers = {call.caller: call for call in client_calls(peer)}
        if len(callers) == 1 and not peer.has_recently_abandoned_calls:
            (call,) = callers.values()
            if call.wants_log(level_of(message.params)):
                call.log_message(message.params)
                return
        self.metrics.count("dropped_notifications")

    def server_exited(self, peer: Peer, _exit: ServerExit) -> None:
        self.hub.server_exited(peer)


def client_calls(peer: Peer) -> list[MultiplexedCall]:
    """The calls at a process for which the server works; subscriptions don't count."""
    return [call for call in peer.calls.values() if isinstance(call, MultiplexedCall) and call.works_for_client]


def level_of(params: codec.Buffer) -> str:
    """The level of a log message."""
    try:
        level = codec.decode(codec.members(params).get("level", b'"info"'))
    except codec.Malformed:
        return "debug"
    return level if level in LOG_LEVELS else "debug"
