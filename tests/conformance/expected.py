"""What can't be passed, and why: scenarios that ask of a server what one of its era does not say.

Whoever adds a line here has found the reason in the specification. A scenario
that is listed and passes fails the run, so that no line outlives its reason.
"""

from __future__ import annotations

from tests.conformance.targets import Target

# The scenario insists on the name "user_name" that its own fixture gives to an input request. A server of the older
# protocol asks with a request that has an id and no name, so whoever translates has to make one up: any will do for a
# client, which only sends it back.
NAMES_ITS_QUESTION = "the older protocol's questions have no names, and the suite insists on its fixture's own"

IMPOSSIBLE: dict[tuple[str, str], dict[str, str]] = {
    ("legacy", "2026-07-28"): {"input-required-result-basic-elicitation": NAMES_ITS_QUESTION},
}


def impossible(target: Target, revision: str) -> dict[str, str]:
    """Scenarios that this target can't pass, with the reason."""
    return IMPOSSIBLE.get((target.era, revision), {})


# A question is refused after a call that was cancelled and not answered, since the one process of all callers may
# still be at work on that (docs/decisions/0012). The suite cancels a call first and then has questions asked.
AFTER_A_CANCEL = "over one shared process, questions are refused after a cancelled call that stays unanswered"

UNFIT: dict[tuple[str, str, str], str] = {("legacy", "shared", "2026-07-28"): AFTER_A_CANCEL}


def unfit(target: Target, revision: str) -> str | None:
    """Why the suite's scenarios of this revision can't be run one after another against this target."""
    return UNFIT.get((target.era, target.isolation, revision))


# Where each call has a process of its own, a call that finds no spare waits for a Python server to start, and this
# scenario gives some of its calls half a second.
IN_A_HURRY = "it allows half a second for a call that starts a process"

MAY_FAIL: dict[tuple[str, str], dict[str, str]] = {("request", "2026-07-28"): {"server-stateless": IN_A_HURRY}}


def may_fail(target: Target, revision: str) -> dict[str, str]:
    """Scenarios whose outcome depends on the machine, with the reason."""
    return MAY_FAIL.get((target.isolation, revision), {})
