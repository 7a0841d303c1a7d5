"""The declarative document for Kong; pure.

A service of the catalog is a Kong service at its port of the ingress's own
sidecar, with one route. A route has two paths, the path itself and what lies
below it as a folder: a plain path of Kong's would match `/mcp/filesystem` for
`/mcp/files`. While Kong may not lead to a service, its route answers 503: a
404 would tell an MCP client that its session has ended.
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

# The hash that Kong reports for every document without entities.
EMPTY_HASH = "0" * 32

_NOT_READY = "{} is not ready; try again soon"

# The sidecar is on the same host: it accepts at once or not at all.
_CONNECT_MS = 3000
# The longest time-out that Kong accepts (24 days).
_LONGEST_MS = 2**31 - 2


@dataclass(frozen=True)
class Document:
    """A whole configuration as `text` (JSON or YAML), and the `hash` that Kong's /status then reports.

    The hash is the MD5 of the text where a document is posted as a text
    (Kong 3.9, kong/api/routes/config.lua). So one comparison tells whether
    Kong has this document.
    """

    # Not in the repr: it may hold keys of consumers.
    text: str = field(repr=False)
    hash: str


def document_from_text(text: str) -> Document:
    """The document with exactly this text."""
    return Document(text, hashlib.md5(text.encode(), usedforsecurity=False).hexdigest())


def document_from_content(content: Content) -> Document:
    """The document with this content; equal content gives the same text, whatever the order of its keys."""
    found = document_from_text(json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False))
    has_entities = any(isinstance(value, list) and value for value in content.values())
    return found if has_entities else Document(found.text, EMPTY_HASH)


def render_content(
    mesh: str,
    routed: Mapping[str, tuple[ServiceSpec, int]],
    plugins: Sequence[Content],
    waiting: Collection[ServiceSpec] = (),
) -> Content:
    """The `routed` services, each at its port on loopback; 503 for those that are `waiting`; the global plugins."""
    services = [service_entity(mesh, spec, port) for _, (spec, port) in sorted(routed.items())]
    owned = [{**plugin, "tags": [OWNER_TAG + mesh]} for plugin in plugins]
    content = {"_format_version": FORMAT, "services": services, "plugins": owned}
    routes = [unavailable_route(mesh, spec) for spec in sorted(waiting, key=lambda spec: spec.name)]
    return {**content, "routes": routes} if routes else content


def unavailable_route(mesh: str, spec: ServiceSpec) -> Content:
    """The route of a service to which Kong may not lead yet, or not at the moment: it answers 503."""
    plugin = {"name": "request-termination", "config": {"status_code": 503, "message": _NOT_READY.format(spec.name)}}
    return {
        "name": spec.name,
        "protocols": ["http", "https"],
        "paths": route_paths(spec.route or ""),
        "plugins": [plugin],
        "tags": [OWNER_TAG + mesh],
    }


def service_entity(mesh: str, spec: ServiceSpec, port: int) -> Content:
    """A service and its route; their digest tag is the same as long as neither changes."""
    milliseconds = min(round(spec.timeouts.request * 1000), _LONGEST_MS)
    service: Content = {
        "name": spec.name,
        "protocol": "http",
        "host": "127.0.0.1",
        "port": port,
        # The sidecar retries: it alone knows whether a call has begun.
        "retries": 0,
        "connect_timeout": _CONNECT_MS,
        "read_timeout": milliseconds,
        "write_timeout": milliseconds,
    }
    if spec.is_mcp:
        service["path"] = "/mcp"
    route: Content = {
        "name": spec.name,
        "protocols": ["http", "https"],
        "paths": route_paths(spec.route or ""),
        "strip_path": True,
        # The shim checks the host name that the client used.
        "preserve_host": True,
        "request_buffering": False,
        "response_buffering": False,
    }
    digest = hashlib.sha256(canonical({"service": service, "route": route})).hexdigest()[:12]
    tags = [OWNER_TAG + mesh, DIGEST_TAG + digest]
    return {**service, "tags": tags, "routes": [{**route, "tags": tags}]}


def route_paths(route: str) -> list[str]:
    """Kong's paths for `route` and what lies below it, and for nothing that only begins like it."""
    path = route.rstrip("/")
    if not path:
        return ["/"]
    # The catalog allows no other character with a meaning in regular expressions.
    return [f"~{path.replace('.', '[.]')}$", f"{path}/"]
