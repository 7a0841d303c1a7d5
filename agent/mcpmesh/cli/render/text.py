"""Text for terminals: wrapped, and without control sequences that would act on the terminal."""

from __future__ import annotations

import re
import textwrap

# A line as parts, each with its rich style.
Line = list[tuple[str, str]]

# Escape sequences, control characters other than tab and line feed, and marks that reverse the direction of text.
_CONTROL_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def strip_control_sequences(text: str) -> str:
    """`text` without the parts that would act on a terminal instead of being shown."""
    return _CONTROL_SEQUENCE.sub("", text.replace("\r\n", "\n"))


def first_line(text: str) -> str:
    """The first line of `text`, safe for a terminal."""
    return strip_control_sequences(text).partition("\n")[0]


def wrap(text: str, width: int | None, indent: int) -> str:
    """`text` in lines of at most `width` columns, all but the first indented; unchanged where `width` is None."""
    if width is None:
        return text
    lines = [
        part
        for line in text.splitlines() or [""]
        for part in textwrap.wrap(line, max(width - indent, 20), break_long_words=False, break_on_hyphens=False) or [""]
    ]
    return ("\n" + " " * indent).join(lines)


def count(number: int, noun: str) -> str:
    """ "1 tool", "2 tools", "2 processes"."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
