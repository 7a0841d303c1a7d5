"""What requests carry, and how the answers are described in OpenAPI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mcpmesh.model.report_items import Step, Tool


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path: the agent has a working directory of its own")
    return path


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PlanRequest(_Body):
    """Catalog files to plan for; none means those that run."""

    sources: list[Annotated[Path, AfterValidator(_absolute)]] = Field(default=[], max_length=64)


class VerifyRequest(_Body):
    """Services to prove; none means all, and the mesh itself."""

    services: list[str] = Field(default=[], max_length=1024)


class CallRequest(_Body):
    """One call of a tool."""

    service: str
    tool: str
    arguments: dict[str, Any] = {}


class ScaleRequest(_Body):
    """How many instances; none means as many as the catalog says."""

    service: str
    instances: int | None = Field(default=None, ge=1, le=100)


class Steps(BaseModel):
    """What would be done, in order."""

    steps: list[Step]


class Tools(BaseModel):
    """Tools, by service in the order of the catalog."""

    tools: list[Tool]


class IngressDocument(BaseModel):
    """A declarative document of Kong's."""

    document: dict[str, Any]


class LogLine(BaseModel):
    """One line of a log, without its line break."""

    line: str


class CatalogProblem(BaseModel):
    """One mistake in a catalog."""

    path: str
    line: int | None
    field: str
    message: str


class ProblemDocument(BaseModel):
    """RFC 9457; `detail` is a whole sentence for the operator."""

    type: str
    title: str
    status: int
    detail: str
    problems: list[CatalogProblem] | None = None
