"""The embedded Consul: start, adoption, restart on the same data, and stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.consul import Patient, RealConsul
from tests.support.ports import CONSUL_PORTS

from mcpmesh.consul.client import Consul
from mcpmesh.consul.embedded_consul import PORTS, EmbeddedConsul
from mcpmesh.errors import Unreachable, WorkloadError
from mcpmesh.kit.marked_process import find_marked

SECONDS = 120.0


def some_ports() -> dict[str, int]:
    return {name: CONSUL_PORTS.take() for name in PORTS}


Make = Callable[..., EmbeddedConsul]


@pytest.fixture
async def make(consul_program: Path, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes the embedded Consul of one home; none runs there any more when the test ends."""

    def one(ports: dict[str, int] | None = None, binary: Path = consul_program) -> EmbeddedConsul:
        return EmbeddedConsul(binary, "test", tmp_path / "home", ports or some_ports())

    yield one
    await one().stop()
    assert find_marked(tmp_path / "home") == []


@asynccontextmanager
async def client(embedded: EmbeddedConsul) -> AsyncIterator[Consul]:
    consul = Consul(embedded.address, transport=Patient())
    yield consul
    await consul.close()


def person(embedded: EmbeddedConsul, binary: Path) -> RealConsul:
    return RealConsul(embedded.address, embedded.grpc_address, binary)


async def test_certificates_can_be_issued_as_soon_as_it_is_started(make: Make) -> None:
    embedded = make()
    await embedded.start(print, SECONDS)
    async with client(embedded) as consul:
        assert (await consul.identity("files")).spiffe.endswith("/svc/files")
        assert await consul.grpc_address() == embedded.grpc_address


async def test_a_running_consul_is_adopted(make: Make) -> None:
    ports = some_ports()
    pid = await make(ports).start(print, SECONDS)
    said: list[str] = []
    assert await make(ports).start(said.append, SECONDS) == pid
    assert said == [f"Consul runs already (pid {pid}); adopting it"]
    found = make(ports).running()
    assert found is not None
    assert (found.pid, found.mark.ports) == (pid, ports)


async def test_a_persons_writes_survive_a_restart_with_other_ports(make: Make, consul_program: Path) -> None:
    ports = some_ports()
    embedded = make(ports)
    await embedded.start(print, SECONDS)
    person(embedded, consul_program).cli("intention", "create", "-deny", "-meta", "ticket=7", "a", "b")
    async with client(embedded) as consul:
        before, domain = await consul.intentions(), await consul.trust_domain()
    await embedded.stop()
    assert embedded.running() is None
    for again in (make(ports), make()):  # the same ports, then all others, while it runs
        await again.start(print, SECONDS)
        async with client(again) as consul:
            assert await consul.intentions() == before
            assert await consul.trust_domain() == domain
            await consul.allow("c", "b", "test")  # it has a leader that takes writes
            await consul.revoke(next(i for i in await consul.intentions() if i.source == "c"), "test")


async def test_a_killed_consul_starts_again_with_its_data(make: Make, consul_program: Path) -> None:
    embedded = make()
    pid = await embedded.start(print, SECONDS)
    person(embedded, consul_program).cli("intention", "create", "-deny", "a", "b")
    process = await asyncio.create_subprocess_exec("kill", "-9", str(pid))
    await process.wait()
    async with asyncio.timeout(90):
        while embedded.running() is not None:
            await asyncio.sleep(0.05)
    assert await embedded.start(print, SECONDS) != pid
    async with client(embedded) as consul:
        assert ("a", "b", "deny") in {(i.source, i.destination, i.action) for i in await consul.intentions()}


async def test_calls_are_denied_by_default_and_the_check_command_says_so(make: Make, consul_program: Path) -> None:
    embedded = make()
    await embedded.start(print, SECONDS)
    shell = person(embedded, consul_program)
    with pytest.raises(AssertionError, match="Denied"):
        shell.cli("intention", "check", "nobody", "files")
    shell.cli("intention", "create", "-allow", "a", "*")
    shell.cli("intention", "delete", "*", "*")
    await embedded.stop()
    await embedded.start(print, SECONDS)
    assert "*       deny" not in shell.cli("intention", "list")  # a person's deletion stands


async def test_it_listens_on_loopback_alone(make: Make) -> None:
    embedded = make()
    pid = await embedded.start(print, SECONDS)
    found = embedded.running()
    assert found is not None
    wanted = {found.mark.ports[name] for name in PORTS}
    async with asyncio.timeout(90):
        listeners = listening(pid)
        while not {port for _, port in listeners} >= wanted:
            await asyncio.sleep(0.05)
            listeners = listening(pid)
    assert {address for address, _ in listeners} == {"0100007F"}


async def test_its_files_are_private(make: Make, tmp_path: Path) -> None:
    embedded = make()
    await embedded.start(print, SECONDS)
    folder = tmp_path / "home" / "consul"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "home" / "logs").stat().st_mode & 0o777 == 0o700
    assert (folder / "machine.json").stat().st_mode & 0o777 == 0o600


async def test_a_port_in_use_is_an_error_that_names_it(make: Make) -> None:
    ports = some_ports()
    squatter = await asyncio.start_server(lambda *_: None, "127.0.0.1", ports["server"])
    embedded = make(ports)
    with pytest.raises(WorkloadError, match=rf"(?s)cannot start Consul: it ended.*{ports['server']}.*in use"):
        await embedded.start(print, SECONDS)
    squatter.close()
    await squatter.wait_closed()
    assert embedded.running() is None


async def test_another_program_is_an_error_with_its_output(make: Make, tmp_path: Path) -> None:
    script = tmp_path / "consul"
    script.write_text("#!/bin/sh\necho no such subcommand >&2\nexit 3\n")
    script.chmod(0o755)
    with pytest.raises(WorkloadError, match=r"(?s)cannot start Consul: it ended.*no such subcommand"):
        await make(binary=script).start(print, SECONDS)


async def test_a_consul_that_is_not_ready_in_time_is_stopped(make: Make) -> None:
    embedded = make()
    with pytest.raises(WorkloadError, match=r"has not elected itself .*MCPMESH_CONSUL__START_SECONDS"):
        await embedded.start(print, 0.01)
    assert embedded.running() is None


async def test_stopping_a_consul_that_does_not_run_does_nothing(make: Make) -> None:
    embedded = make()
    await embedded.stop()
    async with client(embedded) as consul:
        with pytest.raises(Unreachable, match=r"no answer from Consul at http://127.0.0.1:\d+ .*is it running"):
            await consul.leader()


def listening(pid: int) -> set[tuple[str, int]]:
    """Address (hex, as the kernel writes it) and port of every TCP or UDP socket on which `pid` listens."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = entry.readlink().name
        except FileNotFoundError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            inodes.add(target[len("socket:[") : -1])
    found = set()
    for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == state and fields[9] in inodes:
                address, port = fields[1].rsplit(":", 1)
                found.add((address, int(port, 16)))
    return found
