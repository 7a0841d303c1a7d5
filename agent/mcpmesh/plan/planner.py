"""The planner: from desired and observed state to the next actions; pure.

A plan has the actions that are possible now, in order within each group. What
has to be waited for is in `waiting`; the next pass looks at it again. So an
agent that is interrupted anywhere just plans again from what it then observes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mcpmesh.model.agent_reports import Step
from mcpmesh.model.observed_state import ObservedState, Unknown
from mcpmesh.plan.action_groups import KONG_DOCUMENT, STRAYS, ActionGroup, ingress_group, service_group
from mcpmesh.plan.actions import Action, EndStray, StartWorkload
from mcpmesh.plan.desired_state import DesiredService, DesiredState
from mcpmesh.plan.gateway_setup import set_up_gateway
from mcpmesh.plan.ingress_removal import remove_ingress
from mcpmesh.plan.kong_setup import post_document, set_up_kong
from mcpmesh.plan.planner_input import PlannerInput
from mcpmesh.plan.service_removal import remove_surplus
from mcpmesh.plan.service_setup import set_up_service


@dataclass(frozen=True)
class Plan:
    """Actions by group, each group in order; and what is waited for."""

    actions: Mapping[ActionGroup, tuple[Action, ...]] = field(default_factory=dict)
    waiting: tuple[Step, ...] = ()

    @property
    def in_sync(self) -> bool:
        """Whether nothing is to be done and nothing is waited for."""
        return not self.actions and not self.waiting

    def steps(self) -> list[Step]:
        """The plan in sentences."""
        applied = [Step(str(group), str(action)) for group, actions in self.actions.items() for action in actions]
        return [*applied, *self.waiting]


# What the parts of the planner give: the items of one group.
_Items = tuple[ActionGroup, Iterable[Action | Step]]


def plan(desired: DesiredState, observed: ObservedState) -> Plan:
    """The next actions; none once the observed state is the desired one."""
    state = PlannerInput.of(desired, observed)
    parts = _without_consul(desired, observed) if state is None else _with_consul(state)
    actions: dict[ActionGroup, list[Action]] = {}
    waiting: list[Step] = []
    for group, items in (*parts, (STRAYS, map(EndStray, observed.strays))):
        for item in items:
            if isinstance(item, Step):
                waiting.append(item)
            else:
                actions.setdefault(group, []).append(item)
    return Plan({group: tuple(found) for group, found in actions.items()}, tuple(waiting))


def _without_consul(desired: DesiredState, observed: ObservedState) -> Iterator[_Items]:
    """Unknown is not empty: while Consul can't be read, only missing workloads are started."""
    for name, wanted in desired.services.items():
        yield service_group(name), _missing_workloads(wanted, observed)
    peers = (observed.registrations, observed.entries, observed.intentions)
    reason = next(peer.reason for peer in peers if isinstance(peer, Unknown))
    yield service_group("consul"), [Step("consul", f"wait for Consul: {reason}", waiting=True)]


def _with_consul(state: PlannerInput) -> Iterator[_Items]:
    desired = state.desired
    group, ingress = ingress_group(desired.ingress_service), desired.ingress
    if ingress is None:
        yield group, remove_ingress(state)
    elif ingress.kong:
        yield group, set_up_kong(state, ingress, ingress.kong)
        yield KONG_DOCUMENT, post_document(state, ingress, ingress.kong)
    else:
        yield group, set_up_gateway(state, ingress)
    if _ingress_still_runs(state):
        return
    for name in sorted(state.services_found() | desired.services.keys()):
        if wanted := desired.services.get(name):
            yield service_group(name), set_up_service(state, wanted)
        yield service_group(name), remove_surplus(state, name, desired.services.get(name))


def _ingress_still_runs(state: PlannerInput) -> bool:
    """Whether an unwanted ingress still runs: it goes first, so that no caller meets a half-stopped mesh."""
    kong = state.observed.kong
    kong_runs = kong is not None and kong.pid is not None
    return state.desired.ingress is None and (state.desired.ingress_id in state.observed.sidecars or kong_runs)


def _missing_workloads(wanted: DesiredService, observed: ObservedState) -> Iterator[Action]:
    for instance in wanted.instances:
        if instance.id not in observed.workloads and instance.id not in observed.held_back:
            yield StartWorkload(instance)
