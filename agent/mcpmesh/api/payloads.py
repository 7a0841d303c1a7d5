"""The bodies of requests, and of answers as OpenAPI describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mcpmesh.model.agent_reports import Step, Tool


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path: the agent's working directory is another one")
    return path


class _RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PlanRequest(_RequestBody):
    """Catalog files to plan for; an empty list means the current ones."""

    sources: list[Annotated[Path, AfterValidator(_absolute)]] = Field(default=[], max_length=64)


class VerifyRequest(_RequestBody):
    """Services to verify; an empty list means all of them and the mesh itself."""

    services: list[str] = Field(default=[], max_length=1024)


class CallRequest(_RequestBody):
    """A call of a tool."""

    service: str
    tool: str
    arguments: dict[str, Any] = {}


class ScaleRequest(_RequestBody):
    """A number of instances; null means the catalog's number."""

    service: str
    instances: int | None = Field(default=None, ge=1, le=100)


class Steps(BaseModel):
    """The steps that the agent would take, in order."""

    steps: list[Step]


class Tools(BaseModel):
    """Tools, grouped by service in the order of the catalog."""

    tools: list[Tool]


class IngressDocument(BaseModel):
    """A declarative configuration of Kong."""

    document: dict[str, Any]


class LogLine(BaseModel):
    """A line of a log, without its line break."""

    line: str


class CatalogProblem(BaseModel):
    """A mistake in a catalog."""

    path: str
    line: int | None
    field: str
    message: str


class ProblemDocument(BaseModel):
    """A problem document of RFC 9457; `detail` is a whole sentence for the operator."""

    type: str
    title: str
    status: int
    detail: str
    problems: list[CatalogProblem] | None = None
