"""Every error that a person can cause or fix.

    MeshError
      CatalogError     file, line, field, what would be right
        DocumentError  the same, in the user's own documents for Kong
      SettingsError    a setting that cannot be used
      PeerError        consul | envoy | ingress | agent | server
        Unreachable    retry
        Broken         retry          5xx, unreadable
        Refused        do not retry   4xx, ACL
      WorkloadError    exit code, last lines of output
      NotOurs          exists, and carries no mark of ours

A message begins with "cannot", names the thing and says the next step. Any
other exception is a bug and ends the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class MeshError(Exception):
    """The root: `str(error)` is a whole sentence for the operator."""


class ProblemKind(Enum):
    """Kinds of problems that a caller treats differently."""

    MISTAKE = "mistake"
    EMPTY = "empty"  # the file holds nothing, or nothing but comments


@dataclass(frozen=True)
class Problem:
    """A mistake in a catalog: its file, line (from 1) and field, and what would be right."""

    path: Path
    line: int | None
    field: str
    message: str
    kind: ProblemKind = ProblemKind.MISTAKE

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else str(self.path)
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"


class CatalogError(MeshError):
    """The catalog cannot be used; `problems` has an entry for each mistake in it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("cannot use the catalog:\n" + "\n".join(f"  {problem}" for problem in problems))


class DocumentError(CatalogError):
    """The user's documents for Kong cannot be used: one has a mistake, or two define the same thing."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        MeshError.__init__(
            self, "cannot use the documents for Kong:\n" + "\n".join(f"  {problem}" for problem in problems)
        )


class SettingsError(MeshError):
    """A setting cannot be used; the message names it."""


class PeerError(MeshError):
    """A program that mcpmesh talks to did not do as requested: Consul, Envoy, Kong, Docker, the agent, a server."""


class Unreachable(PeerError):
    """It did not answer; the same request may succeed later."""


class Broken(PeerError):
    """It answered 5xx or something unreadable; the same request may succeed later."""


class Refused(PeerError):
    """It understood the request and refused it; the same request will be refused again."""


class WorkloadError(MeshError):
    """A program of the catalog could not be started or did not stay up."""


class NotOurs(MeshError):
    """A thing of that name exists without a mark of this mesh, so it is left as it is."""
