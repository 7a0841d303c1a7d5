"""The roles that the marks of a mesh's processes name."""

from mcpmesh.consul.embedded_consul import ROLE as CONSUL
from mcpmesh.ingress.kong.kong_process import ROLE as KONG
from mcpmesh.model.reserved_names import AGENT
from mcpmesh.workload.runtime import GATEWAY, PLAIN, SERVER, SHIM, SIDECAR

__all__ = ["AGENT", "CONSUL", "GATEWAY", "KONG", "PLAIN", "SERVER", "SHIM", "SIDECAR"]
