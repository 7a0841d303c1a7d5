"""JSON-RPC batches (revision 2025-03-26 and earlier): many messages in one body, their answers in one body.

Each request of a batch gets its own part of the exchange, which behaves like an
exchange. The batch is answered when its last part is.
"""

from __future__ import annotations

from typing import Any

from mcpmesh.shim.http.exchange import Exchange, Responder
from mcpmesh.shim.jsonrpc.codec import Buffer


class BatchPart(Exchange):
    """The exchange of one request in a batch."""

    __slots__ = ("batch",)

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch.exchange.conn, batch.exchange.head, batch.exchange.started)
        self.batch = batch

    def reply(self, _status: int, pieces: list[Buffer], _media: bytes = b"", extra: bytes = b"") -> None:  # noqa: ARG002
        if self.live:
            self.live = False
            self.batch.part_answered(pieces)

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
            self.batch.part_answered([])


class Batch(Responder):
    """Answers the exchange of a whole batch."""

    is_call = True

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.parts: list[BatchPart] = []
        self.answers: list[list[Buffer]] = []
        self.remaining = 1  # one for close(), so that nothing is answered while parts are still being added
        exchange.responder = self

    def add_part(self) -> BatchPart:
        """Add the exchange of one request."""
        part = BatchPart(self)
        self.parts.append(part)
        self.remaining += 1
        return part

    def part_answered(self, pieces: list[Buffer]) -> None:
        """A part has its answer; without pieces it was sent as an event already."""
        self.remaining -= 1
        if pieces:
            if self.exchange.streaming:
                self.exchange.event(pieces)
            else:
                self.answers.append(pieces)
        if self.remaining == 0:
            self._answer()

    def close(self) -> None:
        """All parts have been added."""
        if not self.parts:
            self.exchange.reply(202, [])
        else:
            self.part_answered([])

    def _answer(self) -> None:
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

    def client_gone(self) -> None:
        for part in self.parts:
            part.live = False
        for part in self.parts:
            if part.responder is not None:
                part.responder.client_gone()

    def expired(self) -> None:
        for responder in [part.responder for part in self.parts if part.live and part.responder is not None]:
            responder.expired()
