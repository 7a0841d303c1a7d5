"""The limits of each kind of container, as arguments for `create_host_config` of Docker's SDK; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcpmesh.settings import ContainerSettings

_LOG = {"type": "json-file", "config": {"max-size": "10m", "max-file": "2"}}
_MIB = 1024 * 1024
# An Envoy takes about 70 MiB; the rest is for buffers.
_ENVOY_MEBIBYTES = 512


def for_shim(settings: ContainerSettings, network: str, binds: Sequence[str]) -> dict[str, Any]:
    """A shim, and the server that it starts: no capabilities, a read-only file system, bounded memory and CPU."""
    return {
        "binds": list(binds),
        "network_mode": network,
        "read_only": True,
        "tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,size={settings.tmp_mebibytes}m,mode=1777"},  # noqa: S108
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "mem_limit": settings.memory_mebibytes * _MIB,
        "nano_cpus": round(settings.cpus * 1e9),
        "pids_limit": settings.processes,
        "log_config": _LOG,
        # The agent starts it again, with its secrets; Docker could only do it without.
        "restart_policy": {"Name": "no"},
    }


def for_server(settings: ContainerSettings, shim_id: str, binds: Sequence[str]) -> dict[str, Any]:
    """The program of an image, in its shim's namespace; its files are writable, since many write into their own."""
    return {**for_shim(settings, f"container:{shim_id}", binds), "read_only": False}


def for_envoy(settings: ContainerSettings, holder_id: str, binds: Sequence[str]) -> dict[str, Any]:
    """An Envoy, in the network namespace of the container `holder_id`."""
    config = for_shim(settings, f"container:{holder_id}", binds)
    return {**config, "mem_limit": _ENVOY_MEBIBYTES * _MIB, "tmpfs": {"/tmp": "rw,noexec,size=16m"}}  # noqa: S108
