"""The official conformance suite against a shim alone and through a whole mesh: `make conformance`.

Prints a score for each target and revision, and each failed check by name;
ends with 0 only if every scenario passes that can be passed (`expected`). With
--all, isolation request too.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tests.conformance.expected import impossible, may_fail, unfit
from tests.conformance.suite import REVISIONS, NotInstalled, Score, node, run
from tests.conformance.targets import Target, bare, mesh

ALONE = [
    Target(),
    Target(isolation="shared"),
    Target(era="legacy"),
    Target(era="legacy", isolation="shared"),
    Target(era="modern"),
]
# Each call starts a process: minutes, so only with --all.
SLOW = [Target(isolation="request"), Target(era="legacy", isolation="request")]
# Two of each: a call that goes on with its client's input has to find the one that asked for it.
IN_A_MESH = [Target(instances=2), Target(era="legacy", instances=2)]
# Most of a run is the start of a server for each session: more at once than processors would not be faster.
AT_ONCE = 2


def judged(target: Target, address: str | None = None) -> bool:
    """Runs both revisions against one target; whether all passed that can."""
    with ExitStack() as stack:
        url = address or stack.enter_context(bare(target))
        verdicts = []
        for revision in REVISIONS:
            if reason := unfit(target, revision):
                print(f"{target} {revision} not run: {reason}", flush=True)
            else:
                verdicts.append(reported(target, revision, run(url, revision)))
        return all(verdicts)


def reported(target: Target, revision: str, score: Score) -> bool:
    """Prints a score; whether it is what it should be."""
    known, excused = impossible(target, revision), may_fail(target, revision)
    lines = [f"{target} {revision} {score}"]
    for scenario, checks in score.failed.items():
        why = f"can't be passed: {known[scenario]}" if scenario in known else excused.get(scenario)
        reason = f" ({why})" if why else ""
        lines.append(f"  failed {scenario}{reason}")
        lines += [f"    {check}" for check in checks]
    for scenario, checks in score.once.items():
        lines += [f"  passed {scenario} when it was run again", *(f"    {check}" for check in checks)]
    stale = sorted(known.keys() - score.failed.keys())
    lines += [f"  passed {scenario}, which expected.py calls impossible: remove it there" for scenario in stale]
    print("\n".join(lines), flush=True)
    return score.failed.keys() - excused.keys() == known.keys()


def main() -> int:
    """The exit code."""
    began = time.monotonic()
    try:
        node()
    except NotInstalled as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1
    with ThreadPoolExecutor(AT_ONCE) as pool:
        alone = ALONE + (SLOW if "--all" in sys.argv[1:] else [])
        verdicts = all_of(pool, [(target, None) for target in alone])
        with mesh(IN_A_MESH) as addresses:
            verdicts += all_of(pool, list(addresses.items()))
    print(f"{verdicts.count(True)} of {len(verdicts)} targets as expected, in {time.monotonic() - began:.0f} s")
    return 0 if all(verdicts) else 1


def all_of(pool: ThreadPoolExecutor, what: list[tuple[Target, str | None]]) -> list[bool]:
    """The verdicts on all of these."""
    return [verdict.result() for verdict in [pool.submit(judged, target, address) for target, address in what]]


if __name__ == "__main__":
    sys.exit(main())
