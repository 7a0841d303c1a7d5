"""From what is wanted and what was seen to what to do next; pure.

A plan holds the actions that are possible now, in order for each service; what
must be waited for is said in `waiting` and looked at again in the next pass.
So every point at which we may be interrupted is just another place to begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mcpmesh.model.observed_state import ObservedState, Unknown
from mcpmesh.model.report_items import Step
from mcpmesh.plan import kong_setup, service_removal, service_setup
from mcpmesh.plan.actions import Action, EndStray, StartWorkload
from mcpmesh.plan.desired_state import DesiredService, DesiredState
from mcpmesh.plan.mesh_state import MeshState


@dataclass(frozen=True)
class Plan:
    """Deeds by service, in order; and what each waits for."""

    actions: Mapping[str, tuple[Action, ...]] = field(default_factory=dict)
    waiting: tuple[Step, ...] = ()

    @property
    def in_sync(self) -> bool:
        """Nothing to do and nothing to wait for."""
        return not self.actions and not self.waiting

    def steps(self) -> list[Step]:
        """The plan in sentences."""
        return [Step(name, str(action)) for name, actions in self.actions.items() for action in actions] + list(
            self.waiting
        )


def plan(desired: DesiredState, observed: ObservedState) -> Plan:
    """What to do next; empty when the world is as wanted."""
    actions: dict[str, list[Action]] = {}
    waiting: list[Step] = []

    def gather(name: str, items: Iterable[Action | Step]) -> None:
        for item in items:
            if isinstance(item, Step):
                waiting.append(item)
            else:
                actions.setdefault(name, []).append(item)

    registrations, entries, intentions = observed.registrations, observed.entries, observed.intentions
    if isinstance(registrations, Unknown) or isinstance(entries, Unknown) or isinstance(intentions, Unknown):
        # Unknown is not empty: only what Consul has no say in may be done.
        reason = next(peer.reason for peer in (registrations, entries, intentions) if isinstance(peer, Unknown))
        for name, wanted in desired.services.items():
            gather(name, _missing_workloads(wanted, observed))
        gather("consul", [Step("consul", f"wait for Consul: {reason}", waiting=True)])
    else:
        state = MeshState(desired, observed, registrations, entries, intentions)
        if desired.ingress is None:
            gather(desired.ingress_service, service_removal.ingress(state))
        elif desired.ingress.kong:
            gather(desired.ingress_service, kong_setup.kong(state, desired.ingress, desired.ingress.kong))
            # Apart from the rest: a document that Kong refuses holds nothing else up.
            gather(kong_setup.DOCUMENT, kong_setup.document(state, desired.ingress, desired.ingress.kong))
        else:
            gather(desired.ingress_service, service_setup.gateway(state, desired.ingress))
        # On the way down the ingress goes first, so that no caller meets a half-stopped mesh.
        kong_runs = observed.kong is not None and observed.kong.pid is not None
        closing = desired.ingress is None and (desired.ingress_id in observed.sidecars or kong_runs)
        names = set() if closing else state.services_seen() | desired.services.keys()
        for name in sorted(names):
            if wanted_here := desired.services.get(name):
                gather(name, service_setup.service(state, wanted_here))
            gather(name, service_removal.service(state, name, desired.services.get(name)))
    gather("mesh", map(EndStray, observed.strays))
    return Plan({name: tuple(found) for name, found in actions.items()}, tuple(waiting))


def _missing_workloads(wanted: DesiredService, observed: ObservedState) -> Iterator[Action]:
    for instance in wanted.instances:
        if instance.id not in observed.workloads and instance.id not in observed.held:
            yield StartWorkload(instance)
