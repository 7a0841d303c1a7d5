"""What runs behind the shim: a process below the guard, or a remote server."""

from __future__ import annotations

from collections.abc import Callable

from mcpmesh.shim.config import Config
from mcpmesh.shim.protocol.server_info import ServerInfo
from mcpmesh.shim.server import rlimits
from mcpmesh.shim.server.channel import Channel
from mcpmesh.shim.server.guard_client import GuardClient
from mcpmesh.shim.server.stdio_process import StdioProcess


def channel_opener(config: Config, guard: GuardClient, server_info: ServerInfo) -> Callable[[], Channel]:
    """A function that prepares a channel to a new server; it raises SpawnError or OSError."""

    def open_process() -> Channel:
        if guard.pid == 0:
            guard.launch()
            rlimits.restore_for(guard.pid)
        return StdioProcess(guard, config.limits.line_bytes)

    def open_remote() -> Channel:
        # Imported here, since most shims never need an HTTP client.
        from mcpmesh.shim.server.remote_http import RemoteHttpServer

        return RemoteHttpServer(config, server_info, config.limits.line_bytes)

    return open_process if config.url is None else open_remote
