"""Callers of both eras who know what is theirs."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from tests.soak.wire import INITIALIZE, Connection, Dropped, Message, Reply, legacy, modern, rpc

LOG_LEVEL = "io.modelcontextprotocol/logLevel"


@dataclass
class Tally:
    """What came, and what should not have."""

    counts: Counter[str] = field(default_factory=Counter)
    crossed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def theirs(self, what: str) -> None:
        """Something reached a caller that is another's."""
        self.counts["crossed"] += 1
        self.crossed.append(what)

    def failed(self, what: str) -> None:
        """Something that should have come did not."""
        self.counts["wrong"] += 1
        self.wrong.append(what)

    def mine(self, what: str, whose: object, me: str, number: int | None = None) -> None:
        """Count one of `what`; `whose` must be this caller, and where a number is given, that call of it."""
        self.counts[what] += 1
        name, _, call = str(whose).partition("#")
        if name != me or (number is not None and call != str(number)):
            self.theirs(f"{what} of {whose} reached {me}#{number}")


class Caller(ABC):
    """One client: a legacy session, or a modern client that has only its name."""

    def __init__(self, port: int, name: str, isolation: str, tally: Tally) -> None:
        self.port = port
        self.name = name
        self.isolation = isolation
        self.tally = tally

    @classmethod
    @abstractmethod
    async def open(cls, port: int, name: str, isolation: str, tally: Tally) -> Self:
        """A caller that is ready to call."""

    @abstractmethod
    async def line(self) -> Line:
        """A connection for one call at a time."""

    @abstractmethod
    async def close(self) -> None:
        """Say goodbye, where the era has a word for it."""


class Line(ABC):
    """One connection of one caller."""

    def __init__(self, caller: Caller, connection: Connection) -> None:
        self.caller = caller
        self.connection = connection
        self.number = 0
        connection.on_message = self.came

    @property
    def whose(self) -> str:
        return f"{self.caller.name}#{self.number}"

    @abstractmethod
    def came(self, message: Message) -> None:
        """A message on this connection, the answer included."""

    async def call(self, tool: str, number: int) -> None:
        """One call to its end."""
        self.number = number
        try:
            await self._call(tool)
        except (Dropped, TimeoutError) as error:
            self.caller.tally.failed(f"{tool} {self.whose}: {error!r}")
            self.connection.abort()
            self.connection = await Connection.open(self.caller.port)
            self.connection.on_message = self.came

    @abstractmethod
    async def _call(self, tool: str) -> None: ...

    def judge(self, tool: str, reply: Reply) -> None:
        """The answer has to be this call's own."""
        tally = self.caller.tally
        message = reply.messages[-1] if reply.messages else {}
        if message.get("id") != 1:
            tally.theirs(f"an answer of id {message.get('id')!r} reached {self.whose}")
            return
        if "error" in message:
            if tool != "fail":
                tally.failed(f"{tool} {self.whose}: {message['error']}")
                return
            tally.counts["calls"] += 1
            tally.mine("errors", message["error"]["message"], self.caller.name, self.number)
            return
        words = message["result"]["content"][0]["text"]
        whose, _, heard = words.partition(" ")
        tally.mine("calls", whose, self.caller.name, self.number)
        if tool != "ask":
            return
        if heard == "refused":
            tally.counts["refused"] += 1
        elif heard != f"heard to {whose}":
            tally.theirs(f"the answer to a question of another reached {self.whose}: {words}")

    def progressed(self, message: Message) -> None:
        """Progress belongs to a call, and goes by its token."""
        params = message["params"]
        self.caller.tally.mine("progress", params["message"], self.caller.name, self.number)
        if params["progressToken"] != 1:
            self.caller.tally.theirs(f"progress of token {params['progressToken']!r} reached {self.whose}")


def arguments(caller: Caller, number: int) -> Message:
    """What each call says."""
    return {"who": caller.name, "n": number}


def said(question: Message) -> str:
    """Whose question it is."""
    return str(question["params"]["messages"][0]["content"]["text"])


def answer(whose: str) -> Message:
    """What is said to a question."""
    return {"role": "assistant", "model": "m", "content": {"type": "text", "text": f"to {whose}"}}


class LegacyCaller(Caller):
    """A session with a GET stream open."""

    def __init__(self, port: int, name: str, isolation: str, tally: Tally) -> None:
        super().__init__(port, name, isolation, tally)
        self.session = ""
        self._listener: Connection
        self._answers: Connection
        self._lock = asyncio.Lock()
        self._answering: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, port: int, name: str, isolation: str, tally: Tally) -> Self:
        caller = cls(port, name, isolation, tally)
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


class ModernCaller(Caller):
    """Nothing but a name: each call stands for itself."""

    @classmethod
    async def open(cls, port: int, name: str, isolation: str, tally: Tally) -> Self:
        return cls(port, name, isolation, tally)

    async def line(self) -> Line:
        return ModernLine(self, await Connection.open(self.port))

    async def close(self) -> None:
        """There is nothing to end."""


class ModernLine(Line):
    """Everything on the stream of a call is that call's own."""

    def came(self, message: Message) -> None:
        method = message.get("method")
        if method is None:
            return
        if method == "notifications/progress":
            self.progressed(message)
        elif method == "notifications/message":
            self.caller.tally.mine("logs", message["params"]["data"], self.caller.name, self.number)
        else:
            self.caller.tally.theirs(f"an unexpected {message} reached {self.whose}")

    async def _call(self, tool: str) -> None:
        params: Message = {"arguments": arguments(self.caller, self.number)}
        meta = {"progressToken": 1} | ({LOG_LEVEL: "debug"} if tool == "log" else {})
        reply = await self.connection.ask(modern(tool, params, **meta))
        result = reply.messages[-1].get("result", {}) if reply.messages else {}
        if result.get("resultType") == "input_required":
            reply = await self._told(tool, params, meta, result)
        self.judge(tool, reply)

    async def _told(self, tool: str, params: Message, meta: Message, result: Message) -> Reply:
        """Answer the question that came in place of an answer."""
        answers = {}
        for key, question in result["inputRequests"].items():
            whose = said(question)
            self.caller.tally.mine("questions", whose, self.caller.name, self.number)
            answers[key] = answer(whose)
        more = {"requestState": result["requestState"], "inputResponses": answers}
        return await self.connection.ask(modern(tool, params | more, **meta))
