"""Text is wrapped to the terminal, and numbers agree with their nouns."""

from __future__ import annotations

import pytest

from mcpmesh.cli.render.text import count, first_line, wrap


def test_lines_are_wrapped_and_all_but_the_first_are_indented() -> None:
    assert wrap("one two three four five six seven\n\neight", 24, 2) == (
        "one two three four\n  five six seven\n  \n  eight"
    )


def test_text_for_a_pipe_is_unchanged() -> None:
    assert wrap("a long line\nand another", None, 2) == "a long line\nand another"


def test_a_long_word_is_not_broken() -> None:
    assert wrap("see http://127.0.0.1:8000/mcp/sequentialthinking-server", 20, 0) == (
        "see\nhttp://127.0.0.1:8000/mcp/sequentialthinking-server"
    )


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "tool", "1 tool"),
        (0, "tool", "0 tools"),
        (2, "tool", "2 tools"),
        (1, "process", "1 process"),
        (3, "process", "3 processes"),
    ],
)
def test_a_number_agrees_with_its_noun(number: int, noun: str, text: str) -> None:
    assert count(number, noun) == text


def test_the_first_line_has_no_control_sequences() -> None:
    assert first_line("\x1b[31mred\x1b[0m one\r\ntwo") == "red one"
