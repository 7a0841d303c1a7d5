"""All claims of a mesh, tried side by side and told in a steady order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from mcpmesh.kit.unix_http import http_client
from mcpmesh.model.report_items import Claim
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.verify.claims import (
    access_policy,
    consul_leftovers,
    consul_records,
    envoys,
    ingress_port,
    instances,
    kong_at_ingress,
    listening_ports,
    published_ports,
    real_calls,
    sidecars,
    stray_processes,
    versions,
)
from mcpmesh.verify.finding import ANSWER_SECONDS, Finding, made
from mcpmesh.verify.probes.consul_catalog import CatalogReader
from mcpmesh.verify.snapshot import Facts, gather
from mcpmesh.verify.target import World

__all__ = ["World", "verify"]

# Each claim makes a few connections; more at once only queue up on a small machine.
_AT_ONCE = 12


@dataclass(frozen=True)
class Trial:
    """A claim yet to be tried."""

    service: str | None
    title: str
    work: Callable[[Facts], Awaitable[Sequence[Finding]]]


def of_service(wanted: DesiredService) -> Iterator[Trial]:
    """What is claimed about one service, from the ground up."""
    spec = wanted.spec

    def trial(title: str, work: Callable[[Facts, DesiredService], Awaitable[Sequence[Finding]]]) -> Trial:
        return Trial(spec.name, title, lambda facts: work(facts, wanted))

    port = "the shim's" if spec.is_mcp else "its own"
    yield trial("it is registered in Consul as wanted", consul_records.as_wanted)
    yield trial(f"its registered port accepts connections and is {port}", instances.port_is_its_own)
    yield trial("it is ready now", instances.is_ready)
    yield trial("Consul's checks of it pass", consul_records.checks_pass)
    yield trial("its config entries are in Consul as wanted", consul_records.configured)
    yield trial("its sidecar's registered port is held by our Envoy", sidecars.port_is_envoys)
    yield trial("its sidecar proves its SPIFFE identity", sidecars.proves_identity)
    yield trial("its sidecar refuses plain text", sidecars.refuses_plain_text)
    yield trial("its sidecar refuses a caller without a certificate", sidecars.refuses_no_certificate)
    yield trial("its sidecar refuses a certificate of another CA", sidecars.refuses_foreign_certificate)
    yield trial("its sidecar refuses an identity without an intention", access_policy.stranger_refused)
    for source in wanted.allow:
        yield trial(
            f'the intention that lets "{source}" call it is in Consul', partial(access_policy.declared, source=source)
        )
    yield trial("a real call through each sidecar is answered", real_calls.through_sidecars)
    for upstream in spec.upstreams:
        title = f'its upstream "{upstream.service}" is answered where it looks for it'
        yield trial(title, partial(real_calls.upstream_reached, upstream=upstream))
    if spec.route:
        yield trial("a real call through the ingress is answered", real_calls.through_ingress)
    else:
        yield trial("without a route, it is not at the ingress", real_calls.not_at_ingress)


GATEWAY_WIDE = (Trial(None, "the ingress is held by our Envoy", ingress_port.is_held),)
KONG_WIDE = (
    Trial(None, "Kong goes by our document", kong_at_ingress.goes_by_our_document),
    Trial(None, "Kong's sidecar listens for each service with a route", kong_at_ingress.sidecar_listens),
    Trial(None, "Kong's version is supported", kong_at_ingress.version_supported),
)
OUR_KONG = (
    Trial(None, "the ingress is held by Kong", ingress_port.is_held),
    Trial(None, "Kong's Admin API is for this machine alone", kong_at_ingress.admin_is_private),
)
# Its processes and listeners are not ours to see.
ANOTHERS_KONG = (Trial(None, "the ingress is registered in Consul as wanted", ingress_port.is_registered),)
MESH_WIDE = (
    Trial(None, "the ingress answers undeclared paths with 404", ingress_port.answers_only_declared),
    Trial(None, "Consul denies what no intention allows", access_policy.denies_by_default),
    Trial(None, "nothing of ours is in Consul beyond what is wanted", consul_leftovers.none),
    Trial(None, "every Envoy is live", envoys.are_live),
    Trial(None, "no Envoy rejected an xDS update", envoys.rejected_nothing),
    Trial(None, "every process of ours is accounted for", stray_processes.all_accounted_for),
    Trial(None, "nothing of ours listens beyond loopback but what was asked for", listening_ports.none_beyond_loopback),
    Trial(None, "every listener of ours is at a port that the mesh gave it", listening_ports.all_expected),
    Trial(None, "Consul's version is supported", versions.of_consul),
    Trial(None, "the Envoys' version is the pinned one", versions.of_envoys),
    Trial(None, "the shims' version is the agent's", versions.of_shims),
)


OF_CONTAINERS = (
    Trial(None, "nothing but the ingress is published beyond this machine", published_ports.only_what_was_asked_for),
)


def of_ingress(world: World) -> tuple[Trial, ...]:
    """What is claimed about what stands at the ingress: only what can be tried there."""
    if world.kong is None:
        return GATEWAY_WIDE
    # In containers it is in the network namespace of an Envoy of ours, whoever runs it.
    seen = world.kong.ours or world.runtime.isolated
    return (*(OUR_KONG if seen else ANOTHERS_KONG), *KONG_WIDE)


def trials(world: World, services: Sequence[str]) -> list[Trial]:
    """All claims about these services, or about all and the mesh as a whole."""
    wanted = [wanted for name, wanted in world.desired.services.items() if not services or name in services]
    found = [trial for each in wanted for trial in of_service(each)]
    if services:
        return found
    return [*found, *of_ingress(world), *MESH_WIDE, *(OF_CONTAINERS if world.runtime.isolated else ())]


async def verify(world: World, services: Sequence[str]) -> AsyncIterator[Claim]:
    """Tries all claims about these services (about all, and the mesh as a whole, when empty).

    Claims come grouped by service in the catalog's order, the mesh-wide ones
    last, each as soon as it and those before it are made. Nothing is changed
    by it. It ends within a bounded time whatever hangs, and never raises for
    what it finds.
    """
    catalog = CatalogReader(world.consul.address, world.settings.consul.token)
    limit = asyncio.Semaphore(_AT_ONCE)
    tasks: list[asyncio.Task[Claim]] = []
    async with http_client(world.runtime.socket_folder, timeout=ANSWER_SECONDS) as http:
        try:
            facts = await gather(world, http, catalog)
            tasks = [
                asyncio.create_task(_made(trial, facts, limit), name=f"claim: {trial.title}")
                for trial in trials(world, services)
            ]
            for task in tasks:
                yield await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await catalog.close()


async def _made(trial: Trial, facts: Facts, limit: asyncio.Semaphore) -> Claim:
    async with limit:
        return await made(trial.service, trial.title, trial.work(facts), facts.world.mcpmesh("status"))
