"""JSON-RPC batches, which the revision 2025-03-26 had: many messages in, their answers in one body.

Each request of a batch gets a part of the exchange that looks like an exchange
of its own; the whole is answered when the last part is.
"""

from __future__ import annotations

from typing import Any

from mcpmesh.shim.http.exchange import Exchange, Owner
from mcpmesh.shim.jsonrpc.codec import Buffer


class Part(Exchange):
    """One request's share of a batch."""

    __slots__ = ("batch", "part_owner")

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch.exchange.conn, batch.exchange.head, batch.exchange.started)
        self.batch = batch

    def reply(self, _status: int, pieces: list[Buffer], _media: bytes = b"", extra: bytes = b"") -> None:  # noqa: ARG002
        if self.live:
            self.live = False
            self.batch.finished(pieces)

    def open_stream(self) -> None:
        self.streaming = True
        self.batch.exchange.open_stream()

    def event(self, pieces: list[Buffer]) -> None:
        if self.live:
            self.streaming = True
            self.batch.exchange.event(pieces)

    def end(self) -> None:
        if self.live:
            self.live = False
            self.batch.finished([])


class Batch(Owner):
    """The exchange of a batch."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.parts: list[Part] = []
        self.answers: list[list[Buffer]] = []
        self.left = 1  # held until all parts are given out
        exchange.owner = self

    def part(self) -> Part:
        """A share for one request."""
        part = Part(self)
        self.parts.append(part)
        self.left += 1
        return part

    def finished(self, pieces: list[Buffer]) -> None:
        """A part has its answer; an empty one was sent as an event already."""
        self.left -= 1
        if pieces:
            if self.exchange.streaming:
                self.exchange.event(pieces)
            else:
                self.answers.append(pieces)
        self.finish_if_done()

    def close(self) -> None:
        """All parts are given out."""
        if not self.parts:
            self.exchange.reply(202, [])
        else:
            self.finished([])

    def finish_if_done(self) -> None:
        """Answer the whole when nothing is left."""
        if self.left:
            return
        if self.exchange.streaming:
            for pieces in self.answers:
                self.exchange.event(pieces)
            self.exchange.end()
        else:
            body: list[Any] = [b"["]
            for pieces in self.answers:
                body += [*pieces, b","]
            body[-1] = b"]"
            self.exchange.reply(200, body)

    def _owners(self) -> list[Owner]:
        return [part.owner for part in self.parts if part.live and part.owner is not None]

    def gone(self) -> None:
        for part in self.parts:
            part.live = False
        for part in self.parts:
            if part.owner is not None:
                part.owner.gone()

    def expired(self) -> None:
        for owner in self._owners():
            owner.expired()
