"""The keys of a mesh.yaml, as pydantic models and as a JSON Schema.

The models hold one service after its variables were filled in; what depends on
several keys or services is in `checks`. Descriptions go into the schema that
editors show.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Literal

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
    Name,
    Port,
    Program,
    Route,
    Seconds,
    Text,
    Url,
    UrlPath,
)

VERSION = 1


class Keys(BaseModel):
    """A mapping with known keys; those that begin with `x-` are anybody's."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={"patternProperties": {"^x-": {}}},
    )

    @model_validator(mode="before")
    @classmethod
    def _without_foreign(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: inner for key, inner in value.items() if not key.startswith("x-")}


class UpstreamKeys(Keys):
    """Another service that this one calls on 127.0.0.1."""

    service: Name = Field(description="The service that is called.")
    port: Port | None = Field(None, description="The port on 127.0.0.1; chosen free by default.")


class ListeningKeys(Keys):
    """A service that is no MCP server: the address of something that runs, or a program that listens on $PORT."""

    address: Address | None = Field(None, description="host:port of something that runs already.")
    command: Program | None = Field(None, description="A program that is launched and listens on 127.0.0.1:$PORT.")
    args: list[Argument] | None = Field(None, description="Its arguments.")


class TimeoutKeys(Keys):
    """How long things may take: 30s, 5m, 1m30s, or a number of seconds."""

    start: Seconds | None = Field(None, description="From launch to the first answer. Default 60s.")
    request: Seconds | None = Field(None, description="One call, streams included. Default 24h.")
    drain: Seconds | None = Field(None, description="What a stopping instance gives to calls under way. Default 10s.")


class HealthKeys(Keys):
    """How the service is checked."""

    interval: Interval | None = Field(None, description="Time between checks. Default 2s.")
    path: UrlPath | None = Field(
        None, description="Of a plain HTTP service: the path that answers 2xx while it is well."
    )


class _OrText:
    """A mapping that can be written as the text of its one important key."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def spelt_out(value: Any) -> Any:
            return {self.key: value} if isinstance(value, str) else value

        return core_schema.no_info_before_validator_function(spelt_out, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(schema)]}


UpstreamEntry = Annotated[UpstreamKeys, _OrText("service")]
ListeningEntry = Annotated[ListeningKeys, _OrText("address")]


class CommonKeys(Keys):
    """What `defaults` can say for every service."""

    cwd: Text | None = Field(
        None, description="Working directory, relative to this file's folder, which is the default."
    )
    env: Environment | None = Field(
        None, description="Environment of the program: ${VAR}, ${VAR:-default}, file:PATH, or the value itself."
    )
    instances: Annotated[int, Strict(), Field(ge=1, le=100)] | None = Field(
        None, description="How many are run side by side. Default 1."
    )
    tags: list[Annotated[str, Field(min_length=1, max_length=255)]] | None = Field(
        None, description="Words kept with the service in Consul."
    )
    timeouts: TimeoutKeys | None = None
    isolation: Literal["session", "shared", "request"] | None = Field(
        None,
        description="Who shares a child process of a stdio server: nobody but the session (default), all, "
        "or not even two requests.",
    )
    allow: list[Identity] | None = Field(
        None, description='Which services may call this one; "*" is everybody. The ingress may where there is a route.'
    )
    health: HealthKeys | None = None
    balance: Literal["least_request", "round_robin", "random"] | None = Field(
        None, description="How callers choose among instances. Default least_request."
    )


class ServiceKeys(CommonKeys):
    """One service. It needs one of `command`, `image`, `url`, `http` and `tcp`."""

    command: Program | None = Field(
        None,
        description="A stdio MCP server: program, or list of program and arguments; with a slash, relative to cwd.",
    )
    image: Image | None = Field(
        None, description="A stdio MCP server in an image such as mcp/time:1.0, run in a container (compose.yaml)."
    )
    args: list[Argument] | None = Field(None, description="Arguments of the program.")
    egress: Annotated[bool, Strict()] | None = Field(
        None, description="Whether it may reach the internet, where it runs in a container. Default false; url always."
    )
    url: Url | None = Field(None, description="A remote MCP server that speaks Streamable HTTP.")
    headers: Headers | None = Field(None, description="Headers sent to `url`; values like those of env.")
    http: ListeningEntry | None = Field(None, description="An HTTP service that is no MCP server.")
    tcp: ListeningEntry | None = Field(None, description="A TCP service.")
    upstreams: list[UpstreamEntry] | None = Field(None, description="Services that this one calls on 127.0.0.1.")
    route: Route | None = Field(
        None,
        description="Path at the ingress. Default /mcp/<name> for MCP servers and none for others; false for none.",
    )
    disabled: Annotated[bool, Strict()] | None = Field(None, description="Leave the service out.")


class MeshKeys(Keys):
    """The services of a mesh."""

    version: Literal[1] = Field(description="The version of this format.")
    defaults: CommonKeys | None = Field(None, description="What every service begins with; its own keys win.")
    services: dict[Name, ServiceKeys | None] | None = Field(
        None, description="The services by name. In a later file, null removes one."
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of mesh.yaml for editors; it knows single keys, not what depends on several."""
    schema = _plainer(MeshKeys.model_json_schema())
    schema["properties"]["$schema"] = {"type": "string"}
    # Pydantic says what the names of services look like, not that there are no others.
    schema["properties"]["services"]["anyOf"][0]["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mesh.yaml", **schema}


def published() -> str:
    """The text of docs/mesh.schema.json."""
    return json.dumps(json_schema(), indent=2) + "\n"


def _plainer(schema: Any) -> Any:
    """Without titles that repeat the key, and defaults that say nothing."""
    if isinstance(schema, list):
        return [_plainer(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not (key == "default" and value is None)}
    return {key: _plainer(value) for key, value in kept.items() if not (key == "title" and isinstance(value, str))}


if __name__ == "__main__":
    sys.stdout.write(published())
