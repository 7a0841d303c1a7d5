"""The real compose.yaml, started under a project name of its own and used as a person does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
INTERNAL, EDGE, EGRESS = "mesh-internal", "mesh-edge", "mesh-egress"
API_GATEWAY = ROOT / "compose.api-gateway.yaml"
KONG_IMAGE = "kong:3.9"


def docker(*words: str, check: bool = True) -> str:
    """The output of `docker WORDS`."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=300)
    if check and done.returncode != 0:
        raise AssertionError(f"docker {' '.join(words)}: {done.stderr}")
    return done.stdout.strip()


def inspect(name: str) -> dict[str, Any]:
    """Docker's description of a container."""
    found: dict[str, Any] = json.loads(docker("inspect", name))[0]
    return found


def environments_in(name: str) -> list[bytes]:
    """The environments of all processes in a container; a process that has ended meanwhile has none."""
    found = []
    for pid in docker("top", name, "-eo", "pid").split()[1:]:
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/environ").read_bytes())
    return found


def until(holds: Callable[[], object], what: str, seconds: float = 180.0) -> Any:
    """Returns the first true result of `holds`; an AssertionError in it counts as not yet."""
    end = time.monotonic() + seconds
    while True:
        why = ""
        try:
            if found := holds():
                return found
        except AssertionError as error:
            why = f": {error}"
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}{why}"
        time.sleep(0.2)


@dataclass
class Composed:
    """One project; `folder` is the folder that a user edits."""

    project: str
    files: Sequence[Path]
    folder: Path
    ingress_port: int
    consul_port: int
    consul_binary: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def ingress(self) -> str:
        """The published URL."""
        return f"http://127.0.0.1:{self.ingress_port}"

    @property
    def ingress_container(self) -> str:
        """Compose's name of the ingress's service."""
        return "ingress" if API_GATEWAY in self.files else "kong"

    @property
    def kong(self) -> str:
        """Kong's container."""
        return f"{self.project}-kong-1"

    @property
    def kong_admin(self) -> str:
        """Its Admin API on mesh-edge, which this machine reaches."""
        return f"http://{self.address(self.kong, EDGE)}:8001"

    def network(self, name: str) -> str:
        """Docker's name of one of compose.yaml's networks."""
        return f"{self.project}_{name}"

    def address(self, container: str, network: str) -> str:
        """The address of a container on one of compose.yaml's networks."""
        found: str = inspect(container)["NetworkSettings"]["Networks"][self.network(network)]["IPAddress"]
        return found

    def everybody(self) -> list[str]:
        """The names of all containers, compose's own and those that the agent started."""
        label = f"label=com.docker.compose.project={self.project}"
        return [*docker("ps", "--format", "{{.Names}}", "--filter", label).split(), *self.containers()]

    def compose(self, *words: str) -> str:
        """Runs `docker compose WORDS` for this project."""
        argv = ["docker", "compose", "--project-name", self.project]
        for file in self.files:
            argv += ["--file", str(file)]
        environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": self.project,
            "MESH_FOLDER": str(self.folder),
            "INGRESS_PORT": str(self.ingress_port),
            "CONSUL_PORT": str(self.consul_port),
            **self.environment,
        }
        done = subprocess.run([*argv, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            raise AssertionError(f"docker compose {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-3000:]}")
        return done.stdout

    def mcpmesh(self, *words: str, code: int = 0) -> str:
        """Runs `docker compose exec agent mcpmesh WORDS`, which has to end with `code`."""
        argv = ["docker", "exec", f"{self.project}-agent-1", "mcpmesh", *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=200)
        assert done.returncode == code, f"mcpmesh {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def consul(self, *words: str) -> str:
        """Runs `consul WORDS` on the host."""
        environment = {"CONSUL_HTTP_ADDR": f"http://127.0.0.1:{self.consul_port}", "PATH": os.environ["PATH"]}
        argv = [str(self.consul_binary), *words]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"consul {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def logs(self) -> str:
        """The whole output of the agent."""
        argv = ["docker", "logs", "--timestamps", f"{self.project}-agent-1"]
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60).stdout

    def status(self) -> dict[str, Any]:
        """The status; empty while no agent answers."""
        argv = ["docker", "exec", f"{self.project}-agent-1", "mcpmesh", "status", "--json"]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
            found: dict[str, Any] = json.loads(done.stdout)
        except (ValueError, subprocess.TimeoutExpired):
            return {}
        return found if "services" in found else {}

    def service(self, name: str) -> dict[str, Any]:
        """The status of one service; empty for an unknown one."""
        return next((line for line in self.status().get("services", ()) if line["name"] == name), {})

    def ready(self, name: str, count: int | None = None) -> bool:
        """Whether a service is ready, with `count` instances if given, and the plan has no step for it."""
        line = self.service(name)
        return line.get("state") == "ready" and len(line["instances"]) == (count or line["wanted"])

    def settled(self, *, but: Sequence[str] = ()) -> bool:
        """Whether all services (except those named) and the ingress are ready."""
        seen = self.status()
        lines = [line for line in seen.get("services", ()) if line["name"] not in but]
        everything = but or seen.get("in_sync")
        return bool(lines and everything and seen["ingress_ready"] and all(line["state"] == "ready" for line in lines))

    def write(self, services: dict[str, Any]) -> None:
        """Saves the catalog as an editor does: a new file replaces the old one."""
        new = self.folder / ".mesh.yaml.new"
        new.write_text(json.dumps({"version": 1, "services": services}, indent=1))
        new.replace(self.folder / "mesh.yaml")

    def read(self) -> None:
        """Makes the agent read its catalog and documents now, so that later answers follow from these."""
        until(lambda: self.mcpmesh("reload"), "an agent that has read its catalog")

    def containers(self, role: str = "", service: str = "") -> list[str]:
        """The names of the containers that the agent started."""
        filters = [f"label=mcpmesh.owner={self.project}/default"]
        filters += [f"label=mcpmesh.role={role}"] if role else []
        filters += [f"label=mcpmesh.service={service}"] if service else []
        words = [word for each in filters for word in ("--filter", each)]
        return docker("ps", "--format", "{{.Names}}", *words).split()

    def ids(self) -> dict[str, str]:
        """The names of these containers with their ids."""
        listed = docker(
            "ps",
            "--no-trunc",
            "--format",
            "{{.Names}} {{.ID}}",
            "--filter",
            f"label=mcpmesh.owner={self.project}/default",
        )
        return dict(line.split() for line in listed.splitlines())

    def left(self) -> list[str]:
        """Everything that Docker still has of this project."""
        label = f"label=com.docker.compose.project={self.project}"
        return [
            *docker("ps", "-aq", "--filter", label).split(),
            *docker("ps", "-aq", "--filter", f"label=mcpmesh.owner={self.project}/default").split(),
            *docker("network", "ls", "-q", "--filter", label).split(),
            *docker("volume", "ls", "-q", "--filter", label).split(),
        ]


def consul_program() -> Path:
    """The Consul that `make setup` prepared."""
    remembered = ROOT / ".venv" / "bin" / ".consul"
    found = remembered.read_text().strip() if remembered.exists() else shutil.which("consul")
    assert found, "there is no Consul: make consul-binary"
    return Path(found)
