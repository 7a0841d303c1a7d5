"""Targets of actions that note each call, and fail where they are told to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tests.unit.plan.samples import MESH

from mcpmesh.envoy.bootstrap import ConsulAddress
from mcpmesh.kit.ports import PortAllocator
from mcpmesh.reconcile.action_executor import ActionExecutor
from mcpmesh.reconcile.action_targets import ActionTargets
from mcpmesh.reconcile.drain_tracker import DrainTracker
from mcpmesh.reconcile.envoy_launcher import EnvoyLauncher
from mcpmesh.reconcile.event_journal import Journal
from mcpmesh.reconcile.port_claims import PortClaims
from mcpmesh.reconcile.program_starter import ProgramStarter
from mcpmesh.settings import EnvoySettings

HOME = Path("/home/test")
SYNCHRONOUS = ("runtime.is_free", "kong.port_is_free", "kong.start", "kong.drain", "kong.last_error_line")


LAUNCHER = EnvoyLauncher(
    MESH, HOME, ConsulAddress(Path("consul"), "http://c", "c:1"), Path("/bin/envoy"), EnvoySettings()
)


class CountingAllocator(PortAllocator):
    """Gives the ports from 30001 on, whatever runs on this machine."""

    def __init__(self) -> None:
        super().__init__(30000)
        self.given = 30000

    def take(self, taken: Collection[int] = ()) -> int:
        self.given += 1
        while self.given in taken:
            self.given += 1
        return self.given


class RecordingTargets:
    """An executor whose calls are in `calls`, as (name, arguments).

    A call gives what `answers` has for its name (an error is raised), else None.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {
            "runtime.is_free": True,
            "kong.port_is_free": True,
            "runtime.last_log_line": "out of memory",
            "kong.last_error_line": "its last words: bad plugin",
            "kong.post": False,
        }
        self.now = 1000.0
        self.claims = PortClaims(CountingAllocator(), lambda: ())
        self.drains = DrainTracker(lambda: self.now)
        self.journal = Journal()
        targets: dict[str, Any] = {name: _Recorder(self, name) for name in ("consul", "runtime", "envoys", "kong")}
        self.targets = ActionTargets(**targets, claims=self.claims, drains=self.drains)
        starter = ProgramStarter(self.targets, LAUNCHER, lambda: self.now)
        self.executor = ActionExecutor(self.targets, starter, self.journal)

    def called(self) -> list[str]:
        """The names of the calls."""
        return [call[0] for call in self.calls]

    def answer(self, name: str, arguments: Collection[Any], more: Mapping[str, Any]) -> Any:
        """Notes a call."""
        self.calls.append((name, *arguments, *more.values()))
        found = self.answers.get(name)
        if isinstance(found, BaseException):
            raise found
        return found


class _Recorder:
    def __init__(self, targets: RecordingTargets, name: str) -> None:
        self._targets = targets
        self._name = name

    def __getattr__(self, method: str) -> Any:
        name = f"{self._name}.{method}"

        def call(*arguments: Any, **more: Any) -> Any:
            return self._targets.answer(name, arguments, more)

        async def call_later(*arguments: Any, **more: Any) -> Any:
            return self._targets.answer(name, arguments, more)

        return call if name in SYNCHRONOUS else call_later
