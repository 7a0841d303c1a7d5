"""Claims about the instances themselves: who holds the registered port, and whether it serves now."""

from __future__ import annotations

from mcpmesh.errors import PeerError
from mcpmesh.kit.ports import accepts_connections
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.verify.finding import ANSWER_SECONDS, Finding, bad, each, good
from mcpmesh.verify.probes import shim_info
from mcpmesh.verify.snapshot import Facts, Seat
from mcpmesh.verify.target import LOOPBACK

# Whether it accepts connections, then what it says.
_SECONDS = 2 * ANSWER_SECONDS


async def port_is_its_own(facts: Facts, wanted: DesiredService) -> list[Finding]:
    """The port that Consul hands out accepts connections, and who accepts is the process with that mark."""

    async def probe(seat: Seat) -> Finding:
        port = facts.registered(seat).port
        host, meant = seat.elsewhere or (LOOPBACK, None)
        if meant is not None and meant != port:
            return bad(f"{seat.id} is registered at port {port}, not {meant}", facts.world.mended_by_agent)
        # In a namespace of its own only the kernel's word, and its shim's, can be had.
        if not facts.world.runtime.isolated and not await accepts_connections(host, port, ANSWER_SECONDS):
            return bad(f"{seat.id} is registered at port {port}, and nobody accepts there{_really(seat)}", _step(facts))
        if seat.elsewhere:
            return good(f"{host}:{port} accepts connections")
        return await _whose(facts, seat, port)

    return await each(facts.seats(wanted), probe, _SECONDS, lambda seat: ("", f"see its log, {_log(facts, seat)}"))


async def _whose(facts: Facts, seat: Seat, port: int) -> Finding:
    """The kernel's word on who listens there, then the listener's own."""
    pids = facts.ground.of(seat.id).holding(LOOPBACK, port)
    ours = {process.pid for process in seat.programs}
    strangers = [pid for pid in sorted(pids) if facts.tree.ancestor_in(pid, ours) is None]
    if strangers or not pids:
        who = ", ".join(f"pid {pid} ({facts.tree.name(pid)})" for pid in strangers) or "a process of another user"
        return bad(f"port {port} of {seat.id} is held by {who}{_really(seat)}", _step(facts))
    holder = min(pids)
    if not seat.wanted.spec.is_mcp:
        return good(f"{LOOPBACK}:{port} accepts connections and is held by pid {holder}")
    about = await shim_info.about(facts.http, *(seat.shim or (LOOPBACK, port)))
    if about.instance != seat.id:
        return bad(f"port {port} answers as {about.instance}, not as {seat.id}", _step(facts))
    return good(f"{LOOPBACK}:{port} accepts connections and answers as {about.instance}, pid {holder}")


def _really(seat: Seat) -> str:
    if not seat.programs:
        return "; no process of ours runs for it"
    process = seat.programs[0]
    return f"; its process is pid {process.pid} and listens at {process.mark.ports.get('http')}"


def _step(facts: Facts) -> str:
    return facts.world.mended_by_agent


async def is_ready(facts: Facts, wanted: DesiredService) -> list[Finding]:
    """Each instance says now that its server answers: a dead one is found before Consul's next check."""

    async def probe(seat: Seat) -> Finding:
        # Where it listens, not where Consul thinks it does: a wrong registration is told by its own claim.
        host, port = seat.elsewhere or (LOOPBACK, None)
        if port is None:
            if not seat.programs:
                return bad(f"no process of ours runs for {seat.id}", facts.world.mended_by_agent)
            host, port = seat.programs[0].private_host, seat.programs[0].mark.ports["http"]
        if not seat.wanted.spec.is_mcp:
            if await accepts_connections(host, port, ANSWER_SECONDS):
                return good(f"{seat.id} accepts connections at {host}:{port}")
            return bad(f"{seat.id} accepts no connections at {host}:{port}", f"see its log, {_log(facts, seat)}")
        try:
            now = await shim_info.readiness(facts.http, host, port)
        except PeerError as error:
            return bad(str(error), f"see its log, {_log(facts, seat)}")
        if not now.ready:
            step = f"see its output: {facts.world.mcpmesh(f'logs {seat.wanted.spec.name}')}"
            return bad(f"the shim of {seat.id} says {now.state}: {now.error or 'no reason given'}", step)
        return good(f"the shim of {seat.id} says ready")

    return await each(facts.seats(wanted), probe, _SECONDS, lambda seat: ("", f"see its log, {_log(facts, seat)}"))


def _log(facts: Facts, seat: Seat) -> str:
    return str(facts.world.log(seat.id))
