"""A caller of the older protocol."""

from __future__ import annotations

import asyncio
from typing import Self

from tests.soak.callers import UPDATED, Caller, Line, Tally, answer, arguments, said
from tests.soak.wire import INITIALIZE, Connection, Message, legacy, rpc


class LegacyCaller(Caller):
    """A session with a GET stream open."""

    def __init__(self, port: int, name: str, tally: Tally) -> None:
        super().__init__(port, name, tally)
        self.session = ""
        self._listener: Connection
        self._answers: Connection
        self._lock = asyncio.Lock()
        self._answering: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, port: int, name: str, tally: Tally) -> Self:
        caller = cls(port, name, tally)
        caller._answers = await Connection.open(port)
        opened = await caller._answers.ask(INITIALIZE)
        caller.session = opened.session
        for method, params, id in (
            ("notifications/initialized", None, None),
            ("logging/setLevel", {"level": "debug"}, 1),
        ):
            await caller._answers.ask(legacy(caller.session, rpc(method, params, id)))
        caller._listener = await Connection.open(port)
        caller._listener.on_message = caller.heard
        caller._listener.begin(legacy(caller.session, b"", verb="GET")).add_done_callback(lambda f: f.exception())
        return caller

    async def line(self) -> Line:
        return LegacyLine(self, await Connection.open(self.port))

    async def subscribe(self) -> None:
        self.subscribed = True
        reply = await self._answers.ask(legacy(self.session, rpc("resources/subscribe", {"uri": self.uri})))
        if "result" not in reply.messages[-1]:
            self.tally.failed(f"{self.name} could not subscribe: {reply.messages}")

    async def close(self) -> None:
        for task in list(self._answering):
            await task
        await self._answers.ask(legacy(self.session, b"", verb="DELETE"))

    def heard(self, message: Message) -> None:
        """Something of the session's, on any of its streams."""
        method = message.get("method")
        if method == "notifications/message":
            self.tally.mine("logs", message["params"]["data"], self.name)
        elif method == "sampling/createMessage":
            whose = said(message)
            self.tally.mine("questions", whose, self.name)
            task = asyncio.get_running_loop().create_task(self._answer(message["id"], whose))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif method == UPDATED:
            self.updated(message)
        else:
            self.tally.theirs(f"an unexpected {message} reached {self.name}")

    async def _answer(self, id: object, whose: str) -> None:
        async with self._lock:
            await self._answers.ask(legacy(self.session, rpc(None, None, id, result=answer(whose))))


class LegacyLine(Line):
    """Answers and progress are the call's own; questions and log messages are the session's."""

    caller: LegacyCaller

    def came(self, message: Message) -> None:
        if "method" not in message:
            return
        if message["method"] == "notifications/progress":
            self.progressed(message)
        else:
            self.caller.heard(message)

    async def _call(self, tool: str) -> None:
        params = {"name": tool, "arguments": arguments(self.caller, self.number), "_meta": {"progressToken": 1}}
        self.judge(tool, await self.connection.ask(legacy(self.caller.session, rpc("tools/call", params))))
