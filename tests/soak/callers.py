"""Callers who know what is theirs, and the count of what was not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from tests.soak.wire import Connection, Dropped, Message, Reply

UPDATED = "notifications/resources/updated"


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

    def __init__(self, port: int, name: str, tally: Tally) -> None:
        self.port = port
        self.name = name
        self.tally = tally
        self.subscribed = False
        self.touched = 0
        """Changes of this caller's own resource: each is told to it once, where it subscribed."""
        self.updates = 0

    @property
    def uri(self) -> str:
        """The resource that is this caller's."""
        return f"soak://{self.name}"

    @classmethod
    @abstractmethod
    async def open(cls, port: int, name: str, tally: Tally) -> Self:
        """A caller that is ready to call."""

    @abstractmethod
    async def line(self) -> Line:
        """A connection for one call at a time."""

    @abstractmethod
    async def subscribe(self) -> None:
        """Hear of its own resource from now on."""

    def updated(self, message: Message) -> None:
        """A change of a resource was told to this caller."""
        uri = message["params"]["uri"]
        if self.subscribed:
            self.updates += 1
            self.tally.mine("updates", uri.removeprefix("soak://"), self.name)
        else:
            self.tally.theirs(f"an update of {uri} reached {self.name}, which did not subscribe")

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
        if tool == "touch":
            self.caller.touched += 1
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
