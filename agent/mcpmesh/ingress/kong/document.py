"""What Kong is handed: one whole declarative document; pure.

A service of the catalog is a Kong service at its port of the ingress's own
sidecar, with one route. Two paths make that route, the path itself and what
lies below it as a folder, since a plain path of Kong's also takes
`/mcp/filesystem` for `/mcp/files`. While Kong may not lead to a service, its
route answers 503: of a 404 an MCP client takes its session for ended.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpmesh.model.instance import canonical
from mcpmesh.model.service import ServiceSpec

Content = dict[str, Any]

FORMAT = "3.0"
OWNER_TAG = "mcpmesh-owner:"
DIGEST_TAG = "mcpmesh-digest:"

# What Kong tells of any document without an entity in it.
EMPTY = "0" * 32

_TO_COME = "{} is not ready; try again soon"

# The sidecar is on the same host: it accepts at once or not at all.
_CONNECT_MS = 3000
# Kong takes no longer time-out than this (24 days).
_LONGEST_MS = 2**31 - 2


@dataclass(frozen=True)
class Document:
    """A whole configuration as `text` (JSON or YAML); `hash` is what Kong's /status then says of it.

    That is the MD5 of the text, where a document is posted as a text (Kong 3.9,
    kong/api/routes/config.lua), so one comparison tells whether Kong goes by it.
    """

    # It may hold keys of consumers.
    text: str = field(repr=False)
    hash: str


def from_text(text: str) -> Document:
    """A document as it is written."""
    return Document(text, hashlib.md5(text.encode(), usedforsecurity=False).hexdigest())


def document(content: Content) -> Document:
    """The same text for equal content, whatever the order of its keys."""
    found = from_text(json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False))
    return (
        found if any(isinstance(value, list) and value for value in content.values()) else Document(found.text, EMPTY)
    )


def rendered(
    mesh: str,
    routed: Mapping[str, tuple[ServiceSpec, int]],
    plugins: Sequence[Content],
    waiting: Collection[ServiceSpec] = (),
) -> Content:
    """These services, each at its port on loopback, those to come, and the plugins that act on all of them."""
    services = [service(mesh, spec, port) for _, (spec, port) in sorted(routed.items())]
    owned = [{**plugin, "tags": [OWNER_TAG + mesh]} for plugin in plugins]
    content = {"_format_version": FORMAT, "services": services, "plugins": owned}
    routes = [unavailable_route(mesh, spec) for spec in sorted(waiting, key=lambda spec: spec.name)]
    return {**content, "routes": routes} if routes else content


def unavailable_route(mesh: str, spec: ServiceSpec) -> Content:
    """The route of a service that Kong may not lead to yet, or not for now."""
    plugin = {"name": "request-termination", "config": {"status_code": 503, "message": _TO_COME.format(spec.name)}}
    return {
        "name": spec.name,
        "protocols": ["http", "https"],
        "paths": paths(spec.route or ""),
        "plugins": [plugin],
        "tags": [OWNER_TAG + mesh],
    }


def service(mesh: str, spec: ServiceSpec, port: int) -> Content:
    """A service and its route; its digest tag is the same as long as nothing of either changes."""
    milliseconds = min(round(spec.timeouts.request * 1000), _LONGEST_MS)
    found: Content = {
        "name": spec.name,
        "protocol": "http",
        "host": "127.0.0.1",
        "port": port,
        # Trying again is the sidecar's: it alone knows whether a call was begun.
        "retries": 0,
        "connect_timeout": _CONNECT_MS,
        "read_timeout": milliseconds,
        "write_timeout": milliseconds,
    }
    if spec.is_mcp:
        found["path"] = "/mcp"
    route: Content = {
        "name": spec.name,
        "protocols": ["http", "https"],
        "paths": paths(spec.route or ""),
        "strip_path": True,
        # The shim judges the name that the client used.
        "preserve_host": True,
        "request_buffering": False,
        "response_buffering": False,
    }
    digest = hashlib.sha256(canonical({"service": found, "route": route})).hexdigest()[:12]
    tags = [OWNER_TAG + mesh, DIGEST_TAG + digest]
    return {**found, "tags": tags, "routes": [{**route, "tags": tags}]}


def paths(route: str) -> list[str]:
    """The paths of Kong's that take `route` and what lies below it, and nothing that only begins like it."""
    path = route.rstrip("/")
    if not path:
        return ["/"]
    # The catalog lets no other character with a meaning in regular expressions through.
    return [f"~{path.replace('.', '[.]')}$", f"{path}/"]
