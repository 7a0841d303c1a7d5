"""The two output streams of a command: results on stdout, everything else on stderr.

With --json, stdout has JSON only. Text of MCP servers may hold control sequences: they are removed on a terminal;
a pipe gets every byte.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mcpmesh.cli.render.text import strip_control_sequences, wrap
from mcpmesh.errors import CatalogError, MeshError

if TYPE_CHECKING:
    from rich.console import Console


class Output:
    """Both streams; `json` is whether the reader is a program."""

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
        """The columns of the terminal; None where stdout is no terminal."""
        return self.out.width if sys.stdout.isatty() else None

    def line(self, *parts: tuple[str, str] | str) -> None:
        """A line of the result."""
        if sys.stdout.isatty():
            _print(self.out, parts)
        else:
            _write(parts, to_stderr=False)

    def note(self, *parts: tuple[str, str] | str) -> None:
        """A line about what happens."""
        if sys.stderr.isatty():
            _print(self.err, parts)
        else:
            _write(parts, to_stderr=True)

    def warning(self, text: str) -> None:
        """A warning on stderr."""
        self.note(("warning: ", "yellow"), text)

    def value(self, value: Any) -> None:
        """A whole result as indented JSON."""
        _write([json.dumps(_plain(value), indent=2, ensure_ascii=False)], to_stderr=False)

    def item(self, value: Any) -> None:
        """A line of a JSON stream, written at once."""
        _write([json.dumps(_plain(value), ensure_ascii=False)], to_stderr=False)

    def result(self, value: Any, sentence: str) -> None:
        """The result of a command: `value` for programs, `sentence` for people."""
        if self.json:
            self.value(value)
        else:
            self.line(sentence)

    def error(self, error: MeshError) -> None:
        """The error that ends the command: its message, and with --json also the API's problem document."""
        if self.json:
            from mcpmesh.api.problem_documents import document

            self.item({"error": document(error)})
        if isinstance(error, CatalogError):
            for problem in error.problems:
                self.note(("error: ", "bold red"), str(problem))
        else:
            self.note(("error: ", "bold red"), wrap(str(error), self._err_width, 7))

    @property
    def _err_width(self) -> int | None:
        return self.err.width if sys.stderr.isatty() else None


def _plain(value: Any) -> Any:
    from mcpmesh.api.json_codec import plain

    return plain(value)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def _write(parts: Sequence[tuple[str, str] | str], *, to_stderr: bool) -> None:
    import typer

    text = "".join(part if isinstance(part, str) else part[0] for part in parts)
    # As bytes: typer removes escape sequences from text.
    typer.echo(text.encode("utf-8", "replace"), err=to_stderr)


def _print(console: Console, parts: Sequence[tuple[str, str] | str]) -> None:
    from rich.text import Text

    text = Text()
    for part in parts:
        words, style = (part, "") if isinstance(part, str) else part
        text.append(strip_control_sequences(words), style)
    console.print(text)
