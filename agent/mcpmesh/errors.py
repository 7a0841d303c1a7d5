"""Every error that a person can cause or mend.

    MeshError
      CatalogError     file, line, field, what would be right
        DocumentError  likewise, of a person's own documents for Kong
      SettingsError    a setting that cannot be used
      PeerError        consul | envoy | ingress | agent | server
        Unreachable    retry
        Broken         retry          5xx, unreadable
        Refused        do not retry   4xx, ACL
      WorkloadError    exit code, last lines of output
      NotOurs          exists, and carries no mark of ours

A message begins with "cannot", names the thing and says the next step. What
is not a MeshError is a bug and ends the program.
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
    """A catalog that cannot be used; `problems` has one entry for each mistake in it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("cannot use the catalog:\n" + "\n".join(f"  {problem}" for problem in problems))


class DocumentError(CatalogError):
    """Documents for Kong that cannot be used: a mistake in one, or two that want the same thing."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        MeshError.__init__(
            self, "cannot use the documents for Kong:\n" + "\n".join(f"  {problem}" for problem in problems)
        )


class SettingsError(MeshError):
    """A setting that cannot be used; the message names it."""


class PeerError(MeshError):
    """Something that we talk to did not do as asked."""


class Unreachable(PeerError):
    """Nobody answered; the same call may succeed later."""


class Broken(PeerError):
    """It answered 5xx or something unreadable; the same call may succeed later."""


class Refused(PeerError):
    """It understood and said no; the same call will be refused again."""


class WorkloadError(MeshError):
    """A program of the catalog could not be started or did not stay up."""


class NotOurs(MeshError):
    """A thing of that name exists and carries no mark of ours, so it is left alone."""
