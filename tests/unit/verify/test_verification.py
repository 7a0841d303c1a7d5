"""A whole `verify` of a mesh in which nothing runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from tests.support.ports import OWN_PORTS
from tests.unit.verify.sample_mesh import the_target

from mcpmesh.consul.client import Consul
from mcpmesh.verify.claim_list import claims_to_try
from mcpmesh.verify.target import Target
from mcpmesh.verify.verification import verify


@asynccontextmanager
async def mesh_that_is_down() -> AsyncIterator[Target]:
    """Neither Consul nor the ingress listens."""
    consul = Consul(f"http://127.0.0.1:{OWN_PORTS.take()}")
    try:
        yield replace(the_target(), consul=consul, ingress_url=f"http://127.0.0.1:{OWN_PORTS.take()}")
    finally:
        await consul.close()


async def test_every_claim_is_made_in_order_whatever_is_down() -> None:
    async with mesh_that_is_down() as target:
        claims = [claim async for claim in verify(target, ())]
    tried = [(claim.service, claim.claim) for claim in claims]
    assert tried == [(claim.service, claim.title) for claim in claims_to_try(target, ())]
    assert not any("could not be tried" in claim.evidence for claim in claims)
    assert all(claim.next_step for claim in claims if not claim.ok)


async def test_without_consul_a_claim_about_its_records_names_consul() -> None:
    async with mesh_that_is_down() as target:
        claims = [claim async for claim in verify(target, ("files",))]
    assert {claim.service for claim in claims} == {"files"}
    registered = claims[0]
    assert not registered.ok and target.consul.address in registered.evidence
    assert registered.next_step == "does Consul run? see /home/m/logs/consul.log, and: mcpmesh --name m status"
    through_ingress = claims[-1]
    assert not through_ingress.ok
    assert through_ingress.evidence.startswith(f"the ingress at {target.ingress_url} does not answer: ")
