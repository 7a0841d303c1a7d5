"""Syntax trees from files and texts: YAML 1.2, JSON, and JSON with comments.

Whatever the bytes are, the outcome is a tree of bounded size, or problems.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.catalog.yaml_composer import compose
from mcpmesh.errors import CatalogError, Problem
from mcpmesh.kit.regular_files import read_regular_file

# A catalog of a thousand services has about 200 kB.
MAX_BYTES = 1 << 20
# PyYAML's parsers, the fastest first. libyaml's is twenty times as fast, and not in every build of PyYAML.
LOADERS: tuple[type, ...] = tuple(
    loader for loader in (getattr(yaml, "CSafeLoader", None), yaml.SafeLoader) if loader is not None
)

# Spaces and comments. The groups are atomic, so that a file of many comments is not tried in every partition.
_SKIPPED = r"(?>\s+|//[^\n]*|/\*.*?(?:\*/|\Z))*+"
_JSON_LIKE = re.compile(_SKIPPED + r"\{" + _SKIPPED + r'["}]', re.S)
_JSON_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*+"|//[^\n]*|/\*.*?(?:\*/|\Z)|\t', re.S)
# An escape in a JSON text; the two groups are set for a surrogate pair.
_JSON_ESCAPE = re.compile(r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|.)")
_CONTROL_CHARACTER = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAB_INDENT = re.compile(r" *\t")
_UNQUOTED_REFERENCE = re.compile(r"[\[{,]\s*\$\{")


def parse_file(path: Path) -> tuple[Node | None, list[Problem]]:
    """The root of the file and all problems of its syntax; the root is None where the file cannot be read."""
    try:
        text = _text(path)
    except CatalogError as error:
        return None, error.problems
    return parse_text(path, text)


def parse_text(path: Path, text: str, loader: type = LOADERS[0]) -> tuple[Node | None, list[Problem]]:
    """Like `parse_file`, for the text of a file; `path` is only named in problems."""
    return compose(path, _events(path, _json_as_yaml(text) if _JSON_LIKE.match(text) else text, loader))


def _text(path: Path) -> str:
    try:
        content, _ = read_regular_file(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise _unreadable(path, None, "does not exist; name a mesh.yaml or an .mcp.json with -f") from error
    except (OSError, ValueError) as error:  # a name with surrogates is a ValueError
        reason = getattr(error, "strerror", None) or "not a file name"
        raise _unreadable(path, None, f"cannot be read ({reason}); name a mesh.yaml or an .mcp.json with -f") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _unreadable(path, line, "is not UTF-8; save it in that encoding") from error


def _json_as_yaml(text: str) -> str:
    """JSON with comments as a text that YAML accepts, line by line: without tabs, comments and surrogate pairs."""
    return _JSON_TOKEN.sub(_token_as_yaml, text)


def _token_as_yaml(match: re.Match[str]) -> str:
    token = match.group()
    if token.startswith('"'):
        return _JSON_ESCAPE.sub(_joined_surrogates, token)
    return re.sub(r"[^\n]", " ", token)


def _joined_surrogates(match: re.Match[str]) -> str:
    high, low = match.groups()
    return bytes.fromhex(high + low).decode("utf-16-be") if high else match.group()


def _events(path: Path, text: str, loader: type) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        raise _unreadable(path, line, f"is neither YAML nor JSON here: {_reason(error, text, line)}") from error
    except yaml.YAMLError as error:
        found = _CONTROL_CHARACTER.search(text)
        line = text.count("\n", 0, found.start()) + 1 if found else None
        raise _unreadable(path, line, "holds a control character; remove it") from error
    except (ValueError, OverflowError, RecursionError) as error:  # an escape beyond Unicode, in PyYAML's own parser
        raise _unreadable(path, None, "is neither YAML nor JSON") from error


def _reason(error: yaml.MarkedYAMLError, text: str, line: int | None) -> str:
    """What is wrong in that line; for the two most frequent mistakes, what would be right."""
    written = "".join(text.split("\n")[line - 1 : line]) if line else ""
    if _TAB_INDENT.match(written):
        return "a tab cannot indent YAML, use spaces"
    if _UNQUOTED_REFERENCE.search(written):
        return 'between [ ] or { } a text with ${…} needs quotes, as in ["${NAME}"]'
    return ", ".join(part for part in (error.problem, error.context) if part)


def _unreadable(path: Path, line: int | None, message: str) -> CatalogError:
    return CatalogError([Problem(path, line, "", message)])
