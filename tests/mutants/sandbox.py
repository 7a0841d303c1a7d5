"""Where mutants run: on a copy, in namespaces of their own.

A mutant of the code that ends processes may end any process, and one of the
code that clears folders may clear any folder. So the tests see no processes
but their own, have a loopback of their own, and find the checkout and the
home folder read-only. What is left at the end goes with the namespace.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

# Not in git, and used by tests. Links to them are made, since nothing writes there.
_INSTALLED: Final = (".venv", "examples/.venv", "examples/node_modules", "tests/conformance/node_modules")

_NAMESPACES: Final = ("unshare", "--pid", "--net", "--mount", "--fork", "--kill-child", "--mount-proc")
# $1 are the folders to protect, one a line. The shell stays, because process 1 has to reap what its children leave.
_SCRIPT: Final = """
set -e
ip link set lo up
printf '%s\\n' "$1" | while read -r folder; do
  mount --bind "$folder" "$folder"
  mount -o remount,bind,ro "$folder"
done
shift
set +e
"$@"
exit $?
"""


class CannotIsolateError(Exception):
    """The kernel refuses the namespaces; the message says what would help."""


def copy_checkout(root: Path, target: Path) -> None:
    """Copies what git knows, and what is new and not ignored, as it is in the work tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source = root / name
        if source.is_symlink() or source.is_file():  # A file may be deleted and not yet committed.
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)
    for name in _INSTALLED:
        if (root / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).symlink_to(root / name)


def isolated(command: list[str], protected: list[Path]) -> list[str]:
    """The command in namespaces of its own, with the protected folders read-only."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [*_NAMESPACES, *user, "sh", "-c", _SCRIPT, "sh", "\n".join(map(str, protected)), *command]


def check_isolation(protected: list[Path]) -> None:
    """Raises CannotIsolateError where the namespaces are refused."""
    try:
        done = subprocess.run(isolated(["true"], protected), capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise CannotIsolateError(f"cannot isolate the mutants: {error.filename} is missing (util-linux)") from error
    if done.returncode:
        raise CannotIsolateError(
            f"cannot isolate the mutants: {done.stderr.strip()}; "
            "run this as root, or allow unprivileged user namespaces"
        )


def environment(copy: Path) -> dict[str, str]:
    """For Python in a copy: its modules are imported, and none is compiled to a file.

    A compiled file is taken for current by its time and size, and a mutant often has both of the file before it.
    """
    paths = os.pathsep.join(map(str, (copy / "agent", copy)))
    return os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
