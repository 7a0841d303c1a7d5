"""The exit codes, which scripts rely on."""

from __future__ import annotations

from mcpmesh.errors import CatalogError, MeshError, SettingsError

OK = 0
FAILED = 1  # a claim of `verify` or a call of a tool failed
INPUT = 2  # the catalog, a setting or the command line cannot be used
NO_AGENT = 3  # no agent of that mesh can be reached
NOT_READY = 4  # the mesh runs, but not all of it is ready
LOST = 5  # the agent ended while the command needed it
REFUSED = 6  # the agent, or a peer that it asked, refused or failed
CHANGES = 7  # plan --exit-code: there is something to do
INTERRUPTED = 130  # Ctrl-C

TABLE = (
    (OK, "done; status, up --detach: everything is ready"),
    (FAILED, "verify: a claim failed; call: the tool reports an error"),
    (INPUT, "the catalog, a setting or the command line is wrong"),
    (NO_AGENT, "no agent of that mesh can be reached"),
    (NOT_READY, "status, up --detach: the mesh runs, but not all is ready"),
    (LOST, "up: the agent ended unexpectedly"),
    (REFUSED, "the agent, or a peer that it asked, refused or failed"),
    (CHANGES, "plan --exit-code: something would change"),
    (INTERRUPTED, "stopped by Ctrl-C before it was done"),
)


def code_of(error: MeshError) -> int:
    """The exit code of a command that ended with `error`."""
    from mcpmesh.api.problem_documents import NoAgent, UnknownService

    if isinstance(error, CatalogError | SettingsError | UnknownService):
        return INPUT
    return NO_AGENT if isinstance(error, NoAgent) else REFUSED
