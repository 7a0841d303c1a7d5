"""Images fetched from a registry, by what a person reads meanwhile; and a Docker whose disk is full."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from tests.e2e.composed import docker, until

from mcpmesh.errors import WorkloadError
from mcpmesh.workload.containers.engine import Engine
from mcpmesh.workload.containers.images import Images

MEGABYTES = 60


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    """An image that a registry has and Docker has not."""
    testcontainers_config.ryuk_disabled = True  # its reaper is an image that may not be had
    with DockerContainer("registry:2").with_exposed_ports(5000) as container:
        # Docker asks registries on loopback alone without TLS.
        address = f"127.0.0.1:{container.get_exposed_port(5000)}"
        until(lambda: answers(f"http://{address}/v2/"), "the registry")
        yield f"{address}/mcpmesh-test-large:1"


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def absent(name: str, tmp_path: Path) -> Iterator[str]:
    """That image: what can't be compressed, on top of nothing, so that no layer of it is here."""
    (tmp_path / "large").write_bytes(os.urandom(MEGABYTES * 1_000_000))
    (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY large /\nCMD ["/large"]\n')
    docker("build", "-q", "-t", name, str(tmp_path))
    docker("push", "-q", name)
    docker("rmi", name)
    yield name
    docker("rmi", name, check=False)


async def said_until_it_ends(engine: Engine, image: str) -> list[str]:
    """The reasons why it can't be had yet, each once, to the last: that it is there, or can't be had."""
    images, said = Images(engine), [""]
    async with asyncio.timeout(120):
        while "cannot pull" not in said[-1]:
            try:
                found = await images.have(image)
            except WorkloadError as error:
                said += [str(error)] if str(error) != said[-1] else []
            else:
                return [*said[1:], str(found["Config"]["Cmd"])]
            await asyncio.sleep(0.02)
    return said[1:]


async def test_how_far_a_pull_is_can_be_read_until_it_is_there(absent: str) -> None:
    engine = Engine("unix:///var/run/docker.sock")
    *meanwhile, last = await said_until_it_ends(engine, absent)
    await engine.close()
    assert last == "['/large']"
    assert all(f"its image {absent} is being pulled" in sentence for sentence in meanwhile)
    assert any(f" % of {MEGABYTES} MB so far" in sentence for sentence in meanwhile), meanwhile


@pytest.fixture
def small_docker(tmp_path: Path) -> Iterator[str]:
    """The address of a second Docker, on a disk that is smaller than the image."""
    if os.getuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("a Docker on a small disk of its own can be started by root alone, where dockerd is installed")
    disk, address = tmp_path / "disk", f"unix://{tmp_path}/docker.sock"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES // 2}m", "tmpfs", str(disk)], check=True)
    argv = ["dockerd", "--data-root", str(disk), "--exec-root", str(tmp_path / "run"), "--host", address]
    argv += ["--pidfile", str(tmp_path / "pid"), "--bridge", "none", "--iptables=false", "--ip6tables=false"]
    try:
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        try:
            until(lambda: docker("--host", address, "version", check=False), "the second Docker", 60)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


async def test_a_full_disk_is_told_as_such(absent: str, small_docker: str) -> None:
    engine = Engine(small_docker)
    last = (await said_until_it_ends(engine, absent))[-1]
    await engine.close()
    assert last.startswith(f"cannot pull the image {absent}: ")
    assert "no space left on device" in last and last.endswith("; see: docker system df")
