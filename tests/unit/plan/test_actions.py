"""The sentences that actions are shown as."""

from __future__ import annotations

import pytest
from tests.unit.plan.samples import INGRESS, INGRESS_ID, desired, kong_document, spec

from mcpmesh.model.agent_reports import Step
from mcpmesh.model.observed_state import Intention, Stray
from mcpmesh.plan.action_groups import KONG_DOCUMENT, STRAYS, service_group
from mcpmesh.plan.actions import (
    Action,
    Allow,
    CloseKong,
    DeleteEntry,
    Deregister,
    Drain,
    EndStray,
    PostDocument,
    Register,
    Revoke,
    StartKong,
    StartSidecar,
    StartWorkload,
    StopKong,
    StopSidecar,
    StopWorkload,
    WriteEntry,
)
from mcpmesh.plan.planner import Plan

(INSTANCE,) = desired(spec("files")).services["files"].instances
DOCUMENT = kong_document({})


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (WriteEntry({"Kind": "service-defaults", "Name": "files"}), "write service-defaults/files"),
        (DeleteEntry("http-route", "files"), "delete http-route/files"),
        (Allow("notes", "files"), "allow notes => files"),
        (Revoke(Intention("id", "notes", "files", "allow", "m")), "revoke notes => files"),
        (StartWorkload(INSTANCE), f"start {INSTANCE.id}"),
        (Register("files-1", ({"Port": 20001}, {"Port": 20002})), "register files-1 at port 20001"),
        (StartSidecar("files-1", "files-1-sidecar", "files", 20002), "start the sidecar of files-1"),
        (StartSidecar(INGRESS_ID, INGRESS_ID, INGRESS, 8000, gateway=True), "start the ingress"),
        (StartKong(INGRESS_ID, INGRESS, 8000), "start Kong at port 8000"),
        (StopKong(INGRESS_ID), "stop Kong"),
        (PostDocument(DOCUMENT, ("files", "time")), "post Kong's document, with routes to files, time"),
        (PostDocument(DOCUMENT, ()), "post Kong's document, with routes to no service"),
        (CloseKong(), "remove the routes of this mesh from Kong"),
        (Drain("files-1"), "drain files-1"),
        (Deregister("files-1", None), "deregister files-1"),
        (StopSidecar("files-1"), "stop the sidecar of files-1"),
        (StopWorkload("files-1"), "stop files-1"),
        (EndStray(Stray(42, "server", "files-1")), "end stray process 42 of files-1"),
    ],
)
def test_an_action_is_shown_as_a_sentence(action: Action, sentence: str) -> None:
    assert str(action) == sentence


def test_the_steps_of_a_plan_are_its_actions_in_order_and_then_what_it_waits_for() -> None:
    waiting = Step("time", "wait", waiting=True)
    actions: dict[object, tuple[Action, ...]] = {
        service_group("files"): (Drain("one"), Drain("two")),
        KONG_DOCUMENT: (CloseKong(),),
        STRAYS: (EndStray(Stray(42, "server", "files-1")),),
    }
    assert Plan(actions, (waiting,)).steps() == [
        Step("files", "drain one"),
        Step("files", "drain two"),
        Step("kong document", "remove the routes of this mesh from Kong"),
        Step("mesh", "end stray process 42 of files-1"),
        waiting,
    ]


def test_a_plan_is_in_sync_without_actions_and_without_anything_to_wait_for() -> None:
    assert Plan().in_sync
    assert not Plan({service_group("files"): (Drain("one"),)}).in_sync
    assert not Plan(waiting=(Step("time", "wait", waiting=True),)).in_sync
