"""A caller of the modern era."""

from __future__ import annotations

import asyncio
from typing import Self

from tests.soak.callers import UPDATED, Caller, Line, Tally, answer, arguments, caller_named_in
from tests.soak.disconnects import abandon
from tests.soak.http_client import ASKABLE, Connection, Message, Reply, listen, modern, subscription_of

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
LOG_LEVEL = "io.modelcontextprotocol/logLevel"


class ModernCaller(Caller):
    """Has only a name: each call stands for itself."""

    @classmethod
    async def open(cls, port: int, name: str, tally: Tally) -> Self:
        return cls(port, name, tally)

    async def line(self) -> Line:
        return ModernLine(self, await Connection.open(self.port))

    async def subscribe(self) -> None:
        self.subscribed = True
        acknowledged = asyncio.Event()

        def on_message(message: Message) -> None:
            if message.get("method") == ACKNOWLEDGED:
                acknowledged.set()
            self.subscription_message(message)

        listener = await Connection.open(self.port)
        listener.on_message = on_message
        abandon(listener.begin(listen(self.uri)))
        async with asyncio.timeout(60):
            await acknowledged.wait()

    def subscription_message(self, message: Message) -> None:
        """A message arrived on the stream of its subscription, which has the same id as all others."""
        if message.get("method") not in (ACKNOWLEDGED, UPDATED):
            self.tally.count_crossed(f"an unexpected {message} reached the subscription of {self.name}")
        elif subscription_of(message) != 1:
            self.tally.count_crossed(f"a notification of subscription {subscription_of(message)!r} reached {self.name}")
        elif message["method"] == UPDATED:
            self.updated(message)

    async def close(self) -> None:
        """End the subscription by closing its connection; nothing else has to be ended."""


class ModernLine(Line):
    """Everything on the stream of a call belongs to that call."""

    def message_arrived(self, message: Message) -> None:
        method = message.get("method")
        if method is None:
            return
        if method == "notifications/progress":
            self.progressed(message)
        elif method == "notifications/message":
            self.caller.tally.check_owner("logs", message["params"]["data"], self.caller.name, self.number)
        else:
            self.caller.tally.count_crossed(f"an unexpected {message} reached {self.call_name}")

    async def _call(self, tool: str) -> None:
        params: Message = {"name": tool, "arguments": arguments(self.caller, self.number)}
        meta = {"progressToken": 1} | ({LOG_LEVEL: "debug"} if tool == "log" else {})
        reply = await self.connection.ask(modern("tools/call", params, ASKABLE, **meta))
        result = reply.messages[-1].get("result", {}) if reply.messages else {}
        if result.get("resultType") == "input_required":
            reply = await self._retry(params, meta, result)
        self.check_answer(tool, reply)

    async def _retry(self, params: Message, meta: Message, result: Message) -> Reply:
        """Answer the input requests that came instead of a result."""
        answers = {}
        for key, question in result["inputRequests"].items():
            whose = caller_named_in(question)
            self.caller.tally.check_owner("questions", whose, self.caller.name, self.number)
            answers[key] = answer(whose)
        more = {"requestState": result["requestState"], "inputResponses": answers}
        return await self.connection.ask(modern("tools/call", params | more, ASKABLE, **meta))
