"""Reads the snapshot of the running mesh."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import httpx

from mcpmesh.consul.leaf_certificate import Identity
from mcpmesh.errors import MeshError
from mcpmesh.model.observed_state import Unknown
from mcpmesh.model.reserved_names import AGENT_IDENTITY, STRANGER_IDENTITY
from mcpmesh.verify.probes.consul_catalog import ConsulCatalog
from mcpmesh.verify.probes.foreign_certificate import foreign_context
from mcpmesh.verify.probes.network_namespaces import read_namespaces
from mcpmesh.verify.probes.tcp_probe import Reply, get_request, probe
from mcpmesh.verify.snapshot import UNDECLARED_PATH, Snapshot
from mcpmesh.verify.target import Target
from mcpmesh.verify.time_limits import ANSWER_SECONDS

T = TypeVar("T")


async def read_snapshot(target: Target, http: httpx.AsyncClient, catalog: ConsulCatalog) -> Snapshot:
    """Reads all peers at once. Never raises for a peer that does not answer."""
    consul = target.consul
    registrations, entries, intentions, agent_identity, stranger_identity, ingress_reply = await asyncio.gather(
        _read(consul.registrations(target.mesh), "the registrations"),
        _read(consul.entries(target.mesh), "the config entries"),
        _read(consul.intentions(), "the intentions"),
        _read(consul.identity(AGENT_IDENTITY), "a certificate"),
        _read(consul.identity(STRANGER_IDENTITY), "a certificate"),
        _ask_ingress(target),
    )
    # In this order: a process that starts between the two is not in the first, and so not taken for a stray.
    processes = sorted(await target.runtime.list_processes(), key=lambda process: process.pid)
    namespaces = await read_namespaces(target.runtime, processes)
    agent_id = (
        agent_identity.spiffe if isinstance(agent_identity, Identity) else f"spiffe://unknown/svc/{AGENT_IDENTITY}"
    )
    return Snapshot(
        target=target,
        http=http,
        catalog=catalog,
        registrations=registrations,
        entries=entries,
        intentions=intentions,
        agent_identity=agent_identity,
        stranger_identity=stranger_identity,
        foreign_context=foreign_context(agent_id),
        ingress_reply=ingress_reply,
        processes=tuple(process for process in processes if process.pid in namespaces.process_tree.nodes),
        namespaces=namespaces,
    )


async def _read(reading: Awaitable[T], subject: str) -> T | Unknown:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await reading
    except MeshError as error:
        return Unknown(str(error))
    except TimeoutError:
        return Unknown(f"Consul did not give {subject} within {ANSWER_SECONDS:.0f} s")


async def _ask_ingress(target: Target) -> Reply:
    """What the ingress answers for an undeclared path. Asked once, it also tells all claims whether it answers."""
    url = httpx.URL(target.ingress_url)
    payload = get_request(UNDECLARED_PATH, url.netloc.decode())
    return await probe(url.host, url.port or 80, tls=None, payload=payload)
