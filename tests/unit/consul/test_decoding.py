"""Consul's JSON decoded into the model."""

from __future__ import annotations

from typing import Any

import pytest

from mcpmesh.consul.decoding import entries, intentions, registrations
from mcpmesh.model.observed_state import Entry, Intention, Registration


def service(id_: str, owner: str | None = "m", digest: str = "d1", **more: Any) -> dict[str, Any]:
    meta = {"mcpmesh-owner": owner, "mcpmesh-digest": digest} if owner else None
    return {"ID": id_, "Service": "files", "Address": "10.0.0.1", "Port": 1, "Meta": meta, **more}


def sidecar(id_: str = "m-files-1-sidecar", instance: str = "m-files-1", digest: str = "d1") -> dict[str, Any]:
    proxy = {"DestinationServiceID": instance, "DestinationServiceName": "files"}
    changes = {"Service": "files-sidecar", "Address": "10.0.0.2", "Port": 2, "Kind": "connect-proxy", "Proxy": proxy}
    return service(id_, digest=digest, **changes)


def check(service_id: str, name: str, status: str, **more: str) -> dict[str, str]:
    return {"CheckID": f"{service_id}:{name}", "ServiceID": service_id, "Name": name, "Status": status, **more}


def by_id(*services: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["ID"]: item for item in services}


def by_check_id(*checks: dict[str, str]) -> dict[str, dict[str, str]]:
    return {item["CheckID"]: item for item in checks}


READY = Registration(
    id="m-files-1",
    service="files",
    port=1,
    sidecar_port=2,
    digest="d1",
    draining=False,
    passing=True,
    failing=(),
    sidecar_host="10.0.0.2",
)


def test_an_instance_is_decoded_together_with_its_sidecar() -> None:
    checks = by_check_id(check("m-files-1", "ready", "passing"), check("m-files-1-sidecar", "listener", "passing"))
    assert registrations(by_id(service("m-files-1"), sidecar()), checks, "m") == {"m-files-1": READY}


def test_an_instance_without_a_sidecar_has_no_sidecar_port() -> None:
    found = registrations(by_id(service("m-files-1")), {}, "m")["m-files-1"]
    assert (found.sidecar_port, found.sidecar_host, found.digest, found.passing) == (None, "10.0.0.1", "d1", True)


def test_a_sidecar_without_its_instance_is_listed_by_its_own_id_under_the_service_that_it_served() -> None:
    found = registrations(by_id(sidecar()), {}, "m")
    assert [(id_, item.id, item.service, item.port) for id_, item in found.items()] == [
        ("m-files-1-sidecar", "m-files-1-sidecar", "files", 2)
    ]


def test_a_pair_with_different_digests_has_none() -> None:
    assert registrations(by_id(service("m-files-1"), sidecar(digest="d2")), {}, "m")["m-files-1"].digest == ""


@pytest.mark.parametrize("owner", [None, "other"])
def test_registrations_of_others_are_left_out(owner: str | None) -> None:
    assert registrations(by_id(service("m-files-1", owner)), {}, "m") == {}


def test_the_failing_checks_of_both_are_listed_with_their_output() -> None:
    checks = by_check_id(
        check("m-files-1-sidecar", "listener", "critical", Output="dial tcp:\n refused"),
        check("m-files-1", "ready", "warning", Notes="slow", Output=""),
        check("m-files-1", "alias", "critical"),
        check("m-files-2", "ready", "critical"),
    )
    found = registrations(by_id(service("m-files-1"), sidecar()), checks, "m")["m-files-1"]
    assert found.failing == ("alias", "listener: dial tcp: refused", "ready: slow")
    assert not found.passing and not found.draining


def test_a_long_output_of_a_check_is_cut() -> None:
    checks = by_check_id(check("m-files-1", "ready", "critical", Output="x" * 500))
    assert registrations(by_id(service("m-files-1")), checks, "m")["m-files-1"].failing == ("ready: " + "x" * 200,)


@pytest.mark.parametrize("drained", ["m-files-1", "m-files-1-sidecar"])
def test_an_instance_in_maintenance_mode_is_draining(drained: str) -> None:
    maintenance = {**check(drained, "x", "critical"), "CheckID": f"_service_maintenance:{drained}"}
    found = registrations(by_id(service("m-files-1"), sidecar()), by_check_id(maintenance), "m")["m-files-1"]
    assert found.draining


def test_entries_are_decoded_by_kind_and_name_with_their_owner_if_any() -> None:
    meta = {"mcpmesh-owner": "m", "mcpmesh-digest": "d", "mcpmesh-policy": "p"}
    lists = [[{"Kind": "http-route", "Name": "a", "Meta": meta}], [{"Kind": "service-defaults", "Name": "b"}]]
    assert entries(lists) == {
        ("http-route", "a"): Entry("http-route", "a", "m", "d", "p"),
        ("service-defaults", "b"): Entry("service-defaults", "b", None, None, None),
    }


OURS = {
    "ID": "1",
    "SourceName": "a",
    "DestinationName": "b",
    "Action": "allow",
    "Description": "written by mcpmesh (m)",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Intention("1", "a", "b", "allow", "m")),
        ({"Action": "deny"}, Intention("1", "a", "b", "deny", None)),
        ({"Description": "mine"}, Intention("1", "a", "b", "allow", None)),
        ({"SourcePeer": "east"}, Intention("1", "east/a", "b", "allow", "m")),
        (
            {"Action": "", "Permissions": [{"Action": "allow"}]},
            Intention(
                "1",
                "a",
                "b",
                "permissions",
                None,
                "d735b1315e309084ebe411ddd1685cea1634f087a742a5c7cb6bf6396aed8f82",
            ),
        ),
    ],
)
def test_intentions_are_decoded_with_their_owner_if_they_allow_plainly(
    changes: dict[str, Any], expected: Intention
) -> None:
    assert list(intentions([{**OURS, **changes}])) == [expected]
