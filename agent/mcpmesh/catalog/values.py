"""Variables (`${NAME}`) and secret files (`file:PATH`) in the texts of a catalog.

No value gets into a message. A message holds the place, the name of the variable or file, and the next step.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from mcpmesh.catalog.problems import Problems
from mcpmesh.catalog.schema import Variables, marked
from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.kit.regular_files import read_regular_file

# Keys and certificates are far smaller. A path to something big is a mistake.
MAX_SECRET_BYTES = 64 << 10
# The one variable that is always set: the folder of the file that uses it.
FOLDER_VARIABLE = "CATALOG_DIR"
FILE_PREFIX = "file:"
# What makes the following character literal.
ESCAPE = "$"

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_VARIABLE = re.compile(r"(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?:(:-)(.*))?", re.S)
_EDITOR_REFERENCE = re.compile(r"(input|workspaceFolder|userHome|command|config)\b")
_SECRET_NAME = re.compile(r"token|secret|passw|api[_-]?key|private[_-]?key|credential|authorization|cookie", re.I)


class Expander:
    """Expands texts, adds to `problems` what is wrong with them, and collects the secret files that they name."""

    def __init__(self, environ: Mapping[str, str], problems: Problems) -> None:
        self._environ = environ
        self._problems = problems
        self.secret_files: list[Path] = []

    def expand_keys(self, service: Node) -> Node:
        """The keys of a service (or of `defaults`) with their texts expanded, as the schema says for each key."""
        kinds = marked(Variables)
        return service.with_value({key: self._key(kinds.get(key), node) for key, node in service.mapping.items()})

    def _key(self, kind: Variables | None, node: Node) -> Node:
        match kind:
            case Variables.VISIBLE:
                return _each_text(node, lambda text: self.expand(text, visible=True))
            case Variables.HIDDEN if isinstance(node.value, dict):
                return node.with_value(
                    {
                        name: inner if isinstance(inner.value, dict | list) else _each_text(inner, self.expand_secret)
                        for name, inner in node.value.items()
                    }
                )
            case _:
                return node

    def expand(self, node: Node, *, visible: bool = False) -> str | None:
        """The text of `node` with its variables filled in; None where that added a problem.

        With `visible`, everybody on this machine can read the outcome, as in a process list: a secret there is worth
        a warning.
        """
        problems = len(self._problems.found)
        text = _REFERENCE.sub(lambda match: self._reference(node, match, visible), node.text)
        return text if len(self._problems.found) == problems else None

    def expand_secret(self, node: Node) -> str | None:
        """Like `expand`; `file:PATH` becomes the content of that file, without the newlines at its end."""
        if node.text.startswith(ESCAPE * 2 + FILE_PREFIX):
            return self.expand(node.with_value(node.value, node.text[2:]))
        text = self.expand(node)
        if text is None or not node.text.startswith(FILE_PREFIX):
            return text
        return self._content(node, text.removeprefix(FILE_PREFIX))

    def _reference(self, node: Node, match: re.Match[str], visible: bool) -> str:
        if match.group().startswith(ESCAPE * 2):
            return "${"
        inner, closed = match.group(1), match.group(2)
        variable = _VARIABLE.fullmatch(inner)
        if not closed or variable is None or "${" in inner:
            self._problems.add(node, _malformed(inner, bool(closed)))
            return ""
        name, default = variable.group(1), variable.group(3)
        if visible and looks_secret(name):
            self._problems.warn(
                node, f"shows ${{{name}}} to everybody on this machine; pass a secret in env or headers"
            )
        if name == FOLDER_VARIABLE:
            return str(node.folder)
        if name in self._environ and (self._environ[name] or default is None):
            return self._environ[name]
        if default is None:
            message = (
                f"needs the variable {name}, which is not set; set it for the agent, or write ${{{name}:-default}}"
            )
            self._problems.add(node, message)
        return default or ""

    def _content(self, node: Node, name: str) -> str | None:
        path = resolve_path(node, name, self._environ)
        # As it was written: the name may hold the value of a variable.
        written = node.text.removeprefix(FILE_PREFIX)
        self.secret_files.append(path)
        try:
            content, status = read_regular_file(path, MAX_SECRET_BYTES)
            text = content.decode().rstrip("\r\n")
        except FileNotFoundError:
            self._problems.add(node, f"needs the file {written}, which does not exist; create it with mode 0600")
            return None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a text in UTF-8"
            self._problems.add(node, f"cannot read the file {written} ({reason}); make it a text that you can read")
            return None
        if status.st_mode & stat.S_IROTH:
            self._problems.warn(node, f"everybody on this machine can read {written}; chmod 600 it")
        return text


def resolve_path(node: Node, name: str, environ: Mapping[str, str]) -> Path:
    """The path `name`, relative to the folder of the file that `node` stands in; `~/` is the home folder."""
    if name == "~" or name.startswith("~/"):
        return Path(environ.get("HOME", "/")) / name[2:]
    return node.folder / name


def looks_secret(name: str) -> bool:
    """Whether something of that name is likely to hold a secret."""
    return _SECRET_NAME.search(name) is not None


def _each_text(node: Node, expand: Callable[[Node], str | None]) -> Node:
    """The node with each scalar in it expanded; a scalar stays as it was written where that is not possible."""
    if isinstance(node.value, dict):
        return node.with_value({key: _each_text(inner, expand) for key, inner in node.value.items()})
    if isinstance(node.value, list):
        return node.with_value([_each_text(item, expand) for item in node.value])
    text = expand(node)
    return node.with_value(node.text if text is None else text)


def _malformed(inner: str, closed: bool) -> str:
    if not closed:
        return "has a ${ that is never closed; write $${ for a literal one"
    if editor := _EDITOR_REFERENCE.match(inner):
        return (
            f"uses an editor's own ${{{editor.group()}…}}, which is unknown here; "
            f"put it into an environment variable and write ${{NAME}} (${{{FOLDER_VARIABLE}}} is this file's folder)"
        )
    if "${" in inner:
        return "has a ${…} inside a ${…}; a default is a plain text"
    return "has a ${…} that names no variable; write ${NAME} or ${NAME:-default}, and $${ for a literal ${"
