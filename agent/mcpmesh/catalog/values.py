"""`${VAR}` and `file:` in the texts of a catalog.

No value ever gets into a message: what is told is the place, the name of the
variable or file, and the next step.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path

from mcpmesh.catalog.problems import Findings
from mcpmesh.catalog.regular import read_regular
from mcpmesh.catalog.syntax_tree import Node, looks_secret

# Keys and certificates are far below; a mistaken path to something big is refused.
MAX_SECRET_BYTES = 64 << 10
# The one variable that is always there: the folder of the file that it is written in.
FOLDER = "CATALOG_DIR"
FILE_PREFIX = "file:"

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_VARIABLE = re.compile(r"(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?:(:-)(.*))?", re.S)
_FOREIGN = re.compile(r"(input|workspaceFolder|userHome|command|config)\b")


class Values:
    """Expands texts, notes what was wrong or odd, and remembers which secret files were named."""

    def __init__(self, environ: Mapping[str, str], findings: Findings) -> None:
        self._environ = environ
        self._findings = findings
        self.files: list[Path] = []

    def text(self, node: Node, *, visible: bool = False) -> str | None:
        """The text of `node` with its variables filled in; None where a problem was noted.

        `visible` says that everybody on this machine can read the outcome, as
        in a process list, so that a secret there is worth a warning.
        """
        problems = len(self._findings.problems)
        text = _REFERENCE.sub(lambda match: self._reference(node, match, visible), node.text)
        return text if len(self._findings.problems) == problems else None

    def secret(self, node: Node) -> str | None:
        """Like `text`, and `file:PATH` is the content of that file, without the newlines at its end."""
        if node.text.startswith("$$" + FILE_PREFIX):
            return self.text(node.with_value(node.value, node.text[2:]))
        text = self.text(node)
        if text is None or not node.text.startswith(FILE_PREFIX):
            return text
        return self._content(node, text.removeprefix(FILE_PREFIX))

    def _reference(self, node: Node, match: re.Match[str], visible: bool) -> str:
        if match.group().startswith("$$"):
            return "${"
        inner, closed = match.group(1), match.group(2)
        variable = _VARIABLE.fullmatch(inner)
        if not closed or variable is None or "${" in inner:
            self._findings.refuse(node, _misshapen(inner, bool(closed)))
            return ""
        name, default = variable.group(1), variable.group(3)
        if visible and looks_secret(name):
            self._findings.warn(
                node, f"shows ${{{name}}} to everybody on this machine; pass a secret in env or headers"
            )
        if name == FOLDER:
            return str(folder(node))
        if name in self._environ and (self._environ[name] or default is None):
            return self._environ[name]
        if default is None:
            message = (
                f"needs the variable {name}, which is not set; set it for the agent, or write ${{{name}:-default}}"
            )
            self._findings.refuse(node, message)
        return default or ""

    def _content(self, node: Node, name: str) -> str | None:
        path = beside(node, name, self._environ)
        shown = node.text.removeprefix(FILE_PREFIX)
        self.files.append(path)
        try:
            content, status = read_regular(path, MAX_SECRET_BYTES)
            text = content.decode().rstrip("\r\n")
        except FileNotFoundError:
            self._findings.refuse(node, f"needs the file {shown}, which does not exist; create it with mode 0600")
            return None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a text in UTF-8"
            self._findings.refuse(node, f"cannot read the file {shown} ({reason}); make it a text that you can read")
            return None
        if status.st_mode & stat.S_IROTH:
            self._findings.warn(node, f"everybody on this machine can read {shown}; chmod 600 it")
        return text


def folder(node: Node) -> Path:
    """The folder of the file that `node` is written in."""
    return node.path.absolute().parent


def beside(node: Node, name: str, environ: Mapping[str, str]) -> Path:
    """The path `name`, relative to the file that `node` is written in; `~/` is the home folder."""
    if name == "~" or name.startswith("~/"):
        return Path(environ.get("HOME", "/")) / name[2:]
    return folder(node) / name


def _misshapen(inner: str, closed: bool) -> str:
    if not closed:
        return "has a ${ that is never closed; write $${ for a literal one"
    if foreign := _FOREIGN.match(inner):
        return (
            f"uses an editor's own ${{{foreign.group()}…}}, which is unknown here; "
            f"put it into an environment variable and write ${{NAME}} (${{{FOLDER}}} is this file's folder)"
        )
    if "${" in inner:
        return "has a ${…} inside a ${…}; a default is a plain text"
    return "has a ${…} that names no variable; write ${NAME} or ${NAME:-default}, and $${ for a literal ${"
