"""Images: those that Docker has, and pulls of the others in the background, so that no reconcile pass waits for one."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from docker import APIClient
from docker.errors import APIError, ImageNotFound

from mcpmesh.errors import WorkloadError
from mcpmesh.workload.containers.docker_engine import DISK_FULL, DockerEngine, reason

_PULL_SECONDS = 600


class Images:
    """Knows which images Docker has, and pulls the others."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        # How far each pull is, "" before the first report.
        self._pulling: dict[str, str] = {}
        self._failed: dict[str, str] = {}

    async def require(self, image: str) -> Mapping[str, Any]:
        """Docker's description of an image; raises WorkloadError while it is being pulled, or where it can't be."""

        def work(api: APIClient) -> Mapping[str, Any] | None:
            try:
                found: Mapping[str, Any] = api.inspect_image(image)  # type: ignore[no-untyped-call]
            except ImageNotFound:
                return None
            return found

        found = await self._engine.do(work)
        if found is not None:
            self._failed.pop(image, None)
            return found
        if image not in self._pulling:
            self._pulling[image] = ""
            threading.Thread(target=self._pull, args=(image,), name=f"pull {image}", daemon=True).start()
        failed, progress = self._failed.get(image), self._pulling.get(image)
        # A failed pull is tried again and again; until that makes progress, its last failure is shown.
        if failed is not None and not progress:
            step = "see: docker system df" if DISK_FULL in failed else f"fix its name, or: docker pull {image}"
            raise WorkloadError(f"cannot pull the image {image}: {failed}; {step}")
        raise WorkloadError(f"cannot start it yet: its image {image} is being pulled ({progress or 'just begun'})")

    def _pull(self, image: str) -> None:
        try:
            api = APIClient(base_url=self._engine.address, version="auto", timeout=_PULL_SECONDS)
            sizes: dict[str, tuple[int, int]] = {}
            for line in api.pull(image, stream=True, decode=True):
                if "error" in line:
                    self._failed[image] = " ".join(str(line["error"]).split())
                    return
                detail = line.get("progressDetail") or {}
                if line.get("id") and detail.get("total"):
                    sizes[line["id"]] = (int(detail.get("current", 0)), int(detail["total"]))
                    done, total = (sum(column) for column in zip(*sizes.values(), strict=True))
                    self._pulling[image] = f"{100 * done // total} % of {total // 1_000_000} MB so far"
        except APIError as error:
            self._failed[image] = reason(error)
        except Exception as error:  # the end of a thread: the next start reports it, whatever it is
            self._failed[image] = " ".join(str(error).split()) or type(error).__name__
        finally:
            self._pulling.pop(image, None)
