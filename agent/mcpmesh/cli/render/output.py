"""Where words go: results to stdout, everything else to stderr, and with --json only JSON to stdout.

What servers say may hold escape sequences that would act on a terminal; a
terminal never gets them, a pipe gets every byte.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mcpmesh.errors import CatalogError, MeshError

if TYPE_CHECKING:
    from rich.console import Console

# One line: texts, each with its rich style.
Line = list[tuple[str, str]]

# Escape sequences, other control characters but tab and line feed, and marks that turn text around.
_ACTIVE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def harmless(text: str) -> str:
    """`text` without what would act on a terminal instead of being shown."""
    return _ACTIVE.sub("", text.replace("\r\n", "\n"))


class Output:
    """Both streams of a command; `json` says who reads them."""

    def __init__(self, as_json: bool) -> None:
        self.json = as_json

    @cached_property
    def out(self) -> Console:
        """stdout."""
        return _console(stderr=False)

    @cached_property
    def err(self) -> Console:
        """stderr."""
        return _console(stderr=True)

    @property
    def width(self) -> int | None:
        """Columns to keep within; None where no one looks at columns."""
        return self.out.width if sys.stdout.isatty() else None

    def line(self, *parts: tuple[str, str] | str) -> None:
        """One line of the result."""
        if sys.stdout.isatty():
            _print(self.out, parts)
        else:
            _write(parts, to_stderr=False)

    def note(self, *parts: tuple[str, str] | str) -> None:
        """One line about what happens."""
        if sys.stderr.isatty():
            _print(self.err, parts)
        else:
            _write(parts, to_stderr=True)

    def value(self, value: Any) -> None:
        """A whole result as JSON."""
        _write([json.dumps(_plain(value), indent=2, ensure_ascii=False)], to_stderr=False)

    def item(self, value: Any) -> None:
        """One line of a JSON stream, out at once."""
        _write([json.dumps(_plain(value), ensure_ascii=False)], to_stderr=False)

    def error(self, error: MeshError) -> None:
        """Why the command ends: the sentence, and with --json the document that the API has for it."""
        if self.json:
            from mcpmesh.api.problem_documents import document

            self.item({"error": document(error)})
        if isinstance(error, CatalogError):
            for problem in error.problems:
                self.note(("error: ", "bold red"), str(problem))
        else:
            self.note(("error: ", "bold red"), wrapped(str(error), self._err_width, 7))

    @property
    def _err_width(self) -> int | None:
        return self.err.width if sys.stderr.isatty() else None


def wrapped(text: str, width: int | None, indent: int) -> str:
    """`text` in lines of at most `width`, all but the first indented; as it is without a width."""
    if width is None:
        return text
    pad = " " * indent
    lines = [
        part
        for line in text.splitlines() or [""]
        for part in textwrap.wrap(
            line, max(width - indent, 20), break_long_words=False, break_on_hyphens=False, drop_whitespace=True
        )
        or [""]
    ]
    return ("\n" + pad).join(lines)


def _plain(value: Any) -> Any:
    from mcpmesh.api.json_codec import plain

    return plain(value)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def _write(parts: Sequence[tuple[str, str] | str], *, to_stderr: bool) -> None:
    import typer

    text = "".join(part if isinstance(part, str) else part[0] for part in parts)
    # Bytes, since text would lose its escape sequences on the way.
    typer.echo(text.encode("utf-8", "replace"), err=to_stderr)


def _print(console: Console, parts: Sequence[tuple[str, str] | str]) -> None:
    from rich.text import Text

    text = Text()
    for part in parts:
        words, style = (part, "") if isinstance(part, str) else part
        text.append(harmless(words), style)
    console.print(text)
