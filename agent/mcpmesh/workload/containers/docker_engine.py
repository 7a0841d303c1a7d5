"""Docker's API: the SDK's calls run in threads, streams run in tasks (`docker_streams`), errors become ours.

Nothing here knows the mesh. A call that Docker does not answer ends after a
bound; an error says what to do.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from mcpmesh.errors import Broken, NotOurs, PeerError, Refused, Unreachable, WorkloadError
from mcpmesh.workload.containers.docker_streams import DockerStreams

T = TypeVar("T")
Json = Mapping[str, Any]

# Docker's, and the kernel's, words for a full disk.
DISK_FULL = "no space left on device"
# An engine on the same machine answers in milliseconds, one that starts containers in seconds.
_TIMEOUT_SECONDS = 30
# How many calls run at once; more would only wait inside the engine.
_THREADS = 16


class DockerEngine:
    """Docker at `address` ("unix:///var/run/docker.sock", "tcp://proxy:2375")."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="docker")
        self._api: docker.APIClient | None = None
        self._streams = DockerStreams(address)

    async def close(self) -> None:
        """Closes the connections; a call that is under way in a thread ends by its own bound."""
        await self._streams.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._api is not None:
            self._api.close()

    async def do(self, work: Callable[[docker.APIClient], T]) -> T:
        """Runs one or several calls in a thread; raises Unreachable, Refused, NotOurs, WorkloadError or Broken."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, functools.partial(self._call, work))

    def _call(self, work: Callable[[docker.APIClient], T]) -> T:
        try:
            return work(self._connected())
        except (DockerException, requests.RequestException, OSError) as error:
            raise translated(error, self.address) from error

    def _connected(self) -> docker.APIClient:
        if self._api is None:
            # "auto" asks the engine for its version, so that older and newer ones work.
            self._api = docker.APIClient(base_url=self.address, version="auto", timeout=_TIMEOUT_SECONDS)
        return self._api

    async def inspect(self, id_: str) -> Json | None:
        """Docker's description of a container; None where there is none."""

        def work(api: docker.APIClient) -> Json | None:
            try:
                found: Json = api.inspect_container(id_)
            except NotFound:
                return None
            return found

        return await self.do(work)

    async def labelled(self, label: str) -> list[Json]:
        """All containers with that label ("name=value"), running or not, as Docker lists them."""
        return await self.do(lambda api: list(api.containers(all=True, filters={"label": [label]})))

    async def remove(self, id_: str) -> None:
        """Kills and removes a container; does nothing where it is gone or being removed."""

        def work(api: docker.APIClient) -> None:
            try:
                api.remove_container(id_, force=True, v=True)
            except NotFound:
                return
            except APIError as error:
                if "already in progress" not in str(error):
                    raise

        await self.do(work)

    async def stop(self, id_: str, grace_seconds: float) -> None:
        """TERM, wait, KILL; does nothing where it is gone."""

        def work(api: docker.APIClient) -> None:
            try:
                api.stop(id_, timeout=max(0, round(grace_seconds)))
            except NotFound:
                return

        await self.do(work)

    async def start_with_input(self, id_: str, stdin: Callable[[Json], bytes]) -> None:
        """Starts a created container, writes `stdin(inspected)` to its standard input, and closes that."""

        def work(api: docker.APIClient) -> None:
            # Attached before the start, so that nothing of the input can be lost.
            attached = api.attach_socket(id_, params={"stdin": 1, "stream": 1})
            stream: socket.socket = getattr(attached, "_sock", attached)
            try:
                api.start(id_)
                stream.settimeout(_TIMEOUT_SECONDS)
                stream.sendall(stdin(api.inspect_container(id_)))
                stream.shutdown(socket.SHUT_WR)
            finally:
                stream.close()
                attached.close()

        await self.do(work)

    async def run_in(self, id_: str, command: Sequence[str]) -> str:
        """What a command prints in a running container; "" where it fails."""

        def work(api: docker.APIClient) -> str:
            run = api.exec_create(id_, list(command), stderr=False)["Id"]
            output: bytes = api.exec_start(run)
            return output.decode(errors="replace") if api.exec_inspect(run)["ExitCode"] == 0 else ""

        try:
            return await self.do(work)
        except WorkloadError:
            return ""

    def output(self, id_: str, since: float) -> AsyncGenerator[bytes, None]:
        """The output of a container from a time (Unix seconds) to its end, as it comes. Raises PeerError."""
        return self._streams.output(id_, since)

    def events(self, label: str) -> AsyncGenerator[Json, None]:
        """Changes of containers with that label, as they happen. Raises PeerError."""
        return self._streams.events(label)


def translated(error: Exception, address: str) -> PeerError | WorkloadError | NotOurs:
    """An exception of Docker's SDK as one of our errors, with the next step."""
    if isinstance(error, ImageNotFound):
        return WorkloadError(f"cannot find the image: {reason(error)}; pull it, or fix its name in the catalog")
    if isinstance(error, APIError):
        text = reason(error)
        if DISK_FULL in text:
            return WorkloadError(f"cannot go on: the disk of Docker is full ({text}); see: docker system df")
        if "no available IPv4 addresses" in text:
            return WorkloadError(
                f"cannot start another container: its network is full ({text}); give it a larger subnet"
            )
        if error.status_code == requests.codes.conflict and "name" in text:
            return NotOurs(f"cannot create a container: {text}; remove the one of that name, it is none of this mesh")
        if error.status_code in (401, 403):
            return Refused(f"cannot do that at Docker: {text}; a socket proxy has to allow it (docs/compose.md)")
        if error.is_server_error():
            return Broken(f"cannot do that at Docker: {text}")
        return WorkloadError(f"cannot do that at Docker: {text}")
    return Unreachable(f"cannot reach Docker at {address}: is it running? ({_innermost(error)})")


def reason(error: APIError) -> str:
    """Docker's explanation, in one line."""
    return " ".join(str(error.explanation or error).split())


def _innermost(error: BaseException) -> str:
    """The text of the innermost cause: requests wraps a refused connection three times."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def own_container() -> str | None:
    """The id (or its beginning) of the container that this process is in; None outside of one."""
    return socket.gethostname() if Path("/.dockerenv").exists() else None
