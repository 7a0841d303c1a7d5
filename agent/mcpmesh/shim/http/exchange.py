"""One request and its answer, seen from those who answer it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from mcpmesh.shim.http.head import Head
from mcpmesh.shim.jsonrpc.codec import Buffer

if TYPE_CHECKING:
    from mcpmesh.shim.http.connection import Connection

JSON: Final = b"application/json"


class Source(Protocol):
    """Something that can be told to wait."""

    def hold(self, who: object) -> None: ...
    def let_go(self, who: object) -> None: ...


class Owner:
    """Who answers an exchange."""

    __slots__ = ()
    patience = "request_seconds"
    """Which setting is the time for an answer."""

    @property
    def source(self) -> Source | None:
        """Whose output this client alone gets, so that it can be held back while the client does not read."""
        return None

    def gone(self) -> None:
        """The client closed its connection before the answer was whole."""

    def expired(self) -> None:
        """The time for an answer is over."""


class Exchange:
    """One request and its answer: either one JSON body, or an event stream of any length.

    It lets go of its owner with its end: the two refer to each other, and a circle would stay until the collector
    looks for it, with all that hangs on it.
    """

    __slots__ = ("conn", "extra", "head", "live", "owner", "started", "streaming", "written")

    def __init__(self, conn: Connection, head: Head, started: float) -> None:
        self.conn = conn
        self.head = head
        self.started = started
        self.written = started
        self.live = True
        self.streaming = False
        self.owner: Owner | None = None
        self.extra = b""

    def reply(self, status: int, pieces: list[Buffer], media: bytes = JSON, extra: bytes = b"") -> None:
        """The whole answer. `extra` are further header lines, each with its line break, besides the exchange's own."""
        if not self.live:
            return
        self.live = False
        self.conn.reply(self.head, status, pieces, media, self.extra + extra)
        self.owner = None

    def open_stream(self) -> None:
        """Begin an event stream."""
        if self.live and not self.streaming:
            self.streaming = True
            self.conn.begin_stream(self.head, self.extra)

    def event(self, pieces: list[Buffer]) -> None:
        """One message on the stream, which is opened by the first."""
        if not self.live:
            return
        if not self.streaming:
            self.open_stream()
        self.written = self.conn.app.now()
        data = b"".join(pieces)
        if b"\r" in data:  # legal between JSON tokens, but the end of a line here
            data = data.replace(b"\r", b" ")
        self.conn.chunk([b"event: message\r\ndata: ", data, b"\r\n\r\n"])

    def comment(self) -> None:
        """A keep-alive."""
        if self.live:
            if not self.streaming:
                self.open_stream()
            self.written = self.conn.app.now()
            self.conn.chunk([b": keep-alive\r\n\r\n"])

    def end(self) -> None:
        """The end of the stream."""
        if self.live:
            self.live = False
            self.conn.end_stream(self.head)
            self.owner = None

    def closed(self) -> None:
        """The client is gone."""
        if self.live:
            self.live = False
            owner, self.owner = self.owner, None
            if owner is not None:
                owner.gone()
