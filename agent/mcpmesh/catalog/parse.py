"""A catalog file, from bytes to nodes with lines.

YAML 1.2's plain scalars (`no` is a word, `12:30` is a text), JSON, and JSON with
comments. Whatever the bytes are, the outcome is a tree of bounded size or problems.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from mcpmesh.catalog.regular import read_regular
from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.catalog.yaml_composer import compose
from mcpmesh.errors import CatalogError, Problem

# A catalog of a thousand services has about 200 kB.
MAX_BYTES = 1 << 20
# Atomic groups, because a file of many comments must not be tried in every partition.
_SKIPPED = r"(?>\s+|//[^\n]*|/\*.*?(?:\*/|\Z))*+"
_JSON_LIKE = re.compile(_SKIPPED + r"\{" + _SKIPPED + r'["}]', re.S)
_JSON_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*+"|//[^\n]*|/\*.*?(?:\*/|\Z)|\t', re.S)
_CONTROL = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# libyaml is twenty times as fast, and not in every build of PyYAML.
LOADERS: tuple[type, ...] = tuple(
    loader for loader in (getattr(yaml, "CSafeLoader", None), yaml.SafeLoader) if loader is not None
)


def read(path: Path) -> tuple[Node | None, list[Problem]]:
    """The file's root and everything wrong with its writing; no root where it could not be read."""
    try:
        text = _text(path)
    except CatalogError as error:
        return None, error.problems
    return parse(path, text)


def parse(path: Path, text: str, loader: type = LOADERS[0]) -> tuple[Node | None, list[Problem]]:
    """Like `read`, for a text; `path` is what problems name."""
    return compose(path, _events(path, _json_as_yaml(text) if _JSON_LIKE.match(text) else text, loader))


def _text(path: Path) -> str:
    def unreadable(message: str, line: int | None = None) -> CatalogError:
        return CatalogError([Problem(path, line, "", message)])

    try:
        content, _ = read_regular(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise unreadable("does not exist; name a mesh.yaml or an .mcp.json with -f") from error
    except (OSError, ValueError) as error:  # a name with surrogates is a ValueError
        reason = getattr(error, "strerror", None) or "not a file name"
        raise unreadable(f"cannot be read ({reason}); name a mesh.yaml or an .mcp.json with -f") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise unreadable("is not UTF-8; save it in that encoding", line) from error


def _json_as_yaml(text: str) -> str:
    """JSON made of what YAML understands, on the same lines: no tabs, no comments, no surrogate pairs."""

    def rewritten(match: re.Match[str]) -> str:
        token = match.group()
        if not token.startswith('"'):
            return re.sub(r"[^\n]", " ", token)
        return re.sub(r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|.)", joined, token)

    def joined(match: re.Match[str]) -> str:
        if match.group(1) is None:
            return match.group()
        return bytes.fromhex(match.group(1) + match.group(2)).decode("utf-16-be")

    return _JSON_TOKEN.sub(rewritten, text)


def _events(path: Path, text: str, loader: type) -> Iterator[yaml.Event]:
    def unreadable(line: int | None, message: str) -> CatalogError:
        return CatalogError([Problem(path, line, "", message)])

    try:
        yield from yaml.parse(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        reason = ", ".join(part for part in (error.problem, error.context) if part)
        written = "".join(text.split("\n")[line - 1 : line]) if line else ""
        if re.match(r" *\t", written):
            reason = "a tab cannot indent YAML, use spaces"
        elif re.search(r"[\[{,]\s*\$\{", written):
            reason = 'between [ ] or { } a text with ${…} needs quotes, as in ["${NAME}"]'
        raise unreadable(line, f"is neither YAML nor JSON here: {reason}") from error
    except yaml.YAMLError as error:
        found = _CONTROL.search(text)
        line = text.count("\n", 0, found.start()) + 1 if found else None
        raise unreadable(line, "holds a control character; remove it") from error
    except (ValueError, OverflowError, RecursionError) as error:  # an escape beyond Unicode, in PyYAML's own parser
        raise unreadable(None, "is neither YAML nor JSON") from error
