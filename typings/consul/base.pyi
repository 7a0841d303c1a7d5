"""The few names of python-consul2 that `mcpmesh.consul.transport` and `mcpmesh.consul.client` use."""

from collections.abc import Awaitable, Mapping
from typing import Any, NamedTuple

class Response(NamedTuple):
    code: int
    headers: Mapping[str, str]
    body: str
    content: bytes

class HTTPClient:
    def __init__(self, host: str = ..., port: int = ..., scheme: str = ...) -> None: ...

class Consul:
    agent: Consul.Agent
    config: Consul.Config
    connect: Consul.Connect
    status: Consul.Status
    http: Any
    token: str | None
    dc: str | None
    consistency: str

    class Agent:
        service: Consul.Agent.Service
        connect: Consul.Agent.Connect
        def __init__(self, agent: Consul) -> None: ...
        def self(self) -> Awaitable[Any]: ...
        def services(self) -> Awaitable[Any]: ...
        def checks(self) -> Awaitable[Any]: ...

        class Service:
            def deregister(self, service_id: str) -> Awaitable[Any]: ...
            def maintenance(self, service_id: str, enable: str, reason: str | None = ...) -> Awaitable[Any]: ...

        class Connect:
            def root_certificates(self) -> Awaitable[Any]: ...

    class Config:
        def __init__(self, agent: Consul) -> None: ...
        def put(self, data: Mapping[str, Any], cas: str | None = ...) -> Awaitable[Any]: ...
        def get(self, kind: str, name: str) -> Awaitable[Any]: ...
        def list(self, kind: str) -> Awaitable[Any]: ...

    class Connect:
        intentions: Consul.Connect.Intentions
        def __init__(self, agent: Consul) -> None: ...

        class Intentions:
            def create(
                self,
                source_name: str,
                destination_name: str,
                source_type: str,
                action: str,
                description: str | None = ...,
            ) -> Awaitable[Any]: ...
            def list(self) -> Awaitable[Any]: ...
            def delete(self, intention_id: str) -> Awaitable[Any]: ...

    class Status:
        def __init__(self, agent: Consul) -> None: ...
        def leader(self) -> Awaitable[Any]: ...
