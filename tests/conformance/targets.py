"""What is judged: the fixture server behind a shim alone, and behind a whole mesh of its own."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.suite import HERE
from tests.integration.shim.running_shim import running, until
from tests.support.mesh import RealMesh, real_mesh, wait_for

START_SECONDS = 60.0
# The suite's calls come faster than Python servers start: where each call has a process of its own, so many are there
# before.
SPARES = 12


@dataclass(frozen=True)
class Target:
    """The server speaks `era` (both, legacy or modern). `instances` of it are in a mesh; 0 is a shim alone."""

    era: str = "both"
    isolation: str = "session"
    instances: int = 0

    def __str__(self) -> str:
        name = f"mesh of {self.instances} instances" if self.instances else "bare"
        name += "" if self.era == "both" else f", {self.era}-only server"
        return name + ("" if self.isolation == "session" else f", isolation {self.isolation}")

    @property
    def server(self) -> dict[str, object]:
        """Command, arguments and isolation, as the shim and the catalog both have them."""
        command = {"command": sys.executable, "args": [str(HERE / "server"), self.era]}
        return {**command, "isolation": self.isolation}

    @property
    def service(self) -> str:
        return f"{self.era}-{self.isolation}-{self.instances}"


@contextmanager
def bare(target: Target) -> Iterator[str]:
    """The address of a shim over the server; when the block ends nothing of it runs."""
    spares = SPARES if target.isolation == "request" else 1
    with running(**target.server, limits={"spares": spares}) as shim:
        shim.wait_ready(START_SECONDS)
        until(lambda: shim.info()["children"] == 1 + (spares if target.isolation != "shared" else 0), START_SECONDS)
        yield shim.url


@contextmanager
def mesh(targets: list[Target]) -> Iterator[dict[Target, str]]:
    """Addresses at the ingress of a mesh that has these services alone; when the block ends nothing of it runs."""
    services = {target.service: {**target.server, "instances": target.instances} for target in targets}
    with (
        tempfile.TemporaryDirectory(prefix="conformance-mesh-") as folder,
        real_mesh(Path(folder), {"services": services}) as running_mesh,
    ):
        running_mesh.up()
        running_mesh.wait_until_ready()
        yield {target: f"{running_mesh.ingress}/mcp/{target.service}" for target in targets}
        running_mesh.down()
        wait_for("all of the mesh is gone", lambda: nothing_left(running_mesh), START_SECONDS)


def nothing_left(running_mesh: RealMesh) -> bool:
    left = running_mesh.processes()
    assert not left, f"processes outlived `mcpmesh down`: {left}"
    return True
