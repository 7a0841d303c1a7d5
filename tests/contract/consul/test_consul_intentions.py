"""Our intentions, while a person uses `consul intention` at the same time."""

from __future__ import annotations

import httpx
import pytest
from tests.support.consul import RealConsul, entry_write, interposed

from mcpmesh.consul.client import Consul
from mcpmesh.consul.intention_changes import missing_and_stale
from mcpmesh.errors import NotOurs
from mcpmesh.model.observed_state import Intention


async def pairs(consul: Consul, destination: str) -> dict[str, tuple[str, str | None]]:
    return {i.source: (i.action, i.owner) for i in await consul.intentions() if i.destination == destination}


async def only(consul: Consul, destination: str) -> Intention:
    (found,) = [i for i in await consul.intentions() if i.destination == destination]
    return found


async def in_sync(consul: Consul, allow: list[str], destination: str, mesh: str) -> None:
    """Applies what a reconcile pass would."""
    missing, stale = missing_and_stale(allow, destination, await consul.intentions(), mesh)
    for source in missing:
        await consul.allow(source, destination, mesh)
    for intention in stale:
        await consul.revoke(intention, mesh)


async def test_what_is_allowed_is_listed_as_ours_and_checks_as_allowed(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    await consul.allow("caller", name, mesh)
    found = await only(consul, name)
    assert (found.source, found.action, found.owner, len(found.id)) == ("caller", "allow", mesh, 36)
    assert real_consul.cli("intention", "check", "caller", name).strip() == "Allowed"


async def test_a_pair_without_an_intention_is_denied(consul: Consul, real_consul: RealConsul, name: str) -> None:
    caller = await consul.identity("caller")
    question = {"Target": name, "ClientCertURI": caller.spiffe, "ClientCertSerial": "01"}
    answer = httpx.post(
        f"{real_consul.address}/v1/agent/connect/authorize", json=question, trust_env=False, timeout=30
    ).json()
    assert answer["Authorized"] is False


async def test_allowing_twice_is_allowing_once(consul: Consul, name: str, mesh: str) -> None:
    await consul.allow("caller", name, mesh)
    first = await only(consul, name)
    await consul.allow("caller", name, mesh)
    assert await only(consul, name) == first


async def test_revoking_removes_only_ours(consul: Consul, real_consul: RealConsul, name: str, mesh: str) -> None:
    real_consul.cli("intention", "create", "-deny", "stranger", name)
    await consul.allow("caller", name, mesh)
    (ours,) = [i for i in await consul.intentions() if i.destination == name and i.owner == mesh]
    await consul.revoke(ours, mesh)
    assert await pairs(consul, name) == {"stranger": ("deny", None)}
    await consul.revoke(ours, mesh)  # it is gone already, which is no error


async def test_what_another_mesh_allowed_is_not_ours(consul: Consul, name: str, mesh: str) -> None:
    await consul.allow("caller", name, "another")
    with pytest.raises(NotOurs, match=r"cannot revoke caller => .*not written by this mesh"):
        await consul.revoke(await only(consul, name), mesh)
    assert missing_and_stale(["caller"], name, await consul.intentions(), mesh) == ([], [])


async def test_every_consul_intention_command_works_beside_ours(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    await in_sync(consul, ["caller"], name, mesh)
    real_consul.cli("intention", "create", "-deny", "stranger", name)
    real_consul.cli("intention", "create", "-replace", "-allow", "stranger", name)
    assert f"{name} " in real_consul.cli("intention", "list")
    assert real_consul.cli("intention", "check", "stranger", name).strip() == "Allowed"
    real_consul.cli("intention", "delete", "stranger", name)
    assert await pairs(consul, name) == {"caller": ("allow", mesh)}
    await in_sync(consul, ["caller"], name, mesh)
    # Consul itself would refuse this: a delete by names removes the ids of the other sources.
    real_consul.cli("intention", "create", "-deny", "stranger", name)
    assert await pairs(consul, name) == {"caller": ("allow", mesh), "stranger": ("deny", None)}


async def test_a_person_with_remarks_on_an_intention_can_delete_it(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    await in_sync(consul, ["caller"], name, mesh)
    real_consul.cli("intention", "create", "-deny", "-meta", "ticket=7", "stranger", name)
    (theirs,) = [i for i in await consul.intentions() if i.destination == name and i.source == "stranger"]
    real_consul.cli("intention", "delete", theirs.id)
    assert await pairs(consul, name) == {"caller": ("allow", mesh)}


async def test_a_pair_that_a_person_denied_stays_denied(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    await in_sync(consul, ["caller"], name, mesh)
    real_consul.cli("intention", "create", "-replace", "-deny", "caller", name)
    await in_sync(consul, ["caller"], name, mesh)
    await consul.allow("caller", name, mesh)
    assert await pairs(consul, name) == {"caller": ("deny", None)}
    await in_sync(consul, [], name, mesh)
    assert await pairs(consul, name) == {"caller": ("deny", None)}


async def test_our_intention_that_a_person_changed_to_deny_is_not_revoked(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    await consul.allow("caller", name, mesh)
    intention = await only(consul, name)
    real_consul.cli("intention", "create", "-replace", "-deny", "caller", name)
    assert (await only(consul, name)).id == intention.id  # Consul keeps the id, so the id proves nothing
    await consul.revoke(intention, mesh)
    assert await pairs(consul, name) == {"caller": ("deny", None)}


async def test_our_intention_changed_in_consuls_ui_becomes_the_persons(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    await consul.allow("caller", name, mesh)
    listed = real_consul.get(f"/v1/connect/intentions/exact?source=caller&destination={name}")
    changed = {"Action": "deny", "Description": listed["Description"]}
    real_consul.put(f"/v1/connect/intentions/exact?source=caller&destination={name}", changed)
    assert await pairs(consul, name) == {"caller": ("deny", None)}


async def test_our_permission_is_added_to_an_entry_that_a_person_wrote(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    by_hand = {
        "Kind": "service-intentions",
        "Name": name,
        "Meta": {"team": "a"},
        "Sources": [
            {"Name": "stranger", "Action": "deny", "Description": "by hand"},
            {"Name": "*", "Action": "deny"},
        ],
    }
    real_consul.put("/v1/config", by_hand)
    before = real_consul.get(f"/v1/config/service-intentions/{name}")
    await in_sync(consul, ["caller"], name, mesh)
    assert await pairs(consul, name) == {"caller": ("allow", mesh), "stranger": ("deny", None), "*": ("deny", None)}
    await in_sync(consul, ["caller"], name, mesh)
    await in_sync(consul, [], name, mesh)
    after = real_consul.get(f"/v1/config/service-intentions/{name}")
    ignored = {"ModifyIndex", "Hash"}
    assert {k: v for k, v in after.items() if k not in ignored} == {k: v for k, v in before.items() if k not in ignored}


async def test_rules_for_single_requests_are_never_ours(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    real_consul.put("/v1/config", {"Kind": "service-defaults", "Name": name, "Protocol": "http"})
    rule = {"Action": "allow", "HTTP": {"PathPrefix": "/", "Header": [{"Name": "Mcp-Name", "Exact": "read_file"}]}}
    sources = [{"Name": "caller", "Permissions": [rule]}]
    real_consul.put("/v1/config", {"Kind": "service-intentions", "Name": name, "Sources": sources})
    await in_sync(consul, ["caller", "other"], name, mesh)
    assert await pairs(consul, name) == {"caller": ("permissions", None), "other": ("allow", mesh)}
    sources = real_consul.get(f"/v1/config/service-intentions/{name}")["Sources"]
    assert next(source for source in sources if source["Name"] == "caller")["Permissions"] == [rule]


async def test_revoking_the_last_source_without_an_id_deletes_the_entry(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    real_consul.cli("intention", "create", "-deny", "stranger", name)
    await consul.allow("caller", name, mesh)
    real_consul.cli("intention", "delete", "stranger", name)
    left = await only(consul, name)
    assert (left.id, left.owner) == ("", mesh)
    await consul.revoke(left, mesh)
    assert real_consul.get(f"/v1/config/service-intentions/{name}") is None


async def test_a_persons_write_between_our_read_and_our_write_is_kept(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    def write(*sources: str) -> None:
        entry = [{"Name": source, "Action": "deny"} for source in sources]
        real_consul.put("/v1/config", {"Kind": "service-intentions", "Name": name, "Sources": entry})

    write("one")
    await interposed(real_consul, entry_write, lambda: write("one", "two"), lambda c: c.allow("caller", name, mesh))
    assert await pairs(consul, name) == {"one": ("deny", None), "two": ("deny", None), "caller": ("allow", mesh)}


async def test_a_persons_denial_at_that_moment_is_kept(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    def deny() -> None:
        real_consul.cli("intention", "create", "-deny", "caller", name)

    def create(request: httpx.Request) -> bool:
        return request.method == "POST"

    await interposed(real_consul, create, deny, lambda c: c.allow("caller", name, mesh))
    assert await pairs(consul, name) == {"caller": ("deny", None)}


async def test_restoring_ids_gives_way_to_a_persons_write_at_that_moment(
    consul: Consul, real_consul: RealConsul, name: str, mesh: str
) -> None:
    real_consul.cli("intention", "create", "-deny", "stranger", name)
    await consul.allow("caller", name, mesh)
    real_consul.cli("intention", "delete", "stranger", name)

    def deny() -> None:
        path = f"/v1/connect/intentions/exact?source=stranger&destination={name}"
        real_consul.put(path, {"SourceType": "consul", "Action": "deny"})

    await interposed(real_consul, entry_write, deny, lambda c: c.allow("caller", name, mesh))
    assert await pairs(consul, name) == {"caller": ("allow", mesh), "stranger": ("deny", None)}
