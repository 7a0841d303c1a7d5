"""The shim's first requests to a server: which era it speaks, who it is; and the probe whether it still answers.

`server/discover` shows the era. An error means legacy. Silence means legacy
too, but a server that is only slow to start must not be misjudged, so after a
while `initialize` is sent as well, and the first result decides
(2026-07-28/basic/transports/stdio.mdx, Backward Compatibility).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from mcpmesh import __version__
from mcpmesh.shim.errors import Failure
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.meta_keys import CAPABILITIES_KEY, CLIENT_INFO_KEY, VERSION_KEY
from mcpmesh.shim.protocol.server_info import ALL_CAPABILITIES, ServerInfo
from mcpmesh.shim.protocol.versions import LATEST_LEGACY, MODERN
from mcpmesh.shim.server.peer import AwaitedRequest, Peer

# A legacy server that ignores unknown methods costs this once (seconds); the server info remembers its era.
SILENCE_SECONDS: Final = 3.0
CLIENT: Final = {"name": "mcpmesh-shim", "version": __version__}


class NotMcp(Exception):
    """The server answered, but not as an MCP server; the message is a sentence."""


class SpokeBothEras(Exception):
    """The process answered in the modern era after it had received `initialize`: some servers then stay legacy.

    The server info knows now that the server is modern. A new process, which gets no `initialize`, can be relied on.
    """


def shim_meta() -> dict[str, Any]:
    """The `_meta` of the shim's own requests to a modern server."""
    return {VERSION_KEY: MODERN, CLIENT_INFO_KEY: CLIENT, CAPABILITIES_KEY: {}}


async def handshake(peer: Peer, server_info: ServerInfo, seconds: float, discover: bool = True) -> None:
    """Prepare the process for many callers, in the newest era that it speaks; updates `server_info`.

    Without `discover` the first request is `initialize`. Raises TimeoutError after `seconds`, Failure when the process
    exited, NotMcp, and SpokeBothEras when its era was not known.
    """
    async with asyncio.timeout(seconds):
        if discover and server_info.modern is not False and await _discover(peer, server_info):
            peer.modern = True
            peer.version = MODERN
        elif not peer.version:
            await _initialize(peer, server_info)
            server_info.modern = False


async def _discover(peer: Peer, server_info: ServerInfo) -> bool:
    request = AwaitedRequest()
    peer.send(request, "server/discover", codec.encode({"_meta": shim_meta()}))
    try:
        # A server that is known to be modern is only slow.
        timeout = None if server_info.modern else SILENCE_SECONDS
        message = await asyncio.wait_for(asyncio.shield(request.future), timeout)
    except TimeoutError:
        await _race_initialize(peer, server_info, request)
        return False
    finally:
        peer.forget(request)
    return _learn_discover(message, server_info)


async def _race_initialize(peer: Peer, server_info: ServerInfo, discover: AwaitedRequest) -> None:
    """Send `initialize` too; the first result decides. Returns if the server is legacy, else raises SpokeBothEras."""
    initialize = AwaitedRequest()
    peer.send(initialize, "initialize", codec.encode(_initialize_params()))
    try:
        await asyncio.wait({discover.future, initialize.future}, return_when=asyncio.FIRST_COMPLETED)
        if discover.future.done():
            if _learn_discover(discover.future.result(), server_info):
                raise SpokeBothEras("took long to show its era")
            await asyncio.wait({initialize.future})
        _learn_initialize(peer, server_info, initialize.future.result())
        server_info.modern = False
    finally:
        peer.forget(discover)
        peer.forget(initialize)
        for future in (discover.future, initialize.future):
            if future.done() and not future.cancelled():
                future.exception()


def _learn_discover(message: Any, server_info: ServerInfo) -> bool:
    """Whether the answer to `server/discover` is a modern server's."""
    try:
        result = codec.decode(message.result) if message.result else None
    except codec.Malformed:
        result = None
    versions = result.get("supportedVersions") if isinstance(result, dict) else None
    if isinstance(result, dict) and isinstance(versions, list) and MODERN in versions:
        server_info.update_from_discover(result)
        return True
    server_info.modern = False
    return False


def _initialize_params() -> dict[str, Any]:
    return {"protocolVersion": LATEST_LEGACY, "capabilities": ALL_CAPABILITIES, "clientInfo": CLIENT}


async def _initialize(peer: Peer, server_info: ServerInfo) -> None:
    _learn_initialize(peer, server_info, await peer.ask("initialize", _initialize_params()))


def _learn_initialize(peer: Peer, server_info: ServerInfo, message: Any) -> None:
    try:
        result = codec.decode(message.result) if message.result else None
    except codec.Malformed as error:
        raise NotMcp(f"answered initialize with what can't be read: {error}") from None
    if not isinstance(result, dict):
        raise NotMcp(f"answered initialize with an error: {bytes(message.error).decode('utf-8', 'replace')[:300]}")
    server_info.update_from_initialize(result)
    peer.version = str(result.get("protocolVersion", LATEST_LEGACY))
    peer.notify("notifications/initialized")


async def responds(peer: Peer, seconds: float) -> bool:
    """Whether the server answers a request within `seconds`; an error is an answer too."""
    methods = ("server/discover",) if peer.modern else ("ping", "tools/list")
    params = {"_meta": shim_meta()} if peer.modern else None
    for method in methods:
        try:
            await peer.ask(method, params, seconds / len(methods))
        except TimeoutError:
            continue
        except Failure:
            return False
        return True
    return False
