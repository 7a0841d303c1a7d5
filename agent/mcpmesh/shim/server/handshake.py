"""The shim's own first words with a server: which era it speaks, who it is, what tools it has.

A server's era is asked with `server/discover`. An error means legacy; silence
does too, but a server that is merely slow to start must not be misjudged, so
after a while `initialize` is sent behind it and whichever result comes decides
(2026-07-28/basic/transports/stdio.mdx, Backward Compatibility).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from mcpmesh import __version__
from mcpmesh.shim.errors import Failure
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.server_info import ALL_CAPABILITIES, LATEST_LEGACY, MODERN, Profile
from mcpmesh.shim.server.peer import Child, Question

# A legacy server that ignores what it doesn't know costs this once (seconds): the profile remembers it.
SILENCE_SECONDS: Final = 3.0
TOOLS_SECONDS: Final = 20.0
TOOLS_PAGES: Final = 100
CLIENT: Final = {"name": "mcpmesh-shim", "version": __version__}


class NotMcp(Exception):
    """The server answered, but not as an MCP server; the message is a sentence."""


class SpokeBoth(Exception):
    """The process answered in the modern era, and had heard `initialize` too: some servers go by that from then on.

    The profile knows now that the server is modern; a new process that hears nothing else can be relied on.
    """


def modern_meta() -> dict[str, Any]:
    """The metadata of the shim's own requests to a modern server."""
    return {codec.VERSION_KEY: MODERN, codec.CLIENT_INFO_KEY: CLIENT, codec.CAPABILITIES_KEY: {}}


async def introduce(child: Child, profile: Profile, seconds: float, discover: bool = True) -> None:
    """Open the process for many callers, in the newest era that it speaks; updates the profile.

    Raises TimeoutError after `seconds`, Failure when it ended, NotMcp, and SpokeBoth where its era was not known.
    """
    async with asyncio.timeout(seconds):
        if discover and profile.modern is not False and await _discover(child, profile):
            child.modern = True
            child.version = MODERN
        elif not child.version:
            await _initialize(child, profile)
            profile.modern = False


async def _discover(child: Child, profile: Profile) -> bool:
    question = Question()
    child.send(question, "server/discover", codec.encode({"_meta": modern_meta()}))
    try:
        # One that is known to be modern is merely slow.
        patience = None if profile.modern else SILENCE_SECONDS
        message = await asyncio.wait_for(asyncio.shield(question.future), patience)
    except TimeoutError:
        await _either(child, profile, question)
        return False
    finally:
        if question.future.done():
            child.forget(question)
    return _is_discovered(message, profile)


async def _either(child: Child, profile: Profile, discover: Question) -> None:
    """Neither answered yet: whichever result comes first decides. Returns when it is legacy, else raises SpokeBoth."""
    initialize = Question()
    child.send(initialize, "initialize", codec.encode(_initialize_params()))
    try:
        await asyncio.wait({discover.future, initialize.future}, return_when=asyncio.FIRST_COMPLETED)
        if discover.future.done():
            if _is_discovered(discover.future.result(), profile):
                raise SpokeBoth("took long to show its era")
            await asyncio.wait({initialize.future})
        _initialized(child, profile, initialize.future.result())
        profile.modern = False
    finally:
        child.forget(discover)
        child.forget(initialize)
        for future in (discover.future, initialize.future):
            if future.done() and not future.cancelled():
                future.exception()


def _is_discovered(message: Any, profile: Profile) -> bool:
    try:
        result = codec.value(message.result) if message.result else None
    except codec.Malformed:
        result = None
    versions = result.get("supportedVersions") if isinstance(result, dict) else None
    if isinstance(result, dict) and isinstance(versions, list) and MODERN in versions:
        profile.learn_discovered(result)
        return True
    profile.modern = False
    return False


def _initialize_params() -> dict[str, Any]:
    return {"protocolVersion": LATEST_LEGACY, "capabilities": ALL_CAPABILITIES, "clientInfo": CLIENT}


async def _initialize(child: Child, profile: Profile) -> None:
    _initialized(child, profile, await child.ask("initialize", _initialize_params()))


def _initialized(child: Child, profile: Profile, message: Any) -> None:
    try:
        result = codec.value(message.result) if message.result else None
    except codec.Malformed as error:
        raise NotMcp(f"answered initialize with what can't be read: {error}") from None
    if not isinstance(result, dict):
        raise NotMcp(f"answered initialize with an error: {bytes(message.error).decode('utf-8', 'replace')[:300]}")
    profile.learn_initialized(result)
    child.version = str(result.get("protocolVersion", LATEST_LEGACY))
    child.notify("notifications/initialized")


async def list_tools(child: Child, profile: Profile) -> None:
    """Ask for all tools and keep them in the profile; a server that can't tell keeps what it told last."""
    if "tools" not in profile.capabilities:
        profile.tools = []
        return
    tools: list[dict[str, Any]] = []
    params: dict[str, Any] = {"_meta": modern_meta()} if child.modern else {}
    for _ in range(TOOLS_PAGES):
        try:
            message = await child.ask("tools/list", params or None, TOOLS_SECONDS)
            result = codec.value(message.result) if message.result else None
        except (Failure, TimeoutError, codec.Malformed):
            return
        if not isinstance(result, dict) or not isinstance(result.get("tools"), list):
            return
        tools += [tool for tool in result["tools"] if isinstance(tool, dict)]
        cursor = result.get("nextCursor")
        if not isinstance(cursor, str) or cursor == params.get("cursor"):
            break
        params["cursor"] = cursor
    profile.tools = tools


async def probe(child: Child, seconds: float) -> bool:
    """Whether it answers anything at all; an error is an answer. False when nothing came in time."""
    methods = ("server/discover",) if child.modern else ("ping", "tools/list")
    params = {"_meta": modern_meta()} if child.modern else None
    for method in methods:
        try:
            await child.ask(method, params, seconds / len(methods))
        except TimeoutError:
            continue
        except Failure:
            return False
        return True
    return False
