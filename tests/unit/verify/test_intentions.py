"""What intentions decide, and how a call is judged by them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.snapshots import snapshot_of
from tests.unit.verify.sample_mesh import AT_CONSUL, REPAIRS, intention, the_target

from mcpmesh.mcp.mcp_client import Forbidden
from mcpmesh.model.observed_state import Intention, Unknown
from mcpmesh.verify.claims.call_verdict import intention_for, judge_call, judged_call
from mcpmesh.verify.claims.intentions import deciding_intention, exact_intention, is_denial_by_user, pair
from mcpmesh.verify.finding import Finding, fails, holds

ANY_TO_ANY, ANY_TO_FILES = intention("*", "*"), intention("*", "files", "deny")
GIT_TO_ANY, GIT_TO_FILES = intention("git", "*", "deny"), intention("git", "files")
OURS, DENIED_BY_USER = intention("git", "files", owner="m"), intention("git", "files", "deny")
ENVOY_LOG = "does its Envoy hear of Consul? see /home/m/logs/m-files-*.sidecar.log"


@pytest.mark.parametrize(
    ("present", "source", "decides"),
    [
        ([ANY_TO_ANY, ANY_TO_FILES, GIT_TO_FILES, GIT_TO_ANY], "git", GIT_TO_FILES),
        ([ANY_TO_ANY, GIT_TO_ANY, ANY_TO_FILES], "git", ANY_TO_FILES),
        ([ANY_TO_ANY, GIT_TO_ANY], "git", GIT_TO_ANY),
        ([GIT_TO_ANY, ANY_TO_ANY], "time", ANY_TO_ANY),
        ([GIT_TO_FILES, GIT_TO_ANY], "time", None),
        ([intention("*", "memory"), intention("git", "memory")], "git", None),
        ([], "git", None),
    ],
)
def test_the_most_specific_intention_decides(present: list[Intention], source: str, decides: Intention | None) -> None:
    assert deciding_intention(present, source, "files") is decides


def test_an_exact_intention_has_that_source_and_that_destination() -> None:
    others = [ANY_TO_ANY, ANY_TO_FILES, GIT_TO_ANY, intention("git", "memory"), intention("time", "files")]
    assert exact_intention(others, "git", "files") is None
    assert exact_intention([*others, GIT_TO_FILES], "git", "files") is GIT_TO_FILES


@pytest.mark.parametrize(
    ("found", "denied"),
    [
        (DENIED_BY_USER, True),
        (intention("git", "files", "deny", owner="m"), False),
        (intention("git", "files", "deny", owner="n"), False),
        (intention("git", "files", "allow"), False),
        (intention("*", "files", "deny"), False),
        (intention("git", "*", "deny"), False),
        (None, False),
    ],
)
def test_only_a_denial_of_the_very_pair_that_a_user_wrote_is_a_denial_by_user(
    found: Intention | None, denied: bool
) -> None:
    assert is_denial_by_user(found, "git", "files") is denied


def test_a_pair_is_written_as_consul_writes_it() -> None:
    assert pair(GIT_TO_FILES) == "git => files"


@pytest.mark.parametrize(
    ("passed", "found", "finding"),
    [
        (True, OURS, holds("seen")),
        (True, None, holds("seen")),
        (True, ANY_TO_FILES, holds("seen")),
        (True, DENIED_BY_USER, fails("seen, though a person denied git => files", ENVOY_LOG)),
        (
            False,
            DENIED_BY_USER,
            holds(
                "seen, as a person wants it: git => files (deny); "
                f"to undo that: consul intention delete {AT_CONSUL} git files"
            ),
        ),
        (False, OURS, fails("seen, though Consul has git => files (allow)", ENVOY_LOG)),
        (
            False,
            None,
            fails(
                "seen: no intention lets git call files",
                f"see: consul intention check {AT_CONSUL} git files; {REPAIRS}",
            ),
        ),
        (
            False,
            ANY_TO_FILES,
            fails(
                "seen: no intention lets git call files",
                f"see: consul intention check {AT_CONSUL} git files; {REPAIRS}",
            ),
        ),
    ],
)
def test_a_call_is_judged_by_the_intention_that_decides(
    passed: bool, found: Intention | None, finding: Finding
) -> None:
    assert judge_call(the_target(), "git", "files", "seen", passed, found) == finding


def test_of_another_consul_the_list_of_intentions_is_the_next_step() -> None:
    target = the_target()
    target.settings.consul.address = "http://consul:8500"
    finding = judge_call(target, "git", "files", "seen", False, None)
    assert finding.next_step.startswith("see: consul intention list -http-addr=http://127.0.0.1:8500; the agent")


def test_intentions_that_cannot_be_read_decide_nothing() -> None:
    assert intention_for(snapshot_of(the_target(), intentions=Unknown("away")), "git", "files") is None
    assert intention_for(snapshot_of(the_target(), intentions=(OURS,)), "git", "files") is OURS


async def call_with(outcomes: Iterator[bool], found: tuple[Intention, ...]) -> tuple[Finding, int]:
    """The finding for a call that passes or is refused by turns, and how often it was made."""
    calls = 0

    async def call() -> str:
        nonlocal calls
        calls += 1
        if next(outcomes):
            return f"answer {calls}"
        raise Forbidden(f"refusal {calls}")

    return await judged_call(snapshot_of(the_target(), intentions=found), "git", "files", call), calls


async def test_a_call_that_goes_as_intended_is_made_once() -> None:
    assert await call_with(iter([True]), (OURS,)) == (holds("answer 1"), 1)
    finding, calls = await call_with(iter([False]), (DENIED_BY_USER,))
    assert (finding.ok, calls) == (True, 1)


async def test_a_call_that_old_intentions_still_decide_is_made_again() -> None:
    assert await call_with(iter([False, False, True]), (OURS,)) == (holds("answer 3"), 3)
    finding, calls = await call_with(iter([True, False]), (DENIED_BY_USER,))
    assert (finding.ok, calls) == (True, 2)


async def test_a_call_that_never_goes_as_intended_is_made_six_times() -> None:
    finding, calls = await call_with(iter([False] * 9), (OURS,))
    assert (finding, calls) == (fails("refusal 6, though Consul has git => files (allow)", ENVOY_LOG), 6)
    assert await call_with(iter([True] * 9), ()) == (holds("answer 6"), 6)
