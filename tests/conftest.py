"""For all tests: what is started here does not outlive the process that runs them, however that ends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, Phase, settings
from tests.support import guard

# A machine that stands still for a moment makes any example slow.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `make mutants` asks for it: the same examples each time, and no search for the smallest that fails.
settings.register_profile(
    "mutants", settings.get_profile("tests"), derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("tests")

_GUARD = pytest.StashKey["subprocess.Popen[bytes]"]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Marks what is started from here on, and has a guard wait for our end."""
    if session.config.getoption("numprocesses", None):
        return  # Others run the tests; they come here too.
    os.environ[guard.VARIABLE] = mark = f"{os.getpid()}-{os.urandom(4).hex()}"
    argv = [sys.executable, guard.__file__, mark]
    session.stash[_GUARD] = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Waits for what the guard may have to end."""
    if _GUARD in session.stash:
        session.stash[_GUARD].communicate()
