"""Claims about sidecars: what counts as a refusal, and which process holds a port."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from tests.support.snapshots import snapshot_of
from tests.unit.verify.sample_mesh import DESIRED, INSTANCE, REPAIRS, process, registration, the_target

from mcpmesh.verify.claims import sidecars
from mcpmesh.verify.claims.port_holder import judge_holder
from mcpmesh.verify.finding import Diagnosis, Finding, fails, holds
from mcpmesh.verify.probes.listening_sockets import Listener, ListeningSockets
from mcpmesh.verify.probes.network_namespaces import Namespaces
from mcpmesh.verify.probes.process_tree import Node, ProcessTree
from mcpmesh.verify.probes.tcp_probe import Outcome, Reply
from mcpmesh.verify.snapshot import Snapshot

LOG = "/home/m/logs/" + INSTANCE + ".sidecar.log"
TREE = ProcessTree({7: Node(1, "envoy", "S"), 8: Node(1, "python", "S"), 9: Node(1, "ruby", "S")})


@pytest.mark.parametrize(
    ("outcome", "finding"),
    [
        (Outcome.CLOSED, holds("port 1 refuses plain text: so")),
        (Outcome.ANSWERED, fails("port 1 answers plain text: so; trouble", "step")),
        (Outcome.SILENT, fails("whether port 1 refuses plain text can't be told: so; trouble", "step")),
        (Outcome.UNREACHABLE, fails("whether port 1 refuses plain text can't be told: so; trouble", "step")),
    ],
)
def test_only_a_connection_that_was_ended_is_a_refusal(outcome: Outcome, finding: Finding) -> None:
    assert sidecars.judge_refusal(Reply(outcome, "so"), "plain text", "port 1", Diagnosis("trouble", "step")) == finding


def snapshot(*holders: int, envoy: bool = True) -> Snapshot:
    """Port 11102 is held by these pids; the Envoy of the instance is pid 7."""
    listener = Listener("tcp", ip_address("127.0.0.1"), 11102, 1)
    sockets = ListeningSockets((listener,), {1: frozenset(holders)})
    processes = [process(7, "sidecar", public=11102)] if envoy else []
    known = {INSTANCE: registration(INSTANCE)}
    return snapshot_of(the_target(), processes, Namespaces(TREE, sockets), registrations=known)


@pytest.mark.parametrize(
    ("holders", "finding"),
    [
        ((7,), holds(f"127.0.0.1:11102 is held by the Envoy of {INSTANCE}, pid 7")),
        (
            (9, 8, 7),
            fails(
                f"port 11102 of {INSTANCE} is held by pid 8 (python), pid 9 (ruby); its Envoy is pid 7",
                f"end what holds it; see its log, {LOG}",
            ),
        ),
        (
            (),
            fails(
                f"port 11102 of {INSTANCE} is held by no process that we can see; its Envoy is pid 7",
                f"see its log, {LOG}",
            ),
        ),
    ],
)
async def test_the_envoy_of_an_instance_alone_holds_its_sidecars_port(
    holders: tuple[int, ...], finding: Finding
) -> None:
    assert judge_holder(snapshot(*holders), INSTANCE, "sidecar", 11102) == finding
    assert await sidecars.port_is_envoys(snapshot(*holders), DESIRED.services["files"]) == [finding]


def test_without_an_envoy_the_port_is_a_strangers() -> None:
    assert judge_holder(snapshot(8, envoy=False), INSTANCE, "sidecar", 11102) == fails(
        f"port 11102 of {INSTANCE} is held by pid 8 (python); no Envoy of ours runs for it",
        f"end what holds it; {REPAIRS}; its last output is in {LOG}",
    )


async def test_without_a_registration_nothing_is_known_of_the_port() -> None:
    bare = snapshot_of(the_target())
    assert await sidecars.port_is_envoys(bare, DESIRED.services["files"]) == [
        fails(f"{INSTANCE} is not registered in Consul", REPAIRS)
    ]
    alone = snapshot_of(the_target(), registrations={INSTANCE: registration(INSTANCE, sidecar_port=None)})
    assert await sidecars.port_is_envoys(alone, DESIRED.services["files"]) == [
        fails(f"the sidecar of {INSTANCE} is not registered in Consul", REPAIRS)
    ]
