"""The number of retries, set once for each cluster of each Envoy."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.reconcile.recording import RecordingTargets

from mcpmesh.envoy.bootstrap import retry_budget
from mcpmesh.errors import Unreachable
from mcpmesh.model.observed_state import Sidecar
from mcpmesh.reconcile.retry_budgets import RetryBudgets

ONE = Sidecar("one", "files", 7, 20001, "127.0.0.1:19001", ready=True, clusters=("a", "b"))
TWO = Sidecar("two", "time", 8, 20002, "127.0.0.1:19002", ready=True, clusters=("a",))


async def test_each_cluster_gets_its_budget_once() -> None:
    targets = RecordingTargets()
    budgets = RetryBudgets(targets.targets.envoys)
    for _ in range(2):
        await budgets.apply([ONE, TWO])
    await budgets.apply([replace(ONE, clusters=("a", "b", "c")), TWO])
    assert targets.calls == [
        ("envoys.set_runtime", ONE.admin, retry_budget({"a", "b"})),
        ("envoys.set_runtime", TWO.admin, retry_budget({"a"})),
        ("envoys.set_runtime", ONE.admin, retry_budget({"c"})),
    ]


async def test_an_envoy_that_is_not_ready_is_left_alone() -> None:
    targets = RecordingTargets()
    await RetryBudgets(targets.targets.envoys).apply([replace(ONE, ready=False)])
    assert targets.calls == []


async def test_an_envoy_that_does_not_answer_is_asked_again() -> None:
    targets = RecordingTargets()
    budgets = RetryBudgets(targets.targets.envoys)
    targets.answers["envoys.set_runtime"] = Unreachable("gone")
    await budgets.apply([ONE, TWO])
    targets.answers.clear()
    targets.calls.clear()
    await budgets.apply([ONE])
    await budgets.apply([ONE])
    assert targets.called() == ["envoys.set_runtime"]


async def test_an_envoy_that_has_ended_is_forgotten() -> None:
    targets = RecordingTargets()
    budgets = RetryBudgets(targets.targets.envoys)
    for sidecars in ([ONE], [], [ONE]):
        await budgets.apply(sidecars)
    assert targets.called() == ["envoys.set_runtime"] * 2
