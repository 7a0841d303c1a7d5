"""A caller of the legacy era."""

from __future__ import annotations

import asyncio
from typing import Self

from tests.soak.callers import UPDATED, Caller, Line, Tally, answer, arguments, caller_named_in
from tests.soak.http_client import INITIALIZE, Connection, Message, legacy, rpc


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
        caller._listener.on_message = caller.session_message
        caller._listener.begin(legacy(caller.session, b"", verb="GET")).add_done_callback(lambda f: f.exception())
        return caller

    async def line(self) -> Line:
        return LegacyLine(self, await Connection.open(self.port))

    async def subscribe(self) -> None:
        self.subscribed = True
        reply = await self._answers.ask(legacy(self.session, rpc("resources/subscribe", {"uri": self.uri})))
        if "result" not in reply.messages[-1]:
            self.tally.count_missing(f"{self.name} could not subscribe: {reply.messages}")

    async def close(self) -> None:
        for task in list(self._answering):
            await task
        await self._answers.ask(legacy(self.session, b"", verb="DELETE"))

    def session_message(self, message: Message) -> None:
        """A message of the session arrived on one of its streams."""
        method = message.get("method")
        if method == "notifications/message":
            self.tally.check_owner("logs", message["params"]["data"], self.name)
        elif method == "sampling/createMessage":
            whose = caller_named_in(message)
            self.tally.check_owner("questions", whose, self.name)
            task = asyncio.get_running_loop().create_task(self._answer(message["id"], whose))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif method == UPDATED:
            self.updated(message)
        else:
            self.tally.count_crossed(f"an unexpected {message} reached {self.name}")

    async def _answer(self, id: object, whose: str) -> None:
        async with self._lock:
            await self._answers.ask(legacy(self.session, rpc(None, None, id, result=answer(whose))))


class LegacyLine(Line):
    """Answers and progress belong to the call; server requests and log messages belong to the session."""

    caller: LegacyCaller

    def message_arrived(self, message: Message) -> None:
        if "method" not in message:
            return
        if message["method"] == "notifications/progress":
            self.progressed(message)
        else:
            self.caller.session_message(message)

    async def _call(self, tool: str) -> None:
        params = {"name": tool, "arguments": arguments(self.caller, self.number), "_meta": {"progressToken": 1}}
        self.check_answer(tool, await self.connection.ask(legacy(self.caller.session, rpc("tools/call", params))))
