"""A mesh that a test makes up, as `verify` reads it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mcpmesh.consul.client import Consul
from mcpmesh.consul.leaf_certificate import Identity
from mcpmesh.envoy.envoy_admin import EnvoyAdmin
from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.kit.ports import PortAllocator
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.settings import IngressSettings, Settings
from mcpmesh.verify.probes.network_namespaces import Namespaces
from mcpmesh.verify.probes.process_tree import ProcessTree
from mcpmesh.verify.probes.tcp_probe import Outcome, Reply
from mcpmesh.verify.snapshot import Snapshot
from mcpmesh.verify.target import Target
from mcpmesh.workload.process_runtime import ProcessRuntime

HOME = Path("/home/m")
NO_PROCESSES = Namespaces(ProcessTree({}))


@cache
def _peers() -> tuple[Consul, EnvoyAdmin]:
    """Clients that nothing is asked of. They are shared, since making one reads all CA certificates of the machine."""
    return Consul("http://127.0.0.1:8500"), EnvoyAdmin()


def target_of(desired: DesiredState, **ingress: Any) -> Target:
    """The mesh "m" with processes on this machine; `ingress` are settings of the ingress."""
    consul, envoy_admin = _peers()
    return Target(
        settings=Settings(ingress=IngressSettings(**ingress)),
        mesh="m",
        home=HOME,
        consul=consul,
        envoy_admin=envoy_admin,
        desired=desired,
        ingress_url="http://127.0.0.1:8000",
        runtime=ProcessRuntime("m", HOME, PortAllocator(11100)),
    )


def snapshot_of(
    target: Target, processes: Sequence[Process] = (), namespaces: Namespaces = NO_PROCESSES, **read: Any
) -> Snapshot:
    """A snapshot with these processes. Consul has nothing, the ingress answers 404; `read` is read otherwise."""
    nothing: Any = None
    identity = Identity("mcpmesh-agent", "spiffe://trust/ns/default/dc/dc1/svc/mcpmesh-agent", "trust", "", "", "")
    return Snapshot(
        **{
            "target": target,
            "http": nothing,
            "catalog": nothing,
            "registrations": {},
            "entries": {},
            "intentions": (),
            "agent_identity": identity,
            "stranger_identity": nothing,
            "foreign_context": nothing,
            "ingress_reply": Reply(Outcome.ANSWERED, "HTTP/1.1 404 Not Found"),
            "processes": tuple(processes),
            "namespaces": namespaces,
            **read,
        }
    )


def process(pid: int, role: str, instance: str, service: str = "files", **ports: int) -> Process:
    """A process of the mesh "m"."""
    return Process(pid, Mark("m", str(HOME), role, instance, service, ports=ports))
