"""Claims about a service's records in Consul, and about what is left over there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.snapshots import snapshot_of
from tests.unit.verify.sample_mesh import (
    AT_CONSUL,
    DESIRED,
    INGRESS,
    INSTANCE,
    REPAIRS,
    intention,
    process,
    registration,
    the_target,
)

from mcpmesh.consul.ownership import DIGEST as META_DIGEST
from mcpmesh.kit.marked_process import Process
from mcpmesh.kit.ports import PortAllocator
from mcpmesh.model.observed_state import Entry, Unknown, Workload
from mcpmesh.verify.claims import consul_leftovers, consul_records
from mcpmesh.verify.finding import CannotTry, Finding, fails, holds
from mcpmesh.verify.probes.consul_catalog import CatalogEntry
from mcpmesh.verify.target import Target
from mcpmesh.workload.process_runtime import ProcessRuntime

FILES = DESIRED.services["files"]
SIDECAR = FILES.instances[0].sidecar_id
DIGEST = "d" * 64


class FakeCatalog:
    """Consul's catalog with these entries of every service."""

    def __init__(self, *ids: str, failing: tuple[str, ...] = ()) -> None:
        self.entries = {id_: CatalogEntry(id_, "127.0.0.1", 80, failing, 2) for id_ in ids}

    async def instances(self, service: str) -> dict[str, CatalogEntry]:
        return {id_: entry for id_, entry in self.entries.items() if id_ != SIDECAR}

    async def sidecars(self, service: str) -> dict[str, CatalogEntry]:
        return {id_: entry for id_, entry in self.entries.items() if id_ == SIDECAR}


class OneWorkload(ProcessRuntime):
    """A runtime in which every instance is in this state."""

    def __init__(self, state: str) -> None:
        super().__init__("m", Path("/home/m"), PortAllocator(11100))
        self.state = state

    async def observe(self, process: Process) -> Workload:
        return Workload(process.mark.instance, "files", process.pid, 11101, 11102, self.state)


def target_with(state: str) -> Target:
    return replace(the_target(), runtime=OneWorkload(state))


IS_REGISTERED = f"{INSTANCE} and its sidecar are registered by mesh m at ports 11101 and 11102"


@pytest.mark.parametrize(
    ("digest", "registered", "finding"),
    [
        (None, DIGEST, holds(IS_REGISTERED)),
        (DIGEST, DIGEST, holds(f"{IS_REGISTERED}, digest dddddddddddd")),
        (
            "e" * 64,
            DIGEST,
            fails(
                f"{INSTANCE} is registered with digest dddddddddddd, what runs would be registered with eeeeeeeeeeee",
                REPAIRS,
            ),
        ),
        (
            DIGEST,
            "",
            fails(
                f"{INSTANCE} is registered with digest unknown, what runs would be registered with dddddddddddd",
                REPAIRS,
            ),
        ),
    ],
)
def test_a_registration_has_the_digest_of_what_runs(digest: str | None, registered: str, finding: Finding) -> None:
    found = registration(INSTANCE, digest=registered)
    assert consul_records.judge_digest(the_target(), found, digest) == finding


async def registered(catalog: FakeCatalog, *, runs: str | None = None, **others: Any) -> list[Finding]:
    """The findings for a registration with these fields; a program in the state `runs` runs."""
    snapshot = snapshot_of(
        target_with(runs or ""),
        [process(7, "shim", http=11101)] if runs else [],
        catalog=catalog,
        registrations={INSTANCE: registration(INSTANCE, **others)},
    )
    return await consul_records.registered_as_wanted(snapshot, FILES)


async def test_a_registration_without_a_ready_program_holds_without_a_digest() -> None:
    catalog = FakeCatalog(INSTANCE, SIDECAR)
    assert await registered(catalog) == [holds(IS_REGISTERED)]
    assert await registered(catalog, runs="starting") == [holds(IS_REGISTERED)]


async def test_a_registration_is_compared_with_the_program_that_runs() -> None:
    (finding,) = await registered(FakeCatalog(INSTANCE, SIDECAR), runs="ready")
    assert not finding.ok and "is registered with digest dddddddddddd, what runs would be" in finding.evidence


async def test_a_registration_has_to_be_in_the_catalog_and_not_draining() -> None:
    assert await registered(FakeCatalog(INSTANCE)) == [fails(f"{SIDECAR} is not in the catalog", REPAIRS)]
    assert await registered(FakeCatalog()) == [fails(f"{INSTANCE}, {SIDECAR} is not in the catalog", REPAIRS)]
    assert await registered(FakeCatalog(INSTANCE, SIDECAR), draining=True) == [
        fails(f"{INSTANCE} is being drained", REPAIRS)
    ]


async def test_registrations_that_cannot_be_read_prove_nothing() -> None:
    snapshot = snapshot_of(the_target(), registrations=Unknown("cannot reach Consul"))
    with pytest.raises(CannotTry, match="cannot reach Consul"):
        await consul_records.registered_as_wanted(snapshot, FILES)
    assert consul_records.surplus(snapshot, FILES) == []


def test_only_registrations_of_the_service_that_do_not_drain_are_surplus() -> None:
    present = [
        registration(INSTANCE),
        registration("old"),
        registration("going", draining=True),
        registration("other", "database"),
    ]
    snapshot = snapshot_of(the_target(), registrations={item.id: item for item in present})
    assert consul_records.surplus(snapshot, FILES) == [
        fails(
            "old (port 11101) is registered and not wanted",
            f"{REPAIRS}; by hand: consul services deregister {AT_CONSUL} -id=old",
        )
    ]


@pytest.mark.parametrize(
    ("catalog", "finding"),
    [
        (FakeCatalog(INSTANCE, SIDECAR), holds(f"4 checks of {INSTANCE} pass")),
        (FakeCatalog(INSTANCE), holds(f"2 checks of {INSTANCE} pass")),
        (FakeCatalog("other"), fails(f"{INSTANCE} is not in Consul's catalog, so nothing checks it", REPAIRS)),
        (
            FakeCatalog(INSTANCE, failing=("ready is critical: HTTP 503", "listener is critical")),
            fails(
                f"{INSTANCE}: ready is critical: HTTP 503; listener is critical",
                f"see its log, /home/m/logs/{INSTANCE}.log, and: mcpmesh --name m status",
            ),
        ),
    ],
)
async def test_all_checks_of_an_instance_and_its_sidecar_have_to_pass(catalog: FakeCatalog, finding: Finding) -> None:
    assert await consul_records.checks_pass(snapshot_of(the_target(), catalog=catalog), FILES) == [finding]


def written(payload: Mapping[str, Any], **others: Any) -> Entry:
    """The entry as this mesh has written it."""
    return Entry(
        **{
            "kind": payload["Kind"],
            "name": payload["Name"],
            "owner": "m",
            "digest": payload["Meta"][META_DIGEST],
            **others,
        }
    )


async def test_every_config_entry_and_the_route_are_there_as_wanted() -> None:
    assert FILES.route is not None
    payloads = [*FILES.entries, FILES.route]
    present = {(p["Kind"], p["Name"]): written(p) for p in payloads}
    findings = await consul_records.configured_as_wanted(snapshot_of(the_target(), entries=present), FILES)
    assert findings == [holds(f"{p['Kind']}/{p['Name']}") for p in payloads]
    database = DESIRED.services["database"]
    missing = await consul_records.configured_as_wanted(snapshot_of(the_target()), database)
    assert missing == [fails(f"{p['Kind']}/{p['Name']} is missing", REPAIRS) for p in database.entries]


def test_a_config_entry_that_differs_fails() -> None:
    payload = FILES.entries[0]
    kind, name = payload["Kind"], payload["Name"]
    target = the_target()
    assert consul_records.judge_entry(target, payload, {(kind, name): written(payload, digest="x")}) == fails(
        f"{kind}/{name} is not as wanted", REPAIRS
    )
    assert consul_records.judge_entry(target, payload, {(kind, name): written(payload, owner=None)}) == fails(
        f"{kind}/{name} was not written by this mesh",
        f"rename the service, or: consul config delete {AT_CONSUL} -kind {kind} -name {name}",
    )


# --- what is left over


def test_registrations_of_services_that_are_not_in_the_catalog_are_left_over() -> None:
    present = {
        item.id: item
        for item in (
            registration(INSTANCE),
            registration(INGRESS, "ingress"),
            registration("m-old-1", "old"),
            registration("m-going-1", "going", draining=True),
        )
    }
    assert [item.id for item in consul_leftovers.unwanted_registrations(DESIRED, present)] == ["m-old-1"]


ENTRIES = {
    (kind, name): Entry(kind, name, owner, None)
    for kind, name, owner in (
        ("http-route", "files", "m"),
        ("http-route", "old", "m"),
        ("http-route", "theirs", None),
        ("http-route", "others", "n"),
        ("api-gateway", "ingress", "m"),
        ("service-defaults", "files", "m"),
    )
}
INTENTIONS = (
    intention("git", "files", owner="m"),
    intention("time", "files", owner="m"),
    intention("time", "files"),
    intention("time", "files", owner="n"),
    intention("git", "gone", owner="m"),
)


async def test_what_this_mesh_wrote_and_does_not_want_is_left_over() -> None:
    snapshot = snapshot_of(
        the_target(), registrations={"old": registration("old", "old")}, entries=ENTRIES, intentions=INTENTIONS
    )
    assert await consul_leftovers.nothing_is_left_over(snapshot) == [
        fails(
            "old (port 11101) is registered and not wanted",
            f"{REPAIRS}; by hand: consul services deregister {AT_CONSUL} -id=old",
        ),
        fails(
            "http-route/old was written by this mesh and is not wanted",
            f"{REPAIRS}; by hand: consul config delete {AT_CONSUL} -kind http-route -name old",
        ),
        fails(
            "the intention time => files was written by this mesh and is not wanted",
            f"{REPAIRS}; by hand: consul intention delete {AT_CONSUL} 'time' 'files'",
        ),
        fails(
            "the intention git => gone was written by this mesh and is not wanted",
            f"{REPAIRS}; by hand: consul intention delete {AT_CONSUL} 'git' 'gone'",
        ),
    ]


async def test_nothing_is_left_over_where_all_is_wanted() -> None:
    snapshot = snapshot_of(the_target(), registrations={INSTANCE: registration(INSTANCE)}, intentions=INTENTIONS[:1])
    assert await consul_leftovers.nothing_is_left_over(snapshot) == [
        holds("1 registrations, and every entry and intention with our mark, are wanted")
    ]


@pytest.mark.parametrize("unread", ["registrations", "entries", "intentions"])
async def test_what_cannot_be_read_may_be_left_over(unread: str) -> None:
    with pytest.raises(CannotTry, match="away"):
        await consul_leftovers.nothing_is_left_over(snapshot_of(the_target(), **{unread: Unknown("away")}))
