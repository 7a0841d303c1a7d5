"""Callers that check whether everything they get is their own, and the count of what was not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from tests.soak.http_client import Connection, Dropped, Message, Reply

UPDATED = "notifications/resources/updated"


@dataclass
class Tally:
    """Counts what arrived, and what should not have."""

    counts: Counter[str] = field(default_factory=Counter)
    crossed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def count_crossed(self, what: str) -> None:
        """A caller got something that belongs to another."""
        self.counts["crossed"] += 1
        self.crossed.append(what)

    def count_missing(self, what: str) -> None:
        """Something that was due did not arrive."""
        self.counts["wrong"] += 1
        self.wrong.append(what)

    def check_owner(self, what: str, whose: object, me: str, number: int | None = None) -> None:
        """Count one `what`. It must name this caller, and this call of it if a number is given."""
        self.counts[what] += 1
        name, _, call = str(whose).partition("#")
        if name != me or (number is not None and call != str(number)):
            self.count_crossed(f"{what} of {whose} reached {me}#{number}")


class Caller(ABC):
    """One client: a legacy session, or a modern client that has only its name."""

    def __init__(self, port: int, name: str, tally: Tally) -> None:
        self.port = port
        self.name = name
        self.tally = tally
        self.subscribed = False
        self.touched = 0
        """Changes of this caller's resource; if it subscribed it gets a notification of each exactly once."""
        self.updates = 0

    @property
    def uri(self) -> str:
        """The URI of this caller's resource."""
        return f"soak://{self.name}"

    @classmethod
    @abstractmethod
    async def open(cls, port: int, name: str, tally: Tally) -> Self:
        """Open a caller that is ready to call."""

    @abstractmethod
    async def line(self) -> Line:
        """Open a connection for one call at a time."""

    @abstractmethod
    async def subscribe(self) -> None:
        """Subscribe to its resource."""

    def updated(self, message: Message) -> None:
        """The caller got a notification that a resource changed."""
        uri = message["params"]["uri"]
        if self.subscribed:
            self.updates += 1
            self.tally.check_owner("updates", uri.removeprefix("soak://"), self.name)
        else:
            self.tally.count_crossed(f"an update of {uri} reached {self.name}, which did not subscribe")

    @abstractmethod
    async def close(self) -> None:
        """Leave, with the request that the era has for it."""


class Line(ABC):
    """One connection of one caller."""

    def __init__(self, caller: Caller, connection: Connection) -> None:
        self.caller = caller
        self.connection = connection
        self.number = 0
        connection.on_message = self.message_arrived

    @property
    def call_name(self) -> str:
        return f"{self.caller.name}#{self.number}"

    @abstractmethod
    def message_arrived(self, message: Message) -> None:
        """A message arrived on this connection; the answer is one too."""

    async def call(self, tool: str, number: int) -> None:
        """Make one call and wait for its end."""
        self.number = number
        try:
            await self._call(tool)
        except (Dropped, TimeoutError) as error:
            self.caller.tally.count_missing(f"{tool} {self.call_name}: {error!r}")
            self.connection.abort()
            self.connection = await Connection.open(self.caller.port)
            self.connection.on_message = self.message_arrived

    @abstractmethod
    async def _call(self, tool: str) -> None: ...

    def check_answer(self, tool: str, reply: Reply) -> None:
        """Check that the answer belongs to this call."""
        tally = self.caller.tally
        message = reply.messages[-1] if reply.messages else {}
        if message.get("id") != 1:
            tally.count_crossed(f"an answer of id {message.get('id')!r} reached {self.call_name}")
            return
        if "error" in message:
            if tool != "fail":
                tally.count_missing(f"{tool} {self.call_name}: {message['error']}")
                return
            tally.counts["calls"] += 1
            tally.check_owner("errors", message["error"]["message"], self.caller.name, self.number)
            return
        words = message["result"]["content"][0]["text"]
        whose, _, heard = words.partition(" ")
        tally.check_owner("calls", whose, self.caller.name, self.number)
        if tool == "touch":
            self.caller.touched += 1
        if tool != "ask":
            return
        if heard == "refused":
            tally.counts["refused"] += 1
        elif heard != f"heard to {whose}":
            tally.count_crossed(f"the answer to a question of another reached {self.call_name}: {words}")

    def progressed(self, message: Message) -> None:
        """Check a progress notification: it belongs to the call that its token names."""
        params = message["params"]
        self.caller.tally.check_owner("progress", params["message"], self.caller.name, self.number)
        if params["progressToken"] != 1:
            self.caller.tally.count_crossed(f"progress of token {params['progressToken']!r} reached {self.call_name}")


def arguments(caller: Caller, number: int) -> Message:
    """The arguments of each call."""
    return {"who": caller.name, "n": number}


def caller_named_in(question: Message) -> str:
    """The caller that a server request names."""
    return str(question["params"]["messages"][0]["content"]["text"])


def answer(whose: str) -> Message:
    """The answer to a server request."""
    return {"role": "assistant", "model": "m", "content": {"type": "text", "text": f"to {whose}"}}
