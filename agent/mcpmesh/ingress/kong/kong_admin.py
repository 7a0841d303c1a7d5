"""A client of Kong's Admin API.

Errors: Unreachable without an answer, Broken for 5xx and for what is no answer
of Kong's, Refused with Kong's own reasons where it rejects a document. Kong
then keeps the document that it had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from mcpmesh.errors import Broken, Refused, Unreachable
from mcpmesh.ingress.kong.document import DIGEST_TAG, OWNER_TAG, Document

# Kong answers in milliseconds; a large document takes longer.
_READ_SECONDS = 2.0
_POST_SECONDS = 30.0
# The largest page that Kong serves.
_PAGE_SIZE = 1000
# Kong loads one document at a time, and answers this meanwhile.
_BUSY = 429
_TOO_LARGE = 413


@dataclass(frozen=True)
class OwnedService:
    """A service in Kong with a mesh's tag: the port to which it leads, and its digest tag."""

    port: int
    digest: str


class KongAdmin:
    """Sends requests to Admin addresses ("http://host:port"); one object serves them all.

    `seconds` bounds each step of a request. `transport` replaces the network in tests.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, seconds: float = _READ_SECONDS) -> None:
        self._http = httpx.AsyncClient(timeout=seconds, trust_env=False, transport=transport)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def version(self, url: str) -> str:
        """Kong's version, such as "3.9.1"."""
        return str((await self._get(url, "/"))["version"])

    async def hash(self, url: str) -> str:
        """The hash of the document that it has (`Document.hash`)."""
        return str((await self._get(url, "/status"))["configuration_hash"])

    async def services(self, url: str, mesh: str) -> dict[str, OwnedService]:
        """Its services with this mesh's tag, by name."""
        found: dict[str, OwnedService] = {}
        path: str | None = f"/services?size={_PAGE_SIZE}&tags={OWNER_TAG}{mesh}"
        while path:
            page = await self._get(url, path)
            for item in page["data"]:
                tags = item.get("tags") or ()
                digest = next((tag.removeprefix(DIGEST_TAG) for tag in tags if tag.startswith(DIGEST_TAG)), "")
                found[str(item["name"])] = OwnedService(int(item["port"]), digest)
            path = page.get("next")
        return found

    async def post(self, url: str, document: Document) -> None:
        """Replaces its whole configuration, which is in force when this returns. Refused changes nothing there."""
        # As a text, so that Kong reports the hash that we compute.
        body = {"config": document.text, "flatten_errors": True}
        answer = await self._send(url, "POST", "/config", json=body, timeout=_POST_SECONDS)
        if answer.status_code == httpx.codes.CREATED:
            return
        if answer.status_code == _TOO_LARGE:
            raise Refused(f"cannot put the document into Kong at {url}: it is too large ({_message(answer)})")
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR or answer.status_code == _BUSY:
            raise Broken(f"cannot put the document into Kong at {url}: HTTP {answer.status_code}, {_message(answer)}")
        raise Refused(
            f"cannot put the document into Kong at {url}: it refuses it and goes on with what it had:\n"
            + "\n".join(f"  {line}" for line in refusal(answer.status_code, _json(answer)))
        )

    async def _get(self, url: str, path: str) -> dict[str, Any]:
        answer = await self._send(url, "GET", path)
        body = _json(answer)
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise Refused(f"cannot read {path} of Kong at {url}: HTTP {answer.status_code}, {_message(answer)}")
        if answer.status_code != httpx.codes.OK or not isinstance(body, dict):
            raise Broken(
                f"cannot read {path} of Kong at {url}: HTTP {answer.status_code}; is it the Admin API of a Kong 3?"
            )
        return _Answer(body, f"{path} of Kong at {url}")

    async def _send(self, url: str, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return await self._http.request(method, f"{url.rstrip('/')}{path}", **more)
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"cannot reach the Admin API of Kong at {url}: {reason}") from error


class _Answer(dict[str, Any]):
    """A JSON object from Kong; raises Broken for a missing key."""

    def __init__(self, body: Mapping[str, Any], source: str) -> None:
        super().__init__(body)
        self._source = source

    def __missing__(self, key: str) -> Any:
        raise Broken(f"cannot understand {self._source}: it lacks {key}; does it run without a database, as a Kong 3?")


def refusal(status: int, body: object) -> list[str]:
    """Kong's reasons for rejecting a document, one line each, with the entity and the field; pure."""
    if not isinstance(body, Mapping):
        return [f"HTTP {status}, without a reason"]
    lines = [line for item in _list(body.get("flattened_errors")) for line in _flattened(item)]
    lines += [f"{path}: {reason}" if path else reason for path, reason in _fields(body.get("fields"), "")]
    return list(dict.fromkeys(lines)) or [str(body.get("message") or f"HTTP {status}, without a reason")]


def _flattened(item: Any) -> Iterator[str]:
    if not isinstance(item, Mapping):
        return
    name = item.get("entity_name") or item.get("entity_id")
    entity = f'{item.get("entity_type", "entity")} "{name}"' if name else str(item.get("entity_type", "entity"))
    for error in _list(item.get("errors")):
        if isinstance(error, Mapping):
            field = f" {error['field']}" if error.get("field") else ""
            yield f"{entity}{field}: {error.get('message', 'refused')}"


def _fields(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Reasons that Kong gives for no single entity: they stand at the end of nested keys and list indices."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _fields(inner, path if key == "@entity" else f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for place, inner in enumerate(value, start=1):
            # Either a list of reasons, or one value for each entry of a list.
            yield from _fields(inner, path if isinstance(inner, str) else f"{path}[{place}]")
    elif value is not None:
        yield path, str(value)


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _json(answer: httpx.Response) -> object:
    try:
        return answer.json()
    except ValueError:
        return None


def _message(answer: httpx.Response) -> str:
    body = _json(answer)
    return str(body.get("message")) if isinstance(body, Mapping) else answer.text[:200]
