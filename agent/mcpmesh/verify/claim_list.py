"""Which claims are made: about each service, the ingress, and the mesh as a whole.

The titles are public: they are in the output of `mcpmesh verify` and in its
JSON.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.verify.claims import (
    access_policy,
    consul_leftovers,
    consul_records,
    envoys,
    ingress_calls,
    ingress_port,
    instances,
    kong_at_ingress,
    listening_ports,
    program_versions,
    published_ports,
    sidecar_calls,
    sidecars,
    stray_processes,
)
from mcpmesh.verify.finding import Finding
from mcpmesh.verify.snapshot import Snapshot
from mcpmesh.verify.target import Target


@dataclass(frozen=True)
class ClaimToTry:
    """A claim that is not yet tried; `service` is None for one about the mesh, `find` gives its findings."""

    service: str | None
    title: str
    find: Callable[[Snapshot], Awaitable[Sequence[Finding]]]


def claims_about_service(wanted: DesiredService) -> Iterator[ClaimToTry]:
    """The claims about one service: each rests on those before it."""
    spec = wanted.spec

    def claim(title: str, find: Callable[[Snapshot, DesiredService], Awaitable[Sequence[Finding]]]) -> ClaimToTry:
        return ClaimToTry(spec.name, title, lambda snapshot: find(snapshot, wanted))

    owner = "the shim's" if spec.is_mcp else "its own"
    yield claim("it is registered in Consul as wanted", consul_records.registered_as_wanted)
    yield claim(f"its registered port accepts connections and is {owner}", instances.port_is_its_own)
    yield claim("it is ready now", instances.is_ready)
    yield claim("Consul's checks of it pass", consul_records.checks_pass)
    yield claim("its config entries are in Consul as wanted", consul_records.configured_as_wanted)
    yield claim("its sidecar's registered port is held by our Envoy", sidecars.port_is_envoys)
    yield claim("its sidecar proves its SPIFFE identity", sidecars.proves_identity)
    yield claim("its sidecar refuses plain text", sidecars.refuses_plain_text)
    yield claim("its sidecar refuses a caller without a certificate", sidecars.refuses_no_certificate)
    yield claim("its sidecar refuses a certificate of another CA", sidecars.refuses_foreign_certificate)
    yield claim("its sidecar refuses an identity without an intention", access_policy.stranger_is_refused)
    for source in wanted.allow:
        title = f'the intention that lets "{source}" call it is in Consul'
        yield claim(title, partial(access_policy.intention_is_declared, source=source))
    yield claim("a real call through each sidecar is answered", sidecar_calls.answered_through_sidecars)
    for upstream in spec.upstreams:
        title = f'its upstream "{upstream.service}" is answered where it looks for it'
        yield claim(title, partial(sidecar_calls.upstream_is_answered, upstream=upstream))
    if spec.route:
        yield claim("a real call through the ingress is answered", ingress_calls.answered_through_ingress)
    else:
        yield claim("without a route, it is not at the ingress", ingress_calls.not_at_ingress)


_ABOUT_GATEWAY = (ClaimToTry(None, "the ingress is held by our Envoy", ingress_port.is_held),)
_ABOUT_ANY_KONG = (
    ClaimToTry(None, "Kong goes by our document", kong_at_ingress.uses_our_document),
    ClaimToTry(None, "Kong's sidecar listens for each service with a route", kong_at_ingress.sidecar_listens),
    ClaimToTry(None, "Kong's version is supported", kong_at_ingress.version_is_supported),
)
_ABOUT_VISIBLE_KONG = (
    ClaimToTry(None, "the ingress is held by Kong", ingress_port.is_held),
    ClaimToTry(None, "Kong's Admin API is for this machine alone", kong_at_ingress.admin_api_is_private),
)
# The processes and listeners of a Kong that the agent does not run can't be seen.
_ABOUT_UNSEEN_KONG = (ClaimToTry(None, "the ingress is registered in Consul as wanted", ingress_port.is_registered),)
_ABOUT_MESH = (
    ClaimToTry(None, "the ingress answers undeclared paths with 404", ingress_calls.answers_declared_paths_alone),
    ClaimToTry(None, "Consul denies what no intention allows", access_policy.denied_by_default),
    ClaimToTry(None, "nothing of ours is in Consul beyond what is wanted", consul_leftovers.nothing_is_left_over),
    ClaimToTry(None, "every Envoy is live", envoys.are_live),
    ClaimToTry(None, "no Envoy rejected an xDS update", envoys.rejected_nothing),
    ClaimToTry(None, "every process of ours is accounted for", stray_processes.all_are_accounted_for),
    ClaimToTry(
        None,
        "nothing of ours listens beyond loopback but what was asked for",
        listening_ports.none_beyond_loopback,
    ),
    ClaimToTry(None, "every listener of ours is at a port that the mesh gave it", listening_ports.all_at_given_ports),
    ClaimToTry(None, "Consul's version is supported", program_versions.of_consul),
    ClaimToTry(None, "the Envoys' version is the pinned one", program_versions.of_envoys),
    ClaimToTry(None, "the shims' version is the agent's", program_versions.of_shims),
)
# Only Docker publishes ports.
_ABOUT_CONTAINERS = (
    ClaimToTry(None, "nothing but the ingress is published beyond this machine", published_ports.only_the_ingress),
)


def claims_about_ingress(target: Target) -> tuple[ClaimToTry, ...]:
    """The claims about the program at the ingress that can be tried."""
    if target.kong is None:
        return _ABOUT_GATEWAY
    # In containers Kong is in the network namespace of an Envoy of ours, whether or not the agent runs it.
    visible = target.kong.run_by_agent or target.runtime.isolated
    return (*(_ABOUT_VISIBLE_KONG if visible else _ABOUT_UNSEEN_KONG), *_ABOUT_ANY_KONG)


def claims_to_try(target: Target, services: Sequence[str]) -> list[ClaimToTry]:
    """All claims about these services; without any, those about all services and about the mesh as a whole."""
    about_services = [
        claim
        for name, wanted in target.desired.services.items()
        if not services or name in services
        for claim in claims_about_service(wanted)
    ]
    if services:
        return about_services
    about_containers = _ABOUT_CONTAINERS if target.runtime.isolated else ()
    return [*about_services, *claims_about_ingress(target), *_ABOUT_MESH, *about_containers]
