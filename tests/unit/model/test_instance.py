"""Which changes of a spec replace a running instance: those that it depends on, and no others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mcpmesh.model.instance import workload_digest
from mcpmesh.model.service import Plain, Protocol, Remote, ServiceSpec, Stdio, Timeouts

KEY = b"k" * 32
STDIO = ServiceSpec("files", Stdio("mcp-server-files"))
REMOTE = ServiceSpec("files", Remote("https://files.example/mcp"))
PLAIN = ServiceSpec("files", Plain(Protocol.HTTP, command="files"))
CHANGES = [Timeouts(start=1.0), Timeouts(request=1.0), Timeouts(drain=1.0)]


@pytest.mark.parametrize("timeouts", CHANGES)
@pytest.mark.parametrize("spec", [STDIO, REMOTE])
def test_other_timeouts_replace_a_shim_which_gets_them_at_its_start(spec: ServiceSpec, timeouts: Timeouts) -> None:
    assert workload_digest(replace(spec, timeouts=timeouts), KEY) != workload_digest(spec, KEY)


@pytest.mark.parametrize("timeouts", CHANGES)
def test_other_timeouts_leave_a_plain_program_running(timeouts: Timeouts) -> None:
    assert workload_digest(replace(PLAIN, timeouts=timeouts), KEY) == workload_digest(PLAIN, KEY)


@pytest.mark.parametrize("spec", [STDIO, REMOTE, PLAIN])
def test_a_change_that_only_the_agent_uses_replaces_nothing(spec: ServiceSpec) -> None:
    assert workload_digest(replace(spec, route="/elsewhere", instances=3), KEY) == workload_digest(spec, KEY)
