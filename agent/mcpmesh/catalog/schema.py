"""The keys of a mesh.yaml, as pydantic models and as a JSON Schema.

The models hold one service after its variables were expanded. Rules about several keys are in `validate`, rules about
several services in `cross_references`. Defaults stand in `model.service`: here a key that is not given is None.
Descriptions go into the schema, which editors show.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, Strict, model_validator
from pydantic_core import CoreSchema, core_schema

from mcpmesh.catalog.field_types import (
    Address,
    Argument,
    Environment,
    Headers,
    Identity,
    Image,
    Interval,
    IsolationWord,
    Name,
    Port,
    Program,
    Route,
    Seconds,
    Text,
    Url,
    UrlPath,
    duration_text,
)
from mcpmesh.model.service import Balance, Health, ServiceSpec, Stdio, Timeouts, default_route

VERSION = 1
# A key that begins so is never read, wherever it stands.
EXTENSION_PREFIX = "x-"


class AppliesTo(Enum):
    """The services to which a key applies. Without this annotation a key applies to all."""

    STDIO = "stdio"  # command or image
    PROGRAM = "program"  # all that the mesh launches, a command in http or tcp included
    REMOTE = "remote"  # url


class Variables(Enum):
    """How `${NAME}` is expanded in the texts of a key. Without this annotation it is not."""

    VISIBLE = "visible"  # the outcome is shown to everybody on the machine, as in a process list
    HIDDEN = "hidden"  # the outcome is shown nowhere, and a text can be file:PATH


class Keys(BaseModel):
    """A mapping with known keys. Others are allowed only with the prefix `x-`."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={"patternProperties": {f"^{EXTENSION_PREFIX}": {}}},
    )

    @model_validator(mode="before")
    @classmethod
    def _without_extensions(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: inner for key, inner in value.items() if not key.startswith(EXTENSION_PREFIX)}


class UpstreamKeys(Keys):
    """Another service that this one calls on 127.0.0.1."""

    service: Name = Field(description="The service that is called.")
    port: Port | None = Field(None, description="The port on 127.0.0.1. By default the mesh chooses a free one.")


class ListeningKeys(Keys):
    """A service that is not an MCP server: an address where it runs already, or a program that listens on $PORT."""

    address: Address | None = Field(None, description="host:port where the service runs already.")
    command: Program | None = Field(None, description="A program that is launched and listens on 127.0.0.1:$PORT.")
    args: list[Argument] | None = Field(None, description="Arguments of the program.")


class TimeoutKeys(Keys):
    """How long things may take: 30s, 5m, 1m30s, or a number of seconds."""

    start: Seconds | None = Field(
        None, description=f"From the launch to the first answer. Default {duration_text(Timeouts.start)}."
    )
    request: Seconds | None = Field(
        None, description=f"One call, its streams included. Default {duration_text(Timeouts.request)}."
    )
    drain: Seconds | None = Field(
        None,
        description=f"How long an instance that stops waits for calls to end. Default {duration_text(Timeouts.drain)}.",
    )


class HealthKeys(Keys):
    """How the service is checked."""

    interval: Interval | None = Field(
        None, description=f"Time between checks. Default {duration_text(Health.interval)}."
    )
    path: UrlPath | None = Field(
        None, description="Of a plain HTTP service: the path that answers 2xx while the service is healthy."
    )


class _TextFor:
    """Lets a text stand for the mapping that has it under `key`."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def as_mapping(value: Any) -> Any:
            return {self.key: value} if isinstance(value, str) else value

        return core_schema.no_info_before_validator_function(as_mapping, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(schema)]}


UpstreamEntry = Annotated[UpstreamKeys, _TextFor("service")]
ListeningEntry = Annotated[ListeningKeys, _TextFor("address")]


class CommonKeys(Keys):
    """Keys of a service that can also stand in `defaults`."""

    cwd: Annotated[Text | None, AppliesTo.PROGRAM, Variables.VISIBLE] = Field(
        None, description="Working directory, relative to this file's folder, which is the default."
    )
    env: Annotated[Environment | None, AppliesTo.PROGRAM, Variables.HIDDEN] = Field(
        None, description="Environment of the program: ${VAR}, ${VAR:-default}, file:PATH, or the value itself."
    )
    instances: Annotated[int, Strict(), Field(ge=1, le=100)] | None = Field(
        None, description=f"How many instances run. Default {ServiceSpec.instances}."
    )
    tags: list[Annotated[str, Field(min_length=1, max_length=255)]] | None = Field(
        None, description="Words stored with the service in Consul."
    )
    timeouts: TimeoutKeys | None = None
    isolation: Annotated[IsolationWord | None, AppliesTo.STDIO] = Field(
        None,
        description="Who shares a server process of a stdio server: the requests of one session, all callers, or "
        f"nobody, not even two requests. Default {Stdio.isolation.value}.",
    )
    allow: list[Identity] | None = Field(
        None, description='The services that may call this one; "*" is everybody. The ingress may if there is a route.'
    )
    health: HealthKeys | None = None
    balance: Balance | None = Field(
        None, description=f"How callers choose among instances. Default {ServiceSpec.balance}."
    )


class ServiceKeys(CommonKeys):
    """One service. It needs one of `command`, `image`, `url`, `http` and `tcp`."""

    command: Annotated[Program | None, Variables.VISIBLE] = Field(
        None,
        description="A stdio MCP server: program, or list of program and arguments; with a slash, relative to cwd.",
    )
    image: Image | None = Field(
        None, description="A stdio MCP server in an image such as mcp/time:1.0, run in a container (compose.yaml)."
    )
    args: Annotated[list[Argument] | None, AppliesTo.STDIO, Variables.VISIBLE] = Field(
        None, description="Arguments of the program."
    )
    egress: Annotated[bool, Strict()] | None = Field(
        None,
        description="Whether the service may reach the internet when it runs in a container. "
        f"Default {str(ServiceSpec.egress).lower()}; a url always may.",
    )
    url: Annotated[Url | None, Variables.VISIBLE] = Field(
        None, description="A remote MCP server that speaks Streamable HTTP."
    )
    headers: Annotated[Headers | None, AppliesTo.REMOTE, Variables.HIDDEN] = Field(
        None, description="Headers sent to `url`; values like those of env."
    )
    http: Annotated[ListeningEntry | None, Variables.VISIBLE] = Field(
        None, description="An HTTP service that is not an MCP server."
    )
    tcp: Annotated[ListeningEntry | None, Variables.VISIBLE] = Field(None, description="A TCP service.")
    upstreams: list[UpstreamEntry] | None = Field(None, description="Services that this one calls on 127.0.0.1.")
    route: Route | None = Field(
        None,
        description=f"Path at the ingress; false for none. Default {default_route('<name>')} for MCP servers, "
        "none for other services.",
    )
    disabled: Annotated[bool, Strict()] | None = Field(None, description="Leave the service out. Default false.")


class MeshKeys(Keys):
    """The services of a mesh."""

    version: Literal[1] = Field(description="The version of this format.")
    defaults: CommonKeys | None = Field(
        None, description="Values for all services; a service's own keys win over them."
    )
    services: dict[Name, ServiceKeys | None] | None = Field(
        None, description="The services by name. In a later file, null removes one."
    )


Marker = TypeVar("Marker", bound=Enum)


@functools.cache
def marked(kind: type[Marker]) -> Mapping[str, Marker]:
    """The keys of a service that are annotated with a word of `kind`, each with that word."""
    return {
        key: annotation
        for key, field in ServiceKeys.model_fields.items()
        for annotation in field.metadata
        if isinstance(annotation, kind)
    }


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a mesh.yaml for editors; it knows single keys, not the rules about several."""
    schema = _without_noise(MeshKeys.model_json_schema())
    schema["properties"]["$schema"] = {"type": "string"}
    # Pydantic writes the pattern of the names of services, but allows other names too.
    schema["properties"]["services"]["anyOf"][0]["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mesh.yaml", **schema}


def published() -> str:
    """The text of docs/mesh.schema.json."""
    return json.dumps(json_schema(), indent=2) + "\n"


def _without_noise(schema: Any) -> Any:
    """The schema without titles that repeat the key, and without `default: null`."""
    if isinstance(schema, list):
        return [_without_noise(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_noise(value)
        for key, value in schema.items()
        if not (key == "default" and value is None) and not (key == "title" and isinstance(value, str))
    }


if __name__ == "__main__":
    sys.stdout.write(published())
