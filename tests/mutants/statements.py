"""The lines that are run together with a line: its whole statement, or the head of a compound one."""

from __future__ import annotations

import ast


def statement_lines(source: str, line: int) -> range:
    """The lines of the innermost statement around a line; of an `if`, a loop and the like those before its body.

    Coverage counts a statement of several lines on some of them only.
    """
    around = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    if not around:
        return range(line, line + 1)
    innermost = max(around, key=lambda node: (node.lineno, -(node.end_lineno or 0)))
    body = getattr(innermost, "body", None) or getattr(innermost, "cases", None)
    if body is None:
        return range(innermost.lineno, (innermost.end_lineno or innermost.lineno) + 1)
    first = body[0].pattern if isinstance(body[0], ast.match_case) else body[0]
    end = max(first.lineno, innermost.lineno + 1)
    # An `except` or a `case` is no statement: it stands on a line of its own behind the head.
    return range(innermost.lineno, end) if line < end else range(line, line + 1)
