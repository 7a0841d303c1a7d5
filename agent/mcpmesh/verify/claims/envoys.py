"""Claims about every Envoy of the mesh: it serves, and took all that Consul sent it."""

from __future__ import annotations

import httpx

from mcpmesh.errors import Unreachable
from mcpmesh.kit.marked_process import Process
from mcpmesh.verify.finding import ANSWER_SECONDS, Finding, bad, each, good
from mcpmesh.verify.snapshot import Facts
from mcpmesh.verify.target import GATEWAY, SIDECAR

# Two questions, one after the other.
_SECONDS = 2 * ANSWER_SECONDS


def envoys(facts: Facts) -> list[Process]:
    """All that run."""
    return [process for process in facts.processes if process.mark.role in (SIDECAR, GATEWAY)]


async def are_live(facts: Facts) -> list[Finding]:
    """Every wanted instance and the ingress has an Envoy, and each says LIVE at its admin address."""

    async def probe(process: Process) -> Finding:
        report = await facts.world.admin.report(process.private_address("admin"), ANSWER_SECONDS)
        if not report.ready:
            return bad(f"the Envoy of {process.mark.instance} is not LIVE", _trouble(facts, process)[1])
        return good(f"{process.mark.instance} (pid {process.pid})")

    found = envoys(facts)
    findings = await each(found, probe, _SECONDS, lambda process: _trouble(facts, process))
    return missing(facts, {process.mark.instance for process in found}) + findings


def missing(facts: Facts, there: set[str]) -> list[Finding]:
    """Wanted instances without any Envoy."""
    desired = facts.world.desired
    wanted = [instance.id for service in desired.services.values() for instance in service.instances]
    wanted += [desired.ingress_id] if desired.ingress else []
    return [bad(f"no Envoy runs for {id_}", facts.world.mended_by_agent) for id_ in wanted if id_ not in there]


async def rejected_nothing(facts: Facts) -> list[Finding]:
    """No Envoy turned down a piece of configuration: it would go on with an older one than Consul shows."""

    async def probe(process: Process) -> Finding:
        report = await facts.world.admin.report(process.private_address("admin"), ANSWER_SECONDS)
        if not report.rejected:
            return good(f"{process.mark.instance}: 0")
        names = await _rejections(facts.http, process.private_address("admin"))
        return bad(
            f"the Envoy of {process.mark.instance} (pid {process.pid}) rejected {report.rejected} xDS updates"
            + (f" ({', '.join(names)})" if names else ""),
            f"its log says why: {facts.world.log(f'{process.mark.instance}.{process.mark.role}')}; it counts for its "
            f"whole life, so once that is mended let the agent start it anew: kill {process.pid}",
        )

    return await each(envoys(facts), probe, _SECONDS, lambda process: _trouble(facts, process))


async def _rejections(http: httpx.AsyncClient, address: str) -> list[str]:
    """The counters that are not 0, by their names."""
    query = {"filter": r"\.update_rejected$", "usedonly": "", "format": "json"}
    try:
        answer = await http.get(f"http://{address}/stats", params=query, timeout=ANSWER_SECONDS)
        stats = answer.json()["stats"]
    except (httpx.TransportError, ValueError, KeyError):
        return []
    return [str(stat["name"]) for stat in stats if stat.get("value")]


async def denied(http: httpx.AsyncClient, address: str) -> int:
    """How many TCP connections the access control of this Envoy ever denied; raises Unreachable."""
    query = {"filter": r"^connect_authz\.rbac\.denied$", "format": "json"}
    try:
        answer = await http.get(f"http://{address}/stats", params=query, timeout=ANSWER_SECONDS)
        return sum(stat.get("value", 0) for stat in answer.json()["stats"])
    except (httpx.TransportError, ValueError, KeyError) as error:
        raise Unreachable(f"no counters from the Envoy admin address {address}: {error!r}") from error


async def version(http: httpx.AsyncClient, address: str) -> str:
    """What the Envoy at this admin address really is, such as "1.40.0"; raises Unreachable."""
    try:
        answer = await http.get(f"http://{address}/server_info", timeout=ANSWER_SECONDS)
        return version_in(str(answer.json()["version"]))
    except (httpx.TransportError, ValueError, KeyError) as error:
        raise Unreachable(f"no version from the Envoy admin address {address}: {error!r}") from error


def version_in(text: str) -> str:
    """From "commit/1.40.0/Clean/RELEASE/BoringSSL"; the whole text where it is built otherwise; pure."""
    parts = text.split("/")
    return parts[1] if len(parts) > 1 else text


def _trouble(facts: Facts, process: Process) -> tuple[str, str]:
    return facts.envoy_trouble(process.mark.instance, process.mark.role)
