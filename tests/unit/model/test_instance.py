"""What makes another instance of a service: all that a running one depends on, and nothing else."""

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
def test_a_shim_is_started_anew_for_times_that_it_was_told(spec: ServiceSpec, timeouts: Timeouts) -> None:
    assert workload_digest(replace(spec, timeouts=timeouts), KEY) != workload_digest(spec, KEY)


@pytest.mark.parametrize("timeouts", CHANGES)
def test_a_program_that_was_told_no_times_runs_on(timeouts: Timeouts) -> None:
    assert workload_digest(replace(PLAIN, timeouts=timeouts), KEY) == workload_digest(PLAIN, KEY)


@pytest.mark.parametrize("spec", [STDIO, REMOTE, PLAIN])
def test_what_the_agent_alone_goes_by_starts_nothing_anew(spec: ServiceSpec) -> None:
    assert workload_digest(replace(spec, route="/elsewhere", instances=3), KEY) == workload_digest(spec, KEY)
