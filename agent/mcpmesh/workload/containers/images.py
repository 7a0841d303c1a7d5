"""Images that are there, and those that are being pulled: no pass waits for a download."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from docker import APIClient
from docker.errors import APIError, ImageNotFound

from mcpmesh.errors import WorkloadError
from mcpmesh.workload.containers.docker_engine import FULL, DockerEngine, reason


class Images:
    """Knows which images Docker has, and fetches the others in the background."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        # How far each pull is, "" before anything came.
        self._pulling: dict[str, str] = {}
        self._failed: dict[str, str] = {}

    async def have(self, image: str) -> Mapping[str, Any]:
        """What Docker says of an image; raises WorkloadError while it is being pulled, or why it can't be."""

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
        failed, so_far = self._failed.get(image), self._pulling.get(image)
        # It is tried again and again; until something comes of that, the reason is what a person needs.
        if failed is not None and not so_far:
            step = "see: docker system df" if FULL in failed else f"mend its name, or: docker pull {image}"
            raise WorkloadError(f"cannot pull the image {image}: {failed}; {step}")
        raise WorkloadError(f"cannot start it yet: its image {image} is being pulled ({so_far or 'just begun'})")

    def _pull(self, image: str) -> None:
        try:
            api = APIClient(base_url=self._engine.address, version="auto", timeout=600)
            sizes: dict[str, tuple[int, int]] = {}
            for line in api.pull(image, stream=True, decode=True):
                if "error" in line:
                    self._failed[image] = " ".join(str(line["error"]).split())
                    return
                told = line.get("progressDetail") or {}
                if line.get("id") and told.get("total"):
                    sizes[line["id"]] = (int(told.get("current", 0)), int(told["total"]))
                    done, whole = (sum(column) for column in zip(*sizes.values(), strict=True))
                    self._pulling[image] = f"{100 * done // whole} % of {whole // 1_000_000} MB so far"
        except APIError as error:
            self._failed[image] = reason(error)
        except Exception as error:  # a thread's end: whatever it is, the next start tells it
            self._failed[image] = " ".join(str(error).split()) or type(error).__name__
        finally:
            self._pulling.pop(image, None)
