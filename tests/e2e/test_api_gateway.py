"""`docker compose up` with Consul's API gateway as the ingress; everything else is tested with Kong."""

from __future__ import annotations

from tests.e2e.calls import denied_and_allowed, every_claim_holds, lists_files, restarted_ingress_leads_again
from tests.e2e.composed import Composed


def test_every_claim_about_the_mesh_holds(gateway_mesh: Composed) -> None:
    every_claim_holds(gateway_mesh)


def test_a_tool_is_called_from_the_host_through_the_ingress(gateway_mesh: Composed) -> None:
    assert lists_files(gateway_mesh)


def test_an_intention_denies_and_allows(gateway_mesh: Composed) -> None:
    denied_and_allowed(gateway_mesh)


def test_calls_are_answered_after_a_restart_of_the_ingress(gateway_mesh: Composed) -> None:
    restarted_ingress_leads_again(gateway_mesh)


def test_down_leaves_nothing(gateway_mesh: Composed) -> None:
    gateway_mesh.compose("down", "-v")
    assert gateway_mesh.left() == []
