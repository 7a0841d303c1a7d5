"""Claims about who may call a service."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from tests.support.snapshots import snapshot_of
from tests.unit.verify.sample_mesh import AT_CONSUL, DESIRED, REPAIRS, intention, the_target

from mcpmesh.model.observed_state import Intention, Unknown
from mcpmesh.verify.claims import access_policy
from mcpmesh.verify.claims.access_policy import StrangerAttempt, judge_declared, judge_default, judge_stranger
from mcpmesh.verify.finding import CannotTry, Diagnosis, Finding, fails, holds
from mcpmesh.verify.probes.consul_catalog import ConsulCatalog

RUNS = Diagnosis("its Envoy is pid 7", "see its log")
REFUSED = StrangerAttempt("port 1", "HTTP/1.1 403 Forbidden", True, False, RUNS)
# A TCP connection is open before Envoy refuses its first byte.
OPENED_AND_REFUSED = replace(REFUSED, reply="the connection was closed", let_in=True)
LET_IN = StrangerAttempt("port 1", "HTTP/1.1 200 OK", False, True, RUNS)
SILENT = StrangerAttempt(
    "port 1", "no handshake", False, False, Diagnosis("its Envoy (pid 7) is stopped", "kill -CONT 7")
)
IS_IN = "port 1 lets mcpmesh-stranger in: HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    ("found", "finding"),
    [
        (
            None,
            fails(
                "Consul has no intention git => files",
                f"{REPAIRS}; by hand: consul intention create {AT_CONSUL} -allow git files",
            ),
        ),
        (intention("git", "files", owner="m"), holds("Consul has git => files (allow), written by this mesh")),
        (
            intention("git", "files", owner="n"),
            holds("Consul has git => files (allow), written by mesh n, and it is kept"),
        ),
        (
            intention("git", "files", "deny"),
            holds("Consul has git => files (deny), written by a person, and it is kept"),
        ),
    ],
)
def test_a_declared_intention_holds_if_it_is_there(found: Intention | None, finding: Finding) -> None:
    assert judge_declared(the_target(), found, "git", "files") == finding


async def test_only_the_intention_for_the_very_pair_is_the_declared_one() -> None:
    present = (intention("*", "files"), intention("git", "memory"), intention("time", "files"))
    (missing,) = await access_policy.intention_is_declared(
        snapshot_of(the_target(), intentions=present), DESIRED.services["files"], "git"
    )
    (found,) = await access_policy.intention_is_declared(
        snapshot_of(the_target(), intentions=(*present, intention("git", "files"))), DESIRED.services["files"], "git"
    )
    assert (missing.ok, found.ok) == (False, True)


async def test_intentions_that_cannot_be_read_prove_nothing() -> None:
    snapshot = snapshot_of(the_target(), intentions=Unknown("cannot reach Consul"))
    with pytest.raises(CannotTry, match="cannot reach Consul"):
        await access_policy.intention_is_declared(snapshot, DESIRED.services["files"], "git")


@pytest.mark.parametrize(
    ("attempt", "found", "allow", "finding"),
    [
        (REFUSED, None, (), holds("port 1 refuses mcpmesh-stranger: HTTP/1.1 403 Forbidden")),
        (OPENED_AND_REFUSED, None, (), holds("port 1 refuses mcpmesh-stranger: the connection was closed")),
        (
            SILENT,
            None,
            ("*",),
            fails(
                "whether port 1 refuses mcpmesh-stranger can't be told: no handshake; its Envoy (pid 7) is stopped",
                "kill -CONT 7",
            ),
        ),
        (
            LET_IN,
            intention("*", "files", owner="m"),
            ("git", "*"),
            holds(f"{IS_IN}, and every service may call it, as the catalog says"),
        ),
        (
            LET_IN,
            None,
            ("git",),
            fails(
                f"{IS_IN}; no intention says so, and by default nothing should be allowed",
                'set default_intention_policy = "deny" in the configuration of Consul; see its log',
            ),
        ),
        (
            LET_IN,
            intention("*", "*", "deny"),
            (),
            fails(f"{IS_IN}, though * => * (deny) says otherwise; its Envoy is pid 7", "see its log"),
        ),
        (
            LET_IN,
            intention("*", "files"),
            (),
            fails(
                f"{IS_IN}; the intention * => files (allow) says so",
                f"if that is not meant: consul intention delete {AT_CONSUL} '*' 'files'",
            ),
        ),
    ],
)
def test_a_stranger_has_to_be_refused(
    attempt: StrangerAttempt, found: Intention | None, allow: tuple[str, ...], finding: Finding
) -> None:
    assert judge_stranger(the_target(), attempt, found, allow) == finding


def test_consuls_default_has_to_deny() -> None:
    assert judge_default("http://c", "deny") == holds("Consul at http://c denies what no intention allows")
    assert judge_default("http://c", "allow") == fails(
        "Consul at http://c has the default intention policy 'allow'",
        'set default_intention_policy = "deny" in the configuration of its servers and agents, and start them again',
    )


async def test_the_default_is_read_from_consul_itself() -> None:
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, json={"DebugConfig": {"DefaultIntentionPolicy": "deny"}})
    )
    catalog = ConsulCatalog("http://127.0.0.1:8500", None, transport)
    (finding,) = await access_policy.denied_by_default(snapshot_of(the_target(), catalog=catalog))
    assert finding == holds("Consul at http://127.0.0.1:8500 denies what no intention allows")
    with pytest.raises(CannotTry, match="away"):
        await access_policy.denied_by_default(snapshot_of(the_target(), catalog=catalog, registrations=Unknown("away")))
    await catalog.close()
