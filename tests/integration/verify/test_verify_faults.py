"""Faults planted in a real mesh, each found by the claims that it breaks and by no other.

The mesh is paused meanwhile, so that it does not heal what is to be found.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest
from tests.support.mesh import GIT_SERVER, TIME_SERVER, RealMesh, need, real_mesh, wait_for
from tests.support.ports import OWN_PORTS

from mcpmesh.kit.marked_process import VARIABLE, Mark, Process
from mcpmesh.model.agent_reports import Claim

PROGRAMS = Path(__file__).parent / "programs"

REGISTERED = "it is registered in Consul as wanted"
SHIMS_PORT = "its registered port accepts connections and is the shim's"
OWN_PORT = "its registered port accepts connections and is its own"
READY = "it is ready now"
CHECKS = "Consul's checks of it pass"
ENTRIES = "its config entries are in Consul as wanted"
ENVOYS_PORT = "its sidecar's registered port is held by our Envoy"
IDENTITY = "its sidecar proves its SPIFFE identity"
PLAIN_TEXT = "its sidecar refuses plain text"
NO_CERTIFICATE = "its sidecar refuses a caller without a certificate"
FOREIGN = "its sidecar refuses a certificate of another CA"
STRANGER = "its sidecar refuses an identity without an intention"
THROUGH_SIDECAR = "a real call through each sidecar is answered"
THROUGH_INGRESS = "a real call through the ingress is answered"
UPSTREAM_CLOCK = 'its upstream "clock" is answered where it looks for it'
INGRESS = "the ingress is held by our Envoy"
UNDECLARED = "the ingress answers undeclared paths with 404"
LEFTOVERS = "nothing of ours is in Consul beyond what is wanted"
LIVE = "every Envoy is live"
REJECTED = "no Envoy rejected an xDS update"
ACCOUNTED = "every process of ours is accounted for"
LOOPBACK = "nothing of ours listens beyond loopback but what was asked for"
EXPECTED = "every listener of ours is at a port that the mesh gave it"
ENVOY_VERSION = "the Envoys' version is the pinned one"

# All that is tried by way of a sidecar.
SIDECAR_CLAIMS = {IDENTITY, PLAIN_TEXT, NO_CERTIFICATE, FOREIGN, STRANGER, THROUGH_SIDECAR}


def may_call(source: str) -> str:
    return f'the intention that lets "{source}" call it is in Consul'


Key: TypeAlias = tuple[str | None, str]
Failed: TypeAlias = dict[Key, Claim]


@dataclass(frozen=True)
class Subject:
    """The mesh under test, and the folder where its `clock` looks for what it shall do wrong."""

    mesh: RealMesh
    faults: Path

    def verify(self, *services: str) -> list[Claim]:
        """All claims; the exit code has to fit them."""
        done = self.mesh.run("verify", *services, "--json", code=None)
        *claims, summary = [json.loads(line) for line in done.stdout.splitlines()]
        made = [Claim(**claim) for claim in claims]
        failed = sum(not claim.ok for claim in made)
        assert summary == {"summary": {"claims": len(made), "failed": failed}}
        assert done.returncode == (1 if failed else 0), done.stdout + done.stderr
        return made

    def failed(self, *services: str) -> Failed:
        """The claims that don't hold. Each has a next step."""
        found = {(claim.service, claim.claim): claim for claim in self.verify(*services) if not claim.ok}
        assert all(claim.next_step and claim.evidence for claim in found.values()), found
        return found

    def fails(self, exactly: Collection[Key], *services: str, perhaps: Collection[Key] = ()) -> Failed:
        """The same, once exactly these don't hold; those of `perhaps` may or may not.

        Claims are made of what answers in time: while a machine stands still, others fail too. What is planted stays.
        """

        def found() -> Failed:
            claims = self.failed(*services)
            assert claims.keys() - set(perhaps) == set(exactly), claims
            return claims

        return wait_for(f"{exactly} fail alone", found)

    def holds(self, *services: str) -> list[Claim]:
        """All claims, once every one of them holds."""

        def found() -> list[Claim]:
            claims = self.verify(*services)
            assert [claim for claim in claims if not claim.ok] == []
            return claims

        return wait_for("every claim holds", found)

    def registered(self, service: str) -> dict[str, Any]:
        """The registration of the service's only instance, as it was written."""
        found = self.mesh.ask_consul(f"/v1/agent/service/{self.mesh.one('sidecar', service).mark.instance}")
        return {
            "ID": found["ID"],
            "Name": found["Service"],
            "Address": found["Address"],
            "Port": found["Port"],
            "Meta": found["Meta"],
        }


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    need(TIME_SERVER, GIT_SERVER)
    faults = tmp_path_factory.mktemp("faults")
    breakable = [sys.executable, str(PROGRAMS / "breakable.py"), str(TIME_SERVER)]
    catalog = {
        "services": {
            "clock": {
                "command": breakable,
                "env": {"FAULTS": str(faults)},
                "isolation": "shared",
                "allow": ["git"],
            },
            "git": {"command": str(GIT_SERVER), "upstreams": ["clock", "greeter"], "route": False},
            "page": {
                "http": {"command": sys.executable, "args": [str(PROGRAMS / "pages.py")]},
                "route": "/page",
                "instances": 2,
            },
            "greeter": {
                "tcp": {"command": sys.executable, "args": [str(PROGRAMS / "greeter.py")]},
                "allow": ["git"],
            },
        }
    }
    with real_mesh(tmp_path_factory.mktemp("mesh"), catalog, name="tested") as mesh:
        mesh.up()
        mesh.wait_until_ready()
        yield Subject(mesh, faults)


@pytest.fixture
def paused(subject: Subject) -> Iterator[Subject]:
    with subject.mesh.paused():
        yield subject


@contextmanager
def stopped(process: Process) -> Iterator[None]:
    """Held by SIGSTOP inside the block."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


# --- a mesh that is well


def test_every_claim_about_a_healthy_mesh_holds_and_says_what_was_seen(subject: Subject) -> None:
    claims = subject.holds()
    assert all(claim.evidence for claim in claims)
    seen = {(claim.service, claim.claim): claim.evidence for claim in claims}
    shim, envoy = subject.mesh.one("shim", "clock"), subject.mesh.one("sidecar", "clock")
    assert f"127.0.0.1:{shim.mark.ports['http']}" in seen["clock", SHIMS_PORT]
    assert f"pid {shim.pid}" in seen["clock", SHIMS_PORT]
    assert f"pid {envoy.pid}" in seen["clock", ENVOYS_PORT]
    assert "/svc/clock, by Consul's CA, until " in seen["clock", IDENTITY]
    assert "certificate required" in seen["clock", NO_CERTIFICATE]
    assert "unknown ca" in seen["clock", FOREIGN]
    assert "HTTP/1.1 403 Forbidden" in seen["clock", STRANGER]
    assert "tools/list gives 2 tools" in seen["clock", THROUGH_INGRESS]
    assert "tools/list gives 2 tools" in seen["git", UPSTREAM_CLOCK]
    # Whether its greeting is heard before that is a race.
    assert "the connection was " in seen["greeter", STRANGER]
    assert seen["page", OWN_PORT].count("is held by pid") == 2


def test_claims_come_by_service_in_the_catalogs_order_and_those_of_the_mesh_last(subject: Subject) -> None:
    names = [claim.service for claim in subject.verify()]
    assert list(dict.fromkeys(names)) == ["clock", "git", "page", "greeter", None]
    assert names == sorted(names, key=lambda name: ["clock", "git", "page", "greeter", None].index(name))


def test_named_services_are_verified_alone(subject: Subject) -> None:
    assert {claim.service for claim in subject.verify("page", "clock")} == {"clock", "page"}


# --- faults of a service


def test_a_dead_child_is_found_at_once(paused: Subject) -> None:
    (paused.faults / "broken").touch()
    try:
        for process in paused.mesh.processes("server", "clock"):
            os.kill(process.pid, signal.SIGKILL)
        wait_for("its shim has seen it", lambda: not _ready(paused, "clock"))
        broken = {("clock", claim) for claim in (READY, THROUGH_SIDECAR, THROUGH_INGRESS)} | {("git", UPSTREAM_CLOCK)}
        # Consul's next check may or may not have come meanwhile.
        found = paused.fails(broken, perhaps=[("clock", CHECKS)])
        assert found["clock", READY].next_step.endswith(f"mcpmesh --name {paused.mesh.name} logs clock")
    finally:
        (paused.faults / "broken").unlink()


def test_a_registered_port_where_nobody_listens_is_found(paused: Subject) -> None:
    port = OWN_PORTS.take()
    registration = paused.registered("clock")
    paused.mesh.tell_consul("/v1/agent/service/register", {**registration, "Port": port})
    claim = paused.fails({("clock", SHIMS_PORT)})["clock", SHIMS_PORT]
    assert f"registered at port {port}, and nothing accepts there" in claim.evidence
    assert f"listens at {registration['Port']}" in claim.evidence
    assert f"mcpmesh --name {paused.mesh.name} resume" in claim.next_step


def test_a_registered_port_that_is_somebody_elses_is_found(paused: Subject) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        paused.mesh.tell_consul("/v1/agent/service/register", {**paused.registered("clock"), "Port": port})
        found = paused.fails({("clock", SHIMS_PORT)})
    assert f"port {port}" in found["clock", SHIMS_PORT].evidence
    assert f"held by pid {os.getpid()}" in found["clock", SHIMS_PORT].evidence


def test_a_registration_that_is_gone_is_found(paused: Subject) -> None:
    instance = paused.registered("clock")["ID"]
    paused.mesh.consul("services", "deregister", f"-id={instance}-sidecar")
    paused.mesh.consul("services", "deregister", f"-id={instance}")
    through = {THROUGH_INGRESS, ENVOYS_PORT, REGISTERED, SHIMS_PORT, CHECKS} | SIDECAR_CLAIMS
    found = paused.fails({("clock", claim) for claim in through} | {("git", UPSTREAM_CLOCK)})
    assert f"{instance} is not registered in Consul" in found["clock", REGISTERED].evidence


def test_a_registration_that_nobody_wants_is_found(paused: Subject) -> None:
    wanted = paused.registered("clock")
    ghost, lost = {**wanted, "ID": f"{wanted['ID']}-ghost"}, {**wanted, "ID": "lost-1", "Name": "lost"}
    for registration in (ghost, lost):
        paused.mesh.tell_consul("/v1/agent/service/register", registration)
    found = paused.failed()
    assert ("clock", REGISTERED) in found and (None, LEFTOVERS) in found
    assert f"{ghost['ID']} (port {ghost['Port']}) is registered and not wanted" in found["clock", REGISTERED].evidence
    step = f"consul services deregister -http-addr={paused.mesh.consul_url} -id=lost-1"
    assert found[None, LEFTOVERS].next_step.endswith(step)


def test_a_stopped_envoy_is_found_and_named(paused: Subject) -> None:
    envoy = paused.mesh.one("sidecar", "git")
    of_the_mesh = {(None, LIVE), (None, REJECTED), (None, ENVOY_VERSION)}
    with stopped(envoy):
        found = paused.fails({("git", claim) for claim in SIDECAR_CLAIMS | {UPSTREAM_CLOCK}} | of_the_mesh)
    assert {claim.next_step for claim in found.values()} == {f"let it go on: kill -CONT {envoy.pid}"}


def test_a_killed_envoy_is_found(paused: Subject) -> None:
    envoy = paused.mesh.one("sidecar", "clock")
    os.kill(envoy.pid, signal.SIGKILL)
    wait_for("it is gone", lambda: not paused.mesh.processes("sidecar", "clock"))
    of_clock = {("clock", claim) for claim in SIDECAR_CLAIMS | {ENVOYS_PORT, THROUGH_INGRESS}}
    # Consul's next check may or may not have come meanwhile.
    found = paused.fails(of_clock | {("git", UPSTREAM_CLOCK), (None, LIVE)}, perhaps=[("clock", CHECKS)])
    assert "no Envoy of ours runs for it" in found["clock", ENVOYS_PORT].evidence
    assert f"{envoy.mark.instance}.sidecar.log" in found["clock", ENVOYS_PORT].next_step


def test_somebody_else_on_a_sidecars_port_is_found(paused: Subject) -> None:
    envoy = paused.mesh.one("sidecar", "clock")
    os.kill(envoy.pid, signal.SIGKILL)
    wait_for("it is gone", lambda: not paused.mesh.processes("sidecar", "clock"))
    pages = subprocess.Popen(
        [sys.executable, str(PROGRAMS / "pages.py")], env={"PORT": str(envoy.mark.ports["public"])}
    )
    try:
        wait_for("it listens", lambda: _answers(f"http://127.0.0.1:{envoy.mark.ports['public']}/"))
        found = paused.failed("clock")
    finally:
        pages.kill()
        pages.wait()
    assert f"is held by pid {pages.pid}" in found["clock", ENVOYS_PORT].evidence
    assert "answers plain text: HTTP/1.1 200 OK" in found["clock", PLAIN_TEXT].evidence


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=30).is_success
    except httpx.TransportError:
        return False


# --- faults of policy


def test_a_missing_intention_is_found(paused: Subject) -> None:
    paused.mesh.consul("intention", "delete", "ingress", "clock")
    wait_for("the ingress is denied", lambda: _status(paused, "/mcp/clock") == 403)
    found = paused.fails({("clock", may_call("ingress")), ("clock", THROUGH_INGRESS)})
    by_hand = f"by hand: consul intention create -http-addr={paused.mesh.consul_url} -allow ingress clock"
    assert found["clock", may_call("ingress")].next_step.endswith(by_hand)
    assert "no intention lets ingress call clock" in found["clock", THROUGH_INGRESS].evidence


def test_what_a_person_denied_is_kept_and_proven(paused: Subject) -> None:
    paused.mesh.consul("intention", "create", "-replace", "-deny", "ingress", "page")
    try:
        wait_for("the ingress is denied", lambda: _status(paused, "/page") == 403)
        claims = {claim.claim: claim for claim in paused.holds("page")}
        assert claims[may_call("ingress")].evidence.endswith("(deny), written by a person, and it is kept")
        assert "as a person wants it" in claims[THROUGH_INGRESS].evidence
    finally:
        paused.mesh.consul("intention", "delete", "ingress", "page")


@pytest.mark.parametrize("service", ["clock", "page", "greeter"])
def test_an_intention_that_lets_strangers_in_is_found(paused: Subject, service: str) -> None:
    paused.mesh.consul("intention", "create", "-allow", "*", service)
    try:
        found = paused.fails({(service, STRANGER)}, service)
        delete = f"consul intention delete -http-addr={paused.mesh.consul_url} '*' '{service}'"
        assert found[service, STRANGER].next_step.endswith(delete)
    finally:
        paused.mesh.consul("intention", "delete", "*", service)


# --- faults of the ingress


def test_a_deleted_route_is_found(paused: Subject) -> None:
    paused.mesh.consul("config", "delete", "-kind", "http-route", "-name", "clock")
    wait_for("the route is gone", lambda: _status(paused, "/mcp/clock") == 404)
    found = paused.fails({("clock", ENTRIES), ("clock", THROUGH_INGRESS)})
    assert found["clock", ENTRIES].evidence == "http-route/clock is missing"
    assert "HTTP 404" in found["clock", THROUGH_INGRESS].evidence


def test_a_route_to_a_service_without_one_is_found(paused: Subject) -> None:
    route = paused.mesh.ask_consul("/v1/config/http-route/clock")
    kept = {key: route[key] for key in ("Kind", "Parents", "Rules")}
    text = json.dumps({**kept, "Name": "intruder"}).replace("/mcp/clock", "/mcp/git")
    paused.mesh.tell_consul("/v1/config", json.loads(text))
    try:
        wait_for("the route is there", lambda: _status(paused, "/mcp/git") != 404)
        paused.fails({("git", "without a route, it is not at the ingress")})
    finally:
        paused.mesh.consul("config", "delete", "-kind", "http-route", "-name", "intruder")


def test_a_stopped_ingress_is_found_in_bounded_time(paused: Subject) -> None:
    envoy = paused.mesh.one("gateway")
    with stopped(envoy):
        wanted = {(None, claim) for claim in (UNDECLARED, LIVE, REJECTED, ENVOY_VERSION)}
        wanted |= {(service, THROUGH_INGRESS) for service in ("clock", "page")}
        wanted |= {(service, "without a route, it is not at the ingress") for service in ("git", "greeter")}
        # What was known of its listener a moment ago still stands in Consul and the kernel.
        found = paused.fails(wanted, perhaps=[(None, INGRESS)])
    assert {claim.next_step for claim in found.values()} == {f"let it go on: kill -CONT {envoy.pid}"}


def _status(subject: Subject, path: str) -> int:
    return httpx.get(f"{subject.mesh.ingress}{path}", trust_env=False, timeout=30).status_code


# --- faults of the mesh


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_a_listener_that_a_server_opened_is_found(paused: Subject, host: str) -> None:
    port = OWN_PORTS.take()
    (paused.faults / "listen").write_text(f"{host} {port}")
    try:
        _new_server(paused)
        wait_for("it listens", lambda: not _is_free(port))
    finally:
        (paused.faults / "listen").unlink()
    try:
        beyond: set[Key] = {(None, LOOPBACK)} if host == "0.0.0.0" else set()
        # Consul may have looked just while the server was away.
        found = paused.fails(beyond | {(None, EXPECTED)}, perhaps=[("clock", CHECKS)])
        for claim in (found[key] for key in found.keys() - {("clock", CHECKS)}):
            assert f"listens at tcp {host}:{port}" in claim.evidence
            assert f"server of {paused.registered('clock')['ID']}" in claim.evidence
    finally:
        _new_server(paused)
        wait_for("the listener is gone", lambda: _is_free(port))


def _new_server(subject: Subject) -> None:
    """Kills the server of `clock` and waits for the one that its shim starts in its place."""
    before = {process.pid for process in subject.mesh.processes("server", "clock")}
    for pid in before:
        with suppress(ProcessLookupError):  # one that was there for a caller that has left
            os.kill(pid, signal.SIGKILL)
    wait_for("they are gone", lambda: {p.pid for p in subject.mesh.processes("server", "clock")}.isdisjoint(before))
    wait_for("the server is back", lambda: _ready(subject, "clock"))


def _ready(subject: Subject, service: str) -> bool:
    """Whether the service's shim says so."""
    port = subject.mesh.one("shim", service).mark.ports["http"]
    return httpx.get(f"http://127.0.0.1:{port}/ready", trust_env=False, timeout=30).is_success


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_stray_process_and_its_listener_are_found(paused: Subject) -> None:
    clock = paused.mesh.one("shim", "clock").mark
    mark = Mark(clock.mesh, clock.home, "server", clock.instance, "clock")
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        stray = subprocess.Popen(
            ["sleep", "600"], env={VARIABLE: mark.dump(), "PATH": os.environ["PATH"]}, pass_fds=[listener.fileno()]
        )
    try:
        wait_for("it bears the mark", lambda: stray.pid in {p.pid for p in paused.mesh.processes("server", "clock")})
        found = paused.fails({(None, ACCOUNTED), (None, LOOPBACK), (None, EXPECTED)})
    finally:
        stray.kill()
        stray.wait()
    assert f"pid {stray.pid} (sleep)" in found[None, ACCOUNTED].evidence
    assert found[None, ACCOUNTED].next_step.endswith(f"kill {stray.pid}")
    assert f"pid {stray.pid} (sleep), server of {clock.instance}, listens at tcp 0.0.0.0:{port}" in (
        found[None, LOOPBACK].evidence
    )


def test_a_rejected_xds_update_is_found(paused: Subject) -> None:
    envoy = paused.mesh.one("sidecar", "git")
    found = paused.mesh.ask_consul("/v1/config/service-defaults/git")
    entry = {key: found[key] for key in ("Kind", "Name", "Protocol", "EnvoyExtensions", "Meta")}
    broken = json.loads(json.dumps(entry))
    broken["EnvoyExtensions"][0]["Arguments"]["Script"] = "this is no Lua"
    paused.mesh.tell_consul("/v1/config", broken)
    try:
        claim = paused.fails({(None, REJECTED)})[None, REJECTED]
        assert f"the Envoy of {envoy.mark.instance} (pid {envoy.pid}) rejected" in claim.evidence
        assert "update_rejected" in claim.evidence
        assert f"{envoy.mark.instance}.sidecar.log" in claim.next_step
    finally:
        paused.mesh.tell_consul("/v1/config", entry)
        # The count is of its whole life.
        os.kill(envoy.pid, signal.SIGKILL)


def test_a_consul_that_hangs_fails_its_claims_and_holds_up_nothing(paused: Subject) -> None:
    with stopped(paused.mesh.one("consul")):
        wait_for("only what Consul knows is in doubt", lambda: _without_consul(paused.failed("clock")))


def _without_consul(found: Failed) -> bool:
    assert ("clock", REGISTERED) in found and ("clock", may_call("ingress")) in found
    assert ("clock", READY) not in found
    return True
